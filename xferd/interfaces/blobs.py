# -*- test-case-name: tests.test_interfaces -*-
"""
The store's blobs and partial files, and the files that grow while others read them.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.names import Digest


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

    def suspend() -> None:
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


class IAnonymousBlob(Interface):
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

    def partial_size(digest: Digest) -> int:
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

    def anonymous() -> Deferred[IAnonymousBlob]:
        """
        Begin a blob whose digest will be known when all its bytes are here.

        @raise StoreError: the disk refuses.
        """
