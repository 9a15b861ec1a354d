# -*- test-case-name: tests.transfer.attempts -*-
"""
Attempts: one after another, until one succeeds or none can.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from math import ceil, inf
from random import Random
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from xferd.errors import SourceError, StoreError
from xferd.interfaces.transfer import ISource
from xferd.transfer.attempting import Attempting
from xferd.transfer.eventual import Eventual
from xferd.transfer.file_descriptors import PAUSE, few_left, is_shortage
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots
from xferd.transfer.sources import Origin, Sources, pause_for
from xferd.waits import reporting

T = TypeVar("T")
S = TypeVar("S", bound=ISource)

FRUITLESS: Final = 5.0
"""Seconds that an attempt without a byte must have held a slot to count against its host."""


class Postponed(Exception):
    """
    An attempt cannot continue now, for a reason that is not its source's: it is
    not counted, and its slot is released.

    @ivar reason: what it waits for.
    @ivar ready: fires, with any result, when it may be retried; cancelled
        when the transfer ends first.
    """

    def __init__(self, why: str, ready: Deferred[None], obstacle: Obstacle = Obstacle.WORK) -> None:
        """
        @param why: what it waits for, for people.
        """
        super().__init__(why)
        self.reason = Reason(obstacle, detail=why)
        self.ready = ready


class Unusable(Exception):
    """
    A source can no longer be used, for a reason that concerns neither its host
    nor another source.

    @ivar error: the reason.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Withdrawn(Exception):
    """
    The attempt is not wanted any more, and no other one is: it is not counted.
    L{Attempts.run} fails with this, and can be called again.
    """


