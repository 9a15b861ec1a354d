"""
Tests for L{xferd.jobs.pull} and L{xferd.jobs.blobs.download}: pulls, from the
request to the name in the store.
"""

from __future__ import annotations

import json
import re

from attrs import evolve

from tests.jobs.case import HOST, JobsCase, every
from xferd.errors import BadLayer, ConnectionFailed, Denied, StoreError, TooManyRequests, WorkerLost
from xferd.jobs import runner
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, image_of, index_of, sample_image, sample_layer
from xferd.testing.layers import Blob, pack


def blob_of(image: SampleImage, index: int) -> Digest:
    """
    The digest of a layer's blob.
    """
    return image.layers[index].blob.digest


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
        The journal gets its beginning and its end; of the first pull also the
        layers, before they are here.
        """
        self.add(sample_image(3))
        self.pulled()
        history = self.store.journal.history
        self.assertEqual([len(record.get("layers", ())) for record in history], [0, 3, 3])
        before = len(self.registry.requests)
        job = self.pulled()
        self.assertEqual([record["state"] for record in history[3:]], ["running", "done"])
        self.assertEqual([r.kind for r in self.registry.requests[before:]], ["manifest"])
        self.assertEqual([layer["state"] for layer in job["layers"]], ["exists"] * 3)
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


class SharingTests(JobsCase):
    """
    Many clients, one image.
    """

    def test_fifty(self) -> None:
        """
        Fifty pulls of one image ask for each thing once.
        """
        image = self.add(sample_image(4))
        jobs = [self.pull(client=f"client-{n}") for n in range(50)]
        self.settle()
        every(self.assert_done, jobs)
        for blob in image.blobs:
            self.assertEqual(self.gets(blob.digest) + self.registry.count("document", blob.digest), 1)
        self.assertEqual(self.registry.count("manifest", "latest"), 1)
        status = self.jobs.status()
        layers = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertEqual(status["bytes_fetched"], layers)
        self.assertEqual(status["bytes_delivered"], 50 * layers)
        self.assertEqual(status["hosts"], {HOST: {"bytes": layers, "sent": 0}})
        self.assert_idle()

    def test_all_but_one_leave(self) -> None:
        """
        Forty-nine of fifty are cancelled, the first among them: the pull
        continues for the last.
        """
        image = self.add(sample_image(2))
        self.registry.stall(blob_of(image, 0))
        jobs = [self.pull(client=f"client-{n}") for n in range(50)]
        self.settle()
        self.assertEqual(self.transfer("download", blob_of(image, 0))["watchers"], 50)
        for job_id in jobs[:-1]:
            self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.transfer("download", blob_of(image, 0))["jobs"], [jobs[-1]])
        self.registry.finish(blob_of(image, 0))
        self.settle()
        self.assert_done(jobs[-1])
        self.assertEqual(self.job(jobs[0])["state"], "cancelled")
        self.assertEqual(self.gets(blob_of(image, 0)), 1)

    def test_all_leave(self) -> None:
        """
        All leave: the connection is dropped at once, the slot is free, and the
        bytes stay for the next try.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        jobs = [self.pull(client=f"client-{n}") for n in range(5)]
        self.settle()
        self.registry.feed(blob, 30_000)
        self.settle()
        for job_id in jobs:
            self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.registry.open_bodies(), [])
        self.assert_idle()
        self.assertFalse(self.has_image())
        self.assertEqual(len(self.store.blobs.partials[blob]), 30_000)
        self.registry.finish(blob)
        self.pulled()
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 30_000])

    def test_late_joiner(self) -> None:
        """
        A late client shares the bytes that are still to come, and sees those
        that are here.
        """
        image = self.add(sample_image(1, size=100_000))
        self.registry.stall(blob_of(image, 0))
        first = self.pull()
        self.settle()
        self.registry.feed(blob_of(image, 0), 30_000)
        self.settle()
        second = self.pull(client="late")
        self.settle()
        self.assertEqual(self.job(second)["layers"][0]["bytes_done"], 30_000)
        self.jobs.cancel(first)
        self.registry.finish(blob_of(image, 0))
        self.settle()
        self.assert_done(second)
        self.assertEqual(self.gets(blob_of(image, 0)), 1)

    def test_again_at_once(self) -> None:
        """
        A client that cancels and pulls again at once gets a new pull, which
        resumes where the first one ended.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        first = self.pull()
        self.settle()
        self.registry.feed(blob, 20_000)
        self.jobs.cancel(first)
        second = self.pull()
        self.settle()
        self.registry.finish(blob)
        self.settle()
        self.assert_done(second)
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 20_000])
        self.assert_idle()


class SlotsTests(JobsCase):
    """
    The number of blobs that move at once.
    """

    downloads = 1

    def test_order(self) -> None:
        """
        With one slot the layers come bottom first, the older job's before.
        """
        one, two = self.add(sample_image(2, seed=1), "one"), self.add(sample_image(2, seed=2), "two")
        jobs = [self.pull("one"), self.pull("two")]
        self.settle()
        every(self.assert_done, jobs)
        asked = [r.wanted for r in self.registry.requests if r.kind == "blob"]
        self.assertEqual(asked, [str(blob_of(i, n)) for i in (one, two) for n in (0, 1)])

    def test_no_length(self) -> None:
        """
        Where a response without a length is cut off, the pull resumes there:
        the manifest names the size.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 30_000)
        self.registry.cut(blob)
        self.registry.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        offsets = [r.offset for r in self.registry.requests if r.wanted == str(blob)]
        self.assertEqual(offsets, [0, 30_000])
        self.assert_idle()

    def test_cancelled_while_naming(self) -> None:
        """
        Once the name is being written, the job is not cancelled any more: it
        is done, and its image has the name.
        """
        self.add(sample_image(1))
        self.store.gate.hold("images.put")
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.jobs.cancel(job_id)["state"], "running")
        self.settle()
        self.store.gate.release("images.put")
        self.settle()
        self.assert_done(job_id)
        self.assertTrue(self.has_image())
        self.assert_idle()

    def test_cancelled_while_naming_fails(self) -> None:
        """
        Cancelled while the name is written, and the disk refuses: the job is
        cancelled, and nothing is named.
        """
        self.add(sample_image(1))
        self.store.gate.hold("images.put")
        self.store.gate.fail("images.put", StoreError("the disk is read-only"))
        job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.store.gate.release("images.put")
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertFalse(self.has_image())

    def test_queued_is_cancelled(self) -> None:
        """
        A job whose layers wait for a slot ends at once when it is cancelled,
        and requests none of them.
        """
        one, two = self.add(sample_image(1, seed=1), "one"), self.add(sample_image(1, seed=2), "two")
        self.registry.stall(blob_of(one, 0))
        first, second = self.pull("one"), self.pull("two")
        self.settle()
        self.assertEqual(self.job(second)["layers"][0]["state"], "waiting")
        self.assertEqual(self.jobs.status()["slots"]["download"]["queued"], 1)
        self.assertEqual(self.jobs.cancel(second)["state"], "cancelled")
        self.settle()
        self.assertEqual(self.gets(blob_of(two, 0)), 0)
        self.registry.finish(blob_of(one, 0))
        self.settle()
        self.assert_done(first)
        self.assert_idle()

    def test_slot_is_free_while_unpacking(self) -> None:
        """
        A slot is released when the bytes are on disk, not when they are
        unpacked.
        """
        image = self.add(sample_image(2))
        self.unpacker.gate.hold("unpack")
        job_id = self.pull()
        self.settle()
        self.assertEqual([self.gets(blob_of(image, n)) for n in (0, 1)], [1, 1])
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 0)
        self.unpacker.gate.release("unpack")
        self.settle()
        self.assert_done(job_id)


