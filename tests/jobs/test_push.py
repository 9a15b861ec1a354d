"""
Tests for L{xferd.jobs.push}, L{xferd.jobs.blobs.upload} and L{xferd.jobs.images.publish}.

The module is long because a push is three modules, tested as one from the job.
"""

from __future__ import annotations

from tests.jobs.case import HOST, OTHER, JobsCase, every
from xferd.errors import BadPlatform, BadReference, BlobUnknown, ConnectionFailed, Denied, StoreError
from xferd.interfaces.registry import UploadSession
from xferd.jobs.blobs.upload import KEPT
from xferd.lookups import ENOUGH, STRIDE
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, image_of, index_of, sample_image, sample_layer
from xferd.testing.layers import pack


class PushTests(JobsCase):
    """
    Images out of the store.
    """

    def pulled_image(self, image: SampleImage, name: str = "app") -> SampleImage:
        """
        Have an image in the store.
        """
        self.add(image, name)
        self.pulled(name)
        return image

    def blob(self, image: SampleImage, index: int = 0) -> Digest:
        """
        The digest of a layer's blob.
        """
        return image.layers[index].blob.digest

    def sent(self, digest: Digest) -> int:
        """
        The number of attempts to send a blob.
        """
        return sum(attempt.digest == digest for attempt in self.other.uploads.attempts)

    def test_push(self) -> None:
        """
        Blobs go first, then the manifest, byte for byte, under the target's tag.
        """
        image = self.pulled_image(sample_image(3))
        job_id = self.push(target=f"{OTHER}/team/app:2")
        self.settle()
        self.assert_done(job_id)
        job = self.job(job_id)
        self.assertEqual((job["kind"], job["target"]), ("push", f"{OTHER}/team/app:2"))
        self.assertEqual(job["result"]["digest"], str(image.digest))
        self.assertEqual(self.states(job_id), ["done"] * 4)
        self.assertEqual((job["bytes_done"], job["layers_done"]), (job["bytes_total"], 4))
        kinds = [r.kind for r in self.other.requests]
        self.assertEqual(kinds, ["push"] * 4 + ["put"])
        self.assertEqual(self.other.requests[-1].wanted, "2")
        asking = self.other.repository("team/app").manifest("2")
        self.settle()
        self.assertEqual(self.successResultOf(asking), image.manifest)
        status = self.jobs.status()
        self.assertEqual(status["hosts"][OTHER]["sent"], job["bytes_total"])
        self.assert_idle()

    def test_no_such_image(self) -> None:
        """
        An image that is not in the store is named.
        """
        job_id = self.push("nothing")
        self.settle()
        self.assertIn(f"{HOST}/nothing:latest", self.assert_failed(job_id, "NOT_FOUND"))

    def test_target_with_digest(self) -> None:
        """
        A pushed image has its own digest: a target names a tag.
        """
        digest = Digest.of(b"x")
        self.assertRaises(BadReference, self.jobs.push, "app", f"{OTHER}/app@{digest}", (), None, "ci", 0)

    def test_exists(self) -> None:
        """
        A blob that the target has is not sent again.
        """
        image = self.pulled_image(sample_image(2))
        for expected in ("done", "exists"):
            job_id = self.push()
            self.settle()
            self.assertEqual(self.states(job_id), [expected] * 3)
        self.assertEqual(self.sent(self.blob(image)), 1)

    def test_mounted(self) -> None:
        """
        A blob of other repositories of the registry is mounted from the one
        with the most similar name.
        """
        self.pulled_image(sample_image(1))
        for target in ("far/a", "team/b"):
            self.other.uploads.mounts = False
            self.push(target=f"{OTHER}/{target}")
            self.settle()
        self.other.uploads.mounts = True
        job_id = self.push(target=f"{OTHER}/team/c")
        self.settle()
        self.assertEqual(self.states(job_id), ["mounted"] * 2)
        row = self.job(job_id)["layers"][0]
        self.assertEqual(row["bytes_done"], row["size"])

    def test_two_pushes(self) -> None:
        """
        Two pushes that share layers send each once, and both write correct
        manifests.
        """
        base = sample_layer(seed="base")
        one = self.pulled_image(image_of([base, sample_layer(seed=1)]), "one")
        two = self.pulled_image(image_of([base, sample_layer(seed=2)]), "two")
        self.other.uploads.stall(base.blob.digest)
        jobs = [self.push(name, f"{OTHER}/both:{name}") for name in ("one", "two")]
        self.settle()
        self.jobs.cancel(jobs[0])
        third = self.push("one", f"{OTHER}/both:three")
        self.settle()
        self.other.uploads.finish(base.blob.digest)
        self.settle()
        every(self.assert_done, [jobs[1], third])
        self.assertEqual(self.sent(base.blob.digest), 1)
        put = [r.wanted for r in self.other.requests if r.kind == "put"]
        self.assertEqual(sorted(put), ["three", "two"])
        self.assertNotEqual(one.digest, two.digest)
        self.assert_idle()

    def test_two_registries(self) -> None:
        """
        Pushes to two registries are two uploads.
        """
        image = self.pulled_image(sample_image(1))
        third = self.registries.registry("third.example")
        jobs = [self.push(), self.push(target="third.example/app")]
        self.settle()
        every(self.assert_done, jobs)
        self.assertEqual(self.sent(self.blob(image)), 1)
        self.assertEqual(len(third.uploads.attempts), 2)

    def test_one_leaves(self) -> None:
        """
        When one of two clients is cancelled, the upload continues.  When the
        last one is, it stops, and its session is deleted.
        """
        image = self.pulled_image(sample_image(1, size=100_000))
        self.other.uploads.stall(self.blob(image))
        jobs = [self.push(client="a"), self.push(client="b")]
        self.settle()
        self.other.uploads.feed(self.blob(image), 10_000)
        self.settle()
        self.jobs.cancel(jobs[0])
        self.settle()
        self.assertEqual(len(self.other.uploads.running(self.blob(image))), 1)
        self.jobs.cancel(jobs[1])
        self.settle()
        self.assert_idle()
        self.assertEqual(len(self.other.uploads.aborted), 1)
        self.assertEqual(self.store.journal.sessions, {})

    def test_leaves_between_attempts(self) -> None:
        """
        A client that is cancelled while its upload waits for the next attempt
        has the session deleted as well.
        """
        image = self.pulled_image(sample_image(1, size=100_000))
        self.other.uploads.stall(self.blob(image))
        job_id = self.push()
        self.settle()
        self.other.uploads.feed(self.blob(image), 10_000)
        self.other.uploads.fail(self.blob(image))
        self.settle()
        self.assertEqual(self.transfer("upload", self.blob(image))["state"], "backing-off")
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(len(self.other.uploads.aborted), 1)
        self.assert_idle()

    def test_breaks(self) -> None:
        """
        An interrupted upload resumes at the offset that the registry
        confirmed.
        """
        image = self.pulled_image(sample_image(1, size=100_000))
        blob = self.blob(image)
        self.other.uploads.stall(blob)
        job_id = self.push()
        self.settle()
        self.other.uploads.feed(blob, 40_000)
        self.settle()
        self.other.uploads.fail(blob)
        self.other.uploads.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        offsets = [r.offset for r in self.other.requests if r.kind == "push" and r.wanted == str(blob)]
        self.assertEqual(offsets, [0, 40_000])
        self.assertEqual(self.store.journal.sessions, {})

    def test_over_a_restart(self) -> None:
        """
        A push that a stopped daemon did not finish resumes at the offset that
        the registry confirmed: the session is in the journal.
        """
        image = self.pulled_image(sample_image(1, size=100_000))
        blob = self.blob(image)
        self.other.uploads.stall(blob)
        job_id = self.push()
        self.settle()
        self.other.uploads.feed(blob, 40_000)
        self.settle()
        self.stop(self.jobs)
        self.assert_failed(job_id, "INTERRUPTED")
        self.assertEqual(self.other.uploads.aborted, [])
        session = self.store.journal.sessions[Repository(OTHER, "app"), blob]
        self.assertEqual((type(session), session.offset), (UploadSession, 40_000))
        self.jobs = self.make_jobs()
        self.start()
        self.other.uploads.finish(blob)
        job_id = self.push()
        self.settle()
        self.assert_done(job_id)
        offsets = [r.offset for r in self.other.requests if r.kind == "push" and r.wanted == str(blob)]
        self.assertEqual(offsets, [0, 40_000])

    def test_unused_sessions(self) -> None:
        """
        A session that no upload has used for a day is forgotten, also over a
        restart; one that is in use is kept.
        """
        image = self.pulled_image(sample_image(2, size=100_000))
        for host in (OTHER, "third.example", "fourth.example"):
            registry = self.registries.registry(host)
            registry.uploads.stall(self.blob(image))
            job_id = self.push(target=f"{host}/app")
            self.settle()
            registry.uploads.feed(self.blob(image), 10_000)
            self.settle()
            registry.uploads.fail(self.blob(image), Denied("no more", host=host))
            self.settle()
            self.assert_failed(job_id, "DENIED")
            self.clock.advance(KEPT / 2)
        self.assertEqual(len(self.store.journal.sessions), 3)
        self.push(target="fifth.example/app")
        self.settle()
        self.assertEqual(
            {r.host for r, _ in self.store.journal.sessions}, {"third.example", "fourth.example"}
        )
        self.stop(self.jobs)
        self.clock.advance(KEPT / 2 + 1)
        self.jobs = self.make_jobs()
        self.start()
        self.assertEqual({r.host for r, _ in self.store.journal.sessions}, set())

    def test_denied(self) -> None:
        """
        A registry that refuses pushes fails the job at once, and no manifest
        is put.
        """
        self.pulled_image(sample_image(2))
        self.other.gate.fail("push", Denied("read-only", host=OTHER), times=9)
        job_id = self.push()
        self.settle()
        self.assertEqual(self.assert_failed(job_id, "DENIED"), "read-only")
        self.assertNotIn("put", [r.kind for r in self.other.requests])
        self.assert_idle()

    def test_manifest_refused(self) -> None:
        """
        A manifest that is refused is the job's error.
        """
        self.pulled_image(sample_image(1))
        self.other.gate.fail("put_manifest", BlobUnknown("it misses a blob", host=OTHER))
        job_id = self.push()
        self.settle()
        self.assert_failed(job_id, "BLOB_UNKNOWN")

    def test_blob_is_not_here(self) -> None:
        """
        A layer whose tree came by another blob is fetched when it is needed.
        """
        tar = sample_layer(seed="one", compression="tar").blob.read()
        self.pulled_image(image_of([pack(tar, "gzip")]), "gzip")
        zstd = self.pulled_image(image_of([pack(tar, "zstd")]), "zstd")
        del self.store.blobs.contents[self.blob(zstd)]
        self.store.blobs.partials.clear()
        job_id = self.push("zstd")
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.sent(self.blob(zstd)), 1)
        self.assert_idle()

    def test_hints_fail(self) -> None:
        """
        Where the journal cannot be read or written, blobs are sent
        nevertheless.
        """
        self.pulled_image(sample_image(1))
        for call in ("journal.holder", "journal.holders"):
            self.store.gate.fail(call, StoreError("the disk is read-only"), times=9)
        job_id = self.push()
        self.settle()
        self.assert_done(job_id)
        self.flushLoggedErrors(StoreError)

    def test_tags(self) -> None:
        """
        Every tag gets the same manifest, once each; the blobs go once.
        """
        image = self.pulled_image(sample_image(2))
        job_id = self.push(tags=["2", "2.1", "latest", "2"])
        self.settle()
        self.assert_done(job_id)
        put = [r.wanted for r in self.other.requests if r.kind == "put"]
        self.assertEqual(put, ["latest", "2", "2.1"])
        self.assertEqual([self.sent(blob.digest) for blob in image.blobs], [1, 1, 1])
        asking = self.other.repository("app").manifest("2.1")
        self.settle()
        self.assertEqual(self.successResultOf(asking), image.manifest)

    def test_bad_tag(self) -> None:
        """
        A malformed tag is refused before anything is done.
        """
        for tag in ("", "a b", "-x", "a:b", "x" * 129):
            self.assertRaises(BadReference, self.push, tags=["fine", tag])
        self.assertRaises(BadPlatform, self.push, platform="amiga")
        self.assertEqual(self.jobs.all(), [])

    def test_store_is_damaged(self) -> None:
        """
        A manifest that is missing in the store fails the push.
        """
        image = self.pulled_image(sample_image(1))
        self.store.gate.fail("blobs.read", StoreError("blob is damaged"), key=image.digest)
        job_id = self.push()
        self.settle()
        self.assert_failed(job_id, "STORE_FAILED")


