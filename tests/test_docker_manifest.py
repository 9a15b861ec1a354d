"""
Tests for L{xferd.docker_manifest}.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.docker_manifest import to_oci_manifest
from xferd.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, LAYERS, OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document, Manifest, parse_document

DOCKER_LAYERS = sorted(media_type for media_type in LAYERS if "docker" in media_type)


def manifest(layers: Any) -> bytes:
    """
    A Docker manifest.
    """
    config = {"mediaType": DOCKER_CONFIG, "digest": str(Digest.of(b"config")), "size": 6}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers}
    ).encode()


def parsed(media_type: str, data: bytes) -> Manifest:
    """
    A parsed manifest.
    """
    found = parse_document(Document(media_type, data, Digest.of(data)))
    assert isinstance(found, Manifest)
    return found


class RenderTests(SynchronousTestCase):
    """
    Docker manifests in OCI form.
    """

    @given(st.lists(st.tuples(st.sampled_from(DOCKER_LAYERS), st.binary(max_size=9)), max_size=5))
    def test_same_image(self, layers: list[tuple[str, bytes]]) -> None:
        """
        The result has the same blobs with the same compression, and no Docker media
        types.
        """
        data = manifest(
            [{"mediaType": kind, "digest": str(Digest.of(blob)), "size": len(blob)} for kind, blob in layers]
        )
        rendered = to_oci_manifest(data)
        before, after = parsed(DOCKER_MANIFEST, data), parsed(OCI_MANIFEST, rendered)
        after.check_runnable()
        self.assertEqual(after.config.media_type, OCI_CONFIG)
        self.assertEqual(after.config.digest, before.config.digest)
        for one, other in zip(before.layers, after.layers, strict=True):
            self.assertEqual((one.digest, one.size), (other.digest, other.size))
            self.assertEqual(LAYERS[one.media_type], LAYERS[other.media_type])
            self.assertEqual("foreign" in one.media_type, "nondistributable" in other.media_type)
        self.assertNotIn(b"docker", rendered)

    def test_what_else_there_is(self) -> None:
        """
        Other fields and unknown media types stay; null layers are accepted.
        """
        layer = {"mediaType": "x/y", "digest": "d", "size": 1, "urls": ["https://example.com/"]}
        self.assertEqual(json.loads(to_oci_manifest(manifest([layer])))["layers"], [layer])
        self.assertEqual(json.loads(to_oci_manifest(manifest(None)))["layers"], [])

    def test_misnamed_config(self) -> None:
        """
        A config with a generic media type becomes an OCI config, as other tools require
        it.
        """
        for kind in ("application/octet-stream", "application/json", "text/html"):
            data = manifest([]).replace(DOCKER_CONFIG.encode(), kind.encode())
            self.assertEqual(parsed(OCI_MANIFEST, to_oci_manifest(data)).config.media_type, OCI_CONFIG)
        nameless = json.loads(manifest([]))
        del nameless["config"]["mediaType"]
        rendered = to_oci_manifest(json.dumps(nameless).encode())
        self.assertEqual(parsed(OCI_MANIFEST, rendered).config.media_type, OCI_CONFIG)

    def test_always_the_same(self) -> None:
        """
        The same manifest gives the same bytes.
        """
        data = manifest([])
        self.assertEqual(
            to_oci_manifest(data), to_oci_manifest(json.dumps(json.loads(data), sort_keys=True).encode())
        )
