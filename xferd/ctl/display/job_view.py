# -*- test-case-name: tests.ctl.display.test_job_view -*-
"""
One job as a client sees it, assembled from its events, with a row for each
layer that is pulled or blob that is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.ctl.api import Event
from xferd.ctl.client import ENDED
from xferd.ctl.text import clean, clock, counted, lasting, short, size

if TYPE_CHECKING:
    from datetime import datetime

SENDING = frozenset({"push", "copy"})
"""The kinds of jobs that send blobs to a registry."""

_PULLED_WORDS = {"exists": "already exists", "done": "complete"}
_SENT_WORDS = {"exists": "already there"}
_CHECKED_WORDS = {"done": "whole", "failed": "damaged"}
_IN_PLACE = frozenset({"done", "exists", "mounted"})


def count(item: dict[str, Any], name: str) -> int:
    """
    An integer member of an object of the API; 0 if it is missing.
    """
    value = item.get(name)
    return value if isinstance(value, int) else 0


class Waiting(NamedTuple):
    """
    What is waited for, as data.

    @ivar what: the name of the reason; empty if nothing is waited for.
    @ivar whom: the host or program that has to act.
    @ivar step: how the seconds in the words change each second: see
        L{counted<xferd.ctl.text.counted>}.
    @ivar since: when the wait began, RFC 3339; empty if nothing is waited for, or if the words
        have its duration.
    """

    what: str
    whom: str
    step: int
    since: str

    @classmethod
    def of(cls, item: dict[str, Any]) -> Waiting:
        """
        The C{reason} of a job, a layer or a transfer.
        """
        reason = item.get("reason")
        if not isinstance(reason, dict):
            return NO_WAIT
        what = clean(reason.get("what"))
        step = -1 if reason.get("until") else 1 if what == "silence" else 0
        since = "" if what == "silence" else clean(reason.get("since"))
        return cls(what, clean(reason.get("whom")), step, since)

    def words(self, why: str, now: datetime, elapsed: float = 0.0) -> str:
        """
        The reason in words, and since when.

        @param why: its words, as the daemon sent them.
        @param now: the present time.
        @param elapsed: seconds since the daemon sent them.
        """
        return lasting(counted(why, self.step, elapsed), self.since, now)


NO_WAIT: Final = Waiting("", "", 0, "")
"""Nothing is waited for."""


class RowView:
    """
    One row of a job, and its transfer.

    @ivar data: the row, as the API defines it.
    @ivar transfer: the transfer, as the API defines it; empty if there is none.
    """

    def __init__(self, data: dict[str, Any], transfer: dict[str, Any], kind: str = "pull") -> None:
        """
        @param kind: the job's kind.
        """
        self.data = data
        self.transfer = transfer
        self._words = (
            _CHECKED_WORDS if kind == "verify" else _SENT_WORDS if kind in SENDING else _PULLED_WORDS
        )

    @property
    def index(self) -> int:
        """
        The row's position, from 0; layers are in order from the bottom.
        """
        return count(self.data, "index")

    @property
    def attempt(self) -> int:
        """
        The transfer's attempt, from 1.
        """
        return max(1, count(self.transfer, "attempt"))

    @property
    def name(self) -> str:
        """
        The blob's short digest.
        """
        return short(self.data.get("digest"))

    @property
    def state(self) -> str:
        """
        The state in words: C{downloading}, C{already exists}.
        """
        state = clean(self.data.get("state"))
        return self._words.get(state, state)

    @property
    def ended(self) -> bool:
        """
        Whether the state is final.
        """
        return self.in_place or self.data.get("state") in ("failed", "cancelled")

    @property
    def in_place(self) -> bool:
        """
        Whether the layer or blob is at its destination.
        """
        return self.data.get("state") in _IN_PLACE

    @property
    def total(self) -> int:
        """
        The blob's bytes.
        """
        return count(self.data, "size")

    @property
    def done(self) -> int:
        """
        The bytes that are transferred, or unpacked, according to the state.
        """
        if self.in_place or self.data.get("state") == "registering":
            return self.total
        return count(self.data, "unpacked" if self.data.get("state") == "unpacking" else "bytes_done")

    @property
    def rate(self) -> float:
        """
        Bytes per second; 0 unless it is being transferred.
        """
        moving = self.data.get("state") in ("downloading", "uploading")
        rate = self.transfer.get("rate")
        return rate if moving and isinstance(rate, int | float) else 0.0

    @property
    def why(self) -> str:
        """
        Why it waits, is retried or failed.
        """
        return clean(self.data.get("why") or ("" if self.ended else self.transfer.get("why")))

    @property
    def waiting(self) -> Waiting:
        """
        What it waits for.
        """
        return Waiting.of(self.data)

    @property
    def sharing(self) -> str:
        """
        The number of jobs that share its transfer, in words; empty for one.
        """
        watchers = 0 if self.ended else count(self.transfer, "watchers")
        return f"shared by {watchers}" if watchers > 1 else ""


class JobView:
    """
    One job, updated by its events.

    @ivar job: the job, as the API defines it.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        """
        @param job: the job, with or without layers.
        """
        self._rows: dict[int, dict[str, Any]] = {}
        self._transfers: dict[str, dict[str, Any]] = {}
        self.update(Event("job", job, False))

    def update(self, event: Event) -> list[RowView]:
        """
        Apply an event.

        @return: the rows that it changed.
        """
        data = event.data
        if event.kind == "job":
            self.job = data
            listed = [row for row in data.get("layers") or () if isinstance(row, dict)]
        elif event.kind == "layer":
            listed = [data]
        elif event.kind == "transfer":
            key = _key(data.get("id"))
            self._transfers[key] = data
            listed = [row for row in self._rows.values() if _key(row.get("transfer")) == key]
        elif event.kind == "lost":
            # Nothing moves, as far as is known.
            self._transfers.clear()
            listed = list(self._rows.values())
        else:
            listed = []
        for row in listed:
            self._rows[count(row, "index")] = row
        return [self._view(row) for row in listed]

    def _view(self, row: dict[str, Any]) -> RowView:
        transfer = self._transfers.get(_key(row.get("transfer")), {})
        return RowView(row, transfer, self.kind)

    @property
    def rows(self) -> list[RowView]:
        """
        The rows in order; layers from the bottom.
        """
        return [self._view(row) for _, row in sorted(self._rows.items())]

    @property
    def kind(self) -> str:
        """
        The job's kind: C{pull}, C{push}, C{copy}, C{import}, C{prefetch} or
        C{verify}.
        """
        return clean(self.job.get("kind"))

    @property
    def sending(self) -> bool:
        """
        Whether the rows are blobs that are sent.
        """
        return self.kind in SENDING

    @property
    def noun(self) -> str:
        """
        The noun for a row.
        """
        if self.kind == "verify":
            return "part"
        return "blob" if self.sending or self.kind == "prefetch" else "layer"

    @property
    def reference(self) -> str:
        """
        The image's name.
        """
        return clean(self.job.get("reference"))

    @property
    def target(self) -> str:
        """
        The destination; empty for a pull.
        """
        return clean(self.job.get("target"))

    @property
    def title(self) -> str:
        """
        The image's name, and the destination if it differs.
        """
        if not self.reference and self.kind == "import":
            return "archive"
        if not self.reference and self.kind == "verify":
            return "all content"
        return self.reference if self.target in ("", self.reference) else f"{self.reference} -> {self.target}"

    @property
    def state(self) -> str:
        """
        The job's state.
        """
        return clean(self.job.get("state"))

    @property
    def ended(self) -> bool:
        """
        Whether the job has ended.
        """
        return self.state in ENDED

    @property
    def waiting(self) -> Waiting:
        """
        What the job waits for.
        """
        return Waiting.of({} if self.ended else self.job)

    @property
    def archive(self) -> dict[str, Any] | None:
        """
        The progress of an import's archive, C{received} and C{size}, while its
        contents are unknown.
        """
        archive = self.job.get("archive")
        return archive if isinstance(archive, dict) and not self._rows and not self.ended else None

    @property
    def done(self) -> int:
        """
        The bytes that are at their destination, at most L{total}.
        """
        if self.archive is not None:
            return count(self.archive, "received")
        return min(self.total, count(self.job, "bytes_done")) if self.state != "done" else self.total

    @property
    def total(self) -> int:
        """
        The bytes of the whole job; 0 while unknown.
        """
        if self.archive is not None:
            return count(self.archive, "size")
        return count(self.job, "bytes_total")

    @property
    def rate(self) -> float:
        """
        Bytes per second.  A transfer of a blob that is in the image twice
        counts once.
        """
        rates = {_key(row.data.get("transfer")): row.rate for row in self.rows}
        return sum(rates.values())

    @property
    def pace(self) -> list[str]:
        """
        The rate and the time left, in words; empty while nothing moves.
        """
        rate, total, done = self.rate, self.total, self.done
        if not rate or self.ended:
            return []
        return [f"{size(rate)}/s", *([f"{clock((total - done) / rate)} left"] if total > done else [])]

    @property
    def sent(self) -> int:
        """
        The bytes of the blobs that were sent.
        """
        done = {
            _key(row.data.get("digest")): row.total for row in self.rows if row.data.get("state") == "done"
        }
        return sum(done.values())

    @property
    def error(self) -> str:
        """
        The job's error and its code; empty if there is none.
        """
        error = self.job.get("error")
        if not isinstance(error, dict):
            return ""
        message, code = clean(error.get("message")), clean(error.get("code"))
        return f"{message} ({code})" if code else message

    @property
    def why(self) -> str:
        """
        Why it waits as a whole; empty if it does not.
        """
        return "" if self.ended else clean(self.job.get("why"))

    @property
    def warnings(self) -> list[str]:
        """
        The job's warnings.
        """
        listed = self.job.get("warnings")
        return [clean(text) for text in listed] if isinstance(listed, list) else []

    @property
    def findings(self) -> list[str]:
        """
        The damage that a verification found, each in a sentence.
        """
        return [_finding(each) for each in self._found()]

    @property
    def damaged(self) -> int:
        """
        The number of blobs and trees that a verification found damaged.
        """
        return len({(clean(each.get("kind")), clean(each.get("digest"))) for each in self._found()})

    def _found(self) -> list[dict[str, Any]]:
        listed = self.job.get("findings")
        return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []

    @property
    def pinned(self) -> str:
        """
        The result as a reference with its digest:
        C{docker.io/library/alpine:3.20@sha256:...}.  For an archive of several
        images, their names, one on each line.
        """
        if self.kind == "import" and ", " in self.reference:
            return self.reference.replace(", ", "\n")
        name = self.target or self.reference
        result = self.job.get("result")
        digest = clean(result.get("digest")) if isinstance(result, dict) else ""
        return name if not digest or "@" in name else f"{name}@{digest}"


def _finding(finding: dict[str, Any]) -> str:
    found = f"{clean(finding.get('kind'))} {clean(finding.get('digest'))}: "
    found += f"{clean(finding.get('path'))} {clean(finding.get('problem'))}"
    if finding.get("state") == "healed":
        return f"{found}; replaced"
    if finding.get("state") == "damaged":
        return found
    kept = f"; moved to {clean(finding.get('kept'))}" if finding.get("kept") else ""
    return f"{found}; not replaced: {clean(finding.get('why'))}{kept}"


def _key(value: object) -> str:
    return str(value)
