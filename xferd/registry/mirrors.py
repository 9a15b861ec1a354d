# -*- test-case-name: tests.registry.test_mirrors -*-
"""
One registry by several ways: its mirrors in their order, and its own server.

What one way does not give, the next is asked for.  A way that was in trouble
is left alone for a while, so that its silence is not waited for with each
blob anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import (
    ConfigError,
    ConnectionFailed,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
    Truncated,
    XferdError,
)
from xferd.interfaces.registry import IBlobBody
from xferd.registry.access import AuthenticatedClient
from xferd.registry.blobs import Blobs
from xferd.registry.hosts.endpoint_config import EndpointConfig
from xferd.registry.manifests import Manifests
from xferd.registry.referrers import Referrers
from xferd.registry.transport.errors import NotHTTP
from xferd.registry.transport.timeouts import within

T = TypeVar("T")

FIRST_REST: Final = 15.0
"""Seconds for which a mirror is left alone after its first failure; doubled
with each further."""

LONGEST_REST: Final = 300.0
"""The most seconds for which it is left alone."""

PROBE: Final = 30.0
"""Seconds in which one request finds out whether a mirror is back, while
others still pass it by."""

_TROUBLE: Final = (ConnectionFailed, TimedOut, RegistryUnavailable, TooManyRequests, Truncated, NotHTTP)


@define(eq=False)
class CircuitBreaker:
    """
    How a mirror has been lately.

    States: well; resting, after a failure, when nobody asks it; probed, when
    the rest is over and one request finds out.

    @ivar failures: those in a row.
    @ivar until: the time at which it may be asked again.
    @ivar probed: whether one request finds out just now.
    """

    failures: int = 0
    until: float = 0.0
    probed: bool = False

    def allows(self, now: float) -> bool:
        """
        Whether it may be asked now.  Of those who want to when its rest is
        over, the first may.
        """
        if not self.failures:
            return True
        if now < self.until:
            return False
        self.until, self.probed = now + PROBE, True
        return True

    def answered(self) -> None:
        """
        It is there.
        """
        self.failures, self.probed = 0, False

    def failed(self, error: Exception, now: float) -> float:
        """
        It was asked in vain.

        @return: the seconds for which it is left alone from now on; 0 if the
            error is not its trouble, or was known already.
        """
        if not isinstance(error, _TROUBLE):
            self.answered()
            return 0.0
        if self.failures and now < self.until and not self.probed:
            # Who asked before, together with others, has failed like them.
            return 0.0
        self.failures += 1
        self.probed = False
        rest = min(LONGEST_REST, FIRST_REST * 2.0 ** min(self.failures - 1, 10))
        rest = max(rest, min(getattr(error, "retry_after", None) or 0.0, LONGEST_REST))
        self.until = now + rest
        return rest


@frozen(eq=False)
class Endpoint:
    """
    One server of a registry, as one client reaches it, and what it serves.
    """

    config: EndpointConfig
    client: AuthenticatedClient
    breaker: CircuitBreaker
    documents: Manifests = field(init=False)
    blobs: Blobs = field(init=False)
    referrers: Referrers = field(init=False)

    @documents.default
    def _documents(self) -> Manifests:
        return Manifests(self.client)

    @blobs.default
    def _blobs(self) -> Blobs:
        return Blobs(self.client)

    @referrers.default
    def _referrers(self) -> Referrers:
        return Referrers(self.client, self.documents)

    def in_time(self, work: Coroutine[Deferred[Any], Any, T], name: str) -> Deferred[T]:
        """
        Limit the time that a whole document may take.

        @raise TimedOut: it took longer.
        """
        client = self.client
        seconds = client.timeouts.document
        return within(
            client.clock,
            seconds,
            Deferred.fromCoroutine(work),
            lambda: TimedOut(
                f"{client.host} did not deliver the {name} within {seconds:g} s",
                phase="rate",
                host=client.host,
            ),
        )


class Endpoints:
    """
    All servers of one registry, in the order in which to ask them.
    """

    _log = Logger()

    def __init__(self, host: str, endpoints: Sequence[Endpoint], clock: IReactorTime) -> None:
        """
        @param endpoints: the registry's own is the last.
        """
        self._host = host
        self._endpoints = tuple(endpoints)
        self._clock = clock

    def __len__(self) -> int:
        return len(self._endpoints)

    @property
    def own(self) -> Endpoint:
        """
        The registry's own server, or what stands in its place.
        """
        return self._endpoints[-1]

    @property
    def pushing(self) -> Endpoint:
        """
        The server that takes things.
        """
        return self._able("push")[0]

    def check(self) -> Deferred[None]:
        """
        Check that the registry's own server answers, and accepts the
        credentials: see L{IRegistries.check<xferd.interfaces.registry.IRegistries.check>}.
        """
        return self.own.in_time(self.own.client.check(), "root of its API")

    async def request(
        self,
        capability: str,
        work: Callable[[Endpoint], Awaitable[T]],
        what: str,
        last_only: bool = False,
    ) -> T:
        """
        Ask one server after another until one does it.

        @param capability: what they must be able to.
        @param what: what it is, for the log.
        @param last_only: whether to ask none but the last of them.
        @raise XferdError: what the last of them, the registry itself as a
            rule, fails with.
        """
        *mirrors, last = self._able(capability)
        passed_by: list[Endpoint] = []
        for endpoint in mirrors if not last_only else []:
            if not endpoint.breaker.allows(self._clock.seconds()):
                passed_by.append(endpoint)
                continue
            try:
                return await self._try(endpoint, work, what)
            except _TryNext:
                continue
        try:
            return await work(last)
        except SourceError as error:
            if not error.retryable or last_only:
                raise
            for endpoint in passed_by:
                # Better late than never.
                try:
                    return await self._try(endpoint, work, what)
                except _TryNext:
                    continue
            raise

    async def _try(self, endpoint: Endpoint, work: Callable[[Endpoint], Awaitable[T]], what: str) -> T:
        """
        Ask a mirror.

        @raise _Next: it does not do it.
        """
        try:
            result = await work(endpoint)
        except CancelledError:
            raise
        except XferdError as e:
            self.failed(endpoint, e, what)
            raise _TryNext from e
        endpoint.breaker.answered()
        return result

    def failed(self, endpoint: Endpoint, error: XferdError, what: str) -> None:
        """
        A mirror was asked in vain.
        """
        rest = endpoint.breaker.failed(error, self._clock.seconds())
        if rest:
            self._log.warn(
                "{mirror}, which stands for {host}, is left alone for {rest:.0f} s: {why}",
                mirror=endpoint.config.name,
                host=self._host,
                rest=rest,
                why=str(error),
            )
        else:
            self._log.info(
                "{mirror} has no {what} of {host}: {why}",
                mirror=endpoint.config.name,
                what=what,
                host=self._host,
                why=str(error),
            )

    def _able(self, capability: str) -> list[Endpoint]:
        """
        Those that may be asked for something.
        """
        able = [endpoint for endpoint in self._endpoints if capability in endpoint.config.capabilities]
        if not able:
            raise ConfigError(
                f"no server of {self._host} has the capability {capability!r}: add it in its hosts.toml"
            )
        return able


class _TryNext(Exception):
    """
    The next one is to be asked.
    """


@implementer(IBlobBody)
@define(eq=False)
class WatchedBody:
    """
    A body of a mirror, which reports the mirror's failures.
    """

    _body: IBlobBody
    _broke: Callable[[XferdError], None]
    start: int = field(init=False)
    total: int | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.start, self.total = self._body.start, self._body.total

    def deliver(self, sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        """
        See L{IBlobBody.deliver}.
        """
        return self._body.deliver(sink).addErrback(self._look)

    def abandon(self) -> None:
        """
        See L{IBlobBody.abandon}.
        """
        self._body.abandon()

    def _look(self, failure: Failure) -> Failure:
        if isinstance(failure.value, _TROUBLE):
            self._broke(failure.value)
        return failure
