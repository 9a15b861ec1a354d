# -*- test-case-name: tests.v2.test_peers -*-
"""
The routes by which the nodes of a fleet send one another blobs, and ask one another to
prefetch images.

No client uses them, and no download begins because of a request for a blob.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.serialization import Encoding
from twisted.protocols.tls import TLSMemoryBIOProtocol

from xferd.interfaces.peers import IPeerDoor, PeerAnswer, PeerRequest
from xferd.json_encoding import encode
from xferd.v2.blob_response import BlobResponse, Span
from xferd.v2.request import query
from xferd.v2.responses import respond_errors
from xferd.web.request import header, note

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces.store import IStore
    from xferd.names import Digest

STALL: Final = 30.0
"""Seconds after which a peer that reads nothing is dropped."""

_RANGE: Final = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")

_SIZE: Final = re.compile(r"[0-9]{1,19}")

_CODES: Final = {401: "UNAUTHORIZED", 404: "BLOB_UNKNOWN", 416: "BLOB_UNKNOWN"}


class PeerRoute:
    """
    Answers peers.
    """

    def __init__(self, door: IPeerDoor, store: IStore, clock: IReactorTime) -> None:
        self._door = door
        self._store = store
        self._clock = clock

    async def respond(self, request: Request, digest: Digest) -> bytes | None:
        """
        Send a blob, or a part of it, or refuse.
        """
        wanted = _RANGE.fullmatch(header(request, b"range") or "")
        size = header(request, b"xferd-alone") or ""
        asked = PeerRequest(
            request.method.decode("latin-1"),
            request.uri.decode("latin-1"),
            header(request, b"authorization") or "",
            digest,
            int(wanted[1]) if wanted else 0,
            int(wanted[2]) + 1 if wanted and wanted[2] else None,
            wanted is not None,
            tuple((header(request, b"xferd-avoid") or "").split()),
            _certificate(request),
            int(size) if _SIZE.fullmatch(size) else None,
        )
        answer = self._door.answer(asked) if asked.size is None else await self._door.guide(asked)
        for name, value in answer.headers:
            request.responseHeaders.addRawHeader(name.encode("ascii"), value.encode("utf-8"))
        if answer.blob is None:
            if answer.status == 503:
                request.setHeader(b"retry-after", b"1")
            code = _CODES.get(answer.status, "UNAVAILABLE")
            return respond_errors(request, answer.status, code, answer.reason)
        request.setResponseCode(answer.status)
        request.setHeader(b"content-type", b"application/octet-stream")
        if answer.frame is None:
            request.setHeader(b"content-length", b"%d" % (answer.stop - answer.start))
        if request.method == b"HEAD":
            answer.blob.close()
            return b""
        await self._send(request, answer, digest)
        return None

    def taken(self, request: Request, digest: Digest) -> bytes:
        """
        Learn that a peer fetches a blob, and has taken the claim over if it names an
        offset, or refuse.
        """
        answer = self._admit(request)
        if answer.peer is None:
            return respond_errors(request, answer.status, "UNAUTHORIZED", answer.reason)
        offset = query(request, "offset") or ""
        if _SIZE.fullmatch(offset):
            self._door.taken(digest, int(offset))
        else:
            self._door.fetching(digest, answer.peer)
        request.setResponseCode(202)
        request.setHeader(b"content-length", b"0")
        return b""

    def prefetch(self, request: Request) -> bytes:
        """
        Begin to prefetch an image, or refuse.

        @raise XferdError: the image or the platform is invalid, or the daemon refuses.
        """
        answer = self._admit(request)
        if answer.peer is None:
            return respond_errors(request, answer.status, "UNAUTHORIZED", answer.reason)
        job = self._door.prefetch(query(request, "reference") or "", query(request, "platform"), answer.peer)
        note(request, "job", job)
        body = encode({"job": job})
        request.setResponseCode(202)
        request.setHeader(b"content-type", b"application/json")
        request.setHeader(b"content-length", b"%d" % len(body))
        return body

    def _admit(self, request: Request) -> PeerAnswer:
        """
        Check the proof of a request, and set the headers of the answer.
        """
        answer = self._door.admit(
            request.method.decode("latin-1"),
            request.uri.decode("latin-1"),
            header(request, b"authorization") or "",
            _certificate(request),
        )
        for name, value in answer.headers:
            request.responseHeaders.addRawHeader(name.encode("ascii"), value.encode("utf-8"))
        if answer.peer is not None:
            note(request, "node", answer.peer.name)
        return answer

    async def _send(self, request: Request, answer: PeerAnswer, digest: Digest) -> None:
        """
        Send the bytes as they come.
        """
        assert answer.blob is not None
        assert answer.peer is not None
        # The peer learns at once that bytes will come, also where there are none yet.
        request.write(b"")
        span = Span(answer.start, answer.stop, partial=answer.status == 206)
        sending = self._door.sending(digest, answer.peer, answer.start)
        try:
            await BlobResponse(
                request,
                answer.blob,
                span,
                self._clock,
                partial(self._store.blobs.preload, digest),
                stall=STALL,
                pace=sending.sent,
                window=sending.window,
                frame=answer.frame,
            ).run()
        finally:
            sending.end()


def _certificate(request: Request) -> bytes | None:
    """
    The certificate in DER that the client has shown, if its listener wants one.
    """
    transport = request.transport
    if not isinstance(transport, TLSMemoryBIOProtocol):
        return None
    found = transport.getPeerCertificate()
    return None if found is None else found.to_cryptography().public_bytes(Encoding.DER)
