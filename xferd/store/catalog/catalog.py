# -*- test-case-name: tests.store.catalog.test_catalog -*-
"""
The catalog in memory.  Every change is written to the journal's database.

Requests look here first, so that a hit reads no database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import Final, Protocol

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import BadInput, NotFound
from xferd.interfaces.catalog import CatalogManifest, CatalogTag, ICatalog
from xferd.names import Digest, Reference, Repository
from xferd.oci import Descriptor
from xferd.store.catalog.records import Change, OriginChange, Recorded

RECORDED_AFTER: Final = 600.0
"""Seconds after which another check of a tag is recorded."""


class Records(Protocol):
    """
    Where the catalog is recorded.
    """

    def write(self, changes: Iterable[Change | OriginChange]) -> Deferred[None]:
        """
        See L{CatalogRecords.write<xferd.store.catalog.records.CatalogRecords.write>}.
        """

    def read(self) -> Deferred[Recorded]:
        """
        See L{CatalogRecords.read<xferd.store.catalog.records.CatalogRecords.read>}.
        """


class Uses(Protocol):
    """
    The times at which names were last used.
    """

    def note(self, reference: Reference) -> None:
        """
        Record that a name is used now.
        """

    def forget(self, reference: Reference) -> None:
        """
        Forget a name.
        """

    def time_of(self, reference: Reference) -> float:
        """
        The time of the last use, in seconds since the epoch; 0 if it is not known.
        """


@define(eq=False)
class _Content:
    """
    What one repository has.

    @ivar named: the blobs that manifests name, each with the number of those.
    @ivar pushed: the blobs that were pushed.
    @ivar recorded: the check of each tag that is recorded, where that is not the
        newest one.
    """

    manifests: dict[Digest, CatalogManifest] = field(factory=dict)
    tags: dict[str, CatalogTag] = field(factory=dict)
    blobs: dict[Digest, Descriptor] = field(factory=dict)
    named: Counter[Digest] = field(factory=Counter)
    pushed: dict[Digest, Descriptor] = field(factory=dict)
    referrers: dict[Digest, dict[Digest, Descriptor]] = field(factory=dict)
    recorded: dict[str, float] = field(factory=dict)


@implementer(ICatalog)
class Catalog:
    """
    The catalog of a data directory.
    """

    _log = Logger()

    def __init__(self, records: Records, touch: Callable[..., None], uses: Uses) -> None:
        """
        @param touch: called with the digests that a caller receives: the
            garbage collector spares them while a lease is held.
        @param uses: the times at which manifests were last used.
        """
        self._records = records
        self._touch = touch
        self._uses = uses
        self._manifests: Counter[Digest] = Counter()
        self._repositories: dict[Repository, _Content] = {}
        self._holders: dict[Digest, dict[Repository, None]] = {}
        self._origins: dict[Digest, set[str]] = {}

    async def load(self) -> None:
        """
        Read the records of earlier daemons.

        @raise StoreError: they cannot be read.
        """
        recorded = await self._records.read()
        for repository, manifest in recorded.manifests:
            self._add_manifest(repository, manifest)
        for repository, tag, tagged in recorded.tags:
            self._content(repository).tags[tag] = tagged
        for repository, blob in recorded.blobs:
            self._add_blob(repository, blob)
        for blob_digest, origin in recorded.origins:
            self._origins.setdefault(blob_digest, set()).add(origin)

    def repositories(self) -> Sequence[Repository]:
        return sorted(name for name, content in self._repositories.items() if content.manifests)

    def tags(self, repository: Repository) -> Sequence[str]:
        content = self._repositories.get(repository)
        return [] if content is None else sorted(content.tags)

    def tag(self, repository: Repository, tag: str) -> CatalogTag | None:
        content = self._repositories.get(repository)
        return None if content is None else content.tags.get(tag)

    def manifest(self, repository: Repository, digest: Digest) -> CatalogManifest | None:
        content = self._repositories.get(repository)
        found = None if content is None else content.manifests.get(digest)
        if found is not None:
            self._touch(digest, *(blob.digest for blob in found.blobs))
        return found

    def manifests(self, repository: Repository) -> Sequence[CatalogManifest]:
        content = self._repositories.get(repository)
        return [] if content is None else list(content.manifests.values())

    def blob(self, repository: Repository, digest: Digest) -> Descriptor | None:
        content = self._repositories.get(repository)
        if content is None:
            return None
        found = content.blobs.get(digest) or content.pushed.get(digest)
        if found is not None:
            self._touch(digest)
            if not content.named[digest]:
                # A client that finds it here will not push it again.
                self.note_use(repository, digest)
        return found

    def holders(self, digest: Digest) -> Sequence[Repository]:
        return list(self._holders.get(digest, ()))

    def referrers(self, repository: Repository, subject: Digest) -> Sequence[Descriptor]:
        content = self._repositories.get(repository)
        return [] if content is None else list(content.referrers.get(subject, {}).values())

    def put_manifest(
        self, repository: Repository, manifest: CatalogManifest, tags: Sequence[str], checked: float
    ) -> Deferred[None]:
        digest = manifest.descriptor.digest
        tagged = CatalogTag(digest, checked)
        self._add_manifest(repository, manifest)
        content = self._content(repository)
        for tag in tags:
            content.tags[tag] = tagged
            content.recorded.pop(tag, None)
        self.note_use(repository, digest)
        changes = [Change(repository, manifest=manifest)]
        changes += [Change(repository, tag=tag, tagged=tagged) for tag in tags]
        return self._records.write(changes)

    def confirm_tag(self, repository: Repository, tag: str, checked: float) -> None:
        content = self._repositories.get(repository)
        tagged = None if content is None else content.tags.get(tag)
        if content is None or tagged is None:
            return
        newest = content.tags[tag] = evolve(tagged, checked=checked)
        recorded = content.recorded.setdefault(tag, tagged.checked)
        if not 0 <= checked - recorded < RECORDED_AFTER:
            del content.recorded[tag]
            self._note(Change(repository, tag=tag, tagged=newest))

    def put_blob(self, repository: Repository, blob: Descriptor) -> Deferred[None]:
        self._add_blob(repository, blob)
        self.note_use(repository, blob.digest)
        return self._records.write([Change(repository, blob=blob)])

    def remove_tag(self, repository: Repository, tag: str) -> Deferred[None]:
        content = self._content(repository)
        if content.tags.pop(tag, None) is None:
            return fail(NotFound(f"{repository} has no tag {tag}"))
        content.recorded.pop(tag, None)
        return self._records.write([Change(repository, tag=tag)])

    def remove_manifest(self, repository: Repository, digest: Digest) -> Deferred[None]:
        content = self._content(repository)
        manifest = content.manifests.get(digest)
        if manifest is None:
            return fail(NotFound(f"{repository} has no manifest {digest}"))
        tags = [tag for tag, tagged in content.tags.items() if tagged.digest == digest]
        for tag in tags:
            del content.tags[tag]
            content.recorded.pop(tag, None)
        self._uses.forget(Reference(repository, None, digest))
        changes = [Change(repository, tag=tag) for tag in tags]
        dropped = self._drop_manifest(repository, content, manifest)
        changes += [Change(repository, unlinked=blob) for blob in dropped]
        return self._records.write([*changes, Change(repository, digest=digest)])

    def remove_blob(self, repository: Repository, digest: Digest) -> Deferred[None]:
        content = self._content(repository)
        if content.named[digest]:
            return fail(
                BadInput(f"a manifest of {repository} needs blob {digest}: delete the manifest first")
            )
        if content.pushed.pop(digest, None) is None:
            return fail(NotFound(f"{repository} has no blob {digest}"))
        self._unlink(repository, content, digest)
        return self._records.write([Change(repository, unlinked=digest)])

    def abandoned(self, before: float) -> list[tuple[Repository, Digest]]:
        """
        The pushed blobs that no manifest names and that were last used before a time,
        in seconds since the epoch.  One whose last use is not known counts as used now.
        """
        found: list[tuple[Repository, Digest]] = []
        for repository, content in self._repositories.items():
            for digest in content.pushed:
                if content.named[digest]:
                    continue
                used = self.last_used(repository, digest)
                if not used:
                    self.note_use(repository, digest)
                elif used < before:
                    found.append((repository, digest))
        return found

    def note_use(self, repository: Repository, digest: Digest) -> None:
        self._uses.note(Reference(repository, None, digest))

    def last_used(self, repository: Repository, digest: Digest) -> float:
        return self._uses.time_of(Reference(repository, None, digest))

    def origins(self, digest: Digest) -> Set[str]:
        return frozenset(self._origins.get(digest, ()))

    def add_origin(self, digest: Digest, origin: str) -> None:
        known = self._origins.setdefault(digest, set())
        if origin not in known:
            known.add(origin)
            self._note(OriginChange(digest, origin))

    def forget_origins(self, digest: Digest) -> None:
        if self._origins.pop(digest, None) is not None:
            self._note(OriginChange(digest))

    def lists(self, digest: Digest) -> bool:
        return digest in self._holders or digest in self._manifests

    def _note(self, change: Change | OriginChange) -> None:
        """
        Record what can be found out again after a restart.
        """
        _ = self._records.write([change]).addErrback(self._lost)

    def _lost(self, failure: Failure) -> None:
        self._log.info(
            "the check of a tag, or the origin of a blob, is not recorded: {why}",
            why=failure.getErrorMessage(),
        )

    def _content(self, repository: Repository) -> _Content:
        return self._repositories.setdefault(repository, _Content())

    def _add_manifest(self, repository: Repository, manifest: CatalogManifest) -> None:
        content = self._content(repository)
        digest = manifest.descriptor.digest
        if digest in content.manifests:
            return
        content.manifests[digest] = manifest
        self._manifests[digest] += 1
        for blob in manifest.blobs:
            if blob.digest in content.pushed and not content.named[blob.digest]:
                self._uses.forget(Reference(repository, None, blob.digest))
            content.named[blob.digest] += 1
            content.blobs.setdefault(blob.digest, blob)
            self._holders.setdefault(blob.digest, {})[repository] = None
        if manifest.subject is not None:
            content.referrers.setdefault(manifest.subject, {})[digest] = manifest.descriptor

    def _drop_manifest(
        self, repository: Repository, content: _Content, manifest: CatalogManifest
    ) -> list[Digest]:
        """
        Forget a manifest.

        @return: the pushed blobs that no other manifest names: these go with it.
        """
        digest = manifest.descriptor.digest
        del content.manifests[digest]
        self._manifests[digest] -= 1
        if not self._manifests[digest]:
            del self._manifests[digest]
        dropped: list[Digest] = []
        for blob in manifest.blobs:
            content.named[blob.digest] -= 1
            if not content.named[blob.digest]:
                del content.named[blob.digest]
                content.blobs.pop(blob.digest, None)
                if content.pushed.pop(blob.digest, None) is not None:
                    dropped.append(blob.digest)
                self._unlink(repository, content, blob.digest)
        if manifest.subject is not None:
            others = content.referrers[manifest.subject]
            del others[digest]
            if not others:
                del content.referrers[manifest.subject]
        return dropped

    def _add_blob(self, repository: Repository, blob: Descriptor) -> None:
        self._content(repository).pushed[blob.digest] = blob
        self._holders.setdefault(blob.digest, {})[repository] = None

    def _unlink(self, repository: Repository, content: _Content, digest: Digest) -> None:
        """
        Forget that a repository has a blob, unless it still has.
        """
        if digest in content.pushed or content.named[digest]:
            return
        self._uses.forget(Reference(repository, None, digest))
        holders = self._holders.get(digest, {})
        holders.pop(repository, None)
        if not holders:
            self._holders.pop(digest, None)
