# -*- test-case-name: tests.jobs.test_push,tests.jobs.images.test_publish -*-
"""
A graph is published: its blobs and documents are pushed into a repository, for
pushes and copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import Final

from twisted.internet.defer import Deferred

from xferd.interfaces.registry import IRepository, Pushed
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.jobs.blobs.upload import UploadManager
from xferd.jobs.blobs.upload_source import UploadContent, UploadSource
from xferd.jobs.deferreds import gather
from xferd.jobs.images.graph import Graph
from xferd.jobs.isolation import SharingScope
from xferd.jobs.job import Job
from xferd.jobs.reporter import Reporter
from xferd.jobs.rows import BlobRow
from xferd.names import Reference, Repository
from xferd.oci import Descriptor, Document
from xferd.transfer.eventual import Eventual
from xferd.transfer.manager import TransferManager
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

AHEAD: Final = 100
"""
The number of uploads of one job, for large blobs and for small ones, that wait
for a slot.  Of thousands of blobs, the others are not requested yet: each
request keeps dozens of objects, which every garbage collection visits.
"""


class Publisher:
    """
    Publishes graphs for one job: first all blobs, then the manifests, each
    after those that it names (OCI distribution-spec, "Pushing Manifests").
    """

    def __init__(
        self,
        job: Job,
        target: IRepository,
        *,
        uploads: UploadManager,
        manifests: TransferManager,
        reporter: Reporter,
        eventual: Eventual,
    ) -> None:
        self._job = job
        self._target = target
        self._uploads = uploads
        self._manifests = manifests
        self._reporter = reporter
        self._eventual = eventual

    async def publish(
        self,
        graphs: Iterable[Graph],
        target: Reference,
        content: Callable[[Descriptor, IProgressSink], UploadContent],
        tags: Iterable[str] = (),
        *,
        source: ISource,
        origin: Repository | None = None,
    ) -> None:
        """
        Push graphs into the repository; the root of the last one gets the
        target's tag.

        @param target: a reference in the repository.
        @param content: opens a blob; the progress of its download, if it needs
            one, goes to the sink.
        @param tags: more tags for the same document.
        @param source: the source of the blobs.
        @param origin: a repository that has all blobs: within one registry
            they can be mounted from there.
        @raise XferdError: the first error.  Pushed blobs stay.
        """
        graphs = list(graphs)
        blobs = {blob.digest: blob for graph in graphs for blob in graph.blobs}
        rows = [BlobRow(n, blob) for n, blob in enumerate(blobs.values(), len(self._job.rows))]
        self._job.add_rows(rows)
        watchers: list[Watcher[Pushed]] = []

        def upload(row: BlobRow) -> Deferred[Pushed]:
            fetched = partial(content, row.blob, self._reporter.fetch_sink(row))
            watcher = self._uploads.upload(
                UploadSource(self._target, fetched, source, self._job.number),
                row.blob,
                self._job.turn(row.index),
                self._reporter.sink(row),
                origin=origin,
            )
            row.upload = watcher.transfer
            watchers.append(watcher)
            self._reporter.rows_changed([row])
            return watcher.result()

        async def in_turn(waiting: Iterable[BlobRow]) -> None:
            for row in waiting:
                await upload(row)
                # Where another job has uploaded the blobs, other work runs in between.
                await self._eventual.caught_up()

        uploads: list[Deferred[None]] = []
        try:
            # Small blobs do not wait behind larger ones.
            small = [row for row in rows if self._uploads.is_small(row.blob)]
            large = [row for row in rows if not self._uploads.is_small(row.blob)]
            most = AHEAD + self._uploads.limit
            behind = {True: iter(small[most:]), False: iter(large[most:])}
            for row in sorted([*small[:most], *large[:most]], key=lambda row: row.index):
                waiting = chain([row], behind[self._uploads.is_small(row.blob)])
                uploads.append(Deferred.fromCoroutine(in_turn(waiting)))
            self._reporter.record()
            await gather(uploads)
            documents = {d.digest: d for graph in graphs for d in graph.documents}
            root = graphs[-1].root
            for document in documents.values():
                if document.digest != root.digest:
                    await self._put(str(document.digest), document)
            names = [t for t in (target.tag, *tags) if t is not None] or [str(root.digest)]
            if root.digest.algorithm != "sha256":
                # A registry that gets it by a tag alone computes its sha256.
                names = [str(root.digest), *names]
            for name in dict.fromkeys(names):
                await self._put(name, root)
        finally:
            for work in uploads:
                # It requests no more blobs.
                work.cancel()
            for watcher in watchers:
                if watcher.transfer.over:
                    # Of thousands of blobs, in several turns of the reactor.
                    self._eventual.call(watcher.release)
                else:
                    watcher.release()
            abandoned = [row for row in rows if row.upload is None]
            for row in abandoned:
                row.abandoned = True
            if abandoned:
                self._reporter.rows_changed(abandoned)

    async def _put(self, wanted: str, document: Document) -> None:
        """
        Put one document, with retries.
        """

        async def work(transfer: Transfer) -> None:
            async def attempt(_: ISource) -> None:
                await self._target.put_manifest(wanted, document)

            await transfer.attempts(attempt)

        watcher = self._manifests.request(
            ("put", SharingScope.of(self._target), wanted, document.digest),
            work,
            digest=document.digest,
            source=self._target,
            turn=self._job.turn(),
        )
        try:
            await watcher.result()
        finally:
            watcher.release()