class TroubleTests(JobsCase):
    """
    Errors that are recovered from.
    """

    def test_connection_breaks(self) -> None:
        """
        An interrupted download resumes; its unpacking does not start over.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 40_000)
        self.registry.fail(blob)
        self.settle()
        self.assertEqual(self.transfer("download", blob)["state"], "backing-off")
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 0)
        self.registry.finish(blob)
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 40_000])
        self.assertEqual(len(self.unpacker.unpackings), 1)

    def test_one_byte_for_each_connection(self) -> None:
        """
        A registry that sends one byte for each connection gets as many as one
        that sends none.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        for _ in range(100):
            self.settle()
            if self.registry.open_bodies(blob):
                self.registry.feed(blob, 1)
                self.registry.fail(blob)
            self.wait(1)
        self.assert_failed(job_id, "CONNECTION_FAILED")
        self.assertEqual(self.gets(blob), 3)
        self.assert_idle()

    def test_range_ignored(self) -> None:
        """
        A registry that ignores Range sends the first bytes again; they are
        passed over, and what was unpacked of them stands.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 40_000)
        self.registry.fail(blob)
        self.registry.ignore_range(blob)
        self.registry.finish(blob)
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual(len(self.unpacker.unpackings), 1)

    def test_wrong_bytes_once(self) -> None:
        """
        Bytes that do not match their digest are discarded, with what was
        unpacked of them, and fetched once more.
        """
        image = self.add(sample_image(1, size=50_000))
        blob = blob_of(image, 0)
        size = image.layers[0].blob.descriptor.size
        self.registry.corrupt(blob, b"\0" * size)
        job_id = self.pull()
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual([r.offset for r in self.registry.requests if r.kind == "blob"], [0, 0])
        self.assertEqual(len(self.unpacker.unpackings), 2)
        self.assert_idle()
        self.assertEqual(self.registry.distrusted, [blob])

    def test_wrong_bytes_twice(self) -> None:
        """
        Wrong bytes twice fail the pull and leave nothing behind.
        """
        image = self.add(sample_image(1, size=50_000))
        blob = blob_of(image, 0)
        self.registry.corrupt(blob, b"\0" * image.layers[0].blob.descriptor.size, times=9)
        job_id = self.pull()
        self.wait(5)
        self.assertIn(str(blob), self.assert_failed(job_id, "DIGEST_MISMATCH"))
        self.assertEqual(self.gets(blob), 2)
        self.assertFalse(self.has_image())
        self.assertFalse(self.store.blobs.has(blob))
        self.assertEqual(self.store.trees.unpacked, {})
        self.assert_idle()

    def test_wrong_size(self) -> None:
        """
        A blob whose size is not its descriptor's is refused before its bytes.
        """
        image = self.add(sample_image(1))
        blob = blob_of(image, 0)
        self.registry.corrupt(blob, image.layers[0].blob.read() + b"more", times=9)
        job_id = self.pull()
        self.wait(5)
        self.assert_failed(job_id, "SIZE_MISMATCH")
        self.assertEqual(sum(body.sent for body in self.registry.bodies), 0)

    def test_bytes_are_wrong_and_do_not_unpack(self) -> None:
        """
        Where bytes do not unpack, their digest decides whose fault it is: here
        the registry's, and the right bytes are fetched.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = blob_of(image, 0)
        size = image.layers[0].blob.descriptor.size
        self.registry.corrupt(blob, b"x" * size)
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 30_000)
        self.settle()
        self.unpacker.unpackings[0].fail(BadLayer("the layer is not a tar"))
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "running")
        self.registry.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        self.assertEqual(len(self.unpacker.unpackings), 2)
        self.assert_idle()

    def test_layer_does_not_unpack(self) -> None:
        """
        Where the bytes are right and do not unpack, the image is at fault.
        """
        layer = sample_layer()
        image = self.add(image_of([sample_layer(seed="good"), layer]))
        self.registry.stall(layer.blob.digest)
        job_id = self.pull()
        self.settle()
        self.registry.feed(layer.blob.digest, 1000)
        self.settle()
        self.unpacker.unpackings[1].fail(BadLayer("an entry leads out of the tree"))
        self.registry.finish(layer.blob.digest)
        self.settle()
        message = self.assert_failed(job_id, "LAYER_INVALID")
        self.assertEqual(message, f"layer {layer.blob.digest}: an entry leads out of the tree")
        states = [row["state"] for row in self.job(job_id)["layers"]]
        self.assertEqual(states, ["done", "failed"])
        self.assertFalse(self.has_image())
        self.assertFalse(self.store.trees.has(image.diff_ids[1]))
        self.assert_idle()

    def test_worker_dies_once(self) -> None:
        """
        A worker that dies is replaced once; the bytes are not fetched again.
        """
        image = self.add(sample_image(1))
        self.unpacker.gate.fail("unpack", WorkerLost("the worker was killed"))
        self.pulled()
        self.assertEqual(len(self.unpacker.unpackings), 2)
        self.assertEqual(self.gets(blob_of(image, 0)), 1)

    def test_worker_dies_twice(self) -> None:
        """
        A worker that dies again fails the pull.
        """
        self.add(sample_image(1))
        self.unpacker.gate.fail("unpack", WorkerLost("the worker was killed"), times=2)
        job_id = self.pull()
        self.settle()
        self.assert_failed(job_id, "WORKER_LOST")
        self.assert_idle()

    def test_gives_up(self) -> None:
        """
        A registry that cannot be reached is tried as often as the policy
        allows.
        """
        image = self.add(sample_image(1))
        self.registry.gate.fail("open", ConnectionFailed("no route", host=HOST), times=9)
        job_id = self.pull()
        self.wait(10)
        self.assertEqual(self.assert_failed(job_id, "CONNECTION_FAILED"), "no route")
        self.assertEqual(self.gets(blob_of(image, 0)), 3)
        self.assert_idle()

    def test_rate_limit(self) -> None:
        """
        A pause that a registry requests is kept, and shown.
        """
        image = self.add(sample_image(1))
        self.registry.gate.fail("open", TooManyRequests("slow down", host=HOST, retry_after=30.0))
        job_id = self.pull()
        self.wait(29)
        self.assertEqual(self.gets(blob_of(image, 0)), 1)
        self.assertTrue(self.transfer("download", blob_of(image, 0))["why"])
        self.wait(3)
        self.assert_done(job_id)

    def test_denied(self) -> None:
        """
        A denied request is not repeated, and fails with the registry's error.
        """
        image = self.add(sample_image(2))
        self.registry.gate.fail("open", Denied("no pull access", host=HOST), key=blob_of(image, 1))
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.assert_failed(job_id, "DENIED"), "no pull access")
        self.assertEqual(self.gets(blob_of(image, 1)), 1)
        self.assert_idle()

    def test_first_cause(self) -> None:
        """
        The first thing that goes wrong is the error, and ends the rest at once.
        """
        image = self.add(sample_image(3))
        for n in (0, 2):
            self.registry.stall(blob_of(image, n))
        self.registry.gate.hold("document")
        self.registry.gate.fail("open", Denied("not this one", host=HOST), key=blob_of(image, 1))
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.assert_failed(job_id, "DENIED"), "not this one")
        self.registry.gate.release("document")
        self.assert_idle()


