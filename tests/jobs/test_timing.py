"""
Tests for L{xferd.jobs.timing} and L{xferd.jobs.verdict}: why a job took as long as it did,
read from the job when it has ended.

The module is long because each cause of a delay is a situation of its own.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import docker_save, tar
from tests.jobs.case import HOST, OTHER
from tests.jobs.test_hosts import HostsCase
from tests.jobs.test_restarts import RestartsCase
from tests.transfer.case import ONE, EngineTests
from xferd.errors import ConnectionFailed, RegistryUnavailable, TooManyRequests
from xferd.interfaces.job_json import BoundJSON
from xferd.interfaces.jobs import ALWAYS
from xferd.interfaces.transfer import ISource
from xferd.jobs.timing import QUEUED, REGISTERING, RESOLVING, Cause, Stage, Timing
from xferd.jobs.verdict import timing_json
from xferd.names import Digest
from xferd.testing.images import sample_image
from xferd.transfer.fair_queue import Turn
from xferd.waits import CONFIRMATION, HELPER, MOUNT, TOKEN, waiting_for


class AfterwardsCase(HostsCase):
    """
    Pulls that take some minutes, each for another reason.
    """

    def image(self, layers: int = 1, size: int = 100_000, name: str = "app") -> list[Digest]:
        """
        Put an image into the registry; returns its blobs, which deliver nothing yet.
        """
        image = self.add(sample_image(layers, size=size, seed=name), name)
        blobs = [layer.blob.digest for layer in image.layers]
        for blob in blobs:
            self.registry.stall(blob)
        return blobs

    def flow(self, blob: Digest, seconds: int, rate: int) -> None:
        """
        Deliver some bytes of a blob each second.
        """
        for _ in range(seconds):
            self.registry.feed(blob, rate)
            self.wait(1)

    def timing(self, job_id: str) -> Any:
        """
        The time of a job, whose phases are its duration.
        """
        timing = self.job(job_id)["timing"]
        self.assertAlmostEqual(sum(timing["phases"].values()), timing["seconds"], 2)
        return timing

    def assert_bound(self, job_id: str, text: str, by: str, whom: str = "") -> Any:
        """
        The verdict on a job is this; returns the time of the job.
        """
        timing = self.timing(job_id)
        bound = timing["bound"]
        self.assertEqual((bound["text"], bound["by"], bound["whom"]), (text, by, whom))
        self.assertIn(bound["phase"], timing["phases"])
        self.assertAlmostEqual(bound["share"], bound["seconds"] / timing["seconds"], 2)
        return timing


class VerdictTests(SynchronousTestCase):
    """
    Verdicts on times that are given.
    """

    def bound(self, kind: str, stages: list[list[Any]], moved: list[list[Any]]) -> BoundJSON:
        """
        What bounded a job.

        @param stages: phase, cause, kind, host, number and seconds of each stage.
        @param moved: kind, host and bytes.
        """
        timing = Timing()
        timing.restore({"stages": stages, "moved": moved}, 0.0)
        found = timing_json(timing, kind, 0, None, dict, done=True)["bound"]
        assert found is not None
        return found

    def test_both_ways(self) -> None:
        """
        The rate of a host is that of one direction, where bytes go both ways.
        """
        stages = [
            ["moving", "line", "download", HOST, 0, 10.0],
            ["moving", "line", "upload", HOST, 0, 30.0],
        ]
        bound = self.bound("copy", stages, [["download", HOST, 1_000_000], ["upload", HOST, 3_000_000]])
        self.assertEqual(bound["text"], f"moving 100 % of 40 s: the line; {HOST} took 100.0 kB/s")

    def test_phases(self) -> None:
        """
        What bounded a job in several phases names them, without those that were short.
        """
        stages = [
            ["waiting", "registry", "upload", HOST, 0, 4.0],
            ["resolving", "registry", "document", HOST, 0, 6.0],
            ["moving", "line", "upload", HOST, 0, 10.0],
            ["moving", "registry", "upload", HOST, 0, 0.5],
        ]
        bound = self.bound("push", stages, [])
        self.assertEqual(bound["text"], f"resolving and waiting 51 % of 20 s: {HOST} took long to answer")
        self.assertEqual((bound["phase"], bound["seconds"]), ("resolving", 10.5))


class SlowTests(AfterwardsCase):
    """
    The situations in which a pull takes four minutes.
    """

    def test_line(self) -> None:
        """
        Bytes that come slowly, where no other registry is known to be faster: the line.
        """
        (blob,) = self.image(size=500_000)
        job_id = self.pull()
        self.settle()
        self.assertIsNone(self.job(job_id)["timing"])
        self.flow(blob, 240, 2_000)
        self.registry.finish(blob)
        self.wait(2)
        self.assert_done(job_id)
        size = self.job(job_id)["bytes_total"]
        rate = f"{size / 240 / 1000:.1f} kB/s"
        timing = self.assert_bound(
            job_id, f"moving 100 % of 4 min 0 s: the line; {HOST} sent {rate}", "line", HOST
        )
        self.assertEqual(
            (timing["bytes_received"], timing["bytes_saved"], timing["bytes_sent"]), (size, 0, 0)
        )
        self.assertAlmostEqual(timing["rate"], size / 240, -2)

    def test_not_saved(self) -> None:
        """
        Bytes that a cancelled job did not move are not saved.
        """
        (blob,) = self.image(size=500_000)
        job_id = self.pull()
        self.settle()
        self.flow(blob, 2, 2_000)
        self.jobs.cancel(job_id)
        self.settle()
        timing = self.timing(job_id)
        self.assertEqual((timing["bytes_received"], timing["bytes_saved"]), (4_000, 0))
        self.assertEqual(self.jobs.figures().saved, {"pull": 0})

    def test_registry(self) -> None:
        """
        The same, where another registry has just sent more to one transfer: the registry.
        """
        self.hosts.moved(OTHER, 60_000_000, 10.0)
        (blob,) = self.image(size=500_000)
        job_id = self.pull()
        self.settle()
        self.flow(blob, 240, 2_000)
        self.registry.finish(blob)
        self.wait(2)
        rate = f"{self.job(job_id)['bytes_total'] / 240 / 1000:.1f} kB/s"
        self.assert_bound(
            job_id,
            f"moving 100 % of 4 min 0 s: {HOST} sent {rate}, and {OTHER} alone 6.0 MB/s",
            "registry",
            HOST,
        )

    def test_limit(self) -> None:
        """
        The bandwidth limit.
        """
        self.jobs.change_limits({"download_rate": 2_000})
        (blob,) = self.image(size=500_000)
        job_id = self.pull()
        self.registry.finish(blob)
        self.wait(260)
        self.assert_done(job_id)
        timing = self.timing(job_id)
        self.assertEqual(timing["bound"]["by"], "limit")
        self.assertRegex(
            timing["bound"]["text"],
            r"^moving (9\d|100) % of 4 min \d+ s: the limit download_rate, 2\.\d kB/s$",
        )

    def test_slots(self) -> None:
        """
        All slots are others'.
        """
        others = self.image(3, name="others")
        self.pull("others", client="another")
        self.settle()
        (blob,) = self.image()
        job_id = self.pull()
        self.registry.finish(blob)
        # After half a minute a slot would be lent, as their holders hardly move.
        self.wait(20)
        for other in others:
            self.registry.finish(other)
        self.wait(2)
        self.assert_done(job_id)
        timing = self.assert_bound(
            job_id,
            "waiting 99 % of 20 s: 3 downloads at a time, which others had",
            "slots",
        )
        self.assertEqual(timing["bytes_received"], self.job(job_id)["bytes_total"])

    def test_host_slots(self) -> None:
        """
        All slots of the registry are others'.
        """
        self.jobs.change_limits({"downloads_per_host": 1})
        (other,) = self.image(1, name="others")
        self.pull("others", client="another")
        self.settle()
        (blob,) = self.image()
        job_id = self.pull()
        self.registry.finish(blob)
        self.wait(120)
        self.registry.finish(other)
        self.wait(2)
        self.assert_bound(
            job_id, f"waiting 100 % of 2 min 0 s: 1 download at a time from {HOST}", "host-slots", HOST
        )

    def test_rate_limit(self) -> None:
        """
        The registry asks to wait before it sends the manifest.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.registry.gate.fail(
            "manifest", TooManyRequests("slow down", host=HOST, status=429, retry_after=240)
        )
        job_id = self.pull()
        self.wait(250)
        self.assert_done(job_id)
        self.assert_bound(job_id, f"resolving 100 % of 4 min 0 s: {HOST} limits requests", "rate-limit", HOST)

    def test_failures(self) -> None:
        """
        Attempts fail, with delays between them.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.registry.gate.fail("open", ConnectionFailed("cut"), blob, times=2)
        job_id = self.pull()
        self.wait(10)
        self.assert_done(job_id)
        self.assert_bound(job_id, f"waiting 92 % of 3.2 s: attempts at {HOST} failed", "failures", HOST)

    def test_server_error(self) -> None:
        """
        A registry that is down and asks to wait does not limit requests.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.registry.gate.fail(
            "open", RegistryUnavailable("down", host=HOST, status=503, retry_after=20), blob
        )
        job_id = self.pull()
        self.wait(30)
        self.assert_done(job_id)
        self.assert_bound(job_id, f"waiting 99 % of 20 s: attempts at {HOST} failed", "failures", HOST)

    def test_unpacking(self) -> None:
        """
        All bytes are here, and the layers are unpacked slowly.
        """
        (blob,) = self.image()
        self.unpacker.gate.hold("unpack")
        job_id = self.pull()
        self.settle()
        self.flow(blob, 60, 1_000)
        self.registry.finish(blob)
        self.wait(180)
        self.unpacker.gate.release("unpack")
        self.wait(1)
        self.assert_done(job_id)
        timing = self.assert_bound(
            job_id, "unpacking 75 % of 4 min 0 s: the unpacking of its layers", "unpacking"
        )
        self.assertAlmostEqual(timing["phases"]["moving"], 60, 0)

    def test_full_disk(self) -> None:
        """
        The disk is full.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.registry.gate.hold("open")
        job_id = self.pull()
        self.settle()
        self.store.blobs.free = 50_000
        self.registry.gate.release("open")
        self.wait(240)
        self.store.blobs.free = 1 << 30
        self.wait(40)
        self.assert_done(job_id)
        timing = self.timing(job_id)
        self.assertEqual(timing["bound"]["by"], "full-disk")
        self.assertRegex(timing["bound"]["text"], r"^waiting \d+ % of 4 min \d+ s: the disk was full$")

    def test_full_disk_for_manifest(self) -> None:
        """
        The disk is full before the manifest is kept.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.store.blobs.free = 0
        job_id = self.pull()
        self.wait(60)
        self.store.blobs.free = 1 << 30
        self.wait(40)
        self.assert_done(job_id)
        timing = self.timing(job_id)
        self.assertEqual(timing["bound"]["by"], "full-disk")

    def test_disk(self) -> None:
        """
        All bytes are here, and the disk does not confirm them.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.store.gate.hold("partial.commit")
        job_id = self.pull()
        self.wait(240)
        self.store.gate.release("partial.commit")
        self.wait(2)
        self.assert_done(job_id)
        self.assert_bound(job_id, "waiting 100 % of 4 min 0 s: the disk", "disk")

    def test_silence(self) -> None:
        """
        The registry sends nothing.
        """
        (blob,) = self.image()
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 1_000)
        self.wait(240)
        self.registry.finish(blob)
        self.wait(2)
        self.assert_done(job_id)
        timing = self.timing(job_id)
        self.assertEqual(timing["bound"]["by"], "silence")
        self.assertRegex(timing["bound"]["text"], rf"^waiting 100 % of 4 min 0 s: {HOST} sent no bytes$")

    def test_answers(self) -> None:
        """
        The registry takes long to answer.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.registry.gate.hold("manifest")
        job_id = self.pull()
        self.wait(60)
        self.registry.gate.release("manifest")
        self.wait(2)
        self.assert_bound(
            job_id, f"resolving 100 % of 1 min 0 s: {HOST} took long to answer", "registry", HOST
        )


