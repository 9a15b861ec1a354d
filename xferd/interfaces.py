# -*- test-case-name: tests.test_interfaces -*-
"""
The zope Interfaces at which the rooms of xferd meet, with their life cycles,
and the values that cross them.

C{transfer}, C{registry}, C{store} and C{unpack} do not import one another;
C{jobs} joins them through what is written here.

Cancelling a Deferred from here cancels what it stands for, unless its
docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IReactorCore,
    IReactorPluggableNameResolver,
    IReactorProcess,
    IReactorSSL,
    IReactorTCP,
    IReactorThreads,
    IReactorTime,
    IReactorUNIX,
)
from zope.interface import Attribute, Interface

if TYPE_CHECKING:
    from xferd.credentials import Credentials
    from xferd.errors import DiskFull
    from xferd.names import Digest, Reference, Repository
    from xferd.oci import Descriptor, Document


class IReactor(
    IReactorCore,
    IReactorTime,
    IReactorTCP,
    IReactorSSL,
    IReactorUNIX,
    IReactorProcess,
    IReactorThreads,
    IReactorPluggableNameResolver,
):
    """
    What the daemon as a whole needs of a reactor.  A room asks for less.
    """


WallClock = Callable[[], float]
"""
Reports the seconds since the epoch.  It makes stamps that people and other
programs read; it may jump at any time, so durations are measured with
L{IReactorTime}.
"""


# ------------------------------------------------------------ transfer <-> jobs


class ISource(Interface):
    """
    A place that a transfer can take its bytes from.  Every watcher brings one.
    """

    host: str = Attribute("The registry's host, by which slots and pauses are counted.")
    label: str = Attribute("What to call the source on the page: host/path, never a secret.")
    identity: Hashable = Attribute(
        "Equal for sources that would behave alike: host, repository, credentials."
    )
    account: Hashable = Attribute(
        "Whose credentials are used at the host, by which pauses are counted: equal for equal credentials, "
        "and no secret; None for those that the daemon has for the host, or for anonymous access."
    )


class IProgressSink(Interface):
    """
    Where a watcher's progress goes.  Providers only remember: C{put} neither
    blocks, nor raises, nor calls back.
    """

    def put(key: Hashable, item: Any) -> None:
        """
        Remember C{item} as the newest under C{key}, in place of an older one.
        """


# ------------------------------------------------------------ registry <-> jobs


class IBlobBody(Interface):
    """
    The body of one answer to a GET of a blob.

    Life cycle: opened (headers are here, the transport is paused), then
    either C{deliver}ed once or C{abandon}ed.  One that is neither holds its
    connection.
    """

    start: int = Attribute(
        "The offset in the blob, in bytes, of the first byte to come: 0 if Range was ignored."
    )
    total: int | None = Attribute("The blob's size in bytes as the registry says it, or None if it does not.")

    def deliver(sink: Callable[[bytes], Deferred[None] | None]) -> Deferred[None]:
        """
        Hand each piece, of 1 byte to some 64 KiB, to C{sink} as it arrives.

        Where C{sink} returns a Deferred, no more is read until it fires; what
        is in flight still comes.  The time is nobody's silence.  An exception
        from C{sink} ends the body and fails the Deferred with it.  Cancelling
        drops the connection at once, and cancels what C{sink} returned.

        @return: fires when the last byte was handed over.
        @raise ConnectionFailed: the connection broke.
        @raise Truncated: fewer bytes came than the headers promised.
        @raise TimedOut: silence, or fewer bytes a second than the floor.
        """

    def abandon() -> None:
        """
        Drop the body and its connection.  Idempotent.
        """


class IBlobSource(ISource):
    """
    A source of blobs: one repository of one registry, with the credentials of
    one client.
    """

    def open(digest: Digest, offset: int, end: int | None = None) -> Deferred[IBlobBody]:
        """
        Ask for a blob from C{offset} bytes on.

        The answer may start at 0 all the same: look at L{IBlobBody.start}.
        Then it may also go on behind C{end}.

        @param end: where the answer is to end, before the blob does.
        @raise Denied: the credentials do not do, after one refresh of the token.
        @raise BlobUnknown: the repository has no such blob.
        @raise TooManyRequests: with C{retry_after}, where the registry names it.
        @raise RegistryUnavailable: 5xx.
        @raise RegistryError: any other status, a 206 that is not what was
            asked for, or a redirect too many.
        @raise SizeMismatch: the offset lies behind the blob's end (416).
        @raise ConnectionFailed: no connection.
        @raise TimedOut: connect, TLS or headers took too long.
        """

    def confirm(digest: Digest) -> Deferred[None]:
        """
        Ask the registry itself, no mirror, whether the client may have a
        blob, without fetching it.

        @raise Denied: the credentials do not do.
        @raise BlobUnknown: the repository has no such blob.
        @raise SourceError: as for C{open}.
        """

    def distrust(digest: Digest) -> None:
        """
        What came for C{digest} was not it: from now on it is to come from
        the registry itself, where a mirror may have given it.
        """


class IContent(Interface):
    """
    The bytes of a blob, to be sent.  They may still be arriving.

    They are asked for piece by piece, one at a time, and again from an
    earlier offset where a registry has lost some.
    """

    size: int = Attribute("How many bytes there are, or will be.")

    def ready(offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        Wait until a request that sends bytes from C{offset} on may begin: one
        that waited for its bytes would keep a connection and a slot.

        @param size: how many bytes the request would have.
        @param least: how many it must have, if the blob does not end before.
        @return: fires with how many can be read without waiting: C{size}, or
            what is left of the blob, or at least C{least} where more come
            slowly.  Cancelling ends the wait.
        @raise Exception: as for C{read}; or none will come soon, and the
            attempt is to end here.
        """

    def read(offset: int, most: int) -> Deferred[bytes]:
        """
        Read from C{offset} on: at least one byte, at most so many, as soon as
        there are some.  At the end, nothing.  Cancelling ends the wait, and
        no other.

        @raise XferdError: the bytes will not come, or the disk refuses.
        """


