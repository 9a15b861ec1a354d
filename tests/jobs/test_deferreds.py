"""
Tests for L{xferd.jobs.deferreds}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import StoreError
from xferd.jobs.deferreds import gather, then_cancelled, uninterrupted


class GatherTests(SynchronousTestCase):
    """
    Several waits as one.
    """

    def setUp(self) -> None:
        """
        Begin two pieces of work and wait for both.
        """
        self.works: list[Deferred[int]] = [Deferred(), Deferred()]
        self.waiting = Deferred.fromCoroutine(gather(self.works))

    def test_results(self) -> None:
        """
        The results come in the order of the works.
        """
        self.works[1].callback(2)
        self.assertNoResult(self.waiting)
        self.works[0].callback(1)
        self.assertEqual(self.successResultOf(self.waiting), [1, 2])

    def test_failure(self) -> None:
        """
        The first failure is raised as it is, at once.
        """
        self.works[1].errback(StoreError("full"))
        self.failureResultOf(self.waiting, StoreError)

    def test_cancelled(self) -> None:
        """
        Cancelling cancels all of them, and is a cancellation.
        """
        self.waiting.cancel()
        self.failureResultOf(self.waiting, CancelledError)
        self.assertTrue(all(work.called for work in self.works))


class UninterruptedTests(SynchronousTestCase):
    """
    A step that is not interrupted.
    """

    def setUp(self) -> None:
        """
        Begin a step.
        """
        self.work: Deferred[str] = Deferred()
        self.waiting = Deferred.fromCoroutine(uninterrupted(self.work))

    def test_result(self) -> None:
        """
        The result is that of the step.
        """
        self.work.callback("done")
        self.assertEqual(self.successResultOf(self.waiting), "done")

    def test_done_before(self) -> None:
        """
        A step that is over already is not waited for.
        """
        self.work.callback("done")
        again = Deferred.fromCoroutine(uninterrupted(Deferred.fromCoroutine(uninterrupted(_fired("x")))))
        self.assertEqual(self.successResultOf(again), "x")

    def test_failure(self) -> None:
        """
        A failure of the step is raised.
        """
        self.work.errback(StoreError("full"))
        self.failureResultOf(self.waiting, StoreError)

    def test_cancelled(self) -> None:
        """
        Cancellations, one or several, neither reach the step nor change the
        outcome.
        """
        self.waiting.cancel()
        self.waiting.cancel()
        self.assertNoResult(self.waiting)
        self.assertFalse(self.work.called)
        self.work.callback("done")
        self.assertEqual(self.successResultOf(self.waiting), "done")


class ThenCancelledTests(SynchronousTestCase):
    """
    A step that is not interrupted, and the last one.
    """

    def setUp(self) -> None:
        """
        Begin a step.
        """
        self.work: Deferred[str] = Deferred()
        self.waiting = Deferred.fromCoroutine(then_cancelled(self.work))

    def test_result(self) -> None:
        """
        The result is that of the step, or its failure.
        """
        self.work.callback("done")
        self.assertEqual(self.successResultOf(self.waiting), "done")

    def test_cancelled(self) -> None:
        """
        A cancellation takes effect when the step has ended.
        """
        self.waiting.cancel()
        self.assertNoResult(self.waiting)
        self.work.callback("done")
        self.failureResultOf(self.waiting, CancelledError)

    def test_cancelled_and_failed(self) -> None:
        """
        A step that fails after that fails the wait.
        """
        self.waiting.cancel()
        self.work.errback(StoreError("full"))
        self.failureResultOf(self.waiting, StoreError)


def _fired(value: str) -> Deferred[str]:
    """
    A Deferred with a result.
    """
    d: Deferred[str] = Deferred()
    d.callback(value)
    return d
