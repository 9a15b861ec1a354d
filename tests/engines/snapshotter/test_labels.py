"""
Tests for L{xferd.engines.snapshotter.labels}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.snapshotter.errors import BadCall
from xferd.engines.snapshotter.labels import (
    GID_MAP,
    IMAGE,
    MANIFEST,
    MAX_LABEL,
    REF,
    UID_MAP,
    checked,
    mapped_root,
    wanted_layer,
    without_maps,
)
from xferd.interfaces.layer_source import WantedLayer
from xferd.names import Digest, Reference

CHAIN, IMAGE_DIGEST = Digest.of(b"chain"), Digest.of(b"manifest")


class LabelTests(SynchronousTestCase):
    """
    Labels.
    """

    def test_limit(self) -> None:
        """
        Key and value have 4096 bytes together at most, in UTF-8.
        """
        fits = {"k": "v" * (MAX_LABEL - 1)}
        self.assertEqual(checked(fits), fits)
        for labels in ({"kk": fits["k"]}, {"k": "ä" * (MAX_LABEL // 2)}):
            error = self.assertRaises(BadCall, checked, labels)
            self.assertIn("4096", str(error))

    def test_empty_values(self) -> None:
        """
        A label without a value counts as absent.
        """
        self.assertEqual(checked({"a": "", "b": "c"}), {"b": "c"})

    def test_wanted_layer(self) -> None:
        """
        A layer is named by its chain ID; the image to pull has the digest of its manifest
        in the repository of its reference, whatever that says of tag and digest.
        """
        for named in ("docker.io/library/app:1", f"app@{Digest.of(b'index')}", "app"):
            labels = {REF: str(CHAIN), IMAGE: named, MANIFEST: str(IMAGE_DIGEST)}
            image = Reference.parse(f"docker.io/library/app@{IMAGE_DIGEST}")
            self.assertEqual(wanted_layer(labels), WantedLayer(CHAIN, image, named))

    def test_no_image(self) -> None:
        """
        Without a valid image, a layer is wanted alone; without a valid chain ID, none is.
        """
        for more in ({}, {IMAGE: "A B", MANIFEST: str(IMAGE_DIGEST)}, {IMAGE: "app", MANIFEST: "x"}):
            self.assertEqual(wanted_layer({REF: str(CHAIN), **more}), WantedLayer(CHAIN))
        for labels in ({}, {REF: "x"}, {IMAGE: "app", MANIFEST: str(IMAGE_DIGEST)}):
            self.assertIsNone(wanted_layer(labels))

    def test_mapped_root(self) -> None:
        """
        The IDs on the host of root in a user namespace.
        """
        self.assertIsNone(mapped_root({}))
        for uids, gids, root in (
            ("0:100000:65536", "0:200000:65536", (100000, 200000)),
            ("1:5:2,0:7:1", "0:0:1", (7, 0)),
        ):
            self.assertEqual(mapped_root({UID_MAP: uids, GID_MAP: gids}), root)

    def test_bad_maps(self) -> None:
        """
        Malformed maps, maps without root, and one map alone are refused.
        """
        good = "0:1:1"
        for text in ("", "0:1", "0:1:1:1", "a:1:1", "-1:1:1", "1:1:1", "0:1:0", f"0:{2**32}:1", "0:٣:1"):
            for labels in ({UID_MAP: text, GID_MAP: good}, {UID_MAP: good, GID_MAP: text}):
                self.assertRaises(BadCall, mapped_root, labels)
        self.assertRaises(BadCall, mapped_root, {UID_MAP: good})
        self.assertRaises(BadCall, mapped_root, {GID_MAP: good})

    def test_without_maps(self) -> None:
        """
        Maps are removed, and nothing else.
        """
        self.assertEqual(without_maps({UID_MAP: "0:1:1", GID_MAP: "0:1:1", "a": "b"}), {"a": "b"})
