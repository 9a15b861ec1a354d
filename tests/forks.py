"""
Processes that tests fork from the process that runs them.

That process has threads and has mapped much: a fork can deadlock on what
another thread held, or meet a limit of its own earlier than a small process
would.  Nothing else bounds a synchronous test, so a child that does not end is
ended, with the stack of each of its threads on standard error.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Timer

SECONDS = 60.0
"""Seconds that a forked process has."""


def fork() -> int:
    """
    Fork.  The child collects no garbage of its parent's, which would close
    descriptors that the child uses.  It is not traced: nothing of what it covers
    would be kept.

    @return: as L{os.fork}.
    """
    pid = os.fork()
    if pid == 0:
        gc.freeze()
        sys.settrace(None)
        threading.settrace(None)
        faulthandler.enable(2)
    return pid


@contextmanager
def bounded(pids: Callable[[], Iterable[int]], seconds: float = SECONDS) -> Iterator[None]:
    """
    Abort processes that have not ended within some seconds: what waits for
    them then fails.

    @param pids: reports the processes that run at that time.
    """

    def abort() -> None:
        for pid in pids():
            os.kill(pid, signal.SIGABRT)

    timer = Timer(seconds, abort)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def mapped() -> int:
    """
    The bytes that this process has mapped, which a forked one has from the
    start.
    """
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[0]) * resource.getpagesize()
