# -*- test-case-name: tests.registry.test_repository -*-
"""
One repository of one registry, over all servers that stand for the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.errors import BlobUnknown, XferdError
from xferd.interfaces.registry import IBlobBody, IContent, IRepository, Pushed, UploadSession
from xferd.lookups import ENOUGH, Lookups
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document
from xferd.realms import origin
from xferd.registry.mirrors import Endpoint, Endpoints, WatchedBody
from xferd.registry.push.session import Session
from xferd.registry.push.target import PushAttempt
from xferd.registry.transport.errors import Resource
from xferd.subjects import referrer, subject_of


@implementer(IRepository)
class RemoteRepository:
    """
    A repository, with the credentials of one client.

    Mirrors serve manifests, configs and blobs.  Everything else is for the
    registry's own server, or for the one that may be pushed to.
    """

    def __init__(self, endpoints: Endpoints, name: Repository) -> None:
        own = endpoints.own.client
        self.name = name
        self.host = name.host
        self.label = str(name)
        self.identity: Hashable = (own.host, name.path, own.identity)
        self.account = own.account
        self.origin = origin(name, anonymous=own.anonymous)
        self._endpoints = endpoints
        self._lookups = Lookups()
        self._mounts = Lookups(ENOUGH)

    def __repr__(self) -> str:
        return f"<RemoteRepository {self.label}>"

    def manifest(self, wanted: str) -> Deferred[Document]:
        def work(endpoint: Endpoint) -> Deferred[Document]:
            return endpoint.in_time(
                endpoint.documents.manifest(self.name, wanted), f"manifest {wanted} of {self.name}"
            )

        capability = "pull" if ":" in wanted else "resolve"
        return Deferred.fromCoroutine(self._endpoints.request(capability, work, f"manifest {wanted}"))

    def resolve(self, wanted: str, *, confirm: bool = False) -> Deferred[Digest]:
        def work(endpoint: Endpoint) -> Deferred[Digest]:
            return endpoint.in_time(
                endpoint.documents.resolve(self.name, wanted), f"manifest {wanted} of {self.name}"
            )

        capability = "pull" if ":" in wanted else "resolve"
        what = f"digest of manifest {wanted}"
        return Deferred.fromCoroutine(self._endpoints.request(capability, work, what, confirm))

    def config(self, descriptor: Descriptor) -> Deferred[bytes]:
        digest = descriptor.digest

        def work(endpoint: Endpoint) -> Deferred[bytes]:
            return endpoint.in_time(
                endpoint.documents.document(self.name, descriptor), f"document {digest} of {self.name}"
            )

        return Deferred.fromCoroutine(self._endpoints.request("pull", work, str(digest)))

    def open(self, digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        async def work(endpoint: Endpoint) -> IBlobBody:
            body = await endpoint.blobs.open(self.name, digest, offset, end)

            def broke(error: XferdError) -> None:
                if endpoint is self._endpoints.own:
                    self._endpoints.own_failed(endpoint, error)
                else:
                    self._endpoints.failed(endpoint, error, str(digest))

            return WatchedBody(body, broke)

        last_only = (self.name, digest) in self._endpoints.distrusted
        return Deferred.fromCoroutine(self._endpoints.request("pull", work, str(digest), last_only))

    def confirm(self, digest: Digest) -> Deferred[int | None]:
        own = self._endpoints.own
        return Deferred.fromCoroutine(self._endpoints.watch(own, own.blobs.confirm(self.name, digest)))

    def distrust(self, digest: Digest) -> None:
        self._endpoints.distrusted[self.name, digest] = True

    def push(
        self,
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Deferred[Pushed]:
        async def push() -> Pushed:
            endpoint = self._endpoints.pushing
            attempt = PushAttempt(endpoint.client, self.name, digest, self._lookups, self._mounts)
            return await self._endpoints.watch(
                endpoint, attempt.run(content, candidates, session, remember, report)
            )

        return Deferred.fromCoroutine(push())

    def abort(self, session: UploadSession) -> Deferred[None]:
        client = self._endpoints.pushing.client
        subject = Resource(client.host, f"an upload to {self.name}", BlobUnknown, push=True)
        return Session(client, self.name, subject, session.location, session.offset).abort()

    def put_manifest(self, wanted: str, document: Document) -> Deferred[None]:
        async def put() -> None:
            endpoint = self._endpoints.pushing
            putting = self._put_manifest(endpoint, wanted, document)
            await self._endpoints.watch(
                endpoint, endpoint.in_time(putting, f"manifest {wanted} of {self.name}")
            )

        return Deferred.fromCoroutine(put())

    def referrers(self, digest: Digest) -> Deferred[tuple[Descriptor, ...]]:
        endpoint = self._endpoints.own
        name = f"list of referrers of {self.name}@{digest}"
        finding = endpoint.in_time(endpoint.referrers.find(self.name, digest), name)
        return Deferred.fromCoroutine(self._endpoints.watch(endpoint, finding))

    def tags(self) -> Deferred[tuple[str, ...]]:
        endpoint = self._endpoints.own
        finding = endpoint.in_time(endpoint.tags.find(self.name), f"list of tags of {self.name}")
        return Deferred.fromCoroutine(self._endpoints.watch(endpoint, finding))

    async def _put_manifest(self, endpoint: Endpoint, wanted: str, document: Document) -> None:
        """
        Put a manifest and have its subject's referrers list it.
        """
        subject = subject_of(document)
        noted = await endpoint.documents.put(self.name, wanted, document)
        if subject is not None and noted is None:
            await endpoint.referrers.add(self.name, subject, referrer(document))
