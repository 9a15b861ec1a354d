# -*- test-case-name: tests.store.incoming.test_sessions -*-
"""
The rows of upload sessions in the journal's database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred

from xferd.names import Repository
from xferd.store.database import Statement
from xferd.store.journal import Journal

_ADD: Final = """
    INSERT INTO incoming_upload (id, host, path, client, algorithm, created)
    VALUES (:id, :host, :path, :client, :algorithm, :created)
"""
_REMOVE: Final = "DELETE FROM incoming_upload WHERE id = :id"
_ALL: Final = "SELECT id, host, path, client, algorithm, created FROM incoming_upload ORDER BY created"


@frozen
class Row:
    """
    A session that outlives the daemon.

    @ivar created: when it began, in seconds since the epoch.
    """

    id: str
    repository: Repository
    client: str
    algorithm: str
    created: float


class IncomingRecords:
    """
    The table of upload sessions.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def add(self, row: Row) -> Deferred[None]:
        """
        Record a session.

        @raise StoreError: the disk refuses.
        """
        names = {"host": row.repository.host, "path": row.repository.path}
        others = {"client": row.client, "algorithm": row.algorithm, "created": row.created}
        return self._journal.write([Statement(_ADD, {"id": row.id, **names, **others})])

    def remove(self, sessions: Iterable[str]) -> Deferred[None]:
        """
        Remove some sessions.

        @raise StoreError: the disk refuses.
        """
        return self._journal.write([Statement(_REMOVE, {"id": session}) for session in sessions])

    def read(self) -> Deferred[list[Row]]:
        """
        All sessions, the oldest first.

        @raise StoreError: the journal cannot be read.
        """

        def rows(found: list[tuple[str, str, str, str, str, float]]) -> list[Row]:
            return [
                Row(name, Repository(host, path), client, algorithm, created)
                for name, host, path, client, algorithm, created in found
            ]

        return self._journal.read(_ALL).addCallback(rows)
