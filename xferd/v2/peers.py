# -*- test-case-name: tests.v2.test_peers -*-
"""
The route by which the nodes of a fleet send one another blobs.

No client uses it, and no download begins because of it.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from xferd.interfaces.peers import IPeerDoor, PeerAnswer, PeerRequest
from xferd.v2.blob_response import BlobResponse, Span
from xferd.v2.responses import respond_errors
from xferd.web.request import header

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces.store import IStore
    from xferd.names import Digest

STALL: Final = 30.0
"""Seconds after which a peer that reads nothing is dropped."""

_RANGE: Final = re.compile(r"bytes=([0-9]{1,19})-([0-9]{0,19})")

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
        answer = self._door.answer(
            PeerRequest(
                request.method.decode("latin-1"),
                request.uri.decode("latin-1"),
                header(request, b"authorization") or "",
                digest,
                int(wanted[1]) if wanted else 0,
                int(wanted[2]) + 1 if wanted and wanted[2] else None,
                wanted is not None,
                tuple((header(request, b"xferd-avoid") or "").split()),
            )
        )
        for name, value in answer.headers:
            request.responseHeaders.addRawHeader(name.encode("ascii"), value.encode("utf-8"))
        if answer.blob is None:
            if answer.status == 503:
                request.setHeader(b"retry-after", b"1")
            code = _CODES.get(answer.status, "UNAVAILABLE")
            return respond_errors(request, answer.status, code, answer.reason)
        request.setResponseCode(answer.status)
        request.setHeader(b"content-type", b"application/octet-stream")
        request.setHeader(b"content-length", b"%d" % (answer.stop - answer.start))
        if request.method == b"HEAD":
            answer.blob.close()
            return b""
        await self._send(request, answer, digest)
        return None

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
            ).run()
        finally:
            sending.end()
