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
from xferd.expiring import ExpiringDict
from xferd.interfaces.hosts import IHostMemory
from xferd.interfaces.registry import IBlobBody
from xferd.names import Digest, Repository
from xferd.registry.access import AuthenticatedClient
from xferd.registry.blobs import Blobs
from xferd.registry.hosts.endpoint_config import EndpointConfig
from xferd.registry.manifests import Manifests
from xferd.registry.referrers import Referrers
from xferd.registry.tag_list import TagList
from xferd.registry.transport.errors import NotHTTP
from xferd.registry.transport.timeouts import within

T = TypeVar("T")

_DOWN: Final = (ConnectionFailed, TimedOut, RegistryUnavailable, Truncated, NotHTTP)
"""Errors that show that a server is down."""

_UNAVAILABLE: Final = (*_DOWN, TooManyRequests)
"""Errors after which a mirror is skipped."""


@frozen(eq=False)
class Endpoint:
    """
    One server of a registry, as one client reaches it, and what it serves.
    """

    config: EndpointConfig
    client: AuthenticatedClient
    documents: Manifests = field(init=False)
    blobs: Blobs = field(init=False)
    referrers: Referrers = field(init=False)
    tags: TagList = field(init=False)

    @documents.default
    def _documents(self) -> Manifests:
        return Manifests(self.client)

    @blobs.default
    def _blobs(self) -> Blobs:
        return Blobs(self.client)

    @tags.default
    def _tags(self) -> TagList:
        return TagList(self.client, self.documents)

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

    @ivar distrusted: the blobs of which a mirror sent wrong bytes: for an hour
        they come from the registry itself.
    """

    _log = Logger()

    def __init__(self, host: str, endpoints: Sequence[Endpoint], memory: IHostMemory) -> None:
        """
        @param endpoints: the registry's own is the last.
        @param memory: has the circuit breakers of all servers.
        """
        self._host = host
        self._endpoints = tuple(endpoints)
        self._memory = memory
        self.distrusted: ExpiringDict[tuple[Repository, Digest], bool]
        self.distrusted = ExpiringDict(self.own.client.clock.seconds)

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
        checking = self.own.in_time(self.own.client.check(), "root of its API")
        return Deferred.fromCoroutine(self.watch(self.own, checking))

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
            if not self._memory.allows(endpoint.config.name):
                skipped.append(endpoint)
                continue
            try:
                return await self._try(endpoint, work, what)
            except _TryNext:
                continue
        try:
            return await self.watch(last, work(last))
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
        self._memory.reached(endpoint.config.name)
        return result

    async def watch(self, endpoint: Endpoint, work: Awaitable[T]) -> T:
        """
        Wait for a request to the registry's own server, and record whether the
        server responded.  Its circuit keeps no request back here, as each
        transfer has delays of its own.
        """
        try:
            result = await work
        except XferdError as e:
            self.own_failed(endpoint, e)
            raise
        self._memory.reached(endpoint.config.name)
        return result

    def own_failed(self, endpoint: Endpoint, error: XferdError) -> None:
        """
        Record a failure of the registry's own server, unless it only refuses,
        or another host has failed whose bytes were to be sent.
        """
        name = endpoint.config.name
        if not isinstance(error, SourceError) or error.host not in ("", name):
            return
        if isinstance(error, _DOWN):
            self._memory.unreachable(name, error)
        else:
            self._memory.reached(name)

    def failed(self, endpoint: Endpoint, error: XferdError, what: str) -> None:
        """
        Record the failure of a mirror.
        """
        name, pause = endpoint.config.name, 0.0
        if isinstance(error, _UNAVAILABLE):
            pause = self._memory.unreachable(name, error)
        else:
            self._memory.reached(name)
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
    A mirror has failed; the next endpoint follows.
    """


@implementer(IBlobBody)
@define(eq=False)
class WatchedBody:
    """
    A body that reports when its server fails.
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
