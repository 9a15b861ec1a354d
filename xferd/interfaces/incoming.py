# -*- test-case-name: tests.test_interfaces -*-
"""
The upload sessions of clients that push blobs to xferd's own repositories.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.names import Digest, Repository


class IIncomingBlob(Interface):
    """
    One upload session, in use by one request.

    Life cycle: opened; any number of C{write}s; then C{commit}ted or C{remove}d,
    which ends the session, or C{release}d: its bytes stay for the next request.
    """

    id: str = Attribute("The identity of the session, for its URL.")
    offset: int = Attribute("The bytes that are here.")

    def write(data: bytes) -> None:
        """
        Append and hash some bytes, synchronously.

        @raise DiskFull: no space is left.  Earlier bytes stay.
        @raise StoreError: the disk refuses for another reason.
        """

    def commit(digest: Digest) -> Deferred[int]:
        """
        Verify the digest, flush the bytes and make them a blob.  The session ends.
        Cancelling waits for the disk.

        @return: fires with the blob's size in bytes.
        @raise DigestMismatch: the bytes have another digest.  The session ends,
            and the bytes are removed.
        @raise StoreError: the disk refuses.
        """

    def remove() -> Deferred[None]:
        """
        End the session, and remove its bytes.  Cancelling waits for the disk.

        @raise StoreError: the disk refuses.
        """

    def release() -> None:
        """
        End the use by this request.  Idempotent, and possible at any time: during
        C{commit}, it takes effect afterwards.
        """


class IIncomingBlobs(Interface):
    """
    The upload sessions.  They survive a restart of the daemon, and are removed when
    no request has used them for a day.
    """

    def begin(
        repository: Repository, client: str, algorithm: str = "sha256", *, brief: bool = False
    ) -> Deferred[IIncomingBlob]:
        """
        Begin an upload session.

        @param client: its owner, for the limit of one client's sessions.
        @param algorithm: the expected algorithm of the digest; another one costs a
            second reading of the bytes.
        @param brief: whether the session ends with this request: it is not
            recorded, and a release removes it.
        @return: fires when the session is recorded.
        @raise TooManyUploads: there are too many sessions, and all of them were
            used a moment ago.
        @raise StoreError: the disk refuses.
        """

    def open(repository: Repository, session: str) -> Deferred[IIncomingBlob]:
        """
        Open a session for a request.  After a restart of the daemon, its bytes are
        hashed again.

        @raise UploadUnknown: the repository has no such session.
        @raise UploadBusy: another request uses it.
        @raise StoreError: the disk refuses.
        """

    def offset(repository: Repository, session: str) -> int:
        """
        The bytes of a session that are here, also while a request uses it.

        @raise UploadUnknown: the repository has no such session.
        """
