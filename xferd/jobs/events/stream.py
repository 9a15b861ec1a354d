# -*- test-case-name: tests.jobs.events.test_stream -*-
"""
What clients are told of jobs, layers, transfers and images while they change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from xferd.interfaces.jobs import Event, IEventStream
from xferd.transfer.progress import Mailbox

INTERVAL = 0.1
"""Seconds at least between two readings of one stream, unless there is a last word."""


@implementer(IEventStream)
class EventStream:
    """
    One client's view: the newest item of each subject that is news to it.

    What is put in is a way to make the item, called when the client reads: a
    reader that is slow, or gone, costs one entry for each subject and no work.
    """

    def __init__(
        self,
        clock: IReactorTime,
        closed: Callable[[EventStream], None],
        interval: Callable[[], float] = lambda: INTERVAL,
        now: Callable[[], str] = lambda: "",
        since: str | None = None,
    ) -> None:
        """
        @param closed: called with the stream when it is closed.
        @param interval: gives the seconds between two readings, as they are at
            present.
        @param now: gives the position behind all that has happened.
        @param since: the position to go on from, if it is to go on.
        """
        self._clock = clock
        self._closed = closed
        self._interval = interval
        self._now = now
        self.resumed = since is not None
        self.position = since or ""
        self._mailbox = Mailbox(clock)
        self._last_read = float("-inf")
        self._hurry = False
        self._pausing: tuple[IDelayedCall, Deferred[None]] | None = None

    def put(self, subject: Hashable, item: Callable[[], Event], *, final: bool = False) -> None:
        """
        Remember that there is news of C{subject}.
        """
        self._mailbox.put(subject, item)
        if final:
            self._wake()

    def get(self) -> Deferred[list[Event]]:
        """
        Wait for news and take it.
        """
        return Deferred.fromCoroutine(self._get())

    async def _get(self) -> list[Event]:
        """
        Leave some time since the last reading, then take what there is.
        """
        pause = self._last_read + self._interval() - self._clock.seconds()
        if pause > 0 and not self._hurry:
            wake: Deferred[None] = Deferred(self._stop_pausing)
            self._pausing = self._clock.callLater(pause, self._wake), wake
            await wake
        items: list[Event] = await self._mailbox.get()
        self._last_read = self._clock.seconds()
        self._hurry = False
        self.position = self._now()
        # A job's last word comes after those on its layers.
        return sorted(items, key=lambda item: item.kind == "job" and item.final)

    def end(self) -> None:
        """
        Nothing more will come: once it is read, C{get} gives an empty list.
        """
        self._mailbox.close()
        self._wake()

    def close(self) -> None:
        """
        End the stream.  Idempotent.
        """
        self.end()
        self._closed(self)

    def _wake(self) -> None:
        """
        Let a pausing reader go on.
        """
        self._hurry = True
        if self._pausing is not None:
            timer, wake = self._pausing
            self._pausing = None
            if timer.active():
                timer.cancel()
            wake.callback(None)

    def _stop_pausing(self, _: Deferred[None]) -> None:
        """
        The reader left while it paused.
        """
        if self._pausing is not None:
            self._pausing[0].cancel()
            self._pausing = None
