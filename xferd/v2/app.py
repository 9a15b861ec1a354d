# -*- test-case-name: tests.v2.test_app -*-
"""
The routes of the registry (OCI distribution-spec v1.1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from klein import Klein
from twisted.logger import Logger
from werkzeug.exceptions import HTTPException

from xferd.descriptors import own_limit
from xferd.errors import NotFound, TooManyRequests, XferdError
from xferd.names import Digest
from xferd.v2.blob_response import BlobResponse, RangeNotSatisfiable, span_of
from xferd.v2.names import Names, Target
from xferd.v2.responses import add_warning, matches, respond_error, respond_errors, respond_http_error
from xferd.v2.rights.rules import Action
from xferd.v2.settings import RegistrySettings, UpstreamSettings
from xferd.web.client_limits import ClientLimits
from xferd.web.request import client_name, header, shown
from xferd.web.site import WebSite

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.server import Request, Site

    from xferd.interfaces.mirror import IMirror
    from xferd.interfaces.registry import IRepository
    from xferd.interfaces.store import IStore
    from xferd.v2.rights.rights import Rights
    from xferd.web.peer_trust import Trust


class Registry:
    """
    The registry of one daemon.

    Life cycle: made; C{site} gives a factory for each listener.
    """

    app = Klein()
    app.url_map.merge_slashes = False
    _log = Logger()

    def __init__(
        self,
        *,
        store: IStore,
        mirror: IMirror,
        rights: Rights,
        settings: RegistrySettings,
        clock: IReactorTime,
        connections: Callable[[], int] = lambda: own_limit() // 4,
    ) -> None:
        """
        @param connections: how many connections may be open, of all listeners.
        """
        self._store = store
        self._mirror = mirror
        self._names = Names(settings)
        self._rights = rights
        self._clock = clock
        self._connections = ClientLimits(connections)

    def reload(self, settings: RegistrySettings) -> None:
        """
        Replace the settings, for all requests from now on.

        @raise ConfigError: the file of passwords cannot be used; then all stays as it
            is.
        """
        self._rights.reload(settings)
        self._names = Names(settings)

    def site(self, trust: Trust) -> Site:
        """
        Make the factory of one listener's connections.
        """
        return WebSite(self.app.resource(), self._clock, places=self._connections, trust=trust)

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

    @app.route("/v2/<path:name>/manifests/<wanted>", methods=["GET"])
    @app.route("/<alias>/v2/<path:name>/manifests/<wanted>", methods=["GET"])
    async def manifest(self, request: Request, name: str, wanted: str, alias: str = "") -> bytes:
        """
        Send a manifest ("Pulling manifests").
        """
        target, source = await self._upstream(request, name, alias)
        upstream = target.upstream or UpstreamSettings()
        try:
            found = await self._mirror.manifest(source, wanted, client_name(request), upstream.tag_policy)
        except TooManyRequests as e:
            return respond_error(request, e, 429 if upstream.on_ratelimit == "429" else 404)
        document = found.document
        self._store.catalog.note_use(target.repository, document.digest)
        for text in found.warnings:
            add_warning(request, text)
        if matches(header(request, b"if-none-match"), document.digest):
            self._describe(request, document.digest, target)
            request.setResponseCode(304)
            return b""
        request.setHeader(b"content-type", document.media_type.encode("latin-1"))
        request.setHeader(b"content-length", b"%d" % len(document.data))
        self._describe(request, document.digest, target)
        return b"" if request.method == b"HEAD" else document.data

    @app.route("/v2/<path:name>/blobs/<digest>", methods=["GET"])
    @app.route("/<alias>/v2/<path:name>/blobs/<digest>", methods=["GET"])
    async def blob(self, request: Request, name: str, digest: str, alias: str = "") -> bytes | None:
        """
        Send a blob, or a range of it ("Pulling blobs").
        """
        target, source = await self._upstream(request, name, alias)
        wanted, client = Digest.parse(digest), client_name(request)
        described = await self._mirror.describe(source, wanted, client)
        try:
            span = span_of(header(request, b"range"), described.size)
        except RangeNotSatisfiable:
            request.setHeader(b"content-range", b"bytes */%d" % described.size)
            return respond_errors(
                request, 416, "BLOB_UNKNOWN", f"{wanted} has {described.size} bytes: there is no such range"
            )
        # Until bytes arrive, an error has a status.
        reader = None
        if request.method != b"HEAD":
            reader = await self._mirror.blob(source, wanted, client, span.start, span.stop)
        self._describe(request, wanted, target)
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
        await BlobResponse(request, reader, span, self._clock, preload).run()
        return None

    def _target(self, request: Request, name: str, alias: str) -> Target:
        namespaces = (request.args or {}).get(b"ns", [b""])
        return self._names.find(name, alias, namespaces[-1].decode("ascii", "replace"))

    async def _upstream(self, request: Request, name: str, alias: str) -> tuple[Target, IRepository]:
        """
        The upstream's repository for a pull.
        """
        target = self._target(request, name, alias)
        grant = await self._rights.of(request, target, Action.PULL)
        if grant.source is None:
            raise NotFound(f"{name} cannot be read yet")
        return target, grant.source

    def _describe(self, request: Request, digest: Digest, target: Target) -> None:
        """
        Set the headers that name what is sent.
        """
        request.setHeader(b"docker-content-digest", str(digest).encode("ascii"))
        request.setHeader(b"etag", f'"{digest}"'.encode("ascii"))
        if target.namespace:
            request.setHeader(b"oci-namespace", target.namespace.encode("ascii"))

    @app.handle_errors(Exception)  # type: ignore[arg-type]  # Klein's types take self for a Klein
    def fail(self, request: Request, failure: Failure) -> bytes:
        """
        Respond with an error; a bug is logged.
        """
        request.setHeader(b"docker-distribution-api-version", b"registry/2.0")
        error = failure.value
        if isinstance(error, HTTPException):
            return respond_http_error(request, error)
        if isinstance(error, XferdError):
            return respond_error(request, error)
        self._log.failure("while answering {path}", failure, path=shown(request.path))
        return respond_errors(request, 500, "UNKNOWN", "internal error; see the daemon's log")
