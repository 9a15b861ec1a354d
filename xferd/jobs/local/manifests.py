# -*- test-case-name: tests.jobs.local.test_manifests -*-
"""
The manifests of xferd's own repositories: pushed, read and deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from attrs import evolve

from xferd.errors import BadDocument, ContentMissing, ManifestUnknown
from xferd.interfaces.catalog import CatalogManifest
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import IStore
from xferd.jobs.local.entries import pushed_entry
from xferd.media_types import FOREIGN
from xferd.names import Digest, Repository, parse_tag
from xferd.oci import Descriptor, Document

Check: TypeAlias = "Callable[[Digest | None, str], None]"
"""
Called with the digest of the manifest that is there, or L{None}, and its name; raises
what refuses the change.
"""


def _always(present: Digest | None, name: str) -> None:
    """
    Make a change without a condition.
    """


class LocalManifests:
    """
    The manifests of all own repositories.
    """

    def __init__(self, store: IStore, wall_clock: WallClock) -> None:
        self._store = store
        self._wall_clock = wall_clock

    def find(self, repository: Repository, wanted: str) -> Descriptor:
        """
        The descriptor of a manifest.

        @param wanted: a tag or a digest.
        @raise ManifestUnknown: the repository has no such manifest.
        @raise BadDigest: it is neither.
        @raise BadReference: it is neither.
        """
        catalog = self._store.catalog
        if ":" in wanted:
            digest = Digest.parse(wanted)
        else:
            tag = catalog.tag(repository, parse_tag(wanted))
            if tag is None:
                raise ManifestUnknown(f"{repository.path} has no tag {wanted}", host=repository.host)
            digest = tag.digest
        found = catalog.manifest(repository, digest)
        if found is None:
            raise ManifestUnknown(f"{repository.path} has no manifest {digest}", host=repository.host)
        return found.descriptor

    async def read(self, repository: Repository, wanted: str) -> Document:
        """
        Read a manifest.

        @raise ManifestUnknown: as L{find}, and for the other errors.
        @raise StoreError: its file is damaged.
        """
        found = self.find(repository, wanted)
        data = await self._store.blobs.read(found.digest)
        return Document(found.media_type, data, found.digest)

    async def put(
        self,
        repository: Repository,
        document: Document,
        tags: Iterable[str] = (),
        wanted: str = "",
        check: Check = _always,
    ) -> CatalogManifest:
        """
        Add a manifest to a repository, durably, and set its tags.  Concurrent pushes
        of one tag are atomic: the last one remains.

        @param wanted: the tag or digest of which C{check} gets the manifest that is
            there, just before it is replaced.
        @raise BadDocument: it violates its specification.
        @raise ContentMissing: the repository lacks a blob or a manifest that it
            names.  Layers that need not be distributed may be missing.
        @raise StoreError: the disk refuses.
        """
        tags = [parse_tag(tag) for tag in tags]
        entry = pushed_entry(document)
        release = self._store.gc.lease()
        try:
            self._check(repository, entry)
            await self._store.blobs.put(document.digest, document.data)
            # Another client may have deleted a part of it meanwhile.
            entry = self._check(repository, entry)
            check(self._present(repository, wanted), f"{repository.path}:{wanted}")
            await self._store.catalog.put_manifest(repository, entry, tags, self._wall_clock())
        finally:
            release()
        return entry

    async def remove(self, repository: Repository, wanted: str, check: Check = _always) -> None:
        """
        Delete a tag, or a manifest with all its tags.

        @param wanted: a tag or a digest.
        @param check: called as in L{put}.
        @raise ManifestUnknown: as L{find}.
        @raise StoreError: the disk refuses.
        """
        found = self.find(repository, wanted)
        check(found.digest, f"{repository.path}:{wanted}")
        if ":" in wanted:
            await self._store.catalog.remove_manifest(repository, found.digest)
        else:
            await self._store.catalog.remove_tag(repository, wanted)

    def _present(self, repository: Repository, wanted: str) -> Digest | None:
        """
        The digest of the manifest that a tag or a digest stands for now.
        """
        try:
            return self.find(repository, wanted).digest if wanted else None
        except ManifestUnknown:
            return None

    def _check(self, repository: Repository, entry: CatalogManifest) -> CatalogManifest:
        """
        Check that everything is here that a manifest names.

        @return: the entry without the layers that are elsewhere.
        """
        catalog, blobs = self._store.catalog, self._store.blobs
        for child in entry.manifests:
            if catalog.manifest(repository, child.digest) is None:
                raise _missing("manifest", child, repository)
        here: list[Descriptor] = []
        for blob in entry.blobs:
            size = None if catalog.blob(repository, blob.digest) is None else blobs.size(blob.digest)
            if size is None:
                if blob.media_type in FOREIGN:
                    continue
                raise _missing("blob", blob, repository)
            if size != blob.size:
                raise BadDocument(f"blob {blob.digest} has {size} bytes, and the manifest names {blob.size}")
            here.append(blob)
        return evolve(entry, blobs=tuple(here))


def _missing(kind: str, what: Descriptor, repository: Repository) -> ContentMissing:
    return ContentMissing(
        f"the manifest names {kind} {what.digest}, which {repository.path} does not have: push it first",
        host=repository.host,
    )
