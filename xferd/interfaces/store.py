# -*- test-case-name: tests.test_interfaces -*-
"""
The store, as the jobs use it: trees, layers, images, room on the disk, garbage collection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.errors import DiskFull
from xferd.interfaces.blobs import IBlobs
from xferd.interfaces.journal import IJournal
from xferd.names import Digest, Reference, Repository
from xferd.oci import Descriptor

UNPACK_RULES: Final = 2
"""
The version of the rules by which a tar becomes a tree.  Raise it whenever the
same tar gives another tree than before: trees by older rules are made again at
their next use.  Trees of which no version is recorded have 0.
"""


@frozen
class Unpacked:
    """
    What became of a layer's tar.

    @ivar diff_id: the digest of the uncompressed tar.
    @ivar tar_size: the uncompressed tar's bytes.
    @ivar size: the bytes in regular files, each counted once.
    @ivar entries: the entries of the tar.
    @ivar implied: directories that the tar needs and does not list, as paths
        relative to the tree; their attributes come from the layers below.
    """

    diff_id: Digest
    tar_size: int
    size: int
    entries: int
    implied: tuple[bytes, ...] = ()


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
    @ivar outdated: whether the tree was made by older rules than
        L{UNPACK_RULES}.
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
        Whether the tree is here.
        """

    def diff_id_of(blob: Digest) -> Digest | None:
        """
        The diff ID of the tree that was unpacked from C{blob}, if it is here.
        """

    def is_outdated(diff_id: Digest) -> bool:
        """
        Whether the tree is here, and was made by older rules than
        L{UNPACK_RULES}.
        """

    def stage() -> Deferred[str]:
        """
        Make an empty directory in C{staging/}, for the caller to fill.
        """

    def commit(staged: str, unpacked: Unpacked, blob: Digest) -> Deferred[None]:
        """
        Bring a staged tree to the disk and make it the tree of its diff ID,
        remembered as what C{blob} unpacks to.  If there is one already that is
        not outdated, the staged one is removed instead.  An outdated one stays
        for the layers that are registered with it, and for mounts.

        @raise StoreError: the disk refuses; the staged tree is removed.
        """

    def staged_size(staged: str) -> Deferred[int]:
        """
        The bytes that a staged tree occupies.
        """

    def discard(staged: str) -> Deferred[None]:
        """
        Remove a staged tree.  Fires when it is out of the way, though the
        removal may go on behind it.
        """


class ILayers(Interface):
    """
    The layers of the store.
    """

    def get(chain_id: Digest) -> Layer | None:
        """
        The layer, or None.
        """

    def register(parent: Digest | None, diff_id: Digest, blob: Descriptor) -> Deferred[Layer]:
        """
        Put a tree on top of a parent chain.  Idempotent: what is registered
        already is returned, and C{blob} remembered for it.  A layer that is
        outdated gets the tree that has been made anew, if there is one.

        Directories that the tar only implied get the attributes that they
        have below; where another chain needs them differently, this layer
        gets a tree of its own, made of hard links.

        @raise StoreError: the parent is not registered, the tree is not here,
            or the disk refuses.
        """


