# -*- test-case-name: tests.web.test_archives -*-
"""
An archive as the body of a response, written as fast as the client reads, with
one piece of it in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from xferd.errors import XferdError
from xferd.web.backpressure import Backpressure

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from xferd.interfaces.jobs import IArchive

PIECE: Final = 128 * 1024
"""Bytes that are read and written at once."""

STALL: Final = 300.0
"""Seconds after which a client that reads nothing is dropped: C{docker load} may take its time."""


class ArchiveResponse:
    """
    The body of one response.

    Life cycle: made; C{run}; over when all is written or the client has left.
    The archive is closed in each case.
    """

    _log = Logger()

    def __init__(self, request: Request, archive: IArchive, clock: IReactorTime) -> None:
        self._flow = Backpressure(request, clock, stall=STALL, noun="archive")
        self._archive = archive
        self._clock = clock

    async def run(self) -> None:
        """
        Write the archive.

        On an error the connection is aborted: the client sees that the body is
        shorter than its Content-Length.
        """
        self._flow.begin()
        broken = False
        try:
            while data := await self._archive.read(PIECE):
                if self._flow.gone:
                    return
                self._flow.write(data)
                await self._turn()
        except CancelledError:
            self._flow.gone = True
            raise
        except XferdError as e:
            self._log.error("an export ended early: {why}", why=str(e))
            broken = True
        except Exception:
            self._log.failure("while an archive was sent")
            broken = True
        finally:
            self._archive.close()
            self._flow.end()
        if broken:
            self._flow.abort()
            # Returning would end the response as if it were whole.
            await Deferred()

    async def _turn(self) -> None:
        """
        Return to the reactor, and wait until the client can take more.
        """
        if self._flow.paused:
            await self._flow.writable()
        else:
            await deferLater(self._clock, 0)