class Attempts:
    """
    The attempts of one transfer: with which source, when, and in which slot.

    The next step follows from what is known now.  Every change only wakes the
    loop of L{run}, which decides again.

    @ivar sources: the sources.
    @ivar source: the source of the newest attempt.
    @ivar number: how many attempts have begun.
    @ivar exhaustion: the error that L{run} failed with when no source was
        left to try.
    """

    def __init__(
        self,
        owner: Attempting,
        slots: Slots,
        request: SlotRequest,
        *,
        clock: IReactorTime,
        eventual: Eventual,
        random: Random,
    ) -> None:
        """
        @param slots: where each attempt acquires a slot.
        @param request: the request to acquire them with.
        """
        self._owner = owner
        self._slots = slots
        self._request = request
        self._clock = clock
        self._eventual = eventual
        self._random = random
        self.sources = Sources()
        self.source: ISource | None = None
        self.number = 0
        self.exhaustion: Exception | None = None
        self._nap: Deferred[None] | None = None
        self._working: Deferred[Any] | None = None
        self._recalled = self._paused = self._with_peer = False
        self._newest: Exception | None = None
        self._awaited: set[Deferred[None]] = set()

    def add(self, source: ISource) -> None:
        """
        A watcher adds a source.
        """
        if self.sources.add(source):
            self._choose_again()

    def drop(self, source: ISource) -> None:
        """
        A watcher takes its source away.
        """
        if self.sources.drop(source):
            self._choose_again()

    def retry_now(self, host: str) -> None:
        """
        Make the next attempt at a host now, without its delay.
        """
        if self.sources.retry_now(host):
            self._choose_again()

    def steer(self) -> None:
        """
        A pause has begun or ended: end an attempt that may not run now, or that needs another
        source, and choose a source again.  A download whose bytes are complete continues.  The
        last bytes of an upload may still be in the kernel, so it is ended.
        """
        if self._working is None:
            self._choose_again()
        elif self._is_whole and self._owner.kind != "upload":
            return
        elif self.source is not None and self._is_unwanted(self.source):
            self._paused = True
            self._eventual.call(self._interrupt, self._working)

    def _is_unwanted(self, source: ISource) -> bool:
        """
        Whether the attempt with a source should end.
        """
        owner = self._owner
        if self._with_peer:
            return owner.pause() is not NO_REASON
        if not source.host:
            return False
        if owner.pause_of(source) is not NO_REASON:
            return True
        if owner.wants(source):
            return False
        others = self.sources.others(source, self._clock.seconds())
        return any(owner.wants(other) and owner.pause_of(other) is NO_REASON for other in others)

    def _interrupt(self, working: Deferred[Any]) -> None:
        if working is self._working:
            working.cancel()

    @property
    def _is_whole(self) -> bool:
        return self._owner.bytes_total is not None and self._owner.bytes_done >= self._owner.bytes_total

    def back_off(self) -> Reason:
        """
        The seconds until the next attempt, and the error before it.
        """
        next_try = self.sources.next_try()
        if next_try is None:
            return NO_REASON
        seconds = max(ceil(next_try - self._clock.seconds()), 1)
        host = "" if self.source is None else self.source.host
        return Reason(Obstacle.BACK_OFF, seconds, str(self._newest), next_try, host)

    def others(self, source: ISource) -> bool:
        """
        Whether there is another source that an attempt could begin with now.
        """
        others = self.sources.others(source, self._clock.seconds())
        return any(
            not self._slots.hosts.before_start(other.host, other.account) and not self._is_paused(other)
            for other in others
        )

    def _is_paused(self, source: ISource) -> bool:
        return self._owner.pause_of(source) is not NO_REASON

    # ------------------------------------------------------------- the loop

    async def run(self, attempt: Callable[[ISource], Awaitable[T]], policy: Callable[[], RetryPolicy]) -> T:
        """
        Make attempts, one at a time, each in a slot and with the source that
        is best then.

        @param policy: called for each decision, as the policy may change.
        @raise Exception: the error of the last attempt, if no other can follow.
        """
        request = self._request
        request.host_paused, request.recalled = self._host_paused, self._recall
        try:
            while not self._owner.over:
                now = self._clock.seconds()
                origin = self.sources.best(now, self._obstacle, self._is_paused)
                if origin is None:
                    self._request.release()
                    if self.sources.exhausted:
                        self.exhaustion = self._newest or SourceError("there is no source to take it from")
                        raise self.exhaustion
                    next_try = self.sources.next_try(self._is_paused)
                    if next_try is None:
                        paused = self.sources.paused(self._owner.pause_of)
                        with self._owner.wait_for(self.sources.held if paused is NO_REASON else paused):
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
            request.release()
            # They lead here: without them no cycle is left for the garbage collector.
            request.host_paused = request.recalled = None
            for ready in list(self._awaited):
                ready.cancel()

    async def one(self, attempt: Callable[[S], Awaitable[T]], source: S) -> T:
        """
        Make one attempt with a source of no watcher, which needs no slot.
        Its outcome is recorded, and counts for no other source.

        @raise Exception: the attempt's error.
        """
        while True:
            while (paused := self._owner.pause()) is not NO_REASON:
                with self._owner.wait_for(paused):
                    await self._sleep()
            self.number += 1
            self.source = source
            self._owner.attempt_begins()
            self._owner.enter("running")
            self._paused, self._with_peer = False, True
            self._working = Deferred.fromCoroutine(_awaited(attempt, source))
            try:
                result: T = await self._working
            except CancelledError as error:
                self._owner.attempt_ends(source, error)
                if self._paused and not self._owner.over:
                    continue
                raise
            except Exception as error:
                self._owner.attempt_ends(source, error, again=isinstance(error, SourceError))
                raise
            finally:
                self._working, self._with_peer = None, False
            self._owner.attempt_ends(source, None)
            return result

    async def _once(
        self, attempt: Callable[[ISource], Awaitable[T]], origin: Origin, policy: Callable[[], RetryPolicy]
    ) -> T:
        """
        Make one attempt.

        @raise _Again: it failed, and another one may follow.
        """
        if few_left():
            self._hold(origin, self._no_descriptor())
            raise _Again
        self.number += 1
        source = self.source = origin.source
        started, before = self._clock.seconds(), self._owner.bytes_done
        self._owner.attempt_begins()
        self._owner.enter("running")

        async def work() -> T:
            with reporting(self._owner.requesting):
                return await attempt(source)

        self._recalled = self._paused = False
        self._working = Deferred.fromCoroutine(work())
        try:
            result: T = await self._working
        except CancelledError as error:
            if self._paused and not self._owner.over:
                self._owner.attempt_ends(source, error)
                self._request.release()
                raise _Again from error
            if self._recalled and not self._owner.over:
                self.number -= 1
                self._request.release()
                raise _Again from error
            self._owner.attempt_ends(source, error)
            raise
        except Exception as error:
            if isinstance(error, Postponed) or is_shortage(error):
                self.number -= 1
                self._hold(origin, error if isinstance(error, Postponed) else self._no_descriptor())
                raise _Again from error
            if isinstance(error, Withdrawn):
                self.number -= 1
                raise
            if isinstance(error, Unusable):
                self._owner.attempt_ends(source, error.error)
                self.sources.lost(origin, error.error)
                self._newest = error.error
                raise _Again from error
            now = self._clock.seconds()
            if self._owner.bytes_done > before:
                self._slots.reputation.record(source.host, good=True)
            elif now - started >= FRUITLESS and not isinstance(error, StoreError):
                # An error of the disk says nothing about the host.
                self._slots.reputation.record(source.host, good=False)
            self._slots.thin.failed(source.host, error, started, self._owner.bytes_done - before)
            progress = self._owner.has_progressed()
            again = self.sources.failed(origin, error, now, policy(), self._random, progress)
            self._owner.attempt_ends(source, error, again=again)
            if not again:
                raise
            self._newest = error
            pause = pause_for(error, source, policy())
            if pause.seconds:
                self._slots.pause(pause.whom, pause.seconds)
            raise _Again from error
        finally:
            self._working = None
        self._owner.attempt_ends(source, None)
        self._slots.reputation.record(source.host, good=True)
        return result

    def _no_descriptor(self) -> Postponed:
        return Postponed("", deferLater(self._clock, PAUSE), Obstacle.FILE_DESCRIPTORS)

    def _hold(self, origin: Origin, postponed: Postponed) -> None:
        """
        Try a source no more until it is ready.
        """
        ready = postponed.ready
        self._awaited.add(ready)
        origin.held = postponed.reason

        def go_on(_: object) -> None:
            self._awaited.discard(ready)
            origin.held = None
            self._choose_again()

        _ = ready.addBoth(go_on)

    # -------------------------------------------------- slots, sleep and wake

    def _has_slot(self, source: ISource) -> bool:
        """
        Hold a slot for a source, or wait for one.  A source without a host needs
        none.
        """
        request = self._request
        if not source.host:
            request.release()
            return True
        if not request.move(source.host, source.account):
            request.release()
            request.move(source.host, source.account)
        if not (request.waiting or request.held):
            _ = self._slots.acquire(request).addCallbacks(lambda _: self._wake(), _trap_cancelled)
        return request.held

    def _obstacle(self, source: ISource) -> float:
        """
        The order of a source by the wait for its start, slots or not: 0 if it may start now.
        A source that only paused jobs add is the last choice.
        """
        if not self._owner.wants(source):
            return inf
        hosts, ours = self._slots.hosts, self._request.held and self._request.host == source.host
        wait = (hosts.paused if ours else hosts.before_start)(source.host, source.account)
        if wait:
            return 1 + wait
        return 0.0 if ours or not self._slots.hosts.closed(source.host) else 1.0

    def _recall(self) -> bool:
        """
        Release the lent slot, which another host needs: end the attempt
        and queue for another slot.  It is kept if all bytes are there and only
        have to be confirmed.
        """
        if self._is_whole or self._recalled or self._working is None:
            return False
        self._recalled = True
        self._working.cancel()
        return True

    def _host_paused(self) -> None:
        """
        Turn to another source, as the host that we wait for is paused.
        """
        if len(self.sources) > 1:
            self._wake()

    def _choose_again(self) -> None:
        """
        Choose the source again, from a clean turn.
        """
        if self._nap is not None:
            self._eventual.call(self._wake)

    async def _sleep(self, seconds: float | None = None) -> None:
        """
        Sleep until woken, or for some seconds at most.
        """
        # No canceller: only this coroutine knows it.
        nap: Deferred[None] = Deferred()
        self._nap = nap
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


async def _awaited(attempt: Callable[[S], Awaitable[T]], source: S) -> T:
    return await attempt(source)


def _trap_cancelled(failure: Failure) -> None:
    """
    The request was released while it waited.
    """
    failure.trap(CancelledError)


class _Again(Exception):
    """
    An attempt failed, and another one may follow.
    """
