"""
Tests for the unpacking in L{xferd.jobs.blobs.layers}: its begin, its waits and
its resources.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.case import JobsCase
from xferd.errors import ConnectionFailed, WorkerLost
from xferd.interfaces.unpack import Displaced
from xferd.jobs.blobs.growth import Growth
from xferd.testing.images import sample_image


class GrowthTests(SynchronousTestCase):
    """
    When the bytes of a blob are worth unpacking.
    """

    def test_bytes_arrive(self) -> None:
        """
        Unpacking begins when some bytes are here and more arrive.
        """
        feed = Growth()
        feed.grown("/partial", 50)
        waiting = feed.ready(100)
        with feed.arriving():
            feed.grown("/partial", 99)
            self.assertNoResult(waiting)
            feed.grown("/partial", 100)
            self.successResultOf(waiting)
        self.assertFalse(feed.moving)

    def test_bytes_were_here(self) -> None:
        """
        Bytes of an earlier try wait until more arrive.
        """
        feed = Growth()
        feed.grown("/partial", 1000)
        waiting = feed.ready(100)
        self.assertNoResult(waiting)
        with feed.arriving():
            self.successResultOf(waiting)

    def test_whole(self) -> None:
        """
        A blob that is whole is ready, be it small.
        """
        feed = Growth()
        waiting = feed.ready(100)
        feed.sealed("/blob", 5)
        self.successResultOf(waiting)
        self.successResultOf(feed.ready(100))

    def test_cancelled(self) -> None:
        """
        A wait can be cancelled.
        """
        feed = Growth()
        waiting, other = feed.ready(100), feed.ready(100)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        feed.sealed("/blob", 5)
        self.successResultOf(other)


class UnpackingTests(JobsCase):
    """
    Unpackings of a pull.
    """

    downloads = 1

    def unpackings(self) -> list[dict[str, Any]]:
        """
        The unpackings as the API shows them.
        """
        return [dict(t) for t in self.jobs.transfers() if t["kind"] == "unpacking"]

    def test_queued(self) -> None:
        """
        While a download is queued its unpacking waits, with a reason, and has
        no staging directory and no process.
        """
        image = self.add(sample_image(3))
        blobs = [layer.blob.digest for layer in image.layers]
        self.registry.stall(blobs[0])
        job_id = self.pull()
        self.settle()
        self.assertEqual(
            [(t["state"], t["why"]) for t in self.unpackings()], [("waiting", "waiting for its download")] * 3
        )
        self.assertEqual((self.store.trees.staged, self.unpacker.unpackings), (set(), []))
        self.registry.feed(blobs[0], 10)
        self.wait(1)
        self.assertEqual([t["state"] for t in self.unpackings()], ["running", "waiting", "waiting"])
        self.assertEqual(len(self.store.trees.staged), 1)
        self.registry.finish(blobs[0])
        self.settle()
        self.assert_done(job_id)
        self.assert_idle()

    def test_broken_off(self) -> None:
        """
        While the download that an unpacking reads waits for its next attempt, the unpacking
        waits, too; it goes on with the bytes.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 10)
        self.settle()
        self.assertEqual([t["state"] for t in self.unpackings()], ["running"])
        self.registry.fail(blob)
        self.settle()
        self.assertEqual(self.transfer("download", blob)["state"], "backing-off")
        row = self.job(job_id)["layers"][0]
        self.assertEqual((row["state"], row["why"][:15]), ("waiting", "trying again in"))
        self.assertEqual(
            [(t["state"], t["why"]) for t in self.unpackings()], [("waiting", "waiting for its download")]
        )
        self.wait(2)
        self.assertEqual([t["state"] for t in self.unpackings()], ["running"])
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.assert_idle()

    def test_shared_when_cancelled(self) -> None:
        """
        A job that is cancelled while another one shares its transfers has cancelled layers, which
        wait for nothing, whatever the transfers do.
        """
        image = self.add(sample_image(2))
        blobs = [layer.blob.digest for layer in image.layers]
        for blob in blobs:
            self.registry.stall(blob)
        first, second = self.pull(), self.pull()
        self.settle()
        self.registry.feed(blobs[0], 10)
        self.registry.fail(blobs[0])
        self.settle()
        shown = [(row["state"], row["why"][:15]) for row in self.job(second)["layers"]]
        self.assertEqual(shown, [("waiting", "trying again in"), ("downloading", "")])
        self.jobs.cancel(second)
        self.settle()
        rows = self.job(second)["layers"]
        self.assertEqual(
            [(row["state"], row["why"], row["reason"]) for row in rows], [("cancelled", "", None)] * 2
        )
        self.assertEqual([row["state"] for row in self.job(first)["layers"]], ["waiting", "downloading"])
        self.wait(5)
        for blob in blobs:
            self.registry.finish(blob)
        self.wait(5)
        self.assert_done(first)
        self.assert_idle()

    def test_cancelled_while_queued(self) -> None:
        """
        A pull that is cancelled meanwhile leaves nothing.
        """
        image = self.add(sample_image(2))
        self.registry.stall(image.layers[0].blob.digest)
        job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.assert_idle()
        self.assertEqual(self.unpackings(), [])

    def test_whole_blobs(self) -> None:
        """
        Blobs that are all here are unpacked a few at a time, in their turn;
        with more workers, more at once.
        """
        image = self.add(sample_image(8))
        for layer in image.layers:
            self.store.blobs.contents[layer.blob.digest] = layer.blob.read()
        self.jobs.change_limits({"workers": 1})
        self.unpacker.gate.hold("unpack")
        job_id = self.pull()
        self.settle()
        self.assertEqual(len(self.store.trees.staged), 2)
        states = [t["state"] for t in self.unpackings()]
        self.assertEqual(states, ["running"] * 2 + ["queued"] * 6)
        self.assertEqual(self.unpackings()[2]["why"], "waiting for an unpacking worker, 1st in line")
        self.jobs.change_limits({"workers": 3})
        self.settle()
        self.assertEqual((self.unpacker.workers, len(self.store.trees.staged)), (3, 6))
        self.unpacker.gate.release("unpack")
        self.settle()
        self.assert_done(job_id)
        self.assert_idle()

    def test_still(self) -> None:
        """
        A layer that is here waits for a worker, or, once all of it was read, for the disk.
        """
        self.add(sample_image(1))
        self.unpacker.gate.hold("unpack")
        job_id = self.pull()
        self.wait(1)
        self.unpacker.unpackings[0].queued = True
        self.wait(4)
        row = self.job(job_id)["layers"][0]
        self.assertEqual((row["state"], row["why"]), ("waiting", "waiting for a free unpacking worker"))
        self.assertEqual([t["state"] for t in self.unpackings()], ["waiting"])
        self.assertEqual(self.jobs.figures().transfers["unpacking", "waiting"], 1)
        self.unpacker.unpackings[0].queued = False
        self.assertEqual(self.job(job_id)["why"], "waiting for the disk to write it")
        self.unpacker.gate.release("unpack")
        self.settle()
        self.assert_done(job_id)

    def test_download_without_bytes(self) -> None:
        """
        An unpacking whose download runs and brings no byte waits, in lists, events and metrics;
        with the next bytes it runs.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 10)
        self.wait(1)
        self.assertEqual([t["state"] for t in self.unpackings()], ["running"])
        stream = self.jobs.events(None)
        _ = stream.get()
        self.wait(4)
        shown = [(t["state"], t["why"], t["rate"]) for t in self.unpackings()]
        self.assertEqual(shown, [("waiting", "waiting for its download", 0.0)])
        figures = self.jobs.figures().transfers
        self.assertEqual((figures["unpacking", "waiting"], figures["unpacking", "running"]), (1, 0))
        got = self.successResultOf(stream.get())
        states = [e.data["state"] for e in got if e.data.get("kind") == "unpacking"]
        self.assertEqual(states[-1], "waiting")
        self.registry.feed(blob, 10)
        self.wait(1)
        self.assertEqual([t["state"] for t in self.unpackings()], ["running"])
        self.registry.finish(blob)
        self.settle()
        stream.close()
        self.assert_done(job_id)
        self.assert_idle()

    def test_slow_registration(self) -> None:
        """
        A layer whose registration takes the disk long has that as its reason after three
        seconds, until it is registered.
        """
        self.add(sample_image(1))
        self.store.gate.hold("layers.register")
        job_id = self.pull()
        self.wait(2)
        row = self.job(job_id)["layers"][0]
        self.assertEqual((row["state"], row["why"]), ("registering", ""))
        stream = self.jobs.events(job_id)
        _ = stream.get()
        self.wait(3)
        row = self.job(job_id)["layers"][0]
        self.assertEqual((row["state"], row["why"]), ("registering", "waiting for the disk to write it"))
        self.assertEqual(self.job(job_id)["reason"]["what"], "writing")
        got = self.successResultOf(stream.get())
        self.assertIn("waiting for the disk to write it", [event.data.get("why") for event in got])
        stream.close()
        self.store.gate.release("layers.register")
        self.settle()
        self.assert_done(job_id)
        self.assert_idle()

    def test_displaced(self) -> None:
        """
        An unpacking whose process was displaced while its download backs off
        starts over when bytes arrive, as often as necessary.
        """
        image = self.add(sample_image(1, 400_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        for number in range(2):
            self.registry.feed(blob, 70_000)
            self.wait(0.25)
            self.registry.gate.fail("open", ConnectionFailed("down"), blob)
            self.registry.fail(blob, ConnectionFailed("cut"))
            self.settle()
            self.unpacker.unpackings[number].fail(Displaced("room was made"))
            self.settle()
            (unpacking,) = self.unpackings()
            self.assertEqual((unpacking["state"], len(self.store.trees.staged)), ("waiting", 0))
            self.wait(5)
        self.registry.finish(blob)
        self.wait(5)
        self.assert_done(job_id)
        self.assertEqual(len(self.unpacker.unpackings), 3)
        self.assert_idle()

    def test_lost_while_bytes_arrive(self) -> None:
        """
        A process that is lost while bytes arrive is replaced at once, once.
        """
        image = self.add(sample_image(1))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull()
        self.settle()
        self.registry.feed(blob, 10)
        self.wait(0.25)
        for number in range(2):
            self.unpacker.unpackings[number].fail(WorkerLost("it made no progress"))
            self.settle()
        self.assertEqual((self.job(job_id)["state"], len(self.unpacker.unpackings)), ("running", 2))
        self.registry.finish(blob)
        self.settle()
        self.assert_failed(job_id, "WORKER_LOST")
        self.assert_idle()
