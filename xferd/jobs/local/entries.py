# -*- test-case-name: tests.jobs.local.test_manifests -*-
"""
Pushed manifests as the catalog lists them.
"""

from __future__ import annotations

from typing import Final

from xferd.errors import BadDocument, UnsupportedImage, shown
from xferd.interfaces.catalog import CatalogManifest
from xferd.jobs.mirror.entries import catalog_entry
from xferd.media_types import DOCKER_SCHEMA1, INDEXES, MANIFESTS
from xferd.oci import MAX_LAYERS, Descriptor, Document, document_type, parse_document
from xferd.subjects import json_of, referrer, subject_of

_BLOBS: Final = ("config", "layers", "blobs")
_MANIFESTS: Final = ("manifests",)


def pushed_entry(document: Document) -> CatalogManifest:
    """
    A pushed manifest with all that it names.

    Any JSON object is a manifest (OCI distribution-spec, "Pushing Manifests"): of an
    unknown media type, the descriptors in the usual fields are what it names.

    @raise BadDocument: it violates its specification, or is of Docker's schema 1,
        which clients no longer read.
    """
    if document.media_type in DOCKER_SCHEMA1:
        raise BadDocument("manifests of Docker's schema 1 are refused: push the image with a current tool")
    named = document_type(document.data)
    value = json_of(document)
    if "mediaType" in value and named != document.media_type:
        raise BadDocument(
            f"manifest {document.digest} came as {shown(document.media_type)} with mediaType {shown(named)}"
        )
    if document.media_type in MANIFESTS | INDEXES:
        try:
            parse_document(document)
        except UnsupportedImage as e:
            raise BadDocument(str(e)) from e
        return catalog_entry(document)
    return CatalogManifest(
        referrer(document),
        _descriptors(value, _BLOBS),
        _descriptors(value, _MANIFESTS),
        subject_of(document),
    )


def _descriptors(value: dict[str, object], names: tuple[str, ...]) -> tuple[Descriptor, ...]:
    """
    The descriptors in some fields of a manifest.
    """
    found: list[Descriptor] = []
    for name in names:
        field = value.get(name)
        entries = field if isinstance(field, list) else [] if field is None else [field]
        if len(entries) > MAX_LAYERS:
            raise BadDocument(f"{name} has {len(entries)} entries; xferd takes at most {MAX_LAYERS}")
        found += [Descriptor.from_json(entry, name) for entry in entries]
    return tuple(found)
