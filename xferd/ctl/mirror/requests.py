# -*- test-case-name: tests.ctl.mirror.test_requests -*-
"""
The requests that container tools make when they pull an image through a mirror, in
their order, and the answers that each of them needs.

Pure.  Each tool is a generator that yields L{Request}s and receives L{Answer}s.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from xferd.errors import BadDigest, XferdError
from xferd.media_types import DOCKER_LIST, DOCKER_MANIFEST, INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document, Index, parse_document
from xferd.selection import choose

if TYPE_CHECKING:
    from xferd.names import Reference
    from xferd.oci import Descriptor, Manifest
    from xferd.platforms import Platform

SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"


class Request(NamedTuple):
    """
    One request.

    @ivar path: the path with its query.
    @ivar headers: names and values; a name may occur several times.
    @ivar digest: the digest of the body, if the request names one.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    digest: Digest | None = None


class Answer(NamedTuple):
    """
    The answer to a request.

    @ivar headers: by name in lower case.
    @ivar body: the body of a document or an error.
    @ivar size: the bytes of the body.
    @ivar digest: the digest of the body, by the algorithm of the request's.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    size: int = 0
    digest: Digest | None = None


class Unusable(Exception):
    """
    The client cannot use an answer; the text is the reason.
    """


Script = Generator[Request, Answer, None]


class Pull:
    """
    The pull of one image by one client: the parts that the clients have in common.
    """

    def __init__(self, base: str, query: str, wanted: Reference, platform: Platform) -> None:
        """
        @param base: the path of the repository, C{/v2/library/alpine}.
        @param query: the query of every request, C{?ns=docker.io}, or the empty string.
        @param platform: the platform to choose from an index.
        """
        self._base = base
        self._query = query
        self._wanted = wanted.wanted
        self._platform = platform

    def path(self, kind: str, wanted: object) -> str:
        """
        The path of a manifest or a blob.
        """
        return f"{self._base}/{kind}/{wanted}{self._query}"

    def ping(self) -> Script:
        """
        Ask whether this is a registry.
        """
        answer = yield Request("GET", f"{self._base.partition('/v2/')[0]}/v2/")
        if answer.status not in (200, 401):
            raise Unusable(refusal(answer))

    def head(self, headers: tuple[tuple[str, str], ...]) -> Generator[Request, Answer, tuple[Digest, str]]:
        """
        Find the digest and the media type of the reference by HEAD.
        """
        answer = yield Request("HEAD", self.path("manifests", self._wanted), headers)
        _expect(answer, 200)
        kind, length = answer.headers.get("content-type", ""), answer.headers.get("content-length", "")
        if kind not in MANIFESTS | INDEXES:
            raise Unusable(f"the Content-Type {kind!r} is not that of a manifest")
        if not re.fullmatch(r"[1-9][0-9]*", length):
            raise Unusable(f"the Content-Length {length!r} is not that of a manifest")
        try:
            return Digest.parse(answer.headers.get("docker-content-digest", "")), kind
        except BadDigest as e:
            raise Unusable("there is no Docker-Content-Digest") from e

    def manifest(
        self, wanted: str | Digest, accept: Callable[[str], tuple[tuple[str, str], ...]], type_: str = ""
    ) -> Generator[Request, Answer, Manifest]:
        """
        Get a manifest, or an index and from it the manifest for the platform.

        @param accept: makes the Accept lines for a media type, which is empty where
            the client does not know it.
        """
        digest = wanted if isinstance(wanted, Digest) else None
        answer = yield Request("GET", self.path("manifests", wanted), accept(type_), digest)
        _expect(answer, 200)
        _whole(answer, digest)
        try:
            found = parse_document(
                Document.verified(answer.headers.get("content-type", ""), answer.body, digest)
            )
            if not isinstance(found, Index):
                return found
            entry = choose(found, self._platform)
        except XferdError as e:
            raise Unusable(str(e)) from e
        return (yield from self.manifest(entry.digest, accept, entry.media_type))

    def blobs(
        self, manifest: Manifest, headers: Callable[[Descriptor], tuple[tuple[str, str], ...]]
    ) -> Script:
        """
        Get the config and the smallest layer, and the second half of this layer, as
        after a broken connection.
        """
        layers = sorted((b for b in manifest.layers if not b.is_foreign), key=lambda blob: blob.size)
        for blob in (manifest.config, *layers[:1]):
            answer = yield Request("GET", self.path("blobs", blob.digest), headers(blob), blob.digest)
            _expect(answer, 200)
            _whole(answer, blob.digest)
            if answer.size != blob.size:
                raise Unusable(f"the blob has {answer.size} bytes; its manifest names {blob.size}")
        for blob in layers[:1]:
            first, last = blob.size // 2, blob.size - 1
            line = ("Range", f"bytes={first}-")
            answer = yield Request("GET", self.path("blobs", blob.digest), (*headers(blob), line))
            _expect(answer, 206)
            wanted, found = f"bytes {first}-{last}/{blob.size}", answer.headers.get("content-range", "")
            if found != wanted or answer.size != blob.size - first:
                raise Unusable(
                    f"the Content-Range is {found!r}, with {answer.size} bytes; wanted is {wanted!r}"
                )

    def by_reference(self) -> str | Digest:
        """
        The tag or digest of the reference.
        """
        return Digest.parse(self._wanted) if ":" in self._wanted else self._wanted


def containerd(pull: Pull) -> Script:
    """
    containerd, and those that use its code: docker with the containerd image store,
    BuildKit, k3s.
    """
    kinds = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
    digest, found = yield from pull.head((("Accept", ", ".join([*kinds, "*/*"])),))
    manifest = yield from pull.manifest(digest, lambda kind: (("Accept", f"{kind}, */*"),), found)
    yield from pull.blobs(manifest, lambda blob: (("Accept", f"{blob.media_type}, */*"),))


def docker(pull: Pull) -> Script:
    """
    docker with the classic image store.
    """
    kinds = (DOCKER_MANIFEST, DOCKER_LIST, OCI_INDEX, OCI_MANIFEST, SCHEMA1, "application/json")
    accept = tuple(("Accept", kind) for kind in kinds)
    yield from pull.ping()
    digest, _ = yield from pull.head(accept)
    manifest = yield from pull.manifest(digest, lambda _: accept)
    yield from pull.blobs(manifest, lambda _: ())


def podman(pull: Pull) -> Script:
    """
    podman, CRI-O, skopeo and buildah.
    """
    kinds = (
        OCI_MANIFEST,
        DOCKER_MANIFEST,
        SCHEMA1,
        "application/vnd.docker.distribution.manifest.v1+json",
        DOCKER_LIST,
        OCI_INDEX,
    )
    accept = tuple(("Accept", kind) for kind in kinds)
    yield from pull.ping()
    manifest = yield from pull.manifest(pull.by_reference(), lambda _: accept)
    yield from pull.blobs(manifest, lambda _: ())


def crane(pull: Pull) -> Script:
    """
    crane, kaniko, ko and others of go-containerregistry.
    """
    accept = (("Accept", ",".join([DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_LIST, OCI_INDEX])),)
    yield from pull.ping()
    yield from pull.head(accept)
    manifest = yield from pull.manifest(pull.by_reference(), lambda _: accept)
    yield from pull.blobs(manifest, lambda _: ())


SCRIPTS: Final[Mapping[str, Callable[[Pull], Script]]] = {
    "docker": docker,
    "containerd": containerd,
    "podman": podman,
    "buildkit": containerd,
    "k3s": containerd,
    "crane": crane,
}
"""The requests of each client."""

BY_NAMESPACE: Final[Sequence[str]] = ("containerd", "buildkit", "k3s")
"""The clients that name the upstream by C{ns}."""


def refusal(answer: Answer) -> str:
    """
    An answer that is not the wanted one, in words.
    """
    text = answer.body[:2000].decode("utf-8", "replace")
    message = re.search(r'"message": ?"((?:[^"\\]|\\.)*)"', text)
    return f"the answer is {answer.status}" + (f": {message[1]}" if message else "")


def _expect(answer: Answer, status: int) -> None:
    if answer.status != status:
        raise Unusable(refusal(answer))


def _whole(answer: Answer, digest: Digest | None) -> None:
    """
    Check the length and the digest of a body.
    """
    if answer.headers.get("content-length", "") != str(answer.size):
        raise Unusable(f"the body has {answer.size} bytes, and the Content-Length differs")
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise Unusable("the body has a Content-Encoding")
    if digest is not None and answer.digest != digest:
        raise Unusable(f"the body has the digest {answer.digest}")
