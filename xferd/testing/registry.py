# -*- test-case-name: tests.testing.test_registry -*-
"""
A registry of the OCI distribution-spec v1.1, for tests and for the demo: pulling,
pushing, tags, referrers, deleting.

skopeo, docker and podman push to it and pull from it.  It is not for production:
it has no garbage collection, and twisted.web reads the whole body of a request,
into a temporary file if it is large, before a route handles it.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol, cast

from attrs import evolve
from klein import Klein
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException

from xferd.errors import BadDigest, BadReference, XferdError
from xferd.media_types import OCI_INDEX
from xferd.names import Digest, Reference
from xferd.oci import MAX_DOCUMENT, Document, Index, parse_document
from xferd.testing.answers import Answer, Exchange, Problem, as_json, byte_range, problem
from xferd.testing.images import SampleImage, SampleIndex
from xferd.testing.server import Server, answering, arguments
from xferd.testing.storage import OCTETS, Stock, Storage, Upload
from xferd.testing.subjects import referrer, subject_of


class Guard(Protocol):
    """
    The access rights of a registry.
    """

    def challenge(self, authorization: str | None, scope: str) -> str | None:
        """
        Check a request's Authorization header.

        @param scope: the required scope, C{repository:<name>:pull}, or the empty
            string for any valid credentials.
        @return: the value of WWW-Authenticate, or L{None} to admit the request.
        """


class Registry(Server):
    """
    A registry.

    @ivar storage: its content; two registries may share one.
    @ivar breaks: the effect of a lost connection on an upload: C{keep} all received
        bytes, C{drop} those of the broken request, or C{forget} the session, as
        Distribution 2 does.
    @ivar chunks: whether it accepts chunks.
    @ivar single_post: whether it accepts a blob in the request that begins an upload; as
        Distribution does, it begins a session otherwise.
    @ivar lists_referrers: whether it has the referrers API.
    """

    app = Klein()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        storage: Storage | None = None,
        directory: Path | None = None,
        guard: Guard | None = None,
        rate: float | None = None,
        chunk_min_length: int | None = None,
    ) -> None:
        """
        @param storage: its content; by default that of C{directory}.
        @param directory: a directory for the content; in memory by default.
        @param guard: the access rights; all requests are admitted by default.
        @param rate: bytes a second of each answer's body.
        @param chunk_min_length: the least bytes of each chunk but the last.
        """
        super().__init__(clock, rate=rate)
        self.storage = storage or Storage(directory)
        self._guard = guard
        self._chunk_min_length = chunk_min_length
        self._uploads: dict[str, Upload] = {}
        self.breaks = "keep"
        self.chunks = True
        self.single_post = True
        self.lists_referrers = True

    # ----------------------------------------------------------- for the tests

    def add(self, image: SampleImage | SampleIndex, repository: str, tag: str | None = "latest") -> None:
        """
        Put an image into a repository.

        @param tag: L{None} for an image without a tag.
        """
        for blob in image.blobs:
            self.storage.put_blob(repository, blob)
        for document in image.documents:
            self.storage.put_document(repository, document)
        if tag is not None:
            self.storage.put_document(repository, image.document, tag)

    def exchanges(self, method: str, wanted: str | Digest) -> list[Exchange]:
        """
        The exchanges of a method whose path ends in a tag or digest.
        """
        return [e for e in self.log if e.method == method and e.path.endswith(f"/{wanted}")]

    def count(self, method: str, wanted: str | Digest) -> int:
        """
        The number of exchanges of a method for a tag or digest.
        """
        return len(self.exchanges(method, wanted))

    @property
    def bytes_sent(self) -> int:
        """
        The bytes of blobs sent so far.
        """
        return sum(e.bytes_sent for e in self.log if "/blobs/" in e.path and e.status in (200, 206))

    @property
    def bytes_received(self) -> int:
        """
        The bytes of uploads received so far; repeated bytes count each time.
        """
        return sum(e.bytes_received for e in self.log if "/blobs/uploads/" in e.path)

    @property
    def sessions(self) -> int:
        """
        The number of open upload sessions.
        """
        return len(self._uploads)

    def forget_uploads(self) -> None:
        """
        Forget all upload sessions.
        """
        for upload in self._uploads.values():
            upload.discard()
        self._uploads.clear()

    def arriving(self, path: str, size: int) -> None:
        upload = self._uploads.get(path.rpartition("/")[2])
        if upload is not None:
            upload.arriving += size

    def interrupted(self, method: str, path: str, content: BinaryIO) -> None:
        upload = self._uploads.get(path.rpartition("/")[2])
        if upload is None or method not in ("PATCH", "PUT") or self.breaks == "drop":
            return
        if self.breaks == "forget":
            del self._uploads[upload.id]
            upload.discard()
        else:
            content.seek(0)
            upload.append(content)

    # ------------------------------------------------------------------- version

    def admit(self, request: Request, segments: dict[str, str]) -> None:
        if self._guard is None:
            return
        name = segments.get("name")
        actions = {b"GET": "pull", b"HEAD": "pull", b"DELETE": "delete"}.get(request.method, "pull,push")
        scope = "" if name is None else f"repository:{name}:{actions}"
        challenge = self._guard.challenge(request.getHeader("Authorization"), scope)
        if challenge is not None:
            raise problem(401, "UNAUTHORIZED", "authentication required", {"WWW-Authenticate": challenge})

    @app.route("/v2", methods=["GET", "HEAD"])
    @app.route("/v2/", methods=["GET", "HEAD"])
    @answering
    def version(self, _: Request) -> Answer:
        """
        end-1: the version check.
        """
        return as_json({}, {"Docker-Distribution-API-Version": "registry/2.0"})

    # ------------------------------------------------------------------- pulling

    @app.route("/v2/<path:name>/manifests/<wanted>", methods=["GET", "HEAD"])
    @answering
    def get_manifest(self, _: Request, name: str, wanted: str) -> Answer:
        """
        end-3: a manifest by tag or digest.
        """
        stock = self._stock(name)
        if ":" in wanted:
            _digest(wanted)
        document = stock.find(wanted)
        if document is None:
            raise problem(404, "MANIFEST_UNKNOWN", f"{name} has no manifest {wanted}", detail=wanted)
        digest = str(document.digest)
        headers = {
            "Content-Type": document.media_type,
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
        }
        return Answer(200, headers, document.data)

    @app.route("/v2/<path:name>/blobs/<wanted>", methods=["GET", "HEAD"])
    @answering
    def get_blob(self, request: Request, name: str, wanted: str) -> Answer:
        """
        end-2: a blob, or a range of it.
        """
        digest = _digest(wanted)
        if digest not in self._stock(name).blobs:
            raise problem(404, "BLOB_UNKNOWN", f"{name} has no blob {digest}", detail=wanted)
        blob = self.storage.blobs[digest]
        size = blob.descriptor.size
        headers = {
            "Content-Type": OCTETS,
            "Docker-Content-Digest": wanted,
            "ETag": f'"{wanted}"',
            "Accept-Ranges": "bytes",
        }
        asked = request.getHeader("Range") if request.method == b"GET" else None
        wished = None if asked is None else byte_range(asked, size)
        if wished is None:
            return Answer(200, headers, blob)
        start, stop = wished
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return Answer(206, headers, blob, start, stop)

    @app.route("/v2/<path:name>/tags/list", methods=["GET"])
    @answering
    def get_tags(self, request: Request, name: str) -> Answer:
        """
        end-8: the tags, in pages on request.
        """
        tags = sorted(self._stock(name).tags)
        last = _argument(request, "last")
        if last is not None:
            tags = [tag for tag in tags if tag > last]
        headers = {}
        most = _argument(request, "n")
        if most is not None:
            page = tags[: int(most)] if most.isdigit() else tags
            if page and len(page) < len(tags):
                path = f"/v2/{name}/tags/list?n={most}&last={page[-1]}"
                headers["Link"] = f'<{path}>; rel="next"'
            tags = page
        return as_json({"name": name, "tags": tags}, headers)

    @app.route("/v2/<path:name>/referrers/<wanted>", methods=["GET"])
    @answering
    def get_referrers(self, request: Request, name: str, wanted: str) -> Answer:
        """
        end-12: the referrers of a subject.
        """
        digest = _digest(wanted)
        if not self.lists_referrers:
            raise problem(404, "UNSUPPORTED", "there is no such list")
        kind = _argument(request, "artifactType")
        stock = self.storage.repositories.get(name, Stock())
        listed = (referrer(document, digest) for document in stock.documents.values())
        found = [entry.to_json() for entry in listed if entry is not None]
        headers = {"Content-Type": OCI_INDEX}
        if kind is not None:
            found = [entry for entry in found if entry.get("artifactType") == kind]
            headers["OCI-Filters-Applied"] = "artifactType"
        return as_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}, headers)

    # ------------------------------------------------------------------- pushing

    @app.route("/v2/<path:name>/blobs/uploads", methods=["POST"])
    @app.route("/v2/<path:name>/blobs/uploads/", methods=["POST"])
    @answering
    def begin_upload(self, request: Request, name: str) -> Answer:
        """
        end-4a, end-4b, end-11: begin a session, accept a whole blob, or mount
        one.
        """
        _check_name(name)
        mount, source = _argument(request, "mount"), _argument(request, "from")
        if mount is not None:
            digest = _digest(mount)
            there = (
                self.storage.repositories.get(source or "", Stock()).blobs if source else self.storage.blobs
            )
            if digest in there:
                self.storage.put_blob(name, self.storage.blobs[digest])
                return _created(name, "blobs", digest)
        upload = self.storage.begin(name)
        wanted = _argument(request, "digest")
        if wanted is not None and self.single_post:
            return self._finish(request, upload, wanted)
        self._uploads[upload.id] = upload
        return self._session(upload, 202)

    @app.route("/v2/<path:name>/blobs/uploads/<session>", methods=["PATCH"])
    @answering
    def take_chunk(self, request: Request, name: str, session: str) -> Answer:
        """
        end-5: one chunk.
        """
        upload = self._upload(name, session)
        if not self.chunks:
            raise problem(405, "UNSUPPORTED", "the operation is unsupported")
        self._append(request, upload)
        return self._session(upload, 202)

    @app.route("/v2/<path:name>/blobs/uploads/<session>", methods=["PUT"])
    @answering
    def end_upload(self, request: Request, name: str, session: str) -> Answer:
        """
        end-6: the end of a session, with or without a last chunk.
        """
        upload = self._upload(name, session)
        wanted = _argument(request, "digest")
        if wanted is None:
            raise problem(400, "DIGEST_INVALID", "the digest is missing")
        del self._uploads[session]
        return self._finish(request, upload, wanted)

    @app.route("/v2/<path:name>/blobs/uploads/<session>", methods=["GET"])
    @answering
    def get_upload(self, _: Request, name: str, session: str) -> Answer:
        """
        end-13: the offset of a session.
        """
        return self._session(self._upload(name, session), 204)

    @app.route("/v2/<path:name>/blobs/uploads/<session>", methods=["DELETE"])
    @answering
    def cancel_upload(self, _: Request, name: str, session: str) -> Answer:
        """
        end-14: cancel a session.
        """
        self._upload(name, session).discard()
        del self._uploads[session]
        return Answer(204)

    @app.route("/v2/<path:name>/manifests/<wanted>", methods=["PUT"])
    @answering
    def put_manifest(self, request: Request, name: str, wanted: str) -> Answer:
        """
        end-7: a manifest, whose parts must be present.
        """
        _check_name(name, wanted)
        data = cast(BinaryIO, request.content).read(MAX_DOCUMENT + 1)
        if len(data) > MAX_DOCUMENT:
            raise problem(413, "SIZE_INVALID", f"a manifest has at most {MAX_DOCUMENT} bytes")
        digest = _digest(wanted) if ":" in wanted else None
        if digest is not None and Digest.of(data, digest.algorithm) != digest:
            raise problem(400, "DIGEST_INVALID", f"the manifest is not {digest}")
        try:
            document = Document.verified(request.getHeader("Content-Type") or "", data, digest)
            # As ghcr.io does, it takes what it cannot read.
            unknown = document.media_type and not document.descriptor.is_known
            parsed = None if unknown else parse_document(document)
        except XferdError as e:
            raise problem(400, "MANIFEST_INVALID", str(e)) from e
        stock = self.storage.stock(name)
        missing: list[Digest] = []
        if isinstance(parsed, Index):
            there = {*stock.documents, *stock.blobs}
            missing = [e.digest for e in parsed.manifests if e.digest not in there]
        elif parsed is not None:
            missing = [e.digest for e in (parsed.config, *parsed.layers) if e.digest not in stock.blobs]
        if missing:
            raise problem(400, "MANIFEST_BLOB_UNKNOWN", "push first what it names", detail=str(missing[0]))
        self.storage.put_document(name, document, None if ":" in wanted else wanted)
        answer = _created(name, "manifests", document.digest)
        subject = subject_of(document)
        if subject is not None and self.lists_referrers:
            answer = evolve(answer, headers={**answer.headers, "OCI-Subject": subject})
        return answer

    @app.route("/v2/<path:name>/manifests/<wanted>", methods=["DELETE"])
    @app.route("/v2/<path:name>/blobs/<wanted>", methods=["DELETE"])
    @answering
    def delete(self, _: Request, name: str, wanted: str) -> Answer:
        """
        end-9, end-10: remove a tag, a manifest or a blob.
        """
        self._stock(name)
        if ":" in wanted:
            _digest(wanted)
        if not self.storage.remove(name, wanted):
            raise problem(404, "MANIFEST_UNKNOWN", f"{name} has no {wanted}", detail=wanted)
        return Answer(202)

    # ------------------------------------------------------------ all the others

    @app.handle_errors(HTTPException)
    def no_route(self, request: IRequest, failure: Failure) -> Deferred[None]:
        """
        404 or 405 in the registry's form, for requests without a route.
        """
        error = failure.value
        assert isinstance(error, HTTPException)
        path = request.path.decode("ascii")
        answer = problem(error.code or 500, "UNSUPPORTED", f"{error.name}: {path}").answer
        return self.respond(cast(Request, request), {}, lambda: answer)

    def _stock(self, name: str) -> Stock:
        """
        An existing repository.
        """
        if name not in self.storage.repositories:
            raise problem(404, "NAME_UNKNOWN", f"there is no repository {name}", detail=name)
        return self.storage.repositories[name]

    def _upload(self, name: str, session: str) -> Upload:
        """
        An existing session, in its repository.
        """
        upload = self._uploads.get(session)
        if upload is None or upload.repository != name:
            raise problem(404, "BLOB_UPLOAD_UNKNOWN", f"there is no upload {session}", detail=session)
        return upload

    def _session(self, upload: Upload, status: int) -> Answer:
        """
        The location and the offset of a session.
        """
        # As Distribution 3 does, it counts bytes when they arrive.
        size = upload.size + (upload.arriving if self.breaks == "keep" else 0)
        headers = {
            "Location": f"/v2/{upload.repository}/blobs/uploads/{upload.id}",
            "Range": f"0-{max(0, size - 1)}",
            "Docker-Upload-UUID": upload.id,
        }
        if self._chunk_min_length is not None:
            headers["OCI-Chunk-Min-Length"] = str(self._chunk_min_length)
        return Answer(status, headers)

    def _append(self, request: Request, upload: Upload) -> None:
        """
        Append a request's body, if it begins at the session's offset.
        """
        told = request.getHeader("Content-Range")
        moved = told is not None and told.removeprefix("bytes ").partition("-")[0] != str(upload.size)
        if moved or upload.arriving:
            raise Problem(self._session(upload, 416))
        upload.append(cast(BinaryIO, request.content))

    def _finish(self, request: Request, upload: Upload, wanted: str) -> Answer:
        """
        Append the last bytes, and make the upload a blob.
        """
        try:
            digest = _digest(wanted)
            self._append(request, upload)
            if upload.digest(digest.algorithm) != digest:
                raise problem(400, "DIGEST_INVALID", f"the bytes are not {digest}", detail=wanted)
        except Problem:
            upload.discard()
            raise
        self.storage.finish(upload, digest)
        return _created(upload.repository, "blobs", digest)


def _digest(text: str) -> Digest:
    """
    Read a digest of a path or query.
    """
    try:
        return Digest.parse(text)
    except BadDigest as e:
        raise problem(400, "DIGEST_INVALID", str(e), detail=text) from e


def _check_name(name: str, wanted: str = "latest") -> None:
    """
    Check the names of a repository and a tag.
    """
    try:
        Reference.parse(f"registry.test/{name}{'@' if ':' in wanted else ':'}{wanted}")
    except BadReference as e:
        raise problem(400, "NAME_INVALID", str(e), detail=name) from e


def _argument(request: Request, name: str) -> str | None:
    """
    The last value of a query argument.
    """
    return next(reversed(arguments(request, name)), None)


def _created(name: str, kind: str, digest: Digest) -> Answer:
    """
    A 201 answer.
    """
    location = f"/v2/{name}/{kind}/{digest}"
    return Answer(201, {"Location": location, "Docker-Content-Digest": str(digest)})