@frozen
class UploadSession:
    """
    What must be known to go on with an upload.

    @ivar location: the session's URL.  It may be signed: not for the log.
    @ivar offset: the bytes that the registry has confirmed.
    @ivar used: when it was last used, in seconds since the epoch.
    @ivar isolated: whether it belongs to one account alone, as clients are
        kept apart.
    """

    location: str = field(repr=False)
    offset: int
    used: float = field(default=0.0, eq=False)
    isolated: bool = field(default=False, eq=False)


@frozen
class Pushed:
    """
    How a blob came to be in a repository.

    @ivar how: C{exists}, C{mounted} or C{uploaded}.
    @ivar source: the repository that it was mounted from, where one is known.
    """

    how: str
    source: Repository | None = None


class IBlobTarget(ISource):
    """
    One repository of one registry to put blobs into, with the credentials of
    one client.
    """

    def push(
        digest: Digest,
        content: IContent,
        candidates: Sequence[Repository],
        session: UploadSession | None,
        remember: Callable[[UploadSession | None], None],
        report: Callable[[int], None],
    ) -> Deferred[Pushed]:
        """
        Make one attempt to bring a blob into the repository: look whether it
        is there, mount it, or send it (OCI distribution-spec, "Pushing blobs").

        @param candidates: repositories of this registry that may have it,
            the best first.
        @param session: an upload that an earlier attempt began; one that the
            registry no longer knows is begun anew.
        @param remember: told of each session that begins and of each offset
            that the registry confirms, and L{None} when there is none any
            more, also where the blob was there or was mounted after all.
        @param report: told how many bytes of the blob the registry should
            have: more with each piece, and fewer after a setback.
        @return: fires when the registry has the blob.  Cancelling stops the
            body at once and leaves the session as it is: see L{abort}.
        @raise SourceError: as for L{IBlobSource.open}; the session that was
            remembered last may be gone on with.  Breaks after which the
            registry has more than before them are not raised.
        @raise DigestMismatch: the registry got something else.
        @raise XferdError: what C{content} failed with.
        """

    def abort(session: UploadSession) -> Deferred[None]:
        """
        Delete an upload session.  Fires within a bounded time, also where the
        registry does not care; never fails.
        """


class IKeychain(Interface):
    """
    Who somebody is, at all registries or at some.
    """

    identity: Hashable = Attribute(
        "Equal for keychains that would give the same.  Tokens and transfers' sources are told apart by it."
    )
    account: Hashable = Attribute("The same without secrets, see L{ISource.account}; may be kept for long.")
    where: str = Attribute("Where credentials are looked for, as errors name it; may be empty.")

    def lookup(host: str, path: str) -> Deferred[Credentials | None]:
        """
        The credentials for a registry, or L{None}.

        @param host: as people write it, C{docker.io}.
        @param path: the repository, or the empty string for none in
            particular.
        @raise CredentialsUnavailable: a helper should know them, and fails.
        """

    def forget(host: str) -> None:
        """
        The registry did not accept what L{lookup} gave: look anew next time.
        """


