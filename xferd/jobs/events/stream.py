# -*- test-case-name: tests.jobs.events.test_stream -*-
"""
One client's stream of events.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from itertools import islice

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.interfaces.jobs import Event, IEventStream
from xferd.transfer.eventual import Eventual

INTERVAL = 0.1
"""Seconds at least between two readings of one stream, unless a job has ended."""

BATCH = 200
"""The most events of one reading; the next ones follow after a turn of the reactor."""


@implementer(IEventStream)
class EventStream:
    """
    One client's view: the newest event of each subject that it has not seen.

    A stream holds functions that make the events when the client reads: a slow
    reader costs one entry for each subject, and no work.

    @ivar jobs_only: whether it reports no layers and no transfers.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        eventual: Eventual,
        closed: Callable[[EventStream], None],
        interval: Callable[[], float] = lambda: INTERVAL,
        now: Callable[[], str] = lambda: "",
        since: str | None = None,
    ) -> None:
        """
        @param eventual: makes the calls to readers.
        @param closed: called with the stream when it is closed.
        @param interval: returns the present number of seconds between two
            readings.
        @param now: returns the position behind all changes.
        @param since: the position from which it continues, if it does.
        """
        self._clock = clock
        self._eventual = eventual
        self._closed = closed
        self._interval = interval
        self._now = now
        self.resumed = since is not None
        self.position = since or ""
        self.jobs_only = False
        self._items: dict[Hashable, Callable[[], Event]] = {}
        self._reader: Deferred[list[Event]] | None = None
        self._timer: IDelayedCall | None = None
        self._handing = False
        self._ended = False
        self._hurry = False
        self._soon = False
        self._more = False
        self._last_read = float("-inf")

    def put(self, subject: Hashable, item: Callable[[], Event], *, final: bool = False) -> None:
        """
        Remember the newest item of C{subject}, which keeps its place if an
        older one has not been read yet.

        @param final: whether it is the last one of a job: it is read behind
            all others, and without delay.
        """
        if self._ended or self._items.get(subject) is item or (self.jobs_only and not _is_job(subject)):
            return
        if final:
            self._items.pop(subject, None)
            self._hurry = True
        self._items[subject] = item
        self._wake()

    def hasten(self) -> None:
        """
        Let the events be read soon: one of them is more than progress.
        """
        if self._items and not self._soon:
            self._soon = True
            self._wake()

    def only_jobs(self) -> None:
        self.jobs_only = True
        self._items = {subject: item for subject, item in self._items.items() if _is_job(subject)}

    def get(self) -> Deferred[list[Event]]:
        """
        Wait for events and take them.
        """
        if self._reader is not None:
            raise RuntimeError("a stream has one reader, which waits already")
        if not self._more and self._pause() <= 0 and (self._items or self._ended):
            return succeed(self._take())
        reader = self._reader = Deferred(self._forget)
        self._wake()
        return reader

    def end(self) -> None:
        """
        Refuse further items: once all are read, C{get} fires with an empty list.
        """
        self._ended = True
        self._wake()

    def close(self) -> None:
        """
        End the stream.  Idempotent.
        """
        self.end()
        self._closed(self)

    def _pause(self) -> float:
        """
        Seconds until the next reading.
        """
        if self._hurry or self._ended or self._more:
            return 0.0
        interval = INTERVAL if self._soon else self._interval()
        return self._last_read + interval - self._clock.seconds()

    def _wake(self) -> None:
        """
        Have the reader called, if there is something to read, when it is time.
        """
        if self._reader is None or self._handing or not (self._items or self._ended):
            return
        pause = self._pause()
        if self._timer is not None:
            if self._timer.getTime() <= self._clock.seconds() + pause:
                return
            self._stop_timer()
        if pause <= 0:
            self._handing = True
            self._eventual.call(self._hand)
        else:
            self._timer = self._clock.callLater(pause, self._due)

    def _due(self) -> None:
        self._timer = None
        self._last_read = float("-inf")
        self._wake()

    def _hand(self) -> None:
        self._handing = False
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(self._take())

    def _take(self) -> list[Event]:
        """
        Make the items that have waited longest.
        """
        items = self._items
        self._more = len(items) > BATCH
        if self._more:
            items = {subject: items.pop(subject) for subject in list(islice(items, BATCH))}
        else:
            self._items = {}
            self._hurry = self._soon = False
            self.position = self._now()
        self._last_read = self._clock.seconds()
        events = []
        for subject, item in items.items():
            try:
                events.append(item())
            except Exception:
                self._log.failure("while making the event of {subject}", subject=subject)
        return events

    def _forget(self, _: Deferred[list[Event]]) -> None:
        """
        The reader left while it waited.
        """
        self._reader = None
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_job(subject: Hashable) -> bool:
    return isinstance(subject, tuple) and subject[0] == "job"
