# -*- test-case-name: tests.store.catalog.test_catalog -*-
"""
The rows of the catalog in the journal's database.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred

from xferd.interfaces.catalog import CatalogManifest, CatalogTag
from xferd.names import Digest, Repository
from xferd.oci import Descriptor
from xferd.store.database import Statement
from xferd.store.journal import Journal

_PUT_MANIFEST: Final = """
    INSERT OR REPLACE INTO catalog_manifest (host, path, digest, record)
    VALUES (:host, :path, :digest, :record)
"""
_PUT_TAG: Final = """
    INSERT OR REPLACE INTO catalog_tag (host, path, tag, digest, checked)
    VALUES (:host, :path, :tag, :digest, :checked)
"""
_PUT_BLOB: Final = """
    INSERT OR REPLACE INTO catalog_blob (host, path, digest, record)
    VALUES (:host, :path, :digest, :record)
"""
_REMOVE_MANIFEST: Final = (
    "DELETE FROM catalog_manifest WHERE host = :host AND path = :path AND digest = :digest"
)
_REMOVE_TAG: Final = "DELETE FROM catalog_tag WHERE host = :host AND path = :path AND tag = :tag"
_REMOVE_BLOB: Final = "DELETE FROM catalog_blob WHERE host = :host AND path = :path AND digest = :digest"
_PUT_ORIGIN: Final = "INSERT OR REPLACE INTO blob_origin (digest, origin) VALUES (:digest, :origin)"
_REMOVE_ORIGINS: Final = "DELETE FROM blob_origin WHERE digest = :digest"


@frozen
class Change:
    """
    One change of the catalog.

    @ivar manifest: a manifest to add; L{None} with C{digest} removes one.
    """

    repository: Repository
    digest: Digest | None = None
    manifest: CatalogManifest | None = None
    tag: str = ""
    tagged: CatalogTag | None = None
    blob: Descriptor | None = None
    unlinked: Digest | None = None

    def statement(self) -> Statement:
        """
        The change in SQL.
        """
        names = {"host": self.repository.host, "path": self.repository.path}
        if self.manifest is not None:
            descriptor = self.manifest.descriptor
            record = json.dumps(_manifest_json(self.manifest))
            return Statement(_PUT_MANIFEST, {**names, "digest": str(descriptor.digest), "record": record})
        if self.tagged is not None:
            values = {"tag": self.tag, "digest": str(self.tagged.digest), "checked": self.tagged.checked}
            return Statement(_PUT_TAG, {**names, **values})
        if self.blob is not None:
            record = json.dumps(self.blob.to_json())
            return Statement(_PUT_BLOB, {**names, "digest": str(self.blob.digest), "record": record})
        if self.tag:
            return Statement(_REMOVE_TAG, {**names, "tag": self.tag})
        if self.unlinked is not None:
            return Statement(_REMOVE_BLOB, {**names, "digest": str(self.unlinked)})
        return Statement(_REMOVE_MANIFEST, {**names, "digest": str(self.digest)})


@frozen
class OriginChange:
    """
    An origin of a blob to add.

    @ivar origin: empty to remove all.
    """

    digest: Digest
    origin: str = ""

    def statement(self) -> Statement:
        """
        The change in SQL.
        """
        names = {"digest": str(self.digest)}
        if not self.origin:
            return Statement(_REMOVE_ORIGINS, names)
        return Statement(_PUT_ORIGIN, {**names, "origin": self.origin})


@frozen
class Recorded:
    """
    All rows of the catalog, the oldest first.
    """

    manifests: list[tuple[Repository, CatalogManifest]] = field(factory=list)
    tags: list[tuple[Repository, str, CatalogTag]] = field(factory=list)
    blobs: list[tuple[Repository, Descriptor]] = field(factory=list)
    origins: list[tuple[Digest, str]] = field(factory=list)


class CatalogRecords:
    """
    The catalog's tables.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def write(self, changes: Iterable[Change | OriginChange]) -> Deferred[None]:
        """
        Make some changes in one transaction: all of them, or none.

        @raise StoreError: the disk refuses.
        """
        return self._journal.write([change.statement() for change in changes])

    def read(self) -> Deferred[Recorded]:
        """
        Read all rows.

        @raise StoreError: the journal cannot be read.
        """
        return Deferred.fromCoroutine(self._read())

    async def _read(self) -> Recorded:
        read = self._journal.read
        manifests = await read("SELECT host, path, record FROM catalog_manifest ORDER BY number")
        tags = await read("SELECT host, path, tag, digest, checked FROM catalog_tag")
        blobs = await read("SELECT host, path, record FROM catalog_blob")
        origins = await read("SELECT digest, origin FROM blob_origin")
        return Recorded(
            [(Repository(host, path), _manifest(json.loads(record))) for host, path, record in manifests],
            [
                (Repository(host, path), tag, CatalogTag(Digest.parse(digest), checked))
                for host, path, tag, digest, checked in tags
            ],
            [
                (Repository(host, path), Descriptor.from_json(json.loads(record), "a blob", typed=False))
                for host, path, record in blobs
            ],
            [(Digest.parse(digest), origin) for digest, origin in origins],
        )


def _manifest_json(manifest: CatalogManifest) -> dict[str, Any]:
    """
    The JSON of a manifest's row.
    """
    # The annotations of layers are of no use here, and may be long.
    blobs = [evolve(blob, annotations={}).to_json() for blob in manifest.blobs]
    return {
        "descriptor": manifest.descriptor.to_json(),
        "blobs": blobs,
        "manifests": [evolve(child, annotations={}).to_json() for child in manifest.manifests],
        "subject": None if manifest.subject is None else str(manifest.subject),
    }


def _manifest(value: dict[str, Any]) -> CatalogManifest:
    """
    Read a manifest's row.
    """
    subject = value["subject"]
    return CatalogManifest(
        Descriptor.from_json(value["descriptor"], "a manifest", typed=False),
        tuple(Descriptor.from_json(item, "a blob", typed=False) for item in value["blobs"]),
        tuple(Descriptor.from_json(item, "a manifest", typed=False) for item in value["manifests"]),
        None if subject is None else Digest.parse(subject),
    )
