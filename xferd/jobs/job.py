# -*- test-case-name: tests.jobs.test_manager -*-
"""
A job: one client's request, with its state, its layers and its result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from attrs import asdict, define, field
from twisted.internet.defer import Deferred, succeed

from xferd.credentials import Credentials
from xferd.errors import MAX_MESSAGE, XferdError
from xferd.interfaces.job_json import ErrorJSON, FindingJSON, JobDetailsJSON, JobJSON, LayerJSON
from xferd.jobs.reasons import NOTHING, Explanation, JobWait, explain
from xferd.jobs.request import Request
from xferd.jobs.rows import PRESENT, Row
from xferd.jobs.timing import CHECKING, REGISTERING, Timing
from xferd.jobs.upload_stream import UploadStream
from xferd.json_encoding import rfc3339
from xferd.names import Digest, Repository
from xferd.transfer.fair_queue import Turn
from xferd.transfer.reason import Obstacle, Reason
from xferd.transfer.steering import Hold
from xferd.transfer.transfer import Transfer

ENDED = frozenset({"done", "failed", "cancelled"})
"""The states in which a job stays."""

MAX_WARNINGS = 20
"""The number of warnings that one job keeps."""

BUG = "internal error; see the daemon's log"
"""The message to clients of an error that is no L{XferdError}."""

REQUEST: Final = "request"
"""The member of the journal's records that has what begins a job again; not in the API."""

MAX_TRANSFERS = 1000
"""The number of a job's transfers that are remembered."""

_IN_FULL = frozenset({"layers", "transfers", REQUEST})
_LOOKED_AT: Final = 100
"""The number of rows, from the first one that may change, among which a reason is looked for."""

_ADDED: Final[Mapping[str, Any]] = {
    "findings": [],
    "restart": None,
    "priority": 0,
    "paused": False,
    "retry_of": None,
    "download_rate": 0,
    "upload_rate": 0,
    "why": "",
    "reason": None,
    "until": None,
    "timing": None,
}
"""The members that records of older journals lack."""


def in_short(record: Mapping[str, Any]) -> JobJSON:
    """
    The members of a job's record that lists and events show.
    """
    return cast("JobJSON", {**_ADDED, **{k: value for k, value in record.items() if k not in _IN_FULL}})


def whole(record: Mapping[str, Any]) -> JobDetailsJSON:
    """
    A record with all members of a job: records of older journals lack some.
    """
    layers = [{"reason": None, **layer} for layer in record.get("layers", ())]
    own = {name: value for name, value in record.items() if name != REQUEST}
    return cast("JobDetailsJSON", {"transfers": [], **_ADDED, **own, "layers": layers})


def describe(error: BaseException) -> ErrorJSON:
    """
    An error as the API, xferctl and the page show it.

    An error that is no L{XferdError} is a bug: its text goes to the log only.
    """
    if isinstance(error, XferdError):
        return {"code": error.code, "message": str(error)}
    return {"code": XferdError.code, "message": BUG}


def _is_wait(explanation: Explanation) -> bool:
    return explanation.reason is not None


