# -*- test-case-name: tests.jobs.test_upload_stream -*-
"""
The stream of an archive's bytes from a client to the job that imports it.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import BadArchive, BadInput, TimedOut, WrongOffset, XferdError
from xferd.interfaces.jobs import IUploadStream

SILENCE: Final = 600.0
"""
Seconds for which the job waits for a client that sends nothing: C{docker save}
behind a pipe may be silent for minutes.
"""


@implementer(IUploadStream)
class UploadStream:
    """
    Passes one piece at a time from the client to the job.  A C{put} fires when
    the job reads the next piece: at most one piece is in memory.

    Life cycle: made; pieces are C{put} and C{read}; C{finish}ed by the client;
    C{close}d by the job.

    @ivar offset: the bytes received so far: the offset of the next piece.
    @ivar size: the archive's size, or L{None} if the client does not know it.
    """

    def __init__(self, clock: IReactorTime, size: int | None, offset: int = 0) -> None:
        self.offset = offset
        self.size = size
        self._clock = clock
        self._piece: bytes | None = None
        self._taken: Deferred[int] | None = None
        self._busy = False
        self._whole = False
        self._closed: XferdError | None = None
        self._in_store = False
        self._finishing: list[Deferred[None]] = []
        self._reader: Deferred[bytes] | None = None
        self._silence: IDelayedCall | None = None

    # ---------------------------------------------------- the client's side

    def put(self, offset: int, data: bytes) -> Deferred[int]:
        try:
            self._check(offset, data)
        except XferdError as e:
            return fail(e)
        self.offset += len(data)
        # The piece of a client that has left is used nevertheless.
        taken = self._taken = Deferred(self._forget)
        self._busy = True
        if self._reader is None:
            self._piece = data
        else:
            self._give(data)
        return taken

    def finish(self, size: int) -> Deferred[None]:
        if self._closed is not None:
            return fail(self._closed)
        if size != self.offset or self._busy:
            error = WrongOffset(f"{self.offset} bytes of the archive are here, not {size}", self.offset)
            return fail(error)
        if self.size not in (None, size):
            return fail(BadArchive(f"the archive is truncated: {size} of {self.size} bytes arrived"))
        self._whole = True
        finishing: Deferred[None] = Deferred(self._finishing.remove)
        self._finishing.append(finishing)
        if self._in_store:
            self.taken()
        elif self._reader is not None:
            self._give(b"")
        return finishing

    # ------------------------------------------------------- the job's side

    def read(self) -> Deferred[bytes]:
        """
        Acknowledge the last piece, and wait for the next.

        @return: fires with the empty string at the end.
        @raise TimedOut: the client sent nothing for too long.
        """
        self._answer()
        reader: Deferred[bytes] = Deferred(self._leave)
        self._reader = reader
        if self._piece is not None:
            piece, self._piece = self._piece, None
            self._give(piece)
        elif self._whole:
            self._give(b"")
        else:
            self._silence = self._clock.callLater(SILENCE, self._silent)
        return reader

    def taken(self) -> None:
        """
        Report that all of the archive is in the store, and that the journal has this.
        """
        self._whole = self._in_store = True
        finishing, self._finishing = self._finishing, []
        for each in finishing:
            each.callback(None)

    def close(self, error: XferdError) -> None:
        """
        Refuse further pieces.  Idempotent.

        @param error: for clients from now on.
        """
        if self._closed is None:
            self._closed = error
            self._piece = None
            finishing, self._finishing = self._finishing, []
            for each in finishing:
                each.errback(Failure(error))
            taken, self._taken = self._taken, None
            if taken is not None:
                taken.errback(Failure(self._closed))

    # ---------------------------------------------------------------- inside

    def _check(self, offset: int, data: bytes) -> None:
        """
        @raise XferdError: this piece is refused.
        """
        if self._closed is not None:
            raise self._closed
        if self._whole:
            raise WrongOffset("the archive is complete already", self.offset)
        if self._busy:
            raise WrongOffset("another piece of the archive is being read; wait for its answer", self.offset)
        if offset != self.offset:
            raise WrongOffset(
                f"the next piece of the archive begins at {self.offset}, not at {offset}", self.offset
            )
        if not data:
            raise BadInput("a piece of an archive has at least one byte")
        if self.size is not None and offset + len(data) > self.size:
            raise BadInput(f"the archive has more than its announced {self.size} bytes")

    def _give(self, data: bytes) -> None:
        reader, self._reader = self._reader, None
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        assert reader is not None
        reader.callback(data)

    def _answer(self) -> None:
        if self._piece is None:
            self._busy = False
            taken, self._taken = self._taken, None
            if taken is not None:
                taken.callback(self.offset)

    def _silent(self) -> None:
        self._silence = None
        reader, self._reader = self._reader, None
        assert reader is not None
        reader.errback(
            Failure(TimedOut(f"the client sent nothing of its archive for {SILENCE:.0f} s", phase="silence"))
        )

    def _forget(self, _: Deferred[int]) -> None:
        self._taken = None

    def _leave(self, _: Deferred[bytes]) -> None:
        self._reader = None
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
