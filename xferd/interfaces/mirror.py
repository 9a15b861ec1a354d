# -*- test-case-name: tests.test_interfaces -*-
"""
The mirror: content of upstream registries, from the store where it is there, else
fetched while it is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.interfaces.registry import IRepository
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document


@frozen
class MirroredManifest:
    """
    A manifest or an index, as an upstream has it or had it.

    @ivar document: the manifest.
    @ivar warnings: sentences for the client: that the upstream could not be
        asked, and this is what it had before.
    @ivar stored: whether the store had it.
    """

    document: Document
    warnings: tuple[str, ...] = field(default=())
    stored: bool = field(default=False, eq=False)


@define
class UpstreamFigures:
    """
    Counters of an upstream, since the start of the daemon.

    @ivar hits: manifests and blobs that were in the store.
    @ivar misses: manifests and blobs that were fetched, or being fetched.
    @ivar stale: manifests that the upstream did not confirm.
    @ivar sent: bytes of blobs that clients got.
    @ivar fetched: bytes of blobs that the upstream sent for them.
    @ivar found: bytes that clients requested of blobs that were in the store.
    """

    hits: int = 0
    misses: int = 0
    stale: int = 0
    sent: int = 0
    fetched: int = 0
    found: int = 0

    @property
    def saved(self) -> int:
        """
        The bytes that the upstream did not have to send.
        """
        return max(0, self.sent - self.fetched)


@frozen
class TagPolicy:
    """
    How long the tags of an upstream are used, with and without it.

    @ivar lifetime: seconds for which a tag is used without a check.
    @ivar patterns: the same for the tags that match a pattern of C{*}, C{?} and
        C{[...]}; the first one that matches counts.  Infinity stands for tags that
        never move.
    @ivar stale: seconds since the last check for which a tag is served while its
        upstream does not answer.
    @ivar keep_gone: whether a tag is served that the upstream no longer has.
    """

    lifetime: float = 60.0
    patterns: tuple[tuple[str, float], ...] = ()
    stale: float = 30 * 86400.0
    keep_gone: bool = True


class IBlobReader(Interface):
    """
    One client's view of a blob that is in the store or arrives.

    Life cycle: made; C{read} any number of times; C{close}d in any case.
    """

    size: int = Attribute("The blob's size in bytes.")
    path: str | None = Attribute("The path of the blob's file, once the blob is complete and verified.")

    def read(offset: int, most: int) -> Deferred[bytes]:
        """
        Read at least one and at most C{most} bytes, as soon as there are some; at
        the blob's end, none.  Cancelling ends this wait alone.

        Of a blob of more than L{HELD_BACK} bytes, the last L{HELD_BACK} are
        returned only after its digest was verified; of a smaller one, all.

        @raise XferdError: no source delivers the bytes, the bytes were wrong, or
            the disk refuses.
        """

    def close() -> None:
        """
        Release the file and this client's interest.  A fill that has begun
        continues.  Idempotent.
        """


@frozen
class FilePart:
    """
    Bytes of a blob that can be read from its file.

    @ivar file: a descriptor of the file, which the reader may close at the next
        turn of the reactor.
    @ivar stop: the exclusive offset of the last byte.
    """

    file: int
    stop: int


class IFileReader(IBlobReader):
    """
    A reader of a blob that has a file, also while it arrives.
    """

    def part(offset: int) -> Deferred[FilePart | None]:
        """
        Wait until bytes from C{offset} on can be read from the file, by the rules of
        C{read}.  Cancelling ends this wait alone.

        @return: the bytes, or L{None} if they have no file, as the disk is full:
            C{read} returns them.
        @raise XferdError: as C{read}.
        """


class ISharedTags(Interface):
    """
    The tags that other nodes of a fleet have checked, and those that this one checks.
    """

    def is_fresh(source: IRepository, tag: str, held: Digest) -> Deferred[bool]:
        """
        Whether another node has checked lately that a tag names the stored manifest.

        @param held: the stored manifest.
        @return: fires within seconds, and without an error.  Cancelling ends the wait.
        """

    def checked(source: IRepository, tag: str, digest: Digest, ttl: float) -> None:
        """
        Report that the upstream has just named the digest of a tag.

        @param ttl: seconds for which it need not be checked again.
        """


class IMirror(Interface):
    """
    The content of upstream registries.

    Concurrent requests for the same content share one request to the upstream.
    What is fetched is kept in the store and listed in the catalog, also where the
    client that requested it has left.
    """

    def manifest(
        source: IRepository,
        wanted: str,
        client: str,
        policy: TagPolicy | None = None,
        *,
        images: bool = False,
    ) -> Deferred[MirroredManifest]:
        """
        A manifest or an index.

        @param source: the upstream's repository, with the credentials to use.
        @param wanted: a tag or a digest.
        @param client: the name of the client, for fairness.
        @param policy: the policy of the upstream; the usual one by default.
        @param images: whether the client may have the images of this name that jobs
            pulled, with whatever credentials, without the upstream's answer.
        @raise ManifestUnknown: the upstream has no such manifest.
        @raise SourceError: the upstream cannot be asked, and nothing is known
            from before.
        """

    def describe(
        source: IRepository, digest: Digest, client: str, *, images: bool = False, sure: bool = False
    ) -> Deferred[Descriptor]:
        """
        The size and type of a blob, without fetching it.

        @param images: see L{manifest}.
        @param sure: whether the upstream has to confirm a blob that is not in the store, and
            does not arrive, also if a manifest names it.
        @raise BlobUnknown: the upstream has no such blob.
        @raise SourceError: the upstream cannot be asked.
        """

    def blob(
        source: IRepository,
        digest: Digest,
        client: str,
        start: int = 0,
        stop: int | None = None,
        *,
        images: bool = False,
    ) -> Deferred[IBlobReader]:
        """
        Open a blob: from the store, or from the upstream while it arrives.

        A range far behind the bytes that have arrived comes from the upstream by
        itself, unverified, and is not kept, within limits.  So does, for one client at a time,
        what does not fit on a full disk.

        @param start: the offset of the first byte that will be read.
        @param stop: the exclusive offset of the last one; the blob's end by default.
        @param images: see L{manifest}.
        @return: fires when bytes arrive, or the blob is here.
        @raise BlobUnknown: the upstream has no such blob.
        @raise SourceError: the upstream cannot be asked.
        @raise StoreError: the disk refuses.
        """

    def sent(source: IRepository, size: int) -> None:
        """
        Report that a client got bytes of a blob.
        """

    def resume(find: Callable[[Repository], Awaitable[IRepository | None]]) -> Deferred[None]:
        """
        Begin the downloads again that an earlier daemon left unfinished.

        @param find: returns an upstream's repository by its name in the catalog, or
            L{None} if it needs a client's credentials, or is no upstream any more.
        """

    def figures() -> Mapping[str, UpstreamFigures]:
        """
        The counters of each upstream, by its host.
        """
