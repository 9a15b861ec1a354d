# -*- test-case-name: tests.testing.test_registry -*-
"""
Manifests with a subject, as registries for tests list them.
"""

from __future__ import annotations

import json

from xferd.names import Digest
from xferd.oci import Descriptor, Document


def subject_of(document: Document) -> str | None:
    """
    The digest of a manifest's subject, if it has one.
    """
    subject = json.loads(document.data).get("subject")
    return str(subject.get("digest")) if isinstance(subject, dict) else None


def referrer(document: Document, subject: Digest) -> Descriptor | None:
    """
    A manifest's entry in the list of its subject's referrers (OCI
    distribution-spec, "Listing Referrers"), if it has a subject.
    """
    if subject_of(document) != str(subject):
        return None
    value = json.loads(document.data)
    kind = value.get("artifactType") or value.get("config", {}).get("mediaType", "")
    entry = document.descriptor.to_json() | {"artifactType": kind, "annotations": value.get("annotations")}
    return Descriptor.from_json(entry, "a referrer")