class SmallPushTests(JobsCase):
    """
    Images whose blobs are small.
    """

    small_blob = 1 << 20

    def test_session(self) -> None:
        """
        The upload session of a small blob is resumed by this daemon, and not
        recorded for the next one.
        """
        image = self.add(sample_image(1, size=100_000), "app")
        self.pulled("app")
        blob = image.layers[0].blob.digest
        self.other.uploads.stall(blob)
        job_id = self.push()
        self.settle()
        self.other.uploads.feed(blob, 40_000)
        self.settle()
        self.assertEqual(self.store.journal.sessions, {})
        self.other.uploads.fail(blob)
        self.other.uploads.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        offsets = [r.offset for r in self.other.requests if r.kind == "push" and r.wanted == str(blob)]
        self.assertEqual(offsets, [0, 40_000])


class MountTests(JobsCase):
    """
    The repositories from which blobs may be mounted.
    """

    def looks(self) -> int:
        """
        The number of looks into the journal.
        """
        return self.store.gate.count("journal.holders")

    def pushed(self, name: str, number: int, size: int = 1000) -> None:
        """
        Push an image of so many layers and a config.
        """
        layers = [sample_layer(size, f"{name}-{n}", compression="tar") for n in range(number)]
        self.add(image_of(layers), name)
        self.pulled(name)
        job_id = self.push(name, target=f"{OTHER}/many:{name}")
        self.settle()
        self.assert_done(job_id)

    def test_many_small(self) -> None:
        """
        After many small blobs without such a repository, most are sent without a look into
        the journal; larger ones are always looked for.
        """
        self.pushed("first", ENOUGH)
        before = self.looks()
        self.pushed("second", STRIDE - 1)
        self.assertEqual(self.looks(), before + 1)
        self.pushed("large", 1, size=200_000)
        # The other blob is the config.
        self.assertEqual(self.looks(), before + 2)


