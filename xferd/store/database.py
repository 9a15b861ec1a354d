# -*- test-case-name: tests.store.test_journal,tests.store.test_snapshots -*-
"""
A SQLite database in the data directory.

It has one thread and one connection, which only this thread uses.  Records that
arrive while a transaction is being written share the next one.  A record that
cannot be written fails alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Final

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from xferd.errors import DiskFull, StoreError
from xferd.store.batches import Batches
from xferd.store.disk.reserve import Reserve
from xferd.store.threads import Threads

_AT_THE_END: Final = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
"""Errors of SQLite when it cannot create or extend a file beside the database."""

_LITTLE: Final = 256 * 1024
"""Free bytes below which these errors mean a full disk."""

BUSY: Final = 30.0
"""Seconds to wait for the transaction of another process."""


@frozen
class Statement:
    """
    A statement of SQL, and its parameters by name.
    """

    sql: str
    values: Mapping[str, Any]


@define(eq=False)
class _Record:
    """
    Statements to execute, all of them or none.

    @ivar error: the reason why they failed, after their transaction.
    """

    statements: Sequence[Statement]
    error: Exception | None = None


class Database:
    """
    A database.

    Life cycle: made, C{open}ed, C{close}d.

    @cvar migrations: the statements that migrate a database of version n to version n + 1.
    @cvar remedy: what to do if it is damaged.
    """

    migrations: ClassVar[Sequence[str]]
    remedy: ClassVar[str]

    def __init__(self, path: str, threads: Threads, reserve: Reserve, clock: IReactorTime) -> None:
        """
        @param threads: one thread.
        @param reserve: used by transactions when the disk is full.
        """
        self._path = path
        self._threads = threads
        self._reserve = reserve
        self._database: sqlite3.Connection | None = None
        self._writes: Batches[_Record] = Batches(lambda batch: threads.run(self._write, batch), clock)

    def open(self) -> None:
        """
        Open the database, and migrate it to this version.  Blocking: call it before the
        reactor runs.

        @raise StoreError: it is damaged, of a newer xferd, or the disk
            refuses.
        """
        self._reserve.spend(self._open)

    def _open(self) -> None:
        self.release()
        # SQLite would create it readable for all.  If this fails, SQLite reports why.
        with suppress(OSError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with self._trouble("open"):
            database = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=BUSY
            )
            self._database = database
            database.execute("PRAGMA journal_mode = WAL")
            # A recorded row must survive a power failure.
            database.execute("PRAGMA synchronous = FULL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version > len(self.migrations):
                self.release()
                raise StoreError(f"{self._path} was made by a newer xferd; use that one")
            while version < len(self.migrations):
                version = self._migrate(database, version)
            self._opened(database)

    def _migrate(self, database: sqlite3.Connection, version: int) -> int:
        """
        Migrate a database to its next version.

        @return: its version now.
        """
        script = f"{self.migrations[version]} PRAGMA user_version = {version + 1};"
        try:
            database.executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
        except sqlite3.Error:
            if database.in_transaction:
                database.execute("ROLLBACK")
            (now,) = database.execute("PRAGMA user_version").fetchone()
            # Another process may have come first.
            if now == version:
                raise
        else:
            now = version + 1
        return int(now)

    def _opened(self, database: sqlite3.Connection) -> None:
        """
        Do what a subclass needs after each opening.
        """

    def _committing(self, database: sqlite3.Connection, statements: Collection[str], records: int) -> None:
        """
        Do what a subclass needs at the end of each transaction.

        @param statements: the SQL that it executed, each statement once.
        @param records: how many the transaction has.
        """

    def release(self) -> None:
        """
        Close the database at once.  Idempotent.
        """
        database, self._database = self._database, None
        if database is not None:
            database.close()

    async def close(self) -> None:
        """
        Write the waiting records, and close the database.
        """
        await self._writes.drain()
        if self._database is not None:
            await self._threads.run(self.release)

    def read(self, query: str) -> Deferred[list[tuple[Any, ...]]]:
        """
        Read rows.

        @raise StoreError: the database cannot be read.
        """
        return self._threads.run(self._read, query, ())

    def write(self, statements: Sequence[Statement], lag: float = 0.0) -> Deferred[None]:
        """
        Execute some statements in one transaction: all of them, or none.
        Cancelling waits for the disk.

        @param lag: the seconds that they may wait for others.
        @raise StoreError: the disk refuses.
        """
        record = _Record(statements)

        def written(_: None) -> None:
            if record.error is not None:
                raise record.error

        return self._writes.add(record, lag).addCallback(written)

    def _read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        with self._trouble("read") as database:
            return list(database.execute(query, values))

    def _write(self, batch: Sequence[_Record]) -> None:
        """
        Write some records in one transaction.  If it fails, write each record in its own.
        """
        try:
            self._reserve.spend(self._commit, batch)
        except StoreError as e:
            if len(batch) == 1:
                batch[0].error = e
                return
            for record in batch:
                self._write([record])

    def _commit(self, batch: Sequence[_Record]) -> None:
        with self._trouble("write to") as database:
            # Another process may write, too: an upgrade of the transaction's lock could fail at once.
            database.execute("BEGIN IMMEDIATE")
            try:
                statements = [statement for record in batch for statement in record.statements]
                for statement in statements:
                    database.execute(statement.sql, statement.values)
                self._committing(database, {statement.sql for statement in statements}, len(batch))
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:
                    database.execute("ROLLBACK")
                raise

    @contextmanager
    def _trouble(self, doing: str) -> Iterator[sqlite3.Connection]:
        """
        Raise L{StoreError} in place of SQLite's errors, and of those for values
        that SQLite cannot represent.
        """
        try:
            yield self._database  # type: ignore[misc]
        except (sqlite3.Error, UnicodeError, OverflowError) as e:
            self._raise(e, doing)

    def _raise(self, error: Exception, doing: str) -> None:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL or (code in _AT_THE_END and _is_full(self._path)):
            raise DiskFull(
                f"cannot {doing} {self._path}: no space is left; free some on that disk and try again"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreError(f"{self._path} is damaged; {self.remedy}") from error
        raise StoreError(f"cannot {doing} {self._path}: {error}") from error


def _is_full(path: str) -> bool:
    """
    Whether the disk of a file is nearly full.
    """
    disk = os.statvfs(os.path.dirname(path))
    return disk.f_bavail * disk.f_frsize < _LITTLE
