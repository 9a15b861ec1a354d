"""
containerd exports and pushes images whose layers stand in the store.
"""

from __future__ import annotations

import os
import tarfile

from twisted.internet.task import deferLater

from tests.integration.peers import PeerFailed
from tests.integration.test_engine_containerd import ContainerdCase, reactor, runnable_image
from xferd.engines.snapshotter.pulls import PATIENCE
from xferd.testing.images import SampleImage


class NewestTests(ContainerdCase):
    """
    containerd 2.
    """

    more = 'address = "PLACE/c/s"\n'
    namespace = "default"

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them, with no blob read from an export.
        """
        await super().setUp()
        self.blobs: dict[str, bytes] = {}

    async def pull(self, reference: str) -> None:
        """
        Pull by the snapshotter.
        """
        await self.containerd.pull(reference)

    async def ctr(self, *arguments: str) -> str:
        """
        Run ctr.
        """
        return await self.containerd.ctr(*arguments, namespace=self.namespace)

    async def exported(self, reference: str) -> set[str]:
        """
        The names of the blobs in an export.
        """
        path = str(self.place / "export.tar")
        await self.ctr("images", "export", path, reference)
        with tarfile.open(path) as archive:
            names = {
                name.rpartition("/")[2] for name in archive.getnames() if name.startswith("blobs/sha256/")
            }
            for name in names:
                file = archive.extractfile(f"blobs/sha256/{name}")
                assert file is not None
                self.blobs[name] = file.read()
        os.unlink(path)
        return names

    async def checked(self, reference: str) -> str:
        """
        The line of C{ctr images check} on an image.
        """
        output = await self.ctr("images", "check", "--snapshotter=xferd")
        return next(line for line in output.splitlines() if line.startswith(f"{reference} "))

    def expect_whole(self, image: SampleImage, names: set[str]) -> None:
        """
        Check the layers of an export.
        """
        for layer in image.layers:
            self.assertIn(layer.blob.digest.hex, names)
            self.assertEqual(self.blobs[layer.blob.digest.hex], layer.blob.content)

    async def test_fill(self) -> None:
        """
        An image is exported after its blobs were written, which fails before; nothing is
        fetched for it, and a collection of containerd's keeps them.
        """
        image = runnable_image(4, 3_000_000)
        reference = self.add(image)
        await self.pull(reference)
        self.assertIn("incomplete", await self.checked(reference))
        with self.assertRaises(PeerFailed):
            await self.exported(reference)
        (filled,) = await self.daemon.show("engine", "fill", "main", reference)
        size = sum(layer.blob.descriptor.size for layer in image.layers)
        self.assertEqual(
            filled,
            {"image": reference, "namespaces": [self.namespace], "blobs": 5, "written": 4, "bytes": size},
        )
        self.assertEqual(self.blob_gets(image), [1] * 4)
        self.assertIn(" complete", await self.checked(reference))
        self.expect_whole(image, await self.exported(reference))
        copy = f"{self.registry.host}/copy:1"
        await self.ctr("images", "tag", reference, copy)
        await self.ctr("images", "push", "--plain-http", copy)
        pushed = self.registry.storage.stock("copy").blobs
        self.assertLessEqual({layer.blob.digest for layer in image.layers}, pushed)
        await self.ctr("images", "rm", copy)
        again = await self.daemon.ctl("engine", "fill", "main", reference, "--namespace", self.namespace)
        self.assertIn("0 of 5 blobs were missing", again)
        # Removing another image collects all that nothing refers to.
        other = self.add(runnable_image(2, 1000), "other")
        await self.pull(other)
        await self.ctr("images", "rm", "--sync", other)
        self.expect_whole(image, await self.exported(reference))
        # CRI gives an image several names.
        await self.ctr("images", "rm", "--sync", *(await self.ctr("images", "ls", "-q")).split())
        self.assertEqual(await self.ctr("content", "ls", "-q"), "")

    async def test_fetched(self) -> None:
        """
        A blob that the store has no more is fetched.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.pull(reference)
        await deferLater(reactor, PATIENCE + 1)
        await self.daemon.ctl("gc")
        await self.daemon.ctl("engine", "fill", "main", reference)
        self.expect_whole(image, await self.exported(reference))
        self.assertEqual(self.blob_gets(image), [2] * 3)

    async def test_refused(self) -> None:
        """
        Unknown engines and images are named.
        """
        for arguments, why in (
            (("other", "a"), "the settings have no [engines.containerd.other]"),
            (("main", "a"), "has no image docker.io/library/a:latest"),
            (("main", "a", "--namespace", "x"), "in namespace 'x'"),
        ):
            with self.assertRaises(PeerFailed) as caught:
                await self.daemon.ctl("engine", "fill", *arguments)
            self.assertIn(why, str(caught.exception))
        await self.containerd.stop()
        with self.assertRaises(PeerFailed) as caught:
            await self.daemon.ctl("engine", "fill", "main", "a")
        self.assertIn(f"containerd main: cannot connect to {self.place}/c/s: ", str(caught.exception))


class DebiansTests(NewestTests):
    """
    Debian's containerd.
    """

    newest = False
    namespace = "k8s.io"

    async def pull(self, reference: str) -> None:
        """
        Pull by CRI.
        """
        await self.containerd.crictl("pull", reference)
