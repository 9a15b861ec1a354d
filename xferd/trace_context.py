# -*- test-case-name: tests.test_trace_context -*-
"""
The trace to which a coroutine's requests belong, by W3C's "Trace Context".

A transfer or a job sets it; the registry's client, which knows nothing of either, sends it.
The context of the coroutine (L{contextvars}) connects both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

HEADER: Final = "traceparent"
"""The header of a request."""

_VALUE: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_current: ContextVar[str] = ContextVar("traceparent", default="")


def read_traceparent(value: str | None) -> str:
    """
    Check the header of a request.

    @return: the value, or an empty string for one that is invalid, which is ignored
        ("Trace Context", section 3.2).
    """
    return value if value is not None and _VALUE.fullmatch(value) else ""


def traceparent() -> str:
    """
    The value for the requests of the present coroutine, or an empty string for none.
    """
    return _current.get()


@contextmanager
def carrying(value: str) -> Iterator[None]:
    """
    Have the requests of the coroutine that enters this, and of all that it starts, carry a
    value.
    """
    token = _current.set(value)
    try:
        yield
    finally:
        try:
            _current.reset(token)
        except ValueError:
            pass  # The coroutine was abandoned: it ends in another context.
