# -*- test-case-name: tests.test_interfaces -*-
"""
The store's blobs and partial blobs, and the followers of growing files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.names import Digest


class IFollower(Interface):
    """
    A reader of a blob's file while it grows.

    Life cycle: any number of C{grown}; C{restarted} starts over with another
    file; C{sealed} is the end, after the bytes were verified.
    """

    def grown(path: str, size: int) -> None:
        """
        The first C{size} bytes of the file at C{path} can be read.
        """

    def restarted() -> None:
        """
        The bytes were wrong and have been removed, or the blob came as another file; results
        made from them are invalid.
        """

    def sealed(path: str, size: int) -> None:
        """
        The blob is complete and verified, and its path is C{path} from now on.
        A descriptor that is open stays valid.
        """


class IPartial(Interface):
    """
    A blob whose bytes are arriving: a file in C{ingest/} with one owner.

    Life cycle: open, possibly C{suspend}ed and C{resume}d, then C{commit}ted (it
    is a blob now) or C{close}d (its bytes stay for later).  A commit that fails
    because of its content empties it and leaves it open.
    """

    digest: Digest = Attribute("The digest that its bytes must have.")
    size: int | None = Attribute("The bytes that it must have, or None if that is not known.")
    offset: int = Attribute("The bytes that are here and hashed, up to the first gap: where to resume.")
    spans: Sequence[tuple[int, int]] = Attribute(
        "The parts after that, each a start and a stop, in order.  One that starts at offset is being hashed."
    )

    def write(data: bytes) -> None:
        """
        Append and hash some bytes, synchronously.

        @raise SizeMismatch: they exceed C{size}; none was written.
        @raise DiskFull: no space is left.  Earlier bytes stay.
        @raise StoreError: the disk refuses for another reason.
        """

    def write_at(offset: int, data: bytes) -> None:
        """
        Write some bytes at an offset, synchronously.  At L{offset} this is
        L{write}; bytes after it are hashed, and reported to followers, once all
        bytes in front of them are here.

        @raise SizeMismatch: as L{write}.
        @raise StoreError: as L{write}, also for bytes before L{offset}.
        """

    def trim() -> None:
        """
        Discard the bytes after the first gap, and those being hashed.
        """

    def restart() -> None:
        """
        Discard all bytes and begin with an empty file.  Followers are notified.
        """

    def commit(verified: Callable[[], None] = lambda: None) -> Deferred[None]:
        """
        Verify size and digest, flush the bytes and make them a blob.  Followers
        are notified.  Cancelling waits for the disk.

        @param verified: called when the bytes are right, before they are a blob.
        @raise DigestMismatch: the bytes are wrong; they were discarded.
        @raise SizeMismatch: their number is wrong; they were discarded.
        @raise StoreError: the disk refuses.
        """

    def suspend() -> None:
        """
        Close the file until C{resume}; the state of the hash is kept.
        Idempotent; no effect after C{commit} or C{close}.
        """

    def resume() -> None:
        """
        Open the file again.  If it has been cut off meanwhile, begin with an
        empty one; followers are notified.

        @raise StoreError: the disk refuses; it stays suspended.
        """

    def close() -> None:
        """
        Close the file and keep its bytes.  Idempotent; no effect after
        C{commit}.
        """

    def follow(follower: IFollower) -> None:
        """
        Report the bytes that are here, and all that arrive, to C{follower}.
        """

    def unfollow(follower: IFollower) -> None:
        """
        Stop reporting to C{follower}.  Idempotent.
        """


class IAnonymousBlob(Interface):
    """
    A blob whose bytes are arriving and whose digest is not known yet.

    Life cycle: open, then C{commit}ted (it is a blob now) or C{close}d (its
    bytes are discarded).
    """

    size: int = Attribute("The bytes that are here.")

    def write(data: bytes | memoryview) -> None:
        """
        Append and hash some bytes, synchronously.

        @raise DiskFull: no space is left.
        @raise StoreError: the disk refuses for another reason.
        """

    def commit() -> Deferred[Digest]:
        """
        Flush the bytes and make them a blob.  Cancelling waits for the disk.

        @return: fires with their digest.
        @raise StoreError: the disk refuses.
        """

    def close() -> None:
        """
        Discard the bytes.  Idempotent; no effect after C{commit}.
        """


class IBlobs(Interface):
    """
    The content-addressed blobs of the store.
    """

    def has(digest: Digest) -> bool:
        """
        Whether the blob is in the store, complete and verified.
        """

    def size(digest: Digest) -> int | None:
        """
        The blob's size in bytes, or None if it is not in the store.
        """

    def partial_size(digest: Digest) -> int:
        """
        The bytes of a partial blob that are on the disk.
        """

    def path(digest: Digest) -> str:
        """
        The path that the blob's file has, or would have.
        """

    def read(digest: Digest) -> Deferred[bytes]:
        """
        Read a document, and verify its digest again.

        @raise NotFound: it is not in the store.
        @raise StoreError: it is damaged, or larger than
            L{xferd.oci.MAX_DOCUMENT}.
        """

    def preload(digest: Digest, offset: int, size: int) -> Deferred[None]:
        """
        Read a part of a blob, or of its partial file, into the kernel's page cache, in a
        thread, so that the caller can read or send it without waiting for the disk.

        @raise NotFound: neither is in the store.
        @raise StoreError: the disk refuses.
        """

    def put(digest: Digest, data: bytes) -> Deferred[None]:
        """
        Write a document durably.

        @raise DigestMismatch: C{data} has another digest.
        @raise StoreError: the disk refuses.
        """

    def partial(digest: Digest, size: int | None) -> Deferred[IPartial]:
        """
        Open the blob's partial file.  Bytes of an earlier attempt are hashed
        again.

        It has one owner at a time: if the previous owner has not closed it,
        because it waits for the disk, this waits for a minute at most.

        @raise StoreError: it is still open, or the disk refuses.
        """

    def anonymous() -> Deferred[IAnonymousBlob]:
        """
        Begin a blob whose digest is known only after its last byte.

        @raise StoreError: the disk refuses.
        """
