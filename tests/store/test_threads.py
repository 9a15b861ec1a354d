"""
Tests for L{xferd.store.threads}.
"""

from __future__ import annotations

from threading import Event, current_thread
from typing import cast

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from xferd.errors import StoreError
from xferd.store.threads import Threads, delay_cancellation
from xferd.testing.inline_threads import InlinePool, InlineReactor


class DelayCancellationTests(SynchronousTestCase):
    """
    Waits that cancellation does not shorten.
    """

    def setUp(self) -> None:
        """
        Start work in a thread.
        """
        self.work: Deferred[int] = Deferred()

    def test_result(self) -> None:
        """
        The result comes through.
        """
        waiting = delay_cancellation(self.work)
        self.assertNoResult(waiting)
        self.work.callback(3)
        self.assertEqual(self.successResultOf(waiting), 3)

    def test_failure(self) -> None:
        """
        A failure is passed on, too.
        """
        waiting = delay_cancellation(self.work)
        self.work.errback(StoreError("no"))
        self.failureResultOf(waiting, StoreError)

    def test_over_already(self) -> None:
        """
        Finished work is not waited for.
        """
        self.failureResultOf(delay_cancellation(fail(StoreError("no"))), StoreError)

    def test_cancelled(self) -> None:
        """
        Cancelled, however often, it waits; then it has been cancelled.
        """
        stopped = []
        waiting = delay_cancellation(self.work, stop=lambda: stopped.append(True))
        for _ in range(3):
            waiting.cancel()
            self.assertNoResult(waiting)
        self.assertTrue(stopped)
        self.work.callback(3)
        self.failureResultOf(waiting, CancelledError)

    def test_cancelled_and_failed(self) -> None:
        """
        A failure of cancelled work is dropped.
        """
        waiting = delay_cancellation(self.work)
        waiting.cancel()
        self.work.errback(StoreError("no"))
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_undo(self) -> None:
        """
        The result of cancelled work is undone.
        """
        undone: list[int] = []
        waiting = delay_cancellation(self.work, undo=undone.append)
        waiting.cancel()
        self.work.callback(3)
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(undone, [3])

    def test_undo_fails(self) -> None:
        """
        An error while undoing is logged, and ends the wait all the same.
        """
        waiting = delay_cancellation(self.work, undo=lambda result: 1 // (result - result))
        waiting.cancel()
        self.work.callback(3)
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancelled_late(self) -> None:
        """
        Cancelling what has a result changes nothing.
        """
        undone: list[int] = []
        waiting = delay_cancellation(self.work, undo=undone.append)
        self.work.callback(3)
        waiting.cancel()
        self.assertEqual(self.successResultOf(waiting), 3)
        self.assertEqual(undone, [])


class ThreadsTests(SynchronousTestCase):
    """
    Work in threads.
    """

    def setUp(self) -> None:
        """
        Start threads that work when the test releases them.
        """
        self.pool = InlinePool()
        self.threads = Threads(cast(IReactorFromThreads, InlineReactor()), self.pool, "it is shut")

    def test_not_started(self) -> None:
        """
        Before the start there is only an error.
        """
        self.assertEqual(str(self.failureResultOf(self.threads.run(int), StoreError).value), "it is shut")
        self.successResultOf(Deferred.fromCoroutine(self.threads.stop()))

    def test_run(self) -> None:
        """
        Work gets its arguments, and returns its result or its failure.
        """
        self.threads.start()
        self.assertEqual(self.successResultOf(self.threads.run(divmod, 7, 2)), (3, 1))
        self.failureResultOf(self.threads.run(divmod, 7, 0), ZeroDivisionError)

    def test_cancel(self) -> None:
        """
        Cancelled work is told to stop, and awaited.
        """
        self.threads.start()
        self.pool.held = True
        stop = Event()
        result = self.threads.run(stop.is_set, stop=stop)
        result.cancel()
        self.assertTrue(stop.is_set())
        self.assertNoResult(result)
        self.pool.release()
        self.failureResultOf(result, CancelledError)

    def test_stop(self) -> None:
        """
        The end waits for running work and refuses new work.
        """
        self.threads.start()
        self.pool.held = True
        results = [self.threads.run(int), self.threads.run(int)]
        stopped = Deferred.fromCoroutine(self.threads.stop())
        self.failureResultOf(self.threads.run(int), StoreError)
        self.pool.step()
        self.assertNoResult(stopped)
        self.pool.release()
        self.successResultOf(stopped)
        self.assertFalse(self.pool.running)
        self.assertEqual([self.successResultOf(r) for r in results], [0, 0])


class RealThreadsTests(TestCase):
    """
    Work in real threads.
    """

    async def test_thread(self) -> None:
        """
        Work is done in a thread of the pool, and the result comes back to the
        reactor's.
        """
        from twisted.internet import reactor  # noqa: PLC0415

        threads = Threads(cast(IReactorFromThreads, reactor), ThreadPool(0, 1, "disk"), "it is shut")
        threads.start()
        here = current_thread()
        there = await threads.run(current_thread)
        self.assertIsNot(there, here)
        self.assertIs(current_thread(), here)
        await threads.stop()
