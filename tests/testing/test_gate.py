"""
Tests for L{xferd.testing.gate}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import StoreError
from xferd.testing.gate import Gate


class GateTests(SynchronousTestCase):
    """
    Calls wait, pass and fail.
    """

    def setUp(self) -> None:
        """
        Make a gate on a stopped clock.
        """
        self.clock = Clock()
        self.gate = Gate(self.clock)

    def test_passes_in_next_turn(self) -> None:
        """
        A call passes in the turn after it was made.
        """
        turn = self.gate.enter("open", "a")
        self.assertNoResult(turn)
        self.clock.advance(0)
        self.assertIsNone(self.successResultOf(turn))

    def test_counts(self) -> None:
        """
        Calls are recorded with their keys.
        """
        for key in "aab":
            self.gate.check("open", key)
        self.assertEqual(
            (2, 1, 3, 0), (*(self.gate.count("open", k) for k in ("a", "b", None)), self.gate.count("x"))
        )
        self.assertEqual(("open", "b"), self.gate.calls[-1])

    def test_holds_all_of_a_name(self) -> None:
        """
        Held calls wait until they are released; others pass.
        """
        self.gate.hold("open")
        held, other = self.gate.enter("open", "a"), self.gate.enter("read", "a")
        self.clock.advance(0)
        self.assertNoResult(held)
        self.assertEqual(1, self.gate.waiting("open"))
        self.successResultOf(other)
        self.gate.release("open")
        self.clock.advance(0)
        self.successResultOf(held)
        self.assertEqual(0, self.gate.waiting("open"))

    def test_holds_one_key(self) -> None:
        """
        Calls with other keys pass.
        """
        self.gate.hold("open", "a")
        held, other = self.gate.enter("open", "a"), self.gate.enter("open", "b")
        self.clock.advance(0)
        self.successResultOf(other)
        self.assertNoResult(held)
        self.assertEqual((1, 0), (self.gate.waiting("open", "a"), self.gate.waiting("open", "b")))
        self.gate.release("open", "a")
        self.clock.advance(0)
        self.successResultOf(held)

    def test_mended(self) -> None:
        """
        Planted failures can be removed.
        """
        self.gate.fail("open", StoreError("no"), times=9)
        self.gate.mend()
        turn = self.gate.enter("open", "a")
        self.clock.advance(0)
        self.successResultOf(turn)

    def test_fails_as_often_as_planted(self) -> None:
        """
        A planted failure applies to a number of matching calls.
        """
        self.gate.fail("open", StoreError("no"), key="a", times=2)
        results = [self.gate.enter("open", key) for key in ("b", "a", "a", "a")]
        self.clock.advance(0)
        self.successResultOf(results[0])
        self.failureResultOf(results[1], StoreError)
        self.failureResultOf(results[2], StoreError)
        self.successResultOf(results[3])

    def test_check_raises(self) -> None:
        """
        A call that returns at once raises the planted failure.
        """
        self.gate.fail("write", StoreError("no"))
        self.assertRaises(StoreError, self.gate.check, "write")
        self.gate.check("write")
        self.assertEqual(2, self.gate.count("write"))

    def test_cancelled_while_held(self) -> None:
        """
        A held call can be cancelled.
        """
        self.gate.hold("open")
        turn = self.gate.enter("open")
        turn.cancel()
        self.failureResultOf(turn, CancelledError)
        self.assertEqual(0, self.gate.waiting("open"))
        self.gate.release("open")
        self.clock.advance(0)

    def test_cancelled_before_its_turn(self) -> None:
        """
        A call cancelled after its release stays cancelled, and uses no planted failure.
        """
        self.gate.fail("open", StoreError("no"))
        turn = self.gate.enter("open")
        turn.cancel()
        self.clock.advance(0)
        self.failureResultOf(turn, CancelledError)
        other = self.gate.enter("open")
        self.clock.advance(0)
        self.failureResultOf(other, StoreError)