class IRegistry(Interface):
    """
    One registry, seen with the credentials of one client.
    """

    host: str = Attribute("The registry's host as people write it.")

    def manifest(repository: Repository, wanted: str) -> Deferred[Document]:
        """
        Fetch a manifest or an index.

        @param wanted: a tag or a digest; bytes asked for by digest are
            checked against it, and against Docker-Content-Digest in any case.
        @raise ManifestUnknown: there is none.
        @raise SourceError: as for L{IBlobSource.open}.
        @raise BadDocument: it is larger than L{xferd.oci.MAX_DOCUMENT}.
        """

    def document(repository: Repository, descriptor: Descriptor) -> Deferred[bytes]:
        """
        Fetch a small blob, a config, whole and checked for size and digest.

        @raise DigestMismatch: the bytes are not the descriptor's.
        @raise SourceError: as for L{IBlobSource.open}.
        """

    def blobs(repository: Repository) -> IBlobSource:
        """
        The repository as a source of blobs.
        """

    def target(repository: Repository) -> IBlobTarget:
        """
        The repository as a place to put blobs into.
        """

    def put_manifest(repository: Repository, wanted: str, document: Document) -> Deferred[None]:
        """
        Put a manifest or an index, byte for byte, under its own media type
        (OCI distribution-spec, "Pushing Manifests").  What it names must be
        there already.

        Where it has a C{subject} and the registry has no referrers API, the
        referrers tag is maintained ("Pushing Manifests with Subject").

        @param wanted: a tag, or the document's digest.
        @raise DigestMismatch: the registry says that it got something else.
        @raise BlobUnknown: it misses something that the manifest names.
        @raise BadDocument: its C{subject} is no descriptor.
        @raise SourceError: as for L{IBlobSource.open}.
        """

    def referrers(repository: Repository, digest: Digest) -> Deferred[tuple[Descriptor, ...]]:
        """
        The manifests that have this one as their subject: by the referrers
        API, or the referrers tag where there is none ("Listing Referrers").

        @raise SourceError: as for L{IBlobSource.open}.
        """

    def check() -> Deferred[None]:
        """
        See whether the registry answers, and accepts the client's
        credentials, if it wants any.

        @raise SourceError: as for L{IBlobSource.open}.
        """


class IRegistries(Interface):
    """
    All registries: connections, tokens and what was learned are shared here.
    """

    def registry(host: str) -> IRegistry:
        """
        The registry C{host}, with the credentials that the daemon's user has
        for it, unless there are others: see L{seen_by}.
        """

    def seen_by(credentials: Mapping[str, Credentials]) -> IRegistries:
        """
        The same registries, as a client sees them who brings credentials for
        some.  No token of his is used for another, nor another's for him.

        @param credentials: by host, as people write it.
        """

    def close() -> Deferred[None]:
        """
        Close idle connections; fires within a bounded time.
        """


# --------------------------------------------------------------- store <-> jobs


class IFollower(Interface):
    """
    Somebody who reads a blob's file while it grows.

    Life cycle: any number of C{grown}; C{restarted} begins anew, with another
    file; C{sealed} is the end, and its bytes are what their digest says.
    """

    def grown(path: str, size: int) -> None:
        """
        The first C{size} bytes of the file at C{path} are there to be read.
        """

    def restarted() -> None:
        """
        The bytes were wrong and are gone; whatever was made of them is void.
        """

    def sealed(path: str, size: int) -> None:
        """
        The blob is whole and verified, at C{path} from now on (a file that
        is open already stays valid).
        """


