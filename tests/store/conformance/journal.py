"""
Tests for providers of L{IJournal}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.store.conformance.base import DIGEST, Conformance
from xferd.interfaces.journal import HostRecord, IdempotencyKey, UnfinishedFill
from xferd.interfaces.registry import UploadSession
from xferd.interfaces.webhooks import Delivery
from xferd.names import Digest, Repository
from xferd.oci import Descriptor


def job(number: int, state: str = "running") -> dict[str, Any]:
    """
    A job, as far as the journal looks at it.
    """
    return {
        "id": f"job-{number}",
        "state": state,
        "created": f"2026-01-01T00:00:{number:02}Z",
        "kind": "pull",
    }


class JournalConformance(Conformance):
    """
    L{IJournal}.
    """

    def test_jobs(self) -> None:
        """
        The newest jobs are returned first, up to the requested number.
        """
        for number in (2, 1, 3):
            self.result(self.store.journal.record_job(job(number)))
        self.assertEqual(self.result(self.store.journal.jobs(2)), [job(3), job(2)])

    def test_deliveries(self) -> None:
        """
        The messages for the end of a job are recorded with it, once, and wait until they
        are forgotten.
        """
        journal, announced = self.store.journal, []

        def announce(record: Mapping[str, Any]) -> list[Delivery]:
            announced.append(record["state"])
            number = len(announced)
            return [Delivery(f"{record['id']}-{hook}", hook, 5.0, 0, 7.0, f"body {number}") for hook in "ab"]

        journal.announce = announce
        for state in ("queued", "running", "done", "done"):
            self.result(journal.record_job(job(1, state)))
        self.assertEqual(announced, ["done", "done"])
        self.result(journal.record_job(job(2, "failed")))
        waiting = self.result(journal.deliveries())
        ids = ["job-1-a", "job-1-b", "job-2-a", "job-2-b"]
        self.assertEqual(waiting, [Delivery(each, each[-1], 5.0, 0, 7.0) for each in ids])
        self.assertEqual(self.result(journal.delivery_body("job-1-b")), "body 1")
        self.assertIsNone(self.result(journal.delivery_body("job-3-a")))
        later = Delivery("job-1-b", "b", 5.0, 3, 99.0)
        self.result(journal.postpone_delivery(later))
        self.result(journal.forget_delivery("job-1-a"))
        self.result(journal.postpone_delivery(Delivery("job-1-a", "a", 5.0, 3, 99.0)))
        self.assertEqual(self.result(journal.deliveries())[0], later)
        self.assertEqual(self.result(journal.delivery_body("job-1-b")), "body 1")
        # After they were accepted, the same end has no further ones.
        for each in ids:
            self.result(journal.forget_delivery(each))
        self.result(journal.record_job(job(1, "done")))
        self.assertEqual(self.result(journal.deliveries()), [])

    def test_one_job(self) -> None:
        """
        A job is found by its id, as it was recorded last.
        """
        self.assertIsNone(self.result(self.store.journal.job("job-1")))
        self.result(self.store.journal.record_job(job(1)))
        self.result(self.store.journal.record_job(job(1, "done")))
        self.assertEqual(self.result(self.store.journal.job("job-1")), job(1, "done"))
        self.assertIsNone(self.result(self.store.journal.job("job-2")))

    def test_ids(self) -> None:
        """
        The IDs of jobs are found by their first characters.
        """
        for each in ("5f3c", "5f3d", "60aa", "5f"):
            self.result(self.store.journal.record_job({**job(1, "done"), "id": each}))
        for prefix, limit, found in (
            ("5f3", 9, ["5f3c", "5f3d"]),
            ("5f", 2, ["5f", "5f3c"]),
            ("", 9, ["5f", "5f3c", "5f3d", "60aa"]),
            ("5f3cc", 9, []),
        ):
            self.assertEqual(self.result(self.store.journal.ids(prefix, limit)), found)

    def test_older_jobs(self) -> None:
        """
        Jobs are returned in pages: those older than a given one; equal times
        are ordered by the id.
        """
        jobs = [{**job(number), "created": job(number // 2)["created"]} for number in range(7)]
        for each in jobs:
            self.result(self.store.journal.record_job(each))
        found = []
        before = None
        while page := self.result(self.store.journal.jobs(2, before)):
            found += page
            before = (page[-1]["created"], page[-1]["id"])
        self.assertEqual(found, jobs[::-1])

    def test_keys(self) -> None:
        """
        Idempotency keys are remembered for each client, in their order; one
        that is recorded again replaces the first.
        """
        journal = self.store.journal
        keys = [
            IdempotencyKey("ci", "a", b"\x00\xff", "job-1", 10.0),
            IdempotencyKey("me", "a", b"1", "job-2", 20.5),
            IdempotencyKey("ci", "b", b"2", "job-3", 30.0),
        ]
        for key in keys:
            self.result(journal.record_key(key))
        self.assertEqual(self.result(journal.keys(0.0)), keys)
        self.assertEqual(self.result(journal.keys(10.0)), keys[1:])
        again = IdempotencyKey("ci", "a", b"3", "job-4", 40.0)
        self.result(journal.record_key(again))
        self.assertEqual(self.result(journal.keys(0.0)), [*keys[1:], again])

    def test_replace(self) -> None:
        """
        A new record of a job replaces the old one, and keeps its place.
        """
        for number in (1, 2):
            self.result(self.store.journal.record_job(job(number)))
        self.result(self.store.journal.record_job(job(1, "done")))
        self.assertEqual(self.result(self.store.journal.jobs(9)), [job(2), job(1, "done")])

    def test_remembered_as_it_was(self) -> None:
        """
        Changing a record after it was handed over changes nothing.
        """
        record = job(1)
        self.result(self.store.journal.record_job(record))
        record["state"] = "done"
        self.assertEqual(self.result(self.store.journal.jobs(9)), [job(1)])

    def test_not_interrupted(self) -> None:
        """
        Jobs of this daemon do not count as interrupted.
        """
        self.result(self.store.journal.record_job(job(1)))
        self.assertEqual(self.result(self.store.journal.interrupted()), [])

    def test_attempt(self) -> None:
        """
        An attempt is recorded; unknown facts are L{None}.
        """
        known = {"transfer": "t1", "kind": "download", "attempt": 1, "bytes_done": 3}
        self.result(self.store.journal.record_attempt(known))
        unknown = dict.fromkeys(("digest", "source", "started", "finished", "bytes_moved", "code", "error"))
        self.assertEqual(self.result(self.store.journal.attempts(["t1"], 9)), [{**known, **unknown}])

    def test_attempts_of_some(self) -> None:
        """
        The attempts of some transfers are returned in their order, and above
        the limit only the newest.
        """
        facts = {
            "kind": "download",
            "digest": str(DIGEST),
            "source": "r.example/app",
            "started": "2026-01-02T03:04:05.000Z",
            "finished": "2026-01-02T03:04:06.000Z",
            "bytes_done": 3,
            "bytes_moved": 2,
            "code": None,
            "error": None,
        }
        tried = [
            {"transfer": transfer, "attempt": n, **facts} for n in (1, 2) for transfer in ("t1", "t2", "it's")
        ]
        for attempt in tried:
            self.result(self.store.journal.record_attempt(attempt))
        journal = self.store.journal
        self.assertEqual(self.result(journal.attempts(["t1"], 9)), [tried[0], tried[3]])
        self.assertEqual(
            self.result(journal.attempts(["it's", "t1", "t4"], 3)), [tried[2], tried[3], tried[5]]
        )
        self.assertEqual(self.result(journal.attempts([], 9)), [])

    def test_uploads(self) -> None:
        """
        The latest session of an upload is recorded until it is removed.
        """
        app, other = Repository("r.example", "app"), Repository("r.example", "other")
        journal = self.store.journal
        self.result(journal.record_upload(app, DIGEST, UploadSession("https://r.example/1", 0)))
        self.result(journal.record_upload(other, DIGEST, UploadSession("https://r.example/2", 5)))
        self.result(journal.record_upload(app, DIGEST, UploadSession("https://r.example/3", 7, 1e9, True)))
        self.assertEqual(
            self.result(journal.uploads()),
            {
                (app, DIGEST): UploadSession("https://r.example/3", 7),
                (other, DIGEST): UploadSession("https://r.example/2", 5),
            },
        )
        found = self.result(journal.uploads())
        self.assertEqual((found[app, DIGEST].used, found[app, DIGEST].isolated), (1e9, True))
        self.assertFalse(found[other, DIGEST].isolated)
        for repository in (app, other, other):
            self.result(journal.record_upload(repository, DIGEST, None))
        self.assertEqual(self.result(journal.uploads()), {})

    def test_hosts(self) -> None:
        """
        The latest record of each host and account is kept, in the order in
        which they were recorded, until the host is forgotten.
        """
        journal = self.store.journal
        a, b = HostRecord("a.example", "", 10.0, {"paused": 5.5}), HostRecord("a.example", "x", 20.0, {})
        other = HostRecord("b.example", "", 30.0, {"capabilities": {"chunks": False}})
        newer = HostRecord("a.example", "", 40.0, {"paused": None})
        for record in (a, b, other, newer):
            self.result(journal.record_host(record))
        self.assertEqual(self.result(journal.hosts()), [b, other, newer])
        self.result(journal.forget_host("a.example"))
        self.assertEqual(self.result(journal.hosts()), [other])
        self.result(journal.forget_host("nobody.example"))
        self.assertEqual(self.result(journal.hosts()), [other])

    def test_unused_hosts(self) -> None:
        """
        Records that were not used since a time are removed.
        """
        journal = self.store.journal
        records = [HostRecord("a.example", str(n), float(n), {}) for n in range(4)]
        for record in records:
            self.result(journal.record_host(record))
        self.result(journal.forget_unused_hosts(2.0))
        self.assertEqual(self.result(journal.hosts()), records[2:])

    def test_salt(self) -> None:
        """
        There is a salt.
        """
        self.assertEqual(len(self.store.journal.salt), 32)

    def test_fills(self) -> None:
        """
        The fills that were not forgotten are read, each once and as it was recorded last,
        the oldest first.
        """
        a, b = Repository("r.example", "a"), Repository("account@r.example", "b")
        blob = Descriptor("application/octet-stream", DIGEST, 7)
        journal = self.store.journal
        for fill in (UnfinishedFill(b, blob), UnfinishedFill(a, blob), UnfinishedFill(b, blob, 2)):
            self.result(journal.record_fill(fill))
        expected = [UnfinishedFill(b, blob, 2), UnfinishedFill(a, blob)]
        self.assertEqual(self.result(journal.fills()), expected)
        self.result(journal.forget_fill(b, Digest.of(b"another")))
        self.result(journal.forget_fill(b, DIGEST))
        self.assertEqual(self.result(journal.fills()), expected[1:])

    def test_holders(self) -> None:
        """
        The repositories that have a blob are recorded for each registry, the
        one seen last first, and each only once.
        """
        a, b = Repository("r.example", "a"), Repository("r.example", "b")
        for repository in (a, b, Repository("other.example", "a"), a):
            self.result(self.store.journal.record_holder(repository, DIGEST))
        self.result(self.store.journal.record_holder(b, Digest.of(b"another")))
        self.assertEqual(self.result(self.store.journal.holders("r.example", DIGEST)), [a, b])
        self.assertEqual(self.result(self.store.journal.holders("nobody.example", DIGEST)), [])
