# -*- test-case-name: tests.registry.test_client -*-
"""
Registries as the rest of xferd sees them: documents, and sources of blobs.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent
from zope.interface import implementer

from xferd.errors import (
    TimedOut,
)
from xferd.interfaces import IRegistries, IRegistry
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document
from xferd.registry.abilities import ChunkSizes
from xferd.registry.access import Access, Shared
from xferd.registry.agent import Connections, IdentityAgent
from xferd.registry.blobs import RepositoryBlobs
from xferd.registry.credentials import Credentials, no_credentials
from xferd.registry.documents import Documents
from xferd.registry.exchange import Exchange
from xferd.registry.hosts import HostConfig, Hosts
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
        credentials: Callable[[str], Credentials | None] = no_credentials,
        timeouts: Timeouts | None = None,
        chunk_sizes: ChunkSizes | None = None,
        agent: IAgent | None = None,
    ) -> None:
        """
        @param reactor: also connects (TCP and names), unless there is an
            C{agent}.
        @param hosts: what the operator says about single registries, by host.
        @param credentials: gives the user's credentials for a host.
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

    def __init__(self, host: str, credentials: Credentials | None, shared: Shared) -> None:
        self.host = host
        self._access = Access(host, credentials, shared)
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