class IPartial(Interface):
    """
    A blob while it arrives: a file in C{ingest/}, written by one owner.

    Life cycle: open, at C{rest} in between, then C{commit}ted (it is a blob
    now) or C{close}d (the bytes stay, for later).  A commit that fails for its
    content empties it and leaves it open.
    """

    digest: Digest = Attribute("What the blob must be.")
    size: int | None = Attribute("How many bytes it must have, or None if nobody knows.")
    offset: int = Attribute("How many bytes are here, up to the first gap, and hashed: where to go on.")
    spans: Sequence[tuple[int, int]] = Attribute(
        "What is here behind that: parts, each a start and a stop, in order.  One that starts at offset is "
        "being hashed."
    )

    def write(data: bytes) -> None:
        """
        Append and hash some bytes, at once.

        @raise SizeMismatch: there are more than C{size}; none was written.
        @raise DiskFull: no space is left.  What was there before stays.
        @raise StoreError: the disk refuses for another reason.
        """

    def write_at(offset: int, data: bytes) -> None:
        """
        Write some bytes in their place, at once.  At L{offset} it is as
        L{write}; behind it they are hashed when all in front of them are here,
        and followers are told only then.

        @raise SizeMismatch: as L{write}.
        @raise StoreError: as L{write}, also for bytes before L{offset}.
        """

    def trim() -> None:
        """
        Throw away what is behind the first gap, and what is being hashed.
        """

    def restart() -> None:
        """
        Throw the bytes away and begin with an empty file.  Followers are told.
        """

    def commit() -> Deferred[None]:
        """
        Check size and digest, bring the bytes to the disk and make them a
        blob.  Followers are told.  Cancelling waits for the disk.

        @raise DigestMismatch: the bytes are wrong; they were thrown away.
        @raise SizeMismatch: as above.
        @raise StoreError: the disk refuses.
        """

    def rest() -> None:
        """
        Close the file for now: nothing is written before C{resume}.  What is
        known of its bytes is kept.  Idempotent; after C{commit} or C{close} it
        does nothing.
        """

    def resume() -> None:
        """
        Open the file again after a rest.  If it is not as it was, begin with
        an empty one; followers are told.

        @raise StoreError: the disk refuses; it is still at rest.
        """

    def close() -> None:
        """
        Let go of the file and keep its bytes.  Idempotent; after C{commit} it
        does nothing.
        """

    def follow(follower: IFollower) -> None:
        """
        Tell C{follower} of all that is here now and of all that comes.
        """

    def unfollow(follower: IFollower) -> None:
        """
        Tell it nothing more.  Idempotent.
        """


class IUnnamed(Interface):
    """
    A blob while it arrives whose digest nobody knows yet.

    Life cycle: open, then C{commit}ted (it is a blob now) or C{close}d (its
    bytes are gone).
    """

    size: int = Attribute("How many bytes are here.")

    def write(data: bytes | memoryview) -> None:
        """
        Append and hash some bytes, at once.

        @raise DiskFull: no space is left.
        @raise StoreError: the disk refuses for another reason.
        """

    def commit() -> Deferred[Digest]:
        """
        Bring the bytes to the disk and make them a blob.  Cancelling waits
        for the disk.

        @return: fires with their digest.
        @raise StoreError: the disk refuses.
        """

    def close() -> None:
        """
        Throw the bytes away.  Idempotent; after C{commit} it does nothing.
        """


class IBlobs(Interface):
    """
    The content-addressed blobs of the store.
    """

    def has(digest: Digest) -> bool:
        """
        Whether the blob is here, whole and verified.
        """

    def size(digest: Digest) -> int | None:
        """
        The blob's size in bytes, or None if it is not here.
        """

    def held(digest: Digest) -> int:
        """
        The bytes of a partial blob that are on the disk.
        """

    def path(digest: Digest) -> str:
        """
        Where the blob's file is, or would be.
        """

    def read(digest: Digest) -> Deferred[bytes]:
        """
        A document's bytes, checked against the digest again.

        @raise NotFound: it is not here.
        @raise StoreError: it is damaged, or no document but something larger
            than L{xferd.oci.MAX_DOCUMENT}.
        """

    def put(digest: Digest, data: bytes) -> Deferred[None]:
        """
        Keep a document.  When this fires, it is on disk.

        @raise DigestMismatch: C{data} is something else.
        @raise StoreError: the disk refuses.
        """

    def partial(digest: Digest, size: int | None) -> Deferred[IPartial]:
        """
        Open the blob's partial file, with the bytes of an earlier try, hashed
        again, if there are some.

        It has one owner at a time: where the one before has not closed it yet,
        because it waits for the disk, this waits for a minute at most.

        @raise StoreError: it is still open, or the disk refuses.
        """

    def unnamed() -> Deferred[IUnnamed]:
        """
        Begin a blob whose digest will be known when all its bytes are here.

        @raise StoreError: the disk refuses.
        """


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

    def known(blob: Digest) -> Digest | None:
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

    def weigh(staged: str) -> Deferred[int]:
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


class ICollection(Interface):
    """
    The collection of what nothing in the store names or uses.
    """

    def use() -> Callable[[], None]:
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


@frozen
class IdempotencyKey:
    """
    A key that a client sent with a request for a job.

    @ivar client: the client's name: each has its own keys.
    @ivar fingerprint: stands for the body of the request.
    @ivar job_id: the job that the request began.
    @ivar created: when, in seconds since the epoch.
    """

    client: str
    key: str
    fingerprint: bytes
    job_id: str
    created: float


class IRoom(Interface):
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


