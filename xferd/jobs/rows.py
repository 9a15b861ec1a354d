# -*- test-case-name: tests.jobs.test_manager -*-
"""
The rows of a job: one for each layer of a pull, or each blob of a push, a copy, a
prefetch or a verification.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from attrs import define, field

from xferd.interfaces.job_json import LayerJSON
from xferd.jobs.reasons import BEFORE, NOTHING, Explanation, explain
from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.transfer.eventual import Eventual
from xferd.transfer.reason import NO_REASON, Obstacle
from xferd.transfer.transfer import Transfer

ROWS_IN_A_TURN = 250
"""The rows of a job that are made into JSON in one turn of the reactor."""

PRESENT = frozenset({"done", "exists", "mounted"})
"""The states of a row that is complete."""

CLOSED = PRESENT | {"failed", "cancelled"}
"""The states in which a row stays, as a rule."""


@define(eq=False)
class Row(ABC):
    """
    A row of a job.

    @ivar index: its number from 0; of layers the bottom one is first.
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

    @property
    @abstractmethod
    def bytes_done(self) -> int:
        """
        The number of the blob's bytes that have reached their destination.
        """

    @property
    @abstractmethod
    def state(self) -> str:
        """
        Its state, as the API shows it.
        """

    @property
    @abstractmethod
    def explaining(self) -> Transfer | None:
        """
        The transfer whose L{Transfer.reason} is the reason for its state; L{None} if there is
        none.
        """

    @property
    def is_open(self) -> bool:
        """
        Whether its state may change.
        """
        return self.state not in CLOSED

    @property
    def settled(self) -> bool:
        """
        Whether it will not change any more, and has been made into JSON.
        """
        return False

    def explain(self) -> Explanation:
        """
        The reason for its state.
        """
        part = self.explaining
        return NOTHING if part is None else explain(part)

    def to_json(self, job_id: str) -> LayerJSON:
        """
        The row as the API shows it.
        """
        shown, (why, reason, _) = self.explaining, self.explain()
        return {
            "job": job_id,
            "index": self.index,
            "digest": str(self.blob.digest),
            "diff_id": None,
            "size": self.blob.size,
            "state": self.state,
            "bytes_done": self.bytes_done,
            "unpacked": 0,
            "transfer": None if shown is None else shown.id,
            "why": why,
            "reason": reason,
        }


@define(eq=False)
class LayerRow(Row):
    """
    One layer of an image that is pulled.

    @ivar diff_id: its diff ID, when the config is here.
    @ivar fetch: the download that it waits for, if any.
    @ivar tree: the unpacking that it waits for, if any.
    @ivar registration: its registration, when it was requested.
    @ivar existed: whether it was registered before.
    """

    diff_id: Digest | None = None
    fetch: Transfer | None = None
    tree: Transfer | None = None
    registration: Transfer | None = None
    existed: bool = False

    @property
    def transfers(self) -> list[Transfer]:
        """
        The transfers that the layer waits for.
        """
        return [t for t in (self.fetch, self.tree, self.registration) if t is not None]

    @property
    def bytes_done(self) -> int:
        """
        The number of fetched bytes of the blob.
        """
        return self._done_by(self.fetch)

    @property
    def state(self) -> str:
        """
        Its state, as the API shows it.
        """
        return self._state()[0]

    @property
    def explaining(self) -> Transfer | None:
        """
        The transfer that it waits for at present.
        """
        return self._state()[1]

    def to_json(self, job_id: str) -> LayerJSON:
        """
        The row as the API shows it.

        C{bytes_done} counts the fetched bytes, C{unpacked} those that the
        unpacker has read, both of C{size} bytes.
        """
        state, part = self._state()
        shown = self.fetch or self.tree or self.registration
        why, reason, _ = NOTHING if part is None else explain(part)
        return {
            "job": job_id,
            "index": self.index,
            "digest": str(self.blob.digest),
            "diff_id": None if self.diff_id is None else str(self.diff_id),
            "size": self.blob.size,
            "state": state,
            "bytes_done": self._done_by(self.fetch),
            "unpacked": self._done_by(self.tree),
            "transfer": None if shown is None else shown.id,
            "why": why,
            "reason": reason,
        }

    def _done_by(self, part: Transfer | None) -> int:
        """
        The bytes of the blob that a transfer has processed: all, where the layer
        waits for other transfers only.
        """
        size = self.blob.size
        if part is not None:
            return min(part.bytes_done, size)
        begun = (
            self.existed or self.registration is not None or self.fetch is not None or self.tree is not None
        )
        return size if begun else 0

    def _state(self) -> tuple[str, Transfer | None]:
        """
        The layer's state, and the transfer that explains it, if one does.
        """
        if self.existed:
            return "exists", None
        fetch, tree, registration = self.fetch, self.tree, self.registration
        parts = self.transfers
        states = [part.state for part in parts]
        if "failed" in states:
            return "failed", parts[states.index("failed")]
        if "cancelled" in states:
            return "cancelled", None
        if registration is not None and registration.state == "done":
            return ("exists" if fetch is None else "done"), None
        if fetch is not None and fetch.state != "done":
            return ("downloading" if fetch.state == "running" else "waiting"), fetch
        if tree is not None and tree.state != "done":
            return ("unpacking" if tree.shown_state == "running" else "waiting"), tree
        return ("registering" if parts else "waiting"), registration


