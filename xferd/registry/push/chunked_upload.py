# -*- test-case-name: tests.registry.push.test_chunked_upload -*-
"""
The upload of a blob, which resumes after errors.

A small blob is sent in one request.  A large one is sent in chunks: the registry
confirms each, so that a token that expires or a connection that breaks costs one
chunk at most, if the registry keeps what it has confirmed.  Chunks grow while
they succeed, so that a fast registry is kept busy.

After a break they are small, and each has a connection of its own: a proxy that
cuts connections after some bytes or minutes then cuts none in the middle of a
chunk.  Distribution 2 needs that.  It stores the part of a chunk that arrived
before a break, finds that its size differs from that in its own signed URL, and
discards the whole upload.

The first chunk after a break is a probe.  A proxy may still be sending what it had
received of the broken request: then the registry refuses the probe, and the upload
continues when its offset no longer changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from xferd.errors import ConnectionFailed, RegistryUnavailable, SourceError, TimedOut, Truncated
from xferd.interfaces.registry import IContent, UploadSession
from xferd.names import Digest
from xferd.real_progress import is_real_progress
from xferd.registry.capabilities import Capabilities, ChunkSizes
from xferd.registry.push.session import (
    BodyTooLarge,
    BytesRefused,
    ChunksRefused,
    Missing,
    Moving,
    Session,
    SessionGone,
    Setback,
)
from xferd.registry.transport.errors import Resource
from xferd.registry.transport.request_body import ContentFailed

MAX_SETBACKS: Final = 2
"""Setbacks without L{real progress <is_real_progress>} in one attempt, at most."""

PROBE: Final = 256 * 1024
"""Bytes of the first chunk after a break."""

MAX_SESSIONS: Final = 3
"""Sessions that one attempt begins, at most."""


async def ready(content: IContent, offset: int, size: int, least: int = 1) -> int:
    """
    Wait until the bytes of the next request are available: see L{IContent.ready}.

    @raise ContentFailed: they are not.
    """
    try:
        return await content.ready(offset, size, least)
    except CancelledError:
        raise
    except Exception as e:
        raise ContentFailed(e) from e


class ChunkedUpload:
    """
    One attempt to upload one blob.

    States: with a session or without; done when the registry has the blob.
    """

    _log = Logger()

    def __init__(
        self,
        resource: Resource,
        digest: Digest,
        content: IContent,
        capabilities: Capabilities,
        sizes: ChunkSizes,
        *,
        begin: Callable[[], Awaitable[Session]],
        exists: Callable[[], Awaitable[bool]],
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> None:
        """
        @param begin: begins a session.
        @param exists: checks whether the registry has the blob.
        """
        self._resource = resource
        self._digest = digest
        self._content = content
        self._capabilities = capabilities
        self._begin = begin
        self._exists = exists
        self._remember = remember
        self._report = report
        self._sizes = sizes
        self._chunk = sizes.first
        self._sessions = 0
        self._setbacks = 0
        self._confirmed = 0
        self._reset_at = 0
        self._clean = True
        self._broken = False
        self._unsettled = False

    async def send(self, session: Session | None, fresh: bool, resumed: bool) -> None:
        """
        Send until the registry has the blob.

        @param session: the session to continue, or L{None} to begin one.
        @param fresh: whether nothing has been sent to that session.
        @param resumed: whether an earlier attempt left it.
        @raise SourceError: the registry or the network fails.
        @raise ContentFailed: the bytes cannot be read.
        """
        self._clean = fresh
        # The attempt that left a session was probably interrupted.
        self._broken = not fresh
        # Its last request may still be on its way.
        self._unsettled = resumed
        done = False
        while not done:
            if session is None:
                # An unused session would occupy the registry.
                await ready(self._content, 0, min(1, self._content.size))
                session = await self._begin_session()
            self._note(session)
            try:
                done = await self._step(session)
            except Setback as setback:
                self._count(setback, setback.error)
                session = await self._recover(setback, session)
                # The rest of an earlier request may have been the last one.
                done = session is None and isinstance(setback, Moving) and await self._exists()
            except (ConnectionFailed, Truncated) as e:
                # Perhaps a pooled connection had died; that is worth one more
                # attempt, on a new connection.
                self._count(e, e)
                self._chunk = max(self._chunk // 4, self._sizes.smallest)
                self._broken = True
                self._unsettled = True
                session = await self._query(session, session.query)
        self._remember(None)

    async def _begin_session(self) -> Session:
        """
        Begin a session.
        """
        if self._sessions == MAX_SESSIONS:
            raise RegistryUnavailable(
                f"{self._resource.host} forgets how far the upload of {self._resource.name} was, each time",
                host=self._resource.host,
            )
        if self._sessions:
            self._remember(None)
        self._sessions += 1
        self._confirmed = self._reset_at = 0
        self._clean = True
        self._unsettled = False
        return await self._begin()

    def _note(self, session: Session) -> None:
        """
        Report the offset of a session, and count progress.
        """
        self._remember(session.state)
        self._report(session.offset)
        self._confirmed = max(self._confirmed, session.offset)
        if is_real_progress(self._reset_at, self._confirmed, self._content.size):
            self._reset_at = self._confirmed
            self._setbacks = 0

    async def _step(self, session: Session) -> bool:
        """
        Make one request.

        @return: whether the registry has the blob.
        """
        size, offset, capabilities = self._content.size, session.offset, self._capabilities
        if offset == size:
            await self._close(session)
            return True
        if offset == 0 and not capabilities.chunks:
            await ready(self._content, 0, size, size)
            await self._close(session)
            return True
        if not capabilities.chunks:
            raise SessionGone(
                RegistryUnavailable(
                    f"{self._resource.host} has a part of {self._resource.name} and does not accept the rest"
                )
            )
        # A PUT has no Content-Range: the rest of a broken request may precede its bytes.
        small = offset == 0 and size <= self._sizes.first and capabilities.accepts(size)
        small = small and not self._unsettled
        length = size if small else min(self._length(), size - offset)
        length = await ready(self._content, offset, length, max(1, capabilities.least))
        if small and length == size:
            await self._close(session)
            return True
        await session.patch(self._content, length, self._report, alone=self._broken)
        self._unsettled = False
        if not self._broken:
            self._chunk = min(self._chunk * 2, self._sizes.largest)
        return False

    def _length(self) -> int:
        """
        The bytes of the next chunk, if it is not the last.
        """
        length = min(self._chunk, PROBE) if self._unsettled else self._chunk
        if self._capabilities.most is not None:
            length = min(length, self._capabilities.most)
        return max(length, self._capabilities.least)

    async def _close(self, session: Session) -> None:
        """
        Send the missing bytes, and commit the blob.
        """
        try:
            await session.put(
                self._digest, self._content, self._content.size, self._report, alone=self._broken
            )
        except (ConnectionFailed, Truncated, TimedOut, SessionGone, Missing) as e:
            # Perhaps it was committed and the response was lost, now or before.
            if not await self._exists():
                raise
            self._log.info(
                "{host} has {name}, although its upload failed: {reason}",
                host=self._resource.host,
                name=self._resource.name,
                reason=str(e),
            )

    # -------------------------------------------------------------- setbacks

    def _count(self, setback: Exception, error: Exception) -> None:
        """
        Count a setback, and raise its error after too many.
        """
        self._setbacks += 1
        most = MAX_SETBACKS if isinstance(setback, Setback) else 1
        if self._setbacks > most:
            raise error from setback
        self._log.info(
            "the upload of {name} to {host} is set back at byte {offset}: {reason}",
            name=self._resource.name,
            host=self._resource.host,
            offset=self._confirmed,
            reason=str(error),
        )

    async def _recover(self, setback: Setback, session: Session) -> Session | None:
        """
        Choose how to continue after a setback.

        @return: the session to continue, or L{None} to begin one.
        """
        if isinstance(setback, SessionGone):
            return None
        if isinstance(setback, BodyTooLarge):
            if not self._capabilities.chunks or not self._capabilities.too_large(setback.length):
                raise setback.error from setback
            # Halving until the body is accepted is progress.
            self._setbacks = 0
        if isinstance(setback, BytesRefused):
            if self._clean:
                raise setback.error from setback
            # The bytes of an interrupted request may be the cause.
            return None
        if isinstance(setback, ChunksRefused):
            await self._without_chunks(session)
            return None
        refused = session.offset
        query = session.settle if isinstance(setback, Moving) else session.query
        known = await self._query(session, query)
        # The session exists.  The registry does not know the request, or refuses
        # it at the offset that the registry itself reported.
        again = setback.error.status == 416 and self._setbacks == MAX_SETBACKS
        never_right = again and session.offset == refused
        if known is not None and (isinstance(setback, Missing) or never_right):
            await self._without_chunks(session)
            return None
        return known

    async def _without_chunks(self, session: Session) -> None:
        """
        Note that the registry does not support chunks, and delete the session,
        for one that receives the blob in one request.
        """
        self._capabilities.learn(chunks=False)
        try:
            await session.delete()
        except SourceError:
            # It expires.
            pass

    async def _query(self, session: Session, query: Callable[[], Awaitable[None]]) -> Session | None:
        """
        Request the offset of a session.

        @return: L{None} if it is gone.
        """
        self._clean = False
        try:
            await query()
        except SessionGone:
            return None
        return session if session.offset <= self._content.size else None
