"""
Tests for L{xferd.store.worker_pool}.
"""

from __future__ import annotations

from threading import Event, current_thread
from typing import Any, cast
from weakref import ref

from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from xferd.store.worker_pool import WorkerPool

PATIENCE = 20.0
"""Seconds for which a test waits for a thread."""


class Thing:
    """
    Something that a call has.
    """


class WorkerPoolTests(SynchronousTestCase):
    """
    L{WorkerPool} makes calls in threads.
    """

    def setUp(self) -> None:
        """
        Have no results.
        """
        self.results: list[tuple[bool, Any]] = []

    def pool(self, least: int, most: int) -> WorkerPool:
        """
        Start a pool.
        """
        pool = WorkerPool(least, most, "test")
        pool.start()
        return pool

    def call(self, pool: WorkerPool, work: Any, *args: Any, **kw: Any) -> None:
        """
        Make a call.
        """
        pool.callInThreadWithCallback(lambda *result: self.results.append(result), work, *args, **kw)

    def test_results(self) -> None:
        """
        Results and errors arrive in the order of the calls, and C{stop} waits for all.
        """
        pool = self.pool(0, 1)
        self.call(pool, divmod, 7, 2)
        self.call(pool, int, "x")
        self.call(pool, int, "11", base=2)
        pool.callInThreadWithCallback(None, len, "")
        pool.stop()
        (first, (success, failure), last) = self.results
        self.assertEqual((first, last), ((True, (3, 1)), (True, 3)))
        self.assertFalse(success)
        self.assertIsInstance(failure, Failure)
        self.assertTrue(failure.check(ValueError))

    def test_threads(self) -> None:
        """
        There is one thread for each call that has not ended, up to the most.
        """
        pool, gate = self.pool(0, 3), Event()
        started = [Event() for _ in range(5)]

        def work(number: int) -> str:
            started[number].set()
            gate.wait(PATIENCE)
            return current_thread().name

        for number in range(5):
            self.call(pool, work, number)
        for event in started[:3]:
            self.assertTrue(event.wait(PATIENCE))
        self.assertFalse(any(event.is_set() for event in started[3:]))
        gate.set()
        pool.stop()
        self.assertEqual({name for _, name in self.results}, {"test-0", "test-1", "test-2"})
        self.assertEqual(len(self.results), 5)

    def test_reused(self) -> None:
        """
        A thread that is idle makes the next call.
        """
        pool = self.pool(0, 3)
        for _ in range(4):
            ended = Event()
            self.call(pool, _name)
            pool.callInThreadWithCallback(lambda *_, ended=ended: ended.set(), len, "")
            self.assertTrue(ended.wait(PATIENCE))
        pool.stop()
        self.assertLessEqual({name for _, name in self.results}, {"test-0", "test-1"})

    def test_least(self) -> None:
        """
        Some threads are there from the beginning; a pool can be started again.
        """
        pool = self.pool(2, 2)
        self.assertEqual(len(pool._threads), 2)
        pool.stop()
        pool.start()
        self.call(pool, len, "abc")
        pool.stop()
        self.assertEqual(self.results, [(True, 3)])

    def test_nothing_kept(self) -> None:
        """
        An idle thread keeps neither the arguments nor the result of its last call.
        """
        pool, kept = WorkerPool(0, 1, "test"), []

        class Calls:
            """
            One call.  A thread that asks for another one is idle.
            """

            def __init__(self) -> None:
                thing = Thing()
                self.thing = ref(thing)
                self.calls: list[Any] = [(lambda *_: None, lambda thing: thing, (thing,), {})]

            def get(self) -> Any:
                """
                The call; then the end of the thread.
                """
                if self.calls:
                    return self.calls.pop()
                kept.append(self.thing())
                return None

        pool._calls = cast(Any, Calls())
        pool._work()
        self.assertEqual(kept, [None])


def _name() -> str:
    """
    The name of the thread.
    """
    return current_thread().name
