"""
Tests for L{xferd.testing.fake_uploads}.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import BlobUnknown, ConnectionFailed, Denied, DigestMismatch, StoreError
from xferd.interfaces.registry import IContent, IRepository, Pushed, UploadSession
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.testing.fakes import FakeContent, FakeRegistry
from xferd.testing.images import sample_image

_HOST = "hub.example"
_HERE = Repository(_HOST, "team/a")
_DATA = bytes(range(256)) * 400
_DIGEST = Digest.of(_DATA)


class FakeContentTests(SynchronousTestCase):
    """
    L{FakeContent} has the bytes that have arrived.
    """

    def test_interface(self) -> None:
        """
        It provides L{IContent}.
        """
        verifyObject(IContent, FakeContent(b""))

    def test_read(self) -> None:
        """
        Bytes that have arrived are read at once; others are waited for.
        """
        content = FakeContent(b"0123456789", arrived=5)
        self.assertEqual(self.successResultOf(content.read(3, 9)), b"34")
        waiting = content.read(5, 2)
        self.assertTrue(content.waited_for)
        content.arrive(100)
        self.assertEqual(self.successResultOf(waiting), b"56")
        self.assertEqual(self.successResultOf(content.read(10, 2)), b"")
        self.assertEqual(content.reads, [(3, 9), (5, 2), (10, 2)])

    def test_failed_and_cancelled(self) -> None:
        """
        A failed content fails its readers; a wait can be cancelled.
        """
        content = FakeContent(b"0123456789", arrived=5)
        cancelled, failed = content.read(5, 1), content.read(6, 1)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        content.fail(StoreError("gone"))
        self.failureResultOf(failed, StoreError)
        self.assertFalse(content.waited_for)


class FakeUploadsTests(SynchronousTestCase):
    """
    L{FakeUploads} accepts blobs as a registry does.
    """

    def setUp(self) -> None:
        """
        Make a registry.
        """
        self.clock = Clock()
        self.registry = FakeRegistry(_HOST, self.clock)
        self.repository = self.registry.repository(_HERE.path)
        self.uploads = self.registry.uploads
        self.remembered: list[UploadSession | None] = []
        self.reported: list[int] = []
        self.content = FakeContent(_DATA)

    def push(
        self,
        digest: Digest = _DIGEST,
        candidates: Sequence[Repository] = (),
        session: UploadSession | None = None,
    ) -> Deferred[Pushed]:
        """
        Push a blob, and pass one turn.
        """
        target = self.repository
        work = target.push(
            digest, self.content, candidates, session, self.remembered.append, self.reported.append
        )
        self.clock.advance(0)
        return work

    def test_interface(self) -> None:
        """
        A repository provides L{IRepository}, and is named by host and path.
        """
        target = self.repository
        verifyObject(IRepository, target)
        self.assertEqual((target.host, target.label), (_HOST, "hub.example/team/a"))

    def test_uploaded(self) -> None:
        """
        All bytes are read, reported, recorded and stored.
        """
        self.assertEqual(self.successResultOf(self.push()), Pushed("uploaded"))
        self.assertEqual(self.registry.blob(_HERE, _DIGEST), _DATA)
        self.assertEqual((self.reported[0], self.reported[-1]), (0, len(_DATA)))
        self.assertIsNone(self.remembered[-1])
        self.assertEqual(self.registry.count("push", _DIGEST), 1)
        self.assertEqual((self.uploads.sessions, self.uploads.running()), ({}, []))
        self.assertEqual(self.successResultOf(self.push()), Pushed("exists"))

    def test_mounted(self) -> None:
        """
        A blob is mounted from a candidate, if the registry mounts blobs.
        """
        other, empty = Repository(_HOST, "team/b"), Repository(_HOST, "team/c")
        self.registry.put_blob("team/b", _DIGEST, _DATA)
        self.uploads.mounts = False
        self.assertEqual(self.successResultOf(self.push(candidates=[other])), Pushed("uploaded"))
        self.registry.remove_blob("team/a", _DIGEST)
        self.uploads.mounts = True
        how = self.successResultOf(self.push(candidates=[empty, other]))
        self.assertEqual(how, Pushed("mounted", other))

    def test_let_through(self) -> None:
        """
        Bytes are accepted as the test permits; a lost connection keeps the session for
        the next attempt.
        """
        self.uploads.stall(_DIGEST)
        work = self.push()
        self.uploads.feed(_DIGEST, 30_000)
        self.assertEqual(self.reported[-1], 30_000)
        self.uploads.fail(_DIGEST)
        self.failureResultOf(work, ConnectionFailed)
        session = self.remembered[-1]
        self.assertEqual(session, UploadSession("https://hub.example/v2/team/a/blobs/uploads/1", 30_000))
        work = self.push(session=session)
        self.assertNoResult(work)
        self.uploads.finish(_DIGEST)
        self.successResultOf(work)
        self.assertEqual([a.sent for a in self.uploads.attempts], [30_000, len(_DATA) - 30_000])
        self.assertEqual(self.registry.requests[-1].offset, 30_000)

    def test_stalled_late(self) -> None:
        """
        A running upload can be stalled, and fed to its end.
        """
        self.content = FakeContent(_DATA, arrived=10)
        work = self.push()
        self.uploads.stall(_DIGEST)
        self.content.arrive(len(_DATA))
        self.uploads.feed(_DIGEST, len(_DATA))
        self.successResultOf(work)
        self.assertRaises(AssertionError, self.uploads.fail, _DIGEST)

    def test_forgotten(self) -> None:
        """
        A forgotten session is replaced by another one.
        """
        self.uploads.stall(_DIGEST)
        work = self.push()
        self.uploads.feed(_DIGEST, 10)
        work.cancel()
        self.failureResultOf(work, CancelledError)
        session = self.remembered[-1]
        self.assertEqual(list(self.uploads.sessions), [session.location] if session else [])
        self.uploads.forget()
        self.uploads.finish(_DIGEST)
        self.successResultOf(self.push(session=session))
        self.assertEqual(self.uploads.attempts[-1].sent, len(_DATA))

    def test_aborted(self) -> None:
        """
        An aborted session is deleted; to abort never fails.
        """
        self.uploads.stall(_DIGEST)
        work = self.push()
        work.cancel()
        self.failureResultOf(work, CancelledError)
        session = self.remembered[-1]
        assert session is not None
        self.registry.gate.fail("abort", ConnectionFailed("broken"))
        for _ in range(2):
            aborted = self.repository.abort(session)
            self.clock.advance(0)
            self.successResultOf(aborted)
        self.assertEqual((self.uploads.sessions, self.uploads.aborted), ({}, [session.location]))

    def test_refused(self) -> None:
        """
        The gate makes a push fail, and wrong bytes are refused.
        """
        self.registry.gate.fail("push", Denied("no"))
        self.failureResultOf(self.push(), Denied)
        self.failureResultOf(self.push(Digest.of(b"else")), DigestMismatch)

    def test_content_fails(self) -> None:
        """
        A failure of the content is the push's.
        """
        self.content = FakeContent(_DATA, arrived=10)
        work = self.push()
        self.content.fail(StoreError("gone"))
        self.failureResultOf(work, StoreError)
        self.content = FakeContent(_DATA)
        self.content.size += 1
        self.content.arrive(1)
        self.failureResultOf(self.push(), AssertionError)


class FakeManifestTests(SynchronousTestCase):
    """
    L{FakeRegistry} accepts manifests.
    """

    def setUp(self) -> None:
        """
        Make a registry.
        """
        self.clock = Clock()
        self.registry = FakeRegistry(_HOST, self.clock)
        self.repository = self.registry.repository(_HERE.path)

    def put(self, document: Document, wanted: str) -> Deferred[None]:
        """
        Push a manifest, and pass one turn.
        """
        work = self.repository.put_manifest(wanted, document)
        self.clock.advance(0)
        return work

    def test_put(self) -> None:
        """
        A manifest is stored by tag and digest, once all its parts are.
        """
        image = sample_image(1, size=1000)
        self.failureResultOf(self.put(image.document, "1"), BlobUnknown)
        for blob in image.blobs:
            self.registry.put_blob(_HERE.path, blob.digest, blob.read())
        self.successResultOf(self.put(image.document, "1"))
        self.assertEqual(self.registry.document_of(_HERE.path, "1"), image.document)
        self.assertEqual(self.registry.document_of(_HERE.path, str(image.document.digest)), image.document)
        self.assertEqual(self.registry.count("put", "1"), 2)

    def test_referrers(self) -> None:
        """
        The referrers of a manifest are listed.
        """
        image = sample_image(1, size=1000)
        self.registry.add(image, _HERE.path)
        value = json.loads(image.document.data)
        value["subject"] = image.document.descriptor.to_json()
        about = Document.verified(OCI_MANIFEST, json.dumps(value).encode())
        self.successResultOf(self.put(about, str(about.digest)))
        work = self.repository.referrers(image.document.digest)
        self.clock.advance(0)
        (entry,) = self.successResultOf(work)
        self.assertEqual(entry.digest, about.digest)
        self.registry.gate.fail("referrers", Denied("no"))
        work = self.repository.referrers(image.document.digest)
        self.clock.advance(0)
        self.failureResultOf(work, Denied)
