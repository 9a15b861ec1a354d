# -*- test-case-name: tests.registry.test_client -*-
"""
Registries as the rest of xferd sees them: documents, and sources of blobs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.iweb import IAgent, IResponse
from zope.interface import implementer

from xferd.errors import (
    BadDigest,
    BadDocument,
    BadReference,
    BlobUnknown,
    ConnectionFailed,
    DigestMismatch,
    ManifestUnknown,
    RegistryError,
    SizeMismatch,
    TimedOut,
)
from xferd.interfaces import IRegistries, IRegistry
from xferd.names import Digest, Repository
from xferd.oci import ACCEPT, DOCKER_SCHEMA1, MAX_DOCUMENT, Descriptor, Document, parse_document
from xferd.registry.agent import Connections, IdentityAgent
from xferd.registry.answers import NotHTTP, Subject, clean, header, header_values, refusal
from xferd.registry.auth import Authenticator
from xferd.registry.blobs import RepositoryBlobs
from xferd.registry.body import discard, read_excerpt, read_whole
from xferd.registry.challenge import parse_challenges
from xferd.registry.credentials import Credentials, no_credentials
from xferd.registry.exchange import Answer, Exchange
from xferd.registry.hosts import HostConfig, Hosts
from xferd.registry.timeouts import Timeouts, within

T = TypeVar("T")

# Schema 1 is asked for, last of all, in order to be refused by its name.
_ACCEPT: Final = ", ".join((*ACCEPT, *(f"{t};q=0.1" for t in sorted(DOCKER_SCHEMA1))))

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@frozen
class _Shared:
    """
    What all registries use.
    """

    clock: IReactorTime
    exchange: Exchange
    hosts: Hosts
    timeouts: Timeouts


@implementer(IRegistries)
class Registries:
    """
    All registries.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        hosts: Mapping[str, HostConfig] | None = None,
        credentials: Callable[[str], Credentials | None] = no_credentials,
        timeouts: Timeouts | None = None,
        agent: IAgent | None = None,
    ) -> None:
        """
        @param reactor: also connects (TCP and names), unless there is an
            C{agent}.
        @param hosts: what the operator says about single registries, by host.
        @param credentials: gives the user's credentials for a host.
        @param agent: makes the requests instead of our own connections.
        @raise ConfigError: a CA file cannot be used.
        """
        timeouts = timeouts if timeouts is not None else Timeouts()
        known = Hosts(hosts if hosts is not None else {})
        self._connections: Connections | None = None
        if agent is None:
            self._connections = Connections(reactor, timeouts=timeouts, tls_options=known.tls_options)
            agent = self._connections.agent
        exchange = Exchange(IdentityAgent(agent), reactor, timeouts)
        self._shared = _Shared(reactor, exchange, known, timeouts)
        self._credentials = credentials
        self._registries: dict[tuple[str, Credentials | None], Registry] = {}

    def registry(self, host: str) -> Registry:
        """
        See L{IRegistries.registry}.
        """
        credentials = self._credentials(host)
        registry = self._registries.get((host, credentials))
        if registry is None:
            # What the user was before is of no use any more.
            for key in [k for k in self._registries if k[0] == host]:
                del self._registries[key]
            registry = self._registries[(host, credentials)] = Registry(host, credentials, self._shared)
        return registry

    def close(self) -> Deferred[None]:
        """
        See L{IRegistries.close}.
        """
        return succeed(None) if self._connections is None else self._connections.close()


