# -*- test-case-name: tests.jobs.mirror.test_entries -*-
"""
Manifests as the catalog lists them.
"""

from __future__ import annotations

from xferd.errors import UnsupportedImage
from xferd.interfaces.catalog import CatalogManifest
from xferd.oci import Document, Index, parse_document
from xferd.subjects import referrer, subject_of


def catalog_entry(document: Document) -> CatalogManifest:
    """
    A manifest or an index with all that it names.  A document of an unknown kind
    names nothing.

    @raise BadDocument: it violates its specification.
    """
    try:
        parsed = parse_document(document)
    except UnsupportedImage:
        return CatalogManifest(document.descriptor)
    descriptor, subject = referrer(document), subject_of(document)
    if isinstance(parsed, Index):
        return CatalogManifest(descriptor, (), parsed.manifests, subject)
    return CatalogManifest(descriptor, (parsed.config, *parsed.layers), (), subject)
