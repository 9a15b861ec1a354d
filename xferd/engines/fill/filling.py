# -*- test-case-name: tests.engines.fill.test_filling -*-
"""
Gives a containerd the blobs of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.defer import DeferredLock

from xferd.credentials import Credentials
from xferd.engines.fill.containerd import Namespace, namespaces
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.status import GrpcError
from xferd.errors import BadDocument, EngineFailed, NotFound
from xferd.interfaces.engines import EngineContext, FilledJSON
from xferd.names import Reference
from xferd.oci import Descriptor, Index, Manifest, parse_document

_DEPTH = 3
"""Indexes within indexes."""


class Filling:
    """
    Fills images of one containerd, one after the other.
    """

    def __init__(self, client: GrpcClient, name: str, context: EngineContext) -> None:
        """
        @param name: the engine's, for errors.
        """
        self._client = client
        self._name = name
        self._context = context
        # containerd refuses two writers of one blob.
        self._lock = DeferredLock()

    async def fill(
        self,
        reference: Reference,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None = None,
        progress: Callable[[int, int], object] = lambda *_: None,
    ) -> FilledJSON:
        """
        Write what is missing of an image, of each platform that containerd has.  Blobs
        that the store lacks are fetched.

        @see: L{xferd.interfaces.engines.IEngines.fill}
        """
        release = self._context.store.gc.lease()
        try:
            async with self._lock:
                return await self._fill(reference, namespace, client, credentials, progress)
        except GrpcError as e:
            raise EngineFailed(f"containerd {self._name}: {e.message}") from e
        finally:
            release()

    async def _fill(
        self,
        reference: Reference,
        namespace: str | None,
        client: str,
        credentials: Mapping[str, Credentials] | None,
        progress: Callable[[int, int], object],
    ) -> FilledJSON:
        filled = FilledJSON(image=str(reference), namespaces=[], blobs=0, written=0, bytes=0)
        missing: list[tuple[Namespace, list[Descriptor]]] = []
        for each in await namespaces(self._client):
            if namespace is not None and each.name != namespace:
                continue
            target = await each.image(str(reference))
            if target is None:
                continue
            blobs = await _blobs(each, target)
            filled["namespaces"].append(each.name)
            filled["blobs"] += len(blobs)
            missing.append((each, [blob for blob in blobs if not await each.has(blob.digest)]))
        if not missing:
            where = "" if namespace is None else f" in namespace {namespace!r}"
            raise NotFound(f"containerd {self._name} has no image {reference}{where}")
        done, total = 0, sum(blob.size for _, blobs in missing for blob in blobs)
        progress(done, total)
        for each, blobs in missing:
            async with each.lease(self._context.wall_clock) as lease:
                for blob in blobs:
                    content = self._context.jobs.content(blob, reference.repository, client, credentials)
                    source = str(reference.repository)
                    try:
                        filled["bytes"] += await each.write(
                            blob, content, lease, source, partial(_report, progress, done, total)
                        )
                    finally:
                        content.close()
                    filled["written"] += 1
                    done += blob.size
                    progress(done, total)
        return filled


def _report(progress: Callable[[int, int], object], before: int, total: int, offset: int) -> None:
    """
    Report that a blob has reached an offset.
    """
    progress(before + offset, total)


async def _blobs(namespace: Namespace, target: Descriptor, depth: int = 0) -> list[Descriptor]:
    """
    The blobs that an image needs for the platforms whose manifests are there.

    @raise BadDocument: its manifest is not an image's, or no platform is there.
    """
    document = parse_document(await namespace.document(target))
    if isinstance(document, Manifest):
        return list(
            {blob.digest: blob for blob in (document.config, *document.layers) if not blob.urls}.values()
        )
    found: dict[object, Descriptor] = {}
    if isinstance(document, Index) and depth < _DEPTH:
        for manifest in document.manifests:
            if await namespace.has(manifest.digest):
                blobs = await _blobs(namespace, manifest, depth + 1)
                found.update({blob.digest: blob for blob in blobs})
    if not found:
        raise BadDocument(f"containerd has no manifest of index {target.digest}")
    return list(found.values())
