# -*- test-case-name: tests.transfer.test_attempts -*-
"""
One attempt after another, until one does it or none can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from math import ceil
from random import Random
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from xferd.errors import SourceError, StoreError
from xferd.interfaces.transfer import ISource
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.file_descriptors import PAUSE, few_left, is_shortage
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slot_request import Ticket
from xferd.transfer.slots import Slots
from xferd.transfer.sources import Origin, Sources, pause_for

T = TypeVar("T")

FRUITLESS: Final = 5.0
"""Seconds of a slot that an attempt without a byte must have cost to count against its host."""


class Postponed(Exception):
    """
    An attempt cannot go on now, for a reason that is not its source's: it
    counts for nothing, and its slot is given back.

    @ivar reason: what is waited for.
    @ivar ready: fires, well or not, when it may be tried again; cancelled when
        nobody wants that any more.
    """

    def __init__(self, why: str, ready: Deferred[None], obstacle: Obstacle = Obstacle.WORK) -> None:
        """
        @param why: what is waited for, for people.
        """
        super().__init__(why)
        self.reason = Reason(obstacle, detail=why)
        self.ready = ready


class Unusable(Exception):
    """
    What a source brought cannot be used any more, for a reason that is neither
    its host's nor another source's.

    @ivar error: the reason.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Attempting(Protocol):
    """
    On whose behalf attempts are made.

    @ivar bytes_done: how many bytes are there.
    @ivar bytes_total: how many there will be, or L{None} if that is not known.
    """

    bytes_done: int
    bytes_total: int | None

    def enter(self, state: str) -> None:
        """
        The attempts are C{queued}, C{running} or C{backing-off} now.
        """

    def attempt_begins(self) -> None:
        """
        An attempt begins.
        """

    def moved_up(self) -> None:
        """
        What L{Attempts.reason} says of the queue is something else now.
        """

    def attempt_ends(self, source: ISource, error: Exception | None) -> bool:
        """
        An attempt ended, well or with C{error}.

        @return: whether enough bytes moved to reset the count of attempts.
        """

    def tries_again(self, error: Exception) -> None:
        """
        After an attempt that failed with C{error} there will be another.
        """

    def paused(self) -> None:
        """
        A host, or an account there, was paused for all transfers.
        """

    def wait_for(self, reason: Reason) -> AbstractContextManager[None]:
        """
        Be C{waiting} meanwhile.
        """


