"""
C{xferctl verify} while containers of Debian's engines run on a damaged tree.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex

from tests.integration.programs import Xferd
from tests.integration.test_engine_containerd import OS_RELEASE, ContainerdCase, reactor, runnable_image
from tests.integration.test_engine_podman import RELEASE, PodmanCase
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.proto.cri_pb2 import ImageSpec, PullImageRequest, PullImageResponse


async def lower_tree(daemon: Xferd, reference: str) -> Path:
    """
    The present directory of the lowest layer of an image.
    """
    (shown,) = await daemon.show("inspect", reference)
    return Path(shown["trees"][0])


def damage(tree: Path, right: bytes) -> None:
    """
    Change a file as a disk does: size, times and mode stay.
    """
    path = tree / "etc/os-release"
    before, data = path.stat(), path.read_bytes()
    assert data == right
    with path.open("r+b") as file:
        file.write(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def wrong(right: bytes) -> str:
    """
    What such a file has.
    """
    return (bytes([right[0] ^ 1]) + right[1:]).decode()


class ContainerdTests(ContainerdCase):
    """
    Debian's containerd, with layers from the daemon.
    """

    newest = False

    async def test_runs_on(self) -> None:
        """
        A container continues on the damaged tree; new ones, and the same one when it starts again,
        have the healed one.  C{gc} keeps the damaged tree for as long as the container runs.
        """
        reference = self.add(runnable_image())
        await self.daemon.ctl("pull", reference)
        client = GrpcClient(f"{self.place}/c/s", reactor)
        self.addCleanup(client.close)
        request = PullImageRequest(image=ImageSpec(image=reference))
        await client.unary("/runtime.v1.ImageService/PullImage", request, PullImageResponse)
        await self.run_in(reference, "old", "sleep", "1000", options=("--detach",))
        try:
            await self.check(reference)
        finally:
            await self.ctr("tasks", "kill", "--signal", "SIGKILL", "old")
            await self.ctr("tasks", "delete", "--force", "old")

    async def check(self, reference: str) -> None:
        """
        Damage, verify, and look.
        """
        damaged = await lower_tree(self.daemon, reference)
        damage(damaged, OS_RELEASE)
        look = ("cat", "/etc/os-release")
        self.assertEqual(await self.execute("old", *look), wrong(OS_RELEASE))
        output = await self.daemon.ctl("verify", reference)
        self.assertIn("etc/os-release has other content", output)
        healed = await lower_tree(self.daemon, reference)
        self.assertNotEqual(healed, damaged)
        await self.daemon.ctl("gc")
        self.assertEqual(await self.execute("old", *look), wrong(OS_RELEASE))
        self.assertEqual(await self.execute("old", "ls", "/etc"), "added\nos-release\npasswd\n")
        self.assertTrue(damaged.exists())
        self.assertEqual((await self.run_in(reference, "new", *look)).encode(), OS_RELEASE)
        await self.ctr("tasks", "kill", "--signal", "SIGKILL", "old")
        await self.patiently(lambda: self.ctr("tasks", "delete", "old"))
        await self.ctr("tasks", "start", "--detach", "old")
        self.assertEqual(await self.execute("old", *look), OS_RELEASE.decode())

    async def ctr(self, *arguments: str) -> str:
        """
        Run ctr in the namespace of CRI, which has pulled the image.
        """
        return await self.containerd.ctr(*arguments, namespace="k8s.io")

    async def run_in(
        self, reference: str, name: str, *command: str, options: Sequence[str] = ("--rm",)
    ) -> str:
        """
        Run a container.
        """
        return await self.containerd.run_in(reference, name, *command, options=options, namespace="k8s.io")

    async def execute(self, name: str, *command: str) -> str:
        """
        Run a command in a container.
        """
        return await self.ctr("tasks", "exec", "--exec-id", token_hex(4), name, *command)


class PodmanTests(PodmanCase):
    """
    Debian's podman, by the view.
    """

    async def test_runs_on(self) -> None:
        """
        A container continues on the damaged tree; new ones have the healed one, at once.  So has the
        container when it starts again.
        """
        await self.daemon.ctl("pull", self.reference)
        podman, look = self.storage.podman, ("cat", "/etc/os-release")
        await podman("run", "--detach", "--name", "old", self.reference, "sleep", "1000")
        damaged = await lower_tree(self.daemon, self.reference)
        damage(damaged, RELEASE.encode())
        self.assertEqual(await podman("exec", "old", *look), wrong(RELEASE.encode()))
        output = await self.daemon.ctl("verify", self.reference)
        self.assertIn("etc/os-release has other content", output)
        self.assertEqual(await self.run_in(self.reference, *look), RELEASE)
        await self.daemon.ctl("gc")
        self.assertEqual(await podman("exec", "old", *look), wrong(RELEASE.encode()))
        self.assertTrue(damaged.exists())
        await podman("stop", "--time", "0", "old")
        await podman("start", "old")
        self.assertEqual(await podman("exec", "old", *look), RELEASE)
        # An engine that has the layer may have the damaged tree, too.
        await podman("rm", "--force", "--time", "0", "old")
        await self.daemon.ctl("rm", self.reference)
        await self.daemon.ctl("gc")
        self.assertFalse(damaged.exists())

    async def test_not_healed(self) -> None:
        """
        Where the tree cannot be replaced, the container continues, and the view shows the image no
        more; a pull brings it back.
        """
        await self.daemon.ctl("pull", self.reference)
        podman, look = self.storage.podman, ("cat", "/etc/os-release")
        await podman("run", "--detach", "--name", "old", self.reference, "sleep", "1000")
        damaged = await lower_tree(self.daemon, self.reference)
        damage(damaged, RELEASE.encode())
        blob = self.image.layers[0].blob.digest
        Path(self.daemon.data, "content/blobs/sha256", blob.hex).unlink()
        there = (
            self.place / f"registry/storage/docker/registry/v2/blobs/sha256/{blob.hex[:2]}/{blob.hex}/data"
        )
        away = there.rename(self.place / "away")
        _, errors, status = await self.daemon.try_ctl("verify", self.reference)
        self.assertEqual(status, 1)
        self.assertIn("STORE_DAMAGED", errors)
        self.assertEqual(await self.storage.images(), {})
        self.assertEqual(await podman("exec", "old", *look), wrong(RELEASE.encode()))
        await self.daemon.ctl("gc")
        self.assertEqual(await podman("exec", "old", *look), wrong(RELEASE.encode()))
        away.rename(there)
        await self.daemon.ctl("pull", self.reference)
        self.assertEqual(await self.run_in(self.reference, *look), RELEASE)
