# -*- test-case-name: tests.store.test_journal -*-
"""
The journal: a database of what outlives the daemon besides the content.

Each transaction also removes some of the oldest rows of the tables to which it adds, where they
are too long.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from secrets import token_bytes
from typing import Any

from attrs import asdict
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.interfaces.journal import HostRecord, IdempotencyKey, IJournal, UnfinishedFill, UnfinishedJob
from xferd.interfaces.registry import UploadSession
from xferd.interfaces.webhooks import Delivery
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.store.database import Database, Statement
from xferd.store.job_record import encode_record
from xferd.store.journal_schema import MIGRATIONS

_RECORD_JOB = """
    INSERT INTO job (id, created, state, run, record, request)
    VALUES (:id, :created, :state, (SELECT run FROM daemon), :record, :request)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, run = excluded.run, record = excluded.record,
        request = CASE WHEN excluded.state IN ('queued', 'running')
            THEN coalesce(excluded.request, request) END
"""
_RECORD_BEGUN = """
    UPDATE job SET state = 'running', run = (SELECT run FROM daemon), crashes = :crashes
    WHERE id = :id AND state IN ('queued', 'running')
"""
_RECORD_ATTEMPT = """
    INSERT INTO attempt (transfer, kind, digest, source, attempt, started, finished, bytes_done, code, error,
        bytes_moved)
    VALUES (:transfer, :kind, :digest, :source, :attempt, :started, :finished, :bytes_done, :code, :error,
        :bytes_moved)
"""
_ATTEMPT = [
    "transfer",
    "kind",
    "digest",
    "source",
    "attempt",
    "started",
    "finished",
    "bytes_done",
    "code",
    "error",
    "bytes_moved",
]
_ATTEMPTS = f"""
    SELECT {", ".join(_ATTEMPT)} FROM attempt WHERE transfer IN (SELECT value FROM json_each(?))
    ORDER BY id DESC LIMIT ?
"""  # noqa: S608
_JOB = "SELECT record FROM job WHERE id = ?"
_IDS = "SELECT id FROM job WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
_NEWEST = "SELECT record FROM job ORDER BY created DESC, id DESC LIMIT ?"
_NEWEST_BEFORE = """
    SELECT record FROM job WHERE (created, id) < (?, ?) ORDER BY created DESC, id DESC LIMIT ?
"""
_UNFINISHED = "SELECT record FROM job WHERE state != 'done' AND instr(record, ?) ORDER BY number"
_INTERRUPTED = """
    SELECT record, request, CASE state WHEN 'running' THEN crashes + 1 ELSE 0 END
    FROM job INDEXED BY job_unfinished
    WHERE state IN ('queued', 'running') AND run < (SELECT run FROM daemon)
    ORDER BY number
"""
_RECORD_KEY = """
    INSERT OR REPLACE INTO idempotency_key (client, key, fingerprint, job, created)
    VALUES (:client, :key, :fingerprint, :job, :created)
"""
_KEYS = """
    SELECT client, key, fingerprint, job, created FROM idempotency_key WHERE created > ? ORDER BY number
"""

_RECORD_USE = "INSERT OR REPLACE INTO image_use (name, used) VALUES (:name, :used)"
_FORGET_USE = "DELETE FROM image_use WHERE name = :name"
_USES = "SELECT name, used FROM image_use"

_RECORD_UPLOAD = """
    INSERT OR REPLACE INTO upload (host, path, digest, location, confirmed, used, isolated)
    VALUES (:host, :path, :digest, :location, :confirmed, :used, :isolated)
"""
_FORGET_UPLOAD = "DELETE FROM upload WHERE host = :host AND path = :path AND digest = :digest"
_UPLOADS = "SELECT host, path, digest, location, confirmed, used, isolated FROM upload"
_RECORD_HOST = """
    INSERT OR REPLACE INTO host (host, account, used, record) VALUES (:host, :account, :used, :record)
"""
_FORGET_HOST = "DELETE FROM host WHERE host = :host"
_FORGET_HOSTS = "DELETE FROM host WHERE used < :before"
_HOSTS = "SELECT host, account, used, record FROM host ORDER BY number"
# Replaced, so that the highest number is the one seen last.
_RECORD_HOLDER = "INSERT OR REPLACE INTO holder (host, path, digest) VALUES (:host, :path, :digest)"
_RECORD_FILL = """
    INSERT INTO fill (host, path, digest, media_type, size, begun)
    VALUES (:host, :path, :digest, :media_type, :size, :begun)
    ON CONFLICT (host, path, digest) DO UPDATE SET begun = excluded.begun
