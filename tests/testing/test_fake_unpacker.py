"""
Tests for L{xferd.testing.fake_unpacker}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import BadLayer, WorkerLost
from xferd.interfaces.unpack import ILayerTask, IUnpacker, UnpackProgress
from xferd.names import Digest
from xferd.testing.fake_unpacker import FakeUnpacker, FakeUnpacking, measure
from xferd.testing.images import sample_layer
from xferd.testing.layers import LayerBuilder, pack


class MeasureTests(SynchronousTestCase):
    """
    The facts of a layer are correct.
    """

    def test_compressions(self) -> None:
        """
        The facts do not depend on the compression.
        """
        facts = set()
        for compression in ("tar", "gzip", "zstd"):
            layer = sample_layer(5000, compression=compression)
            unpacked = measure(layer.blob.read())
            self.assertEqual((layer.diff_id, layer.tar_size), (unpacked.diff_id, unpacked.tar_size))
            facts.add(unpacked)
        (only,) = facts
        self.assertEqual((5000, ()), (only.size, only.implied))

    def test_several_members(self) -> None:
        """
        Several gzip members and several zstd frames are one tar.
        """
        tar = LayerBuilder("tar").file("a", b"x" * 2000).finish().blob.read()
        for compression in ("gzip", "zstd"):
            packed = b"".join(pack(part, compression).blob.read() for part in (tar[:700], tar[700:]))
            self.assertEqual(Digest.of(tar), measure(packed).diff_id)

    def test_implied(self) -> None:
        """
        Implied directories are listed.
        """
        layer = LayerBuilder().directory("a").file("a/b/c/d").file(b"\xff/x").finish()
        self.assertEqual((b"a/b", b"a/b/c", b"\xff"), measure(layer.blob.read()).implied)

    def test_damaged(self) -> None:
        """
        Damaged data, or other than a tar, is a bad layer.
        """
        for compression in ("gzip", "zstd"):
            packed = sample_layer(5000, compression=compression).blob.read()
            self.assertRaises(BadLayer, measure, packed[: len(packed) // 2])
        self.assertRaises(BadLayer, measure, b"no tar" * 1000)
        self.assertRaises(BadLayer, measure, pack(b"no tar" * 1000).blob.read())


class FakeUnpackerTests(SynchronousTestCase):
    """
    A fake unpacker, and its faults.
    """

    def setUp(self) -> None:
        """
        Make an unpacker that reads from memory.
        """
        self.clock = Clock()
        self.layer = sample_layer(5000)
        self.size = self.layer.blob.descriptor.size
        self.unpacker = FakeUnpacker(self.clock, {"file": self.layer.blob.read(), "bad": b"bad"}.__getitem__)
        self.news: list[UnpackProgress] = []

    def unpack(self) -> FakeUnpacking:
        """
        Begin to unpack.
        """
        return self.unpacker.unpack("/staged", "gzip", self.news.append)

    def test_interfaces(self) -> None:
        """
        The fakes provide their Interfaces.
        """
        verifyObject(IUnpacker, self.unpacker)
        verifyObject(ILayerTask, self.unpack())

    def test_sealed(self) -> None:
        """
        The facts of a sealed layer arrive in the next turn.
        """
        unpacking = self.unpack()
        unpacking.grown("file", 10)
        unpacking.sealed("file", self.size)
        self.assertNoResult(unpacking.result)
        self.clock.advance(0)
        self.assertEqual(self.layer.diff_id, self.successResultOf(unpacking.result).diff_id)
        self.assertEqual("ended", unpacking.state)
        self.assertEqual(self.size, unpacking.progress.consumed)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_progress(self) -> None:
        """
        Progress is reported ten times a second at most, with the newest values.
        """
        unpacking = self.unpack()
        for size in (10, 20, 30):
            unpacking.grown("file", size)
        self.assertEqual([], self.news)
        self.clock.advance(0.1)
        unpacking.grown("file", 40)
        self.clock.advance(0.1)
        self.assertEqual([UnpackProgress(30), UnpackProgress(40)], self.news)

    def test_held(self) -> None:
        """
        Work can be held after the seal.
        """
        self.unpacker.gate.hold("unpack")
        unpacking = self.unpack()
        unpacking.sealed("file", self.size)
        self.clock.advance(0)
        self.assertNoResult(unpacking.result)
        self.unpacker.gate.release("unpack")
        self.clock.advance(0)
        self.successResultOf(unpacking.result)

    def test_bad_layer(self) -> None:
        """
        Bytes that are not a layer fail the result.
        """
        unpacking = self.unpack()
        unpacking.sealed("bad", 3)
        self.clock.advance(0)
        self.failureResultOf(unpacking.result, BadLayer)

    def test_planted(self) -> None:
        """
        A planted failure is the result.
        """
        self.unpacker.gate.fail("unpack", WorkerLost("lost"))
        unpacking = self.unpack()
        unpacking.sealed("file", self.size)
        self.clock.advance(0)
        self.failureResultOf(unpacking.result, WorkerLost)

    def test_fails_early(self) -> None:
        """
        It may fail before the blob is sealed; later calls have no effect.
        """
        unpacking = self.unpack()
        unpacking.grown("file", 10)
        unpacking.fail(BadLayer("no"))
        unpacking.fail(BadLayer("no"))
        self.clock.advance(0)
        self.failureResultOf(unpacking.result, BadLayer)
        unpacking.grown("file", 20)
        unpacking.sealed("file", self.size)
        self.assertEqual(0, self.unpacker.gate.count("unpack"))

    def test_fails_late(self) -> None:
        """
        A failure of held work is the result.
        """
        self.unpacker.gate.hold("unpack")
        unpacking = self.unpack()
        unpacking.sealed("file", self.size)
        unpacking.fail(WorkerLost("lost"))
        self.unpacker.gate.release("unpack")
        self.clock.advance(0)
        self.failureResultOf(unpacking.result, WorkerLost)

    def test_restarted(self) -> None:
        """
        A restart of the blob ends the work.
        """
        unpacking = self.unpack()
        unpacking.grown("file", 10)
        unpacking.restarted()
        self.clock.advance(0)
        self.failureResultOf(unpacking.result, CancelledError)

    def test_cancelled(self) -> None:
        """
        Cancelling waits until no process uses the staging directory.
        """
        self.unpacker.gate.hold("end")
        unpacking = self.unpack()
        unpacking.grown("file", 10)
        unpacking.result.cancel()
        unpacking.result.cancel()
        self.clock.advance(0)
        self.assertNoResult(unpacking.result)
        self.unpacker.gate.release("end", None)
        self.clock.advance(0)
        self.failureResultOf(unpacking.result, CancelledError)

    def test_cancelled_late(self) -> None:
        """
        Cancelling ends the work on a sealed layer, too.
        """
        unpacking = self.unpack()
        unpacking.sealed("file", self.size)
        unpacking.result.cancel()
        self.clock.advance(0)
        self.failureResultOf(unpacking.result, CancelledError)

    def test_stop(self) -> None:
        """
        Stopping ends all running work.
        """
        self.unpacker.start()
        self.assertTrue(self.unpacker.running)
        done, going = self.unpack(), self.unpack()
        done.sealed("file", self.size)
        self.clock.advance(0)
        stopped = self.unpacker.stop()
        self.clock.advance(0)
        self.successResultOf(stopped)
        self.successResultOf(done.result)
        self.failureResultOf(going.result, CancelledError)
        self.assertFalse(self.unpacker.running)

    def test_reads_files(self) -> None:
        """
        Real files are read by default.
        """
        path = Path(self.mktemp())
        path.write_bytes(self.layer.blob.read())
        unpacking = FakeUnpacker(self.clock).unpack("/staged", "gzip", self.news.append)
        unpacking.sealed(str(path), self.size)
        self.clock.advance(0)
        self.assertEqual(self.layer.diff_id, self.successResultOf(unpacking.result).diff_id)
