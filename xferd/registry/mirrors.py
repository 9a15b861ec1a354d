# -*- test-case-name: tests.registry.test_mirrors -*-
"""
The endpoints of one registry: its mirrors in their order, and its own server.

When an endpoint fails or lacks something, the next one is tried.  A mirror that
has failed is skipped for a while, so that not every blob waits for its timeout.
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

FIRST_PAUSE: Final = 15.0
"""Seconds for which a mirror is skipped after its first failure; doubled by each
further one."""

LONGEST_PAUSE: Final = 300.0
"""The most seconds for which a mirror is skipped."""

PROBE: Final = 30.0
"""Seconds in which one request probes a mirror, while others skip it."""

_UNAVAILABLE: Final = (ConnectionFailed, TimedOut, RegistryUnavailable, TooManyRequests, Truncated, NotHTTP)


@define(eq=False)
class CircuitBreaker:
    """
    Decides whether requests go to a mirror.

    States: closed; open, after a failure, when no request goes to the mirror;
    half-open, when the pause has ended and one request probes the mirror.

    @ivar failures: consecutive failures.
    @ivar until: the time at which the pause ends.
    @ivar probed: whether it is half-open.
    """

    failures: int = 0
    until: float = 0.0
    probed: bool = False

    def allows(self, now: float) -> bool:
        """
        Whether a request may go to the mirror now.  After the pause, the first
        caller may.
        """
        if not self.failures:
            return True
        if now < self.until:
            return False
        self.until, self.probed = now + PROBE, True
        return True

    def record_success(self) -> None:
        """
        Record a success, which closes the circuit.
        """
        self.failures, self.probed = 0, False

    def record_failure(self, error: Exception, now: float) -> float:
        """
        Record a failure.

        @return: the seconds for which the mirror is skipped from now on; 0 if
            the error does not show that the mirror is down, or if it was known
            to be.
        """
        if not isinstance(error, _UNAVAILABLE):
            self.record_success()
            return 0.0
        if self.failures and now < self.until and not self.probed:
            # Several requests were under way when the first of them failed.
            return 0.0
        self.failures += 1
        self.probed = False
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10))
        pause = max(pause, min(getattr(error, "retry_after", None) or 0.0, LONGEST_PAUSE))
        self.until = now + pause
        return pause


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
        Try one endpoint after another until one succeeds.

        @param capability: only endpoints that have it are tried.
        @param what: what is requested, for the log.
        @param last_only: whether to try the last endpoint alone.
        @raise XferdError: the failure of the last endpoint, which is usually
            the registry's own.
        """
        *mirrors, last = self._able(capability)
        skipped: list[Endpoint] = []
        for endpoint in mirrors if not last_only else []:
            if not endpoint.breaker.allows(self._clock.seconds()):
                skipped.append(endpoint)
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
            for endpoint in skipped:
                # The registry itself is down: a paused mirror may serve it.
                try:
                    return await self._try(endpoint, work, what)
                except _TryNext:
                    continue
            raise

    async def _try(self, endpoint: Endpoint, work: Callable[[Endpoint], Awaitable[T]], what: str) -> T:
        """
        Try a mirror.

        @raise _TryNext: it failed.
        """
        try:
            result = await work(endpoint)
        except CancelledError:
            raise
        except XferdError as e:
            self.failed(endpoint, e, what)
            raise _TryNext from e
        endpoint.breaker.record_success()
        return result

    def failed(self, endpoint: Endpoint, error: XferdError, what: str) -> None:
        """
        Record the failure of a mirror.
        """
        pause = endpoint.breaker.record_failure(error, self._clock.seconds())
        if pause:
            self._log.warn(
                "{mirror}, a mirror of {host}, is skipped for {pause:.0f} s: {why}",
                mirror=endpoint.config.name,
                host=self._host,
                pause=pause,
                why=str(error),
            )
        else:
            self._log.info(
                "{mirror}, a mirror of {host}, does not serve {what}: {why}",
                mirror=endpoint.config.name,
                what=what,
                host=self._host,
                why=str(error),
            )

    def _able(self, capability: str) -> list[Endpoint]:
        """
        The endpoints that have a capability.
        """
        able = [endpoint for endpoint in self._endpoints if capability in endpoint.config.capabilities]
        if not able:
            raise ConfigError(
                f"no server of {self._host} has the capability {capability!r}: add it in its hosts.toml"
            )
        return able


class _TryNext(Exception):
    """
    A mirror has failed, and the next endpoint is to be tried.
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
        return self._body.deliver(sink).addErrback(self._look)

    def abandon(self) -> None:
        self._body.abandon()

    def _look(self, failure: Failure) -> Failure:
        if isinstance(failure.value, _UNAVAILABLE):
            self._broke(failure.value)
        return failure
