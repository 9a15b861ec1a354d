# -*- test-case-name: tests.store.disk.test_free_space -*-
"""
Free space on the disk of the data directory, and work that waits for it.
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
"""Seconds for which work waits for space on a full disk."""

LEAST: Final = 4 * 1024 * 1024
"""A disk with fewer free bytes counts as full."""

SHARE: Final = 16
"""On a small disk, this fraction of it suffices instead."""

_INTERVAL: Final = 1.0
"""Seconds between two checks of the disk, while work waits."""

_MAX_INTERVAL: Final = 30.0
"""
Seconds between two checks, at most: the interval grows if work keeps failing
although the disk reports free space.
"""

_GRANTED: Final = 10.0
"""Seconds for which the space granted to a waiter counts as used, although it is still free."""


@define(eq=False)
class _Waiter:
    """
    Work that waits for free space.

    @ivar need: bytes that must be free.
    @ivar until: the time at which it fails.
    @ivar error: the error that it fails with.
    @ivar result: fires when the space is free.
    """

    need: int
    until: float
    error: DiskFull
    result: Deferred[None] = field(repr=False)


@implementer(IFreeSpace)
class FreeSpace:
    """
    The free space on one disk.

    States: I{open}; I{full}, from L{ran_out} until there is free space again;
    after L{PATIENCE} seconds I{given up}, also until there is free space.
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
        @param path: the directory that messages name.
        @param free: returns the free bytes.
        @param before: called before each check of the disk.
        @param least: returns the free bytes below which the disk is full.
        """
        self._path = path
        self._clock = clock
        self._free = free
        self._before = before
        self._least = least
        self._since: float | None = None
        self._reported = False
        self._interval = _INTERVAL
        self._reopened: float | None = None
        self._waiting: list[_Waiter] = []
        self._granted: list[tuple[float, int]] = []
        self._followers: list[Callable[[], object]] = []
        self._timer: IDelayedCall | None = None
        self._checking: Deferred[None] | None = None
        self._stopped = False

    def free(self) -> int:
        return self._free()

    def now(self) -> float:
        return self._clock.seconds()

    @property
    def why(self) -> str:
        full = f"the disk of {self._path} is full"
        if self.paused or self._waiting:
            return f"{full}; transfers continue when space is free again"
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
            self._log.warn("the disk of {path} is full: writes that need space wait", path=self._path)
            now = self._clock.seconds()
            soon = self._reopened is not None and now < self._reopened + 2 * self._interval
            self._interval = min(2 * self._interval, _MAX_INTERVAL) if soon else _INTERVAL
            self._since = now
            self._reported = False
            self._tell()
        self._check_later()

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
        Stop checking.  Waiting work fails.
        """
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        checking = self._checking
        if checking is not None:
            await checking
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.result.errback(waiter.error)

    # -------------------------------------------------------------- checks

    def _check_later(self) -> None:
        if self._timer is None and self._checking is None and not self._stopped:
            self._timer = self._clock.callLater(self._interval, self._check)

    def _check(self) -> None:
        self._timer = None
        # No canceller: stop() waits for it.
        self._checking = Deferred()
        _ = self._before().addBoth(self._checked)

    def _checked(self, _: object) -> None:
        """
        Resume the work that there is space for now.
        """
        checking, self._checking = self._checking, None
        try:
            free, least = self._free(), self._least()
        except OSError as e:
            self._log.warn("cannot look at the disk of {path}: {error}", path=self._path, error=e)
            free, least = 0, LEAST
        now = self._clock.seconds()
        if self._since is not None and free >= least:
            self._log.info("the disk of {path} has free space again", path=self._path)
            self._since, self._reopened = None, now
            self._tell()
        elif self.given_up and not self._reported:
            self._reported = True
            self._tell()
        self._grant(free, least, now)
        if self._since is not None or self._waiting:
            self._check_later()
        if checking is not None:
            checking.callback(None)

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
