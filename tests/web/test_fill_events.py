"""
Tests for L{xferd.web.fill_events}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import EngineFailed
from xferd.interfaces.engines import FilledJSON
from xferd.web.fill_events import FillEvents

FILLED = FilledJSON(image="a", namespaces=["default"], blobs=3, written=2, bytes=7)


class FillEventsTests(SynchronousTestCase):
    """
    L{FillEvents}.
    """

    def setUp(self) -> None:
        """
        Follow a fill.
        """
        self.clock = Clock()
        self.cancelled = 0
        self.work: Deferred[FilledJSON] = Deferred(self.cancel)
        self.events = FillEvents(self.clock)
        self.stream = self.events.follow(self.work)

    def cancel(self, _: object) -> None:
        """
        Count a cancellation.
        """
        self.cancelled += 1

    def read(self) -> list[tuple[Any, bool]]:
        """
        The next events.
        """
        getting = self.stream.get()
        self.clock.pump([0.2] * 5)
        return [(event.data, event.final) for event in self.successResultOf(getting)]

    def test_progress(self) -> None:
        """
        A reader gets the newest progress, and the result at the end.
        """
        self.events.progress(0, 7)
        self.events.progress(3, 7)
        self.assertEqual(self.read(), [({"bytes": 3, "size": 7}, False)])
        waiting = self.stream.get()
        self.clock.pump([0.2] * 5)
        self.assertNoResult(waiting)
        self.work.callback(FILLED)
        self.clock.pump([0.2] * 5)
        self.assertEqual([(e.data, e.final) for e in self.successResultOf(waiting)], [(FILLED, True)])
        self.assertEqual(self.read(), [])
        self.stream.close()
        self.assertEqual(self.cancelled, 0)

    def test_error(self) -> None:
        """
        The last event has the error, with its code.
        """
        self.work.errback(EngineFailed("containerd node: no"))
        error = {"code": "ENGINE_FAILED", "message": "containerd node: no", "detail": {"retryable": False}}
        self.assertEqual(self.read(), [({"error": error}, True)])
        self.assertEqual(self.read(), [])

    def test_bug(self) -> None:
        """
        The text of any other error is in the log alone.
        """
        self.work.errback(ValueError("secret"))
        ((data, final),) = self.read()
        self.assertEqual((data["error"]["message"], final), ("internal error; see the daemon's log", True))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_closed(self) -> None:
        """
        A client that leaves cancels the fill.
        """
        self.stream.close()
        self.assertEqual(self.cancelled, 1)
        self.assertEqual(self.read(), [])
