"""
Tests for L{xferd.jobs.pull}: one client.
"""

from __future__ import annotations

import re

from attrs import evolve

from tests.jobs.case import HOST, JobsCase, every
from tests.jobs.pull.case import blob_of
from xferd.jobs import runner
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Reference
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image, sample_layer
from xferd.testing.layers import Blob, pack


class PullTests(JobsCase):
    """
    One client, one image.
    """

    def test_image(self) -> None:
        """
        A pull fetches each blob once, registers the layers in their order and
        gives the image its name.
        """
        image = self.add(sample_image(3))
        job = self.pulled()
        self.assertEqual(job["result"], {"digest": str(image.digest), "image_id": str(image.config.digest)})
        for layer in image.layers:
            self.assertEqual(self.gets(layer.blob.digest), 1)
        named = self.store.images.get(Reference.parse(f"{HOST}/app"))
        assert named is not None
        self.assertEqual(named.chain_id, image.chain_ids[-1])
        self.assertEqual(named.size, image.size)
        self.assertEqual([self.store.layers.get(c) is not None for c in image.chain_ids], [True, True, True])
        self.assertEqual([layer["state"] for layer in job["layers"]], ["done"] * 3)
        self.assertEqual(job["bytes_done"], job["bytes_total"])
        self.assertEqual((job["layers_done"], job["layers_total"]), (3, 3))
        self.assert_idle()

    def test_compressions(self) -> None:
        """
        Plain, gzip and zstd layers, and Docker's media types, are pulled alike.
        """
        for name in ("tar", "gzip", "zstd"):
            self.add(sample_image(2, seed=name, compression=name), name)
            self.pulled(name)
        self.add(sample_image(2, seed="docker", docker=True), "docker")
        self.pulled("docker")

    def test_no_layers(self) -> None:
        """
        An image without layers is pulled, and has no chain.
        """
        self.add(image_of([]))
        job = self.pulled()
        self.assertEqual((job["layers_total"], job["bytes_total"]), (0, 0))
        named = self.store.images.get(Reference.parse(f"{HOST}/app"))
        assert named is not None
        self.assertIsNone(named.chain_id)

    def test_same_layer_twice(self) -> None:
        """
        A blob that stands twice in one image is fetched and unpacked once and
        registered twice.
        """
        twice = sample_layer(seed="twice")
        image = self.add(image_of([twice, sample_layer(seed="between"), twice]))
        self.pulled()
        self.assertEqual(self.gets(twice.blob.digest), 1)
        self.assertEqual(len(self.unpacker.unpackings), 2)
        self.assertEqual(len({*image.chain_ids}), 3)
        self.assertIsNotNone(self.store.layers.get(image.chain_ids[2]))
        self.assert_idle()

    def test_two_parents(self) -> None:
        """
        A blob under two parents in two images is fetched and unpacked once.
        """
        shared = sample_layer(seed="shared")
        one = self.add(image_of([sample_layer(seed="a"), shared]), "one")
        two = self.add(image_of([sample_layer(seed="b"), shared]), "two")
        jobs = [self.pull("one"), self.pull("two")]
        self.settle()
        every(self.assert_done, jobs)
        self.assertEqual(self.gets(shared.blob.digest), 1)
        self.assertEqual(len(self.unpacker.unpackings), 3)
        self.assertIsNotNone(self.store.layers.get(one.chain_ids[1]))
        self.assertIsNotNone(self.store.layers.get(two.chain_ids[1]))

    def test_all_there(self) -> None:
        """
        A second pull of the same image requests the manifest and nothing else.
        The journal gets its end; of the first pull also the layers, before they are here.
        """
        self.add(sample_image(3))
        self.pulled()
        history = self.store.journal.history
        self.assertEqual([len(record["layers"]) for record in history], [3, 3])
        before = len(self.registry.requests)
        job = self.pulled()
        self.assertEqual([record["state"] for record in history[2:]], ["done"])
        self.assertEqual([r.kind for r in self.registry.requests[before:]], ["manifest"])
        self.assertEqual([layer["state"] for layer in job["layers"]], ["exists"] * 3)
        self.assertEqual(
            [layer["bytes_done"] for layer in job["layers"]], [layer["size"] for layer in job["layers"]]
        )
        # No transfer was needed.
        self.assertEqual([layer["transfer"] for layer in job["layers"]], [None] * 3)
        self.assertEqual(job["bytes_done"], job["bytes_total"])

    def test_holders(self) -> None:
        """
        That a repository has a blob is not written to the journal again, unless
        so many others were written since that it is forgotten.
        """
        self.patch(runner, "MAX_HOLDERS", 2)
        for name in ("one", "two", "three"):
            self.add(sample_image(1, seed=name), name)
        for name, written in (
            ("one", ["one"]),
            ("two", ["two", "one"]),
            ("three", ["three", "two", "one"]),
            ("two", ["three", "two", "one"]),
            ("one", ["one", "three", "two"]),
        ):
            self.pulled(name)
            self.assertEqual([repository.path for repository, _ in self.store.journal.held], written)

    def test_tree_at_another_depth(self) -> None:
        """
        A tree of the store is not fetched again, at any depth.
        """
        shared = sample_layer(seed="shared")
        self.add(image_of([shared, sample_layer(seed="a")]), "one")
        self.pulled("one")
        self.add(image_of([sample_layer(seed="b"), sample_layer(seed="c"), shared]), "two")
        job = self.pulled("two")
        self.assertEqual(self.gets(shared.blob.digest), 1)
        self.assertEqual([layer["state"] for layer in job["layers"]], ["done", "done", "exists"])

    def test_tree_by_another_blob(self) -> None:
        """
        A tree that came in another compression makes its download end at once.
        """
        tar = sample_layer(seed="one", compression="tar").blob.read()
        self.add(image_of([pack(tar, "gzip")]), "gzip")
        self.pulled("gzip")
        zstd = image_of([pack(tar, "zstd")])
        self.add(zstd, "zstd")
        self.registry.stall(blob_of(zstd, 0))
        job = self.pulled("zstd")
        self.assertEqual(job["layers"][0]["state"], "exists")
        self.assertEqual(len(self.unpacker.unpackings), 1)
        self.assert_idle()

    def test_blob_without_tree(self) -> None:
        """
        A blob of the store without its tree is unpacked, not fetched.
        """
        image = self.add(sample_image(1))
        self.store.blobs.contents[blob_of(image, 0)] = image.layers[0].blob.read()
        self.pulled()
        self.assertEqual(self.gets(blob_of(image, 0)), 0)
        self.assertIsNotNone(self.store.layers.get(image.chain_ids[0]))

    def test_index(self) -> None:
        """
        The manifest for the wanted platform is pulled from an index, and both
        documents are kept byte for byte.
        """
        arm = sample_image(1, seed="arm", platform=Platform("linux", "arm64"))
        amd = sample_image(1, seed="amd")
        index = index_of({arm.platform: arm, amd.platform: amd})
        self.registry.add(index, "app")
        job = self.pulled(platform="linux/arm64")
        self.assertEqual(job["result"]["digest"], str(arm.digest))
        self.assertEqual(self.store.blobs.contents[index.digest], index.document.data)
        self.assertEqual(self.store.blobs.contents[arm.digest], arm.manifest.data)
        named = self.store.images.get(Reference.parse(f"{HOST}/app"))
        assert named is not None
        self.assertEqual(named.resolved, index.digest)
        self.assertNotIn(amd.digest, self.store.blobs.contents)

    def test_other_platform_in_config(self) -> None:
        """
        The platform that an index names counts, also where the config names
        another, or an empty one; the store remembers it.
        """
        wanted = Platform("linux", "arm64")
        for name, platform in (("other", Platform("linux", "amd64")), ("empty", Platform("", ""))):
            image = sample_image(1, seed=name, platform=platform)
            self.registry.add(index_of({wanted: image}), name)
            self.pulled(name, platform="linux/arm64")
            named = self.store.images.get(Reference.parse(f"{HOST}/{name}"))
            assert named is not None
            self.assertEqual((named.manifest.digest, named.manifest.platform), (image.digest, wanted))

    def test_no_platform_in_config(self) -> None:
        """
        An image that does not say what it is for is taken for any platform.
        """
        self.add(sample_image(1, platform=Platform("", "")))
        self.pulled(platform="linux/s390x")

    def test_misnamed_config(self) -> None:
        """
        An image whose manifest calls its config something else, or nothing, is
        pulled.
        """
        for number, kind in enumerate(("application/octet-stream", "application/json", "text/html", "")):
            image = sample_image(1, seed=kind)
            data = image.manifest.data.replace(OCI_CONFIG.encode(), kind.encode())
            data = re.sub(rb'"mediaType": "",\s*', b"", data)
            changed = evolve(image, manifest=Document.verified(OCI_MANIFEST, data))
            self.add(changed, f"app{number}")
            self.assertEqual(self.pulled(f"app{number}")["result"]["digest"], str(changed.digest))

    def test_odd_config(self) -> None:
        """
        Labels that are no good JSON do not matter.
        """
        for number, label in enumerate((b"\\ud83d", b"caf\xe9", b'x","label":"y')):
            image = sample_image(1, seed=number)
            config = image.config.read().replace(b'"created"', b'"label": "' + label + b'", "created"')
            blob = Blob.of(OCI_CONFIG, config)
            data = image.manifest.data.replace(str(image.config.digest).encode(), str(blob.digest).encode())
            data = data.replace(b'"size": %d' % image.config.descriptor.size, b'"size": %d' % len(config), 1)
            changed = evolve(image, manifest=Document.verified(OCI_MANIFEST, data), config=blob)
            self.add(changed, f"app{number}")
            self.pulled(f"app{number}")

    def test_by_digest(self) -> None:
        """
        A reference with a digest is pulled by it.
        """
        image = self.add(sample_image(1))
        self.pulled(f"app@{image.digest}")
        self.assertEqual(self.registry.count("manifest", image.digest), 1)

    def test_together(self) -> None:
        """
        Config and layers are requested at the same time.
        """
        image = self.add(sample_image(2))
        self.registry.gate.hold("document")
        job_id = self.pull()
        self.settle()
        self.assertEqual([self.gets(blob_of(image, n)) for n in (0, 1)], [1, 1])
        self.assertEqual(self.job(job_id)["state"], "running")
        self.registry.gate.release("document")
        self.settle()
        self.assert_done(job_id)

    def test_parent_order(self) -> None:
        """
        Layers come and unpack in any order, and are registered bottom first.
        """
        image = self.add(sample_image(3))
        for n in range(3):
            self.registry.stall(blob_of(image, n))
        job_id = self.pull()
        self.settle()
        self.registry.finish(blob_of(image, 2))
        self.registry.finish(blob_of(image, 1))
        self.settle()
        states = [layer["state"] for layer in self.job(job_id)["layers"]]
        self.assertEqual(states, ["downloading", "registering", "registering"])
        self.assertIn("parent layer", self.job(job_id)["layers"][2]["why"])
        self.assertEqual(self.store.gate.count("layers.register"), 0)
        self.assertTrue(self.store.trees.has(image.diff_ids[2]))
        self.registry.finish(blob_of(image, 0))
        self.settle()
        self.assert_done(job_id)
        registered = [key for what, key in self.store.gate.calls if what == "layers.register"]
        self.assertEqual(registered, list(image.diff_ids))

    def test_unpacks_as_bytes_arrive(self) -> None:
        """
        A layer is unpacked while it arrives, not when it is complete.
        """
        image = self.add(sample_image(1, size=200_000))
        self.registry.stall(blob_of(image, 0))
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob_of(image, 0), 50_000)
        self.wait(0.5)
        self.assertEqual(self.unpacker.unpackings[0].progress.consumed, 50_000)
        row = self.job(job_id)["layers"][0]
        self.assertEqual((row["bytes_done"], row["unpacked"]), (50_000, 50_000))
        self.registry.finish(blob_of(image, 0))
        self.settle()
        self.assert_done(job_id)
