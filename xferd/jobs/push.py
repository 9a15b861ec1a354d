# -*- test-case-name: tests.jobs.test_push -*-
"""
An image of the store is pushed into a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from xferd.image_config import parse_config
from xferd.interfaces.registry import IRegistries, IRepository
from xferd.interfaces.store import Image, IStore
from xferd.interfaces.transfer import IProgressSink
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.reader import BlobReader
from xferd.jobs.images.documents import DocumentFetcher
from xferd.jobs.images.graph import Graph, walk
from xferd.jobs.images.publish import Publisher
from xferd.jobs.images.resolve import check_platform
from xferd.jobs.images.stored import stored_image
from xferd.jobs.job import Job
from xferd.names import Reference
from xferd.oci import Descriptor, Document, Manifest
from xferd.platforms import Platform

ALL: Final = "all"
"""In place of a platform: all platforms, with their index."""


class Push:
    """
    One push, byte for byte as the image was pulled.

    The store has an image for one platform.  What it lacks of others is fetched
    from the repository that the image came from.
    """

    def __init__(
        self,
        job: Job,
        reference: Reference,
        target: Reference,
        *,
        tags: Sequence[str],
        store: IStore,
        registries: IRegistries,
        documents: Callable[[IRepository], DocumentFetcher],
        layers: DownloadManager,
        publisher: Publisher,
    ) -> None:
        """
        @param tags: further tags besides the target's own.
        @param documents: makes the documents of the repository that the image
            came from.
        """
        self._job = job
        self._reference = reference
        self._target = target
        self._tags = tags
        self._store = store
        self._registries = registries
        self._documents = documents
        self._layers = layers
        self._publisher = publisher

    async def run(self) -> dict[str, str]:
        """
        Push the image.

        The blob of a layer whose tree came with another image is fetched from
        the repository that the image came from, if the target lacks it.

        @return: the job's result.
        @raise NotFound: there is no such image in the store.
        @raise NoSuchPlatform: it is not available for the wanted platform.
        """
        image = stored_image(self._store, self._reference)
        source = self._registries.repository(image.source)
        if self._job.platform is None:
            graph, origin = await walk(await self._stored(image.manifest), self._stored), None
        else:
            graph, origin = await self._offered(image, source, self._job.platform), source.name
        await self._publisher.publish(
            [graph],
            self._target,
            partial(self._content, image, source),
            self._tags,
            source=source,
            origin=origin,
        )
        result = {"digest": str(graph.root.digest)}
        if graph.root.digest == image.manifest.digest:
            result["image_id"] = str(image.config.digest)
        return result

    async def _stored(self, descriptor: Descriptor) -> Document:
        """
        Read a document in the store.
        """
        data = await self._store.blobs.read(descriptor.digest)
        return Document(descriptor.media_type, data, descriptor.digest)

    async def _offered(self, image: Image, source: IRepository, platform: str) -> Graph:
        """
        The graph of what the image's name stood for when it was pulled: all
        platforms or one.
        """
        documents, turn = self._documents(source), self._job.turn()

        async def fetch(descriptor: Descriptor) -> Document:
            return await documents.described(descriptor, turn)

        if image.resolved == image.manifest.digest:
            root = await self._stored(image.manifest)
        else:
            root = await documents.pinned(image.resolved, turn)
        if platform != ALL:
            wanted = Platform.parse(platform)
            picked = await documents.pick(root, wanted, turn)
            if not picked.chosen:
                await self._check(image, wanted)
            root = await fetch(picked.descriptor)
        return await walk(root, fetch)

    async def _check(self, image: Image, wanted: Platform) -> None:
        """
        Check that an image that was not chosen from an index is for a platform.

        @raise NoSuchPlatform: it is for another one.
        """
        manifest = Manifest(image.config, image.layers)
        if manifest.is_image:
            data = await self._store.blobs.read(image.config.digest)
            config = parse_config(data, manifest)
            check_platform(str(self._reference), wanted, image.manifest.platform, config.platform)

    def _content(
        self, image: Image, source: IRepository, blob: Descriptor, sink: IProgressSink
    ) -> BlobReader:
        """
        Open a blob.  Blobs of other platforms of the image were not pulled with
        it: the store may have them from another client.
        """
        named = blob.digest in {image.config.digest, *(layer.digest for layer in image.layers)}
        return self._layers.content(blob, source, self._job.turn(), sink, named=named)
