# -*- test-case-name: tests.test_waits -*-
"""
What a coroutine waits for while it makes requests, reported to the transfer on whose
behalf it runs.

A request for a token, for instance, is made in the depth of the registry's client, which
knows nothing of transfers.  The context of the coroutine (L{contextvars}) connects both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar, copy_context
from typing import Final

from twisted.internet.interfaces import IReactorTime

TOKEN: Final = "token"  # noqa: S105 - no password
HELPER: Final = "helper"
CONFIRMATION: Final = "confirmation"
MOUNT: Final = "mount"
DISK: Final = "disk"
CLIENT: Final = "client"
MEMORY: Final = "memory"
"""What is waited for: see L{REASONS<xferd.interfaces.job_json.REASONS>}."""

Waiting = Callable[[str, str, float], AbstractContextManager[None]]
"""Called with the name of what is waited for, with the host or program that has to
respond, and with the seconds since the wait began; the context ends with the wait."""

_waiting: ContextVar[Waiting | None] = ContextVar("waiting", default=None)


@contextmanager
def reporting(waiting: Waiting) -> Iterator[None]:
    """
    Report the waits of the coroutine that enters this, and of all that it starts.
    """
    token = _waiting.set(waiting)
    try:
        yield
    finally:
        try:
            _waiting.reset(token)
        except ValueError:
            pass  # The coroutine was abandoned: it ends in another context.


@contextmanager
def waiting_for(what: str, whom: str, ago: float = 0.0) -> Iterator[None]:
    """
    Enter while waiting.

    @param what: one of the constants above.
    @param whom: the host or program that has to respond; for C{DISK} the reason in words.
    @param ago: the seconds since the wait began.
    """
    waiting = _waiting.get()
    if waiting is None:
        yield
    else:
        with waiting(what, whom, ago):
            yield


@contextmanager
def waiting_long(clock: IReactorTime, seconds: float, what: str, whom: str) -> Iterator[None]:
    """
    Enter while waiting for what usually comes soon: the wait is reported once it has
    lasted some seconds, with its true beginning.

    @param what: as for L{waiting_for}, like C{whom}.
    """
    with ExitStack() as wait:
        # The timer fires outside of the coroutine's context.
        late = clock.callLater(
            seconds, copy_context().run, wait.enter_context, waiting_for(what, whom, seconds)
        )
        try:
            yield
        finally:
            if late.active():
                late.cancel()
