"""
Tests for L{xferd.jobs.blobs.possession}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BlobUnknown, DigestMismatch, SizeMismatch, StoreError, Truncated
from xferd.interfaces.blobs import IPartial
from xferd.jobs.blobs.possession import PART, PARTS, Possession
from xferd.names import Digest
from xferd.testing.fake_registry import FakeRegistry
from xferd.testing.fake_store import FakeStore

DATA = bytes(range(251)) * 200
DIGEST = Digest.of(DATA)


class PartsTests(SynchronousTestCase):
    """
    The parts that are requested.
    """

    def test_same(self) -> None:
        """
        The same parts are requested each time, so that a client has one
        chance; another daemon and another blob have other parts.
        """
        one, other = Possession(), Possession()
        parts = one.parts(DIGEST, 1 << 40)
        self.assertEqual(one.parts(DIGEST, 1 << 40), parts)
        self.assertNotEqual(other.parts(DIGEST, 1 << 40), parts)
        self.assertNotEqual(one.parts(Digest.of(b""), 1 << 40), parts)
        self.assertNotIn(repr(one.key), repr(one))

    def test_within(self) -> None:
        """
        Each part lies within the blob, and a small blob is requested as a
        whole.
        """
        self.assertEqual(Possession().parts(DIGEST, 0), [])
        for size in (1, PARTS * PART):
            self.assertEqual(Possession().parts(DIGEST, size), [(0, size)])
        for _ in range(200):
            parts = Possession().parts(DIGEST, PARTS * PART + 1)
            self.assertEqual(len(parts), PARTS)
            for start, stop in parts:
                self.assertEqual(stop - start, PART)
                self.assertTrue(0 <= start < stop <= PARTS * PART + 1)


class ProveTests(SynchronousTestCase):
    """
    The parts that a registry has to send.
    """

    def setUp(self) -> None:
        """
        Have a blob in a file, and a registry.
        """
        self.clock = Clock()
        self.registry = FakeRegistry("registry.example", self.clock)
        self.registry.put_blob("app", DIGEST, DATA)
        self.source = self.registry.repository("app")
        self.path = self.mktemp()
        with open(self.path, "wb") as file:
            file.write(DATA)
        self.files = set(os.listdir("/proc/self/fd"))

    def prove(self) -> Deferred[None]:
        """
        Request the proof, and let everything happen that needs no time.
        """
        proving = Possession().prove(self.source, DIGEST, self.path, len(DATA))
        self.clock.advance(0)
        return proving

    def assert_closed(self) -> None:
        """
        No file and no body is open.
        """
        self.assertEqual(set(os.listdir("/proc/self/fd")), self.files)
        self.assertEqual(self.registry.open_bodies(), [])

    def test_has_it(self) -> None:
        """
        A registry that has the blob sends the parts and no more.
        """
        self.successResultOf(self.prove())
        self.assertEqual([body.sent for body in self.registry.bodies], [PART] * PARTS)
        self.assert_closed()

    def test_has_not(self) -> None:
        """
        No part is requested of a registry that has no such blob.
        """
        self.registry.remove_blob("app", DIGEST)
        self.failureResultOf(self.prove(), BlobUnknown)
        self.assertEqual(self.registry.bodies, [])
        self.assert_closed()

    def test_pretends(self) -> None:
        """
        A registry that confirms the blob and has other bytes, or too few, or
        none, proves nothing.
        """
        for data in (bytes(len(DATA)), DATA[:1000], b""):
            self.registry.put_blob("app", DIGEST, data)
            self.failureResultOf(self.prove(), DigestMismatch, SizeMismatch, Truncated)
            self.assert_closed()

    def test_ignores_ranges(self) -> None:
        """
        A registry that ignores ranges sends the blob once, and the connection
        is closed when all local bytes were compared.
        """
        self.registry.ignore_range(DIGEST, times=9)
        self.successResultOf(self.prove())
        self.assertEqual([body.sent for body in self.registry.bodies], [len(DATA)])
        self.registry.put_blob("app", DIGEST, DATA + bytes(1_000_000))
        self.successResultOf(self.prove())
        self.assertLess(self.registry.bodies[-1].sent, len(DATA) + 100_000)
        self.assert_closed()

    def test_by_parts(self) -> None:
        """
        A registry that ignores ranges does not prove by parts that it has a blob, and its
        response is dropped; another one does.
        """
        possession = Possession()
        proving = possession.prove_by_parts(self.source, DIGEST, self.path, len(DATA))
        self.clock.advance(0)
        self.assertTrue(self.successResultOf(proving))
        self.registry.ignore_range(DIGEST, times=9)
        proving = possession.prove_by_parts(self.source, DIGEST, self.path, len(DATA))
        self.clock.advance(0)
        self.assertFalse(self.successResultOf(proving))
        self.assertEqual(self.registry.bodies[-1].sent, 0)
        self.assert_closed()

    def prove_partial(self, partial: IPartial) -> None:
        """
        Have a partial blob proved.
        """
        proving = Deferred.fromCoroutine(Possession().prove_partial(self.source, partial))
        self.clock.advance(0)
        self.successResultOf(proving)

    def partial(self, behind: bytes) -> IPartial:
        """
        A partial blob with bytes behind a gap.
        """
        path = self.mktemp()
        os.makedirs(path)
        opening = FakeStore(self.clock, path).blobs.partial(DIGEST, len(DATA))
        self.clock.advance(0)
        partial: IPartial = self.successResultOf(opening)
        partial.write(DATA[:5000])
        partial.write_at(9000, behind)
        return partial

    def test_behind_a_gap(self) -> None:
        """
        Bytes behind a gap are compared, too, and all are discarded if they differ.
        """
        partial = self.partial(DATA[9000:9800])
        self.prove_partial(partial)
        self.assertEqual((partial.offset, list(partial.spans)), (5000, [(9000, 9800)]))
        self.assertEqual(len(self.registry.bodies), PARTS + 1)
        partial = self.partial(bytes(800))
        self.prove_partial(partial)
        self.assertEqual((partial.offset, list(partial.spans)), (0, []))

    def test_behind_a_gap_not_compared(self) -> None:
        """
        A registry that ignores ranges proves what is in front of the gap alone.
        """
        self.registry.ignore_range(DIGEST, times=9)
        partial = self.partial(DATA[9000:9800])
        self.prove_partial(partial)
        self.assertEqual((partial.offset, list(partial.spans)), (5000, []))

    def test_cancelled(self) -> None:
        """
        Cancelling closes open responses and files, early and late.
        """
        self.registry.stall(DIGEST)
        for size in (0, 10):
            proving = self.prove()
            if size:
                self.registry.feed(DIGEST, size)
                self.clock.advance(0)
            proving.cancel()
            self.clock.advance(0)
            self.failureResultOf(proving, CancelledError)
            self.assert_closed()

    def test_no_file(self) -> None:
        """
        A blob that cannot be read here is the store's trouble.
        """
        os.unlink(self.path)
        self.failureResultOf(self.prove(), StoreError)
        self.assert_closed()
