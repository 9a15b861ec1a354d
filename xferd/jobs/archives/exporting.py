# -*- test-case-name: tests.jobs.archives.test_exporting -*-
"""
Images are exported from the store as archives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from xferd.archive.plan import Plan, plan
from xferd.docker_manifest import to_oci_manifest
from xferd.errors import Interrupted, SourceError, StoreError
from xferd.interfaces.jobs import IArchive
from xferd.interfaces.registry import IContent, IRegistries
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.reader import BlobReader
from xferd.jobs.deferreds import gather
from xferd.jobs.images.stored import stored_image
from xferd.jobs.shutdown_errors import stopped
from xferd.media_types import DOCKER_MANIFEST, OCI_MANIFEST
from xferd.names import Reference
from xferd.oci import Descriptor, Document, Manifest, parse_document
from xferd.transfer.fair_queue import Turn


async def open_archive(
    reference: Reference,
    form: str,
    turn: Turn,
    *,
    store: IStore,
    registries: IRegistries,
    layers: DownloadManager,
) -> IArchive:
    """
    Open an image as an archive.  All its blobs are in the store then, and stay
    there until the archive is closed.

    The blob of a layer whose tree came with another image is fetched from the
    repository that the image came from.

    @raise XferdError: see L{xferd.interfaces.jobs.IJobs.export}.
    """
    end_use = store.gc.lease()
    try:
        return await _open(
            reference, form, turn, store=store, registries=registries, layers=layers, close=end_use
        )
    except BaseException:
        end_use()
        raise


async def _open(
    reference: Reference,
    form: str,
    turn: Turn,
    *,
    store: IStore,
    registries: IRegistries,
    layers: DownloadManager,
    close: Callable[[], None],
) -> IArchive:
    """
    See L{open_archive}.

    @param close: called when the archive is closed.
    """
    image = stored_image(store, reference)
    data = await store.blobs.read(image.manifest.digest)
    document = Document(image.manifest.media_type, data, image.manifest.digest)
    original = None
    if document.media_type == DOCKER_MANIFEST:
        original, document = document, Document.verified(OCI_MANIFEST, to_oci_manifest(data))
    manifest = parse_document(document)
    if not isinstance(manifest, Manifest):
        raise StoreError(
            f"{image.manifest.digest} is an index, not an image; pull {reference.familiar()} again"
        )
    source = registries.repository(image.source)
    blobs = {blob.digest: blob for blob in (manifest.config, *manifest.layers)}.values()
    watchers = [layers.fetch(blob, source, turn) for blob in blobs if not store.blobs.has(blob.digest)]
    try:
        await gather(watcher.result() for watcher in watchers)
    except Interrupted as e:
        raise stopped("export") from e
    except SourceError as e:
        raise StoreError(
            f"the blob of a layer of {reference.familiar()} is not in the store, as the layer came with "
            f"another image, and cannot be fetched: {e}"
        ) from e
    finally:
        for watcher in watchers:
            watcher.release()
    for blob in blobs:
        found = store.blobs.size(blob.digest)
        if found != blob.size:
            raise StoreError(
                f"blob {blob.digest} of {reference.familiar()} is damaged: it has {found} bytes, "
                f"not {blob.size}; pull the image again"
            )
    return Archive(
        plan(reference, manifest, document, form, original),
        lambda blob: layers.content(blob, source, turn, named=True),
        close,
    )


@implementer(IArchive)
class Archive:
    """
    A planned archive, read part by part.
    """

    def __init__(
        self, planned: Plan, content: Callable[[Descriptor], BlobReader], close: Callable[[], None]
    ) -> None:
        """
        @param content: opens a blob.
        @param close: called when the archive is closed; idempotent.
        """
        self.size = planned.size
        self._parts = deque(planned.parts)
        self._content = content
        self._close = close
        self._open: BlobReader | None = None
        self._at = 0

    def read(self, most: int) -> Deferred[bytes]:
        return Deferred.fromCoroutine(self._read(most))

    def close(self) -> None:
        self._parts.clear()
        if self._open is not None:
            self._open.close()
            self._open = None
        self._close()

    async def _read(self, most: int) -> bytes:
        small, size = [], 0
        while self._parts and size < most:
            part = self._parts[0]
            if isinstance(part, bytes):
                # Headers, padding and documents go together.
                taken = part[: most - size]
                small.append(taken)
                size += len(taken)
                self._parts.popleft()
                if len(taken) < len(part):
                    self._parts.appendleft(part[len(taken) :])
            elif small:
                break
            else:
                data = await self._piece(part, most)
                if data:
                    return data
        return b"".join(small)

    async def _piece(self, blob: Descriptor, most: int) -> bytes:
        """
        Read bytes of a blob; none at its end, where the next part begins.
        """
        if self._at == blob.size:
            self._next()
            return b""
        if self._open is None:
            self._open = self._content(blob)
        content: IContent = self._open
        data = await content.read(self._at, most)
        if not data:
            raise StoreError(f"blob {blob.digest} ends after {self._at} of {blob.size} bytes")
        self._at += len(data)
        if self._at == blob.size:
            self._next()
        return data

    def _next(self) -> None:
        self._at = 0
        if self._open is not None:
            self._open.close()
            self._open = None
        if self._parts:
            self._parts.popleft()
