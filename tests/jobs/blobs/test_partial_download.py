"""
Tests for L{xferd.jobs.blobs.partial_download}, L{xferd.jobs.blobs.partial_lock}
and the parts of L{xferd.jobs.archives.source} that they use: the resources of a
download, the source of an error, and the change to another source.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.archives.samples import docker_save, layout, tar
from tests.jobs.archives.test_importing import ImportCase
from tests.jobs.case import HOST, OTHER, JobsCase
from tests.jobs.test_isolation import ANN, BOB, RightsCase, SourcesCase
from xferd.archive.contents import FULL_NAME
from xferd.errors import ConnectionFailed, Denied, DiskFull
from xferd.jobs.blobs.possession import PARTS
from xferd.names import Digest
from xferd.testing.fake_blobs import FakePartial
from xferd.testing.images import image_of, sample_image, sample_layer


class WholeFileTests(JobsCase):
    """
    Partial files that have all bytes, as when a daemon was killed before the
    last step.
    """

    def setUp(self) -> None:
        """
        Have other images hold all slots.
        """
        super().setUp()
        self.image = self.add(sample_image(1, 50_000))
        self.blob = self.image.layers[0].blob.digest
        self.data = self.image.layers[0].blob.read()
        for number in range(5):
            other = self.add(sample_image(1, 50_000, seed=number + 1), f"other{number}")
            self.registry.stall(other.layers[0].blob.digest)
            self.pull(f"other{number}")
        self.settle()

    def test_needs_no_slot(self) -> None:
        """
        Such a file becomes a blob without a slot and without a request.
        """
        self.store.blobs.partials[self.blob] = self.data
        self.pulled()
        self.assertEqual(self.gets(self.blob), 0)

    def test_wrong_bytes(self) -> None:
        """
        Where its bytes are wrong, the blob is fetched again, in a slot.
        """
        self.store.blobs.partials[self.blob] = b"?" + self.data[1:]
        job_id = self.pull()
        self.settle()
        self.assertEqual((self.job(job_id)["state"], self.gets(self.blob)), ("running", 0))
        self.assertEqual(self.transfer("download", self.blob)["state"], "queued")
        self.assertFalse(any(partial.has_file for partial in self.opened(self.blob)))
        for image in self.others():
            self.registry.finish(image)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.blob), 1)
        self.assert_idle()

    def test_disk_full(self) -> None:
        """
        Where the disk is full at the last step, that step is repeated without
        a slot.
        """
        self.store.blobs.partials[self.blob] = self.data
        self.store.gate.fail("partial.commit", DiskFull("no space is left"), self.blob)
        job_id = self.pull()
        self.wait(120)
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.blob), 0)

    def test_cancelled(self) -> None:
        """
        A pull can be cancelled during that step, and the bytes stay.
        """
        self.store.blobs.partials[self.blob] = self.data
        self.store.gate.hold("partial.commit", self.blob)
        job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.store.gate.release("partial.commit", self.blob)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertEqual(list(self.opened(self.blob)), [])

    def opened(self, digest: Digest) -> list[FakePartial]:
        """
        The open partial file of a blob, if there is one.
        """
        return [p for d, p in self.store.blobs.opened.items() if d == digest]

    def others(self) -> list[Digest]:
        """
        The blobs that hold the slots, and those that wait behind them.
        """
        return [sample_image(1, 50_000, seed=number + 1).layers[0].blob.digest for number in range(5)]


class BroughtTests(ImportCase):
    """
    Blobs that an archive has without a digest in their names, while a download
    of them waits for a slot.
    """

    def setUp(self) -> None:
        """
        Have other images hold all slots.
        """
        super().setUp()
        self.registry = self.registries.registry(HOST)
        self.sample = self.add(image_of([sample_layer(5000, "mine", compression="tar")]), "mine")
        self.blob = self.sample.layers[0].blob.digest
        self.others = [self.add(sample_image(1, 50_000, seed=n), f"other{n}") for n in range(5)]
        for number, other in enumerate(self.others):
            self.registry.stall(other.layers[0].blob.digest)
            self.pull(f"other{number}")
        self.settle()
        self.archive = tar(docker_save({"mine:1": self.sample}))

    def finish_others(self) -> None:
        """
        Let the other images come.
        """
        for other in self.others:
            self.registry.finish(other.layers[0].blob.digest)
        self.settle()
        self.assert_idle()

    def test_needs_no_slot(self) -> None:
        """
        The download is done without a slot and without a request.
        """
        pulling = self.pull("mine")
        self.settle()
        self.assertEqual(self.transfer("download", self.blob)["state"], "queued")
        self.assert_done(self.send(self.archive))
        self.assert_done(pulling)
        self.assertEqual(self.gets(self.blob), 0)
        self.finish_others()

    def test_running(self) -> None:
        """
        A download that has begun continues.
        """
        self.registry.stall(self.blob)
        self.registry.finish(self.others[0].layers[0].blob.digest)
        for other in self.others[3:]:
            self.registry.finish(other.layers[0].blob.digest)
        pulling = self.pull("mine")
        self.settle()
        self.assertEqual(self.gets(self.blob), 1)
        importing = self.send(self.archive)
        self.assertEqual(self.job(pulling)["state"], "running")
        self.registry.finish(self.blob)
        self.settle()
        self.assert_done(pulling)
        self.assert_done(importing)
        self.finish_others()

    def test_cancelled(self) -> None:
        """
        A pull that was cancelled before stays so.
        """
        pulling = self.pull("mine")
        self.settle()
        self.jobs.cancel(pulling)
        self.settle()
        self.assert_done(self.send(self.archive))
        self.assertEqual(self.job(pulling)["state"], "cancelled")
        self.finish_others()


class HoldingTests(RightsCase):
    """
    The resources that a download holds while nothing moves.
    """

    def files(self) -> int:
        """
        The number of open partial files.
        """
        return sum(partial.has_file for partial in self.store.blobs.opened.values())

    def test_queued(self) -> None:
        """
        Queued, nothing: no file, no descriptor, no directory in staging.
        """
        images = [self.add(sample_image(1, 50_000, seed=n), f"app{n}") for n in range(20)]
        for image in images:
            self.registry.stall(image.layers[0].blob.digest)
        jobs = [self.pull(f"app{n}") for n in range(20)]
        self.settle()
        self.assertEqual(self.jobs.status()["slots"]["download"], {"limit": 3, "in_use": 3, "queued": 17})
        self.assertEqual((self.files(), len(self.store.blobs.opened)), (3, 3))
        self.assertEqual(self.store.trees.staged, set())
        for image in images:
            self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        self.assert_idle()

    def test_backing_off(self) -> None:
        """
        Between two attempts, no descriptor; the bytes that are here are not
        read again.
        """
        self.hers.stall(self.blob)
        job_id = self.begin(ANN)
        self.hers.feed(self.blob, 40_000)
        self.hers.fail(self.blob)
        self.settle()
        self.assertEqual(self.transfer("download", self.blob)["state"], "backing-off")
        self.assertEqual((self.files(), len(self.store.blobs.opened)), (0, 1))
        self.hers.finish(self.blob)
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual([body.start for body in self.hers.bodies], [0, 40_000])
        self.assertEqual(self.store.gate.count("blobs.partial"), 1)
        self.assert_idle()


class BlameTests(SourcesCase):
    """
    The sources that are blamed for wrong bytes.
    """

    def broken(self, data: bytes) -> tuple[str, str]:
        """
        Let the first source send 40,000 bytes and fail, and the second one send
        the rest.
        """
        self.registry.corrupt(self.blob, data)
        jobs = self.both()
        self.registry.feed(self.blob, 40_000)
        self.registry.gate.fail("open", ConnectionFailed("gone", host=HOST), self.blob, times=9)
        self.registry.fail(self.blob)
        self.settle()
        return jobs

    def test_mixed(self) -> None:
        """
        Bytes of two sources that together are wrong blame neither: the present
        one sends all bytes again, and both jobs succeed.
        """
        data = self.image.layers[0].blob.read()
        jobs = self.broken(b"?" + data[1:])
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual([body.start for body in self.other.bodies], [40_000, 0])
        self.assertEqual((self.other.distrusted, self.registry.distrusted), ([], []))
        self.assert_idle()

    def test_second_is_wrong(self) -> None:
        """
        A second source that sends wrong bytes is blamed once it has sent all
        of them; the first one is used again.
        """
        data = self.image.layers[0].blob.read()
        self.other.corrupt(self.blob, data[:-1] + b"?", times=9)
        jobs = self.broken(data)
        self.registry.finish(self.blob)
        # While the first one backs off, the second has its other chance.
        self.assertEqual([body.start for body in self.other.bodies], [40_000, 0, 0])
        self.assertEqual((set(self.other.distrusted), self.registry.distrusted), ({self.blob}, []))
        self.registry.gate.mend()
        self.wait(5)
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual([body.start for body in self.registry.bodies], [0, 0])
        self.assert_idle()

    def test_earlier_bytes(self) -> None:
        """
        Wrong bytes of an earlier download do not blame the source that
        completes them.
        """
        data = self.image.layers[0].blob.read()
        self.store.blobs.partials[self.blob] = b"?" + data[1:40_000]
        self.registry.finish(self.blob)
        job_id = self.pull()
        self.settle()
        self.assert_done(job_id)
        self.assertEqual([body.start for body in self.registry.bodies], [40_000, 0])
        self.assertEqual(self.registry.distrusted, [])

    def test_other_size(self) -> None:
        """
        A source that has a blob of another size is not used; the bytes of the
        others stay.
        """
        data = self.image.layers[0].blob.read()
        self.other.corrupt(self.blob, data + b"?", times=9)
        jobs = self.broken(data)
        self.registry.gate.mend()
        self.registry.finish(self.blob)
        self.wait(3)
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual([body.start for body in self.registry.bodies], [0, 40_000])


class StallTests(SourcesCase):
    """
    A source that moves nothing, and another one.
    """

    def test_goes_on(self) -> None:
        """
        After five seconds without a byte the next source continues, and no
        attempt is counted.
        """
        jobs = self.both()
        self.registry.feed(self.blob, 40_000)
        self.wait(4)
        self.assertEqual(self.other.bodies, [])
        self.wait(2)
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual([body.start for body in self.other.bodies], [40_000])
        self.assertEqual(
            [a["code"] for a in self.store.journal.recorded_attempts if a["kind"] == "download"], [None]
        )
        self.assert_idle()

    def test_trickle(self) -> None:
        """
        A few bytes now and then are no better.
        """
        self.both()
        self.registry.feed(self.blob, 40_000)
        for _ in range(6):
            self.registry.feed(self.blob, 10) if self.registry.open_bodies(self.blob) else None
            self.wait(1)
        self.assertEqual(len(self.other.bodies), 1)

    def test_mute(self) -> None:
        """
        A source that never answers is replaced after the connection timeout and
        five seconds.
        """
        self.registry.gate.hold("open", self.blob)
        jobs = self.both()
        self.wait(14)
        self.assertEqual(self.other.bodies, [])
        self.wait(2)
        for job_id in jobs:
            self.assert_done(job_id)

    def test_alone(self) -> None:
        """
        Without another source, a stalled one is waited for.
        """
        job_id = self.pull()
        self.settle()
        self.registry.feed(self.blob, 40_000)
        self.wait(25)
        self.registry.finish(self.blob)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.blob), 1)

    def test_comes_late(self) -> None:
        """
        A source that is added later is used at once.
        """
        first = self.pull()
        self.settle()
        self.registry.feed(self.blob, 40_000)
        self.wait(20)
        second = str(self.jobs.pull(f"{OTHER}/app", None, "ci", 0)["id"])
        self.wait(2)
        for job_id in (first, second):
            self.assert_done(job_id)

    def test_comes_back(self) -> None:
        """
        Where the next source fails, the first one is used again after a while.
        """
        self.other.gate.fail("open", Denied("no", host=OTHER, status=403), self.blob)
        jobs = self.both()
        self.registry.feed(self.blob, 40_000)
        self.wait(6)
        download = self.transfer("download", self.blob)
        self.assertEqual(download["state"], "waiting")
        self.assertIn("which sends nothing", download["why"])
        self.registry.finish(self.blob)
        self.wait(31)
        for job_id in jobs:
            self.assert_done(job_id)

    def test_throttled(self) -> None:
        """
        Our own limit on the rate is no stall.
        """
        self.jobs.change_limits({"download_rate": 500})
        self.registry.finish(self.blob)
        jobs = self.both()
        self.wait(100)
        for job_id in jobs:
            self.assertEqual(self.job(job_id)["state"], "running")
        self.assertEqual(self.other.bodies, [])
        self.jobs.change_limits({"download_rate": 0})
        self.settle()


class ArchiveTests(ImportCase):
    """
    An import that stalls, and a pull of the same blob.
    """

    def setUp(self) -> None:
        """
        Send the first part of an archive, in the middle of a blob.
        """
        super().setUp()
        self.sample = self.add(sample_image(1, size=200_000))
        self.blob = self.sample.layers[0].blob.digest
        self.data = tar(layout({"a:1": self.sample}, key=FULL_NAME))
        self.importing = self.begin("b:1")
        self.give(self.importing, self.data[:100_000])

    def rest(self) -> Deferred[int]:
        """
        Send the next piece.
        """
        sending = self.jobs.upload_stream(self.importing).put(100_000, self.data[100_000:110_000])
        self.settle()
        return sending

    def finish(self) -> None:
        """
        Send the remaining bytes.
        """
        self.give(self.importing, self.data[110_000:], 110_000)
        self.jobs.upload_stream(self.importing).finish(len(self.data))
        self.settle()

    def test_pull_goes_on(self) -> None:
        """
        The pull continues with its own registry after five seconds; the import
        succeeds, too, when its client resumes.
        """
        pulling = self.pull()
        self.wait(6)
        self.assert_done(pulling)
        self.successResultOf(self.rest())
        self.finish()
        self.assert_done(self.importing)
        self.assert_idle()

    def test_import_comes_back(self) -> None:
        """
        Where the pull is cancelled before the blob is complete, the archive's
        bytes have waited, and continue.
        """
        self.registry.stall(self.blob)
        pulling = self.pull()
        self.wait(6)
        self.assertEqual(len(self.registry.open_bodies(self.blob)), 1)
        sending = self.rest()
        self.assertNoResult(sending)
        self.registry.feed(self.blob, 1_000)
        self.jobs.cancel(pulling)
        self.registry.fail(self.blob)
        self.wait(31)
        self.successResultOf(sending)
        self.finish()
        self.assert_done(self.importing)
        self.assert_idle()


class ApartArchiveTests(ArchiveTests):
    """
    Archives and pulls that share a blob, in isolated mode.
    """

    sharing = "isolated"

    def test_pull_goes_on(self) -> None:
        """
        The pull continues with its own registry, which proves its access; the
        import succeeds, too, when its client resumes.
        """
        pulling = self.pull()
        self.wait(8)
        self.assert_done(pulling)
        self.assertEqual(self.registry.count("confirm", self.blob), 1)
        self.successResultOf(self.rest())
        self.finish()
        self.assert_done(self.importing)
        self.assert_idle()


class ApartTests(RightsCase):
    """
    Isolated clients, and one blob.
    """

    sharing = "isolated"

    def test_slow_neighbour(self) -> None:
        """
        A client whose registry stalls does not delay others: after five
        seconds the next one continues with its own source, once that has
        proved access.
        """
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.hers.feed(self.blob, 50_000)
        self.wait(6)
        self.assert_done(bob)
        self.assertEqual([body.start for body in self.his.bodies[PARTS:]], [50_000])
        self.assertEqual(self.his.count("confirm", self.blob), 1)
        self.hers.finish(self.blob)
        self.wait(2)
        self.assert_done(ann)
        self.assertEqual(self.hers.count("confirm", self.blob), 1)
        self.assert_idle()

    def test_back_off(self) -> None:
        """
        Nor does one that backs off.
        """
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.hers.feed(self.blob, 50_000)
        self.hers.fail(self.blob)
        self.settle()
        self.assert_done(bob)
        self.hers.finish(self.blob)
        self.wait(3)
        self.assert_done(ann)
        self.assert_idle()

    def test_no_slot(self) -> None:
        """
        A download that waits for another client's download of the blob holds
        no slot.
        """
        self.hers.stall(self.blob)
        self.begin(ANN), self.begin(BOB)
        self.assertEqual(self.jobs.status()["slots"]["download"]["in_use"], 1)
