# -*- test-case-name: tests.registry.transport.test_exchange -*-
"""
Requests with their redirects.

Redirects are followed here, and not by treq: credentials stay with their origin,
each target's zone is checked, and bodies of redirects are read or dropped.  No
exception of L{twisted.web} leaves this module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

from attrs import field, frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse

from xferd.credentials import Secret
from xferd.errors import Denied, RegistryError, TimedOut
from xferd.expiring import ExpiringDict
from xferd.registry.transport.errors import CredentialsUsed, causes, connection_error, header, header_values
from xferd.registry.transport.request_body import ContentBody
from xferd.registry.transport.response_body import discard, read_excerpt
from xferd.registry.transport.timeouts import Timeouts, within
from xferd.registry.transport.treq_client import make_request
from xferd.registry.transport.urls import Origin, resolve
from xferd.registry.transport.warning_header import parse_warnings
from xferd.registry.transport.zones import OutOfZone, Zone
from xferd.trace_context import HEADER, traceparent

MAX_REDIRECTS = 10

REDIRECT_SECONDS = 60.0
"""Seconds from the first request on, after which no redirect is followed."""


VIA = "X-Xferd-Via"
"""The header with the identity of the daemon that makes a request, for a registry's own server."""

_REDIRECTS = frozenset({301, 302, 307, 308})
_RESERVED = frozenset({"host", "connection", "content-length", "transfer-encoding", "range"})
_READING = frozenset({b"GET", b"HEAD"})

Fields: TypeAlias = "Mapping[str, str | Sequence[str]]"
"""The header fields of a request by name, each with one value or several."""


ChooseAgent: TypeAlias = "Callable[[bool, Zone | None], IAgent]"
"""
Returns an agent, given whether it uses new connections only, and the zone of the
server that named the URL, if one did.
"""


@frozen
class Authorization:
    """
    The authorization of a request.

    @ivar secret: the C{Authorization} header.
    @ivar used: its credentials, for errors.
    """

    secret: Secret
    used: CredentialsUsed


@frozen
class Response:
    """
    The response after all redirects.

    @ivar raw: the response itself; the caller reads or discards its body.
    @ivar is_own: whether the registry's own server sent it, and not one that it
        led to.
    @ivar where: the host that sent it.
    @ivar url: the URL of the last request, which may be signed.
    @ivar authorization: the authorization of the last request.
    @ivar warnings: the C{Warning} headers of the registry's own server.
    @ivar zone: the zone of the server that sent it, which limits where that
        server may lead.
    @ivar own_headers: the headers of the last response of the registry's own
        server, which may be a redirect, or L{None} if it sent none.
    """

    raw: IResponse
    is_own: bool
    where: str
    url: str = field(repr=False)
    authorization: Authorization | None = None
    warnings: tuple[str, ...] = ()
    zone: Zone = Zone.PUBLIC
    own_headers: Headers | None = None

    @property
    def status(self) -> int:
        """
        The status code.
        """
        status: int = self.raw.code
        return status

    @property
    def headers(self) -> Headers:
        """
        The header fields.
        """
        headers: Headers = self.raw.headers
        return headers


