# -*- test-case-name: tests.registry.transport.test_exchange -*-
"""
One request and its redirects, followed by our own hand: credentials stay with
the origin that they are for, bodies of redirects are not left to hang, and
whatever L{twisted.web} raises ends here.
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
from xferd.errors import RegistryError, TimedOut
from xferd.expiring import ExpiringDict
from xferd.registry.transport.errors import CredentialsUsed, causes, connection_error, header, header_values
from xferd.registry.transport.request_body import ContentBody
from xferd.registry.transport.response_body import discard, read_excerpt
from xferd.registry.transport.timeouts import Timeouts, within
from xferd.registry.transport.treq_client import make_request
from xferd.registry.transport.urls import Origin, resolve
from xferd.registry.transport.warning_header import parse_warnings
from xferd.registry.transport.zones import OutOfZone, Zone

MAX_REDIRECTS = 10

REDIRECT_SECONDS = 60.0
"""Seconds from the first request after which no further redirect is followed."""


_REDIRECTS = frozenset({301, 302, 307, 308})
_RESERVED = frozenset({"host", "connection", "content-length", "transfer-encoding", "range"})
_READING = frozenset({b"GET", b"HEAD"})

Fields: TypeAlias = "Mapping[str, str | Sequence[str]]"
"""The header fields of a request, by name: a value, or one for each line."""


ChooseAgent: TypeAlias = "Callable[[bool, Zone | None], IAgent]"
"""
Gives the agent for requests on new connections only, or not, to servers that a
server in some zone led to.
"""


@frozen
class Authorization:
    """
    The proof that a request brings.

    @ivar secret: the C{Authorization} header.
    @ivar used: whose it is.
    """

    secret: Secret
    used: CredentialsUsed


@frozen
class Response:
    """
    The answer that redirects led to.

    @ivar raw: the response itself; its body is the caller's, to read or to discard.
    @ivar is_own: whether the registry's own server gave it, and no server that
        it led to.
    @ivar where: the host that gave it.
    @ivar url: what it is the answer to, which may be signed.
    @ivar authorization: the proof that was sent there.
    @ivar warnings: what the registry's own server warned of on the way.
    @ivar zone: the zone of the server that gave it, which decides where that
        server may lead.
    """

    raw: IResponse
    is_own: bool
    where: str
    url: str = field(repr=False)
    authorization: Authorization | None = None
    warnings: tuple[str, ...] = ()
    zone: Zone = Zone.PUBLIC

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
    ) -> None:
        """
        @param agents: gives what makes the requests.
        @param address_of: gives the IP address that a response came from, or
            L{None} where a proxy is between.
        @param allows_private: whether the registry of a host may lead to
            private networks, wherever it is.
        @param own: the URL of a server that wants more headers.
        @param own_headers: these.  They may be secret, and go nowhere else.
        """
        self._own = Origin.of(own) if own_headers else None
        self._own_headers = own_headers
        self._choose = agents
        # Their idle connections last as long as they.
        self._agents: dict[tuple[bool, Zone | None], IAgent] = {}
        self._address_of = address_of
        self._allows_private = allows_private
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
        Ask an URL, wherever it leads, within the zones where each server may
        lead.

        A redirect keeps method and body; what a 303 leads to is for who reads
        only (RFC 9110, section 15.4.4), and so is given to who writes as the
        answer.

        @param authorization: the proof to bring, for the URL's own origin
            only; once a redirect has left that, it is not sent again.
        @param host: the registry's host, as errors name it.
        @param body: makes the body, anew for each place.
        @param fresh: whether to use no connection that was used before.
        @param led_from: the zone of the server that named the URL; L{None} if
            it is the registry's own.
        @raise RegistryError: redirects that lead nowhere, or where they must
            not lead.
        @raise ConnectionFailed: no answer.
        @raise TimedOut: no answer in time.
        """
        first = origin = self._origin(url, host)
        redirects = _REDIRECTS | {303} if method in _READING else _REDIRECTS
        is_first_origin = True
        warnings: tuple[str, ...] = ()
        began = self._clock.seconds()
        led = led_from
        for _ in range(MAX_REDIRECTS + 1):
            is_first_origin = is_first_origin and origin == first
            # What another server named is not the registry's, wherever it is.
            is_own = is_first_origin and led_from is None
            sent = Headers({n: [v] if isinstance(v, str) else v for n, v in headers.items()})
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
            if response.code not in redirects:
                proof = authorization if is_first_origin else None
                return Response(response, is_own, origin.host, url, proof, warnings, led)
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

        @param body: what to send; one that watches itself has limits of its
            own.
        @param fresh: whether to use no connection that was used before.
        @param led_from: the zone of the server that named the URL; L{None} if
            it is the registry's own.
        @return: its answer; the body is the caller's.
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
        # The first two have limits of their own; all three begin now.
        seconds = limits.connect + limits.tls + limits.headers
        late = TimedOut(f"{where} gave no answer within {seconds:g} s", phase="headers", host=host)
        if self._own is not None and origin == self._own:
            headers = headers.copy()
            set_already = {name.lower() for name, _ in headers.getAllRawHeaders()}
            for name, value in self._own_headers:
                if name.lower() not in _RESERVED and name.lower().encode() not in set_already:
                    headers.addRawHeader(name, value)
        try:
            agent = self._agent(fresh, origin, led_from)
            waiting = make_request(agent, method.decode("ascii"), url, headers, body, reactor=self._clock)
            if isinstance(body, ContentBody):
                return await body.guard(waiting)
            return await within(self._clock, seconds, waiting, lambda: late, discard)
        except CancelledError:
            raise
        except Exception as e:
            refused = next((each for each in causes(e) if isinstance(each, OutOfZone)), None)
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
        The zone of the server that gave a response, which decides where it may
        lead.

        @param url: what it is the response to.
        @param host: the registry, if the server is the registry's own.
        """
        address = self._address_of(response)
        # Of what is behind a proxy, only the name is known.
        zone = Origin.of(url).zone if address is None else Zone.of(address)
        if zone is None or zone is Zone.PUBLIC:
            return Zone.PRIVATE if host and self._allows_private(host) else Zone.PUBLIC
        return zone

    def _origin(self, url: str, host: str) -> Origin:
        """
        The origin of an URL.

        @raise RegistryError: it has none that a request can be made to.
        """
        try:
            return Origin.of(url)
        except ValueError as e:
            raise RegistryError(f"{host} names an URL that cannot be requested: {e}", host=host) from None

    def _agent(self, fresh: bool, origin: Origin, led_from: Zone | None) -> IAgent:
        """
        What makes a request.

        @raise OutOfZone: the origin must not be asked, by its name alone.
        """
        if led_from is not None and origin.zone is not None and not led_from.allows(origin.zone):
            raise OutOfZone(origin.zone)
        agent = self._agents.get((fresh, led_from))
        if agent is None:
            agent = self._agents[fresh, led_from] = self._choose(fresh, led_from)
        return agent

    def _show_warnings(self, headers: Headers, host: str) -> tuple[str, ...]:
        """
        Read what a registry warns of, and log each warning when it is new.
        """
        warnings = parse_warnings(header_values(headers, "Warning"))
        for warning in warnings:
            if (host, warning) not in self._warned:
                self._warned[host, warning] = True
                self._log.warn("{host} warns: {text}", host=host, text=warning)
        return warnings


def _without_port(host: str, where: str) -> str:
    """
    C{host} itself where C{where} is its name, so that it is not named twice.
    """
    split: SplitResult = urlsplit(f"//{host}")
    return host if split.hostname == where else where
