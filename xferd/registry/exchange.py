# -*- test-case-name: tests.registry.test_exchange -*-
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
from xferd.registry.answers import Shown, connection_error, header, header_values
from xferd.registry.body import discard, read_excerpt
from xferd.registry.cautions import parse_warnings
from xferd.registry.locations import Origin, resolve
from xferd.registry.producer import ContentBody
from xferd.registry.timeouts import Timeouts, within

MAX_REDIRECTS = 10

REDIRECT_SECONDS = 60.0
"""Seconds from the first request after which no further redirect is followed."""


_REDIRECTS = frozenset({301, 302, 307, 308})
_RESERVED = frozenset({"host", "connection", "content-length", "transfer-encoding", "range"})
_READING = frozenset({b"GET", b"HEAD"})

Fields: TypeAlias = "Mapping[str, str | Sequence[str]]"
"""The header fields of a request, by name: a value, or one for each line."""


@frozen
class Authorization:
    """
    The proof that a request brings.

    @ivar secret: the C{Authorization} header.
    @ivar shown: whose it is.
    """

    secret: Secret
    shown: Shown


@frozen
class Answer:
    """
    The answer that redirects led to.

    @ivar response: its head; the body is the caller's, to read or to discard.
    @ivar is_own: whether the origin gave it that was asked first.
    @ivar where: the host that gave it.
    @ivar url: what it is the answer to, which may be signed.
    @ivar authorization: the proof that was sent there.
    @ivar warnings: what the origin that was asked first warned of on the way.
    """

    response: IResponse
    is_own: bool
    where: str
    url: str = field(repr=False)
    authorization: Authorization | None = None
    warnings: tuple[str, ...] = ()


class Exchange:
    """
    Makes requests.
    """

    _log = Logger()

    def __init__(
        self,
        agent: IAgent,
        clock: IReactorTime,
        timeouts: Timeouts,
        *,
        own: str = "",
        own_headers: tuple[tuple[str, str], ...] = (),
        fresh: IAgent | None = None,
    ) -> None:
        """
        @param agent: makes the requests.
        @param fresh: makes them on new connections only; C{agent}, if there is
            no other.
        @param own: the URL of a server that wants more headers.
        @param own_headers: these.  They may be secret, and go nowhere else.
        """
        self._own = Origin.of(own) if own_headers else None
        self._own_headers = own_headers
        self._agent = agent
        self._fresh = agent if fresh is None else fresh
        self._clock = clock
        self._timeouts = timeouts
        self._warned: ExpiringDict[tuple[str, str], bool] = ExpiringDict(clock.seconds)

    async def get(
        self, url: str, headers: Fields, authorization: Authorization | None, *, host: str
    ) -> Answer:
        """
        GET an URL; see L{ask}.
        """
        return await self.ask(b"GET", url, headers, authorization, host=host)

    async def ask(
        self,
        method: bytes,
        url: str,
        headers: Fields,
        authorization: Authorization | None,
        *,
        host: str,
        body: Callable[[], IBodyProducer] | None = None,
        fresh: bool = False,
    ) -> Answer:
        """
        Ask an URL, wherever it leads.

        A redirect keeps method and body; what a 303 leads to is for who reads
        only (RFC 9110, section 15.4.4), and so is given to who writes as the
        answer.

        @param authorization: the proof to bring, for the URL's own origin
            only; once a redirect has left that, it is not sent again.
        @param host: the registry's host, as errors name it.
        @param body: makes the body, anew for each place.
        @param fresh: whether to use no connection that was used before.
        @raise RegistryError: redirects that lead nowhere.
        @raise ConnectionFailed: no answer.
        @raise TimedOut: no answer in time.
        """
        try:
            first = Origin.of(url)
        except ValueError as e:
            raise RegistryError(f"{host} names an URL that cannot be asked: {e}", host=host) from None
        redirects = _REDIRECTS | {303} if method in _READING else _REDIRECTS
        is_own = True
        warnings: tuple[str, ...] = ()
        began = self._clock.seconds()
        for _ in range(MAX_REDIRECTS + 1):
            origin = Origin.of(url)
            is_own = is_own and origin == first
            sent = Headers({n: [v] if isinstance(v, str) else v for n, v in headers.items()})
            if is_own and authorization is not None:
                sent.setRawHeaders("Authorization", [authorization.secret.reveal()])
            response = await self.request(
                method, url, sent, host=host, body=None if body is None else body(), fresh=fresh
            )
            if is_own:
                warnings += self._show_warnings(response.headers, host)
            if response.code not in redirects:
                proof = authorization if is_own else None
                return Answer(response, is_own, origin.host, url, proof, warnings)
            if self._clock.seconds() - began > REDIRECT_SECONDS:
                discard(response)
                raise TimedOut(
                    f"{host} still redirects after {REDIRECT_SECONDS:g} s", phase="headers", host=host
                )
            location = header(response.headers, "Location")
            await read_excerpt(response, host=host, clock=self._clock, timeouts=self._timeouts)
            try:
                url = resolve(url, location)
            except ValueError as e:
                raise RegistryError(f"{host} redirects to a place that is refused: {e}", host=host) from None
        raise RegistryError(f"{host} redirects more than {MAX_REDIRECTS} times", host=host)

    async def request(
        self,
        method: bytes,
        url: str,
        headers: Headers,
        *,
        host: str,
        body: IBodyProducer | None = None,
        fresh: bool = False,
    ) -> IResponse:
        """
        Make one request.

        @param body: what to send; one that watches itself has limits of its
            own.
        @param fresh: whether to use no connection that was used before.
        @return: its answer; the body is the caller's.
        @raise ConnectionFailed: no answer.
        @raise TimedOut: no answer in time.
        """
        limits = self._timeouts
        where = urlsplit(url).hostname or host
        # The first two have limits of their own; all three begin now.
        seconds = limits.connect + limits.tls + limits.headers
        late = TimedOut(f"{where} gave no answer within {seconds:g} s", phase="headers", host=host)
        if self._own is not None and Origin.of(url) == self._own:
            headers = headers.copy()
            set_already = {name.lower() for name, _ in headers.getAllRawHeaders()}
            for name, value in self._own_headers:
                if name.lower() not in _RESERVED and name.lower().encode() not in set_already:
                    headers.addRawHeader(name, value)
        try:
            agent = self._fresh if fresh else self._agent
            waiting = agent.request(method, url.encode("ascii"), headers, body)
            if isinstance(body, ContentBody):
                return await body.guard(waiting)
            return await within(self._clock, seconds, waiting, lambda: late, discard)
        except CancelledError:
            raise
        except Exception as e:
            error = connection_error(e, host, _without_port(host, where))
            if error is None:
                raise
            raise error from e

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
