# -*- test-case-name: tests.store.test_worker_pool -*-
"""
A pool of threads with less work for each call than L{twisted.python.threadpool}: a copy
of small blobs makes three calls for each of thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any

from twisted.python.failure import Failure

_Call = tuple[Callable[[bool, Any], object] | None, Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class WorkerPool:
    """
    Threads that make calls in the order of their arrival.  A thread is started when all
    others are busy, and stays.

    Life cycle: made; C{start}ed; C{stop}ped.
    """

    def __init__(self, minthreads: int, maxthreads: int, name: str) -> None:
        """
        @param minthreads: how many threads L{start} starts.
        @param maxthreads: how many there are at most.
        """
        self._least = minthreads
        self._most = maxthreads
        self._name = name
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._lock = Lock()
        self._unfinished = 0

    def start(self) -> None:
        """
        Start.
        """
        while len(self._threads) < self._least:
            self._grow()

    def stop(self) -> None:
        """
        Finish all queued work and end the threads.
        """
        threads, self._threads = self._threads, []
        for _ in threads:
            self._calls.put(None)
        for thread in threads:
            thread.join()

    def callInThreadWithCallback(
        self, onResult: Callable[[bool, Any], object] | None, func: Callable[..., Any], *args: Any, **kw: Any
    ) -> None:
        """
        Call C{func} in a thread, then C{onResult} with success and result: a
        L{Failure} if C{func} raised.
        """
        with self._lock:
            self._unfinished += 1
            busy = self._unfinished > len(self._threads)
        if busy and len(self._threads) < self._most:
            self._grow()
        self._calls.put((onResult, func, args, kw))

    def _grow(self) -> None:
        thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            on_result, func, args, kw = call
            try:
                success, result = True, func(*args, **kw)
            except BaseException:
                success, result = False, Failure()
            with self._lock:
                self._unfinished -= 1
            if on_result is not None:
                on_result(success, result)
            # An idle thread keeps nothing of its last call.
            del call, on_result, func, args, kw, result
