"""
Tests for L{xferd.jobs.blobs.throttled}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from xferd.errors import StoreError
from xferd.interfaces.registry import IContent
from xferd.jobs.blobs.throttled import ThrottledContent
from xferd.transfer.bandwidth import Bandwidth, Flow


@implementer(IContent)
class Zeros:
    """
    Content of zeros.
    """

    size = 100_000
    broken: Exception | None = None

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        All bytes are here.
        """
        return succeed(size) if self.broken is None else fail(self.broken)

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Return all requested bytes.
        """
        return succeed(bytes(most)) if self.broken is None else fail(self.broken)


class ThrottledContentTests(SynchronousTestCase):
    """
    Content at 1000 bytes a second.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        self.clock = Clock()
        self.zeros = Zeros()
        self.bandwidth = Bandwidth(1000, self.clock)
        self.content = ThrottledContent(self.zeros, Flow(self.bandwidth))

    def test_interface(self) -> None:
        """
        It provides L{IContent}, with the size of its content.
        """
        verifyObject(IContent, self.content)
        self.assertEqual(self.content.size, 100_000)

    def test_no_limit(self) -> None:
        """
        Without a limit nothing waits.
        """
        self.bandwidth.rate = 0
        for _ in range(3):
            self.assertEqual(len(self.successResultOf(self.content.read(0, 5000))), 5000)

    def test_paced(self) -> None:
        """
        Each piece waits until the one before is paid for.
        """
        self.successResultOf(self.content.read(0, 1000))
        second = self.content.read(1000, 500)
        self.clock.advance(0.99)
        self.assertNoResult(second)
        self.clock.advance(0.01)
        self.assertEqual(len(self.successResultOf(second)), 500)
        self.clock.advance(1)
        self.successResultOf(self.content.read(1500, 1000))

    def test_cancelled(self) -> None:
        """
        A cancelled read leaves no timer; another read may follow at once.
        """
        self.successResultOf(self.content.read(0, 1000))
        second = self.content.read(1000, 500)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.successResultOf(self.content.read(0, 10))

    def test_broken(self) -> None:
        """
        An error of the content is passed on, at once or after the wait.
        """
        self.successResultOf(self.content.read(0, 1000))
        self.zeros.broken = StoreError("gone")
        second = self.content.read(1000, 500)
        self.clock.advance(1)
        self.failureResultOf(second, StoreError)
        self.failureResultOf(self.content.read(1000, 500), StoreError)

    def test_error(self) -> None:
        """
        An error of the content is recorded, to distinguish it from an error of
        the target.
        """
        self.successResultOf(self.content.ready(0, 10))
        self.assertIsNone(self.content.error)
        self.zeros.broken = StoreError("gone")
        self.failureResultOf(self.content.ready(0, 10), StoreError)
        self.assertIs(self.content.error, self.zeros.broken)
