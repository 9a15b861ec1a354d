# -*- test-case-name: tests.test_subjects -*-
"""
Manifests with a subject, and their entries in lists of referrers (OCI
distribution-spec, "Listing Referrers").

Pure.
"""

from __future__ import annotations

import json
from typing import Any

from xferd.errors import BadDocument
from xferd.names import Digest
from xferd.oci import Descriptor, Document


def subject_of(document: Document) -> Digest | None:
    """
    The digest of a manifest's subject, or L{None} without one.

    @raise BadDocument: its subject is invalid.
    """
    subject = json_of(document).get("subject")
    return None if subject is None else Descriptor.from_json(subject, "subject").digest


def referrer(document: Document) -> Descriptor:
    """
    A manifest's entry in a list of referrers, with its artifact type and its
    annotations.
    """
    value = json_of(document)
    config = value.get("config")
    kind = value.get("artifactType") or (config.get("mediaType") if isinstance(config, dict) else "")
    found = document.descriptor.to_json()
    return Descriptor.from_json(
        {**found, "artifactType": kind, "annotations": value.get("annotations")}, "the referrer"
    )


def json_of(document: Document) -> dict[str, Any]:
    """
    The JSON object of a manifest that was checked before, or made here.

    @raise BadDocument: it is no JSON object.
    """
    try:
        value = json.loads(document.data)
    except (ValueError, RecursionError) as e:
        raise BadDocument(f"manifest {document.digest} is not JSON: {e}") from e
    if not isinstance(value, dict):
        raise BadDocument(f"manifest {document.digest} is not a JSON object")
    return value
