"""
Mounts of real engines, as the kernel shows them, are found by the garbage collector,
apart from what the engines report.
"""

from __future__ import annotations

import os

from tests.integration.programs import Xferd
from tests.integration.test_engine_containerd import ContainerdCase, runnable_image
from tests.integration.test_engine_podman import PodmanCase
from xferd.store.gc.mounts import find_mounts
from xferd.store.paths import Paths

MAPS = ("--uidmap=0:100000:65536", "--gidmap=0:200000:65536")
"""Options of a user namespace."""


async def unseen(daemon: Xferd, reference: str) -> set[str]:
    """
    The trees of an image that the survey of mounts does not find.
    """
    (image,) = await daemon.show("inspect", reference)
    trees = os.path.join(daemon.data, "trees")
    names = {os.path.relpath(os.path.dirname(path), trees) for path in image["trees"]}
    assert names
    return names - find_mounts(Paths(daemon.data)).trees


class PodmanMountsTests(PodmanCase):
    """
    Containers of podman, on the view.
    """

    async def test_mounts(self) -> None:
        """
        The trees of a container are found, with and without a user namespace, also when
        the daemon has no name for its image; the image's list names the container.
        """
        await self.daemon.ctl("pull", self.reference)
        for options in ((), MAPS):
            self.assertNotEqual(await unseen(self.daemon, self.reference), set())
            await self.storage.podman("run", "--detach", *options, self.reference, "sleep", "1000")
            self.assertEqual(await unseen(self.daemon, self.reference), set(), options)
            await self.daemon.ctl("gc", "--dry-run")
            (image,) = await self.daemon.show("images")
            self.assertTrue(image["used_by"])
            await self.storage.stop()


class ContainerdMountsTests(ContainerdCase):
    """
    Containers of containerd 2, on the snapshotter.
    """

    async def test_mounts(self) -> None:
        """
        The trees of a container are found: by their paths, from within a common
        directory, by short names, and with mapped owners.
        """
        for number, layers in enumerate((3, 120)):
            reference = self.add(runnable_image(layers, 1000), f"app{number}")
            await self.daemon.ctl("pull", reference)
            await self.containerd.pull(reference)
            for more in ((), (*MAPS, "--remap-labels")):
                self.assertNotEqual(await unseen(self.daemon, reference), set())
                options = ("--detach", *more)
                await self.containerd.run_in(reference, "one", "sleep", "1000", options=options)
                try:
                    self.assertEqual(await unseen(self.daemon, reference), set(), (layers, more))
                    found = await self.daemon.show("images")
                    (image,) = (each for each in found if each["reference"] == reference)
                    self.assertTrue(image["used_by"][0].startswith("containerd main"), image["used_by"])
                    self.assertIn("kept for:   containerd main", await self.daemon.ctl("gc", "--dry-run"))
                finally:
                    await self.containerd.ctr("task", "rm", "--force", "one")
                    await self.containerd.ctr("container", "rm", "one")
