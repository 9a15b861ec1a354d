# -*- test-case-name: tests.jobs.test_manager -*-
"""
The lines of a job: one for each layer that is pulled, or each blob that is
pushed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from xferd.jobs.reasons import snapshot
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.transfer.transfer import Transfer


@define(eq=False)
class Row(ABC):
    """
    A line of a job.

    @ivar index: its place, counted from 0; of layers the bottom one is first.
    @ivar blob: its blob.
    """

    index: int
    blob: Descriptor

    @property
    @abstractmethod
    def transfers(self) -> list[Transfer]:
        """
        The transfers that it waits for.
        """

    @abstractmethod
    def to_json(self, job_id: str) -> dict[str, Any]:
        """
        The row as the API shows it.
        """


@define(eq=False)
class LayerRow(Row):
    """
    One layer of an image that is pulled.

    @ivar diff_id: what it unpacks to, once the config is here.
    @ivar fetch: the download it waits for, if any.
    @ivar tree: the unpacking it waits for, if any.
    @ivar registration: its registration, once asked for.
    """

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
            None if t is None else snapshot(t) for t in (self.fetch, self.tree, self.registration)
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
class BlobRow(Row):
    """
    One blob that is brought into a repository.

    @ivar upload: its upload, once asked for.
    @ivar fetches: the downloads that the upload sends on, if it needs any; the
        last one is the one at work.
    """

    upload: Transfer | None = None
    fetches: list[Transfer] = field(factory=list)

    @property
    def transfers(self) -> list[Transfer]:
        """
        The upload, and the downloads behind it.
        """
        return self.fetches if self.upload is None else [self.upload, *self.fetches]

    def to_json(self, job_id: str) -> dict[str, Any]:
        """
        The row as the API shows it.

        Its C{state} is C{exists} or C{mounted} where no byte had to be sent,
        and C{waiting} until the first one is.
        """
        upload = None if self.upload is None else snapshot(self.upload)
        parts = [t for t in (upload, *(snapshot(fetch) for fetch in self.fetches[-1:])) if t is not None]
        waits = next((part for part in parts if part["why"]), upload)
        done = 0 if upload is None else min(upload["bytes_done"], self.blob.size)
        return {
            "job": job_id,
            "index": self.index,
            "digest": str(self.blob.digest),
            "diff_id": None,
            "size": self.blob.size,
            "state": self._state(upload),
            "bytes_done": done,
            "unpacked": 0,
            "transfer": None if waits is None else waits["id"],
            "why": "" if waits is None else waits["why"],
        }

    def _state(self, upload: Mapping[str, Any] | None) -> str:
        """
        The word for what happens to the blob.
        """
        if self.upload is None or upload is None:
            return "waiting"
        if upload["state"] == "done":
            how: str = self.upload.value.how
            return "done" if how == "uploaded" else how
        if upload["state"] in ("failed", "cancelled"):
            return str(upload["state"])
        return "uploading" if upload["bytes_done"] else "waiting"
