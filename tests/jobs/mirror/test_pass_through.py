"""
Tests for L{xferd.jobs.mirror.pass_through}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import ConnectionFailed, DigestMismatch, RegistryError, SizeMismatch
from xferd.interfaces.mirror import IBlobReader
from xferd.jobs.mirror.pass_through import MOST, PassThrough
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.testing.fakes import FakeRegistry, FakeWallClock
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.transfer import Transfer

DATA = bytes(range(256)) * 4096
BLOB = Descriptor("x", Digest.of(DATA), len(DATA))
HELD = 1000


class PassThroughTests(SynchronousTestCase):
    """
    A blob of 1 MiB, or a part of it, on its way.
    """

    def setUp(self) -> None:
        """
        Make a registry that has the blob.
        """
        self.clock = Clock()
        self.registry = FakeRegistry("r.example", self.clock)
        self.registry.put_blob("app", BLOB.digest, DATA)
        self.counted = self.closed = 0
        self.transfers = TransferManager(
            self.clock,
            wall_clock=FakeWallClock(self.clock),
            slots=None,
            retry=RetryPolicy(attempts=2, base=1.0, jitter=0.0),
            kind="download",
        )

    def open(self, start: int = 0, stop: int = len(DATA)) -> PassThrough:
        """
        Begin to receive a part.
        """
        reader = PassThrough(BLOB, start, stop, HELD, self._counter, self._close)
        watcher = self.transfers.request(
            "pass",
            reader.fetch,
            digest=BLOB.digest,
            source=self.registry.repository("app"),
            turn=Turn("", 0, 1, 0),
        )
        reader.watch(watcher)
        self.addCleanup(reader.close)
        self.settle()
        return reader

    def _counter(self, host: str, transfer: Transfer) -> Callable[[int], Deferred[None] | None]:
        def count(size: int) -> None:
            self.counted += size

        return count

    def _close(self) -> None:
        self.closed += 1

    def settle(self) -> None:
        """
        Let everything happen that needs no time.
        """
        self.clock.advance(0)

    def read(self, reader: PassThrough, offset: int, stop: int) -> bytes:
        """
        Read a part as a client does.
        """
        found = bytearray()
        while offset + len(found) < stop:
            reading = reader.read(offset + len(found), 50_000)
            self.settle()
            found += self.successResultOf(reading)
        return bytes(found)

    def test_provided(self) -> None:
        """
        It is a reader.
        """
        verifyObject(IBlobReader, self.open())

    def test_whole(self) -> None:
        """
        A whole blob passes, and its bytes are counted.
        """
        reader = self.open()
        self.successResultOf(reader.ready())
        self.assertEqual(self.read(reader, 0, len(DATA)), DATA)
        self.assertEqual(self.successResultOf(reader.read(len(DATA), 10)), b"")
        self.assertEqual(self.counted, len(DATA))
        reader.close()
        reader.close()
        self.assertEqual(self.closed, 1)
        self.assertEqual(self.transfers.transfers(), [])

    def test_part(self) -> None:
        """
        Of a part, only its bytes are requested, and none is held.
        """
        reader = self.open(500_000, 510_000)
        self.assertEqual(self.read(reader, 500_000, 510_000), DATA[500_000:510_000])
        self.assertEqual(self.counted, 10_000)

    def test_wrong(self) -> None:
        """
        Of wrong bytes, the last ones never reach the client.
        """
        self.registry.corrupt(BLOB.digest, bytes(len(DATA)))
        reader = self.open()
        found = self.read(reader, 0, len(DATA) - HELD)
        self.assertEqual(found, bytes(len(DATA) - HELD))
        self.settle()
        self.failureResultOf(reader.read(len(DATA) - HELD, 10), DigestMismatch)

    def test_resumed(self) -> None:
        """
        After a break the rest is requested.
        """
        self.registry.stall(BLOB.digest)
        reader = self.open()
        self.registry.feed(BLOB.digest, 30_000)
        self.assertEqual(self.read(reader, 0, 30_000), DATA[:30_000])
        self.registry.fail(BLOB.digest)
        self.registry.finish(BLOB.digest)
        self.clock.advance(1)
        self.settle()
        self.assertEqual(self.read(reader, 30_000, len(DATA)), DATA[30_000:])
        self.assertEqual([r.offset for r in self.registry.requests], [0, 30_000])

    def test_fails(self) -> None:
        """
        If the upstream fails for good, so do the waits.
        """
        self.registry.gate.fail("open", ConnectionFailed("refused"), times=2)
        reader = self.open()
        ready = reader.ready()
        self.clock.advance(1)
        self.settle()
        self.failureResultOf(ready, ConnectionFailed)
        self.failureResultOf(reader.read(0, 1), ConnectionFailed)

    def test_other_size(self) -> None:
        """
        A blob of another size is refused before a byte was sent.
        """
        self.registry.corrupt(BLOB.digest, b"short", times=9)
        self.failureResultOf(self.open().ready(), SizeMismatch)

    def test_no_part(self) -> None:
        """
        A registry that sends no parts is of no use for one.
        """
        self.registry.ignore_range(BLOB.digest)
        self.failureResultOf(self.open(500_000, 510_000).ready(), RegistryError)

    def test_slow_client(self) -> None:
        """
        The upstream waits for a client that reads slowly.
        """
        reader = self.open()
        self.assertLess(self.registry.bodies[0].sent, MOST + HELD + 100_000)
        self.assertEqual(self.read(reader, 0, len(DATA)), DATA)

    def test_closed(self) -> None:
        """
        A client that leaves ends it.
        """
        self.registry.stall(BLOB.digest)
        reader = self.open()
        reading = reader.read(0, 10)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        reader.close()
        self.settle()
        self.assertEqual(self.registry.open_bodies(), [])
        self.assertEqual(self.transfers.transfers(), [])

    def test_empty(self) -> None:
        """
        Nothing is ready at once.
        """
        reader = PassThrough(BLOB, 5, 5, HELD, self._counter, self._close)
        self.successResultOf(reader.ready())
        self.assertEqual(self.successResultOf(reader.read(5, 1)), b"")
