# -*- test-case-name: tests.store.disk.test_trash -*-
"""
Removes files and trees: they are renamed into C{staging/} at once, and removed
later.

Removing a tree may take many seconds.  One thread removes them one after the
other, so that no commit is delayed.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from itertools import count
from secrets import token_hex
from threading import Event

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.store.disk.file_system import remove, trying_to
from xferd.store.disk.reserve import Reserve
from xferd.store.paths import Paths
from xferd.store.threads import Threads


class Trash:
    """
    The files and trees to remove.  Those that are left at the end are swept at
    the next start.
    """

    _log = Logger()

    def __init__(self, paths: Paths, threads: Threads, reserve: Reserve) -> None:
        self._paths = paths
        self._reserve = reserve
        self._threads = threads
        # Process IDs are used again, also while what an earlier process left is here.
        self._name = token_hex(4)
        self._numbers = count()
        self._stop = Event()
        self._waiting: deque[tuple[str, int | None]] = deque()
        self._busy = False
        self._emptying: list[Deferred[None]] = []

    def throw(self, path: str, fd: int | None = None) -> None:
        """
        Move a file or directory away, and remove it later.

        @param fd: a descriptor to close after that: closing the last one of a
            large removed file takes long.
        @raise StoreError: the disk refuses.
        """
        target = os.path.join(self._paths.staging, f"gone-{self._name}-{next(self._numbers)}")
        with trying_to(f"move {path} away"):
            # C{staging/} may need space for one more entry.
            self._reserve.spend(os.rename, path, target)
        self.remove([target], fd)

    def remove(self, paths: Iterable[str], fd: int | None = None) -> None:
        """
        Remove paths that are already in C{staging/}.
        """
        self._waiting.extend((path, fd) for path in paths)
        if not self._busy:
            self._next()

    def emptied(self) -> Deferred[None]:
        """
        Wait until everything in the trash is removed, or left to
        the next start.  Cancelling ends the wait.
        """
        if not self._busy:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._emptying.remove)
        self._emptying.append(waiter)
        return waiter

    def stop(self) -> None:
        """
        Leave the remaining removals to the next start.
        """
        self._stop.set()

    def _next(self) -> None:
        while self._stop.is_set() and self._waiting:
            _, fd = self._waiting.popleft()
            if fd is not None:
                os.close(fd)
        self._busy = bool(self._waiting)
        if not self._busy:
            emptying, self._emptying = self._emptying, []
            for waiter in emptying:
                waiter.callback(None)
        else:
            path, fd = self._waiting.popleft()
            done: Deferred[None] = self._threads.run(_remove, path, fd, self._stop)
            _ = done.addErrback(self._failed, path).addCallback(lambda _: self._next())

    def _failed(self, reason: Failure, path: str) -> None:
        # The next start tries again.
        self._log.warn("cannot remove {path}: {error}", path=path, error=reason.value)


def _remove(path: str, fd: int | None, stop: Event) -> None:
    try:
        if not stop.is_set():
            remove(path, stop)
    finally:
        if fd is not None:
            os.close(fd)
