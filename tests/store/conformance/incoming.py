"""
Tests for providers of L{IIncomingBlobs} and L{IIncomingBlob}.
"""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tests.store.conformance.base import DATA, DIGEST, Conformance
from xferd.errors import DigestMismatch, UploadBusy, UploadUnknown
from xferd.interfaces.incoming import IIncomingBlob, IIncomingBlobs
from xferd.names import Digest, Repository

APP = Repository("localhost", "local/app")
OTHER = Repository("localhost", "local/other")


class IncomingConformance(Conformance):
    """
    L{IIncomingBlobs}.
    """

    def begin(self, data: bytes = b"", *, brief: bool = False) -> IIncomingBlob:
        """
        Begin an upload with some bytes.
        """
        incoming: IIncomingBlob = self.result(self.store.incoming.begin(APP, "ci", brief=brief))
        incoming.write(data)
        return incoming

    def resume(self, session: str) -> IIncomingBlob:
        """
        Continue it.
        """
        incoming: IIncomingBlob = self.result(self.store.incoming.open(APP, session))
        return incoming

    def test_incoming_provided(self) -> None:
        """
        Table and session provide their Interfaces.
        """
        self.assertTrue(verifyObject(IIncomingBlobs, self.store.incoming))
        self.assertTrue(verifyObject(IIncomingBlob, self.begin()))

    def test_incoming_whole(self) -> None:
        """
        Bytes in several pieces and requests become a blob, and the session ends.
        """
        first = self.begin(DATA[:3])
        self.assertEqual((first.offset, self.store.incoming.offset(APP, first.id)), (3, 3))
        first.write(DATA[3:5])
        first.release()
        second = self.resume(first.id)
        self.assertEqual((second.id, second.offset), (first.id, 5))
        second.write(DATA[5:])
        self.assertEqual(self.result(second.commit(DIGEST)), len(DATA))
        second.release()
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)
        self.failure(self.store.incoming.open(APP, first.id), UploadUnknown)

    def test_incoming_empty(self) -> None:
        """
        A blob may have no bytes.
        """
        self.assertEqual(self.result(self.begin().commit(Digest.of(b""))), 0)
        self.assertEqual(self.result(self.store.blobs.read(Digest.of(b""))), b"")

    def test_incoming_sha512(self) -> None:
        """
        The digest may be of another algorithm than the one that was expected.
        """
        digest = Digest.of(DATA, "sha512")
        self.assertEqual(self.result(self.begin(DATA).commit(digest)), len(DATA))
        self.assertTrue(self.store.blobs.has(digest))

    def test_incoming_mismatch(self) -> None:
        """
        With another digest, the session ends and there is no blob.
        """
        incoming = self.begin(DATA + b"!")
        self.failure(incoming.commit(DIGEST), DigestMismatch)
        incoming.release()
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.assertRaises(UploadUnknown, self.store.incoming.offset, APP, incoming.id)

    def test_incoming_busy(self) -> None:
        """
        One request at a time uses a session, but others see its offset.
        """
        incoming = self.begin(DATA)
        self.failure(self.store.incoming.open(APP, incoming.id), UploadBusy)
        self.assertEqual(self.store.incoming.offset(APP, incoming.id), len(DATA))
        incoming.release()
        incoming.release()
        self.resume(incoming.id).release()

    def test_incoming_of_another(self) -> None:
        """
        A session belongs to its repository.
        """
        incoming = self.begin(DATA)
        incoming.release()
        self.failure(self.store.incoming.open(OTHER, incoming.id), UploadUnknown)
        self.assertRaises(UploadUnknown, self.store.incoming.offset, OTHER, incoming.id)
        self.failure(self.store.incoming.open(APP, "../" + incoming.id), UploadUnknown)

    def test_incoming_removed(self) -> None:
        """
        A removed session has ended, and takes no bytes.
        """
        incoming = self.begin(DATA)
        self.result(incoming.remove())
        self.assertRaises(UploadUnknown, incoming.write, DATA)
        incoming.release()
        self.failure(self.store.incoming.open(APP, incoming.id), UploadUnknown)

    def test_incoming_brief(self) -> None:
        """
        A brief session ends with its request.
        """
        incoming = self.begin(DATA, brief=True)
        incoming.release()
        self.failure(self.store.incoming.open(APP, incoming.id), UploadUnknown)
        incoming = self.begin(DATA, brief=True)
        self.result(incoming.commit(DIGEST))
        self.assertTrue(self.store.blobs.has(DIGEST))
