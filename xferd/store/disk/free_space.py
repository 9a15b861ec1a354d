# -*- test-case-name: tests.store.disk.test_free_space -*-
"""
Room on the disk of the data directory: whether there is any, and waiting for
some.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import DiskFull
from xferd.interfaces.store import IFreeSpace

PATIENCE: Final = 600.0
"""Seconds for which work waits on a full disk."""

LEAST: Final = 4 * 1024 * 1024
"""A disk with fewer free bytes is full."""

SHARE: Final = 16
"""This fraction of a disk is enough, where that is less."""

_LOOK: Final = 1.0
"""Seconds from one look at the disk to the next, while something waits for it."""

_SELDOM: Final = 30.0
"""
The most that these become, where work fails again and again although the disk
has room by its own account.
"""

_GRANTED: Final = 10.0
"""Seconds for which room that a waiter needs counts as taken although it is still free."""


@define(eq=False)
class _Waiter:
    """
    Work that waits for room.

    @ivar need: bytes that must be free.
    @ivar until: the time at which it fails.
    @ivar error: what it fails with.
    @ivar result: fires when there is room.
    """

    need: int
    until: float
    error: DiskFull
    result: Deferred[None] = field(repr=False)


@implementer(IFreeSpace)
class FreeSpace:
    """
    The room on one disk.

    States: I{open}; I{full}, from L{ran_out} until there is room again; after
    L{PATIENCE} seconds I{given up}, which also lasts until there is room.
    """

    _log = Logger()
    patience = PATIENCE

    def __init__(
        self,
        path: str,
        clock: IReactorTime,
        *,
        free: Callable[[], int],
        before: Callable[[], Deferred[None]] = lambda: succeed(None),
        least: Callable[[], int] = lambda: LEAST,
    ) -> None:
        """
        @param path: what is on the disk, for people.
        @param free: returns the bytes that are free.
        @param before: called before each look at the disk.
        @param least: returns the bytes below which it is full.
        """
        self._path = path
        self._clock = clock
        self._free = free
        self._before = before
        self._least = least
        self._since: float | None = None
        self._reported = False
        self._interval = _LOOK
        self._reopened: float | None = None
        self._waiting: list[_Waiter] = []
        self._granted: list[tuple[float, int]] = []
        self._followers: list[Callable[[], object]] = []
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self._stopped = False

    def free(self) -> int:
        return self._free()

    def now(self) -> float:
        return self._clock.seconds()

    @property
    def why(self) -> str:
        full = f"the disk of {self._path} is full"
        if self.paused or self._waiting:
            return f"{full}; transfers go on when there is room"
        try:
            enough = self._since is None and self._free() >= self._least()
        except OSError:
            return ""
        return "" if enough else full

    @property
    def paused(self) -> bool:
        return self._since is not None and not self.given_up

    @property
    def given_up(self) -> bool:
        return self._since is not None and self._clock.seconds() >= self._since + PATIENCE

    def follow(self, changed: Callable[[], object]) -> None:
        self._followers.append(changed)

    def ran_out(self) -> None:
        if self._since is None and not self._stopped:
            self._log.warn("the disk of {path} is full: what needs room waits", path=self._path)
            now = self._clock.seconds()
            soon = self._reopened is not None and now < self._reopened + 2 * self._interval
            self._interval = min(2 * self._interval, _SELDOM) if soon else _LOOK
            self._since = now
            self._reported = False
            self._tell()
        self._look_later()

    def wait(self, error: DiskFull, since: float | None = None) -> Deferred[None]:
        self.ran_out()
        now = self._clock.seconds()
        until = now + PATIENCE if since is None else since + PATIENCE
        if self._stopped or self.given_up or until <= now:
            return fail(error)
        result: Deferred[None] = Deferred(lambda _: self._waiting.remove(waiter))
        waiter = _Waiter(error.need, until, error, result)
        self._waiting.append(waiter)
        return result

    async def stop(self) -> None:
        """
        Look no more; what waits fails.
        """
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        looking = self._looking
        if looking is not None:
            await looking
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.result.errback(waiter.error)

    # ------------------------------------------------------------- looking

    def _look_later(self) -> None:
        if self._timer is None and self._looking is None and not self._stopped:
            self._timer = self._clock.callLater(self._interval, self._look)

    def _look(self) -> None:
        self._timer = None
        # No canceller: stop() waits for it.
        self._looking = Deferred()
        _ = self._before().addBoth(self._see)

    def _see(self, _: object) -> None:
        """
        Go on with what there is room for now.
        """
        looking, self._looking = self._looking, None
        try:
            free, least = self._free(), self._least()
        except OSError as e:
            self._log.warn("cannot look at the disk of {path}: {error}", path=self._path, error=e)
            free, least = 0, LEAST
        now = self._clock.seconds()
        if self._since is not None and free >= least:
            self._log.info("the disk of {path} has room again", path=self._path)
            self._since, self._reopened = None, now
            self._tell()
        elif self.given_up and not self._reported:
            self._reported = True
            self._tell()
        self._grant(free, least, now)
        if self._since is not None or self._waiting:
            self._look_later()
        if looking is not None:
            looking.callback(None)

    def _grant(self, free: int, least: int, now: float) -> None:
        self._granted = [(when, need) for when, need in self._granted if when > now - _GRANTED]
        for waiter in list(self._waiting):
            if now >= waiter.until:
                self._waiting.remove(waiter)
                waiter.result.errback(waiter.error)
            elif free - sum(need for _, need in self._granted) >= max(waiter.need, least):
                self._waiting.remove(waiter)
                self._granted.append((now, waiter.need))
                waiter.result.callback(None)

    def _tell(self) -> None:
        for changed in self._followers:
            try:
                changed()
            except Exception:
                self._log.failure("while reporting a full disk")