@define(eq=False)
class Job:
    """
    A client's request.

    States: C{queued}, C{running}, then C{done}, C{failed} or C{cancelled}.

    @ivar id: its id in the API.
    @ivar number: its number: that of an older job is smaller, and goes first.
    @ivar kind: C{pull}, C{push}, C{copy}, C{import}, C{prefetch} or C{verify}.
    @ivar reference: the requested reference, in full; empty for an import that
        takes its names from the archive, until they are known, and for a verification
        of all content.
    @ivar platform: the requested platform, or L{None}: this machine's for a pull or
        a prefetch, all of them for a copy, for a push the one in the store.
    @ivar target: the reference to push or copy to.
    @ivar client: the client's name.
    @ivar request: what else begins it again after a restart of the daemon.
    @ivar credentials: the client's own, by registry host; never in the journal.
    @ivar restart: C{always} or C{rejoin}: see L{IJobs.persist
        <xferd.interfaces.jobs.IJobs.persist>}; L{None} if it ends with the daemon.
    @ivar held: why the daemon does not run it, after or before a restart.
    @ivar paused: its pause, if a person has paused it.
    @ivar rates: its bandwidth limits that hold now, C{download_rate} and C{upload_rate}.
    @ivar requests: what its own work waits for at present, besides transfers.
    @ivar awaited: the transfers without rows that it waits for, documents, and the reason of
        each when it changed last.
    @ivar logged: the waits that the log has, by C{what} and C{whom}.
    @ivar upload_stream: the stream of an import's archive.
    @ivar repositories: the repositories that it uses.
    @ivar warnings: the warnings of their registries, each once: C{HOST: TEXT};
        and those of xferd itself.
    @ivar findings: the damage that a verification found.
    @ivar earlier: the layers that it had in an earlier daemon.
    @ivar timing: where its time goes.
    @ivar size: the bytes of all layers, each blob once.
    @ivar transfers: the ids of the transfers that it waited for over the
        network, in their order; the first L{MAX_TRANSFERS}.
    """

    id: str
    number: int
    kind: str
    reference: str
    platform: str | None
    client: str
    created: float
    request: Request = field(factory=Request)
    credentials: Mapping[str, Credentials] = field(factory=dict, repr=False)
    restart: str | None = None
    held: JobWait | None = None
    paused: Hold | None = None
    rates: Mapping[str, int] = field(factory=dict)
    requests: list[JobWait] = field(factory=list)
    awaited: dict[Transfer, Reason] = field(factory=dict)
    logged: frozenset[tuple[str, str]] = frozenset()
    target: str | None = None
    upload_stream: UploadStream | None = None
    state: str = "queued"
    started: float | None = None
    finished: float | None = None
    error: ErrorJSON | None = None
    result: dict[str, str] | None = None
    transfers: dict[str, None] = field(factory=dict)
    repositories: frozenset[Repository] = frozenset()
    warnings: list[str] = field(factory=list)
    findings: list[FindingJSON] = field(factory=list)
    earlier: Sequence[LayerJSON] = ()
    timing: Timing = field(factory=Timing, repr=False)
    size: int = field(default=0, init=False)
    _rows: list[Row] = field(factory=list, init=False)
    _of_blob: dict[Digest, list[Row]] = field(factory=dict, init=False)
    _first_open: int = field(default=0, init=False)
    _changed: dict[Row, None] = field(factory=dict, init=False)
    _counted: dict[Row, tuple[int, bool]] = field(factory=dict, init=False)
    _resuming: list[Deferred[None]] = field(factory=list, init=False, repr=False)
    _bytes_done: int = field(default=0, init=False)
    _layers_done: int = field(default=0, init=False)

    @property
    def label(self) -> str:
        """
        The job's images, as the log names them.
        """
        return self.reference or ("all content" if self.kind == "verify" else "an archive")

    @property
    def rows(self) -> Sequence[Row]:
        """
        The layers, bottom first, or the blobs, once they are known.
        """
        return self._rows

    def add_rows(self, rows: Iterable[Row]) -> None:
        """
        Add rows behind the present ones.
        """
        self.timing.rest(CHECKING if self.kind == "verify" else REGISTERING)
        for row in rows:
            of_blob = self._of_blob.setdefault(row.blob.digest, [])
            if of_blob:
                self._changed[of_blob[-1]] = None
            else:
                self.size += row.blob.size
            of_blob.append(row)
            self._rows.append(row)
            self._changed[row] = None

    def rows_of(self, digest: Digest) -> Sequence[Row]:
        """
        The rows of one blob.
        """
        return self._of_blob.get(digest, ())

    def row_changed(self, row: Row) -> None:
        """
        Have a row counted again when the sums are needed.
        """
        self._changed[row] = None

    def waits_for(self, transfer_id: str) -> None:
        """
        Record a transfer that it waits for from now on.
        """
        if len(self.transfers) < MAX_TRANSFERS:
            self.transfers[transfer_id] = None

    def warned(self, repository: Repository, text: str) -> bool:
        """
        Add a registry's warning about a repository.

        @return: whether the job uses the repository, and the warning is new.
        """
        return repository in self.repositories and self.warn(f"{repository.host}: {text}")

    def warn(self, warning: str) -> bool:
        """
        Add a warning, which is cut as an error's message is.

        @return: whether it is a new one.
        """
        warning = warning[:MAX_MESSAGE]
        if warning in self.warnings or len(self.warnings) >= MAX_WARNINGS:
            return False
        self.warnings.append(warning)
        return True

    def turn(self, layer: int = 0) -> Turn:
        """
        The job's place in a queue, for one of its layers.
        """
        return Turn(self.client, self.request.priority, self.number, layer)

    def to_request(self) -> Mapping[str, Any]:
        """
        What begins the job again, besides its members in the API, for the journal.
        """
        paused = None if self.paused is None else asdict(self.paused)
        own = {"restart": self.restart, "paused": paused, "timing": self.timing.to_json()}
        return {**self.request.to_json(), **own}

    def pause(self, hold: Hold | None) -> None:
        """
        Pause its own work, besides transfers; L{None} ends the pause.
        """
        self.paused = hold
        self.timing.pause(None if hold is None else hold.by)
        if hold is None:
            resuming, self._resuming = self._resuming, []
            for each in resuming:
                each.callback(None)

    def resumed(self) -> Deferred[None]:
        """
        Wait until it is not paused.

        @return: fires at once if it is not.
        """
        if self.paused is None:
            return succeed(None)
        resumed: Deferred[None] = Deferred(self._resuming.remove)
        self._resuming.append(resumed)
        return resumed

    def explain(self) -> Explanation:
        """
        Why it waits as a whole: its first reason, if nothing of it moves.
        """
        own = self._own()
        if own is not None:
            return own.explain()
        first: Row | None = None
        for row in self._first_rows():
            part = row.explaining
            if part is None or part.over:
                continue
            # In its other states a transfer waits.
            if part.state == "running" and not part.reason().hinders:
                return NOTHING
            first = first or row
        if first is not None:
            return first.explain()
        return next(filter(_is_wait, map(explain, self.awaited)), NOTHING)

    def waits(self) -> list[Explanation]:
        """
        All its reasons, those of its rows included.
        """
        own = self._own()
        found = [] if own is None else [own.explain()]
        found += map(explain, self.awaited)
        found += (row.explain() for row in self._first_rows() if row.is_open)
        return list(filter(_is_wait, found))

    def _own(self) -> JobWait | None:
        """
        What it waits for itself.
        """
        if self.held is None and self.paused is not None:
            hold = self.paused
            return JobWait(f"paused by {hold.by}", Obstacle.PAUSED, hold.since, hold.by)
        return self.held or (self.requests[-1] if self.requests else None)

    def _first_rows(self) -> Sequence[Row]:
        """
        The first rows, from the first one that may change.
        """
        rows = self._rows
        while self._first_open < len(rows) and not rows[self._first_open].is_open:
            self._first_open += 1
        return rows[self._first_open : self._first_open + _LOOKED_AT]

    def to_json(self) -> JobJSON:
        """
        The job as the API shows it, without its layers.
        """
        self._count()
        why, reason, _ = self.explain()
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "reference": self.reference,
            "target": self.target,
            "platform": self.platform,
            "client": self.client,
            "created": rfc3339(self.created),
            "started": None if self.started is None else rfc3339(self.started),
            "finished": None if self.finished is None else rfc3339(self.finished),
            "bytes_done": self._bytes_done,
            "bytes_total": self.size,
            "layers_done": self._layers_done,
            "layers_total": len(self._rows),
            "archive": None
            if self.upload_stream is None
            else {"received": self.upload_stream.offset, "size": self.upload_stream.size},
            "error": self.error,
            "result": self.result,
            "warnings": list(self.warnings),
            # Findings change until the job ends.
            "findings": [finding.copy() for finding in self.findings],
            "restart": self.restart,
            "priority": self.request.priority,
            "paused": self.paused is not None,
            "retry_of": self.request.retry_of,
            "download_rate": self.rates.get("download_rate", 0),
            "upload_rate": self.rates.get("upload_rate", 0),
            "why": why,
            "reason": reason,
            "until": None if reason is None else reason["until"],
            "timing": None,
        }

    def with_layers(self) -> JobDetailsJSON:
        """
        The job as the API shows it, with its layers and transfers.
        """
        self._changed.update(dict.fromkeys(row for row in self._rows if not row.settled))
        layers = [row.to_json(self.id) for row in self._rows]
        return {**self.to_json(), "layers": layers, "transfers": list(self.transfers)}

    def _count(self) -> None:
        """
        Update the sums.  The bytes of a blob count once, with its
        last row.
        """
        changed, self._changed = self._changed, {}
        for row in changed:
            bytes_before, done_before = self._counted.get(row, (0, False))
            last = self._of_blob[row.blob.digest][-1] is row
            counted = self._counted[row] = (row.bytes_done if last else 0, row.state in PRESENT)
            self._bytes_done += counted[0] - bytes_before
            self._layers_done += counted[1] - done_before
