# -*- test-case-name: tests.jobs.test_push -*-
"""
Pushing an image: from the store into a repository.
"""

from __future__ import annotations

from functools import partial

from xferd.errors import NotFound
from xferd.interfaces import IBlobSource, IProgressSink, IRegistries, IStore
from xferd.jobs.cargo import load
from xferd.jobs.content import BlobContent
from xferd.jobs.delivery import Delivery
from xferd.jobs.download import DownloadManager
from xferd.jobs.job import Job
from xferd.names import Reference
from xferd.oci import Descriptor, Document


class Push:
    """
    One push, byte for byte as the image was pulled.
    """

    def __init__(
        self,
        job: Job,
        reference: Reference,
        target: Reference,
        *,
        store: IStore,
        registries: IRegistries,
        layers: DownloadManager,
        delivery: Delivery,
    ) -> None:
        self._job = job
        self._reference = reference
        self._target = target
        self._store = store
        self._registries = registries
        self._layers = layers
        self._delivery = delivery

    async def run(self) -> dict[str, str]:
        """
        Push the image.

        A layer whose tree came with another image, so that its blob was never
        needed, is fetched from where the image came, if the target lacks it.

        @return: the job's result.
        @raise NotFound: there is no such image in the store.
        """
        image = self._store.images.get(self._reference)
        if image is None:
            raise NotFound(
                f"there is no image {self._reference} in the store; 'xferctl images' lists those that are"
            )
        cargo = await load(await self._stored(image.manifest), self._stored)
        source = self._registries.registry(image.source.host).blobs(image.source)
        await self._delivery.deliver([cargo], self._target, partial(self._content, source))
        return {"digest": str(image.manifest.digest), "image_id": str(image.config.digest)}

    async def _stored(self, descriptor: Descriptor) -> Document:
        """
        Read a document in the store.
        """
        data = await self._store.blobs.read(descriptor.digest)
        return Document(descriptor.media_type, data, descriptor.digest)

    def _content(self, source: IBlobSource, blob: Descriptor, sink: IProgressSink) -> BlobContent:
        """
        Open a blob.
        """
        return self._layers.content(blob, source, self._job.turn(), sink)
