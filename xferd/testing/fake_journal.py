# -*- test-case-name: tests.testing.test_fake_store -*-
"""
A journal in memory, for tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.interfaces.journal import HostRecord, IdempotencyKey, IJournal, UnfinishedFill, UnfinishedJob
from xferd.interfaces.registry import UploadSession
from xferd.interfaces.webhooks import Delivery
from xferd.names import Digest, Repository
from xferd.testing.gate import Gate

_UNKNOWN: Final = dict.fromkeys(
    ("digest", "source", "started", "finished", "bytes_done", "bytes_moved", "code", "error")
)
"""What the record of an attempt may lack."""

UNFINISHED: Final = ("queued", "running")
"""The states of jobs that have not ended."""


@implementer(IJournal)
class FakeJournal:
    """
    The records of a daemon.

    @ivar recorded: each job as it was recorded last, the oldest first.
    @ivar history: every record of a job, in order.
    @ivar requests: what begins each unfinished job again, by its ID.
    @ivar all_requests: each of these that was recorded, in order.
    @ivar recorded_attempts: every attempt, in order.
    @ivar recorded_keys: the idempotency keys, in order.
    @ivar sessions: the unfinished uploads.
    @ivar host_records: the records of hosts and accounts, in order.
    @ivar recorded_fills: the unfinished fills of the mirror.
    @ivar recorded_deliveries: the messages of webhooks that wait, by their IDs.
    @ivar kept_settings: what a person has set, by name.
    @ivar held: which repository has which blob, the newest first.
    """

    salt = bytes(32)

    def __init__(self, gate: Gate) -> None:
        self.run = 1
        self.recorded: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self.recorded_attempts: list[dict[str, Any]] = []
        self.sessions: dict[tuple[Repository, Digest], UploadSession] = {}
        self.held: list[tuple[Repository, Digest]] = []
        self.recorded_keys: list[IdempotencyKey] = []
        self.host_records: list[HostRecord] = []
        self.recorded_fills: dict[tuple[Repository, Digest], UnfinishedFill] = {}
        self.recorded_deliveries: dict[str, Delivery] = {}
        self.announce: Callable[[Mapping[str, Any]], Sequence[Delivery]] = lambda _: ()
        self.kept_settings: dict[str, Any] = {}
        self.requests: dict[str, Mapping[str, Any]] = {}
        self.all_requests: list[Mapping[str, Any]] = []
        self._crashes: dict[str, int] = {}
        self._begun: set[str] = set()
        self._left: list[UnfinishedJob] = []
        self._gate = gate

    def restart(self) -> None:
        """
        Continue as the journal of the next daemon.
        """
        self.run += 1
        self._left = []
        for job_id, record in self.recorded.items():
            if record["state"] in UNFINISHED:
                ran = record["state"] == "running" or job_id in self._begun
                crashes = self._crashes.get(job_id, 0) + 1 if ran else 0
                self._left.append(UnfinishedJob(dict(record), self.requests.get(job_id), crashes))
        self._begun.clear()

    def record_job(
        self, record: Mapping[str, Any], request: Mapping[str, Any] | None = None
    ) -> Deferred[None]:
        job_id = record["id"]
        known = self.recorded.get(job_id, {"state": "queued"})["state"] in UNFINISHED
        for each in () if record["state"] in UNFINISHED else self.announce(record):
            if known:
                self.recorded_deliveries.setdefault(each.id, each)
        self.recorded[job_id] = dict(record)
        self.history.append(dict(record))
        self._begun.discard(job_id)
        if request is not None:
            self.requests[job_id] = json.loads(json.dumps(dict(request)))
            self.all_requests.append(self.requests[job_id])
        if record["state"] not in UNFINISHED:
            self.requests.pop(job_id, None)
        return self._gate.enter("journal.job", job_id)

    def record_begun(self, crashes: Mapping[str, int]) -> Deferred[None]:
        self._crashes.update(crashes)
        self._begun.update(crashes)
        return self._gate.enter("journal.begun")

    def flush(self) -> Deferred[None]:
        return self._gate.enter("journal.flush")

    def record_attempt(self, record: Mapping[str, Any]) -> Deferred[None]:
        self.recorded_attempts.append(dict(record))
        return self._gate.enter("journal.attempt")

    def attempts(self, transfers: Sequence[str], limit: int) -> Deferred[list[dict[str, Any]]]:
        some = [a for a in self.recorded_attempts if a["transfer"] in set(transfers)][-limit:]
        found = [{**_UNKNOWN, **attempt} for attempt in some]
        return self._gate.enter("journal.attempts").addCallback(lambda _: found)

    def job(self, job_id: str) -> Deferred[dict[str, Any] | None]:
        found = self.recorded.get(job_id)
        return self._gate.enter("journal.read_job", job_id).addCallback(lambda _: found and dict(found))

    def ids(self, prefix: str, limit: int) -> Deferred[list[str]]:
        found = sorted(job_id for job_id in self.recorded if job_id.startswith(prefix))[:limit]
        return self._gate.enter("journal.ids", prefix).addCallback(lambda _: found)

    def jobs(self, limit: int, before: tuple[str, str] | None = None) -> Deferred[list[dict[str, Any]]]:
        newest = sorted(self.recorded.values(), key=_age, reverse=True)
        found = [dict(r) for r in newest if before is None or _age(r) < before][:limit]
        return self._gate.enter("journal.jobs").addCallback(lambda _: found)

    def record_key(self, kept: IdempotencyKey) -> Deferred[None]:
        self.recorded_keys = [k for k in self.recorded_keys if (k.client, k.key) != (kept.client, kept.key)]
        self.recorded_keys.append(kept)
        return self._gate.enter("journal.key", kept.key)

    def keys(self, since: float) -> Deferred[list[IdempotencyKey]]:
        found = [kept for kept in self.recorded_keys if kept.created > since]
        return self._gate.enter("journal.keys").addCallback(lambda _: found)

    def unfinished(self, reference: str) -> Deferred[list[dict[str, Any]]]:
        found = [dict(r) for r in self.recorded.values() if r["state"] != "done"]
        found = [r for r in found if r["reference"] == reference]
        return self._gate.enter("journal.unfinished").addCallback(lambda _: found)

    def interrupted(self) -> Deferred[list[UnfinishedJob]]:
        return self._gate.enter("journal.interrupted").addCallback(lambda _: list(self._left))

    def record_upload(
        self, repository: Repository, digest: Digest, session: UploadSession | None
    ) -> Deferred[None]:
        if session is None:
            self.sessions.pop((repository, digest), None)
        else:
            self.sessions[repository, digest] = session
        return self._gate.enter("journal.upload", digest)

    def uploads(self) -> Deferred[dict[tuple[Repository, Digest], UploadSession]]:
        return self._gate.enter("journal.uploads").addCallback(lambda _: dict(self.sessions))

    def record_host(self, record: HostRecord) -> Deferred[None]:
        key = record.host, record.account
        self.host_records = [r for r in self.host_records if (r.host, r.account) != key]
        self.host_records.append(record)
        return self._gate.enter("journal.host", record.host)

    def forget_host(self, host: str) -> Deferred[None]:
        self.host_records = [r for r in self.host_records if r.host != host]
        return self._gate.enter("journal.forget_host", host)

    def forget_unused_hosts(self, before: float) -> Deferred[None]:
        self.host_records = [r for r in self.host_records if r.used >= before]
        return self._gate.enter("journal.forget_unused_hosts")

    def hosts(self) -> Deferred[list[HostRecord]]:
        return self._gate.enter("journal.hosts").addCallback(lambda _: list(self.host_records))

    def record_fill(self, fill: UnfinishedFill) -> Deferred[None]:
        self.recorded_fills[fill.repository, fill.blob.digest] = fill
        return self._gate.enter("journal.fill", fill.blob.digest)

    def forget_fill(self, repository: Repository, digest: Digest) -> Deferred[None]:
        self.recorded_fills.pop((repository, digest), None)
        return self._gate.enter("journal.forget_fill", digest)

    def fills(self) -> Deferred[list[UnfinishedFill]]:
        return self._gate.enter("journal.fills").addCallback(lambda _: list(self.recorded_fills.values()))

    def deliveries(self) -> Deferred[list[Delivery]]:
        found = [evolve(each, body="") for each in self.recorded_deliveries.values()]
        return self._gate.enter("journal.deliveries").addCallback(lambda _: found)

    def delivery_body(self, delivery_id: str) -> Deferred[str | None]:
        found = self.recorded_deliveries.get(delivery_id)
        body = None if found is None else found.body
        return self._gate.enter("journal.delivery_body", delivery_id).addCallback(lambda _: body)

    def postpone_delivery(self, delivery: Delivery) -> Deferred[None]:
        known = self.recorded_deliveries.get(delivery.id)
        if known is not None:
            changed = evolve(known, attempts=delivery.attempts, due=delivery.due)
            self.recorded_deliveries[delivery.id] = changed
        return self._gate.enter("journal.postpone_delivery", delivery.id)

    def forget_delivery(self, delivery_id: str) -> Deferred[None]:
        self.recorded_deliveries.pop(delivery_id, None)
        return self._gate.enter("journal.forget_delivery", delivery_id)

    def record_setting(self, name: str, value: Any) -> Deferred[None]:
        if value is None:
            self.kept_settings.pop(name, None)
        else:
            self.kept_settings[name] = json.loads(json.dumps(value))
        return self._gate.enter("journal.setting", name)

    def settings(self) -> Deferred[dict[str, Any]]:
        return self._gate.enter("journal.settings").addCallback(lambda _: dict(self.kept_settings))

    def record_holder(self, repository: Repository, digest: Digest) -> Deferred[None]:
        self.held = [(r, d) for r, d in self.held if (r, d) != (repository, digest)]
        self.held.insert(0, (repository, digest))
        return self._gate.enter("journal.holder", digest)

    def holders(self, host: str, digest: Digest) -> Deferred[list[Repository]]:
        found = [r for r, d in self.held if r.host == host and d == digest]
        return self._gate.enter("journal.holders", digest).addCallback(lambda _: found)


def _age(record: Mapping[str, Any]) -> tuple[str, str]:
    return record.get("created", ""), record["id"]