@define(eq=False)
class BlobRow(Row):
    """
    One blob that is pushed into a repository.

    @ivar upload: its upload, when it was requested.
    @ivar abandoned: whether the job ends before it requests the upload.
    @ivar fetches: the downloads whose bytes the upload sends, if it needs any;
        the last one is the present one.
    """

    upload: Transfer | None = None
    abandoned: bool = False
    fetches: list[Transfer] = field(factory=list)
    _last: LayerJSON | None = field(default=None, init=False)

    @property
    def settled(self) -> bool:
        """
        Whether it will not change any more, and has been made into JSON.
        """
        return self._last is not None

    @property
    def transfers(self) -> list[Transfer]:
        """
        The upload, and the downloads behind it.
        """
        return self.fetches if self.upload is None else [self.upload, *self.fetches]

    @property
    def bytes_done(self) -> int:
        """
        The number of the blob's bytes in the repository.
        """
        return 0 if self.upload is None else min(self.upload.bytes_done, self.blob.size)

    @property
    def state(self) -> str:
        """
        Its state, as the API shows it: C{exists} or C{mounted} where no byte
        had to be sent, and C{waiting} until the first one is.
        """
        upload = self.upload
        if upload is None:
            return "cancelled" if self.abandoned else "waiting"
        if upload.state == "done":
            how: str = upload.value.how
            return "done" if how == "uploaded" else how
        if upload.state in ("failed", "cancelled"):
            return upload.state
        return "uploading" if upload.bytes_done else "waiting"

    @property
    def explaining(self) -> Transfer | None:
        """
        The upload; or the download behind it, if that has a reason and the upload has
        none, or only that no bytes come to be sent.
        """
        upload, fetch = self.upload, self.fetches[-1] if self.fetches else None
        if fetch is not None and fetch.reason() != NO_REASON:
            own = NO_REASON if upload is None else upload.reason()
            if own.obstacle in (Obstacle.NONE, Obstacle.SILENCE):
                return fetch
        return upload

    def explain(self) -> Explanation:
        """
        The reason for its state, also where it has no transfer yet.
        """
        return BEFORE if self.upload is None and not self.abandoned else super().explain()

    def to_json(self, job_id: str) -> LayerJSON:
        """
        The row as the API shows it.  Its C{transfer} is the one that it waits
        for.  That of a blob that was pushed is made once: jobs have thousands.
        """
        if self._last is not None:
            return self._last
        row = super().to_json(job_id)
        if self.upload is not None and all(part.state == "done" for part in self.transfers):
            self._last = row
        return row


@define(eq=False)
class _DownloadRow(Row):
    """
    A row that waits for one download.

    @ivar fetch: the download, when it was requested.
    """

    fetch: Transfer | None = None

    @property
    def transfers(self) -> list[Transfer]:
        """
        The download.
        """
        return [] if self.fetch is None else [self.fetch]

    @property
    def explaining(self) -> Transfer | None:
        """
        The download.
        """
        return self.fetch


@define(eq=False)
class FetchedRow(_DownloadRow):
    """
    One blob that is fetched into the store and not unpacked.

    @ivar existed: whether the store had it before.
    """

    existed: bool = False

    @property
    def bytes_done(self) -> int:
        """
        The number of the blob's bytes in the store.
        """
        if self.fetch is None:
            return self.blob.size if self.existed else 0
        return min(self.fetch.bytes_done, self.blob.size)

    @property
    def state(self) -> str:
        """
        Its state, as the API shows it.
        """
        if self.fetch is None:
            return "exists" if self.existed else "waiting"
        if self.fetch.state in ("done", "failed", "cancelled"):
            return self.fetch.state
        return "downloading" if self.fetch.state == "running" else "waiting"


@define(eq=False)
class CheckedRow(_DownloadRow):
    """
    One blob or tree that is checked; the download replaces one that is damaged.

    @ivar state: C{waiting}, C{checking}, then C{done} or C{failed}.
    """

    state: str = "waiting"

    @property
    def bytes_done(self) -> int:
        """
        The number of bytes that have been checked.
        """
        return self.blob.size if self.state in ("done", "failed") else 0


async def make_rows(rows: Sequence[Row], job_id: str, eventual: Eventual) -> list[LayerJSON]:
    """
    Make rows into JSON, in several turns of the reactor where there are many.
    """
    made: list[LayerJSON] = []
    for first in range(0, len(rows), ROWS_IN_A_TURN):
        if first:
            await eventual.caught_up()
        made += [row.to_json(job_id) for row in rows[first : first + ROWS_IN_A_TURN]]
    return made
