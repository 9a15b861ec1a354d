# -*- test-case-name: tests.registry.push.test_session -*-
"""
Requests to one server of a registry, with one client's credentials.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Final
from weakref import WeakValueDictionary

from attrs import evolve, field, frozen
from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse

from xferd.errors import ConnectionFailed, ManifestUnknown, RegistryError, SourceError
from xferd.interfaces.hosts import IHostMemory, Quota
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IKeychain
from xferd.names import Repository
from xferd.registry.auth.authenticator import Authenticator
from xferd.registry.auth.challenge import Challenge, parse_challenges
from xferd.registry.auth.counts import AuthCounts
from xferd.registry.auth.keychain import Anonymous
from xferd.registry.capabilities import ChunkSizes, KnownCapabilities
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
    retry_after,
)
from xferd.registry.transport.exchange import Authorization, Exchange, Fields, Response
from xferd.registry.transport.rate_limit import parse_quota
from xferd.registry.transport.response_body import read_excerpt
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.urls import Origin, resolve, with_argument
from xferd.registry.transport.zones import Zone

_NO_HEADERS: Final[Fields] = {}
_PORT = re.compile(r":[0-9]+$")


def pull_scope(repository: Repository) -> str:
    """
    The scope of a token for reading a repository.
    """
    return f"repository:{repository.path}:pull"


def push_scope(repository: Repository) -> str:
    """
    The scope of a token for writing to a repository.
    """
    return f"repository:{repository.path}:pull,push"


def _ignore_warning(repository: Repository, text: str) -> None:
    """
    The warning is in the log.
    """


@frozen
class ClientContext:
    """
    What the clients of all registries share.

    @ivar clock_skews: the differences between registries' clocks and this machine's.
    @ivar memory: learns the quotas of responses.
    @ivar on_warning: called with a repository and the text for each warning of its registry.
    """

    clock: IReactorTime
    wall_clock: WallClock
    exchange: Exchange
    hosts: Hosts
    timeouts: Timeouts
    chunk_sizes: ChunkSizes
    capabilities: KnownCapabilities
    clock_skews: ClockSkews
    memory: IHostMemory
    authentications: AuthCounts = field(factory=AuthCounts)
    locks: WeakValueDictionary[Hashable, DeferredLock] = field(factory=WeakValueDictionary)
    on_warning: Callable[[Repository, str], None] = _ignore_warning


class AuthenticatedClient:
    """
    Makes requests to one server of a registry, and authenticates them.

    @ivar host: the registry's host as people write it.
    @ivar identity: equal for clients with the same credentials.
    @ivar account: the same without secrets.
    @ivar anonymous: whether no credentials are ever sent.
    @ivar capabilities: the features of the registry, for all clients.
    @ivar locks: held from reading a document of a registry until it is written
        back.
    """

    def __init__(
        self, host: str, keychain: IKeychain, context: ClientContext, config: EndpointConfig | None = None
    ) -> None:
        """
        @param config: the server; the registry's own by default.
        """
        self.host = host
        self.identity = keychain.identity
        self.account = keychain.account
        self._keychain = keychain
        self._config = EndpointConfig(host) if config is None else config
        # A header that an operator configures may be a token.
        self.anonymous = isinstance(keychain, Anonymous) and not self._config.headers
        self.capabilities = context.capabilities.of(host)
        self.chunk_sizes = context.chunk_sizes
        self.locks = context.locks
        self.clock = context.clock
        self._wall_clock = context.wall_clock
        self.timeouts = context.timeouts
        self._exchange = context.exchange
        self._clock_skews = context.clock_skews
        self._memory = context.memory
        self._checked_url = ""
        self._root_is_open = False
        self._zone = Zone.named(_PORT.sub("", host).strip("[]"))
        self._on_warning = context.on_warning
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
            counts=context.authentications,
        )

    @property
    def zone(self) -> Zone:
        """
        The zone of the registry's address, by its last response, which limits where it may lead.
        """
        return Zone.PUBLIC if self._zone is None else self._zone

    def __repr__(self) -> str:
        return f"<access to {self.host}>"

    async def get(self, repository: Repository, path: str, headers: Fields, resource: Resource) -> Response:
        """
        GET a resource of a repository.

        @param path: below the repository, C{blobs/sha256:...}.
        @return: the response, whatever its status.
        @raise Denied: the registry demands credentials, and there are none.
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
        Make a request about a repository, and repeat it with the authorization
        that the registry demands.

        @param path: below the repository, C{blobs/sha256:...}, or a whole URL.
        @param scope: what a token must permit.
        @param body: makes the body, once for each time that it is sent.
        @param led_from: the zone of the server that named the URL, if the URL's
            host is not the registry.
        @return: the response, whatever its status.
        @raise Denied: the registry demands credentials, and there are none.
        """
        base = f"{await self.url()}{self._config.path}/{repository.path}/"
        own = "://" not in path or await self.is_own(path)
        url = path if "://" in path else base + path
        if self._config.namespace and url.startswith(base):
            url = with_argument(url, "ns", self._config.namespace)
        led = None if own else led_from
        try:
            response = await self._request_with_proof(method, url, headers, scope, resource, body, led)
        except (ConnectionFailed, NotHTTP):
            self._hosts.forget(self.host)
            raise
        for text in response.warnings:
            self._on_warning(repository, text)
        if response.status == 400 and response.is_own:
            # Go's servers answer so to plain HTTP on a port for TLS.
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
        Make one request with a body that is too large to send twice: the caller
        handles a 401, by L{refused}.

        @param fresh: whether to use a new connection.
        @param led_from: as for L{request}.
        """
        own = await self.is_own(url)
        authorization = await self._authenticator.authorization(scope, resource) if own else None
        led = None if own else led_from
        return await self._request_once(method, url, headers, authorization, body, led, fresh)

    async def refused(self, response: Response, body: bytes, scope: str, resource: Resource) -> None:
        """
        Learn from a 401 what the registry demands, and drop the token that it
        refused.

        @param body: the response's body.
        @raise Denied: there are no credentials, or they were refused.
        @raise CredentialsUnavailable: a helper fails.
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
        Whether a 400 may mean that the token has expired, as it does for some
        gateways.  If so, the token is dropped.
        """
        proof = response.authorization
        if response.status != 400 or proof is None:
            return False
        return await self._authenticator.renew(scope, proof, certain=False)

    async def check(self) -> None:
        """
        Check that the registry answers and accepts the credentials (OCI
        distribution-spec, "Determining Support").

        @raise Denied: it does not accept them.
        """
        resource = Resource(self.host, "its API", ManifestUnknown)
        url = f"{await self.url()}{self._config.path}/"
        response = await self._request_with_proof(b"GET", url, _NO_HEADERS, "", resource, None)
        body = await self.excerpt(response.raw)
        if response.status != 200:
            raise self.refusal(response, resource, body)

    async def url(self) -> str:
        """
        The URL of the registry's API without its path.

        @raise RegistryError: the host is not one that can be connected to.
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

        Docker tries TLS first.  With a server that waits for the end of a line,
        as Twisted's does, the handshake then runs into its timeout; every TLS
        server answers plain HTTP at once.  A redirect is not followed.  It means
        plain HTTP, unless it leads to the same port by TLS, as nginx can do for
        plain requests.
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
        led_from: Zone | None = None,
    ) -> Response:
        """
        Make a request, and repeat it once with the authorization that is
        demanded.

        @param led_from: the zone of the server that named the URL; L{None} if the
            URL is the registry's own.
        """
        own = led_from is None
        authorization = await self._authenticator.authorization(scope, resource) if own else None
        try:
            response = await self._request_once(method, url, headers, authorization, body, led_from)
        except ConnectionFailed as e:
            if method in (b"GET", b"HEAD") or not e.retryable:
                raise
            # An idle connection may have died.  Twisted's pool repeats only
            # requests without a body; all that come here may be repeated.
            response = await self._request_once(
                method, url, headers, authorization, body, led_from, fresh=True
            )
        if not response.is_own or not own:
            return response
        if response.status == 401:
            await self.refused(response, await self.excerpt(response.raw), scope, resource)
        elif await self.expired(response, scope) or await self._hides(response, scope, resource):
            await self.excerpt(response.raw)
        else:
            return response
        authorization = await self._authenticator.authorization(scope, resource)
        return await self._request_once(method, url, headers, authorization, body, led_from)

    async def _request_once(
        self,
        method: bytes,
        url: str,
        headers: Fields,
        authorization: Authorization | None,
        body: Callable[[], IBodyProducer] | None,
        led_from: Zone | None,
        fresh: bool = False,
    ) -> Response:
        """
        Make one request, and note the zone, the clock and the quota of the
        registry.

        @param led_from: as for C{_request_with_proof}.
        """
        response = await self._exchange.request(
            method,
            url,
            headers,
            authorization,
            host=self.host,
            body=body,
            fresh=fresh,
            led_from=led_from,
        )
        if response.is_own:
            self._zone = response.zone
            self._clock_skews.note(self.host, response.headers)
        if response.own_headers is not None:
            self._memory.answered(self.host, self.account, self._quota(response, response.own_headers))
        return response

    def _quota(self, response: Response, headers: Headers) -> Quota | None:
        """
        The quota by the headers of the registry's own server; it is used up if
        the request was refused because of a limit.
        """
        now = self._wall_clock()
        quota = parse_quota(headers, now)
        if response.status != 429 or not response.is_own:
            return quota
        wait = retry_after(headers, now)
        if quota is None:
            return Quota(0, reset=wait)
        return evolve(quota, remaining=0, reset=quota.reset if wait is None else wait)

    async def _hides(self, response: Response, scope: str, resource: Resource) -> bool:
        """
        Whether a registry that answers 403 or 404 to anonymous requests demands
        credentials at its root only (GitHub Packages and GHES do), and there
        are some.
        """
        if response.status not in (403, 404) or response.authorization is not None:
            return False
        if self._root_is_open or not await self._authenticator.has_credentials(scope):
            return False
        return await self._challenged_at_root(scope, resource)

    async def _challenged_at_root(self, scope: str, resource: Resource) -> bool:
        """
        Request the root of the API, as docker does before any other request,
        to learn what the registry demands.

        @return: whether it demands credentials.
        @raise Denied: it does, and there are none.
        """
        url = f"{await self.url()}{self._config.path}/"
        response = await self._request_once(b"GET", url, _NO_HEADERS, None, None, None)
        await self.excerpt(response.raw)
        challenges: tuple[Challenge, ...] = ()
        if response.is_own and response.status == 401:
            challenges = parse_challenges(header_values(response.headers, "WWW-Authenticate"))
        if not challenges:
            self._root_is_open = True
            return False
        await self._authenticator.challenged(challenges, scope, None, resource)
        return True

    async def is_own(self, url: str) -> bool:
        """
        Whether an URL is the registry's own, and not its storage's.

        @raise RegistryError: no request can be made to it.
        """
        own = await self.url()
        # The same text up to the path is the same origin, without parsing it.
        return url.startswith(f"{own}/") or self._origin(url) == self._origin(own)

    def _origin(self, url: str) -> Origin:
        """
        The origin of an URL.

        @raise RegistryError: no request can be made to it.
        """
        try:
            return Origin.of(url)
        except ValueError as e:
            raise RegistryError(
                f"{self.host} has an URL that cannot be requested: {e}", host=self.host
            ) from None

    # -------------------------------------------------------------- refusals

    async def excerpt(self, response: IResponse) -> bytes:
        """
        The body of a refusal.
        """
        return await read_excerpt(response, host=self.host, clock=self.clock, timeouts=self.timeouts)

    def details(self, response: Response, body: bytes) -> ErrorDetails:
        """
        The error in a response, with its text only if the registry itself sent
        it.
        """
        details = parse_error_details(body)
        return details if response.is_own else ErrorDetails(details.codes)

    async def refuse(self, response: Response, resource: Resource) -> SourceError:
        """
        The error for a response that is not a success.
        """
        return self.refusal(response, resource, await self.excerpt(response.raw))

    def refusal(self, response: Response, resource: Resource, body: bytes) -> SourceError:
        """
        The same, if the response's body has been read already.
        """
        if not response.is_own:
            # The registry must not read another server through our errors.
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
