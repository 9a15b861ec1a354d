"""
Tests for L{xferd.jobs.blobs.partial_download}, L{xferd.jobs.blobs.partial_lock} and
the parts of L{xferd.jobs.archives.source} that they use: the resources of a
download, and the source of an error.
"""

from __future__ import annotations

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import docker_save, tar
from tests.jobs.case import HOST, OTHER, JobsCase
from tests.jobs.isolation.case import ANN, RightsCase, SourcesCase
from xferd.errors import ConnectionFailed, DiskFull
from xferd.names import Digest
from xferd.testing.fake_blobs import FakePartial
from xferd.testing.images import image_of, sample_image, sample_layer


class WaitingCase(JobsCase):
    """
    An image with one layer, whose pulls wait for a slot.
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

    def others(self) -> list[Digest]:
        """
        The blobs that hold the slots, and those that wait behind them.
        """
        return [sample_image(1, 50_000, seed=number + 1).layers[0].blob.digest for number in range(5)]


class WholeFileTests(WaitingCase):
    """
    Partial files that have all bytes, as when a daemon was killed before the
    last step.
    """

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
        self.assertIn("waiting for a download slot", self.transfer("download", self.blob)["why"])
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


class PushedTests(WaitingCase):
    """
    A blob that clients of the registry push while its download waits.
    """

    def test_before_slot(self) -> None:
        """
        It is not requested when the download gets its slot.
        """
        job_id = self.pull()
        self.settle()
        self.store.blobs.contents[self.blob] = self.data
        for image in self.others():
            self.registry.finish(image)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.blob), 0)
        self.assert_idle()

    def test_before_next_attempt(self) -> None:
        """
        It is not requested again after an attempt that failed.  It is another file than that
        of the attempt, which an unpacking has open: that begins again.
        """
        for image in self.others():
            self.registry.finish(image)
        self.registry.stall(self.blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(self.blob, 10_000)
        self.registry.fail(self.blob)
        self.settle()
        self.store.blobs.contents[self.blob] = self.data
        self.wait(2)
        self.assert_done(job_id)
        self.assertEqual(self.gets(self.blob), 1)
        first, second = (each for each in self.unpacker.unpackings if self.blob.hex in each.path)
        self.assertNotEqual(first.path, second.path)
        self.assertEqual(second.path, self.store.blobs.path(self.blob))
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

    def test_mixed_explained(self) -> None:
        """
        While all bytes are sent again, the transfer says why.
        """
        data = self.image.layers[0].blob.read()
        self.other.stall(self.blob)
        jobs = self.broken(b"?" + data[1:])
        self.other.bodies[0].finish()
        self.settle()
        self.assertIn(
            f"the bytes of several sources were wrong together: all are fetched again from {OTHER}",
            self.transfer("download", self.blob)["why"],
        )
        self.other.finish(self.blob)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)

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
        self.registry.stall(self.blob)
        job_id = self.pull()
        self.settle()
        self.assertEqual(self.transfer("download", self.blob)["why"], "")
        self.registry.bodies[0].finish()
        self.settle()
        self.assertEqual(
            self.transfer("download", self.blob)["why"],
            "the bytes that were here before were wrong: all are fetched again",
        )
        self.registry.finish(self.blob)
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
