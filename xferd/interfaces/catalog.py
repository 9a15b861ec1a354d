# -*- test-case-name: tests.test_interfaces -*-
"""
The catalog: the repositories that xferd serves as a registry, with their
manifests, tags and blobs.

The store keeps the bytes once; the catalog records which repository has them.  A
client that may read a repository may read what the catalog lists there, and
nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Final

from attrs import field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Interface

from xferd.names import Digest, Repository
from xferd.oci import Descriptor

LOCAL_HOST: Final = "localhost"
"""
The host of the repositories that are pushed to xferd itself.  What they have is
nowhere else, so that it is never evicted.
"""

ABANDONED_AFTER: Final = 24 * 3600.0
"""
Seconds after its last use for which a pushed blob is kept that no manifest names, as
an upload session is.
"""


@frozen
class CatalogManifest:
    """
    A manifest or an index of a repository.

    @ivar descriptor: its media type, digest and size, with its C{artifactType}
        and annotations as a list of referrers shows them.
    @ivar blobs: the blobs that it names: config and layers.
    @ivar manifests: the manifests that it names, if it is an index.
    @ivar subject: the manifest that it refers to, or L{None}.
    """

    descriptor: Descriptor
    blobs: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    subject: Digest | None = None

    @property
    def size(self) -> int:
        """
        The bytes of the manifest and its blobs, each blob once.
        """
        return self.descriptor.size + sum({blob.digest: blob.size for blob in self.blobs}.values())


@frozen
class CatalogTag:
    """
    A tag of a repository.

    @ivar digest: the digest of the manifest or index that it stands for.
    @ivar checked: when the upstream registry was last known to have it, or when
        it was pushed here, in seconds since the epoch.
    """

    digest: Digest
    checked: float = field(eq=False)


class ICatalog(Interface):
    """
    The repositories of the store.

    Changes are durable when their Deferred fires, and visible at once.
    Cancelling waits for the disk.
    """

    def repositories() -> Sequence[Repository]:
        """
        The repositories that have at least one manifest, in the order of their
        names.
        """

    def tags(repository: Repository) -> Sequence[str]:
        """
        The tags of a repository, in lexical order.
        """

    def tag(repository: Repository, tag: str) -> CatalogTag | None:
        """
        A tag, or L{None}.
        """

    def manifest(repository: Repository, digest: Digest) -> CatalogManifest | None:
        """
        A manifest or an index of a repository, or L{None}.
        """

    def manifests(repository: Repository) -> Sequence[CatalogManifest]:
        """
        The manifests and indexes of a repository, in the order in which they
        came.
        """

    def blob(repository: Repository, digest: Digest) -> Descriptor | None:
        """
        A blob that a manifest of the repository names, or that was pushed there;
        else L{None}.  Its bytes may not be in the store.
        """

    def holders(digest: Digest) -> Sequence[Repository]:
        """
        The repositories that have a blob.
        """

    def referrers(repository: Repository, subject: Digest) -> Sequence[Descriptor]:
        """
        The manifests of a repository that have this one as their subject, in the
        order in which they came.
        """

    def put_manifest(
        repository: Repository, manifest: CatalogManifest, tags: Sequence[str], checked: float
    ) -> Deferred[None]:
        """
        Add a manifest to a repository, and set tags to it.

        @param checked: see L{CatalogTag}.
        @raise StoreError: the disk refuses.
        """

    def confirm_tag(repository: Repository, tag: str, checked: float) -> None:
        """
        Note that the upstream still has what a tag stands for.  This is recorded
        now and then only: after a restart, the check may look older than it is.
        Without such a tag, it has no effect.

        @param checked: see L{CatalogTag}.
        """

    def put_blob(repository: Repository, blob: Descriptor) -> Deferred[None]:
        """
        Add a blob to a repository before a manifest names it.  If none does, the
        garbage collector removes it L{ABANDONED_AFTER} seconds after the last C{blob}
        or C{put_blob}.

        @raise StoreError: the disk refuses.
        """

    def remove_tag(repository: Repository, tag: str) -> Deferred[None]:
        """
        Remove a tag.  Its manifest stays.

        @raise NotFound: there is no such tag.
        @raise StoreError: the disk refuses.
        """

    def remove_manifest(repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Remove a manifest, and all tags of the repository that stand for it.  The blobs
        that no other manifest of the repository names go with it, also pushed ones.

        @raise NotFound: there is no such manifest.
        @raise StoreError: the disk refuses.
        """

    def remove_blob(repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Remove a blob that was pushed to a repository.

        @raise NotFound: there is no such blob.
        @raise BadInput: a manifest of the repository names it.
        @raise StoreError: the disk refuses.
        """

    def note_use(repository: Repository, digest: Digest) -> None:
        """
        Record that a manifest is used now.
        """

    def last_used(repository: Repository, digest: Digest) -> float:
        """
        The time at which a manifest was last used or added, in seconds since the
        epoch; 0 if it is not known.
        """

    def origins(digest: Digest) -> Set[str]:
        """
        Where the bytes of a blob came from, as a whole: L{PUBLIC<xferd.realms.PUBLIC>}
        for upstreams that send them without credentials, and the names of all other
        repositories that sent them, or proved to have them.  A client may have the
        bytes only if it may have what came from one of these.
        """

    def add_origin(digest: Digest, origin: str) -> None:
        """
        Record where the bytes of a blob came from: see L{origins}.  If the record is
        lost, the next client's upstream has to prove that it has them.
        """

    def forget_origins(digest: Digest) -> None:
        """
        Forget where a blob came from, as its bytes are removed.
        """

    def lists(digest: Digest) -> bool:
        """
        Whether a repository has a manifest or a blob: the garbage collector keeps
        it.
        """
