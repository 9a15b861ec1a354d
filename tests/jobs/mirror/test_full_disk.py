"""
Tests for L{xferd.jobs.mirror.room}: the disk runs full while a blob arrives.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from tests.jobs.mirror.test_blobs import BlobCase
from xferd.interfaces.mirror import IBlobReader, IFileReader


class RunsFullTests(BlobCase):
    """
    A disk that runs full while a blob is filled.
    """

    def arriving(self, count: int = 1, size: int = 100_000) -> list[IBlobReader]:
        """
        Let some bytes arrive for some clients.
        """
        self.registry.stall(self.digest)
        opening = [self.open(f"c{n}") for n in range(count)]
        self.registry.feed(self.digest, size)
        self.settle()
        return [self.successResultOf(each) for each in opening]

    def run_full(self) -> None:
        """
        Let the next bytes find no room.
        """
        self.store.blobs.free = 0
        self.registry.feed(self.digest, 1000)
        self.settle()
        self.registry.finish(self.digest)
        self.settle()

    def offsets(self) -> list[int]:
        """
        The offsets at which the blob was requested.
        """
        return [each.offset or 0 for each in self.registry.requests if each.kind == "blob"]

    def test_continues(self) -> None:
        """
        A client that waits for bytes gets the rest past the store, in the same response.
        """
        (reader,) = self.arriving()
        self.assertEqual(self.read(reader, 0, 100_000), self.data[:100_000])
        reading = reader.read(100_000, 10)
        self.assertNoResult(reading)
        self.run_full()
        self.assertEqual(self.successResultOf(reading), self.data[100_000:100_010])
        self.assertEqual(self.read(reader, 100_010), self.data[100_010:])
        self.assertIsNone(reader.path)
        reader.close()
        self.settle()
        self.assertEqual(self.offsets(), [0, 100_000])
        self.assertFalse(self.has(self.digest))
        self.assertEqual(self.mirror._blobs._locks, {})

    def test_bytes_that_are_here(self) -> None:
        """
        A client that is behind reads what is here from the file, and then the rest.
        """
        (reader,) = self.arriving()
        self.run_full()
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.assertEqual(self.offsets(), [0, 100_000])

    def test_without_a_file(self) -> None:
        """
        The part of the file that a client waits for does not come: it reads instead.
        """
        (reader,) = self.arriving()
        assert IFileReader.providedBy(reader)
        waiting = reader.part(100_000)
        self.assertNoResult(waiting)
        self.run_full()
        self.assertIsNone(self.successResultOf(waiting))
        self.assertIsNone(self.successResultOf(reader.part(100_000)))
        self.assertEqual(self.read(reader, 100_000), self.data[100_000:])
        reader.close()

    def test_one_at_a_time(self) -> None:
        """
        Several clients get the rest one after the other.  One that leaves is no
        hindrance.
        """
        readers = self.arriving(3)
        reading = [each.read(100_000, 10) for each in readers]
        self.run_full()
        self.successResultOf(reading[0])
        self.assertNoResult(reading[1])
        reading[1].cancel()
        self.failureResultOf(reading[1], CancelledError)
        readers[1].close()
        self.assertEqual(self.read(readers[0], 100_010), self.data[100_010:])
        readers[0].close()
        self.settle()
        self.assertEqual(self.successResultOf(reading[2]), self.data[100_000:100_010])
        readers[2].close()
        self.settle()
        self.assertEqual(self.mirror._blobs._locks, {})

    def test_before_the_first_byte(self) -> None:
        """
        A client that waits for the first byte gets it past the store.
        """
        self.registry.stall(self.digest)
        opening = self.open()
        self.run_full()
        reader = self.successResultOf(opening)
        self.assertEqual(self.read(reader), self.data)
        reader.close()

    def test_cancelled(self) -> None:
        """
        A client that leaves while there is room ends its wait alone.
        """
        (reader,) = self.arriving()
        reading = reader.read(100_000, 10)
        reading.cancel()
        self.failureResultOf(reading, CancelledError)
        reader.close()
        self.run_full()
        self.assertEqual(self.offsets(), [0])
