# -*- test-case-name: tests.registry.test_exchange -*-
"""
One request and its redirects, followed by our own hand: credentials stay with
the origin that they are for, bodies of redirects are not left to hang, and
whatever L{twisted.web} raises ends here.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from attrs import frozen
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse

from xferd.errors import RegistryError, TimedOut
from xferd.names import is_loopback
from xferd.registry.answers import clean, connection_error, header, header_values
from xferd.registry.body import discard, read_excerpt
from xferd.registry.hosts import bracketed
from xferd.registry.timeouts import Timeouts, within

MAX_REDIRECTS = 10
MAX_WARNINGS = 1000

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))


@frozen
class Origin:
    """
    Whom credentials are for (RFC 6454): scheme, host and port.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """
        The origin of an URL.

        @raise ValueError: it has none that a request can be made to.
        """
        try:
            split = urlsplit(url)
            scheme, host, port = split.scheme, split.hostname, split.port
        except ValueError:
            # Without its text, which quotes the URL.
            raise ValueError("it is not an URL") from None
        if scheme not in _PORTS or not host or "@" in split.netloc:
            raise ValueError("it is not an http or https URL without credentials")
        return cls(scheme, host, port or _PORTS[scheme])

    @property
    def is_own_machine(self) -> bool:
        """
        Whether this is literally a place that only this machine or its
        closest network can reach: loopback, link-local (where clouds keep
        their secrets) or no address at all.
        """
        if is_loopback(bracketed(self.host)):
            return True
        try:
            address = ip_address(self.host)
        except ValueError:
            return False
        return address.is_link_local or address.is_unspecified or address.is_multicast


def check_target(source: Origin, target: Origin) -> None:
    """
    Make sure that a server may send us to another place.

    @raise ValueError: a foreign server sends us to our own machine.
    """
    if target.is_own_machine and not source.is_own_machine:
        raise ValueError("it leads from a foreign host to this machine's own")


@frozen
class Answer:
    """
    The answer that redirects led to.

    @ivar response: its head; the body is the caller's, to read or to discard.
    @ivar is_own: whether the origin gave it that was asked first.
    @ivar where: the host that gave it.
    """

    response: IResponse
    is_own: bool
    where: str


class Exchange:
    """
    Makes requests.
    """

    _log = Logger()

    def __init__(self, agent: IAgent, clock: IReactorTime, timeouts: Timeouts) -> None:
        self._agent = agent
        self._clock = clock
        self._timeouts = timeouts
        self._warned: set[tuple[str, str]] = set()

    async def get(
        self, url: str, headers: Mapping[str, str], authorization: str | None, *, host: str
    ) -> Answer:
        """
        GET an URL, wherever it leads.

        @param authorization: the C{Authorization} header, for the URL's own
            origin only; once a redirect has left that, it is not sent again.
        @param host: the registry's host, as errors name it.
        @raise RegistryError: redirects that lead nowhere.
        @raise ConnectionFailed: no answer.
        @raise TimedOut: no answer in time.
        """
        try:
            first = Origin.of(url)
        except ValueError as e:
            raise RegistryError(f"{host} names an URL that cannot be asked: {e}", host=host) from None
        is_own = True
        for _ in range(MAX_REDIRECTS + 1):
            origin = Origin.of(url)
            is_own = is_own and origin == first
            sent = Headers({name: [value] for name, value in headers.items()})
            if is_own and authorization is not None:
                sent.setRawHeaders("Authorization", [authorization])
            response = await self.request(b"GET", url, sent, host=host)
            if is_own:
                self._show_warnings(response.headers, host)
            if response.code not in _REDIRECTS:
                return Answer(response, is_own, origin.host)
            location = header(response.headers, "Location")
            await read_excerpt(response, host=host, clock=self._clock, timeouts=self._timeouts)
            url = self._follow(url, origin, location, host)
        raise RegistryError(f"{host} redirects more than {MAX_REDIRECTS} times", host=host)

    async def request(
        self, method: bytes, url: str, headers: Headers, *, host: str, body: IBodyProducer | None = None
    ) -> IResponse:
        """
        Make one request.

        @return: its answer; the body is the caller's.
        @raise ConnectionFailed: no answer.
        @raise TimedOut: no answer in time.
        """
        limits = self._timeouts
        where = urlsplit(url).hostname or host
        # The first two have limits of their own; all three begin now.
        seconds = limits.connect + limits.tls + limits.headers
        late = TimedOut(f"{where} gave no answer within {seconds:g} s", phase="headers", host=host)
        try:
            waiting = self._agent.request(method, url.encode("ascii"), headers, body)
            return await within(self._clock, seconds, waiting, lambda: late, discard)
        except CancelledError:
            raise
        except Exception as e:
            error = connection_error(e, host, _without_port(host, where))
            if error is None:
                raise
            raise error from e

    def _follow(self, url: str, origin: Origin, location: str, host: str) -> str:
        """
        The URL that a C{Location} means, if it is one to go to.
        """
        try:
            target = urljoin(url, quote(location, safe=_PRINTABLE))
            if not location:
                raise ValueError("it is empty")
            check_target(origin, Origin.of(target))
        except ValueError as e:
            raise RegistryError(f"{host} redirects to a place that is refused: {e}", host=host) from None
        return target

    def _show_warnings(self, headers: Headers, host: str) -> None:
        """
        Log each warning once (OCI distribution-spec, "Warnings").
        """
        for value in header_values(headers, "Warning")[:20]:
            if not value.startswith('299 - "'):
                continue
            warning = clean(value.removeprefix('299 - "').removesuffix('"'))
            if (host, warning) not in self._warned and len(self._warned) < MAX_WARNINGS:
                self._warned.add((host, warning))
                self._log.warn("{host} warns: {text}", host=host, text=warning)


def _without_port(host: str, where: str) -> str:
    """
    C{host} itself where C{where} is its name, so that it is not named twice.
    """
    split: SplitResult = urlsplit(f"//{host}")
    return host if split.hostname == where else where