class BytesTests(AfterwardsCase):
    """
    The bytes that moved, and those that did not have to.
    """

    def test_joined(self) -> None:
        """
        A job that joins a transfer counts the bytes since then; those before are saved.
        """
        (blob,) = self.image()
        first = self.pull()
        self.settle()
        self.registry.feed(blob, 40_000)
        self.wait(1)
        second = self.pull(client="late")
        self.wait(1)
        self.registry.finish(blob)
        self.wait(2)
        size = self.job(first)["bytes_total"]
        moved = [
            (timing["bytes_received"], timing["bytes_saved"])
            for timing in (self.timing(first), self.timing(second))
        ]
        self.assertEqual(moved, [(size, 0), (size - 40_000, 40_000)])

    def test_present(self) -> None:
        """
        An image that is here costs nothing, and nothing bounds its pull.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        size = self.pulled()["bytes_total"]
        timing = self.timing(self.pulled()["id"])
        self.assertEqual((timing["bytes_received"], timing["bytes_saved"]), (0, size))
        self.assertEqual((timing["rate"], timing["bound"]), (0.0, None))

    def test_attempts(self) -> None:
        """
        An attempt counts the bytes that it has moved itself.
        """
        (blob,) = self.image()
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 30_000)
        self.registry.fail(blob)
        self.registry.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        asked = self.jobs.attempts(job_id)
        self.settle()
        attempts = [each for each in self.successResultOf(asked) if each["kind"] == "download"]
        size = self.job(job_id)["bytes_total"]
        self.assertEqual(
            [(each["bytes_moved"], each["bytes_done"]) for each in attempts],
            [(30_000, 30_000), (size - 30_000, size)],
        )

    def test_push(self) -> None:
        """
        A push counts the bytes that it sends; those that the registry has are saved.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.pulled()
        first = self.push()
        self.wait(2)
        second = self.push()
        self.wait(2)
        size = self.job(first)["bytes_total"]
        moved = [
            (timing["bytes_sent"], timing["bytes_received"], timing["bytes_saved"])
            for timing in (self.timing(first), self.timing(second))
        ]
        self.assertEqual(moved, [(size, 0, 0), (0, 0, size)])

    def test_failed(self) -> None:
        """
        A job that failed or was cancelled has its time, too.
        """
        (blob,) = self.image()
        self.registry.gate.fail("open", ConnectionFailed("cut"), blob, times=3)
        failed = self.pull()
        self.wait(9)
        self.assert_failed(failed, "CONNECTION_FAILED")
        self.assertEqual(self.timing(failed)["bound"]["by"], "failures")
        cancelled = self.pull()
        self.wait(5)
        self.jobs.cancel(cancelled)
        self.settle()
        self.assertEqual(self.timing(cancelled)["seconds"], 5.0)

    def test_figures(self) -> None:
        """
        The figures add it up.
        """
        (blob,) = self.image()
        job_id = self.pull()
        self.wait(1)
        self.registry.finish(blob)
        self.wait(2)
        self.pulled()
        figures = self.jobs.figures()
        (buckets, total) = figures.durations["pull"]
        self.assertEqual((dict(buckets)["+Inf"], total), (2, self.timing(job_id)["seconds"]))
        self.assertEqual(figures.phases["pull", "moving"][1], self.timing(job_id)["phases"]["moving"])
        self.assertEqual(dict(figures.bounds), {("pull", "line"): 1})
        self.assertEqual(figures.saved["pull"], self.job(job_id)["bytes_total"])