class IJournal(Interface):
    """
    What is remembered over a restart, besides the content.
    """

    def record_job(record: Mapping[str, Any]) -> Deferred[None]:
        """
        Remember a job as the API shows it (DESIGN: "A job is"), in place of
        what was remembered of it.
        """

    def record_attempt(record: Mapping[str, Any]) -> Deferred[None]:
        """
        Remember one attempt of a transfer: C{transfer}, C{kind}, C{digest},
        C{source}, C{attempt}, C{started}, C{finished}, C{bytes_done}, C{code},
        C{error}.
        """

    def attempts(transfers: Sequence[str], limit: int) -> Deferred[list[dict[str, Any]]]:
        """
        The newest attempts of some transfers, the oldest of them first.

        @param transfers: their ids.
        @param limit: how many attempts at most.
        """

    def job(job_id: str) -> Deferred[dict[str, Any] | None]:
        """
        What is remembered of a job, or L{None}.
        """

    def jobs(limit: int, before: tuple[str, str] | None = None) -> Deferred[list[dict[str, Any]]]:
        """
        The newest jobs, the newest first, by C{created} and C{id}.

        @param before: only jobs that are older than this C{created} and C{id}.
        """

    def record_key(kept: IdempotencyKey) -> Deferred[None]:
        """
        Remember an idempotency key, in place of an older one of that name.
        """

    def keys(since: float) -> Deferred[list[IdempotencyKey]]:
        """
        The idempotency keys that were created after C{since}, in seconds
        since the epoch, in the order in which they were recorded.
        """

    def unfinished(reference: str) -> Deferred[list[dict[str, Any]]]:
        """
        The jobs of an image, by its full name, that did not get done.
        """

    def interrupted() -> Deferred[list[dict[str, Any]]]:
        """
        The jobs that an earlier daemon left queued or running.
        """

    def record_upload(
        repository: Repository, digest: Digest, session: UploadSession | None
    ) -> Deferred[None]:
        """
        Remember how to go on with the upload of a blob, in place of what was
        remembered of it; L{None} forgets it.
        """

    def uploads() -> Deferred[dict[tuple[Repository, Digest], UploadSession]]:
        """
        The uploads that were not finished.
        """

    def record_holder(repository: Repository, digest: Digest) -> Deferred[None]:
        """
        Remember that a repository has a blob, so that it may be mounted from
        there.
        """

    def holders(host: str, digest: Digest) -> Deferred[list[Repository]]:
        """
        The repositories of a registry that had a blob when they were last
        seen, the one that was seen last first; a few at most.
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
    collection: ICollection = Attribute("The collection of what is of no use.")
    room: IRoom = Attribute("The room on the disk.")

    def usage() -> Deferred[Mapping[str, int]]:
        """
        The bytes that are on the disk: C{blobs}, C{arriving} (what is of
        blobs to come) and C{trees}.

        @raise StoreError: the store is not open.
        """


# -------------------------------------------------------------- unpack <-> jobs


@frozen
class UnpackLimits:
    """
    How much one layer may ask for.  The defaults let every sane image pass.

    @ivar entries: entries in the tar.
    @ivar size: bytes of the uncompressed tar.
    @ivar header: bytes of one entry's extended headers, and of its xattrs.
    @ivar depth: components in one path.
    @ivar ratio: uncompressed bytes for each compressed byte; looked at only
        above 64 MiB.
    """

    entries: int = 2_000_000
    size: int = 128 * 1024**3
    header: int = 1024 * 1024
    depth: int = 256
    ratio: int = 1100


@frozen
class UnpackProgress:
    """
    How far a layer's unpacking is.

    @ivar consumed: compressed bytes read.
    @ivar entries: entries written.
    """

    consumed: int = 0
    entries: int = 0


class Displaced(Exception):
    """
    The process that unpacked a layer whose bytes had ceased to arrive made
    room for another layer: unpack it again once bytes arrive.
    """


class IUnpacking(IFollower):
    """
    The unpacking of one layer, which follows the blob's growing file.

    Life cycle: made; C{grown} any number of times; then C{sealed}, after
    which C{result} fires with the layer's facts, or with what is wrong with
    it.  C{restarted}, or cancelling C{result}, ends the work at once, and
    C{result} fails with CancelledError once no process touches the staging
    directory any more.
    """

    result: Deferred[Unpacked] = Attribute(
        "Fires with Unpacked; fails with BadLayer, StoreError, DiskFull, WorkerLost, Displaced or "
        "CancelledError. It may fail before the blob is sealed: then the bytes may be wrong, not the layer."
    )
    progress: UnpackProgress = Attribute("The newest progress.")


class IUnpacker(Interface):
    """
    The worker processes that unpack layers.
    """

    workers: int = Attribute("How many layers unpack at a time, at least 1.  May be set at any time.")
    busy: int = Attribute("How many do now.")
    least: int = Attribute("Bytes of a growing blob with which its unpacking begins.")
    sandbox: Mapping[str, str] | None = Attribute(
        "The measures of the sandbox of layers' processes, each with the reason why it is not in force, "
        "which is empty if it is; None until the worker has reported."
    )

    def unpack(
        staged: str,
        compression: str,
        notify: Callable[[UnpackProgress], None],
        algorithm: str = "sha256",
        moving: Callable[[], bool] = lambda: True,
    ) -> IUnpacking:
        """
        Begin to unpack a layer.

        With more layers than workers, the first asked is the first begun.

        @param staged: an empty directory, which becomes the tree.
        @param compression: C{tar}, C{gzip} or C{zstd}: what the media type
            says.  What the bytes say wins.
        @param notify: called with newer progress, at most ten times a second.
        @param algorithm: the algorithm of the diff ID.
        @param moving: reports whether bytes of the blob are arriving.  While
            they are not, a process that has read all there is may be ended to
            make room for another.
        """

    def start() -> None:
        """
        Begin to work.  Processes may start now or with the first layer.
        """

    def stop() -> Deferred[None]:
        """
        End all processes; fires when they are gone.
        """


# ----------------------------------------------------------------- jobs <-> web


@frozen
class Event:
    """
    One item of an event stream.

    @ivar kind: C{job}, C{layer}, C{transfer} or C{image}.
    @ivar data: the item as JSON has it; of an image that was removed, its
        C{reference} and C{"removed": true}.
    @ivar final: whether this is the last word on its subject.
    """

    kind: str
    data: Mapping[str, Any] = field(hash=False)
    final: bool = False


class IEventStream(Interface):
    """
    One client's view of what happens: the newest item of each subject.

    A reader that is slow misses steps in between, never the last one.
    """

    position: str = Attribute(
        "Where to go on after all that get() gave so far; empty if there is no going on yet."
    )
    resumed: bool = Attribute("Whether it goes on where an earlier stream was, and does not begin anew.")

    def get() -> Deferred[list[Event]]:
        """
        Wait for news and take it, oldest subject first.  The first call gives
        the present state of everything.  One call at a time.

        @return: fires with at least one item, or with an empty list when the
            stream has ended.  Cancelling ends only the wait.
        """

    def close() -> None:
        """
        End the stream; a waiting C{get} gives an empty list.  Idempotent.
        """


class IUpkeep(Interface):
    """
    What clients ask of the store's images, which takes no job.
    """

    def tag(reference: str, name: str) -> Deferred[Image]:
        """
        Give an image of the store another name, too; an image that had it
        before loses it.  When this fires, the name is on disk.

        @return: the image under its new name.
        @raise BadReference: one of them is no reference, or C{name} has a
            digest.
        @raise NotFound: the store has no image C{reference}.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def pin(reference: str, pinned: bool) -> Deferred[Image]:
        """
        Pin an image, which then stays when the store needs room, or unpin it.
        When this fires, it is on disk.

        @return: the image as it is then.
        @raise BadReference: C{reference} is none.
        @raise NotFound: the store has no such image.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def remove(reference: str) -> Deferred[Freed]:
        """
        Take an image's name away, and free what nothing needs any more, and
        what unfinished jobs have fetched for this name.  Where the name is
        none, and there is something of the latter, only that is freed.

        @raise BadReference: C{reference} is none.
        @raise NotFound: the store has no such image.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """

    def collect(dry_run: bool, partials: bool = False) -> Deferred[Freed]:
        """
        Free what nothing needs, or only say what that would be.

        @param partials: also free the partial blobs that no transfer uses.
        @raise Interrupted: the daemon is starting or stopping.
        @raise StoreError: the disk refuses.
        """


@frozen
class Figures:
    """
    What the jobs do, in numbers.  Those that say "since the start" only rise.

    @ivar jobs: those that have not ended, by kind and state.
    @ivar ended: those that have since the start, by kind and state.
    @ivar transfers: by kind and state.
    @ivar fetched: bytes that came since the start, by registry host.
    @ivar sent: bytes that went since the start, by registry host.
    @ivar delivered: bytes that clients got since the start.
    @ivar retries: attempts since the start after which another was made, by
        the code of what went wrong.
    @ivar slots: C{limit}, C{in_use} and C{queued}, by kind.
    @ivar waits: for slots, since the start, by kind: how many were at most so
        many seconds long, and the seconds of all.
    @ivar workers_busy: layers that unpack now.
    """

    jobs: Mapping[tuple[str, str], int]
    ended: Mapping[tuple[str, str], int]
    transfers: Mapping[tuple[str, str], int]
    fetched: Mapping[str, int]
    sent: Mapping[str, int]
    delivered: int
    retries: Mapping[str, int]
    slots: Mapping[str, Mapping[str, int]]
    waits: Mapping[str, tuple[Sequence[tuple[str, int]], float]]
    workers_busy: int


class IIntake(Interface):
    """
    Where the bytes of an archive go, of one import.
    """

    offset: int = Attribute("The bytes that came so far: where the next piece begins.")

    def put(offset: int, data: bytes) -> Deferred[int]:
        """
        Hand over the next piece.

        @return: fires with the new offset when the job has taken the piece:
            only then is it ready for the next.  Cancelling ends the wait
            alone.
        @raise WrongOffset: it is not the next one, or another one is being
            taken.
        @raise BadInput: the job has ended, or this is more than was announced.
        """

    def finish(size: int) -> None:
        """
        Say that the archive is whole.

        @raise WrongOffset: not so many bytes are here.
        @raise BadArchive: fewer are here than were announced.
        @raise BadInput: the job has ended.
        """


class IArchive(Interface):
    """
    An image as an archive, to be sent.

    Life cycle: open; C{read} until it gives nothing; C{close}d in any case.
    """

    size: int = Attribute("How many bytes it has.")

    def read(most: int) -> Deferred[bytes]:
        """
        Read on: at least one byte, at most so many; at the end, nothing.

        @raise StoreError: a blob cannot be read.
        """

    def close() -> None:
        """
        Let go of it.  Idempotent.
        """


class IJobs(Interface):
    """
    What clients ask of the daemon.
    """

    unfinished: int = Attribute("How many jobs have not ended.")

    def pull(
        reference: str,
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Mapping[str, Any]:
        """
        Begin to pull an image.

        @param platform: C{os/architecture[/variant]}; this machine's by default.
        @param client: who asks, for fairness and for the page.
        @param priority: higher goes first; 0 is usual.
        @param credentials: the client's own, by registry host, in place of the
            daemon's; they live as long as the job does.
        @return: the job as JSON has it (DESIGN: "A job is").
        @raise BadReference: C{reference} is none.
        @raise BadPlatform: C{platform} is none.
        @raise Interrupted: the daemon is stopping.
        @raise TooManyJobs: this client, or all together, have too many, as
            with every kind of job.
        """

    def push(
        reference: str,
        target: str | None,
        tags: Sequence[str],
        platform: str | None,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Mapping[str, Any]:
        """
        Begin to push an image of the store.

        @param target: where to; the image's own name by default.
        @param tags: more tags to give it there.
        @param platform: C{all} for what the image's name stood for when it was
            pulled, an index with all its platforms; or one of them.  By
            default it is the image that the store has.
        @return: the job as JSON has it.
        @raise BadReference: one of the references or tags is none, or the
            target has a digest.
        @raise BadPlatform: C{platform} is none.
        @raise Interrupted: the daemon is stopping.
        """

    def copy(
        reference: str,
        target: str,
        platform: str | None,
        referrers: bool,
        client: str,
        priority: int,
        credentials: Mapping[str, Credentials] | None = None,
    ) -> Mapping[str, Any]:
        """
        Begin to copy an image, an index or an artifact from one repository
        into another.

        @param platform: the one to copy of an index; all by default.
        @param referrers: whether to copy what refers to it, too.
        @return: the job as JSON has it.
        @raise BadReference: one of the references is none.
        @raise BadPlatform: C{platform} is none.
        @raise Interrupted: the daemon is stopping.
        """

    def import_archive(
        reference: str | None, platform: str | None, size: int | None, client: str, priority: int
    ) -> Mapping[str, Any]:
        """
        Begin to import images out of an archive, whose bytes go to the
        L{intake} of the job.  The job gives up a client that goes silent.

        @param reference: what to call the only image, or which one to take of
            several; by default all that the archive has names for.
        @param platform: the one to take of an index; this machine's by default.
        @param size: how many bytes will come, if that is known.
        @return: the job as JSON has it; its C{archive} is C{{received, size}}.
        @raise BadReference: C{reference} is none, or has a digest.
        @raise BadPlatform: C{platform} is none.
        @raise Interrupted: the daemon is stopping.
        """

    def intake(job_id: str) -> IIntake:
        """
        Where the bytes of an import's archive go.

        @raise NotFound: there is no such job.
        @raise BadInput: it is no import, or has ended.
        """

    def renew(
        reference: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[Sequence[str]]:
        """
        Unpack the layers of an image of the store again that older rules have
        unpacked; for those who are about to use its trees.

        @param credentials: the client's own, as for L{pull}.
        @return: warnings: the layers for which that failed, which are used as
            they are.
        @raise BadReference: C{reference} is none.
        @raise NotFound: there is no such image.
        @raise StoreError: a layer is missing, or the disk refuses.
        """

    def export(
        reference: str, form: str, client: str, credentials: Mapping[str, Credentials] | None = None
    ) -> Deferred[IArchive]:
        """
        Open an image of the store as an archive.  All blobs are in the store
        when this fires; a layer whose tree came by another blob is fetched.

        @param form: C{docker}, which all tools load, or C{oci}, a layout only.
        @param credentials: the client's own, as for L{pull}.
        @raise BadReference: C{reference} is none.
        @raise NotFound: there is no such image.
        @raise StoreError: a part of it is gone or damaged, or a layer that
            had to be fetched could not be.
        """

    def get(job_id: str) -> Mapping[str, Any]:
        """
        One job, with C{"layers"}: for each, bottom first, C{index, digest,
        diff_id, size, state, bytes_done, unpacked, transfer, why}; and with
        C{"transfers"}: the ids of those that it waited for over the network.

        @raise NotFound: it neither runs nor is one of those that ended last.
        """

    def find(job_id: str) -> Deferred[Mapping[str, Any]]:
        """
        One job, as C{get} has it, also where only the journal has it.

        @raise NotFound: there is no such job.
        @raise Interrupted: the daemon is starting.
        @raise StoreError: the journal cannot be read.
        """

    def recorded(limit: int, before: tuple[str, str] | None = None) -> Deferred[Sequence[Mapping[str, Any]]]:
        """
        Jobs in the journal, the newest first, without layers.

        @param limit: how many at most.
        @param before: only jobs that are older than this C{created} and C{id}.
        @raise StoreError: the journal cannot be read.
        """

    def attempts(job_id: str) -> Deferred[list[dict[str, Any]]]:
        """
        The attempts behind a job: of every transfer that it waited for, also
        those made before it came, the oldest first and the newest thousand at
        most.  Each is C{transfer, kind, digest, source, attempt, started,
        finished, bytes_done, code, error}; the last two are L{None} where it
        went well.

        @raise NotFound: there is no such job.
        @raise StoreError: the journal cannot be read.
        """

    def all() -> Sequence[Mapping[str, Any]]:
        """
        The jobs that have not ended and the 200 that ended last, the newest
        first, without layers.
        """

    def cancel(job_id: str) -> Mapping[str, Any]:
        """
        Cancel a job, at once; one that has ended stays as it is.

        @raise NotFound: there is no such job.
        """

    def transfers() -> Sequence[Mapping[str, Any]]:
        """
        Every transfer: C{id, key, kind, digest, state, watchers, bytes_done,
        bytes_total, rate, attempt, streams, source, why, until,
        created, jobs}.
        C{streams} are the requests by which a download comes; 0 where none is
        running.
        """

    def figures() -> Figures:
        """
        What the jobs do, in numbers.
        """

    def limits() -> Mapping[str, int]:
        """
        How much happens at once and how fast: C{downloads,
        downloads_per_host, ranges, uploads, workers, download_rate, upload_rate},
        the last two in bytes a second; 0 is no limit.
        """

    def change_limits(changes: Mapping[str, int]) -> Mapping[str, int]:
        """
        Set some limits, from now on.  What waits starts at once where there
        is room; what runs goes on.

        @return: all limits as they are then.
        @raise BadInput: one of them is unknown or cannot be that; then none
            was set.
        """

    def events(job_id: str | None, since: str | None = None) -> IEventStream:
        """
        Follow one job, until it ends, or everything.

        @param since: where an earlier stream was, by its C{position}: then
            only what has changed since then is told, if that is known still.
        @raise NotFound: it neither runs nor is one of those that ended last.
        """

    def follow(job_id: str, since: str | None = None) -> Deferred[IEventStream]:
        """
        Follow one job, as C{events} does, also where only the journal has it:
        then the stream begins anew, reports its end and ends.

        @raise NotFound: there is no such job.
        @raise Interrupted: the daemon is starting.
        @raise StoreError: the journal cannot be read.
        """

    def status() -> Mapping[str, Any]:
        """
        Slots in use, the queue, jobs by state, bytes by host.
        """

    upkeep: IUpkeep = Attribute("What clients ask of the store at once, without a job.")
