# -*- test-case-name: tests.store.test_threads -*-
"""
Runs blocking work in the store's own threads.

The reactor's pool also resolves host names, which a slow disk must not delay.
Work in a thread cannot be interrupted: a file belongs to the thread until its
Deferred fires, cancelled or not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Event
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.delayed import Delayed
from xferd.errors import StoreError

T = TypeVar("T")
_log = Logger()


class Pool(Protocol):
    """
    The part of L{twisted.python.threadpool.ThreadPool} that L{Threads} uses.
    """

    def start(self) -> None:
        """
        Start.
        """

    def stop(self) -> None:
        """
        Finish all queued work and end the threads.
        """

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object] | None, func: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """
        Call C{func} in a thread, then C{onResult} with success and result.
        """


def delay_cancellation(
    work: Deferred[T], *, stop: Callable[[], object] | None = None, undo: Callable[[T], object] | None = None
) -> Deferred[T]:
    """
    Delay a cancellation until C{work} has ended.

    @param stop: called when cancelled, to make C{work} end sooner.
    @param undo: called with the result of cancelled work.
    @return: fires as C{work} does; if cancelled, fails with CancelledError
        after C{work} has ended, whatever its result.
    """
    waiter: Delayed[T] = Delayed(stop)

    def end(result: T | Failure) -> None:
        if not waiter.cancelled:
            waiter.callback(result)
            return
        try:
            if undo is not None and not isinstance(result, Failure):
                undo(result)
        except Exception:
            _log.failure("while undoing cancelled work")
        waiter.errback(CancelledError())

    _ = work.addBoth(end)
    return waiter


class Threads:
    """
    A pool of threads for blocking work.
    Life cycle: made, C{start}ed, C{stop}ped.
    """

    def __init__(self, reactor: IReactorFromThreads, pool: Pool, closed: str) -> None:
        """
        @param closed: the error message for work that comes after L{stop}.
        """
        self._reactor = reactor
        self._pool = pool
        self._closed = closed
        self._open = False
        self._running = 0
        self._idle: list[Deferred[None]] = []
        self._results: deque[tuple[Deferred[Any], Any]] = deque()
        self._delivering = False

    def start(self) -> None:
        """
        Accept work.
        """
        self._pool.start()
        self._open = True

    def run(self, work: Callable[..., T], *args: Any, stop: Event | None = None) -> Deferred[T]:
        """
        Call C{work} in a thread.  Cancelling waits for its end.

        @param stop: set when cancelled, for work that polls it.
        @return: fires with the result; fails with StoreError if the threads
            are not running.
        """
        if not self._open:
            return fail(StoreError(self._closed))
        self._running += 1
        # No canceller: its cancellation is delayed.
        working: Deferred[T] = Deferred()

        def ended(_: bool, result: Any) -> None:
            self._results.append((working, result))
            if not self._delivering:
                self._delivering = True
                self._reactor.callFromThread(self._deliver)

        self._pool.callInThreadWithCallback(ended, work, *args)
        return delay_cancellation(working, stop=None if stop is None else stop.set)

    def _deliver(self) -> None:
        """
        Deliver the results of the threads: the reactor is woken once for all that
        arrive together.
        """
        # What is appended from now on wakes the reactor again, or is delivered here.
        self._delivering = False
        while self._results:
            working, result = self._results.popleft()
            self._running -= 1
            # A Failure makes this an errback.
            working.callback(result)
            if not self._running:
                idle, self._idle = self._idle, []
                for waiter in idle:
                    waiter.callback(None)

    async def stop(self) -> None:
        """
        Refuse new work, wait for running work, and end the threads.
        """
        if not self._open:
            return
        self._open = False
        if self._running:
            # No canceller: only the store waits here, and never cancels.
            waiter: Deferred[None] = Deferred()
            self._idle.append(waiter)
            await waiter
        # The threads are idle, so that joining them takes no time.
        self._pool.stop()