class RestartTests(RestartsCase):
    """
    Jobs that a restart interrupts.
    """

    def test_remembered(self) -> None:
        """
        What was found of a job is there after a restart.
        """
        self.add(sample_image(1))
        before = self.pulled()
        self.stopped()
        self.assertEqual(self.job(before["id"])["timing"], before["timing"])
        self.assertIsNotNone(before["timing"])

    def test_continued(self) -> None:
        """
        A job that continues keeps its time, and the time without a daemon counts.
        """
        job_id, blob = self.stalled_pull()
        self.wait(20)
        self.registry.feed(blob, 1_000)
        self.wait(1)
        self.stop(self.jobs)
        self.store.journal.restart()
        self.clock.advance(60)
        self.begin_next()
        self.wait(1)
        self.registry.finish(blob)
        self.wait(1)
        self.assert_done(job_id)
        timing = self.job(job_id)["timing"]
        self.assertAlmostEqual(timing["phases"]["interrupted"], 60, 0)
        self.assertAlmostEqual(timing["seconds"], 82, -1)
        self.assertEqual(timing["bytes_received"], self.job(job_id)["bytes_total"])
        self.assertEqual(
            (timing["bound"]["by"], timing["bound"]["text"].partition(": ")[2]),
            ("restart", "the daemon was restarted"),
        )

    def test_killed(self) -> None:
        """
        The time that a killed daemon had not recorded belongs to the restart.
        """
        job_id, blob = self.stalled_pull(ALWAYS)
        self.wait(30)
        self.killed()
        self.registry.finish(blob)
        self.wait(1)
        self.assert_done(job_id)
        timing = self.job(job_id)["timing"]
        self.assertAlmostEqual(timing["phases"]["interrupted"], 30, 0)

    def test_older_record(self) -> None:
        """
        A job that an older version recorded has no time.
        """
        self.add(sample_image(1))
        done = self.pulled()
        record = {key: value for key, value in done.items() if key != "timing"}
        self.finish_write(record)
        self.stopped()
        self.assertIsNone(self.job(done["id"])["timing"])
        (listed,) = self.jobs.all()
        self.assertIsNone(listed["timing"])

    def finish_write(self, record: Any) -> None:
        """
        Write a record to the journal.
        """
        writing = self.store.journal.record_job(record)
        self.settle()
        self.successResultOf(writing)


