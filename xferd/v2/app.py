# -*- test-case-name: tests.v2.test_app -*-
"""
The routes of the registry (OCI distribution-spec v1.1).

One class has all of them, as Klein wants it, which makes the module long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from attrs import evolve
from klein import Klein
from twisted.internet.defer import Deferred
from werkzeug.exceptions import HTTPException

from xferd.descriptors import own_limit
from xferd.errors import BadInput, BlobUnknown, NotFound, PushRefused, RequestLoop, TooManyRequests
from xferd.interfaces.mirror import MirroredManifest
from xferd.names import Digest
from xferd.realms import PASS, unlisted
from xferd.v2.blob_response import BlobResponse, RangeNotSatisfiable, span_of
from xferd.v2.bodies import ArrivingDocument, DocumentMemory, check_length, read_manifest
from xferd.v2.front import Front
from xferd.v2.listing import Listing
from xferd.v2.names import Names, Target
from xferd.v2.peers import PeerRoute
from xferd.v2.preconditions import Preconditions
from xferd.v2.request import path_of, query, query_all
from xferd.v2.responses import (
    add_warning,
    respond_empty,
    respond_error,
    respond_errors,
    respond_failure,
)
from xferd.v2.rights.connection import local_user
from xferd.v2.rights.rules import Action
from xferd.v2.settings import RegistrySettings
from xferd.v2.streamed import RegistrySite, accepted
from xferd.v2.uploads import Upload, Uploads
from xferd.web.client_limits import ClientLimits
from xferd.web.request import client_name, header

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.http import Request as HTTPRequest
    from twisted.web.server import Request, Site

    from xferd.interfaces.engines import ILateAnswers
    from xferd.interfaces.mirror import IMirror
    from xferd.interfaces.peers import IPeerDoor
    from xferd.interfaces.registry import IRegistries, IRepository
    from xferd.interfaces.store import IStore
    from xferd.jobs.local.manifests import LocalManifests
    from xferd.names import Repository
    from xferd.oci import Document
    from xferd.v2.rights.rights import Rights
    from xferd.v2.streamed import Receiver, StreamingRequest
    from xferd.web.peer_trust import Trust


class Registry:
    """
    The registry of one daemon.

    Life cycle: made; C{site} gives a factory for each listener.
    """

    app = Klein()
    app.url_map.merge_slashes = False
    # A redirect needs the URL of the registry, which a proxy in front of it may change.
    app.url_map.strict_slashes = False

    def __init__(
        self,
        *,
        store: IStore,
        mirror: IMirror,
        rights: Rights,
        registries: IRegistries,
        manifests: LocalManifests,
        settings: RegistrySettings,
        clock: IReactorTime,
        late_answers: ILateAnswers | None = None,
        peers: IPeerDoor | None = None,
        via: str = "",
        connections: Callable[[], int] = lambda: own_limit() // 4,
        check_open: Callable[[], None] = lambda: None,
    ) -> None:
        """
        @param registries: own repositories are among them.
        @param manifests: the manifests of own repositories.
        @param late_answers: has some manifests wait.
        @param peers: decides about the requests of other nodes, in a fleet.
        @param via: the identity of this daemon, which its own requests have.
        @param connections: how many connections may be open, of all listeners.
        @param check_open: called before a blob is pushed; raises if new work is refused.
        """
        self._check_open = check_open
        self._store = store
        self._mirror = mirror
        self._registries = registries
        self._names = Names(settings)
        self._manifests = manifests
        self._rights = rights
        self._via = via
        self._uploads = Uploads(store, self._find, rights)
        self._listing = Listing(store, self._find, rights, clock)
        self._documents = DocumentMemory()
        # Otherwise the first request prepares the routes.
        self.app.url_map.update()
        self._paths = self.app.url_map.bind("localhost")
        self._clock = clock
        self._late_answers = late_answers
        self._peers = None if peers is None else PeerRoute(peers, store, clock)
        self._connections = ClientLimits(connections)

    def reload(self, settings: RegistrySettings) -> None:
        """
        Replace the settings, for all requests from now on.

        @raise ConfigError: the file of passwords cannot be used; then all stays as it
            is.
        """
        self._rights.reload(settings)
        self._names = Names(settings)

    async def upstream(self, name: Repository) -> IRepository | None:
        """
        See L{IMirror.resume<xferd.interfaces.mirror.IMirror.resume>}.
        """
        target = self._names.of_listed(name)
        return None if target is None else await self._rights.upstream(target)

    def site(self, trust: Trust) -> Site:
        """
        Make the factory of one listener's connections.
        """
        return RegistrySite(
            Front(self.app.resource()),
            self._clock,
            admit_body=self._admit_body,
            places=self._connections,
            trust=trust,
            route=self._route,
        )

    def _route(self, request: HTTPRequest) -> tuple[str, Mapping[str, Any]]:
        """
        The name of a request's operation, and the parts of its path.
        """
        try:
            return self._paths.match(path_of(request), request.method.decode("latin-1"))
        except HTTPException:
            return "", {}

    @app.route("/v2/", methods=["GET"])
    @app.route("/<alias>/v2/", methods=["GET"])
    async def ping(self, request: Request, alias: str = "") -> bytes:  # noqa: ARG002
        """
        Report that this is a registry ("Determining Support").
        """
        await self._rights.check_login(request)
        request.setHeader(b"docker-distribution-api-version", b"registry/2.0")
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"content-length", b"2")
        return b"{}"

    @app.route("/v2/token", methods=["GET", "POST"])
    async def token(self, request: Request) -> bytes:
        """
        Send a token for the registry itself.
        """
        return await self._rights.respond_token(request)

    @app.route("/v2/_xferd/blobs/<digest>", methods=["GET"])
    async def peer_blob(self, request: Request, digest: str) -> bytes | None:
        """
        Send a blob to another node of the fleet.
        """
        wanted = Digest.parse(digest)
        if self._peers is None:
            raise BlobUnknown("this node is in no fleet")
        return await self._peers.respond(request, wanted)

    @app.route("/v2/_xferd/blobs/<digest>", methods=["POST"])
    def peer_taken(self, request: Request, digest: str) -> bytes:
        """
        Learn that another node of the fleet fetches a blob.
        """
        wanted = Digest.parse(digest)
        if self._peers is None:
            raise BlobUnknown("this node is in no fleet")
        return self._peers.taken(request, wanted)

    @app.route("/v2/_xferd/prefetch", methods=["POST"])
    def peer_prefetch(self, request: Request) -> bytes:
        """
        Prefetch an image for another node of the fleet.
        """
        if self._peers is None:
            raise NotFound("this node is in no fleet")
        return self._peers.prefetch(request)

    @app.route("/v2/<path:name>/manifests/<wanted>", methods=["GET"])
    @app.route("/<alias>/v2/<path:name>/manifests/<wanted>", methods=["GET"])
    async def manifest(self, request: Request, name: str, wanted: str, alias: str = "") -> bytes:
        """
        Send a manifest ("Pulling manifests").
        """
        (target, source), wanted = await self._granted(request, name, alias, Action.PULL, manifest=wanted)
        try:
            found = await self._found(request, target, source, wanted)
        except TooManyRequests as e:
            return respond_error(request, e, _limit_status(target))
        document = found.document
        self._store.catalog.note_use(source.name, document.digest)
        for text in found.warnings:
            add_warning(request, text)
        preconditions = Preconditions.of(request)
        preconditions.check(document.digest, f"{target.repository.path}:{wanted}")
        if preconditions.holds(document.digest):
            return self._not_modified(request, document.digest)
        await self._wait_for_layers(request, target, document)
        request.setHeader(b"content-type", document.media_type.encode("latin-1"))
        request.setHeader(b"content-length", b"%d" % len(document.data))
        self._describe(request, document.digest)
        return b"" if request.method == b"HEAD" else document.data

    @app.route("/v2/<path:name>/blobs/<digest>", methods=["GET"])
    @app.route("/<alias>/v2/<path:name>/blobs/<digest>", methods=["GET"])
    async def blob(self, request: Request, name: str, digest: str, alias: str = "") -> bytes | None:
        """
        Send a blob, or a range of it ("Pulling blobs").
        """
        wanted, client = Digest.parse(digest), client_name(request)
        (target, source), _ = await self._granted(request, name, alias, Action.PULL, blob=wanted)
        if target.upstream is None:
            self._check_here(target, wanted)
        try:
            # A GET has a status of its own when its first bytes are here.
            described = await self._mirror.describe(
                source, wanted, client, images=target.images, sure=request.method == b"HEAD"
            )
        except TooManyRequests as e:
            return respond_error(request, e, _limit_status(target))
        preconditions = Preconditions.of(request)
        preconditions.check(wanted, f"the blob of {target.repository.path}")
        if preconditions.holds(wanted):
            return self._not_modified(request, wanted)
        asked = header(request, b"range") if preconditions.allows_range(wanted) else None
        try:
            span = span_of(asked, described.size)
        except RangeNotSatisfiable:
            request.setHeader(b"content-range", b"bytes */%d" % described.size)
            return respond_errors(
                request, 416, "BLOB_UNKNOWN", f"{wanted} has {described.size} bytes: there is no such range"
            )
        # Until bytes arrive, an error has a status.
        reader = None
        if request.method != b"HEAD":
            try:
                reader = await self._mirror.blob(
                    source, wanted, client, span.start, span.stop, images=target.images
                )
            except TooManyRequests as e:
                return respond_error(request, e, _limit_status(target))
        self._describe(request, wanted)
        request.setHeader(b"content-type", b"application/octet-stream")
        request.setHeader(b"accept-ranges", b"bytes")
        request.setHeader(b"content-length", b"%d" % (span.stop - span.start))
        if span.partial:
            request.setResponseCode(206)
            content_range = f"bytes {span.start}-{span.stop - 1}/{described.size}"
            request.setHeader(b"content-range", content_range.encode("ascii"))
        if reader is None:
            return b""
        preload = partial(self._store.blobs.preload, wanted)
        try:
            await BlobResponse(request, reader, span, self._clock, preload).run()
        finally:
            # Also what a client got that has left.
            self._mirror.sent(source, request.sentLength)
        return None

    @app.route("/v2/<path:name>/manifests/<wanted>", methods=["PUT"])
    @app.route("/<alias>/v2/<path:name>/manifests/<wanted>", methods=["PUT"])
    async def put_manifest(self, request: Request, name: str, wanted: str, alias: str = "") -> bytes:
        """
        Receive a manifest ("Pushing Manifests", end-7a and end-7b).
        """
        target, body = self._target(request, name, alias), cast("ArrivingDocument", accepted(request))
        tags = query_all(request, "tag") if ":" in wanted else [wanted]
        document = read_manifest(request, wanted, bytes(body.data))
        check = Preconditions.of(request).check_change
        entry = await self._manifests.put(target.repository, document, tags, wanted, check)
        if ":" in wanted:
            for tag in tags:
                request.responseHeaders.addRawHeader(b"oci-tag", tag.encode("ascii"))
        if entry.subject is not None:
            request.setHeader(b"oci-subject", str(entry.subject).encode("ascii"))
        return self._created(request, target, "manifests", document.digest)

    @app.route("/v2/<path:name>/manifests/<wanted>", methods=["DELETE"])
    @app.route("/<alias>/v2/<path:name>/manifests/<wanted>", methods=["DELETE"])
    async def delete_manifest(self, request: Request, name: str, wanted: str, alias: str = "") -> bytes:
        """
        Delete a tag, or a manifest and its tags ("Deleting Manifests", end-9).
        """
        target, _ = await self._allowed(request, name, alias, Action.DELETE)
        await self._manifests.remove(target.repository, wanted, Preconditions.of(request).check_change)
        return respond_empty(request, 202)

    @app.route("/v2/<path:name>/blobs/<digest>", methods=["DELETE"])
    @app.route("/<alias>/v2/<path:name>/blobs/<digest>", methods=["DELETE"])
    async def delete_blob(self, request: Request, name: str, digest: str, alias: str = "") -> bytes:
        """
        Delete a blob ("Deleting Blobs", end-10).
        """
        target, _ = await self._allowed(request, name, alias, Action.DELETE)
        wanted = Digest.parse(digest)
        if self._store.catalog.blob(target.repository, wanted) is None:
            raise BlobUnknown(f"{target.repository.path} has no blob {wanted}")
        try:
            await self._store.catalog.remove_blob(target.repository, wanted)
        except BadInput as e:
            request.setHeader(b"allow", b"GET, HEAD")
            return respond_errors(request, 405, "UNSUPPORTED", str(e))
        return respond_empty(request, 202)

    @app.route("/v2/<path:name>/blobs/uploads/", methods=["POST"])
    @app.route("/<alias>/v2/<path:name>/blobs/uploads/", methods=["POST"])
    async def begin_upload(self, request: Request, name: str, alias: str = "") -> bytes:  # noqa: ARG002
        """
        Begin an upload, receive a whole blob, or mount one ("Pushing blobs", end-4a,
        end-4b, end-11).
        """
        upload = cast("Upload", accepted(request))
        if upload.digest is not None:
            digest = await self._uploads.finish(upload)
            return self._created(request, upload.target, "blobs", digest)
        assert upload.session is not None
        self._uploads.locate(request, upload.target, upload.session.id, upload.session.offset)
        return respond_empty(request, 202)

    @app.route("/v2/<path:name>/blobs/uploads/<session>", methods=["PATCH", "PUT"])
    @app.route("/<alias>/v2/<path:name>/blobs/uploads/<session>", methods=["PATCH", "PUT"])
    async def resume_upload(self, request: Request, name: str, session: str, alias: str = "") -> bytes:  # noqa: ARG002
        """
        Receive a chunk of a blob, or its end ("Pushing a blob in chunks", end-5,
        end-6).
        """
        upload = cast("Upload", accepted(request))
        if request.method == b"PUT":
            digest = await self._uploads.finish(upload)
            return self._created(request, upload.target, "blobs", digest)
        upload.check_end()
        assert upload.session is not None
        self._uploads.locate(request, upload.target, session, upload.session.offset)
        return respond_empty(request, 202)

    @app.route("/v2/<path:name>/blobs/uploads/<session>", methods=["GET"])
    @app.route("/<alias>/v2/<path:name>/blobs/uploads/<session>", methods=["GET"])
    async def upload(self, request: Request, name: str, session: str, alias: str = "") -> bytes:
        """
        Report how far an upload is ("Pushing a blob in chunks", end-13).
        """
        target, _ = await self._allowed(request, name, alias, Action.PUSH)
        self._uploads.status(request, target, session)
        return respond_empty(request, 204)

    @app.route("/v2/<path:name>/blobs/uploads/<session>", methods=["DELETE"])
    @app.route("/<alias>/v2/<path:name>/blobs/uploads/<session>", methods=["DELETE"])
    async def cancel_upload(self, request: Request, name: str, session: str, alias: str = "") -> bytes:
        """
        Cancel an upload (end-14).
        """
        target, _ = await self._allowed(request, name, alias, Action.PUSH)
        await self._uploads.cancel(target, session)
        return respond_empty(request, 204)

    @app.route("/v2/<path:name>/tags/list", methods=["GET"])
    @app.route("/<alias>/v2/<path:name>/tags/list", methods=["GET"])
    async def tags(self, request: Request, name: str, alias: str = "") -> bytes:
        """
        List the tags of a repository.
        """
        target, source = await self._allowed(request, name, alias, Action.PULL)
        return await self._listing.tags(request, target, source)

    @app.route("/v2/<path:name>/referrers/<digest>", methods=["GET"])
    @app.route("/<alias>/v2/<path:name>/referrers/<digest>", methods=["GET"])
    async def referrers(self, request: Request, name: str, digest: str, alias: str = "") -> bytes:
        """
        List the referrers of a manifest.
        """
        target, source = await self._allowed(request, name, alias, Action.PULL)
        return await self._listing.referrers(request, target, digest, source)

    @app.route("/v2/_catalog", methods=["GET"])
    async def repositories(self, request: Request) -> bytes:
        """
        List the repositories.
        """
        return await self._listing.repositories(request)

    def _admit_body(self, request: StreamingRequest) -> Deferred[Receiver] | None:
        """
        Decide about the body of a request, by its headers.
        """
        if request.method in (b"GET", b"HEAD"):
            # Most requests: the path is matched once, for their routes.
            return None
        try:
            endpoint, values = self._paths.match(path_of(request), request.method.decode("latin-1"))
        except HTTPException:
            return None
        if endpoint not in ("put_manifest", "begin_upload", "resume_upload"):
            return None
        return Deferred.fromCoroutine(self._receiver(request, **values))

    async def _receiver(
        self, request: StreamingRequest, name: str, alias: str = "", session: str = "", wanted: str = ""
    ) -> Receiver:
        """
        What receives the body of a push.
        """
        target, _ = await self._allowed(request, name, alias, Action.PUSH)
        if wanted:
            check_length(request)
            return ArrivingDocument(self._documents)
        if session:
            return await self._uploads.resume(request, target, session)
        self._check_open()
        return await self._uploads.begin(request, target)

    async def _found(
        self, request: Request, target: Target, source: IRepository, wanted: str
    ) -> MirroredManifest:
        """
        A manifest of an own repository, or of an upstream.
        """
        if target.upstream is None:
            return MirroredManifest(await self._manifests.read(target.repository, wanted))
        policy = target.upstream.tag_policy
        client = client_name(request)
        return await self._mirror.manifest(source, wanted, client, policy, images=target.images)

    def _check_here(self, target: Target, blob: Digest) -> None:
        """
        Check that an own repository has a blob.  Clients that push ask for each one.

        @raise BlobUnknown: it has not.
        """
        if self._store.catalog.blob(target.repository, blob) is None:
            raise BlobUnknown(f"{target.repository.path} has no blob {blob}")
        if not self._store.blobs.has(blob):
            raise BlobUnknown(f"the bytes of {blob} are gone: push it again")

    async def _wait_for_layers(self, request: Request, target: Target, document: Document) -> None:
        """
        Have an engine wait until it can use the layers of an image without a download, if
        the settings say so.  No other client waits.
        """
        late = self._late_answers
        repository, policy = unlisted(target.repository)
        # What only the client's own credentials open is not pulled with the daemon's.
        if late is None or request.method != b"GET" or policy == PASS:
            return
        uid = local_user(request)
        if uid is not None and late.waits(uid, header(request, b"user-agent") or ""):
            await late.ready(repository, document, client_name(request))

    async def _allowed(
        self, request: Request, name: str, alias: str, action: Action
    ) -> tuple[Target, IRepository]:
        """
        The repository that a request names, after the check of the client's right.

        @return: the repository, as the catalog lists it for this client, and the
            source of what is not in the store.
        @raise PushRefused: it is a push to a mirrored repository.
        """
        allowed, _ = await self._granted(request, name, alias, action)
        return allowed

    async def _granted(
        self,
        request: Request,
        name: str,
        alias: str,
        action: Action,
        *,
        manifest: str = "",
        blob: Digest | None = None,
    ) -> tuple[tuple[Target, IRepository], str]:
        """
        See L{_allowed}; also returns the tag or digest of the manifest to send.
        """
        target = self._target(request, name, alias)
        if target.upstream is not None and self._via and header(request, b"x-xferd-via") == self._via:
            raise RequestLoop(f"{target.repository} is requested by this daemon itself", status=508)
        if action is Action.PUSH and target.upstream is not None:
            raise PushRefused(f"{target.repository} is a mirror and takes no pushes: {self._names.hint}")
        grant = await self._rights.of(request, target, action, manifest=manifest, blob=blob)
        source = grant.source or self._registries.repository(target.repository)
        allowed = evolve(target, repository=grant.repository, images=grant.images)
        return (allowed, source), grant.manifest

    def _target(self, request: Request, name: str, alias: str) -> Target:
        target = self._find(name, alias, query(request, "ns") or "")
        if target.namespaced:
            # Not as the client sent it, which may have any character.
            request.setHeader(b"oci-namespace", target.repository.host.encode("ascii"))
        return target

    def _find(self, name: str, alias: str = "", namespace: str = "") -> Target:
        # The settings may have changed.
        return self._names.find(name, alias, namespace)

    def _created(self, request: Request, target: Target, kind: str, digest: Digest) -> bytes:
        """
        Respond that something was pushed.
        """
        location = f"/v2/{target.repository.path}/{kind}/{digest}"
        request.setHeader(b"location", location.encode("ascii"))
        request.setHeader(b"docker-content-digest", str(digest).encode("ascii"))
        request.setHeader(b"etag", f'"{digest}"'.encode("ascii"))
        return respond_empty(request, 201)

    def _describe(self, request: Request, digest: Digest) -> None:
        """
        Set the headers that name what is sent.
        """
        request.setHeader(b"docker-content-digest", str(digest).encode("ascii"))
        request.setHeader(b"etag", f'"{digest}"'.encode("ascii"))

    def _not_modified(self, request: Request, digest: Digest) -> bytes:
        """
        Respond that the client has the manifest or the blob already.
        """
        self._describe(request, digest)
        request.setResponseCode(304)
        return b""

    @app.handle_errors(Exception)  # type: ignore[arg-type]  # Klein's types take self for a Klein
    def fail(self, request: Request, failure: Failure) -> bytes:
        """
        Respond with an error; a bug is logged.
        """
        return respond_failure(request, failure)


def _limit_status(target: Target) -> int:
    """
    The status for a client where the rate limit of the upstream is reached.
    """
    return 429 if target.upstream is not None and target.upstream.on_ratelimit == "429" else 404