@implementer(IRegistry)
class Registry:
    """
    One registry, seen with the credentials of one client.
    """

    _log = Logger()

    def __init__(self, host: str, credentials: Credentials | None, shared: _Shared) -> None:
        self.host = host
        self.credentials = credentials
        self._shared = shared
        self._authenticator = Authenticator(
            host,
            lambda: shared.hosts.url(host) or f"https://{host}",
            credentials,
            exchange=shared.exchange,
            clock=shared.clock,
            timeouts=shared.timeouts,
        )

    def __repr__(self) -> str:
        return f"<Registry {self.host}>"

    # ------------------------------------------------------------ IRegistry

    def manifest(self, repository: Repository, wanted: str) -> Deferred[Document]:
        """
        See L{IRegistry.manifest}.

        @raise UnsupportedImage: there is only a Docker schema 1 manifest.
        """
        return self._in_time(self._manifest(repository, wanted), f"manifest {wanted} of {repository}")

    def document(self, repository: Repository, descriptor: Descriptor) -> Deferred[bytes]:
        """
        See L{IRegistry.document}.
        """
        return self._in_time(
            self._document(repository, descriptor), f"document {descriptor.digest} of {repository}"
        )

    def blobs(self, repository: Repository) -> RepositoryBlobs:
        """
        See L{IRegistry.blobs}.
        """
        return RepositoryBlobs(self, repository, clock=self._shared.clock, timeouts=self._shared.timeouts)

    # ------------------------------------------------------------- requests

    async def get(
        self, repository: Repository, path: str, headers: Mapping[str, str], what: Subject
    ) -> Answer:
        """
        GET something of a repository, with all the proof that the registry
        wants.

        @param path: below the repository, C{blobs/sha256:...}.
        @return: the answer, whatever its status.
        @raise Denied: no proof can be had.
        """
        hosts = self._shared.hosts
        url = hosts.url(self.host) or hosts.learn(self.host, await self._speaks_plain())
        try:
            answer = await self._get_with_proof(
                f"{url}/v2/{repository.path}/{path}", repository, headers, what
            )
        except (ConnectionFailed, NotHTTP):
            hosts.forget(self.host)
            raise
        if answer.response.code == 400 and answer.is_own:
            # What Go's servers say to plain HTTP where TLS is spoken by now.
            hosts.forget(self.host)
        return answer

    async def _speaks_plain(self) -> bool:
        """
        Find out whether a loopback registry speaks plain HTTP.

        Docker tries TLS first.  A server that waits for the end of a line, as
        Twisted's does, then lets the handshake run into its limit; to plain
        HTTP, every TLS server answers at once.
        """
        try:
            answer = await self._shared.exchange.get(f"http://{self.host}/v2/", {}, None, host=self.host)
        except (ConnectionFailed, NotHTTP):
            return False
        await self.excerpt(answer.response)
        return answer.is_own and answer.response.code != 400

    async def _get_with_proof(
        self, url: str, repository: Repository, headers: Mapping[str, str], what: Subject
    ) -> Answer:
        """
        Ask; when told to, get the proof that is wanted, once, and ask again.
        """
        scope = f"repository:{repository.path}:pull"
        exchange, authenticator = self._shared.exchange, self._authenticator
        authorization = await authenticator.authorization(scope, what)
        answer = await exchange.get(url, headers, authorization, host=self.host)
        if answer.response.code != 401 or not answer.is_own:
            return answer
        body = await self.excerpt(answer.response)
        challenges = parse_challenges(header_values(answer.response.headers, "WWW-Authenticate"))
        if not challenges:
            raise refusal(what, 401, answer.response.headers, body, self._shared.clock.seconds())
        authenticator.challenged(challenges, scope, authorization, what)
        authorization = await authenticator.authorization(scope, what)
        return await exchange.get(url, headers, authorization, host=self.host)

    async def excerpt(self, response: IResponse) -> bytes:
        """
        The body of a refusal.
        """
        return await read_excerpt(
            response, host=self.host, clock=self._shared.clock, timeouts=self._shared.timeouts
        )

    async def refuse(self, answer: Answer, what: Subject) -> Exception:
        """
        The error for an answer that is no success.
        """
        response, body = answer.response, await self.excerpt(answer.response)
        if not answer.is_own and response.code in (401, 403):
            return RegistryError(
                f"the storage {answer.where}, where {self.host} keeps {what.name}, answers {response.code}",
                host=self.host,
                status=response.code,
            )
        return refusal(what, response.code, response.headers, body, self._shared.clock.seconds())

    # ------------------------------------------------------------ documents

    def _in_time(self, work: Coroutine[Deferred[Any], Any, T], name: str) -> Deferred[T]:
        """
        Limit the whole of a document's journey.
        """
        seconds = self._shared.timeouts.document
        return within(
            self._shared.clock,
            seconds,
            Deferred.fromCoroutine(work),
            lambda: TimedOut(
                f"{self.host} did not deliver the {name} within {seconds:g} s", phase="rate", host=self.host
            ),
        )

    async def _manifest(self, repository: Repository, wanted: str) -> Document:
        """
        Fetch a manifest and hold it against all digests that are known of it.
        """
        digest = _checked_reference(wanted)
        joint = "@" if digest is not None else ":"
        what = Subject(self.host, f"{repository}{joint}{wanted}", ManifestUnknown)
        answer = await self.get(repository, f"manifests/{wanted}", {"Accept": _ACCEPT}, what)
        if answer.response.code != 200:
            raise await self.refuse(answer, what)
        headers = answer.response.headers
        data = await self._read(
            answer,
            MAX_DOCUMENT,
            lambda: BadDocument(f"the manifest {what.name} is larger than {MAX_DOCUMENT} bytes"),
            what,
        )
        document = Document.verified(header(headers, "Content-Type"), data)
        if document.media_type in DOCKER_SCHEMA1:
            # Its digest is of a part of its bytes only: say what it is first.
            parse_document(document)
        for expected in (digest, self._promised(header(headers, "Docker-Content-Digest"))):
            if expected is not None:
                self._verify(data, expected, what.name)
        return Document.verified(document.media_type, data, digest)

    async def _document(self, repository: Repository, descriptor: Descriptor) -> bytes:
        """
        Fetch a config and hold it against its descriptor.
        """
        what = Subject(self.host, f"{repository}@{descriptor.digest}", BlobUnknown)
        size = descriptor.size
        if size > MAX_DOCUMENT:
            raise BadDocument(f"{what.name} has {size} bytes; a document has at most {MAX_DOCUMENT}")
        answer = await self.get(repository, f"blobs/{descriptor.digest}", {}, what)
        if answer.response.code != 200:
            raise await self.refuse(answer, what)
        data = await self._read(answer, size, lambda: self._wrong_size(what.name, size, "more"), what)
        if len(data) != size:
            raise self._wrong_size(what.name, size, f"{len(data)}")
        self._verify(data, descriptor.digest, what.name)
        return data

    async def _read(
        self, answer: Answer, limit: int, too_long: Callable[[], Exception], what: Subject
    ) -> bytes:
        """
        Read a document's bytes.
        """
        encoding = header(answer.response.headers, "Content-Encoding").strip().lower()
        if encoding not in ("", "identity"):
            discard(answer.response)
            raise RegistryError(
                f"{self.host} sends {what.name} encoded ({clean(encoding)}), though it was asked not to",
                host=self.host,
                status=answer.response.code,
            )
        return await read_whole(
            answer.response,
            limit,
            too_long,
            host=self.host,
            clock=self._shared.clock,
            timeouts=self._shared.timeouts,
        )

    def _promised(self, text: str) -> Digest | None:
        """
        The digest in C{Docker-Content-Digest}, where there is one that can be
        verified; old registries send none.
        """
        try:
            return Digest.parse(text) if text else None
        except BadDigest:
            self._log.debug("{host} sends the digest {digest}", host=self.host, digest=clean(text))
            return None

    def _verify(self, data: bytes, expected: Digest, name: str) -> None:
        """
        Hold bytes against a digest.
        """
        found = Digest.of(data, expected.algorithm)
        if found != expected:
            raise DigestMismatch(f"{self.host} sent {found} for {name}, not {expected}", host=self.host)

    def _wrong_size(self, name: str, size: int, found: str) -> SizeMismatch:
        return SizeMismatch(f"{self.host} sent {found} bytes for {name}, not {size}", host=self.host)


def _checked_reference(wanted: str) -> Digest | None:
    """
    Make sure that a tag or a digest can stand in an URL.

    @return: the digest, if it is one.
    @raise BadReference: it is neither.
    """
    if ":" in wanted:
        return Digest.parse(wanted)
    if _TAG.fullmatch(wanted) is None:
        raise BadReference(wanted, "it is neither a tag nor a digest")
    return None
