# -*- test-case-name: tests.test_interfaces -*-
"""
The store, as jobs use it: trees, layers, images, free space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.errors import DiskFull
from xferd.interfaces.blobs import IBlobs
from xferd.interfaces.catalog import ICatalog
from xferd.interfaces.collection import IGarbageCollector
from xferd.interfaces.incoming import IIncomingBlobs
from xferd.interfaces.integrity import IIntegrity
from xferd.interfaces.journal import IJournal
from xferd.interfaces.snapshots import ISnapshotTables
from xferd.names import Digest, Reference, Repository
from xferd.oci import Descriptor
from xferd.owners import Owners

UNPACK_RULES: Final = 2
"""
The version of the rules by which a tar is unpacked.  Raise it whenever the same
tar gives another tree than before: trees by older rules are unpacked again at
their next use.  Trees without a recorded version have 0.
"""


@frozen
class Unpacked:
    """
    The result of unpacking a layer's tar.

    @ivar diff_id: the digest of the uncompressed tar.
    @ivar tar_size: the uncompressed tar's bytes.
    @ivar size: the bytes in regular files, each counted once.
    @ivar entries: the entries of the tar.
    @ivar implied: directories that the tar needs and does not list, as paths
        relative to the tree; their metadata come from the layers below.
    @ivar owners: the owners of the entries; L{None} if they were not collected.
    """

    diff_id: Digest
    tar_size: int
    size: int
    entries: int
    implied: tuple[bytes, ...] = ()
    owners: Owners | None = None


@frozen
class Layer:
    """
    A tree on top of a parent chain.

    @ivar chain_id: the identity of the stack up to and including this layer.
    @ivar parent: the chain ID below, or L{None} for a bottom layer.
    @ivar diff_id: the digest of this layer's uncompressed tar.
    @ivar path: the directory that holds the tree, ready to be a lowerdir of
        overlayfs.
    @ivar size: the bytes in the tree's regular files.
    @ivar outdated: whether the tree was unpacked by older rules than
        L{UNPACK_RULES}, or has been found damaged.
    """

    chain_id: Digest
    parent: Digest | None
    diff_id: Digest
    path: str
    size: int
    outdated: bool = False


class ITrees(Interface):
    """
    The unpacked trees of the store, one per diff ID.
    """

    def has(diff_id: Digest) -> bool:
        """
        Whether the tree is in the store.
        """

    def diff_id_of(blob: Digest) -> Digest | None:
        """
        The diff ID of the tree that C{blob} unpacks to, if it is in the store.
        """

    def is_outdated(diff_id: Digest) -> bool:
        """
        Whether the tree is in the store, and was unpacked by older rules than
        L{UNPACK_RULES} or has been found damaged.
        """

    def is_damaged(diff_id: Digest) -> bool:
        """
        Whether the tree is in the store and has been found damaged.
        """

    def tar_size(diff_id: Digest) -> int | None:
        """
        The bytes of the uncompressed tar, or None if the tree is not in the store.
        """

    def owners(diff_id: Digest) -> Deferred[Owners]:
        """
        The users and groups that own files in the tree.  For a tree of an older
        version, they are collected and recorded at the first call, which looks at
        all its files.

        @return: fires with the owners.  Cancelling ends the work.
        @raise StoreError: the tree is not in the store, or the disk refuses.
        """

    def stage() -> Deferred[str]:
        """
        Create an empty directory in C{staging/}, for the caller to fill.
        """

    def commit(staged: str, unpacked: Unpacked, blob: Digest) -> Deferred[None]:
        """
        Flush a staged tree, make it the tree of its diff ID, and record that
        C{blob} unpacks to it.  If there is a tree already that is not outdated,
        the staged one is removed instead.  An outdated one stays for mounts and
        for the layers that are registered with it.

        @raise StoreError: the disk refuses; the staged tree is removed.
        """

    def staged_size(staged: str) -> Deferred[int]:
        """
        The bytes that a staged tree occupies.
        """

    def discard(staged: str) -> Deferred[None]:
        """
        Remove a staged tree.  Fires when it has been moved away; the removal may
        take longer.
        """


class ILayers(Interface):
    """
    The layers of the store.
    """

    def get(chain_id: Digest) -> Layer | None:
        """
        The layer, or None if it is not registered.
        """

    def chain_ids() -> Set[Digest]:
        """
        All layers.  Like L{stack} and L{blobs_of}, this does not count as a use.
        """

    def stack(chain_id: Digest) -> Sequence[Layer]:
        """
        A layer and all below it, the bottom one first; none if it is not registered.
        """

    def blobs_of(chain_id: Digest) -> Sequence[Descriptor]:
        """
        The blobs that a layer is known by, which need not be in the store; none if it is
        not registered.
        """

    def register(parent: Digest | None, diff_id: Digest, blob: Descriptor) -> Deferred[Layer]:
        """
        Register a tree on top of a parent chain.  Idempotent: a registered layer
        is returned, and C{blob} recorded for it.  An outdated layer gets a newer
        tree, if there is one.

        Directories that the tar only implies get the metadata that they have
        below.  If another chain needs other metadata, this layer gets a variant
        of the tree, made of hard links.

        @raise StoreError: the parent is not registered, the tree is not in the
            store, or the disk refuses.
        """

    def separate(chain_id: Digest) -> Deferred[Layer]:
        """
        Give a layer a directory of its own, in which its tree stands: files
        that belong to this layer alone can be put beside the tree, in
        C{dirname(layer.path)}, under other names than C{tree.json}.  They go
        with the tree, and not before: a layer that had the directory earlier
        may have left some.

        The first layer that is registered with a tree owns the directory, so
        that this is quick for most.  Another one gets a copy of the tree: its
        files are hard links to the same ones, its directories are its own.  The
        other layers keep their paths, and so does this one from then on, until
        its tree is unpacked again by newer rules.  Then L{register} gives it
        another path, and this has to be called again.

        Idempotent.  When it fires, the directory and its owner are on disk.

        @return: fires with the layer, which may have another path than before.
        @raise StoreError: the layer is not registered, or the disk refuses.
        """

    def arrival(chain_id: Digest) -> Deferred[Layer]:
        """
        Wait for a layer whose tree is not outdated.

        @return: fires when it is registered, at once if it is.  Cancelling ends the
            wait.
        """


@frozen
class Image:
    """
    A name in the store.

    @ivar reference: the name.
    @ivar manifest: the manifest of the image, for one platform.
    @ivar config: its config; the config's digest is the image ID.
    @ivar resolved: the digest that the name resolved to when it was pulled: an
        index's, or the manifest's own.
    @ivar layers: the layers' blobs, bottom first.
    @ivar chain_id: the top layer, or L{None} for an image without layers.
    @ivar size: the bytes of manifest, config and blobs, each blob once.
    @ivar created: the time at which the name was set, RFC 3339 in UTC.
    @ivar origin: the repository that the image was pulled from, if it is not
        the name's.
    @ivar pinned: whether eviction spares the name.  A name stays pinned when it
        is set to another image.
    @ivar pulled: the time at which the image was pulled last, under this name or the one that it was
        tagged from; empty for an import, or if that is not known.
    """

    reference: Reference
    manifest: Descriptor
    config: Descriptor
    resolved: Digest
    layers: tuple[Descriptor, ...]
    chain_id: Digest | None
    size: int
    created: str
    origin: Repository | None = None
    pinned: bool = False
    pulled: str = ""

    @property
    def source(self) -> Repository:
        """
        The repository to fetch missing parts of the image from.
        """
        return self.reference.repository if self.origin is None else self.origin

    @property
    def parts(self) -> frozenset[Digest]:
        """
        The digests of its parts: documents, blobs, and the chain ID.
        """
        documents = (self.manifest.digest, self.config.digest, self.resolved)
        chain_ids = () if self.chain_id is None else (self.chain_id,)
        return frozenset((*documents, *(layer.digest for layer in self.layers), *chain_ids))


class IImages(Interface):
    """
    The named images of the store, which are the entries of C{index.json}.
    """

    def all() -> Sequence[Image]:
        """
        All named images, in the order of their names.
        """

    def get(reference: Reference) -> Image | None:
        """
        The image of a name, or None.
        """

    def peek(reference: Reference) -> Image | None:
        """
        The same.  Unlike L{get}, this does not count as a use.
        """

    def follow(changed: Callable[[], object], settled: Callable[[], Deferred[None]]) -> None:
        """
        Call C{changed} whenever names have changed, at once after that.

        @param settled: called after it by L{put}, which waits for the result.  It never
            fails.
        """

    def layers_changed() -> Deferred[None]:
        """
        Report to those that L{follow} the names that layers of images have other trees, or are
        gone.  It waits for them.
        """

    def put(image: Image) -> Deferred[Image]:
        """
        Set the name of an image, durably; another image of this name loses it.
        It waits for those that L{follow} the names.
        A layer's blob may be missing if its layer is registered: a tree in the
        store is never fetched again.

        @return: fires with the image of the name, which may be pinned, and whose name may have
            been set a moment before.
        @raise StoreError: the manifest, the config or a layer is not in the
            store, or the disk refuses.
        """

    def pin(reference: Reference, pinned: bool) -> Deferred[Image]:
        """
        Pin or unpin a name, durably.

        @return: fires with the changed image.
        @raise NotFound: there is no such image.
        @raise StoreError: the disk refuses.
        """

    def remove(reference: Reference) -> Deferred[None]:
        """
        Remove a name.  Its content stays until it is collected.

        @raise NotFound: there is no such image.
        @raise StoreError: the disk refuses.
        """


class IFreeSpace(Interface):
    """
    The free space on the store's disk.

    On a full disk, work that needs space waits, for ten minutes at most, and
    without a slot.
    """

    why: str = Attribute("A sentence that the disk is full; empty if it is not.")
    paused: bool = Attribute("Whether work waits for free space, so that no further work should begin.")
    given_up: bool = Attribute("Whether the disk has been full for too long to wait any longer.")
    patience: float = Attribute("Seconds for which work waits for space on a full disk.")

    def free() -> int:
        """
        The free bytes.

        @raise OSError: the system does not report them.
        """

    def now() -> float:
        """
        The current time of the clock that measures waits.
        """

    def ran_out() -> None:
        """
        Report that the disk is full.
        """

    def wait(error: DiskFull, since: float | None = None) -> Deferred[None]:
        """
        Report that the disk is full, and wait for C{error.need} free bytes, or a
        few if that is 0.

        @param since: the time of the first such failure of the same work; now
            by default.
        @return: fires when the bytes are free; fails with C{error} ten minutes
            after C{since}, and at once if the disk has been full for as long.
            Cancelling ends the wait.
        """

    def follow(changed: Callable[[], object]) -> None:
        """
        Call C{changed} whenever C{paused} or C{given_up} changes.
        """


class IStore(Interface):
    """
    The data directory.
    """

    path: str = Attribute("The data directory.")
    blobs: IBlobs = Attribute("The blobs.")
    trees: ITrees = Attribute("The trees.")
    layers: ILayers = Attribute("The layers.")
    images: IImages = Attribute("The images.")
    catalog: ICatalog = Attribute("The repositories that xferd serves as a registry.")
    incoming: IIncomingBlobs = Attribute("The upload sessions of clients that push.")
    journal: IJournal = Attribute("The journal.")
    gc: IGarbageCollector = Attribute("The garbage collector.")
    integrity: IIntegrity = Attribute("The checks of its content.")
    free_space: IFreeSpace = Attribute("The free space on the disk.")
    snapshots: ISnapshotTables = Attribute("The snapshots of container engines.")

    def discard(path: str) -> None:
        """
        Move a file or a directory of the data directory away at once, and remove it
        later.

        @raise StoreError: the disk refuses.
        """

    def usage() -> Deferred[Mapping[str, int]]:
        """
        The bytes in use on the disk: C{blobs}, C{arriving} (partial blobs) and
        C{trees}.

        @raise StoreError: the store is not open.
        """
