"""
Documents that few registries have: images with sha512 digests, and descriptors
with embedded data.
"""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

from tests.integration.test_daemon import DaemonCase, reactor
from xferd.media_types import OCI_MANIFEST
from xferd.oci import Document
from xferd.testing.faults import SetHeader
from xferd.testing.images import encode, image_of, sample_image, sample_layer
from xferd.testing.registry import Registry


class DocumentsTests(DaemonCase):
    """
    From registry to registry through the store, with real workers.
    """

    async def ended(self, kind: str, reference: str, target: str | None = None) -> dict[str, Any]:
        """
        Run a job, and check that it succeeded.
        """
        asked = {"kind": kind, "reference": reference} | ({} if target is None else {"target": target})
        job = await self.api("POST", "jobs", asked)

        async def over() -> Any:
            found = await self.api("GET", f"jobs/{job['id']}")
            return found if found["state"] in ("done", "failed") else None

        found: dict[str, Any] = await self.until(over)
        self.assertEqual((found["state"], found["error"]), ("done", None))
        return found

    async def test_sha512(self) -> None:
        """
        An image with sha512 digests throughout is pulled, unpacked, kept in a
        layout of sha512, and pushed under its digest.
        """
        layers = [sample_layer(200_000, seed=n).by("sha512") for n in range(2)]
        image = image_of(layers, algorithm="sha512")
        self.registry.add(image, "team/app", None)
        name = f"{self.registry.host}/team/app@{image.digest}"
        job = await self.ended("pull", name)
        self.assertEqual(job["result"]["digest"], str(image.digest))
        content = Path(self.daemon.data) / "content"
        for blob in image.blobs:
            self.assertEqual((content / "blobs" / "sha512" / blob.digest.hex).read_bytes(), blob.read())
        shown = await self.api("GET", f"images/{name}")
        self.assertEqual(len(shown["trees"]), 2)
        for layer, tree in zip(layers, shown["trees"], strict=True):
            self.assertIn(layer.diff_id.hex, tree)
        other = Registry(reactor)
        await other.listen(reactor)
        self.addCleanup(other.stop)
        await self.ended("push", name, f"{other.host}/team/app:1")
        stock = other.storage.repositories["team/app"]
        self.assertEqual(stock.documents[image.digest].data, image.manifest.data)
        self.assertLessEqual({blob.digest for blob in image.blobs}, stock.blobs)

    async def test_warnings(self) -> None:
        """
        A registry's warning is reported once to the client that it concerns.
        """
        _, reference = self.add(1)
        for _ in range(2):
            self.registry.faults.plant(SetHeader("Warning", '299 - "gone soon"'), "/manifests/")
            self.registry.faults.plant(SetHeader("Warning", '299 - "gone soon"'), "/blobs/")
            said = await self.daemon.ctl("pull", reference)
            self.assertEqual(said.count(f"warning: {self.registry.host}: gone soon\n"), 1)
            self.registry.faults.clear()
        self.assertEqual(self.daemon.output.count("warns: gone soon"), 1)

    async def test_data(self) -> None:
        """
        A layer that its manifest embeds is unpacked without a request for it.
        """
        image = sample_image(1)
        value = json.loads(image.manifest.data)
        value["layers"][0]["data"] = b64encode(image.layers[0].blob.read()).decode()
        self.registry.storage.put_blob("team/app", image.config)
        manifest = Document.verified(OCI_MANIFEST, encode(value))
        self.registry.storage.put_document("team/app", manifest, "1")
        await self.ended("pull", f"{self.registry.host}/team/app:1")
        self.assertEqual(self.registry.count("GET", image.layers[0].blob.digest), 0)
