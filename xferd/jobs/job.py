# -*- test-case-name: tests.jobs.test_job -*-
"""
One client's request as clients see it: its state, its layers, its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from attrs import define, field

from xferd.errors import XferdError
from xferd.jobs.download import Stack
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.transfer.slots import Turn
from xferd.transfer.transfer import Transfer

ENDED = frozenset({"done", "failed", "cancelled"})
"""The states in which a job stays."""


def rfc3339(seconds: float) -> str:
    """
    A point in time as the API writes it, UTC with milliseconds.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def describe(error: BaseException) -> dict[str, str]:
    """
    An error as the API, xferctl and the page show it.

    What is not ours is a bug: its text is for the log, not for clients.
    """
    if isinstance(error, XferdError):
        return {"code": error.code, "message": str(error)}
    return {"code": XferdError.code, "message": "xferd itself failed here; its log says more"}


@define(eq=False)
class Row:
    """
    One layer of a job.

    @ivar index: its place, from the bottom, counted from 0.
    @ivar blob: its blob.
    @ivar diff_id: what it unpacks to, once the config is here.
    @ivar fetch: the download it waits for, if any.
    @ivar tree: the unpacking it waits for, if any.
    @ivar registration: its registration, once asked for.
    """

    index: int
    blob: Descriptor
    diff_id: Digest | None = None
    fetch: Transfer | None = None
    tree: Transfer | None = None
    registration: Transfer | None = None

    @property
    def transfers(self) -> list[Transfer]:
        """
        The transfers that the layer waits for.
        """
        return [t for t in (self.fetch, self.tree, self.registration) if t is not None]

    def to_json(self, job_id: str) -> dict[str, Any]:
        """
        The row as the API shows it.

        C{bytes_done} counts what is fetched, C{unpacked} what of it the
        unpacker has read, both of C{size} bytes.
        """
        fetch, tree, registration = (
            None if t is None else t.snapshot() for t in (self.fetch, self.tree, self.registration)
        )
        state, why = self._state(fetch, tree, registration)
        shown = fetch or tree or registration
        size = self.blob.size
        there = 0 if shown is None else size
        return {
            "job": job_id,
            "index": self.index,
            "digest": str(self.blob.digest),
            "diff_id": None if self.diff_id is None else str(self.diff_id),
            "size": size,
            "state": state,
            "bytes_done": there if fetch is None else min(fetch["bytes_done"], size),
            "unpacked": there if tree is None else min(tree["bytes_done"], size),
            "transfer": None if shown is None else shown["id"],
            "why": why,
        }

    def _state(
        self,
        fetch: Mapping[str, Any] | None,
        tree: Mapping[str, Any] | None,
        registration: Mapping[str, Any] | None,
    ) -> tuple[str, str]:
        """
        The word for what happens to the layer, and what it waits for.
        """
        for part in (fetch, tree, registration):
            if part is not None and part["state"] == "failed":
                return "failed", part["why"]
        if any(part is not None and part["state"] == "cancelled" for part in (fetch, tree, registration)):
            return "cancelled", ""
        if registration is not None and registration["state"] == "done":
            return ("done", "") if fetch is not None else ("exists", "")
        if fetch is not None and fetch["state"] != "done":
            return ("waiting" if fetch["state"] == "queued" else "downloading"), fetch["why"]
        if tree is not None and tree["state"] != "done":
            return "unpacking", tree["why"]
        if fetch is None and tree is None and registration is None:
            return "waiting", ""
        return "registering", "" if registration is None else registration["why"]


@define(eq=False)
class Job:
    """
    A client's request.

    States: C{queued}, C{running}, then C{done}, C{failed} or C{cancelled}.

    @ivar id: its name in the API.
    @ivar number: its age: a smaller one is older and goes first.
    @ivar kind: C{pull}.
    @ivar reference: what is asked for, in full.
    @ivar platform: what was asked for, or L{None} for this machine's.
    @ivar client: who asks.
    @ivar priority: higher goes first.
    @ivar rows: the layers, bottom first, once the manifest is here.
    """

    id: str
    number: int
    kind: str
    reference: str
    platform: str | None
    client: str
    priority: int
    created: float
    state: str = "queued"
    started: float | None = None
    finished: float | None = None
    error: dict[str, str] | None = None
    result: dict[str, str] | None = None
    rows: list[Row] = field(factory=list)

    def turn(self, layer: int = 0) -> Turn:
        """
        The job's place in a queue, for one of its layers.
        """
        return Turn(self.client, self.priority, self.number, layer)

    def has_layers(self, blobs: Iterable[Descriptor]) -> None:
        """
        The manifest is here.
        """
        self.rows = [Row(index, blob) for index, blob in enumerate(blobs)]

    def stacks(self, diff_ids: Iterable[Digest]) -> list[Stack]:
        """
        The config is here: the layers with all that is below each.
        """
        stacks = Stack.of([row.blob for row in self.rows], diff_ids)
        for row, stack in zip(self.rows, stacks, strict=True):
            row.diff_id = stack.diff_id
        return stacks

    @property
    def size(self) -> int:
        """
        The bytes of all layers, each blob once.
        """
        return sum({row.blob.digest: row.blob.size for row in self.rows}.values())

    def to_json(self) -> dict[str, Any]:
        """
        The job as the API shows it, without its layers.
        """
        rows = [row.to_json(self.id) for row in self.rows]
        return self._to_json(rows)

    def with_layers(self) -> dict[str, Any]:
        """
        The job as the API shows it, with its layers.
        """
        rows = [row.to_json(self.id) for row in self.rows]
        return {**self._to_json(rows), "layers": rows}

    def _to_json(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """
        The job, counted up from its rows.
        """
        blobs = {row["digest"]: row for row in rows}.values()
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "reference": self.reference,
            "platform": self.platform,
            "client": self.client,
            "created": rfc3339(self.created),
            "started": None if self.started is None else rfc3339(self.started),
            "finished": None if self.finished is None else rfc3339(self.finished),
            "bytes_done": sum(row["bytes_done"] for row in blobs),
            "bytes_total": sum(row["size"] for row in blobs),
            "layers_done": sum(row["state"] in ("done", "exists") for row in rows),
            "layers_total": len(rows),
            "error": self.error,
            "result": self.result,
        }
