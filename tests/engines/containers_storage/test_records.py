"""
Tests for L{xferd.engines.containers_storage.records}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.containers_storage.samples import descriptor
from xferd.engines.containers_storage.records import ImageRecord, LayerRecord
from xferd.names import Digest

NOW = "2024-01-01T00:00:00Z"
A, B, C = (Digest.of(text) for text in (b"a", b"b", b"c"))


class LayerRecordTests(SynchronousTestCase):
    """
    Entries of C{layers.json}.
    """

    def test_bottom(self) -> None:
        """
        A bottom layer has no parent; one without a known blob has no compressed digest.
        """
        layer = LayerRecord("1", "", A, B, 7, "sha256/1")
        expected = {"id": "1", "created": NOW, "diff-digest": str(B), "diff-size": 7}
        self.assertEqual(layer.to_json(NOW), expected)

    def test_whole(self) -> None:
        """
        All fields; the compression is a number.
        """
        for media_type, number in (
            ("application/vnd.oci.image.layer.v1.tar", 0),
            ("application/vnd.oci.image.layer.v1.tar+gzip", 2),
            ("application/vnd.oci.image.layer.v1.tar+zstd", 4),
        ):
            blob = descriptor(b"blob", media_type)
            layer = LayerRecord("2", "1", A, B, 7, "sha256/2", blob, None, (0, 7), (0, 8))
            self.assertEqual(
                layer.to_json(NOW),
                {
                    "id": "2",
                    "parent": "1",
                    "created": NOW,
                    "diff-digest": str(B),
                    "diff-size": 7,
                    "compressed-diff-digest": str(blob.digest),
                    "compressed-size": 4,
                    "compression": number,
                    "uidset": [0, 7],
                    "gidset": [0, 8],
                },
            )


class ImageRecordTests(SynchronousTestCase):
    """
    Entries of C{images.json}.
    """

    def setUp(self) -> None:
        """
        Make a record, with an index.
        """
        self.record = ImageRecord(C.hex, A, ("docker.io/library/x:1",), "2", C, (A, B))

    def test_json(self) -> None:
        """
        Manifest, config and index are its big data, with sizes and digests.
        """
        value = self.record.to_json(NOW, {A: 1, B: 2, C: 3})
        keys = ["manifest", f"manifest-{A}", f"manifest-{B}", str(C)]
        self.assertEqual(
            value,
            {
                "id": C.hex,
                "digest": str(A),
                "names": ["docker.io/library/x:1"],
                "layer": "2",
                "metadata": "{}",
                "created": NOW,
                "big-data-names": keys,
                "big-data-sizes": dict(zip(keys, (1, 1, 2, 3), strict=True)),
                "big-data-digests": dict(zip(keys, map(str, (A, A, B, C)), strict=True)),
            },
        )
        self.assertEqual(ImageRecord.from_json(value), self.record)

    def test_no_layers(self) -> None:
        """
        An image without layers has no top layer.
        """
        record = evolve(self.record, layer="")
        value = record.to_json(NOW, {A: 1, B: 2, C: 3})
        self.assertNotIn("layer", value)
        self.assertEqual(ImageRecord.from_json(value), record)

    def test_damaged(self) -> None:
        """
        A damaged record is refused.
        """
        value = self.record.to_json(NOW, {A: 1, B: 2, C: 3})
        for changes in ({"id": "x"}, {"digest": "x"}, {"names": None}, {"big-data-names": [1]}):
            self.assertRaises(ValueError, ImageRecord.from_json, {**value, **changes})
        for key in ("id", "digest", "names", "big-data-names"):
            self.assertRaises(ValueError, ImageRecord.from_json, {k: v for k, v in value.items() if k != key})