class RefusedTests(JobsCase):
    """
    Images that cannot be pulled.
    """

    def refused(self, code: str, name: str = "app", platform: str | None = None) -> str:
        """
        Pull an image that fails; returns the message.
        """
        job_id = self.pull(name, platform=platform)
        self.wait(5)
        message = self.assert_failed(job_id, code)
        self.assertFalse(self.has_image(name))
        self.assert_idle()
        return message

    def test_no_such_image(self) -> None:
        """
        A missing image is named.
        """
        self.assertIn("nothing", self.refused("MANIFEST_UNKNOWN", "nothing"))

    def test_no_such_platform_in_index(self) -> None:
        """
        The platforms of an index are listed when none fits.
        """
        arm = sample_image(1, platform=Platform("linux", "arm64"))
        self.registry.add(index_of({arm.platform: arm}), "app")
        self.assertIn("linux/arm64", self.refused("PLATFORM_UNKNOWN", platform="linux/s390x"))

    def test_no_such_platform_in_image(self) -> None:
        """
        An image for one platform is refused to a client that requests another.
        """
        self.add(sample_image(1))
        message = self.refused("PLATFORM_UNKNOWN", platform="linux/s390x")
        self.assertIn("linux/amd64 only", message)

    def test_wrong_diff_id(self) -> None:
        """
        A layer that is not the one its config names is refused.
        """
        good, other = sample_layer(seed="good"), sample_layer(seed="other")
        lying = image_of([good])
        said, given = good.blob.descriptor, other.blob.descriptor
        manifest = lying.manifest.data.replace(str(said.digest).encode(), str(given.digest).encode())
        manifest = manifest.replace(f'"size": {said.size}'.encode(), f'"size": {given.size}'.encode())
        self.registry.add(lying, "app", None)
        self.registry.add(image_of([other]), "app", None)
        self.registry.add_document(Document.verified(OCI_MANIFEST, manifest), "app", "latest")
        message = self.refused("DIFFID_MISMATCH")
        self.assertIn(str(other.diff_id), message)

    def test_schema_1(self) -> None:
        """
        Docker schema 1 is refused in a clear sentence.
        """
        media_type = "application/vnd.docker.distribution.manifest.v1+json"
        document = Document.verified(media_type, b'{"schemaVersion": 1}')
        self.registry.add_document(document, "app", "latest")
        self.assertIn("schema 1", self.refused("UNSUPPORTED"))

    def test_index_of_indexes(self) -> None:
        """
        Indexes in indexes are followed only so deep.
        """
        image = sample_image(1)
        inner = index_of({image.platform: image})
        data = inner.document
        self.registry.add(inner, "app", None)
        for _ in range(6):
            entries = [data.descriptor.to_json()]
            text = json.dumps({"schemaVersion": 2, "mediaType": data.media_type, "manifests": entries})
            data = Document.verified(data.media_type, text.encode())
            self.registry.add_document(data, "app", "latest")
        self.assertIn("deep", self.refused("MANIFEST_INVALID"))
