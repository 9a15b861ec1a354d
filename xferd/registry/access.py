# -*- test-case-name: tests.registry.push.test_session -*-
"""
How one client's requests reach one registry: its address, and the proof that
it wants to see.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Final
from urllib.parse import urljoin
from weakref import WeakValueDictionary

from attrs import evolve, field, frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse

from xferd.errors import ConnectionFailed, ManifestUnknown, RegistryError, SourceError
from xferd.expiring import ExpiringDict
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IKeychain
from xferd.names import Repository
from xferd.registry.auth.authenticator import Authenticator
from xferd.registry.auth.challenge import Challenge, parse_challenges
from xferd.registry.capabilities import Capabilities, ChunkSizes
from xferd.registry.clock_skews import ClockSkews
from xferd.registry.hosts.configured import Hosts
from xferd.registry.hosts.endpoint_config import EndpointConfig
from xferd.registry.transport.errors import (
    CredentialsUsed,
    ErrorDetails,
    NotHTTP,
    Resource,
    header,
    header_values,
    parse_error_details,
    refusal,
)
from xferd.registry.transport.exchange import Authorization, Exchange, Fields, Response
from xferd.registry.transport.response_body import read_excerpt
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.urls import Origin, resolve, with_argument
from xferd.registry.transport.zones import Zone

_NO_HEADERS: Final[Fields] = {}
_PORT = re.compile(r":[0-9]+$")


def pull_scope(repository: Repository) -> str:
    """
    What a token must allow in order to read.
    """
    return f"repository:{repository.path}:pull"


def push_scope(repository: Repository) -> str:
    """
    What a token must allow in order to write.
    """
    return f"repository:{repository.path}:pull,push"


def _ignore_warning(repository: Repository, text: str) -> None:
    """
    Leave it at the log.
    """


@frozen
class ClientContext:
    """
    What the requests to all registries use.

    @ivar clock_skews: how far the clocks of registries are from this machine's.
    @ivar warned: told what a registry warns of, and whom it was asked about.
    """

    clock: IReactorTime
    wall_clock: WallClock
    exchange: Exchange
    hosts: Hosts
    timeouts: Timeouts
    chunk_sizes: ChunkSizes
    capabilities: ExpiringDict[str, Capabilities]
    clock_skews: ClockSkews
    locks: WeakValueDictionary[Hashable, DeferredLock] = field(factory=WeakValueDictionary)
    warned: Callable[[Repository, str], None] = _ignore_warning


class AuthenticatedClient:
    """
    One registry, as one client reaches it.

    @ivar host: the registry's host as people write it.
    @ivar identity: equal for clients that are the same to the registry.
    @ivar account: the same without secrets.
    @ivar capabilities: what the registry can do, whoever asks.
    @ivar locks: held while something of a registry is read and written back.
    """

    def __init__(
        self, host: str, keychain: IKeychain, context: ClientContext, config: EndpointConfig | None = None
    ) -> None:
        """
        @param config: the server that stands for it; its own by default.
        """
        self.host = host
        self.identity = keychain.identity
        self.account = keychain.account
        self._keychain = keychain
        self._config = EndpointConfig(host) if config is None else config
        self.capabilities = context.capabilities.get_or_make(host, Capabilities)
        self.chunk_sizes = context.chunk_sizes
        self.locks = context.locks
        self.clock = context.clock
        self._wall_clock = context.wall_clock
        self.timeouts = context.timeouts
        self._exchange = context.exchange
        self._clock_skews = context.clock_skews
        self._checked_url = ""
        self._root_is_open = False
        self._zone = Zone.named(_PORT.sub("", host).strip("[]"))
        self._warned = context.warned
        self._hosts = context.hosts
        self._authenticator = Authenticator(
            host,
            lambda: self._config.url or context.hosts.url(host) or f"https://{host}",
            keychain,
            exchange=context.exchange,
            clock=context.clock,
            wall_clock=context.wall_clock,
            timeouts=context.timeouts,
            zone=lambda: self.zone,
        )

    @property
    def zone(self) -> Zone:
        """
        Where the registry is, by its last response, which decides where it may
        lead.
        """
        return Zone.PUBLIC if self._zone is None else self._zone

    def __repr__(self) -> str:
        return f"<access to {self.host}>"

    async def get(self, repository: Repository, path: str, headers: Fields, resource: Resource) -> Response:
        """
        GET something of a repository.

        @param path: below the repository, C{blobs/sha256:...}.
        @return: the answer, whatever its status.
        @raise Denied: no proof can be had.
        """
        return await self.request(b"GET", repository, path, resource, headers, pull_scope(repository))

    async def request(
        self,
        method: bytes,
        repository: Repository,
        path: str,
        resource: Resource,
        headers: Fields = _NO_HEADERS,
        scope: str = "",
        body: Callable[[], IBodyProducer] | None = None,
        led_from: Zone = Zone.PUBLIC,
    ) -> Response:
        """
        Make a request about a repository, with all the proof that the registry
        wants.

        @param path: below the repository, C{blobs/sha256:...}, or a whole URL.
        @param scope: what a token must allow.
        @param body: makes a body, anew for each time that it has to be sent.
        @param led_from: the zone of the server that named the URL, where that
            is on another host than the registry.
        @return: the answer, whatever its status.
        @raise Denied: no proof can be had.
        """
        base = f"{await self.url()}{self._config.path}/{repository.path}/"
        url = urljoin(base, path)
        if self._config.namespace and url.startswith(base):
            url = with_argument(url, "ns", self._config.namespace)
        try:
            response = await self._request_with_proof(method, url, headers, scope, resource, body, led_from)
        except (ConnectionFailed, NotHTTP):
            self._hosts.forget(self.host)
            raise
        for text in response.warnings:
            self._warned(repository, text)
        if response.status == 400 and response.is_own:
            # What Go's servers say to plain HTTP where TLS is spoken by now.
            self._hosts.forget(self.host)
        return response

    async def send(
        self,
        method: bytes,
        url: str,
        resource: Resource,
        headers: Fields,
        scope: str,
        body: Callable[[], IBodyProducer],
        fresh: bool = False,
        led_from: Zone = Zone.PUBLIC,
    ) -> Response:
        """
        Make one request with a body that is better not sent twice: a 401 is
        for the caller, who tells it to L{refused}.

        @param fresh: whether to use no connection that was used before.
        @param led_from: as for L{request}.
        """
        authorization = await self._authorization(url, scope, resource)
        return await self._request_once(method, url, headers, authorization, body, led_from, fresh)

    async def refused(self, response: Response, body: bytes, scope: str, resource: Resource) -> None:
        """
        Learn from a 401 what the registry wants, and drop the token that it
        did not like.

        @param body: the answer's body.
        @raise Denied: there is nothing that could be brought.
        @raise CredentialsUnavailable: a helper does not give the credentials.
        """
        headers = response.headers
        challenges = parse_challenges(header_values(headers, "WWW-Authenticate"))
        if challenges:
            await self._authenticator.challenged(challenges, scope, response.authorization, resource)
            return
        sent = response.authorization
        if await self._authenticator.renew(scope, sent):
            return
        if sent is not None or self._root_is_open or not await self._challenged_at_root(scope, resource):
            raise self.refusal(response, resource, body)

    async def expired(self, response: Response, scope: str) -> bool:
        """
        Whether a 400 may mean that the token has expired, as some gateways
        say it.  The token is dropped then.
        """
        proof = response.authorization
        if response.status != 400 or proof is None:
            return False
        return await self._authenticator.renew(scope, proof, certain=False)

    async def check(self) -> None:
        """
        See whether the registry lets this client in at all (OCI
        distribution-spec, "Determining Support").

        @raise Denied: it does not.
        """
        resource = Resource(self.host, "its API", ManifestUnknown)
        url = f"{await self.url()}{self._config.path}/"
        response = await self._request_with_proof(b"GET", url, _NO_HEADERS, "", resource, None)
        body = await self.excerpt(response.raw)
        if response.status != 200:
            raise self.refusal(response, resource, body)

    async def url(self) -> str:
        """
        Where the registry's API begins.

        @raise RegistryError: its host stands for no server.
        """
        url = self._config.url or self._hosts.url(self.host)
        if url is None:
            url = self._hosts.learn(self.host, await self._detects_plain_http())
        if url != self._checked_url:
            self._origin(url)
            self._checked_url = url
        return url

    async def _detects_plain_http(self) -> bool:
        """
        Find out whether a loopback registry speaks plain HTTP.

        Docker tries TLS first.  A server that waits for the end of a line, as
        Twisted's does, then lets the handshake run into its limit; to plain
        HTTP, every TLS server answers at once.  A redirect is not followed:
        where it leads says nothing of this host, unless it leads to the same
        port by TLS, as nginx can do for plain requests.
        """
        url = f"http://{self.host}/v2/"
        try:
            response = await self._exchange.request_once(b"GET", url, Headers(), host=self.host)
        except (ConnectionFailed, NotHTTP):
            return False
        await self.excerpt(response)
        status: int = response.code
        if 300 <= status < 400:
            try:
                target = Origin.of(resolve(url, header(response.headers, "Location"), Zone.LOOPBACK))
            except ValueError:
                return True
            return target != evolve(Origin.of(url), scheme="https")
        return status != 400

    async def _request_with_proof(
        self,
        method: bytes,
        url: str,
        headers: Fields,
        scope: str,
        resource: Resource,
        body: Callable[[], IBodyProducer] | None,
        led_from: Zone = Zone.PUBLIC,
    ) -> Response:
        """
        Ask; when told to, get the proof that is wanted, once, and ask again.
        """
        authorization = await self._authorization(url, scope, resource)
        try:
            response = await self._request_once(method, url, headers, authorization, body, led_from)
        except ConnectionFailed as e:
            if method in (b"GET", b"HEAD") or not e.retryable:
                raise
            # An idle connection may have died.  The Agent tries reading again
            # by itself, and nothing else; all that goes through here may be.
            response = await self._request_once(
                method, url, headers, authorization, body, led_from, fresh=True
            )
        if not response.is_own or not await self.is_own(url):
            return response
        if response.status == 401:
            await self.refused(response, await self.excerpt(response.raw), scope, resource)
        elif await self.expired(response, scope) or await self._hides(response, scope, resource):
            await self.excerpt(response.raw)
        else:
            return response
        authorization = await self._authorization(url, scope, resource)
        return await self._request_once(method, url, headers, authorization, body, led_from)

    async def _request_once(
        self,
        method: bytes,
        url: str,
        headers: Fields,
        authorization: Authorization | None,
        body: Callable[[], IBodyProducer] | None,
        led_from: Zone,
        fresh: bool = False,
    ) -> Response:
        """
        Ask once, and learn from the registry's own response where it is.
        """
        own = await self.is_own(url)
        response = await self._exchange.request(
            method,
            url,
            headers,
            authorization,
            host=self.host,
            body=body,
            fresh=fresh,
            led_from=None if own else led_from,
        )
        if response.is_own:
            self._zone = response.zone
            self._clock_skews.note(self.host, response.headers)
        return response

    async def _hides(self, response: Response, scope: str, resource: Resource) -> bool:
        """
        Whether a registry that answers 403 or 404 to anonymous requests asks
        for credentials at its root only (GitHub Packages and GHES do), and
        there are some.
        """
        if response.status not in (403, 404) or response.authorization is not None:
            return False
        if self._root_is_open or not await self._authenticator.has_credentials(scope):
            return False
        return await self._challenged_at_root(scope, resource)

    async def _challenged_at_root(self, scope: str, resource: Resource) -> bool:
        """
        Ask the root of the API what proof the registry wants, as docker does
        before any other request.

        @return: whether it wants any.
        @raise Denied: it does, and there is nothing that could be brought.
        """
        url = f"{await self.url()}{self._config.path}/"
        response = await self._request_once(b"GET", url, _NO_HEADERS, None, None, self.zone)
        await self.excerpt(response.raw)
        challenges: tuple[Challenge, ...] = ()
        if response.is_own and response.status == 401:
            challenges = parse_challenges(header_values(response.headers, "WWW-Authenticate"))
        if not challenges:
            self._root_is_open = True
            return False
        await self._authenticator.challenged(challenges, scope, None, resource)
        return True

    async def _authorization(self, url: str, scope: str, resource: Resource) -> Authorization | None:
        """
        The proof to bring to an URL: none to a foreign one.
        """
        if not await self.is_own(url):
            return None
        return await self._authenticator.authorization(scope, resource)

    async def is_own(self, url: str) -> bool:
        """
        Whether an URL is the registry's own, and not of some storage where it
        keeps its blobs.

        @raise RegistryError: it is none that can be asked.
        """
        own = await self.url()
        # The same text up to the path is the same origin, without parsing it.
        return url.startswith(f"{own}/") or self._origin(url) == self._origin(own)

    def _origin(self, url: str) -> Origin:
        """
        The origin of an URL.

        @raise RegistryError: it has none that can be asked.
        """
        try:
            return Origin.of(url)
        except ValueError as e:
            raise RegistryError(f"{self.host} has an URL that cannot be asked: {e}", host=self.host) from None

    # -------------------------------------------------------------- refusals

    async def excerpt(self, response: IResponse) -> bytes:
        """
        The body of a refusal.
        """
        return await read_excerpt(response, host=self.host, clock=self.clock, timeouts=self.timeouts)

    def details(self, response: Response, body: bytes) -> ErrorDetails:
        """
        What a refusal says, with the text only where the registry itself says
        it.
        """
        details = parse_error_details(body)
        return details if response.is_own else ErrorDetails(details.codes)

    async def refuse(self, response: Response, resource: Resource) -> SourceError:
        """
        The error for an answer that is no success.
        """
        return self.refusal(response, resource, await self.excerpt(response.raw))

    def refusal(self, response: Response, resource: Resource, body: bytes) -> SourceError:
        """
        The same, where the answer's body has been read already.
        """
        if not response.is_own:
            # Whoever named the place must not learn by us what it says.
            body = b""
        if not response.is_own and response.status in (401, 403):
            return RegistryError(
                f"the storage {response.where}, where {self.host} keeps {resource.name}, "
                f"answers {response.status}",
                host=self.host,
                status=response.status,
            )
        if response.status == 401:
            self._keychain.forget(self.host)
        proof = response.authorization
        used = CredentialsUsed() if proof is None else proof.used
        storage = "" if response.is_own else response.where
        return refusal(resource, response.status, response.headers, body, self._wall_clock(), used, storage)
