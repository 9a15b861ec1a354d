# -*- test-case-name: tests.jobs.test_pull -*-
"""
Where the progress of a job's transfers goes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from zope.interface import implementer

from xferd.interfaces.transfer import IProgressSink

R = TypeVar("R")


@implementer(IProgressSink)
class RowSink(Generic[R]):
    """
    Tells that a row of a job has changed; what it is now is asked later.
    """

    def __init__(self, changed: Callable[[R | None], None], row: R | None) -> None:
        """
        @param row: what has changed; L{None} for the job as a whole.
        """
        self._changed = changed
        self._row = row

    def put(self, key: object, item: object) -> None:  # noqa: ARG002
        """
        Something about the row has changed.
        """
        self._changed(self._row)
