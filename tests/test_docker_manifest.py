"""
Tests for L{xferd.docker_manifest}.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.docker_manifest import render
from xferd.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, LAYERS, OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document, Manifest, parse_document

DOCKER_LAYERS = sorted(media_type for media_type in LAYERS if "docker" in media_type)


def manifest(layers: Any) -> bytes:
    """
    A manifest of Docker's.
    """
    config = {"mediaType": DOCKER_CONFIG, "digest": str(Digest.of(b"config")), "size": 6}
    return json.dumps(
        {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "config": config, "layers": layers}
    ).encode()


def parsed(media_type: str, data: bytes) -> Manifest:
    """
    A manifest as xferd reads it.
    """
    found = parse_document(Document(media_type, data, Digest.of(data)))
    assert isinstance(found, Manifest)
    return found


class RenderTests(SynchronousTestCase):
    """
    Docker's manifests in OCI's words.
    """

    @given(st.lists(st.tuples(st.sampled_from(DOCKER_LAYERS), st.binary(max_size=9)), max_size=5))
    def test_same_image(self, layers: list[tuple[str, bytes]]) -> None:
        """
        It is the same image, of the same blobs, each compressed as it was,
        and no type of Docker's is left.
        """
        data = manifest(
            [{"mediaType": kind, "digest": str(Digest.of(blob)), "size": len(blob)} for kind, blob in layers]
        )
        rendered = render(data)
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
        What else a descriptor says stays, as does a type that nobody knows;
        no layers may be written as null.
        """
        layer = {"mediaType": "x/y", "digest": "d", "size": 1, "urls": ["https://example.com/"]}
        self.assertEqual(json.loads(render(manifest([layer])))["layers"], [layer])
        self.assertEqual(json.loads(render(manifest(None)))["layers"], [])

    def test_misnamed_config(self) -> None:
        """
        A config that Docker's manifest calls something else is called OCI's
        config, or other tools would not read it.
        """
        for kind in ("application/octet-stream", "application/json", "text/html"):
            data = manifest([]).replace(DOCKER_CONFIG.encode(), kind.encode())
            self.assertEqual(parsed(OCI_MANIFEST, render(data)).config.media_type, OCI_CONFIG)
        nameless = json.loads(manifest([]))
        del nameless["config"]["mediaType"]
        rendered = render(json.dumps(nameless).encode())
        self.assertEqual(parsed(OCI_MANIFEST, rendered).config.media_type, OCI_CONFIG)

    def test_always_the_same(self) -> None:
        """
        The same manifest gives the same bytes.
        """
        data = manifest([])
        self.assertEqual(render(data), render(json.dumps(json.loads(data), sort_keys=True).encode()))
