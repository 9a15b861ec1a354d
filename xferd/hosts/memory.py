# -*- test-case-name: tests.hosts.test_memory -*-
"""
The memory of all hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from math import inf
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.expiring import ExpiringDict
from xferd.hosts.known import DAY, Account, Host, Now
from xferd.hosts.quota_policy import QuotaPolicy
from xferd.interfaces.hosts import (
    Availability,
    HostState,
    IHostMemory,
    ISharedPauses,
    KnownAccount,
    KnownHost,
    PauseTable,
    Quota,
)
from xferd.interfaces.journal import HostRecord, IJournal
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.transfer import HostAccount

KEEP: Final = 7 * DAY
"""Seconds for which an unused record is kept."""

MOST: Final = 1000
"""The most hosts, and the most accounts of one host; the least recently used one is dropped first."""

DELAY: Final = 30.0
"""Seconds after which a change is recorded, unless it is a pause, which is recorded at once."""

_ALL: Final = "*"
"""The account of records that are about a host as a whole."""

_SAME: Final = 1.0
"""Seconds by which the end of a pause is the same."""

_LABEL: Final = 12
"""Characters of the hash of an account that people see."""


@implementer(IHostMemory, ISharedPauses)
class HostMemory:
    """
    What the daemon remembers of hosts.

    Pauses stay in the tables of the slots, the only place that has them; they
    are read from there, and put there again when the daemon starts.

    Life cycle: made, joined by the tables of pauses, C{start}ed, C{stop}ped.
    Without a journal, it is as old as the daemon.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        wall_clock: WallClock,
        journal: IJournal | None = None,
        policy: QuotaPolicy | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._journal = journal
        self._policy = QuotaPolicy() if policy is None else policy
        self._hosts: dict[str, Host] = {}
        self._tables: dict[str, PauseTable] = {}
        self._metered: list[PauseTable] = []
        self._followers: list[Callable[[str], object]] = []
        self._pause_followers: list[Callable[[str, HostAccount, float], object]] = []
        self._quota_followers: list[Callable[[HostAccount, Quota, bool], object]] = []
        # When pauses end that no registry has asked for here.
        self._adopted: ExpiringDict[tuple[str, str | HostAccount], float] = ExpiringDict(clock.seconds)
        self._changed: set[tuple[str, str]] = set()
        self._timer: IDelayedCall | None = None
        self._writes: set[Deferred[None]] = set()
        self._stopped = False

    async def start(self) -> None:
        """
        Load the records of earlier daemons.

        @raise StoreError: the journal cannot be read.
        """
        if self._journal is None:
            return
        now = self._now()
        await self._journal.forget_unused_hosts(now.wall - KEEP)
        for record in await self._journal.hosts():
            try:
                self._restore(record, now)
            except (AttributeError, KeyError, TypeError, ValueError):
                self._log.warn(
                    "the record of {host} is not as this version writes it, and is not used", host=record.host
                )
        # Restored pauses are in the journal already.
        self._changed.clear()

    def stop(self) -> Deferred[None]:
        """
        Record what has changed.

        @return: fires when all is in the journal.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._write()
        self._stopped = True
        return DeferredList(list(self._writes)).addCallback(lambda _: None)

    # ---------------------------------------------------------------- state

    def state(self, host: str, account: Hashable = None) -> HostState:
        now, known = self._now(), self._hosts.get(host)
        found = None if known is None else known.accounts.get(_text(account))
        believed = None if found is None else found.believed(now.clock)
        quota = None
        if found is not None and believed is not None:
            quota = self._policy.at(believed, now.clock - found.noted)
        paused = max(self._left(host), self._left(HostAccount(host, account)))
        if paused:
            return HostState(Availability.PAUSED, f"{host} asked to wait", paused, quota)
        down = self._down(host, known, now)
        if down is not None:
            return HostState(Availability.DOWN, down.why, down.seconds, quota)
        if found is None or believed is None or quota is None:
            return HostState()
        age = now.clock - found.noted
        if self._policy.is_low(believed, age):
            of = "" if quota.limit is None else f" of {quota.limit}"
            why = f"{quota.remaining}{of} requests to {host} are left"
            return HostState(Availability.QUOTA_LOW, why, self._policy.left(believed, age), quota)
        return HostState(quota=quota)

    def admit(self, host: str, account: Hashable = None) -> HostState:
        state = self.state(host, account)
        if state.availability is Availability.QUOTA_LOW:
            found = self._hosts[host].accounts[_text(account)]
            now = self._clock.seconds()
            age = now - max(found.noted, found.checked)
            if found.quota is None or not self._policy.rechecks(found.quota, age):
                return state
            found.checked = now
            state = HostState(quota=state.quota)
        if state.ok and not self.allows(host):
            why = f"{host} failed, and another request finds out whether it is back"
            return HostState(Availability.DOWN, why, None, state.quota)
        return state

    def allows(self, host: str) -> bool:
        known = self._hosts.get(host)
        return known is None or known.breaker.allows(self._clock.seconds())

    # -------------------------------------------------------------- reports

    def reached(self, host: str) -> None:
        known = self._hosts.get(host)
        if known is not None and known.breaker.failures:
            known.breaker.record_success()
            known.error = ""
            self._note(host, _ALL)

    def unreachable(self, host: str, error: Exception) -> float:
        known = self._host(host)
        asked: float = getattr(error, "retry_after", None) or 0.0
        pause = known.breaker.record_failure(self._clock.seconds(), asked)
        if pause:
            known.error = str(error)
            self._note(host, _ALL)
        return pause

    def answered(self, host: str, account: Hashable, quota: Quota | None) -> None:
        now, name, whom = self._now(), _text(account), HostAccount(host, account)
        found = self._account(whom, now)
        found.used = now.wall
        if quota is not None:
            was_low = self._is_low(found, now)
            found.quota = _completed(quota, found.quota)
            found.noted, found.until = now.clock, inf
            self._note(host, name)
            is_low = self._is_low(found, now)
            if is_low or was_low:
                for follower in self._quota_followers:
                    follower(whom, found.quota, is_low)
        self._space(whom, found, now)

    def _account(self, whom: HostAccount, now: Now) -> Account:
        """
        The record of an account, whose host is used now.
        """
        known, name = self._host(whom.host), _text(whom.account)
        found = known.accounts.get(name)
        if found is None:
            found = known.accounts[name] = Account(now.wall)
            _bound(known.accounts)
        return found

    def _is_low(self, known: Account, now: Now) -> bool:
        quota = known.believed(now.clock)
        return quota is not None and self._policy.is_low(quota, now.clock - known.noted)

    def _space(self, account: HostAccount, known: Account, now: Now) -> None:
        """
        Let requests that count against an account's quota start at the
        intervals that the policy wants.
        """
        interval, quota = 0.0, known.believed(now.clock)
        if quota is not None:
            interval = self._policy.interval(quota, now.clock - known.noted)
        if interval or known.spaced:
            known.spaced = bool(interval)
            for pauses in self._metered:
                pauses.space(account, interval)

    def moved(self, host: str, size: int, seconds: float) -> None:
        if size > 0 and seconds > 0:
            self._host(host).throughput.add(size, seconds, self._clock.seconds())
            self._note(host, _ALL)

    def capabilities(self, host: str) -> Mapping[str, Any]:
        known = self._hosts.get(host)
        if known is None or self._wall_clock() - known.learned > DAY:
            return {}
        return dict(known.capabilities)

    def learned(self, host: str, capabilities: Mapping[str, Any]) -> None:
        known = self._host(host)
        known.capabilities, known.learned = dict(capabilities), self._wall_clock()
        self._note(host, _ALL)

    # --------------------------------------------------------------- pauses

    def join(self, kind: str, pauses: PauseTable, *, metered: bool = False) -> None:
        self._tables[kind] = pauses
        if metered:
            self._metered.append(pauses)
        pauses.observe(partial(self._paused, kind))

    def follow(self, cleared: Callable[[str], object]) -> None:
        self._followers.append(cleared)

    def knows(self, host: str) -> bool:
        return host in self._hosts

    def follow_pauses(self, follower: Callable[[str, HostAccount, float], object]) -> None:
        self._pause_followers.append(follower)

    def adopt(self, kind: str, account: HostAccount, seconds: float) -> None:
        if kind in self._tables and seconds > self._tables[kind].left(account):
            self._adopt(kind, account, seconds)

    def follow_quotas(self, follower: Callable[[HostAccount, Quota, bool], object]) -> None:
        self._quota_followers.append(follower)

    def adopt_quota(self, account: HostAccount, quota: Quota, age: float, seconds: float) -> bool:
        now = self._now()
        found = self._account(account, now)
        noted = now.clock - age
        if found.quota is None or noted >= found.noted:
            found.quota, found.noted, found.until = _completed(quota, found.quota), noted, now.clock + seconds
            self._space(account, found, now)
        return self._is_low(found, now)

    def _adopt(self, kind: str, whom: str | HostAccount, seconds: float) -> None:
        """
        Pause a host or an account, without a word to those who follow pauses.
        """
        self._adopted[kind, whom] = self._clock.seconds() + seconds
        self._tables[kind].pause(whom, seconds)

    # ---------------------------------------------------------- for people

    def hosts(self) -> Sequence[KnownHost]:
        now = self._now()
        return [self._known(name, host, now) for name, host in sorted(self._hosts.items())]

    def clear(self, host: str) -> Deferred[bool]:
        known = self._hosts.pop(host, None) is not None
        for pauses in self._tables.values():
            pauses.clear(host)
        # The tables report what they have cleared.
        self._hosts.pop(host, None)
        self._changed = {(name, account) for name, account in self._changed if name != host}
        for cleared in self._followers:
            cleared(host)
        if self._journal is None:
            return succeed(known)
        return self._journal.forget_host(host).addCallback(lambda _: known)

    def _known(self, name: str, host: Host, now: Now) -> KnownHost:
        paused = self._left(name)
        state = HostState()
        if paused:
            state = HostState(Availability.PAUSED, f"{name} asked to wait", paused)
        else:
            state = self._down(name, host, now) or state
        accounts = [
            KnownAccount(account[:_LABEL] or "daemon", self.state(name, account or None), found.used)
            for account, found in sorted(host.accounts.items())
        ]
        return KnownHost(
            name,
            state,
            host.breaker.failures,
            host.error,
            host.throughput.rate,
            self.capabilities(name),
            host.used,
            accounts,
        )

    def _down(self, name: str, host: Host | None, now: Now) -> HostState | None:
        """
        The state of a host whose circuit is open.
        """
        left = 0.0 if host is None else host.breaker.left(now.clock)
        if host is None or not left:
            return None
        times = f"{host.breaker.failures} times" if host.breaker.failures > 1 else "once"
        return HostState(Availability.DOWN, f"{name} failed {times}: {host.error}", left)

    # ------------------------------------------------------------- records

    def _now(self) -> Now:
        return Now(self._clock.seconds(), self._wall_clock())

    def _left(self, whom: str | HostAccount) -> float:
        """
        The seconds left of the longest pause of a host or an account.
        """
        return max((pauses.left(whom) for pauses in self._tables.values()), default=0.0)

    def _host(self, name: str) -> Host:
        """
        The record of a host, which is used now.
        """
        host = self._hosts.get(name)
        wall = self._wall_clock()
        if host is None:
            host = self._hosts[name] = Host(wall)
            _bound(self._hosts)
        host.used = wall
        return host

    def _paused(self, kind: str, whom: str | HostAccount) -> None:
        """
        A pause has begun or was cleared.
        """
        name, account = (whom, _ALL) if isinstance(whom, str) else (whom.host, _text(whom.account))
        if not name:
            return
        self._host(name)
        if not isinstance(whom, str):
            self._account(whom, self._now())
        self._note(name, account, 0.0 if self._left(whom) else DELAY)
        left = self._tables[kind].left(whom)
        new = self._clock.seconds() + left - (self._adopted.get((kind, whom)) or 0.0) > _SAME
        if left and new and isinstance(whom, HostAccount):
            for follower in self._pause_followers:
                follower(kind, whom, left)

    def _note(self, host: str, account: str, delay: float = DELAY) -> None:
        """
        Record a change within some seconds.
        """
        if self._journal is None or self._stopped:
            return
        self._changed.add((host, account))
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._write)
        elif self._timer.getTime() > self._clock.seconds() + delay:
            self._timer.reset(delay)

    def _write(self) -> None:
        """
        Write the records that have changed.
        """
        self._timer = None
        changed, self._changed = self._changed, set()
        for name, account in sorted(changed):
            record = self._record(name, account)
            if record is not None and self._journal is not None:
                writing = self._journal.record_host(record)
                self._writes.add(writing)
                _ = writing.addErrback(self._not_written).addBoth(self._written, writing)

    def _written(self, _: None, writing: Deferred[None]) -> None:
        self._writes.discard(writing)

    def _not_written(self, failure: Failure) -> None:
        self._log.error("cannot record what is known of a host: {why}", why=failure.getErrorMessage())

    def _record(self, name: str, account: str) -> HostRecord | None:
        """
        The record of a host or an account for the journal.
        """
        now, host = self._now(), self._hosts.get(name)
        known = host if host is None or account == _ALL else host.accounts.get(account)
        if known is None:
            return None
        whom = name if account == _ALL else HostAccount(name, account or None)
        left = {kind: pauses.left(whom) for kind, pauses in self._tables.items()}
        pauses = {kind: now.wall + seconds for kind, seconds in left.items() if seconds}
        return HostRecord(name, account, known.used, {**known.facts(now), "pauses": pauses})

    def _restore(self, record: HostRecord, now: Now) -> None:
        """
        Take the record of an earlier daemon.

        @raise Exception: another version has written it.
        """
        host = self._hosts.get(record.host) or Host(record.used)
        host.used = max(host.used, record.used)
        whom: str | HostAccount = record.host
        if record.account == _ALL:
            host.restore(record.facts, now)
        else:
            whom = HostAccount(record.host, record.account or None)
            account = Account(record.used)
            account.restore(record.facts, now)
            host.accounts[record.account] = account
            self._space(whom, account, now)
        pauses = {kind: now.from_wall(float(until)) for kind, until in record.facts["pauses"].items()}
        self._hosts[record.host] = host
        for kind, until in pauses.items():
            if kind in self._tables and until > now.clock:
                # It was made known when the registry asked for it.
                self._adopt(kind, whom, until - now.clock)


def _text(account: Hashable) -> str:
    """
    The name of an account in the journal: the empty string is the daemon's own.
    """
    return "" if account is None else str(account)


def _completed(quota: Quota, known: Quota | None) -> Quota:
    """
    A quota with the limit and the window of an earlier response, where it has
    none.
    """
    if known is None or quota.limit is not None:
        return quota
    return Quota(quota.remaining, known.limit, known.window, quota.reset)


def _bound(known: dict[str, Any]) -> None:
    """
    Drop the least recently used of too many hosts or accounts.
    """
    if len(known) > MOST:
        del known[min(known, key=lambda name: known[name].used)]
