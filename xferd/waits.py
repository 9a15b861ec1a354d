# -*- test-case-name: tests.test_waits -*-
"""
What a coroutine waits for while it makes requests, reported to the transfer on whose
behalf it runs.

A request for a token, for instance, is made in the depth of the registry's client, which
knows nothing of transfers.  The context of the coroutine (L{contextvars}) connects both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final

TOKEN: Final = "token"  # noqa: S105 - no password
HELPER: Final = "helper"
CONFIRMATION: Final = "confirmation"
MOUNT: Final = "mount"
DISK: Final = "disk"
"""What is waited for: see L{REASONS<xferd.interfaces.job_json.REASONS>}."""

Waiting = Callable[[str, str], AbstractContextManager[None]]
"""Called with the name of what is waited for and with the host or program that has to
respond; the context ends with the wait."""

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
def waiting_for(what: str, whom: str) -> Iterator[None]:
    """
    Enter while waiting.

    @param what: one of the constants above.
    @param whom: the host or program that has to respond; for C{DISK} the reason in words.
    """
    waiting = _waiting.get()
    if waiting is None:
        yield
    else:
        with waiting(what, whom):
            yield
