# -*- test-case-name: tests.registry.test_client -*-
"""
Registries as the rest of xferd sees them: documents, and sources of blobs.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent
from zope.interface import implementer

from xferd.credentials import Credentials
from xferd.errors import TimedOut
from xferd.interfaces import IKeychain, IRegistries, IRegistry
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document
from xferd.registry.abilities import ChunkSizes
from xferd.registry.access import Access, Shared
from xferd.registry.agent import Connections, IdentityAgent
from xferd.registry.blobs import RepositoryBlobs
from xferd.registry.documents import Documents
from xferd.registry.exchange import Exchange
from xferd.registry.hosts import HostConfig, Hosts
from xferd.registry.keychain import ClientKeychain, Nobody
from xferd.registry.referrers import Referrers, referrer, subject_of
from xferd.registry.targets import RepositoryTarget
from xferd.registry.timeouts import Timeouts, within

T = TypeVar("T")


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
        keychain: IKeychain | None = None,
        timeouts: Timeouts | None = None,
        chunk_sizes: ChunkSizes | None = None,
        agent: IAgent | None = None,
    ) -> None:
        """
        @param reactor: also connects (TCP and names), unless there is an
            C{agent}.
        @param hosts: what the operator says about single registries, by host.
        @param keychain: has the daemon's user's credentials.
        @param chunk_sizes: in which parts large blobs are sent.
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
        self._shared = Shared(reactor, exchange, known, timeouts, chunk_sizes or ChunkSizes())
        self._keychain = keychain if keychain is not None else Nobody()
        self._registries: dict[str, Registry] = {}
        # As long as a client's job has them, so that no token outlives it.
        self._clients: WeakValueDictionary[tuple[str, Credentials], Registry] = WeakValueDictionary()

    def registry(self, host: str) -> Registry:
        """
        See L{IRegistries.registry}.
        """
        registry = self._registries.get(host)
        if registry is None:
            registry = self._registries[host] = Registry(host, self._keychain, self._shared)
        return registry

    def seen_by(self, credentials: Mapping[str, Credentials]) -> RegistriesOfClient:
        """
        See L{IRegistries.seen_by}.
        """
        return RegistriesOfClient(self, credentials)

    def of_client(self, host: str, credentials: Credentials) -> Registry:
        """
        A registry, with the credentials that a client brought for it.
        """
        registry = self._clients.get((host, credentials))
        if registry is None:
            registry = Registry(host, ClientKeychain(credentials), self._shared)
            self._clients[host, credentials] = registry
        return registry

    def close(self) -> Deferred[None]:
        """
        See L{IRegistries.close}.
        """
        return succeed(None) if self._connections is None else self._connections.close()


@implementer(IRegistries)
class RegistriesOfClient:
    """
    All registries, as one client sees them.  Whoever has this keeps the
    client's tokens.
    """

    def __init__(self, registries: Registries, credentials: Mapping[str, Credentials]) -> None:
        self._registries = registries
        self._credentials = dict(credentials)
        self._held: dict[str, Registry] = {}

    def registry(self, host: str) -> Registry:
        """
        See L{IRegistries.registry}.
        """
        brought = self._credentials.get(host.lower())
        if brought is None:
            return self._registries.registry(host)
        held = self._held[host] = self._registries.of_client(host, brought)
        return held

    def seen_by(self, credentials: Mapping[str, Credentials]) -> RegistriesOfClient:
        """
        See L{IRegistries.seen_by}.
        """
        return RegistriesOfClient(self._registries, {**self._credentials, **credentials})

    def close(self) -> Deferred[None]:
        """
        See L{IRegistries.close}.
        """
        return self._registries.close()


@implementer(IRegistry)
class Registry:
    """
    One registry, seen with the credentials of one client.
    """

    def __init__(self, host: str, keychain: IKeychain, shared: Shared) -> None:
        self.host = host
        self._access = Access(host, keychain, shared)
        self._documents = Documents(self._access)
        self._referrers = Referrers(self._access, self._documents)

    def __repr__(self) -> str:
        return f"<Registry {self.host}>"

    # ------------------------------------------------------------ IRegistry

    def manifest(self, repository: Repository, wanted: str) -> Deferred[Document]:
        """
        See L{IRegistry.manifest}.

        @raise UnsupportedImage: there is only a Docker schema 1 manifest.
        """
        return self._in_time(
            self._documents.manifest(repository, wanted), f"manifest {wanted} of {repository}"
        )

    def document(self, repository: Repository, descriptor: Descriptor) -> Deferred[bytes]:
        """
        See L{IRegistry.document}.
        """
        return self._in_time(
            self._documents.document(repository, descriptor), f"document {descriptor.digest} of {repository}"
        )

    def blobs(self, repository: Repository) -> RepositoryBlobs:
        """
        See L{IRegistry.blobs}.
        """
        return RepositoryBlobs(self._access, repository)

    def target(self, repository: Repository) -> RepositoryTarget:
        """
        See L{IRegistry.target}.
        """
        return RepositoryTarget(self._access, repository)

    def put_manifest(self, repository: Repository, wanted: str, document: Document) -> Deferred[None]:
        """
        See L{IRegistry.put_manifest}.
        """
        return self._in_time(
            self._put_manifest(repository, wanted, document), f"manifest {wanted} of {repository}"
        )

    def referrers(self, repository: Repository, digest: Digest) -> Deferred[tuple[Descriptor, ...]]:
        """
        See L{IRegistry.referrers}.
        """
        return self._in_time(
            self._referrers.find(repository, digest), f"list of referrers of {repository}@{digest}"
        )

    def check(self) -> Deferred[None]:
        """
        See L{IRegistry.check}.
        """
        return self._in_time(self._access.check(), "root of its API")

    async def _put_manifest(self, repository: Repository, wanted: str, document: Document) -> None:
        """
        Put a manifest and see to it that its subject's referrers list it.
        """
        subject = subject_of(document)
        noted = await self._documents.put(repository, wanted, document)
        if subject is not None and noted is None:
            await self._referrers.add(repository, subject, referrer(document))

    def _in_time(self, work: Coroutine[Deferred[Any], Any, T], name: str) -> Deferred[T]:
        """
        Limit the whole of a document's journey.
        """
        seconds = self._access.timeouts.document
        return within(
            self._access.clock,
            seconds,
            Deferred.fromCoroutine(work),
            lambda: TimedOut(
                f"{self.host} did not deliver the {name} within {seconds:g} s", phase="rate", host=self.host
            ),
        )
