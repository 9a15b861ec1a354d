# -*- test-case-name: tests.v2.test_manifests -*-
"""
Manifests that arrive, in memory: their number of bytes is limited for each, and for
all together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import RequestEntityTooLarge, ServiceUnavailable

from xferd.errors import BadInput
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT, Document
from xferd.web.request import header

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest

MOST: Final = 64 * 1024 * 1024
"""The bytes of all manifests that arrive at once."""


class DocumentMemory:
    """
    Counts the bytes of all manifests that arrive.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self.taken = 0


class ArrivingDocument:
    """
    Receives a manifest.

    @ivar data: its bytes.
    """

    def __init__(self, memory: DocumentMemory) -> None:
        self._memory = memory
        self._released = False
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        """
        Add some bytes.

        @raise RequestEntityTooLarge: it is larger than a manifest may be.
        @raise ServiceUnavailable: too many manifests arrive.
        """
        if len(self.data) + len(data) > MAX_DOCUMENT:
            raise _too_large()
        if self._memory.taken + len(data) > self._memory.most:
            raise ServiceUnavailable("too many manifests arrive at once; try again in a moment")
        self._memory.taken += len(data)
        self.data += data

    def release(self) -> None:
        """
        The request is over.  Idempotent.
        """
        if not self._released:
            self._released = True
            self._memory.taken -= len(self.data)


def check_length(request: HTTPRequest) -> None:
    """
    Check the announced length of a manifest, before it is read.

    @raise RequestEntityTooLarge: it is larger than a manifest may be.
    """
    announced = header(request, b"content-length") or "0"
    if announced.isdecimal() and int(announced) > MAX_DOCUMENT:
        raise _too_large()


def _too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"a manifest has at most {MAX_DOCUMENT} bytes")


def read_manifest(request: HTTPRequest, wanted: str, data: bytes) -> Document:
    """
    Make a manifest of the body of a request.

    @param wanted: a tag, or the digest that the body has to have.
    @raise BadDigest: it is neither.
    @raise DigestMismatch: the body has another digest.
    @raise BadInput: the request names no media type.
    """
    media_type = header(request, b"content-type") or ""
    if not media_type:
        raise BadInput("the request has no Content-Type, which is the media type of the manifest")
    return Document.verified(media_type, data, Digest.parse(wanted) if ":" in wanted else None)
