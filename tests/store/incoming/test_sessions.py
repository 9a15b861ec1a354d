"""
Tests for L{xferd.store.incoming}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred

from tests.store.conformance.base import DATA, DIGEST
from tests.store.conformance.incoming import APP, IncomingConformance
from tests.store.support import StoreTestCase
from xferd.errors import StoreError, TooManyUploads, UploadUnknown
from xferd.interfaces.incoming import IIncomingBlob
from xferd.oci import Descriptor
from xferd.store.blobs import spans
from xferd.store.incoming.sessions import AGE, RECENT, IncomingBlobs


class SessionsTests(IncomingConformance, StoreTestCase):
    """
    The upload sessions of a real store.
    """

    def files(self) -> list[str]:
        """
        The files of sessions.
        """
        return os.listdir(os.path.join(self.path, "ingest"))

    def limit(self, most: int, most_of_client: int) -> None:
        """
        Lower the limits.
        """
        assert isinstance(self.store.incoming, IncomingBlobs)
        self.store.incoming._most = most
        self.store.incoming._most_of_client = most_of_client

    def of(self, client: str) -> Deferred[IIncomingBlob]:
        """
        Begin an upload for a client.
        """
        beginning: Deferred[IIncomingBlob] = self.store.incoming.begin(APP, client)
        return beginning

    def test_restart(self) -> None:
        """
        A session survives a restart of the daemon; its bytes are hashed again.
        """
        incoming = self.begin(DATA[:7])
        incoming.release()
        self.reopen()
        again = self.resume(incoming.id)
        self.assertEqual(again.offset, 7)
        again.write(DATA[7:])
        self.result(again.commit(DIGEST))
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)
        self.reopen()
        self.failure(self.store.incoming.open(APP, incoming.id), UploadUnknown)

    def test_restart_of_machine(self) -> None:
        """
        A session ends with the boot of the machine: its bytes may not have been flushed.
        """
        incoming = self.begin(DATA[:7])
        incoming.release()
        self.patch(spans, "_BOOT", self.mktemp())
        self.reopen()
        self.failure(self.store.incoming.open(APP, incoming.id), UploadUnknown)
        self.assertEqual(os.listdir(os.path.join(self.path, "ingest")), [])
        self.reopen()
        self.failure(self.store.incoming.open(APP, incoming.id), UploadUnknown)

    def test_killed(self) -> None:
        """
        The offset after a kill is what the file has: a request that was using the
        session had released nothing.
        """
        incoming = self.begin(DATA[:7])
        self.reopen()
        self.assertEqual(self.store.incoming.offset(APP, incoming.id), 7)

    def test_unknown_file(self) -> None:
        """
        The file of no session is removed at the start, and that of a brief one.
        """
        self.begin(DATA, brief=True)
        with open(os.path.join(self.path, "ingest", "upload-1234"), "wb") as file:
            file.write(DATA)
        self.reopen()
        self.assertEqual(self.files(), [])

    def test_file_gone(self) -> None:
        """
        A session whose file is gone has ended.
        """
        incoming = self.begin(DATA)
        incoming.release()
        os.unlink(os.path.join(self.path, "ingest", f"upload-{incoming.id}"))
        self.reopen()
        self.failure(self.store.incoming.open(APP, incoming.id), UploadUnknown)

    def test_cut_off(self) -> None:
        """
        A file that an operator cut off is not continued.
        """
        incoming = self.begin(DATA)
        incoming.release()
        os.truncate(os.path.join(self.path, "ingest", f"upload-{incoming.id}"), 2)
        self.failure(self.store.incoming.open(APP, incoming.id), StoreError)

    def test_rest_of_write(self) -> None:
        """
        Bytes behind the offset, of a write that failed, do not become part of the
        blob.
        """
        incoming = self.begin(DATA)
        with open(os.path.join(self.path, "ingest", f"upload-{incoming.id}"), "ab") as file:
            file.write(b"rest")
        self.result(incoming.commit(DIGEST))
        self.assertEqual(self.result(self.store.blobs.read(DIGEST)), DATA)

    def test_nothing_left(self) -> None:
        """
        Neither files nor timers remain of sessions that have ended.
        """
        self.result(self.begin(DATA).commit(DIGEST))
        self.result(self.begin(DATA).remove())
        self.begin(DATA, brief=True).release()
        self.assertEqual(self.files(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_old(self) -> None:
        """
        A session that was not used for a day is removed, one in use is not.
        """
        old, used = self.begin(DATA), self.begin(DATA)
        old.release()
        self.reactor.pump([3600.0] * 26)
        self.assertEqual(self.files(), [f"upload-{used.id}"])
        self.failure(self.store.incoming.open(APP, old.id), UploadUnknown)
        used.release()
        self.assertGreater(AGE, 0)

    def test_old_at_start(self) -> None:
        """
        Age counts over a restart.
        """
        incoming = self.begin(DATA)
        incoming.release()
        path = os.path.join(self.path, "ingest", f"upload-{incoming.id}")
        os.utime(path, (0, 0))
        self.wall_clock.set(self.wall_clock() + AGE + 10.0)
        self.reopen()
        self.assertEqual(self.files(), [])

    def test_limit(self) -> None:
        """
        At its limit, a client gets no further session while all were used a moment
        ago; others do.
        """
        self.limit(3, 2)
        first = self.result(self.of("a"))
        self.result(self.of("a"))
        self.failure(self.of("a"), TooManyUploads)
        self.result(self.of("b"))
        self.failure(self.of("c"), TooManyUploads)
        self.result(first.remove())
        self.result(self.of("c"))

    def test_limit_ends_unused(self) -> None:
        """
        At its limit, a client's longest unused session ends for a new one, but none
        that a request uses.
        """
        self.limit(10, 2)
        busy, unused = self.result(self.of("a")), self.result(self.of("a"))
        unused.release()
        self.reactor.advance(RECENT + 1.0)
        third = self.result(self.of("a"))
        self.failure(self.store.incoming.open(APP, unused.id), UploadUnknown)
        self.assertEqual(sorted(self.files()), sorted(f"upload-{each.id}" for each in (busy, third)))

    def test_release_while_committing(self) -> None:
        """
        A client that leaves while its blob is made durable does not prevent that.
        """
        incoming = self.begin(DATA)
        with self.pools.held():
            committing = incoming.commit(DIGEST)
            incoming.release()
            committing.cancel()
            self.assertNoResult(committing)
        self.failure(committing, CancelledError)
        self.assertTrue(self.store.blobs.has(DIGEST))
        self.assertEqual(self.files(), [])

    def test_begin_cancelled(self) -> None:
        """
        A cancelled begin leaves a session that no request uses; it ages.
        """
        with self.pools.held():
            beginning = self.store.incoming.begin(APP, "ci", brief=True)
            beginning.cancel()
            self.assertNoResult(beginning)
        self.failure(beginning, CancelledError)
        self.assertEqual(self.files(), [])

    def test_open_cancelled(self) -> None:
        """
        A cancelled open leaves the session for the next request.
        """
        incoming = self.begin(DATA)
        incoming.release()
        self.reopen()
        with self.pools.held():
            opening = self.store.incoming.open(APP, incoming.id)
            opening.cancel()
        self.failure(opening, CancelledError)
        self.assertEqual(self.resume(incoming.id).offset, len(DATA))

    def test_not_kept(self) -> None:
        """
        If the blob cannot be renamed into place, the session stays.
        """
        incoming = self.begin(DATA)
        blobs = os.path.join(self.path, "content", "blobs")
        os.rename(blobs, blobs + ".away")
        self.failure(incoming.commit(DIGEST), StoreError)
        incoming.release()
        os.rename(blobs + ".away", blobs)
        self.result(self.resume(incoming.id).commit(DIGEST))
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_collected(self) -> None:
        """
        The garbage collector keeps sessions, and removes a blob that no repository
        has.
        """
        incoming = self.begin(DATA)
        self.result(self.begin(DATA).commit(DIGEST))
        self.result(self.store.gc.collect(partials=True))
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.result(incoming.commit(DIGEST))
        self.assertTrue(self.store.blobs.has(DIGEST))

    def test_pushed_kept(self) -> None:
        """
        A blob that was pushed to a repository stays until it is deleted there.
        """
        self.result(self.begin(DATA).commit(DIGEST))
        self.result(self.store.catalog.put_blob(APP, Descriptor("x/y", DIGEST, len(DATA))))
        self.result(self.store.gc.collect())
        self.assertTrue(self.store.blobs.has(DIGEST))
        self.result(self.store.catalog.remove_blob(APP, DIGEST))
        self.result(self.store.gc.collect())
        self.assertFalse(self.store.blobs.has(DIGEST))