class WaitTests(EngineTests):
    """
    What a transfer waits for while it runs, or because of another one.
    """

    def waits(self, kind: str, what: str, whom: str) -> Stage:
        """
        The stage of a job while a transfer's only attempt waits for a response.
        """
        timing = Timing()
        timing.begin(self.clock)

        async def attempt(_: ISource) -> None:
            with waiting_for(what, whom):
                # Nothing cancels it.
                await Deferred()

        manager = self.managed(self.slots, kind)
        watcher = manager.request(
            kind, lambda transfer: transfer.attempts(attempt), digest="a", source=ONE, turn=Turn("c", 0, 1, 0)
        )
        self.turn()
        timing.note(watcher.transfer)
        self.clock.advance(5)
        timing.drop(watcher.transfer)
        watcher.release()
        self.turn()
        (stage,) = timing.stages()
        return stage

    def test_requests(self) -> None:
        """
        Tokens, confirmations and mounts are the registry's, and helpers are helpers.
        """
        for kind, phase in (("download", "waiting"), ("upload", "waiting"), ("document", "resolving")):
            for what, whom, cause in (
                (TOKEN, "auth.example", Cause.REGISTRY),
                (MOUNT, "one.example", Cause.REGISTRY),
                (CONFIRMATION, "one.example", Cause.REGISTRY),
                (HELPER, "docker-credential-x", Cause.HELPER),
            ):
                found = self.waits(kind, what, whom)
                self.assertEqual((found.phase, found.cause, found.whom), (phase, cause, whom), (kind, what))


