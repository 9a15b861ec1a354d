"""
Tests for L{xferd.jobs.blobs.partial_download}: sources that stall, and the change to
another one.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import layout, tar
from tests.jobs.case import OTHER
from tests.jobs.isolation.case import ANN, BOB, RightsCase, SourcesCase
from xferd.archive.contents import FULL_NAME
from xferd.errors import Denied
from xferd.jobs.blobs.possession import PARTS
from xferd.testing.images import sample_image


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
        self.end_archive(self.importing, len(self.data))
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
