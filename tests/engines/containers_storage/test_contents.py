"""
Tests for L{xferd.engines.containers_storage.contents}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.containers_storage.samples import descriptor, layer_ids, sample
from xferd.engines.containers_storage.contents import Selection, StoredLayer
from xferd.names import Digest, Reference


class SelectionTests(SynchronousTestCase):
    """
    What the view shows.
    """

    def setUp(self) -> None:
        """
        Begin a selection.
        """
        self.selection = Selection("/trees")

    def test_image(self) -> None:
        """
        An image has its layers, each with its directory and its blob, and its documents.
        """
        one = sample("alpine", b"1", b"2")
        self.selection.add_image(one.image, one.chain)
        found = self.selection.contents()
        ids = layer_ids([each.diff_id for each in one.chain])
        self.assertEqual(list(found.layers), ids)
        top = found.layers[ids[1]]
        self.assertEqual((top.parent, top.chain_id), (ids[0], one.image.chain_id))
        self.assertEqual(top.tree, f"sha256/{top.chain_id.hex}")
        self.assertEqual((top.blob, top.content), (one.image.layers[1], one.image.layers[1]))
        (image,) = found.images.values()
        self.assertEqual(image.names, ("docker.io/library/alpine:latest",))
        self.assertEqual((image.id, image.layer), (one.image.config.digest.hex, ids[1]))
        self.assertEqual(image.manifests, (one.image.manifest.digest, one.image.resolved))

    def test_shared_layer(self) -> None:
        """
        Two images share the layers that they have in common.
        """
        for each in (sample("a", b"1", b"2"), sample("b", b"1", b"3")):
            self.selection.add_image(each.image, each.chain)
        self.assertEqual(len(self.selection.contents().layers), 3)
        self.assertEqual(len(self.selection.contents().images), 2)

    def test_one_config(self) -> None:
        """
        Names with one config are one record, which has the manifests of all.
        """
        names = ("a:1", "a:2", "b")
        samples = [sample(name, b"1") for name in names]
        for each in samples:
            self.selection.add_image(each.image, each.chain)
        (image,) = self.selection.contents().images.values()
        self.assertEqual(
            image.names, tuple(f"docker.io/library/{name}" for name in ("a:1", "a:2", "b:latest"))
        )
        self.assertEqual(len(image.manifests), 6)
        self.assertEqual(image.digest, samples[0].image.manifest.digest)

    def test_name_with_digest(self) -> None:
        """
        A name has a tag or a digest.  No two records have the same one.
        """
        digest = Digest.of(b"index")
        for name, config in ((f"a:1@{digest}", "2001-01-01"), (f"a@{digest}", "2002-02-02")):
            each = sample("a", b"1", config=config)
            image = evolve(each.image, reference=Reference.parse(name))
            self.selection.add_image(image, each.chain)
        found = self.selection.contents()
        (image_record,) = found.images.values()
        self.assertEqual(image_record.names, (f"docker.io/library/a@{digest}",))
        self.assertIn("another image has the name", found.left_out[f"docker.io/library/a@{digest}"])

    def test_left_out(self) -> None:
        """
        Images that engines could not run are left out, each with the reason.
        """
        good = sample("good", b"1", b"2")
        old = tuple(evolve(layer, outdated=True) for layer in good.chain)
        long = sample("long", b"1")
        other = (evolve(long.chain[0], diff_id=Digest.of(b"1", "sha512")),)
        cases = [
            (
                "short",
                good.image,
                good.chain[:1],
                "it is not unpacked; 'xferctl pull short:latest' unpacks it",
            ),
            ("old", good.image, old, "an older xferd has unpacked it"),
            ("sha512", long.image, other, "another algorithm"),
            ("chart", evolve(good.image, config=descriptor(b"", "a/chart")), good.chain, "an artifact"),
        ]
        for name, image, chain, _ in cases:
            self.selection.add_image(evolve(image, reference=Reference.parse(name)), chain)
        found = self.selection.contents()
        self.assertEqual((len(found.layers), len(found.images)), (0, 0))
        for name, _, _, reason in cases:
            self.assertIn(reason, found.left_out[f"docker.io/library/{name}:latest"])

    def test_blobs(self) -> None:
        """
        A layer is found by the image's blob, and read from whichever blob is in the store.
        """
        one = sample("alpine", b"1", b"2")
        other = descriptor(b"other")
        chain = (evolve(one.chain[0], blobs=(other,)), evolve(one.chain[1], blobs=()))
        self.selection.add_image(one.image, chain)
        bottom, top = self.selection.contents().layers.values()
        self.assertEqual((bottom.blob, bottom.content), (one.image.layers[0], other))
        self.assertEqual((top.blob, top.content), (one.image.layers[1], None))

    def test_more_layers(self) -> None:
        """
        Layers without an image have a blob if there is one in the store.
        """
        one = sample("alpine", b"1", b"2")
        chain: list[StoredLayer] = [one.chain[0], evolve(one.chain[1], blobs=())]
        ids = layer_ids([each.diff_id for each in chain])
        self.assertEqual(self.selection.add_layers(chain), ids[1])
        bottom, top = self.selection.contents().layers.values()
        self.assertEqual((bottom.blob, top.blob), (one.image.layers[0], None))
        self.assertEqual(self.selection.contents().images, {})

    def test_kept_image(self) -> None:
        """
        An image that lost its name is kept without one; with another name it has that
        one, and without its layers it is not kept.
        """
        one = sample("alpine", b"1", b"2")
        self.selection.add_image(one.image, one.chain)
        (record,) = self.selection.contents().images.values()
        for selection, chain, names in (
            (Selection("/trees"), one.chain, [()]),
            (self.selection, one.chain, [record.names]),
            (Selection("/trees"), one.chain[:1], []),
        ):
            selection.keep_image(record, chain)
            self.assertEqual([each.names for each in selection.contents().images.values()], names)
