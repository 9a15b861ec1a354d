# -*- test-case-name: tests.web.test_archives -*-
"""
An archive as the body of a response: as fast as the client reads, and no more
of it in memory than one piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import XferdError

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces import IArchive

PIECE: Final = 128 * 1024
"""Bytes that are read and written at once."""

STALL: Final = 300.0
"""Seconds after which a client that reads nothing is dropped: C{docker load} may take its time."""


@implementer(IPushProducer)
class OutgoingArchive:
    """
    The body of one response.

    Life cycle: made; C{run}; over when all is written or the client has gone.
    The archive is closed in each case.
    """

    _log = Logger()

    def __init__(self, request: Request, archive: IArchive, clock: IReactorTime) -> None:
        self._request = request
        self._archive = archive
        self._clock = clock
        self._gone = False
        self._paused = False
        self._resumed: Deferred[None] | None = None
        self._stall: IDelayedCall | None = None

    async def run(self) -> None:
        """
        Write it all.

        Where that cannot be, the connection is cut: the status line has gone
        out, and the client finds fewer bytes than it was promised.
        """
        self._request.registerProducer(self, True)
        broken = False
        try:
            while data := await self._archive.read(PIECE):
                if self._gone:
                    return
                self._request.write(data)
                await self._turn()
        except CancelledError:
            self._gone = True
            raise
        except XferdError as e:
            self._log.error("an export broke off: {why}", why=str(e))
            broken = True
        except Exception:
            self._log.failure("while an archive was sent")
            broken = True
        finally:
            self._archive.close()
            if self._stall is not None:
                self._stall.cancel()
                self._stall = None
            if not self._gone:
                self._request.unregisterProducer()
        if broken:
            self._abort()
            # Returning would end the response as if it were whole.
            await Deferred()

    async def _turn(self) -> None:
        """
        Let others have their turn, and wait until the client can take more.
        """
        if self._paused:
            self._resumed = Deferred(self._forget)
            await self._resumed
        else:
            await deferLater(self._clock, 0)

    def pauseProducing(self) -> None:
        """
        The client does not keep up.
        """
        self._paused = True
        if self._stall is None:
            self._stall = self._clock.callLater(STALL, self._stalled)

    def resumeProducing(self) -> None:
        """
        The client can take more.
        """
        self._paused = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        if self._resumed is not None:
            resumed, self._resumed = self._resumed, None
            resumed.callback(None)

    def stopProducing(self) -> None:
        """
        The client has gone; the cancellation of L{run} follows.
        """
        self._gone = True

    def _forget(self, _: Deferred[None]) -> None:
        self._resumed = None

    def _stalled(self) -> None:
        """
        Drop a client that reads nothing.
        """
        self._stall = None
        self._log.warn(
            "dropped {peer}, who read nothing of an archive for {seconds} s",
            peer=self._request.getClientAddress(),
            seconds=STALL,
        )
        self._abort()

    def _abort(self) -> None:
        cast(ITCPTransport, self._request.transport).abortConnection()