class PlatformTests(JobsCase):
    """
    Pushes of images that the store has in part.
    """

    def setUp(self) -> None:
        """
        Pull this machine's part of an index.
        """
        super().setUp()
        local = Platform.local()
        self.others = (Platform("linux", "s390x"), Platform("linux", "riscv64"))
        self.images = {p: sample_image(1, seed=str(p), platform=p) for p in (local, *self.others)}
        self.local = self.images[local]
        self.index = index_of(self.images)
        self.registry.add(self.index, "app")
        self.pulled()

    def put(self) -> list[str]:
        """
        The names under which documents were put, in order.
        """
        return [r.wanted for r in self.other.requests if r.kind == "put"]

    def there(self, wanted: str) -> Document:
        """
        A document of the other registry.
        """
        asking = self.other.repository("app").manifest(wanted)
        self.settle()
        return self.successResultOf(asking)

    def test_default(self) -> None:
        """
        By default the one image of the store goes.
        """
        job_id = self.push()
        self.settle()
        self.assertEqual(self.job(job_id)["result"]["image_id"], str(self.local.config.digest))
        self.assertEqual(self.there("latest"), self.local.manifest)

    def test_all(self) -> None:
        """
        All platforms are pushed, children before the index, each byte for byte
        and under every tag; blobs that the store lacks are fetched once.
        """
        asked = self.registry.count("manifest", self.index.digest)
        job_id = self.push(platform="all", tags=["1"])
        self.settle()
        self.assert_done(job_id)
        job = self.job(job_id)
        self.assertEqual((job["platform"], job["result"]), ("all", {"digest": str(self.index.digest)}))
        self.assertEqual(self.put(), [*(str(i.digest) for i in self.images.values()), "latest", "1"])
        self.assertEqual(self.there("1"), self.index.document)
        for image in self.images.values():
            self.assertEqual(self.there(str(image.digest)), image.manifest)
            self.assertEqual(self.gets(image.layers[0].blob.digest), 1)
        self.assertEqual(self.registry.count("manifest", self.index.digest), asked)
        self.assert_idle()

    def test_index_is_gone(self) -> None:
        """
        An index that the store has lost is fetched by its digest, not its tag.
        """
        del self.store.blobs.contents[self.index.digest]
        self.registry.add(sample_image(1, seed="newer"), "app")
        job_id = self.push(platform="all")
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.there("latest"), self.index.document)

    def test_one(self) -> None:
        """
        One platform is pushed alone.
        """
        wanted = self.images[self.others[0]]
        job_id = self.push(platform=str(self.others[0]))
        self.settle()
        self.assertEqual(self.job(job_id)["result"], {"digest": str(wanted.digest)})
        self.assertEqual(self.put(), ["latest"])
        self.assertEqual(self.there("latest"), wanted.manifest)
        self.assertEqual(self.gets(self.images[self.others[1]].layers[0].blob.digest), 0)

    def test_not_offered(self) -> None:
        """
        A platform that is not available is reported, with the available ones.
        """
        job_id = self.push(platform="plan9/amd64")
        self.settle()
        self.assertIn("riscv64", self.assert_failed(job_id, "PLATFORM_UNKNOWN"))

    def test_no_index(self) -> None:
        """
        For an image without an index, C{all} is the image itself, and another
        platform is not available.
        """
        alone = self.add(sample_image(1, seed="alone"), "alone")
        self.pulled("alone")
        for platform in ("all", str(alone.platform)):
            job_id = self.push("alone", platform=platform)
            self.settle()
            self.assertEqual(self.job(job_id)["result"]["digest"], str(alone.digest))
        job_id = self.push("alone", platform=str(self.others[0]))
        self.settle()
        self.assertIn("for linux/", self.assert_failed(job_id, "PLATFORM_UNKNOWN"))

    def test_shared_with_a_pull(self) -> None:
        """
        A blob that is fetched to be pushed is shared with a pull of it; when
        the push is cancelled, the pull continues.
        """
        blob = self.images[self.others[0]].layers[0].blob.digest
        self.registry.stall(blob)
        pushing = self.push(platform="all")
        pulling = self.pull(platform=str(self.others[0]))
        self.settle()
        self.registry.feed(blob, 100)
        self.settle()
        self.jobs.cancel(pushing)
        self.settle()
        self.registry.finish(blob)
        self.settle()
        self.assert_done(pulling)
        self.assertEqual(self.gets(blob), 1)
        self.assertEqual(self.put(), [])
        self.assert_idle()

    def test_registry_is_gone(self) -> None:
        """
        Where the image's source cannot be reached, its error is the job's, and
        no tag was changed.
        """
        self.registry.gate.fail("manifest", ConnectionFailed("no route", host=HOST), times=99)
        job_id = self.push(platform="all")
        self.wait(60)
        self.assertEqual(self.assert_failed(job_id, "CONNECTION_FAILED"), "no route")
        self.assertEqual(self.put(), [])
        self.assert_idle()

    def test_same_registry(self) -> None:
        """
        Within one registry nothing is fetched for it: all is mounted.
        """
        job_id = self.push(target=f"{HOST}/elsewhere", platform="all")
        self.settle()
        self.assertEqual(self.states(job_id), ["mounted"] * 6)
        self.assertEqual(self.gets(self.images[self.others[0]].layers[0].blob.digest), 0)
