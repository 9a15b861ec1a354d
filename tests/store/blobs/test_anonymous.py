"""
Tests for L{xferd.store.blobs.anonymous}: what only the disk shows.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError

from tests.store.conformance.base import DATA, DIGEST
from tests.store.support import StoreTestCase
from xferd.errors import StoreError
from xferd.interfaces.blobs import IAnonymousBlob


class UnnamedTests(StoreTestCase):
    """
    Blobs without a name, on disk.
    """

    def unnamed(self) -> IAnonymousBlob:
        """
        Begin one, with its bytes.
        """
        unnamed: IAnonymousBlob = self.successResultOf(self.store.blobs.anonymous())
        unnamed.write(DATA)
        return unnamed

    def staged(self) -> list[str]:
        """
        The content of C{staging/}.
        """
        return os.listdir(os.path.join(self.store.path, "staging"))

    def test_nothing_stays(self) -> None:
        """
        A blob that is closed, or kept, leaves nothing behind in C{staging/}.
        """
        self.unnamed().close()
        self.assertEqual(self.staged(), [])
        self.successResultOf(self.unnamed().commit())
        self.assertEqual(self.staged(), [])
        self.assertEqual(os.stat(self.store.blobs.path(DIGEST)).st_mode & 0o777, 0o600)

    def test_cancelled(self) -> None:
        """
        Cancelling waits for the disk, and then closes the blob.
        """
        self.pools.disk.held = True
        opening = self.store.blobs.anonymous()
        opening.cancel()
        self.assertNoResult(opening)
        self.pools.disk.release()
        self.failureResultOf(opening, CancelledError)
        unnamed = self.unnamed()
        self.pools.bulk.held = True
        keeping = unnamed.commit()
        unnamed.close()
        keeping.cancel()
        self.assertNoResult(keeping)
        self.pools.bulk.release()
        self.failureResultOf(keeping, CancelledError)
        self.assertEqual(self.staged(), [])

    def test_disk_refuses(self) -> None:
        """
        If the blob cannot be kept, its bytes can be deleted.
        """
        unnamed = self.unnamed()
        os.makedirs(self.store.blobs.path(DIGEST))
        self.failureResultOf(unnamed.commit(), StoreError)
        unnamed.close()
        self.assertEqual(self.staged(), [])
