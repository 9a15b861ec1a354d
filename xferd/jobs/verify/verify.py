# -*- test-case-name: tests.jobs.verify.test_verify -*-
"""
A verification: one image, or all content of the store, is checked.

A damaged blob is moved into C{quarantine/} first, so that nothing serves it, and then
fetched again like any other content: one download for all who wait for it.  The copy in
C{quarantine/} is removed when the new one is in the store, and else stays.

A damaged tree may be mounted.  So the job does not change it: its blob is unpacked again, into a
tree beside it, and the layers get that one.  The old one stays until nothing has it
mounted, and the garbage collector removes it.  If there is no other one, its layers are
removed, and it is moved into C{quarantine/}, which mounts do not notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import CancelledError, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from xferd.errors import StoreDamaged, StoreError, XferdError
from xferd.interfaces.integrity import Damage, IPace
from xferd.interfaces.job_json import FindingJSON
from xferd.interfaces.registry import IRegistries, IRepository
from xferd.interfaces.store import Image, IStore, Layer
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.layers import Stack
from xferd.jobs.images.documents import DocumentFetcher
from xferd.jobs.job import Job
from xferd.jobs.reporter import Reporter
from xferd.jobs.rows import CheckedRow
from xferd.jobs.verify.inventory import Inventory, Part, TreePart, take_stock
from xferd.jobs.verify.pacing import paced
from xferd.oci import Descriptor

BUSY_RATE = 8 * 1024 * 1024
"""Bytes per second that are read while transfers run."""

PAUSED_RATE = 1.0
"""The same while the job is paused: the read that is under way waits for its end."""

_TREE = "application/vnd.oci.image.layer.v1.tar"

MAX_FINDINGS = 1000
"""Findings that one job keeps.  The others are counted and logged."""


class Verify:
    """
    One verification.
    """

    _log = Logger()

    def __init__(
        self,
        job: Job,
        image: Image | None,
        *,
        store: IStore,
        registries: IRegistries,
        documents: Callable[[IRepository], DocumentFetcher],
        layers: DownloadManager,
        reporter: Reporter,
        clock: IReactorTime,
        busy: Callable[[], bool],
        checked: Counter[str],
    ) -> None:
        """
        @param image: the image to check; all content of the store by default.
        @param registries: where damaged content is fetched again, with the client's
            credentials.
        @param busy: returns whether transfers move bytes.
        @param checked: gets the numbers of what was checked, damaged and healed, too.
        """
        self._job = job
        self._image = image
        self._store = store
        self._registries = registries
        self._documents = documents
        self._layers = layers
        self._reporter = reporter
        self._clock = clock
        self._busy = busy
        self._checked = checked
        self._replaced = False
        self._counts = {"blobs": 0, "trees": 0, "bytes": 0, "damaged": 0, "healed": 0}

    async def run(self) -> dict[str, str]:
        """
        Check, and replace what is damaged.

        @return: the numbers of what was checked, what was damaged and what was healed.
        @raise StoreDamaged: something is damaged and could not be replaced.
        """
        if self._image is None:
            inventory = await take_stock(self._store, self._clock)
        else:
            inventory = Inventory(self._store)
            inventory.add_image(self._image)
        trees = inventory.trees()
        parts = [part for part in inventory.parts() if part.needed or part.is_here]
        rows = [CheckedRow(n, part.blob) for n, part in enumerate(parts)]
        rows += [
            CheckedRow(n, Descriptor(_TREE, tree.diff_id, tree.size))
            for n, tree in enumerate(trees, len(rows))
        ]
        self._job.add_rows(rows)
        self._reporter.rows_changed(rows)
        pace = self._store.integrity.pace()
        try:
            with paced(pace, self._clock, self._rate):
                # A damaged tree is unpacked from its blob, which has been checked by then.
                for part, row in zip(parts, rows, strict=False):
                    await self._check_blob(part, row, pace)
                for tree, row in zip(trees, rows[len(parts) :], strict=True):
                    await self._check_tree(tree, row, pace)
        finally:
            # Also where the job is cancelled, which then does not wait.
            shown = self._store.images.layers_changed() if self._replaced else succeed(None)
        await shown
        self._job.result = {name: str(number) for name, number in self._counts.items()}
        left = self._counts["damaged"] - self._counts["healed"]
        if left:
            raise StoreDamaged(
                f"{left} of {self._counts['damaged']} damaged things could not be replaced; "
                "the findings of the job name each one, and why"
            )
        return self._job.result

    def _rate(self) -> float:
        """
        The bytes per second to read now; 0 for no limit.
        """
        if self._job.paused is not None:
            return PAUSED_RATE
        return BUSY_RATE if self._busy() else 0.0

    def _count(self, what: str, number: int) -> None:
        self._counts[what] += number
        self._checked[what] += number

    async def _check_blob(self, part: Part, row: CheckedRow, pace: IPace) -> None:
        await self._job.resumed()
        row.state = "checking"
        self._reporter.rows_changed([row])
        digest, size = part.blob.digest, part.blob.size or None
        damage = await self._store.integrity.check_blob(digest, size, pace)
        self._count("blobs", 1)
        self._count("bytes", part.blob.size)
        if damage is None:
            row.state = "done"
        else:
            finding = self._found("blob", str(digest), damage, part.names)
            try:
                await self._heal_blob(part, row, finding)
            finally:
                row.state = "done" if finding["state"] == "healed" else "failed"
        self._reporter.rows_changed([row])

    async def _heal_blob(self, part: Part, row: CheckedRow, finding: FindingJSON) -> None:
        moved = await self._store.integrity.quarantine_blob(part.blob.digest)
        why = await self._fetch(part, row)
        if why:
            self._kept(finding, moved, why)
        else:
            self._healed(finding, moved)

    async def _fetch(self, part: Part, row: CheckedRow) -> str:
        """
        Fetch a blob again.

        @return: why that failed; empty if it did not.
        """
        reasons = []
        for source in part.sources:
            repository = self._registries.repository(source)
            try:
                if part.document:
                    await self._documents(repository).document(str(part.blob.digest), self._job.turn())
                else:
                    await self._fetch_from(repository, part, row)
            except CancelledError:
                raise
            except XferdError as e:
                reasons.append(str(e))
            else:
                return ""
        return "; ".join(reasons) or "no registry is known that has it"

    async def _fetch_from(self, repository: IRepository, part: Part, row: CheckedRow) -> None:
        watcher = self._layers.fetch(
            part.blob, repository, self._job.turn(row.index), self._reporter.sink(row)
        )
        row.fetch = watcher.transfer
        self._reporter.rows_changed([row])
        try:
            await watcher.result()
        finally:
            watcher.release()

    # ---------------------------------------------------------------- trees

    async def _check_tree(self, tree: TreePart, row: CheckedRow, pace: IPace) -> None:
        await self._job.resumed()
        row.state = "checking"
        self._reporter.rows_changed([row])
        integrity = self._store.integrity
        damages = await integrity.check_tree(tree.diff_id, pace)
        if damages is None and await self._record(tree):
            damages = await integrity.check_tree(tree.diff_id, pace)
        self._count("trees", 1)
        self._count("bytes", tree.size)
        if damages:
            findings = [self._found("tree", str(tree.diff_id), each, tree.names) for each in damages]
            self._replaced = True
            await integrity.condemn_tree(tree.diff_id)
            why = await self._renew(tree, row)
            if why:
                moved = await integrity.quarantine_tree(tree.diff_id)
                for finding in findings:
                    self._kept(finding, moved[0] if moved else None, why)
            else:
                for finding in findings:
                    self._healed(finding)
            row.state = "failed" if why else "done"
        else:
            row.state = "done"
        self._reporter.rows_changed([row])

    async def _record(self, tree: TreePart) -> bool:
        """
        Make the record of a tree that an older xferd has unpacked, from its blob.

        @return: whether it has one now.
        """
        why = "the store has no blob of it"
        for blob in tree.blobs.values():
            if self._store.blobs.has(blob.digest):
                watcher = self._layers.record(blob, tree.diff_id, self._job.turn())
                try:
                    await watcher.result()
                except CancelledError:
                    raise
                except XferdError as e:
                    why = str(e)
                else:
                    return True
                finally:
                    watcher.release()
        if self._job.warn(
            f"tree {tree.diff_id} was unpacked by an older xferd, and cannot be checked: {why}; "
            f"{', '.join(tree.names)}: remove and pull again"
        ):
            self._reporter.job_changed()
        return False

    async def _renew(self, tree: TreePart, row: CheckedRow) -> str:
        """
        Unpack a damaged tree again, and register its layers with the new one.

        @return: why that failed; empty if it did not.
        """
        try:
            why = await self._unpack(tree, row)
            if why:
                return why
            for chain_id in list(self._store.layers.chain_ids()):
                layers = self._store.layers.stack(chain_id)
                if any(layer.outdated and layer.diff_id == tree.diff_id for layer in layers):
                    await self._register(layers)
        except CancelledError:
            raise
        except XferdError as e:
            return str(e)
        return ""

    async def _unpack(self, tree: TreePart, row: CheckedRow) -> str:
        """
        Unpack a tree again from one of its blobs, which is fetched if the store lacks all
        of them.

        @return: why that failed; empty if it did not.
        """
        blobs = sorted(tree.blobs.values(), key=lambda blob: not self._store.blobs.has(blob.digest))
        reasons = []
        for blob in blobs:
            if not self._store.blobs.has(blob.digest):
                why = await self._fetch(Part(blob, sources=tree.sources), row)
                if why:
                    reasons.append(why)
                    continue
            watcher = self._layers.unpack(
                blob, self._job.turn(row.index), self._reporter.sink(row), tree.diff_id.algorithm
            )
            try:
                found = await watcher.result()
            except CancelledError:
                raise
            except XferdError as e:
                reasons.append(str(e))
            else:
                if found == tree.diff_id:
                    return ""
                reasons.append(f"blob {blob.digest} unpacks to {found}")
            finally:
                watcher.release()
        return "; ".join(dict.fromkeys(reasons)) or "no blob is known that unpacks to it"

    async def _register(self, layers: Sequence[Layer]) -> None:
        blobs = [self._store.layers.blobs_of(layer.chain_id)[0] for layer in layers]
        for stack in Stack.of(blobs, [layer.diff_id for layer in layers]):
            watcher = self._layers.register(stack, self._job.turn())
            try:
                await watcher.result()
            finally:
                watcher.release()

    # ------------------------------------------------------------- findings

    def _found(self, kind: str, digest: str, damage: Damage, names: Iterable[str]) -> FindingJSON:
        """
        Record damage.
        """
        self._count("damaged", 1)
        finding: FindingJSON = {
            "kind": kind,
            "digest": digest,
            "path": damage.path,
            "problem": damage.problem,
            "state": "damaged",
            "needed_by": list(names),
            "kept": None,
            "why": "",
        }
        if len(self._job.findings) < MAX_FINDINGS:
            self._job.findings.append(finding)
        self._log.error(
            "{kind} {digest}: {path} {problem}",
            kind=kind,
            digest=digest,
            path=damage.path,
            problem=damage.problem,
        )
        self._reporter.job_changed()
        return finding

    def _healed(self, finding: FindingJSON, moved: str | None = None) -> None:
        if moved is not None:
            try:
                self._store.discard(moved)
            except StoreError as e:
                self._log.warn("{path} is not removed: {why}", path=moved, why=e)
        self._count("healed", 1)
        finding["state"] = "healed"
        self._log.info("{kind} {digest} was replaced", kind=finding["kind"], digest=finding["digest"])
        self._reporter.job_changed()

    def _kept(self, finding: FindingJSON, moved: str | None, why: str) -> None:
        finding["state"] = "missing" if moved is None else "quarantined"
        finding["kept"], finding["why"] = moved, why
        self._log.error(
            "{kind} {digest} could not be replaced: {why}",
            kind=finding["kind"],
            digest=finding["digest"],
            why=why,
        )
        self._reporter.job_changed()
