# -*- test-case-name: tests.jobs.archives.test_importing,tests.jobs.archives.test_shared_imports -*-
"""
Images are imported from an archive: its blobs are read into the store, and its
images are pulled from there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Hashable
from functools import partial

from attrs import evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.archive.contents import FoundImage, choose_images
from xferd.docker_manifest import to_oci_manifest
from xferd.errors import BadArchive, BlobUnknown, ContentMissing
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.interfaces.store import Image, IStore
from xferd.interfaces.transfer import IProgressSink
from xferd.jobs.archives.ingest import Ingestion
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.deferreds import then_cancelled, uninterrupted
from xferd.jobs.disk_space.full_disk import retry_while_full
from xferd.jobs.images.naming import Naming
from xferd.jobs.images.platform_change import platform_change_warning
from xferd.jobs.images.resolve import Resolved, Search
from xferd.jobs.job import Job
from xferd.jobs.pull import Pull
from xferd.jobs.reporter import Reporter
from xferd.media_types import DOCKER_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Descriptor, Document, Index, Manifest, parse_document
from xferd.platforms import Platform
from xferd.selection import choose
from xferd.transfer.fair_queue import Turn


class Import:
    """
    One import, from the first byte to the names in the store.
    """

    def __init__(
        self,
        job: Job,
        wanted: Reference | None,
        *,
        store: IStore,
        layers: DownloadManager,
        clock: IReactorTime,
        wall_clock: WallClock,
        reporter: Reporter,
        naming: Naming,
        publish: Callable[[Image], Awaitable[None]],
    ) -> None:
        """
        @param wanted: the name for the only image, or the image to take.
        @param publish: has the registry serve an image, if its name is one of xferd's own;
            raises L{ContentMissing} if it cannot.
        """
        self._publish = publish
        self._job = job
        self._wanted = wanted
        self._store = store
        self._layers = layers
        self._clock = clock
        self._wall_clock = wall_clock
        self._reporter = reporter
        self._naming = naming

    async def run(self) -> dict[str, str]:
        """
        Import the archive.  Either all chosen images get their names, or none.

        @return: the job's result.
        @raise BadArchive: it is no archive, is damaged, or lacks a part.
        @raise BadInput: the name of an image is not known.
        @raise BadImage: an image cannot be unpacked.
        """
        label = f"archive of {self._job.client}"
        stream = self._job.upload_stream
        ingestion: Ingestion | None = None
        pulls: list[Pull] = []
        try:
            contents = self._job.request.contents
            if contents is None:
                assert stream is not None
                ingestion = Ingestion(
                    stream,
                    store=self._store,
                    layers=self._layers,
                    clock=self._clock,
                    turn=self._job.turn(),
                    label=label,
                    client=self._job.client,
                    changed=self._reporter.job_changed,
                    resumed=self._job.resumed,
                )
                contents = await ingestion.run()
                await then_cancelled(self._reporter.archived(contents))
            came = frozenset(kept.digest for kept in contents.files.values())
            chosen = choose_images(contents.images(), self._wanted)
            self._job.reference = ", ".join(str(name) for _, names in chosen for name in names)
            self._reporter.job_changed()
            images: list[Image] = []
            for found, names in chosen:
                if found.made is not None:
                    await retry_while_full(
                        self._store.free_space,
                        partial(self._store.blobs.put, found.made.digest, found.made.data),
                    )
                pull = Pull(
                    self._job,
                    names[0],
                    store=self._store,
                    source=_ConsumedArchive(label, came),
                    documents=_ArchiveDocuments(self._store, found, came if self._layers.isolated else None),
                    layers=self._layers,
                    naming=self._naming,
                    reporter=self._reporter,
                )
                pulls.append(pull)
                image = await pull.bring(self._wall_clock)
                images += [evolve(image, reference=name) for name in names]
            # From here on only the disk can make the job fail.
            await uninterrupted(Deferred.fromCoroutine(self._name(images)))
        finally:
            for pull in pulls:
                pull.release()
            if ingestion is not None:
                ingestion.release()
        first = images[0]
        return {"digest": str(first.manifest.digest), "image_id": str(first.config.digest)}

    async def _name(self, images: list[Image]) -> None:
        """
        Give each image its name.
        """
        resolution = self._naming.resolved()
        try:
            for image in images:
                warning = await platform_change_warning(self._store, image)
                await self._naming.give(image, resolution)
                if warning is not None:
                    self._job.warn(warning)
                try:
                    await self._publish(image)
                except ContentMissing as e:
                    self._job.warn(f"the registry does not serve {image.reference}: {e}")
        finally:
            self._naming.close(resolution)


class _ArchiveDocuments:
    """
    The documents of one image of an archive, which are in the store by now.
    """

    def __init__(self, store: IStore, found: FoundImage, came: Container[Digest] | None) -> None:
        """
        @param came: the digests in the archive, if no other document may be read.
        """
        self._blobs = store.blobs
        self._came = came
        self._found = found

    async def resolve(
        self,
        reference: Reference,
        platform: Platform,
        turn: Turn,  # noqa: ARG002 - it waits for no slot
        sink: IProgressSink | None = None,  # noqa: ARG002
    ) -> Resolved:
        """
        Find the image's manifest for a platform.

        @raise NoSuchPlatform: there is none.
        @raise BadArchive: it is not in the archive.
        """
        entries = self._found.entries
        entry = entries[0] if len(entries) == 1 else choose(Index(entries), platform)
        root = await self._document(entry)
        search = Search(str(reference), platform, self._document, lambda entry: self._read(entry, "config"))
        resolved = await search.run(await self._original(root) or root)
        if resolved.chosen or entry.platform is None:
            return resolved
        return evolve(resolved, descriptor=evolve(resolved.descriptor, platform=entry.platform))

    async def config(
        self,
        descriptor: Descriptor,
        turn: Turn,  # noqa: ARG002
        sink: IProgressSink | None = None,  # noqa: ARG002
    ) -> bytes:
        """
        Read the image's config.

        @raise BadArchive: it is not in the archive.
        """
        return await self._read(descriptor, "config")

    async def _document(self, entry: Descriptor) -> Document:
        return Document.verified(entry.media_type, await self._read(entry, "manifest"), entry.digest)

    async def _read(self, entry: Descriptor, what: str) -> bytes:
        made = self._found.made is not None and self._found.made.digest == entry.digest
        own = self._came is None or made or entry.digest in self._came
        if not own or not self._blobs.has(entry.digest):
            raise BadArchive(f"the archive lacks the {what} {entry.digest}, which it names")
        data = await self._blobs.read(entry.digest)
        if len(data) != entry.size:
            raise BadArchive(
                f"the {what} {entry.digest} has {len(data)} bytes, and the archive names {entry.size}"
            )
        return data

    async def _original(self, rendition: Document) -> Document | None:
        """
        The Docker manifest that the archive has besides its OCI form: registries
        have it under its own digest.
        """
        digest = self._found.original
        if digest is None or not self._blobs.has(digest):
            return None
        document = Document(DOCKER_MANIFEST, await self._blobs.read(digest), digest)
        if not isinstance(parse_document(document), Manifest):
            return None
        return document if to_oci_manifest(document.data) == rendition.data else None


@implementer(IBlobSource)
class _ConsumedArchive:
    """
    An archive that was read to its end, and has no more bytes.
    """

    host = origin = ""
    account: Hashable = None

    def __init__(self, label: str, came: Container[Digest]) -> None:
        """
        @param came: the digests in the archive.
        """
        self.label = label
        self._came = came
        self.identity = object()

    def open(self, digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:  # noqa: ARG002
        """
        Say so.
        """
        return fail(BlobUnknown(f"the archive lacks the layer {digest}, which it names"))

    def confirm(self, digest: Digest) -> Deferred[int | None]:
        if digest in self._came:
            return succeed(None)
        return fail(BlobUnknown(f"the archive lacks the layer {digest}, which it names"))

    def distrust(self, digest: Digest) -> None:
        """
        It gives nothing that could be wrong.
        """