class TimingTests(SynchronousTestCase):
    """
    The time without transfers.
    """

    def test_rest(self) -> None:
        """
        It counts from the beginning, as what the job does then.
        """
        clock, timing = Clock(), Timing()
        timing.count()
        clock.advance(5)
        timing.begin(clock)
        clock.advance(2)
        timing.rest(RESOLVING)
        clock.advance(3)
        timing.rest(REGISTERING)
        clock.advance(1)
        timing.count()
        timing.count()
        self.assertEqual(timing.stages(), {QUEUED: 2.0, RESOLVING: 3.0, REGISTERING: 1.0})

    def test_json(self) -> None:
        """
        It is the same after a restart.
        """
        clock, timing, again = Clock(), Timing(), Timing()
        timing.begin(clock)
        clock.advance(3)
        timing.count()
        timing.moved["download", HOST] += 7
        again.restore(json.loads(json.dumps(timing.to_json())), 3.0)
        self.assertEqual((again.stages(), again.moved), (timing.stages(), timing.moved))


class ImportTests(ImportCase):
    """
    Archives of clients.
    """

    def test_client(self) -> None:
        """
        An archive that comes slowly: its client.
        """
        data = tar(docker_save({"a:1": sample_image(1, size=100_000)}))
        job_id = self.begin(size=len(data))
        half = self.give(job_id, data[:50_000])
        self.wait(60)
        self.give(job_id, data[50_000:], half)
        self.end_archive(job_id, len(data))
        self.wait(1)
        self.assert_done(job_id)
        timing = self.job(job_id)["timing"]
        self.assertEqual((timing["bytes_received"], timing["bytes_saved"]), (len(data), 0))
        self.assertEqual(timing["bound"]["by"], "client")
        self.assertRegex(timing["bound"]["text"], r"^moving \d+ % of 1 min 0 s: its client sent the archive$")


class CopyTests(AfterwardsCase):
    """
    Copies, whose bytes come from one registry and go to another.
    """

    def test_both_ways(self) -> None:
        """
        The bytes of both ways are counted; what the target has is saved.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        first = self.copy()
        self.wait(3)
        self.assert_done(first)
        second = self.copy()
        self.wait(3)
        size = self.job(first)["bytes_total"]
        moved = [
            (timing["bytes_received"], timing["bytes_sent"], timing["bytes_saved"])
            for timing in (self.timing(first), self.timing(second))
        ]
        self.assertEqual(moved, [(size, size, 0), (0, 0, size)])

    def test_slow_target(self) -> None:
        """
        The target is the one that is slow.
        """
        (blob,) = self.image()
        self.registry.finish(blob)
        self.other.uploads.stall(blob)
        job_id = self.copy()
        self.settle()
        for _ in range(30):
            self.other.uploads.feed(blob, 1_000)
            self.wait(1)
        self.other.uploads.finish(blob)
        self.wait(2)
        self.assert_done(job_id)
        timing = self.timing(job_id)
        self.assertEqual((timing["bound"]["by"], timing["bound"]["whom"]), ("line", OTHER))
        self.assertRegex(
            timing["bound"]["text"], rf"^moving \d+ % of 30 s: the line; {OTHER} took 3\.\d kB/s$"
        )
