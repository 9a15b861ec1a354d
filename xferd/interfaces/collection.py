# -*- test-case-name: tests.test_interfaces -*-
"""
Garbage collection: what is removed, and what is kept for which job.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set

from attrs import frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.names import Digest, Reference, Repository


@frozen
class Freed:
    """
    The result of a collection.

    @ivar blobs: the number of blobs removed.
    @ivar trees: the number of trees, including variants.
    @ivar layers: the number of records of layers.
    @ivar partials: the number of partial blobs.
    @ivar bytes: the bytes of all these files.
    """

    blobs: int = 0
    trees: int = 0
    layers: int = 0
    partials: int = 0
    bytes: int = 0


@frozen
class Evicted:
    """
    What an eviction removed.

    @ivar images: names of images.
    @ivar manifests: manifests of mirrored repositories.
    """

    images: tuple[Reference, ...] = ()
    manifests: tuple[tuple[Repository, Digest], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.images or self.manifests)


class ILayerUser(Interface):
    """
    Something outside of the store that layers are kept for, such as a container
    engine.
    """

    name: str = Attribute("Its name in messages, such as C{containerd main}.")

    def refresh() -> Deferred[None]:
        """
        Find out what it needs by now, for example from files that an engine
        writes.  Awaited before each collection and each eviction, both of which
        fail if this fails.  It ends within a bounded time: pulls that need space
        wait for it.  Cancelling ends it.
        """

    def used() -> Mapping[Digest, Sequence[str]]:
        """
        What it needs: chain IDs of layers, each of which is kept with all its
        parents and their trees, and digests of blobs.  Each has the texts that
        name what needs it, such as C{snapshot 3 of namespace k8s.io}.

        Answered from memory.  Called before each batch of removals, so it should
        return the same mapping as long as nothing changes.  Chain IDs and digests
        that are not in the store are ignored.
        """


@frozen
class KeptFor:
    """
    What is kept for an L{ILayerUser}.

    @ivar user: its name.
    @ivar layers: the number of layers that it needs, with all their parents.
    @ivar bytes: the bytes in their trees.
    @ivar by: the texts that name what needs them; many are cut short.
    """

    user: str
    layers: int
    bytes: int
    by: tuple[str, ...] = ()


class ICopies(Interface):
    """
    The copies of blobs on other machines.
    """

    def elsewhere(digests: Collection[Digest]) -> Deferred[Set[Digest]]:
        """
        Find out which blobs enough other machines have.

        @return: fires within seconds, and without an error; cancelling ends the wait.
        """

    def removed(digests: Collection[Digest]) -> None:
        """
        Report that blobs are not here any more.
        """


class IGarbageCollector(Interface):
    """
    Removes content that nothing names or uses.
    """

    def add_user(user: ILayerUser) -> None:
        """
        Keep what a user needs from now on.  Its layers stay without a name; an
        image stays at an eviction if its top layer, or one on top of that, is
        needed.  Idempotent.
        """

    def use_copies(copies: ICopies) -> None:
        """
        Remove at evictions, of what was not used for long, first what other machines
        have, and report the blobs that are removed, from now on.
        """

    def used_by(chain_id: Digest | None) -> Sequence[str]:
        """
        What needs a layer itself, and not only one on top of it: texts such as
        C{containerd main: snapshot 3 of namespace k8s.io}, from memory.  The
        name of the user ends at the first colon.  Ten at most, and
        then the number of the others.
        """

    def kept_for() -> Sequence[KeptFor]:
        """
        What is kept for each user, from memory.
        """

    def lease() -> Callable[[], None]:
        """
        Acquire a lease: content that the store is asked about from now on, and
        content that is added, stays until the lease is released.  An image that
        is requested by name stays with all its parts.

        @return: a function that releases the lease.  Idempotent.
        """

    def collect(
        dry_run: bool,
        partials: bool = False,
        abandoned: Set[Digest] = frozenset(),
        without: Set[Reference] = frozenset(),
    ) -> Deferred[Freed]:
        """
        Remove layers, trees and blobs that no image needs, no entry of another
        tool in C{index.json} leads to, no mount or L{ILayerUser} uses and no
        lease keeps, and partial blobs that have not been used for long.

        @param dry_run: remove nothing.
        @param partials: also remove all partial blobs that no transfer uses.
        @param abandoned: also remove the partial blobs of these digests, unless
            a transfer uses them.
        @param without: for a dry run: the names of images that count as removed.
        @return: fires with the content that was removed, or would be.  It has
            been moved away by then; the removal may take longer.
        @raise StoreError: the disk refuses, or an L{ILayerUser} cannot find out
            what it needs.
        """

    def evict(
        excess: int,
        spare: Set[Reference] = frozenset(),
        enough: bool = False,
        keeps: Callable[[Repository, Digest], bool] = lambda *_: False,
    ) -> Deferred[Evicted]:
        """
        Remove names of images, and manifests of mirrored repositories, the least
        recently used first, so that at least C{excess} bytes can be collected, or
        as many as possible.  Images that a job, a mount, an L{ILayerUser} or a
        pin keeps stay, and what was pushed to xferd's own repositories.

        Content that images share counts for each of them, so that not too many
        names are removed, but possibly too few.

        @param spare: the names of images that stay.
        @param enough: remove none if that would not suffice.
        @param keeps: whether a rule keeps a manifest.
        @return: fires with what was removed.
        @raise StoreError: the disk refuses, or an L{ILayerUser} cannot find out
            what it needs.
        """

    def removed() -> Deferred[None]:
        """
        Wait until the removed content is deleted from the disk.
        """
