"""
Tests for L{xferd.jobs.mirror.entries}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadDocument
from xferd.jobs.mirror.entries import catalog_entry
from xferd.media_types import OCI_INDEX
from xferd.oci import Document
from xferd.testing.images import AMD64, index_of, sample_image


class EntryTests(SynchronousTestCase):
    """
    Manifests as the catalog lists them.
    """

    def test_image(self) -> None:
        """
        An image names its config and its layers.
        """
        image = sample_image(1)
        entry = catalog_entry(image.manifest)
        self.assertEqual(entry.descriptor.digest, image.digest)
        self.assertEqual([b.digest for b in entry.blobs], [b.digest for b in image.blobs])
        self.assertEqual((entry.manifests, entry.subject), ((), None))

    def test_index(self) -> None:
        """
        An index names its manifests.
        """
        image = sample_image(1)
        entry = catalog_entry(index_of({AMD64: image}).document)
        self.assertEqual([m.digest for m in entry.manifests], [image.digest])
        self.assertEqual(entry.blobs, ())

    def test_unknown(self) -> None:
        """
        A document of an unknown kind names nothing.
        """
        entry = catalog_entry(Document.verified("application/x", b'{"schemaVersion": 2}'))
        self.assertEqual((entry.blobs, entry.manifests, entry.subject), ((), (), None))

    def test_damaged(self) -> None:
        """
        A document that violates its specification is refused.
        """
        self.assertRaises(BadDocument, catalog_entry, Document.verified(OCI_INDEX, b"{}"))