@frozen
class Image:
    """
    A name in the store.

    @ivar reference: the name.
    @ivar manifest: the manifest of the image, for one platform.
    @ivar config: its config; the config's digest is the image ID.
    @ivar resolved: the digest that the name stood for when it was pulled: an
        index's, or the manifest's own.
    @ivar layers: the layers' blobs, bottom first.
    @ivar chain_id: the top layer, or L{None} for an image without layers.
    @ivar size: the bytes of manifest, config and blobs, each blob once.
    @ivar created: when the name was given, RFC 3339 in UTC.
    @ivar origin: the repository that the image was pulled from, where that is
        not its name's.
    @ivar pinned: whether the name stays when the store needs room.  The name
        keeps this when it is given to another image.
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

    @property
    def source(self) -> Repository:
        """
        The repository to ask for what the store lacks of the image.
        """
        return self.reference.repository if self.origin is None else self.origin

    @property
    def parts(self) -> frozenset[Digest]:
        """
        The digests of what it is made of: documents, blobs, and the chain ID.
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
        Every named image, by name.
        """

    def get(reference: Reference) -> Image | None:
        """
        The image of this name, or None.
        """

    def put(image: Image) -> Deferred[None]:
        """
        Give an image its name; one that had it before loses it.  When this
        fires, the name is on disk, and so is all that it stands for.  A
        layer's blob may be absent where its layer is registered: a tree that
        is here is never fetched again.

        @raise StoreError: the manifest, the config or a layer is not here, or
            the disk refuses.
        """

    def pin(reference: Reference, pinned: bool) -> Deferred[Image]:
        """
        Pin a name, or unpin it.  When this fires, it is on disk.

        @return: the image as it is then.
        @raise NotFound: there is no such image.
        @raise StoreError: the disk refuses.
        """

    def remove(reference: Reference) -> Deferred[None]:
        """
        Take a name away.  What it stood for stays until it is collected.

        @raise NotFound: there is no such image.
        @raise StoreError: the disk refuses.
        """


@frozen
class Freed:
    """
    What was freed.

    @ivar blobs: how many blobs.
    @ivar trees: how many trees, those made of hard links too.
    @ivar layers: how many records of layers.
    @ivar partials: how many partial blobs.
    @ivar bytes: of all these files.
    """

    blobs: int = 0
    trees: int = 0
    layers: int = 0
    partials: int = 0
    bytes: int = 0


class IGarbageCollector(Interface):
    """
    The collection of what nothing in the store names or uses.
    """

    def lease() -> Callable[[], None]:
        """
        Begin to use the store: whatever it is asked about from now on, and
        whatever comes into it, stays until the end of the use.  An image
        that is asked for by name stays with all its parts.

        @return: to be called at the end.  Idempotent.
        """

    def collect(
        dry_run: bool, partials: bool = False, abandoned: Set[Digest] = frozenset()
    ) -> Deferred[Freed]:
        """
        Free the layers, trees and blobs that no image needs, no entry that
        other tools made in C{index.json} leads to, nothing has mounted and no
        use relies on, and partial blobs that nobody has gone on with for long.

        @param dry_run: free nothing.
        @param partials: also free the partial blobs that no transfer uses.
        @param abandoned: of these blobs, free what has arrived, too, unless a
            transfer uses it.
        @return: fires with what was freed, or would be.  It is out of the way
            by then, though the removal may go on behind it.
        @raise StoreError: the disk refuses.
        """

    def evict(
        excess: int, spare: Set[Reference] = frozenset(), enough: bool = False
    ) -> Deferred[list[Reference]]:
        """
        Take the names of images away, so that so many bytes can be collected,
        or as many as possible: of the image first that was last used the
        longest ago.  An image that a job, a mount or a pin holds stays.

        What images share is counted for each of them, so that never more of
        them go than are necessary, and perhaps too few.

        @param spare: the names of images that stay.
        @param enough: take none away if that would not be enough.
        @return: fires with the names.
        @raise StoreError: the disk refuses.
        """

    def removed() -> Deferred[None]:
        """
        Wait until what was freed is off the disk.
        """


class IFreeSpace(Interface):
    """
    The room on the store's disk.

    Where a disk has none, what needs some waits: for ten minutes at most, and
    without a slot.
    """

    why: str = Attribute("That the disk is full, in a sentence; empty if it is not.")
    paused: bool = Attribute("Whether work waits for room, so that nothing further should begin.")
    given_up: bool = Attribute("Whether the disk has been full for too long to wait any more.")
    patience: float = Attribute("Seconds for which work waits on a full disk.")

    def free() -> int:
        """
        The bytes that are free.

        @raise OSError: the disk does not say.
        """

    def now() -> float:
        """
        The time by which this waits.
        """

    def ran_out() -> None:
        """
        Report that the disk is full.
        """

    def wait(error: DiskFull, since: float | None = None) -> Deferred[None]:
        """
        Report that the disk is full, and wait for room: for C{error.need}
        bytes, or a few if that is 0.

        @param since: the time of the first such failure of the same work; now
            by default.
        @return: fires when there is room; fails with C{error} ten minutes
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
    journal: IJournal = Attribute("The journal.")
    gc: IGarbageCollector = Attribute("The collection of what is of no use.")
    free_space: IFreeSpace = Attribute("The room on the disk.")

    def usage() -> Deferred[Mapping[str, int]]:
        """
        The bytes that are on the disk: C{blobs}, C{arriving} (what is of
        blobs to come) and C{trees}.

        @raise StoreError: the store is not open.
        """
