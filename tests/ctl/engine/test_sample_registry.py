"""
Tests for L{xferd.ctl.engine.sample_registry}.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.engine.sample_registry import Asked, SampleRegistry, make_image
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import Document, Manifest, parse_document
from xferd.platforms import Platform

ARM = Platform.parse("linux/arm/v7")


class ImageTests(SynchronousTestCase):
    """
    The image.
    """

    def test_valid(self) -> None:
        """
        Manifest, config and layer name one another by their digests.
        """
        image = make_image(ARM)
        manifest = parse_document(Document.verified(OCI_MANIFEST, image.manifest))
        assert isinstance(manifest, Manifest)
        self.assertEqual(manifest.config.digest, Digest.of(image.config))
        self.assertEqual([each.digest for each in manifest.layers], [Digest.of(image.layer)])
        config = json.loads(image.config)
        self.assertEqual((config["os"], config["architecture"], config["variant"]), ("linux", "arm", "v7"))
        tar = gzip.decompress(image.layer)
        self.assertEqual(config["rootfs"]["diff_ids"], [str(Digest.of(tar))])
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            self.assertEqual(archive.getnames(), ["xferd-check"])

    def test_new(self) -> None:
        """
        No two images have a layer in common.
        """
        self.assertNotEqual(make_image(ARM).layer, make_image(ARM).layer)


class RegistryTests(SynchronousTestCase):
    """
    The registry.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        self.registry = SampleRegistry(make_image(ARM))
        self.registry.start()
        self.addCleanup(self.registry.stop)
        self.host = self.registry.reference.partition("/")[0]

    def ask(self, path: str, agent: str = "other/1", method: str = "GET") -> bytes:
        """
        Send a request, and return the body.
        """
        request = Request(f"http://{self.host}/v2/{path}", headers={"User-Agent": agent}, method=method)
        with urlopen(request) as answer:
            return bytes(answer.read())

    def test_content(self) -> None:
        """
        The image is served by tag and by digest, and each client's requests are known.
        """
        image = self.registry.image
        self.assertEqual(self.ask(""), b"{}")
        for name in ("1", str(Digest.of(image.manifest)), "1?ns=x"):
            self.assertEqual(self.ask(f"xferd-check/manifests/{name}"), image.manifest)
        self.assertEqual(self.ask(f"xferd-check/blobs/{Digest.of(image.config)}"), image.config)
        self.assertEqual(self.ask(f"xferd-check/blobs/{Digest.of(image.layer)}", "xferd/1.2"), image.layer)
        asked = [Asked(False, "manifest")] * 3 + [Asked(False, "config"), Asked(True, "layer")]
        self.assertEqual(self.registry.asked, asked)

    def test_head(self) -> None:
        """
        A HEAD request is answered, and does not count as a request for content.
        """
        self.assertEqual(self.ask("xferd-check/manifests/1", method="HEAD"), b"")
        self.assertEqual(self.registry.asked, [])

    def test_unknown(self) -> None:
        """
        It has nothing else.
        """
        layer = Digest.of(self.registry.image.layer)
        for path in ("other/manifests/1", "xferd-check/manifests/2", f"xferd-check/manifests/{layer}", "x"):
            error = self.assertRaises(HTTPError, self.ask, path)
            self.assertEqual(error.code, 404)
            error.close()
