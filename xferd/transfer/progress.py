# -*- test-case-name: tests.transfer.test_progress -*-
"""
Progress: mailboxes of last values, and how fast something moves.

Nobody who looks on can slow what is looked at: news are remembered, and the
reader comes for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.interfaces.transfer import IProgressSink

PULSE: Final = 0.1
"""Seconds at least between two news of the same moving thing."""

TELLINGS: Final = 1000
"""How many watchers are told a second: a hundred of one transfer hear less often."""

WINDOW: Final = 5.0
"""Seconds over which a rate is taken."""


@implementer(IProgressSink)
class Mailbox:
    """
    The last value under each key, for one reader.

    An item may be a function, or an object with a method C{snapshot}: then
    what the reader gets is what that returns when it is taken, so that news
    which nobody reads are never made.

    Memory is one item per key.  A reader that is slow misses steps in
    between, never the last one.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._items: dict[Hashable, Any] = {}
        self._reader: Deferred[list[Any]] | None = None
        self._handing: IDelayedCall | None = None
        self._closed = False

    def put(self, key: Hashable, item: Any) -> None:
        """
        Remember C{item} as the newest under C{key}, which keeps its place if
        an older one has not been read yet.  After L{close} it is dropped.
        """
        if not self._closed:
            self._items[key] = item
            self._wake()

    def get(self) -> Deferred[list[Any]]:
        """
        Wait for news and take it, the key that has waited longest first.

        @return: fires with at least one item, or with an empty list once the
            mailbox is closed and what was in it has been taken.  Cancelling
            ends only the wait.
        @raise RuntimeError: somebody is waiting already.
        """
        if self._reader is not None:
            raise RuntimeError("a mailbox has one reader, who waits already")
        if self._items or self._closed:
            return succeed(self._take())
        self._reader = Deferred(self._forget)
        return self._reader

    def close(self) -> None:
        """
        Take no more news.  Idempotent.
        """
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        # From a clean turn: who puts must not find itself in the reader.
        if self._reader is not None and self._handing is None:
            self._handing = self._clock.callLater(0, self._hand)

    def _hand(self) -> None:
        self._handing = None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(self._take())

    def _forget(self, _: Deferred[list[Any]]) -> None:
        self._reader = None
        if self._handing is not None:
            self._handing.cancel()
            self._handing = None

    def _take(self) -> list[Any]:
        items, self._items = self._items, {}
        taken = []
        for key, item in items.items():
            snapshot = getattr(item, "snapshot", item)
            try:
                taken.append(snapshot() if callable(snapshot) else snapshot)
            except Exception:
                self._log.failure("while looking at {key}", key=key)
        return taken


class Moving(Protocol):
    """
    Something whose progress is worth telling.
    """

    def pulse(self) -> int:
        """
        Tell those who want to know.

        @return: how many they are.
        """


class Pulse:
    """
    Let moving things tell of themselves, each at most ten times a second, and
    less often the more they have to tell.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._moved: dict[Moving, None] = {}
        self._next: IDelayedCall | None = None
        self._pause = PULSE

    def moved(self, thing: Moving) -> None:
        """
        Have C{thing} tell its news soon.
        """
        self._moved[thing] = None
        if self._next is None:
            self._next = self._clock.callLater(self._pause, self._beat)

    def ended(self, thing: Moving) -> None:
        """
        C{thing} has told its last.
        """
        self._moved.pop(thing, None)
        if not self._moved and self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        self._next = None
        moved, self._moved = self._moved, {}
        told = sum(thing.pulse() for thing in moved)
        self._pause = max(PULSE, told / TELLINGS)


class Rate:
    """
    Bytes per second, over the last seconds.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, now: float, position: int) -> None:
        """
        Begin anew: what lies before C{position} was not moved now.
        """
        self._samples.clear()
        self._samples.append((now, position))

    def sample(self, now: float, position: int) -> None:
        """
        Note that C{position} bytes are there.  A few times a second will do.
        """
        if not self._samples or position < self._samples[-1][1]:
            self.begin(now, position)
        else:
            self._samples.append((now, position))
            self._prune(now)

    def value(self, now: float, position: int) -> float:
        """
        The rate, in bytes per second.
        """
        self._prune(now)
        if not self._samples:
            return 0.0
        then, before = self._samples[0]
        return max(0.0, (position - before) / (now - then)) if now > then else 0.0

    def _prune(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
