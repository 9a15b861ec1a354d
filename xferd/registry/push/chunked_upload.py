# -*- test-case-name: tests.registry.push.test_chunked_upload -*-
"""
Bringing all bytes of a blob into a registry, whatever happens on the way.

A small blob goes in one request.  A large one goes in chunks: after each the
registry says what it has, a token that expires costs no more than one, and so
does a connection that breaks, where the registry keeps what it confirmed.
Chunks grow while all goes well, so that a fast registry is kept busy.

After a break they are small, and each has a connection of its own: what cuts
connections after so many bytes or minutes then never meets the middle of one.
Distribution 2 needs that.  It keeps the part of a chunk that came before a
break, finds that this is not what its own signed URL says, and throws the
whole upload away.
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
    Session,
    SessionGone,
    Setback,
)
from xferd.registry.transport.errors import Resource
from xferd.registry.transport.request_body import ContentFailed

MAX_SETBACKS: Final = 2
"""How many setbacks without L{real progress <is_real_progress>} one attempt takes."""

MAX_SESSIONS: Final = 3
"""How many sessions one attempt begins."""


class ChunkedUpload:
    """
    One attempt to send one blob.

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
        @param exists: looks whether the registry has the blob.
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

    async def send(self, session: Session | None, fresh: bool) -> None:
        """
        Send until the registry has the blob.

        @param session: where to begin, or L{None} to begin a session first.
        @param fresh: whether nothing has been sent to that session.
        @raise SourceError: the registry's fault, or the network's.
        @raise ContentFailed: the bytes cannot be had.
        """
        self._clean = fresh
        # What another attempt has left was probably broken off, too.
        self._broken = not fresh
        done = False
        while not done:
            if session is None:
                # A session that nobody uses is of no use to the registry.
                await self._ready(0, min(1, self._content.size))
                session = await self._begin_session()
            self._note(session)
            try:
                done = await self._step(session)
            except Setback as setback:
                self._count(setback, setback.error)
                session = await self._recover(setback, session)
            except (ConnectionFailed, Truncated) as e:
                # Whether a pooled connection had died is known only now; once,
                # it is worth another, which is new.
                self._count(e, e)
                self._chunk = max(self._chunk // 4, self._sizes.smallest)
                self._broken = True
                session = await self._query(session)
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
        return await self._begin()

    def _note(self, session: Session) -> None:
        """
        Note how far a session is.
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
            await self._ready(0, size, size)
            await self._close(session)
            return True
        if not capabilities.chunks:
            raise SessionGone(
                RegistryUnavailable(
                    f"{self._resource.host} has a part of {self._resource.name} and takes no more"
                )
            )
        small = offset == 0 and size <= self._sizes.first and capabilities.takes(size)
        length = size if small else min(self._length(), size - offset)
        length = await self._ready(offset, length, max(1, capabilities.least))
        if small and length == size:
            await self._close(session)
            return True
        await session.patch(self._content, length, self._report, alone=self._broken)
        if not self._broken:
            self._chunk = min(self._chunk * 2, self._sizes.largest)
        return False

    async def _ready(self, offset: int, size: int, least: int = 1) -> int:
        """
        Wait until the bytes of the next request are at hand.

        @raise ContentFailed: they cannot be had, or not now.
        """
        try:
            return await self._content.ready(offset, size, least)
        except CancelledError:
            raise
        except Exception as e:
            raise ContentFailed(e) from e

    def _length(self) -> int:
        """
        The bytes of the next chunk, if it is not the last.
        """
        length = self._chunk
        if self._capabilities.most is not None:
            length = min(length, self._capabilities.most)
        return max(length, self._capabilities.least)

    async def _close(self, session: Session) -> None:
        """
        Make the blob, with the bytes that are missing.
        """
        try:
            await session.put(
                self._digest, self._content, self._content.size, self._report, alone=self._broken
            )
        except (ConnectionFailed, Truncated, TimedOut, SessionGone, Missing) as e:
            # Perhaps it was made and the answer was lost, now or before.
            if not await self._exists():
                raise
            self._log.info(
                "{host} has {name} after all: {reason}",
                host=self._resource.host,
                name=self._resource.name,
                reason=str(e),
            )

    # -------------------------------------------------------------- setbacks

    def _count(self, setback: Exception, error: Exception) -> None:
        """
        Make sure that this does not go on for ever.
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
        Find a way around a setback.

        @return: the session to go on with, or L{None} to begin one.
        """
        if isinstance(setback, SessionGone):
            return None
        if isinstance(setback, BodyTooLarge):
            if not self._capabilities.chunks or not self._capabilities.too_large(setback.length):
                raise setback.error from setback
            # To halve until it fits is progress.
            self._setbacks = 0
        if isinstance(setback, BytesRefused):
            if self._clean:
                raise setback.error from setback
            # What another attempt sent, or what a break left, may be the fault.
            return None
        if isinstance(setback, ChunksRefused):
            await self._without_chunks(session)
            return None
        asked = await self._query(session)
        # The session is there; it is the request that is not, or that is never
        # right, whatever the registry said of where to go on.
        never_right = setback.error.status == 416 and self._setbacks == MAX_SETBACKS
        if asked is not None and (isinstance(setback, Missing) or never_right):
            await self._without_chunks(session)
            return None
        return asked

    async def _without_chunks(self, session: Session) -> None:
        """
        Learn that the registry takes no chunks, and give the session up, for
        one that takes all at once.
        """
        self._capabilities.chunks = False
        try:
            await session.delete()
        except SourceError:
            # It ends by itself.
            pass

    async def _query(self, session: Session) -> Session | None:
        """
        Ask a session how far it is.

        @return: L{None} if it is gone.
        """
        self._clean = False
        try:
            await session.query()
        except SessionGone:
            return None
        return session if session.offset <= self._content.size else None