"""
_FORGET_FILL = "DELETE FROM fill WHERE host = :host AND path = :path AND digest = :digest"
_FILLS = "SELECT host, path, digest, media_type, size, begun FROM fill ORDER BY number"
# Unless the end of the job was recorded before.
_RECORD_DELIVERY = """
    INSERT OR IGNORE INTO delivery (id, hook, created, attempts, due, body)
    SELECT :id, :hook, :created, :attempts, :due, :body
    WHERE NOT EXISTS (SELECT 1 FROM job WHERE id = :job AND state NOT IN ('queued', 'running'))
"""
_DELIVERIES = "SELECT id, hook, created, attempts, due FROM delivery ORDER BY number"
_DELIVERY_BODY = "SELECT body FROM delivery WHERE id = ?"
_POSTPONE_DELIVERY = "UPDATE delivery SET attempts = :attempts, due = :due WHERE id = :id"
_FORGET_DELIVERY = "DELETE FROM delivery WHERE id = :id"
_RECORD_SETTING = "INSERT OR REPLACE INTO setting (name, value) VALUES (:name, :value)"
_FORGET_SETTING = "DELETE FROM setting WHERE name = :name"
_SETTINGS = "SELECT name, value FROM setting ORDER BY name"
_HOLDERS = "SELECT path FROM holder WHERE host = ? AND digest = ? ORDER BY number DESC LIMIT ?"

KEPT_JOBS = 10_000
KEPT_ATTEMPTS = 100_000
KEPT_HOLDERS = 100_000
KEPT_KEYS = 50_000
KEPT_HOSTS = 5_000
LAG = 0.1
"""Seconds that records which no client waits for may wait for others: each transaction
costs a flush of the disk."""
MOST_HOLDERS = 10
"""Repositories to return for one blob, at most."""

_PRUNE_STEP = 8
"""
Rows that a transaction removes from a table that is too long, besides two
for each row that it may have added.
"""


def _prune(table: str, number: str, condition: str = "") -> str:
    """
    A statement that removes the oldest rows above a count, some at a time.
    """
    return f"""
        DELETE FROM {table} WHERE {number} IN (
            SELECT {number} FROM {table}
            WHERE {number} <= (SELECT max({number}) FROM {table}) - ? {condition}
            ORDER BY {number} LIMIT ?
        )
    """  # noqa: S608


_PRUNE_JOBS = _prune("job", "number", "AND state NOT IN ('queued', 'running')")
_PRUNE_ATTEMPTS = _prune("attempt", "id")
_PRUNE_HOLDERS = _prune("holder", "number")
_PRUNE_KEYS = _prune("idempotency_key", "number")
_PRUNE_HOSTS = _prune("host", "number")


@implementer(IJournal)
class Journal(Database):
    """
    The journal of a data directory.

    Life cycle: made, C{open}ed, C{close}d.
    """

    migrations = MIGRATIONS
    remedy = "move it away to start with an empty journal: images stay"

    run = 0
    salt = b""
    announce: Callable[[Mapping[str, Any]], Sequence[Delivery]] = staticmethod(lambda _: ())

    def _opened(self, database: sqlite3.Connection) -> None:
        """
        Begin a new run.
        """
        new = token_bytes(32)
        database.execute("UPDATE daemon SET run = run + 1, salt = coalesce(salt, ?)", (new,))
        self.run, self.salt = database.execute("SELECT run, salt FROM daemon").fetchone()

    def _committing(self, database: sqlite3.Connection, statements: Collection[str], records: int) -> None:
        pruned = {
            _RECORD_JOB: (_PRUNE_JOBS, KEPT_JOBS),
            _RECORD_ATTEMPT: (_PRUNE_ATTEMPTS, KEPT_ATTEMPTS),
            _RECORD_HOLDER: (_PRUNE_HOLDERS, KEPT_HOLDERS),
            _RECORD_KEY: (_PRUNE_KEYS, KEPT_KEYS),
            _RECORD_HOST: (_PRUNE_HOSTS, KEPT_HOSTS),
        }
        for statement in statements:
            if statement in pruned:
                prune, kept = pruned[statement]
                database.execute(prune, (kept, _PRUNE_STEP + 2 * records))

    def record_job(
        self, record: Mapping[str, Any], request: Mapping[str, Any] | None = None
    ) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        values = {name: record[name] for name in ("id", "created", "state")}
        encoded = None if request is None else json.dumps(dict(request))
        recording = Statement(_RECORD_JOB, {**values, "record": encode_record(record), "request": encoded})
        deliveries = () if record["state"] in ("queued", "running") else self.announce(record)
        announcing = [
            Statement(_RECORD_DELIVERY, {**asdict(each), "job": record["id"]}) for each in deliveries
        ]
        return self.write([*announcing, recording])

    def record_begun(self, crashes: Mapping[str, int]) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        return self.write(
            [Statement(_RECORD_BEGUN, {"id": job_id, "crashes": count}) for job_id, count in crashes.items()]
        )

    def flush(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._writes.flush())

    def record_attempt(self, record: Mapping[str, Any]) -> Deferred[None]:
        """
        Written within L{LAG}.  Cancelling waits for the disk.
        """
        return self._add(_RECORD_ATTEMPT, {name: record.get(name) for name in _ATTEMPT}, LAG)

    def attempts(self, transfers: Sequence[str], limit: int) -> Deferred[list[dict[str, Any]]]:
        self._writes.hurry()
        return self._threads.run(self._attempts, json.dumps(list(transfers)), limit)

    def job(self, job_id: str) -> Deferred[dict[str, Any] | None]:
        found: Deferred[list[dict[str, Any]]] = self._threads.run(self._records, _JOB, (job_id,))
        return found.addCallback(lambda records: records[0] if records else None)

    def ids(self, prefix: str, limit: int) -> Deferred[list[str]]:
        return self._threads.run(self._ids, (prefix, f"{prefix}\x7f", limit))

    def jobs(self, limit: int, before: tuple[str, str] | None = None) -> Deferred[list[dict[str, Any]]]:
        if before is None:
            return self._threads.run(self._records, _NEWEST, (limit,))
        return self._threads.run(self._records, _NEWEST_BEFORE, (*before, limit))

    def record_key(self, kept: IdempotencyKey) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        return self._add(
            _RECORD_KEY,
            {
                "client": kept.client,
                "key": kept.key,
                "fingerprint": kept.fingerprint,
                "job": kept.job_id,
                "created": kept.created,
            },
        )

    def keys(self, since: float) -> Deferred[list[IdempotencyKey]]:
        return self._threads.run(self._keys, since)

    def unfinished(self, reference: str) -> Deferred[list[dict[str, Any]]]:
        # As json.dumps writes it.
        member = json.dumps({"reference": reference})[1:-1]
        return self._threads.run(self._records, _UNFINISHED, (member,))

    def interrupted(self) -> Deferred[list[UnfinishedJob]]:
        return self._threads.run(self._interrupted)

    def record_upload(
        self, repository: Repository, digest: Digest, session: UploadSession | None
    ) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        values = _names(repository, digest)
        if session is None:
            return self._add(_FORGET_UPLOAD, values)
        known = {
            "location": session.location,
            "confirmed": session.offset,
            "used": session.used,
            "isolated": session.isolated,
        }
        return self._add(_RECORD_UPLOAD, {**values, **known})

    def uploads(self) -> Deferred[dict[tuple[Repository, Digest], UploadSession]]:
        return self._threads.run(self._uploads)

    def record_use(self, name: str, when: float | None) -> Deferred[None]:
        """
        Record the time at which an image was last used, in seconds since the
        epoch; L{None} removes it.  Cancelling waits for the disk.
        """
        if when is None:
            return self._add(_FORGET_USE, {"name": name})
        return self._add(_RECORD_USE, {"name": name, "used": when})

    def uses(self) -> Deferred[dict[str, float]]:
        """
        The time at which each image was last used, by name.
        """
        return self._threads.run(lambda: dict(self._read(_USES, ())))

    def record_host(self, record: HostRecord) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        values = {"host": record.host, "account": record.account, "used": record.used}
        return self._add(_RECORD_HOST, {**values, "record": json.dumps(dict(record.facts))})

    def forget_host(self, host: str) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        return self._add(_FORGET_HOST, {"host": host})

    def forget_unused_hosts(self, before: float) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        return self._add(_FORGET_HOSTS, {"before": before})

    def hosts(self) -> Deferred[list[HostRecord]]:
        return self._threads.run(self._hosts)

    def record_holder(self, repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Written within L{LAG}.  Cancelling waits for the disk.
        """
        return self._add(_RECORD_HOLDER, _names(repository, digest), LAG)

    def holders(self, host: str, digest: Digest) -> Deferred[list[Repository]]:
        return self._threads.run(self._holders, host, digest)

    def record_fill(self, fill: UnfinishedFill) -> Deferred[None]:
        """
        Written within L{LAG}.  Cancelling waits for the disk.
        """
        names, blob = _names(fill.repository, fill.blob.digest), fill.blob
        facts = {"media_type": blob.media_type, "size": blob.size, "begun": fill.begun}
        return self._add(_RECORD_FILL, {**names, **facts}, LAG)

    def forget_fill(self, repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Written within L{LAG}.  Cancelling waits for the disk.
        """
        return self._add(_FORGET_FILL, _names(repository, digest), LAG)

    def fills(self) -> Deferred[list[UnfinishedFill]]:
        return self._threads.run(self._fills)

    def deliveries(self) -> Deferred[list[Delivery]]:
        return self._threads.run(lambda: [Delivery(*row) for row in self._read(_DELIVERIES, ())])

    def delivery_body(self, delivery_id: str) -> Deferred[str | None]:
        found: Deferred[list[tuple[str]]] = self._threads.run(self._read, _DELIVERY_BODY, (delivery_id,))
        return found.addCallback(lambda rows: rows[0][0] if rows else None)

    def postpone_delivery(self, delivery: Delivery) -> Deferred[None]:
        """
        Written within L{LAG}.  Cancelling waits for the disk.
        """
        values = {"id": delivery.id, "attempts": delivery.attempts, "due": delivery.due}
        return self._add(_POSTPONE_DELIVERY, values, LAG)

    def forget_delivery(self, delivery_id: str) -> Deferred[None]:
        """
        Written within L{LAG}.  Cancelling waits for the disk.
        """
        return self._add(_FORGET_DELIVERY, {"id": delivery_id}, LAG)

    def record_setting(self, name: str, value: Any) -> Deferred[None]:
        """
        Cancelling waits for the disk.
        """
        if value is None:
            return self._add(_FORGET_SETTING, {"name": name})
        return self._add(_RECORD_SETTING, {"name": name, "value": json.dumps(value)})

    def settings(self) -> Deferred[dict[str, Any]]:
        return self._threads.run(
            lambda: {name: json.loads(value) for name, value in self._read(_SETTINGS, ())}
        )

    def _fills(self) -> list[UnfinishedFill]:
        return [
            UnfinishedFill(Repository(host, path), Descriptor(kind, Digest.parse(digest), size), begun)
            for host, path, digest, kind, size, begun in self._read(_FILLS, ())
        ]

    def _interrupted(self) -> list[UnfinishedJob]:
        return [
            UnfinishedJob(json.loads(record), None if request is None else json.loads(request), crashes)
            for record, request, crashes in self._read(_INTERRUPTED, ())
        ]

    def _hosts(self) -> list[HostRecord]:
        return [
            HostRecord(host, account, used, json.loads(record))
            for host, account, used, record in self._read(_HOSTS, ())
        ]

    def _keys(self, since: float) -> list[IdempotencyKey]:
        return [IdempotencyKey(*row) for row in self._read(_KEYS, (since,))]

    def _attempts(self, transfers: str, limit: int) -> list[dict[str, Any]]:
        newest = self._read(_ATTEMPTS, (transfers, limit))
        return [dict(zip(_ATTEMPT, row, strict=True)) for row in reversed(newest)]

    def _ids(self, values: Sequence[Any]) -> list[str]:
        return [job_id for (job_id,) in self._read(_IDS, values)]

    def _records(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        return [json.loads(record) for (record,) in self._read(query, values)]

    def _uploads(self) -> dict[tuple[Repository, Digest], UploadSession]:
        return {
            (Repository(host, path), Digest.parse(digest)): UploadSession(
                location, confirmed, used, bool(isolated)
            )
            for host, path, digest, location, confirmed, used, isolated in self._read(_UPLOADS, ())
        }

    def _holders(self, host: str, digest: Digest) -> list[Repository]:
        rows = self._read(_HOLDERS, (host, str(digest), MOST_HOLDERS))
        return [Repository(host, path) for (path,) in rows]

    def _add(self, statement: str, values: Mapping[str, Any], lag: float = 0.0) -> Deferred[None]:
        return self.write([Statement(statement, values)], lag)


def _names(repository: Repository, digest: Digest) -> dict[str, str]:
    """
    The columns of one blob in one repository.
    """
    return {"host": repository.host, "path": repository.path, "digest": str(digest)}
