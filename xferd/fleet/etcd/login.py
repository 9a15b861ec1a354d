# -*- test-case-name: tests.fleet.etcd.test_login -*-
"""
The login of a node at etcd, which is expensive: etcd checks a password with bcrypt, for a
tenth of a second of one core and more.  If all nodes of a fleet logged in at once, after etcd
was restarted, they would keep it busy until their requests have expired, again and again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import EtcdRefused
from xferd.registry.transport.timeouts import within

LOGIN_SECONDS: Final = 30.0
"""Seconds after which a login has failed.  Requests that wait for it may fail earlier; the login
continues, because etcd computes it in any case."""

SPREAD: Final = 0.15
"""Seconds over which the logins of a fleet are spread, for each of its nodes."""

LONGEST: Final = 300.0
"""Seconds over which logins are spread at most."""

WAITED_FOR: Final = 1.0
"""Seconds for which a request waits for the time of its node's login."""


class Login:
    """
    A token of etcd.  It is kept as long as it is valid; one login at a time gets another.

    States: without a token; held; in doubt, after a request that got no answer.

    @ivar token: the token, or the empty string.
    @ivar nodes: the nodes of the fleet that log in as this one does.
    """

    def __init__(
        self,
        clock: IReactorTime,
        random: Random,
        authenticate: Callable[[], Awaitable[str]],
        applied: Callable[[], Awaitable[int]],
        where: str,
    ) -> None:
        """
        @param authenticate: logs in, and returns the token.
        @param applied: asks etcd without a token how many changes it has made.
        @param where: etcd's members, for people.
        """
        self._clock = clock
        self._random = random
        self._authenticate = authenticate
        self._applied = applied
        self._where = where
        self._work: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []
        self._in_doubt = False
        self._failures = 0
        self._due = 0.0
        self._reason: Exception = CoordinationUnavailable("")
        self.token = ""
        self.nodes = 1

    @property
    def running(self) -> bool:
        """
        Whether a login is under way.
        """
        return self._work is not None and not self.token

    @property
    def left(self) -> float:
        """
        The seconds until this node may log in.
        """
        return max(self._due - self._clock.seconds(), 0.0)

    async def ready(self) -> None:
        """
        Have a token.

        @raise CoordinationUnavailable: the login failed, or is not this node's turn yet.
            Cancelling ends this wait alone.
        """
        if self.token and not self._in_doubt:
            return
        if self._work is None and not self.token and self.left > WAITED_FOR:
            raise self._reason
        waiter: Deferred[None] = Deferred(self._leave)
        self._waiting.append(waiter)
        if self._work is None:
            work = within(self._clock, LOGIN_SECONDS, Deferred.fromCoroutine(self._obtain()), self._late)
            self._work = work
            _ = work.addBoth(self._ended)
        await waiter

    def refused(self, token: str) -> None:
        """
        Note that etcd has refused a token: it has expired, or etcd was restarted.
        """
        if token == self.token:
            self.token, self._in_doubt = "", False
            seconds = min(self.nodes * SPREAD, LONGEST)
            self._reason = CoordinationUnavailable(
                f"etcd at {self._where} has forgotten the logins: those of all nodes follow within "
                f"{seconds:.0f} s"
            )
            self._due = self._clock.seconds() + seconds * self._random.random()

    def doubt(self) -> None:
        """
        Note that a request got no answer.  An etcd that has lost its data does not refuse a
        token that it issued before: it waits until it has made as many changes again.
        """
        self._in_doubt = True

    def stop(self) -> None:
        """
        End a login that is under way.
        """
        if self._work is not None:
            self._work.cancel()

    def _leave(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def _late(self) -> Exception:
        return CoordinationUnavailable(f"etcd at {self._where} did not answer a login in time")

    def _ended(self, result: Failure | None) -> None:
        self._work = None
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(None)

    async def _obtain(self) -> None:
        """
        Check a token that is in doubt, or get one.
        """
        try:
            applied = await self._applied()
        except EtcdRefused:
            applied = -1  # Perhaps it wants a login for that, too.
        if self.token:
            if applied >= _index(self.token):
                self._in_doubt = False
                return
            self.refused(self.token)
            if self.left > WAITED_FOR:
                raise self._reason
        if self.left:
            resting: Deferred[None] = Deferred(lambda _: timer.cancel())
            timer = self._clock.callLater(self.left, resting.callback, None)
            await resting
        try:
            self.token = await self._authenticate()
        except CancelledError:
            self._back_off(self._late())
            raise
        except CoordinationUnavailable as e:
            self._back_off(e)
            raise
        self._in_doubt, self._failures = False, 0

    def _back_off(self, reason: Exception) -> None:
        """
        Let the next login wait, as etcd answers other requests: too many log in, or the
        password is wrong.
        """
        self._failures += 1
        self._reason = reason
        longest = max(60.0, min(self.nodes * SPREAD, LONGEST))
        pause = min(2.0 ** min(self._failures - 1, 10), longest)
        self._due = self._clock.seconds() + pause * (0.5 + self._random.random() / 2)


def _index(token: str) -> int:
    """
    The number of changes that etcd had made when it issued a token; 0 if the token does
    not have it, as a JWT.
    """
    number = token.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 20 else 0
