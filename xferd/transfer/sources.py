# -*- test-case-name: tests.transfer.test_sources -*-
"""
Which source a transfer turns to next: what each attempt taught about each.

Pure: no clock of its own, no Deferreds.
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
from xferd.interfaces.transfer import ISource
from xferd.transfer.pauses import ROUNDING, HostAccount
from xferd.transfer.reason import NO_REASON, Reason
from xferd.transfer.retry import RetryPolicy


@define(eq=False)
class Origin:
    """
    A source, and what is known of it.

    @ivar source: the source that the first watcher brought.
    @ivar order: when it came, counted.
    @ivar watchers: how many watchers brought one like it.
    @ivar failures: attempts that failed in a row, here or where the trouble
        was the same.
    @ivar not_before: the time at which it may be tried again.
    @ivar error: the newest failure.
    @ivar marked: whether it gave bytes that were not what their name says.
    @ivar dead: whether it is not tried any more.
    @ivar held: what it waits for, while it cannot go on for reasons that are
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
        Whose account it uses, and where.
        """
        return HostAccount(self.source.host, self.source.account)


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
        A watcher brings C{source}.

        @return: whether it is a new one.
        """
        origin = self._origins.get(source.identity)
        if origin is None:
            self._came += 1
            origin = self._origins[source.identity] = Origin(source, self._came)
        origin.watchers += 1
        return origin.watchers == 1

    def drop(self, source: ISource) -> bool:
        """
        A watcher takes its source away.  It is not tried any more unless
        another watcher brought one like it.

        @return: whether it was the last one.
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
        The sources, in the order in which they came.
        """
        return [origin.source for origin in self._origins.values()]

    def error_of(self, source: ISource | None) -> Exception | None:
        """
        The newest failure of a source.
        """
        origin = None if source is None else self._origins.get(source.identity)
        return None if origin is None else origin.error

    # ----------------------------------------------------------- what is next

    @property
    def exhausted(self) -> bool:
        """
        Whether no source is left to try, now or later.
        """
        return all(origin.dead for origin in self._origins.values())

    def next_try(self) -> float | None:
        """
        The time at which the first of the sources that are left may be tried,
        or L{None} if it is not known, as they are held.
        """
        return min((o.not_before for o in self._origins.values() if not (o.dead or o.held)), default=None)

    @property
    def held(self) -> Reason:
        """
        What the first source that is held waits for.
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

    def best(self, now: float, obstacle: Callable[[ISource], float]) -> Origin | None:
        """
        The source to turn to: none that gave wrong bytes while there is
        another, one that may start now, the one that failed least, the one
        that came first.

        @param obstacle: 0 if a source may start now, and the more, the longer
            it may not.
        @return: L{None} if none may be tried now.
        """
        return min(
            (o for o in self._origins.values() if _may_try(o, now)),
            key=lambda o: (o.marked, obstacle(o.source), o.failures, o.order),
            default=None,
        )

    # -------------------------------------------------- what attempts taught

    def succeeded(self, origin: Origin) -> None:
        """
        An attempt did what it should.
        """
        origin.failures = 0

    def lost(self, origin: Origin, error: Exception) -> None:
        """
        A source is not to be tried any more; this concerns no other.
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
        An attempt failed.

        @param progress: whether it resets the count of attempts all the same.
        @return: whether any further attempt, with this source or another, can
            mend it.  If not, C{error} is everybody's.
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
        wanted = asked_for(error)
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
        Other sources first; failing these, one more try from scratch.
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
    What a failure means for others than the transfer.

    @ivar whom: the host, or the party, that is in trouble.
    @ivar seconds: for how long nothing more is to start there; 0 for no time.
    """

    whom: str | HostAccount
    seconds: float


def pause_for(error: Exception, source: ISource, policy: RetryPolicy) -> Pause:
    """
    Whom an attempt's failure concerns, and who has to pause for it.

    A host is in trouble as a whole if it cannot be connected to, or says so
    by a 503 with C{Retry-After}; all else belongs to the account.  A pause
    that is longer than anybody has patience for is nobody's.
    """
    wanted = asked_for(error)
    if wanted > policy.patience:
        return Pause(HostAccount(source.host, source.account), 0.0)
    whole = any(_is_of_host(e) for e in causes(error))
    return Pause(source.host if whole else HostAccount(source.host, source.account), wanted)


def _is_of_host(error: BaseException) -> bool:
    if isinstance(error, RegistryUnavailable):
        return error.status == 503 and bool(error.retry_after)
    return isinstance(error, ConnectionFailed) or (isinstance(error, TimedOut) and error.phase == "connect")


def asked_for(error: BaseException) -> float:
    """
    How many seconds a source asked to be left alone for; 0 if it did not.
    """
    return max((e.retry_after or 0.0 for e in causes(error) if isinstance(e, SourceError)), default=0.0)
