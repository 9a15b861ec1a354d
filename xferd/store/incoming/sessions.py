# -*- test-case-name: tests.store.incoming.test_sessions -*-
"""
The table of upload sessions.

A session that no request has used for a day is removed.  Where a client has too
many, or all clients together have, the session that was unused for the longest
time ends for a new one, unless it was used a moment ago.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from secrets import token_hex
from threading import Event
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from xferd.errors import StoreError, TooManyUploads, UploadBusy, UploadUnknown
from xferd.interfaces.incoming import IIncomingBlob, IIncomingBlobs
from xferd.interfaces.reactor import WallClock
from xferd.names import Digest, Repository
from xferd.store.disk.file_system import remove, trying_to
from xferd.store.disk.trash import Trash
from xferd.store.incoming.records import Row
from xferd.store.incoming.session import IncomingBlob, Session, open_file
from xferd.store.leases import Leases
from xferd.store.paths import INCOMING, Paths
from xferd.store.threads import Threads, delay_cancellation

if TYPE_CHECKING:
    from hashlib import _Hash

MOST: Final = 1000
"""The most sessions."""

MOST_OF_CLIENT: Final = 250
"""The most sessions of one client."""

RECENT: Final = 600.0
"""Seconds after its last use for which a session is not ended for a new one."""

AGE: Final = 24 * 3600.0
"""Seconds after its last use for which a session is kept."""

_LOOK: Final = 3600.0
"""Seconds between two searches for older ones."""


class Records(Protocol):
    """
    Where sessions are recorded: see L{xferd.store.incoming.records.IncomingRecords}.
    """

    def add(self, row: Row) -> Deferred[None]:
        """
        Record a session.
        """

    def remove(self, sessions: Iterable[str]) -> Deferred[None]:
        """
        Remove some.
        """

    def read(self) -> Deferred[list[Row]]:
        """
        Read all.
        """


@implementer(IIncomingBlobs)
class IncomingBlobs:
    """
    The upload sessions of a data directory.

    Life cycle: made; C{load}ed; C{close}d, which ends no session.
    """

    _log = Logger()

    def __init__(
        self,
        paths: Paths,
        threads: Threads,
        *,
        records: Records,
        trash: Trash,
        leases: Leases,
        clock: IReactorTime,
        wall_clock: WallClock,
        most: int = MOST,
        most_of_client: int = MOST_OF_CLIENT,
    ) -> None:
        """
        @param threads: threads for work whose time grows with the size of a blob.
        @param wall_clock: measures the ages of sessions.
        """
        self._paths = paths
        self._threads = threads
        self._records = records
        self._trash = trash
        self._leases = leases
        self._clock = clock
        self._wall_clock = wall_clock
        self._most = most
        self._most_of_client = most_of_client
        self._sessions: dict[str, Session] = {}
        self._clients: Counter[str] = Counter()
        self._looking: IDelayedCall | None = None
        self._closed = False

    async def load(self, *, keep: bool = True) -> None:
        """
        Read the sessions of earlier daemons, and remove the files of others.

        @param keep: whether to keep these sessions.  After a restart of the machine, their
            bytes may not have been flushed; their clients begin other ones.
        @raise StoreError: the disk refuses.
        """
        rows = {row.id: row for row in await self._records.read()}
        known = set(rows) if keep else set()
        files: dict[str, tuple[int, float]] = await self._threads.run(_sweep, self._paths, known)
        for session, row in rows.items():
            if session in files:
                size, written = files[session]
                self._add(Session(row, size, None, max(row.created, written), busy=False))
        await self._records.remove(rows.keys() - files.keys())
        await self._remove_old()

    def close(self) -> None:
        """
        Stop the search for old sessions.
        """
        self._closed = True
        self._stop_looking()

    def begin(
        self, repository: Repository, client: str, algorithm: str = "sha256", *, brief: bool = False
    ) -> Deferred[IIncomingBlob]:
        beginning = Deferred.fromCoroutine(self._begin(repository, client, algorithm, brief))
        return delay_cancellation(beginning, undo=lambda incoming: incoming.release())

    def open(self, repository: Repository, session: str) -> Deferred[IIncomingBlob]:
        stop = Event()
        opening = Deferred.fromCoroutine(self._open(repository, session, stop))
        return delay_cancellation(opening, stop=stop.set, undo=lambda incoming: incoming.release())

    def offset(self, repository: Repository, session: str) -> int:
        return self._find(repository, session).offset

    async def _begin(self, repository: Repository, client: str, algorithm: str, brief: bool) -> IIncomingBlob:
        await self._make_room(client)
        now = self._wall_clock()
        row = Row(token_hex(16), repository, client, algorithm, now)
        session = Session(row, 0, _hasher(algorithm), now, brief)
        self._add(session)
        try:
            fd = await self._threads.run(open_file, self._paths.incoming(row.id), 0, None, Event())
        except BaseException:
            self._forget(session)
            raise
        incoming = self._use(session, fd)
        if not brief:
            try:
                await self._records.add(row)
            except BaseException:
                session.brief = True
                incoming.release()
                raise
        return incoming

    async def _open(self, repository: Repository, name: str, stop: Event) -> IIncomingBlob:
        session = self._find(repository, name)
        if session.busy:
            raise UploadBusy(f"another request sends bytes to upload {name}; wait for its answer")
        session.busy = True
        hasher = _hasher(session.row.algorithm) if session.hasher is None else None
        try:
            fd = await self._threads.run(open_file, self._paths.incoming(name), session.offset, hasher, stop)
        except BaseException:
            session.busy = False
            raise
        if hasher is not None:
            session.hasher = hasher
        return self._use(session, fd)

    def _use(self, session: Session, fd: int) -> IncomingBlob:
        return IncomingBlob(
            session,
            fd,
            paths=self._paths,
            threads=self._threads,
            touch=self._leases.touch,
            ended=self._end,
            released=self._release,
        )

    def _find(self, repository: Repository, name: str) -> Session:
        session = self._sessions.get(name)
        if session is None or session.row.repository != repository:
            raise UploadUnknown(f"{repository.path} has no upload {name}: begin another one")
        return session

    def _release(self, session: Session) -> None:
        session.busy = False
        session.used = self._wall_clock()
        if session.brief:
            self._forget(session)
            self._discard(session, None)

    async def _end(self, session: Session, fd: int | None) -> None:
        """
        See L{IncomingBlob}.
        """
        self._forget(session)
        if fd is not None:
            self._discard(session, fd)
        if not session.brief:
            await self._records.remove([session.row.id])

    def _add(self, session: Session) -> None:
        self._sessions[session.row.id] = session
        self._clients[session.row.client] += 1
        self._look_later()

    def _forget(self, session: Session) -> None:
        del self._sessions[session.row.id]
        self._clients[session.row.client] -= 1
        if not self._clients[session.row.client]:
            del self._clients[session.row.client]
        if not self._sessions:
            self._stop_looking()

    def _discard(self, session: Session, fd: int | None) -> None:
        """
        Remove a session's file.  If that fails, the next start removes it.
        """
        try:
            self._trash.throw(self._paths.incoming(session.row.id), fd)
        except StoreError as e:
            self._log.warn("the file of an upload stays until the next start: {why}", why=str(e))
            if fd is not None:
                os.close(fd)

    async def _make_room(self, client: str) -> None:
        """
        End an unused session, if there are too many.

        @raise TooManyUploads: all were used a moment ago.
        """
        if self._clients[client] >= self._most_of_client:
            candidates = [each for each in self._sessions.values() if each.row.client == client]
        elif len(self._sessions) >= self._most:
            candidates = list(self._sessions.values())
        else:
            return
        oldest = min((each for each in candidates if not each.busy), key=lambda each: each.used, default=None)
        if oldest is None or oldest.used > self._wall_clock() - RECENT:
            raise TooManyUploads(
                f"{len(candidates)} uploads are unfinished, and no more may begin: wait until some have ended"
            )
        await self._remove([oldest])

    async def _remove_old(self) -> None:
        oldest = self._wall_clock() - AGE
        await self._remove([s for s in self._sessions.values() if not s.busy and s.used < oldest])

    async def _remove(self, sessions: list[Session]) -> None:
        for session in sessions:
            self._forget(session)
            self._discard(session, None)
        await self._records.remove([session.row.id for session in sessions])

    def _look_later(self) -> None:
        if self._looking is None and not self._closed:
            self._looking = self._clock.callLater(_LOOK, self._look)

    def _stop_looking(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None:
            looking.cancel()

    def _look(self) -> None:
        self._looking = None
        self._look_later()
        removing = Deferred.fromCoroutine(self._remove_old())
        _ = removing.addErrback(
            lambda reason: self._log.warn("old uploads cannot be removed: {why}", why=str(reason.value))
        )


def _hasher(algorithm: str) -> _Hash:
    return Digest.of(b"", algorithm).hasher()


def _sweep(paths: Paths, known: set[str]) -> dict[str, tuple[int, float]]:
    """
    Remove the files of unknown sessions.  Blocking, for a thread.

    @return: of the known ones, the size in bytes and the time of the last write, in
        seconds since the epoch.
    """
    found = {}
    with trying_to(f"sweep {paths.ingest}"):
        for name in os.listdir(paths.ingest):
            if name.startswith(INCOMING):
                path, session = os.path.join(paths.ingest, name), name.removeprefix(INCOMING)
                if session in known:
                    status = os.lstat(path)
                    found[session] = (status.st_size, status.st_mtime)
                else:
                    remove(path, Event())
    return found
