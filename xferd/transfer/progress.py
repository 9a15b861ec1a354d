# -*- test-case-name: tests.transfer.test_progress -*-
"""
Progress: mailboxes of last values, and the rate at which something moves.

A reader cannot slow a transfer: changes are remembered until it reads them.
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
from xferd.transfer.eventual import SLICE

PULSE: Final = 0.1
"""Seconds between two notifications by the same transfer, at least."""

LOOK: Final = 1.0
"""Seconds between two looks at a transfer that runs: it may have ceased to move."""

NOTIFICATIONS: Final = 1000
"""Notifications per second: where one transfer has a hundred watchers, each gets fewer."""

WINDOW: Final = 5.0
"""Seconds over which a rate is taken."""


@implementer(IProgressSink)
class Mailbox:
    """
    The last value under each key, for one reader.

    An item may be a function, or an object with a method C{snapshot}: the
    reader gets what it returns when the item is read, so that values which are
    not read are never made.

    Memory is one item for each key.  A slow reader misses values in between,
    never the last one.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._items: dict[Hashable, Any] = {}
        self._reader: Deferred[list[Any]] | None = None
        self._delivery: IDelayedCall | None = None
        self._closed = False

    def put(self, key: Hashable, item: Any) -> None:
        """
        Remember C{item} as the newest under C{key}, which keeps its place if
        an older item was not read yet.  After L{close} it is dropped.
        """
        if not self._closed:
            self._items[key] = item
            self._wake()

    def get(self) -> Deferred[list[Any]]:
        """
        Wait for items and read them all, the key that has waited longest first.

        @return: fires with at least one item, or with an empty list once the
            mailbox is closed and all of it was read.  Cancelling ends only the
            wait.
        @raise RuntimeError: the last call still waits.
        """
        if self._reader is not None:
            raise RuntimeError("a mailbox has one reader, which waits already")
        if self._items or self._closed:
            return succeed(self._take())
        self._reader = Deferred(self._forget)
        return self._reader

    def close(self) -> None:
        """
        Accept no more items.  Idempotent.
        """
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        # From a clean turn: put does not call the reader.
        if self._reader is not None and self._delivery is None:
            self._delivery = self._clock.callLater(0, self._deliver)

    def _deliver(self) -> None:
        self._delivery = None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(self._take())

    def _forget(self, _: Deferred[list[Any]]) -> None:
        self._reader = None
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None

    def _take(self) -> list[Any]:
        items, self._items = self._items, {}
        taken = []
        for key, item in items.items():
            snapshot = getattr(item, "snapshot", item)
            try:
                taken.append(snapshot() if callable(snapshot) else snapshot)
            except Exception:
                self._log.failure("while reading {key}", key=key)
        return taken


class Moving(Protocol):
    """
    A transfer, as the pulse needs it.
    """

    def pulse(self) -> int:
        """
        Notify all watchers of the progress.

        @return: the number of watchers.
        """

    def look(self) -> bool:
        """
        Notify all watchers soon, if no byte has moved and that changes what they are shown.

        @return: whether to look again.
        """


class Pulse:
    """
    Lets transfers notify their watchers, each at most ten times a second, and
    less often the more watchers there are.  Looks each second at those that run.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._moved: dict[Moving, None] = {}
        self._beating: dict[Moving, None] = {}
        self._notified = 0
        self._next: IDelayedCall | None = None
        self._pause = PULSE
        self._running: dict[Moving, None] = {}
        self._looking: IDelayedCall | None = None

    def watch(self, thing: Moving) -> None:
        """
        Look at C{thing} each second, until it declines or has L{ended}.
        """
        self._running[thing] = None
        if self._looking is None:
            self._looking = self._clock.callLater(LOOK, self._look)

    def _look(self) -> None:
        self._looking = None
        for thing in tuple(self._running):
            if not thing.look():
                self._running.pop(thing, None)
        if self._running and self._looking is None:
            self._looking = self._clock.callLater(LOOK, self._look)

    def moved(self, thing: Moving) -> None:
        """
        Let C{thing} notify its watchers soon.
        """
        self._moved[thing] = None
        if self._next is None and not self._beating:
            self._next = self._clock.callLater(self._pause, self._beat)

    def ended(self, thing: Moving) -> None:
        """
        Let C{thing} notify no more.
        """
        self._moved.pop(thing, None)
        self._beating.pop(thing, None)
        self._running.pop(thing, None)
        if not self._running and self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if not self._moved and not self._beating and self._next is not None:
            self._next.cancel()
            self._next = None

    def _beat(self) -> None:
        self._beating, self._moved = self._moved, {}
        self._notified = 0
        self._notify()

    def _notify(self) -> None:
        """
        Let those that have moved notify, in several turns if it takes long.
        """
        self._next = None
        until = self._clock.seconds() + SLICE
        while self._beating:
            thing = next(iter(self._beating))
            try:
                self._notified += thing.pulse()
            except Exception:
                self._log.failure("while {thing} notifies its watchers", thing=thing)
            self._beating.pop(thing, None)
            if self._beating and self._clock.seconds() >= until:
                self._next = self._clock.callLater(0, self._notify)
                return
        self._pause = max(PULSE, self._notified / NOTIFICATIONS)
        if self._moved:
            self._next = self._clock.callLater(self._pause, self._beat)


class Rate:
    """
    The rate over the last L{WINDOW}.
    """

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, now: float, position: int) -> None:
        """
        Begin at C{position}: the bytes before it were not moved now.
        """
        self._samples.clear()
        self._samples.append((now, position))

    def sample(self, now: float, position: int) -> None:
        """
        Record that C{position} bytes are there; a few times a second is enough.
        """
        if not self._samples or position < self._samples[-1][1]:
            self.begin(now, position)
        else:
            self._samples.append((now, position))
            self._prune(now)

    def value(self, now: float, position: int) -> float:
        """
        The rate in bytes per second.
        """
        self._prune(now)
        if not self._samples:
            return 0.0
        then, before = self._samples[0]
        return max(0.0, (position - before) / (now - then)) if now > then else 0.0

    def _prune(self, now: float) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()
