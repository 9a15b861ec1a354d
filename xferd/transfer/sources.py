# -*- test-case-name: tests.transfer.test_sources -*-
"""
Sources: which one a transfer tries next, by the outcomes of its attempts.

Pure: it has no clock and no Deferreds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from random import Random

from attrs import define, field, frozen

from xferd.errors import (
    ConnectionFailed,
    ContentMismatch,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    XferdError,
    causes,
    is_retryable,
)
from xferd.interfaces.transfer import HostAccount, ISource
from xferd.transfer.pauses import ROUNDING
from xferd.transfer.reason import NO_REASON, Reason
from xferd.transfer.retry import RetryPolicy


@define(eq=False)
class Origin:
    """
    A source, and the outcomes of its attempts.

    @ivar source: the source of the first watcher.
    @ivar order: counted up as sources arrive.
    @ivar watchers: how many watchers added an equal one.
    @ivar failures: the failures in a row, its own and those of sources with the
        same host or account that concern it.
    @ivar not_before: the clock's time before which it is not tried.
    @ivar error: the newest failure.
    @ivar marked: whether it sent bytes that do not have the digest.
    @ivar dead: whether it is not tried any more.
    @ivar held: what it waits for, while it cannot continue for reasons that are
        not its own; L{None} otherwise.
    """

    source: ISource
    order: int
    watchers: int = 0
    failures: int = 0
    not_before: float = 0.0
    error: Exception | None = None
    marked: bool = False
    dead: bool = False
    held: Reason | None = None

    @property
    def host_account(self) -> HostAccount:
        """
        Its account at its host.
        """
        return HostAccount(self.source.host, self.source.account)


def _never(_: ISource) -> bool:
    return False


@define(eq=False)
class Sources:
    """
    The sources of one transfer, one for each identity.
    """

    _origins: dict[Hashable, Origin] = field(factory=dict, init=False)
    _came: int = field(default=0, init=False)
    _mismatches: int = field(default=0, init=False)

    def add(self, source: ISource) -> bool:
        """
        Add the source of a watcher.

        @return: whether no equal one was there.
        """
        origin = self._origins.get(source.identity)
        if origin is None:
            self._came += 1
            origin = self._origins[source.identity] = Origin(source, self._came)
        origin.watchers += 1
        return origin.watchers == 1

    def drop(self, source: ISource) -> bool:
        """
        Remove the source of a watcher.  It is not tried any more, unless another
        watcher added an equal one.

        @return: whether no equal one is left.
        """
        origin = self._origins[source.identity]
        origin.watchers -= 1
        if origin.watchers:
            return False
        del self._origins[source.identity]
        return True

    def __len__(self) -> int:
        return len(self._origins)

    def all(self) -> list[ISource]:
        """
        The sources, in the order of their arrival.
        """
        return [origin.source for origin in self._origins.values()]

    def error_of(self, source: ISource | None) -> Exception | None:
        """
        The newest failure of a source.
        """
        origin = None if source is None else self._origins.get(source.identity)
        return None if origin is None else origin.error

    # ------------------------------------------------------------------ choice

    @property
    def exhausted(self) -> bool:
        """
        Whether no source may be tried, now or later.
        """
        return all(origin.dead for origin in self._origins.values())

    def next_try(self, paused: Callable[[ISource], bool] = _never) -> float | None:
        """
        The clock's time at which the first source may be tried, or L{None} if it
        is not known, as all are held or C{paused}.
        """
        living = (o for o in self._origins.values() if not (o.dead or o.held))
        return min((o.not_before for o in living if not paused(o.source)), default=None)

    def paused(self, reason: Callable[[ISource], Reason]) -> Reason:
        """
        Why the first source that is not dead may not be tried at all, if it may not.

        @param reason: returns why a source may not be tried.
        """
        living = (reason(o.source) for o in self._origins.values() if not (o.dead or o.held))
        return next((found for found in living if found is not NO_REASON), NO_REASON)

    @property
    def held(self) -> Reason:
        """
        What the first held source waits for.
        """
        return next((o.held for o in self._origins.values() if o.held and not o.dead), NO_REASON)

    def others(self, source: ISource, now: float) -> list[ISource]:
        """
        The sources that may be tried now in place of C{source}.
        """
        return [
            o.source
            for o in self._origins.values()
            if o.source.identity != source.identity and _may_try(o, now) and not o.marked
        ]

    def best(
        self,
        now: float,
        obstacle: Callable[[ISource], float],
        paused: Callable[[ISource], bool] = _never,
    ) -> Origin | None:
        """
        The source to try: first those without wrong bytes, then those that may
        begin now, then the fewest failures, then the order of arrival.

        @param obstacle: returns 0 if a source may begin now; the longer it may
            not, the more.
        @param paused: whether a source may not be tried at all.
        @return: L{None} if none may be tried now.
        """
        return min(
            (o for o in self._origins.values() if _may_try(o, now) and not paused(o.source)),
            key=lambda o: (o.marked, obstacle(o.source), o.failures, o.order),
            default=None,
        )

    def retry_now(self, host: str) -> bool:
        """
        Let the sources of a host be tried now, whatever their failures.

        @return: whether the next try is sooner.
        """
        waiting = [o for o in self._origins.values() if o.source.host == host and o.not_before]
        for origin in waiting:
            origin.not_before = 0.0
        return bool(waiting)

    # ---------------------------------------------------------------- outcomes

    def succeeded(self, origin: Origin) -> None:
        """
        An attempt has succeeded.
        """
        origin.failures = 0

    def lost(self, origin: Origin, error: Exception) -> None:
        """
        Try a source no more; no other is concerned.
        """
        origin.error = error
        origin.dead = True

    def failed(
        self,
        origin: Origin,
        error: Exception,
        now: float,
        policy: RetryPolicy,
        random: Random,
        progress: bool,
    ) -> bool:
        """
        An attempt has failed.

        @param progress: whether it made L{real progress
            <xferd.real_progress.is_real_progress>}.
        @return: whether a further attempt, with this source or another, can
            succeed.  If not, C{error} is the error of the transfer.
        """
        origin.error = error
        final = [e for e in causes(error) if isinstance(e, XferdError) and not e.retryable]
        if not is_retryable(error):
            if not final or not all(isinstance(e, SourceError) for e in final):
                return False
            if any(isinstance(e, ContentMismatch) for e in final):
                self._mismatched(origin)
            else:
                origin.dead = True
            return True
        pause = pause_for(error, origin.source, policy)
        wanted = retry_after_of(error)
        concerned = [
            other
            for other in {origin, *self._origins.values()}
            if pause.whom in (other.host_account, other.source.host)
        ]
        for other in concerned:
            if not other.dead:
                other.failures = 1 if progress and policy.reset_on_progress else other.failures + 1
                other.error = error
                other.dead = other.failures >= policy.attempts or wanted > policy.patience
        delay = max(policy.delay(origin.failures, random), wanted)
        for other in concerned:
            other.not_before = max(other.not_before, now + delay)
        return True

    def _mismatched(self, origin: Origin) -> None:
        """
        Try the other sources first; without any, this one once more from scratch.
        """
        origin.marked = True
        self._mismatches += 1
        if self._mismatches > 1:
            origin.dead = True
            for other in self._origins.values():
                other.dead = other.dead or other.marked


def _may_try(origin: Origin, now: float) -> bool:
    return not (origin.dead or origin.held) and origin.not_before <= now + ROUNDING


@frozen
class Pause:
    """
    The pause that a failure means for all transfers.

    @ivar whom: the host, or the account there, that the failure concerns.
    @ivar seconds: how long nothing may start there; 0 for no pause.
    """

    whom: str | HostAccount
    seconds: float


def pause_for(error: Exception, source: ISource, policy: RetryPolicy) -> Pause:
    """
    The host or the account that a failure concerns, and its pause.

    A failed connection, and a 503 with C{Retry-After}, concern the whole host;
    everything else concerns the account.  A pause that is longer than the
    patience of the policy is not made.
    """
    wanted = retry_after_of(error)
    if wanted > policy.patience:
        return Pause(HostAccount(source.host, source.account), 0.0)
    whole = any(_is_of_host(e) for e in causes(error))
    return Pause(source.host if whole else HostAccount(source.host, source.account), wanted)


def _is_of_host(error: BaseException) -> bool:
    if isinstance(error, RegistryUnavailable):
        return error.status == 503 and bool(error.retry_after)
    return isinstance(error, ConnectionFailed) or (isinstance(error, TimedOut) and error.phase == "connect")


def retry_after_of(error: BaseException) -> float:
    """
    The C{Retry-After} of an error in seconds; 0 if it has none.
    """
    return max((e.retry_after or 0.0 for e in causes(error) if isinstance(e, SourceError)), default=0.0)
