# -*- test-case-name: tests.web.test_fill_events -*-
"""
The progress of a fill of an engine, as events; the last one has its result or its error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import XferdError
from xferd.interfaces.jobs import Event
from xferd.jobs.events.stream import EventStream
from xferd.transfer.eventual import Eventual
from xferd.web.responses import error_json

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from xferd.interfaces.engines import FilledJSON
    from xferd.interfaces.jobs import IEventStream

KIND = "fill"


class FillEvents:
    """
    The events of one fill.

    Life cycle: made; L{progress} is called while the fill works; L{follow}ed.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._work: Deferred[FilledJSON] | None = None
        self._stream = EventStream(clock, Eventual(clock), self._closed)

    def progress(self, done: int, size: int) -> None:
        """
        Report the progress.

        @param done: the bytes that the engine has by now of those that were missing.
        @param size: the bytes of all of these.
        """
        self._stream.put(KIND, lambda: Event(KIND, {"bytes": done, "size": size}))

    def follow(self, work: Deferred[FilledJSON]) -> IEventStream:
        """
        Follow the fill to its end.

        @return: its events; closing the stream cancels the fill.
        """
        self._work = work
        _ = work.addBoth(self._ended)
        return self._stream

    def _ended(self, result: FilledJSON | Failure) -> None:
        """
        The fill has succeeded or failed.
        """
        data: Mapping[str, Any] = self._error(result) if isinstance(result, Failure) else result
        self._stream.put(KIND, lambda: Event(KIND, data, True), final=True)
        self._stream.end()

    def _error(self, failure: Failure) -> Mapping[str, Any]:
        """
        The JSON of an error; that of a cancellation is never read.
        """
        error = failure.value
        if isinstance(error, XferdError):
            return error_json(error.code, str(error), {"retryable": error.retryable})
        if not isinstance(error, CancelledError):
            self._log.failure("while filling an engine", failure)
        return error_json(XferdError.code, "internal error; see the daemon's log")

    def _closed(self, _: EventStream) -> None:
        """
        The client has left, or has read the last event.
        """
        if self._work is not None:
            self._work.cancel()
