"""
Tests for L{xferd.store.blobs.blobs}.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.store.conformance.base import DATA, DIGEST
from tests.store.conformance.blobs import BlobsConformance
from tests.store.support import StoreTestCase
from xferd.errors import StoreError
from xferd.names import Digest


class BlobsTests(BlobsConformance, StoreTestCase):
    """
    Blobs on disk.
    """

    def test_over_a_restart(self) -> None:
        """
        A document exists after a restart.
        """
        self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        self.assertEqual(self.successResultOf(self.reopen().blobs.read(DIGEST)), DATA)

    def test_damaged(self) -> None:
        """
        A document that the disk has damaged is refused with the remedy, and
        repaired when it is put again.
        """
        self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        path = self.store.blobs.path(DIGEST)
        with open(path, "r+b") as file:
            file.write(b"?")
        reason = self.failureResultOf(self.store.blobs.read(DIGEST), StoreError)
        self.assertEqual(
            str(reason.value), f"blob {DIGEST} is damaged; remove {path} and pull its image again"
        )
        self.successResultOf(self.store.blobs.put(DIGEST, DATA))
        self.assertEqual(self.successResultOf(self.store.blobs.read(DIGEST)), DATA)

    def test_no_file(self) -> None:
        """
        A directory in a blob's place is no blob.
        """
        os.makedirs(self.store.blobs.path(DIGEST))
        self.assertFalse(self.store.blobs.has(DIGEST))
        self.failureResultOf(self.store.blobs.read(DIGEST), StoreError)
        self.failureResultOf(self.store.blobs.put(DIGEST, DATA), StoreError)

    def test_owner_does_not_end(self) -> None:
        """
        A request for a partial file that its owner does not close fails after
        a minute; a file never has two writers.
        """
        first = self.successResultOf(self.store.blobs.partial(DIGEST, None))
        first.write(DATA)
        self.pools.bulk.held = True
        committing = first.commit()
        committing.cancel()
        second = self.store.blobs.partial(DIGEST, None)
        self.reactor.advance(59)
        self.assertNoResult(second)
        self.reactor.advance(1)
        reason = self.failureResultOf(second, StoreError)
        self.assertIn("the disk has not finished within 60 s", str(reason.value))
        third = self.store.blobs.partial(DIGEST, None)
        self.pools.bulk.step()
        self.failureResultOf(committing, CancelledError)
        self.pools.bulk.release()
        self.successResultOf(third).close()
        self.assertTrue(self.store.blobs.has(DIGEST))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_commits_hold_nobody(self) -> None:
        """
        While blobs are synchronised, however long that takes, documents are
        read and written.
        """
        self.pools.bulk.held = True
        partial = self.store.blobs.partial(DIGEST, None)
        self.assertNoResult(partial)
        document = b"{}"
        self.successResultOf(self.store.blobs.put(Digest.of(document), document))
        self.assertEqual(self.successResultOf(self.store.blobs.read(Digest.of(document))), document)
        self.pools.bulk.step()
        opened = self.successResultOf(partial)
        opened.write(DATA)
        committing = opened.commit()
        self.assertNoResult(committing)
        self.assertEqual(self.successResultOf(self.store.blobs.read(Digest.of(document))), document)
        self.pools.bulk.release()
        self.successResultOf(committing)

    def test_cancel(self) -> None:
        """
        Cancelling waits for the disk.
        """
        self.pools.disk.held = True
        waiting: list[Deferred[Any]] = [self.store.blobs.put(DIGEST, DATA), self.store.blobs.read(DIGEST)]
        for each in waiting:
            each.cancel()
            self.assertNoResult(each)
        self.pools.disk.release()
        for each in waiting:
            self.failureResultOf(each, CancelledError)