class Attempts:
    """
    The attempts of one transfer: with which source, when, and in which slot.

    What is to be done next follows from what is known now; whatever changes
    that only wakes the loop of L{run}, which looks again.

    @ivar sources: the sources there are.
    @ivar turns: those who wait.
    @ivar source: the source of the newest attempt.
    @ivar number: how many attempts have begun.
    @ivar exhaustion: the error that L{run} failed with when no source was
        left to try.
    """

    _log = Logger()

    def __init__(
        self, owner: Attempting, clock: IReactorTime, slots: Slots, eventual: Eventual, random: Random
    ) -> None:
        self._owner = owner
        self._clock = clock
        self._slots = slots
        self._eventual = eventual
        self._random = random
        self.sources = Sources()
        self.turns: Counter[Turn] = Counter()
        self.source: ISource | None = None
        self.number = 0
        self.exhaustion: Exception | None = None
        self._ticket: Ticket | None = None
        self._nap: Deferred[None] | None = None
        self._given_up = False
        self._working: Deferred[Any] | None = None
        self._recalled = False
        self._newest: Exception | None = None
        self._awaited: set[Deferred[None]] = set()

    # ------------------------------------------------------------ who waits

    def join(self, turn: Turn, source: ISource | None) -> None:
        """
        A watcher comes.
        """
        self.turns[turn] += 1
        if self._ticket is not None:
            self._ticket.add(turn)
        if source is not None and self.sources.add(source):
            self.look_again()

    def part(self, turn: Turn, source: ISource | None) -> None:
        """
        A watcher, not the last one, leaves.
        """
        self.turns[turn] -= 1
        if not self.turns[turn]:
            del self.turns[turn]
        if self._ticket is not None:
            self._ticket.discard(turn)
        if source is not None and self.sources.drop(source):
            self.look_again()

    def give_up(self) -> None:
        """
        Begin nothing more and leave the queue at once.  A slot that is held
        stays so until L{run} has ended.
        """
        self._given_up = True
        if self._ticket is not None and self._ticket.waiting:
            self._ticket.release()

    def sample(self) -> None:
        """
        The owner has moved bytes: note how far it is.
        """
        if self._ticket is not None:
            self._ticket.sample()

    def release(self) -> None:
        """
        Hold no slot, and no place in the queue.  Idempotent.
        """
        self._give_back()

    def look_again(self) -> None:
        """
        Something changed that may make another source the best one.
        """
        if self._nap is not None:
            self._eventual.call(self._wake)

    def reason(self, state: str) -> Reason:
        """
        What keeps the attempts from going on.
        """
        if state in ("queued", "running"):
            return NO_REASON if self._ticket is None else self._slots.reason(self._ticket)
        next_try = self.sources.next_try()
        if state == "backing-off" and next_try is not None:
            seconds = ceil(next_try - self._clock.seconds())
            return Reason(Obstacle.BACK_OFF, max(seconds, 1), str(self._newest))
        return NO_REASON

    def until(self, state: str) -> float | None:
        """
        The clock's time at which that is over, if it is known.
        """
        if state == "queued" and self._ticket is not None:
            return self._slots.until(self._ticket)
        return self.sources.next_try() if state == "backing-off" else None

    def others(self, source: ISource) -> bool:
        """
        Whether there is another source that an attempt could begin with now.
        """
        others = self.sources.others(source, self._clock.seconds())
        return any(not self._slots.paused(other.host, other.account) for other in others)

    # ------------------------------------------------------------- the loop

    async def run(self, attempt: Callable[[ISource], Awaitable[T]], policy: Callable[[], RetryPolicy]) -> T:
        """
        Make attempts, one at a time, each in a slot and with the source that
        is best then.

        @param policy: asked for each decision, so that it may change.
        @raise Exception: what the last attempt failed with, if no other can
            mend it.
        """
        try:
            while not self._given_up:
                now = self._clock.seconds()
                origin = self.sources.best(now, self._obstacle)
                if origin is None:
                    self._give_back()
                    if self.sources.exhausted:
                        self.exhaustion = self._newest or SourceError("there is no source to take it from")
                        raise self.exhaustion
                    next_try = self.sources.next_try()
                    if next_try is None:
                        with self._owner.wait_for(self.sources.held):
                            await self._sleep()
                    else:
                        self._owner.enter("backing-off")
                        await self._sleep(next_try - now)
                elif not self._has_slot(origin.source):
                    self._owner.enter("queued")
                    await self._sleep()
                else:
                    try:
                        result = await self._once(attempt, origin, policy)
                    except _Again:
                        continue
                    self.sources.succeeded(origin)
                    return result
            raise CancelledError
        finally:
            self._give_back()
            for ready in list(self._awaited):
                ready.cancel()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """
        Hold a slot, without attempts.
        """
        source = next(iter(self.sources.all()), None)
        try:
            while not self._has_slot(source):
                self._owner.enter("queued")
                await self._sleep()
            self._owner.enter("running")
            yield
        finally:
            self._give_back()

    async def _once(
        self, attempt: Callable[[ISource], Awaitable[T]], origin: Origin, policy: Callable[[], RetryPolicy]
    ) -> T:
        """
        Make one attempt.

        @raise _Again: it failed, and there is something left to try.
        """
        if few_left():
            self._hold(origin, self._short())
            raise _Again
        self.number += 1
        source = self.source = origin.source
        started, before = self._clock.seconds(), self._owner.bytes_done
        self._owner.attempt_begins()
        self._owner.enter("running")

        async def work() -> T:
            return await attempt(source)

        self._recalled = False
        self._working = Deferred.fromCoroutine(work())
        try:
            result: T = await self._working
        except CancelledError as error:
            if self._recalled and not self._given_up:
                self.number -= 1
                self._give_back()
                raise _Again from error
            self._owner.attempt_ends(source, error)
            raise
        except Exception as error:
            if isinstance(error, Postponed) or is_shortage(error):
                self.number -= 1
                self._hold(origin, error if isinstance(error, Postponed) else self._short())
                raise _Again from error
            if isinstance(error, Unusable):
                self._owner.attempt_ends(source, error.error)
                self.sources.lost(origin, error.error)
                self._newest = error.error
                raise _Again from error
            progress = self._owner.attempt_ends(source, error)
            now = self._clock.seconds()
            if self._owner.bytes_done > before:
                self._slots.judge(source.host, good=True)
            elif now - started >= FRUITLESS and not isinstance(error, StoreError):
                # A disk that refuses says nothing of the host.
                self._slots.judge(source.host, good=False)
            if not self.sources.failed(origin, error, now, policy(), self._random, progress):
                raise
            self._newest = error
            self._owner.tries_again(error)
            pause = pause_for(error, source, policy())
            if pause.seconds:
                self._slots.pause(pause.whom, pause.seconds)
                self._owner.paused()
            self._log.warn(
                "attempt {number} failed: {source}: {error}",
                number=self.number,
                source=source.label,
                error=error,
            )
            raise _Again from error
        self._owner.attempt_ends(source, None)
        self._slots.judge(source.host, good=True)
        return result

    def _short(self) -> Postponed:
        """
        There is no file descriptor left.
        """
        return Postponed("", deferLater(self._clock, PAUSE), Obstacle.FILE_DESCRIPTORS)

    def _hold(self, origin: Origin, postponed: Postponed) -> None:
        """
        Do not turn to a source until it may be tried again.
        """
        ready = postponed.ready
        self._awaited.add(ready)
        origin.held = postponed.reason

        def go_on(_: object) -> None:
            self._awaited.discard(ready)
            origin.held = None
            self.look_again()

        _ = ready.addBoth(go_on)

    # -------------------------------------------------- slots, sleep and wake

    def _has_slot(self, source: ISource | None) -> bool:
        """
        See to it that we hold a slot for a source, or wait for one.  What
        needs no network needs no slot.
        """
        if self._given_up:
            raise CancelledError
        if source is not None and not source.host:
            self._give_back()
            return True
        host, account = ("", None) if source is None else (source.host, source.account)
        if self._ticket is not None and not self._ticket.move(host, account):
            self._give_back()
        if self._ticket is None:
            self._ticket = self._slots.ticket(
                self.turns,
                host,
                self._wake,
                self._owner.moved_up,
                account,
                lambda: self._owner.bytes_done,
                self._recall,
            )
        return self._ticket.held

    def _obstacle(self, source: ISource) -> float:
        """
        How much keeps us from beginning with a source, free slots or not.
        """
        paused = self._slots.paused(source.host, source.account)
        if paused:
            return 1 + paused
        ours = self._ticket is not None and self._ticket.held and self._ticket.host == source.host
        return 0.0 if ours or not self._slots.closed(source.host) else 1.0

    def _recall(self) -> bool:
        """
        Another host needs the slot that was lent: break off the attempt and
        queue for another slot, unless all bytes are there and only have to be
        confirmed.
        """
        whole = self._owner.bytes_total is not None and self._owner.bytes_done >= self._owner.bytes_total
        if whole or self._recalled or self._working is None:
            return False
        self._recalled = True
        self._working.cancel()
        return True

    def _give_back(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.release()

    async def _sleep(self, seconds: float | None = None) -> None:
        """
        Wait to be woken, or for some seconds at most.
        """
        # No canceller: nothing but this coroutine knows of it.
        nap = self._nap = Deferred[None]()
        timer = None if seconds is None else self._clock.callLater(seconds, self._wake)
        try:
            await nap
        finally:
            self._nap = None
            if timer is not None and timer.active():
                timer.cancel()

    def _wake(self) -> None:
        nap, self._nap = self._nap, None
        if nap is not None:
            nap.callback(None)


class _Again(Exception):
    """
    An attempt failed, and there is something left to try.
    """