class Exchange:
    """
    Makes requests.
    """

    _log = Logger()

    def __init__(
        self,
        agents: ChooseAgent,
        clock: IReactorTime,
        timeouts: Timeouts,
        *,
        own: str = "",
        own_headers: tuple[tuple[str, str], ...] = (),
        address_of: Callable[[IResponse], str | None] = lambda _: None,
        allows_private: Callable[[str], bool] = lambda _: False,
        public_only: bool = False,
        via: str = "",
    ) -> None:
        """
        @param agents: returns the agent of a request.
        @param address_of: returns the IP address that a response came from, or
            L{None} behind a proxy.
        @param allows_private: whether the registry of a host may lead to
            private networks, wherever it is.
        @param public_only: whether only public addresses are connected to, whatever
            named the URL.
        @param via: the identity of this daemon, for the header L{VIA}.
        @param own: the URL of a server that receives additional headers.
        @param own_headers: these headers.  They may be secret, and are sent to
            no other server.
        """
        self._own = Origin.of(own) if own_headers else None
        self._own_headers = own_headers
        self._via = via
        self._choose = agents
        # Their idle connections last as long as they.
        self._agents: dict[tuple[bool, Zone | None], IAgent] = {}
        self._address_of = address_of
        self._allows_private = allows_private
        self._public_only = public_only
        self._clock = clock
        self._timeouts = timeouts
        self._warned: ExpiringDict[tuple[str, str], bool] = ExpiringDict(clock.seconds)

    async def get(
        self,
        url: str,
        headers: Fields,
        authorization: Authorization | None,
        *,
        host: str,
        led_from: Zone | None = None,
    ) -> Response:
        """
        GET an URL; see L{request}.
        """
        return await self.request(b"GET", url, headers, authorization, host=host, led_from=led_from)

    async def request(
        self,
        method: bytes,
        url: str,
        headers: Fields,
        authorization: Authorization | None,
        *,
        host: str,
        body: Callable[[], IBodyProducer] | None = None,
        fresh: bool = False,
        led_from: Zone | None = None,
    ) -> Response:
        """
        Make a request and follow redirects, each within the zones where its
        server may lead.

        Redirects keep method and body.  A 303 is followed by GET and HEAD alone
        (RFC 9110, section 15.4.4); for other methods it is the response.

        @param authorization: is sent to the URL's own origin only; once a
            redirect has left that, it is not sent again.
        @param host: the registry's host, as errors name it.
        @param body: makes the body, once for each request.
        @param fresh: whether to use a new connection.
        @param led_from: the zone of the server that named the URL; L{None} if
            it is the registry's own.
        @raise RegistryError: too many redirects, or one that is not permitted.
        @raise Denied: only public addresses are permitted.
        @raise ConnectionFailed: no answer.
        @raise TimedOut: no answer in time.
        """
        first = origin = self._origin(url, host)
        redirects = _REDIRECTS | {303} if method in _READING else _REDIRECTS
        is_first_origin = True
        warnings: tuple[str, ...] = ()
        own_headers: Headers | None = None
        began = self._clock.seconds()
        led = led_from
        for _ in range(MAX_REDIRECTS + 1):
            is_first_origin = is_first_origin and origin == first
            # An URL that another server named is not the registry's own.
            is_own = is_first_origin and led_from is None
            sent = Headers({n: [v] if isinstance(v, str) else v for n, v in headers.items()})
            if is_own and self._via:
                sent.setRawHeaders(VIA, [self._via])
            if is_first_origin and authorization is not None:
                sent.setRawHeaders("Authorization", [authorization.secret.reveal()])
            response = await self._send(
                method,
                url,
                origin,
                sent,
                host,
                None if body is None else body(),
                fresh,
                led_from if is_first_origin else led,
            )
            led = self.zone(response, url, host if is_own else "")
            if is_own:
                warnings += self._show_warnings(response.headers, host)
                own_headers = response.headers
            if response.code not in redirects:
                proof = authorization if is_first_origin else None
                return Response(response, is_own, origin.host, url, proof, warnings, led, own_headers)
            if self._clock.seconds() - began > REDIRECT_SECONDS:
                discard(response)
                raise TimedOut(
                    f"{host} still redirects after {REDIRECT_SECONDS:g} s", phase="headers", host=host
                )
            location = header(response.headers, "Location")
            await read_excerpt(response, host=host, clock=self._clock, timeouts=self._timeouts)
            try:
                url = resolve(url, location, led)
                origin = Origin.of(url)
            except ValueError as e:
                raise RegistryError(f"{host} redirects to a place that is refused: {e}", host=host) from None
        raise RegistryError(f"{host} redirects more than {MAX_REDIRECTS} times", host=host)

    async def request_once(
        self,
        method: bytes,
        url: str,
        headers: Headers,
        *,
        host: str,
        body: IBodyProducer | None = None,
        fresh: bool = False,
        led_from: Zone | None = None,
    ) -> IResponse:
        """
        Make one request.

        @param body: the body; L{ContentBody} has limits of its own.
        @param fresh: whether to use a new connection.
        @param led_from: the zone of the server that named the URL; L{None} if
            it is the registry's own.
        @return: the response; the caller reads or discards its body.
        @raise RegistryError: the URL's server is where it must not be.
        @raise ConnectionFailed: no answer.
        @raise TimedOut: no answer in time.
        """
        origin = self._origin(url, host)
        return await self._send(method, url, origin, headers, host, body, fresh, led_from)

    async def _send(
        self,
        method: bytes,
        url: str,
        origin: Origin,
        headers: Headers,
        host: str,
        body: IBodyProducer | None,
        fresh: bool,
        led_from: Zone | None,
    ) -> IResponse:
        limits, where = self._timeouts, origin.host
        # Connect and TLS have limits of their own, too; all three begin now.
        seconds = limits.connect + limits.tls + limits.headers

        def late() -> TimedOut:
            return TimedOut(f"{where} gave no answer within {seconds:g} s", phase="headers", host=host)

        if self._own is not None and origin == self._own:
            headers = headers.copy()
            set_already = {name.lower() for name, _ in headers.getAllRawHeaders()}
            for name, value in self._own_headers:
                if name.lower() not in _RESERVED and name.lower().encode() not in set_already:
                    headers.addRawHeader(name, value)
        trace = traceparent()
        if trace and led_from is None:
            headers.setRawHeaders(HEADER, [trace])
        try:
            agent = self._agent(fresh, origin, led_from)
            waiting = make_request(agent, method.decode("ascii"), url, headers, body, reactor=self._clock)
            if isinstance(body, ContentBody):
                return await body.guard(waiting)
            return await within(self._clock, seconds, waiting, late, discard)
        except CancelledError:
            raise
        except Exception as e:
            refused = next((each for each in causes(e) if isinstance(each, OutOfZone)), None)
            if refused is not None and self._public_only:
                raise Denied(
                    f"{where} is not reached, as it has no public address and is not configured: "
                    f"it is {refused.zone.value}",
                    host=host,
                ) from None
            if refused is not None:
                raise RegistryError(
                    f"{host} leads to {where}, which is refused: {refused}", host=host
                ) from None
            error = connection_error(e, host, _without_port(host, where))
            if error is None:
                raise
            raise error from e

    def zone(self, response: IResponse, url: str, host: str = "") -> Zone:
        """
        The zone of the server that sent a response, which limits where it may
        lead.

        @param url: the URL of the request.
        @param host: the registry, if the server is the registry's own.
        """
        address = self._address_of(response)
        # Behind a proxy, only the name is known.
        zone = Origin.of(url).zone if address is None else Zone.of(address)
        if zone is None or zone is Zone.PUBLIC:
            return Zone.PRIVATE if host and self._allows_private(host) else Zone.PUBLIC
        return zone

    def _origin(self, url: str, host: str) -> Origin:
        """
        The origin of an URL.

        @raise RegistryError: no request can be made to it.
        """
        try:
            return Origin.of(url)
        except ValueError as e:
            raise RegistryError(f"{host} names an URL that cannot be requested: {e}", host=host) from None

    def _agent(self, fresh: bool, origin: Origin, led_from: Zone | None) -> IAgent:
        """
        The agent for a request.

        @raise OutOfZone: the origin's name alone shows that it is not permitted.
        """
        if self._public_only:
            led_from = Zone.PUBLIC
        if led_from is not None and origin.zone is not None and not led_from.allows(origin.zone):
            raise OutOfZone(origin.zone)
        agent = self._agents.get((fresh, led_from))
        if agent is None:
            agent = self._agents[fresh, led_from] = self._choose(fresh, led_from)
        return agent

    def _show_warnings(self, headers: Headers, host: str) -> tuple[str, ...]:
        """
        Read the warnings of a response, and log each one once.
        """
        warnings = parse_warnings(header_values(headers, "Warning"))
        for warning in warnings:
            if (host, warning) not in self._warned:
                self._warned[host, warning] = True
                self._log.warn("{host} warns: {text}", host=host, text=warning)
        return warnings


def _without_port(host: str, where: str) -> str:
    """
    C{host} itself if C{where} is its name, so that errors name it once.
    """
    split: SplitResult = urlsplit(f"//{host}")
    return host if split.hostname == where else where
