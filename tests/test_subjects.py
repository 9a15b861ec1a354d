"""
Tests for L{xferd.subjects}.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadDocument
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document
from xferd.subjects import referrer, subject_of

DIGEST = Digest.of(b"subject")


def document(value: object) -> Document:
    """
    A manifest with this JSON.
    """
    return Document.verified(OCI_MANIFEST, json.dumps(value).encode())


class SubjectTests(SynchronousTestCase):
    """
    Manifests with a subject.
    """

    def test_subject(self) -> None:
        """
        The digest of the subject is returned.
        """
        subject = {"mediaType": OCI_MANIFEST, "digest": str(DIGEST), "size": 7}
        self.assertEqual(subject_of(document({"subject": subject})), DIGEST)
        self.assertIsNone(subject_of(document({})))

    def test_refused(self) -> None:
        """
        A subject that is no descriptor, and a document that is no object, are errors.
        """
        self.assertRaises(BadDocument, subject_of, document({"subject": {"digest": "x"}}))
        self.assertRaises(BadDocument, subject_of, document([]))
        self.assertRaises(BadDocument, subject_of, Document.verified(OCI_MANIFEST, b"{"))

    def test_referrer(self) -> None:
        """
        The entry has the artifact type, or the config's, and the annotations.
        """
        found = referrer(document({"artifactType": "a/b", "annotations": {"k": "v"}}))
        self.assertEqual((found.artifact_type, found.annotations), ("a/b", {"k": "v"}))
        found = referrer(document({"config": {"mediaType": OCI_CONFIG}}))
        self.assertEqual((found.artifact_type, found.annotations), (OCI_CONFIG, {}))
