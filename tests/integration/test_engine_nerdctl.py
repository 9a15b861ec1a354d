"""
nerdctl pulls, runs, commits, saves and pushes images by the daemon's snapshotter.
"""

from __future__ import annotations

import os
import tarfile
from typing import cast

from twisted.internet import reactor as installed

from tests.integration.newer import newer
from tests.integration.peers import run
from tests.integration.test_engine_containerd import OS_RELEASE, ContainerdCase, runnable_image
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)


class NerdctlCase(ContainerdCase):
    """
    nerdctl of the directory in C{XFERD_ENGINES}, with a containerd 2.
    """

    more = 'address = "PLACE/c/s"\n'

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Write the file that C{xferctl engine show nerdctl} prints.
        """
        self.program = newer("nerdctl")
        await super().setUp()
        versions = ("--for", "nerdctl=2.3", "--for", "containerd=2.4")
        shown = await self.daemon.show("engine", "show", "nerdctl", *versions, "--engine", "main")
        (text,) = [file["text"] for file in shown if file["path"] == "/etc/nerdctl/nerdctl.toml"]
        self.assertEqual(text, 'snapshotter = "xferd"\n')
        own = {
            "address": f"{self.place}/c/s",
            "data_root": f"{self.place}/n",
            "cni_path": "/usr/lib/cni",
            "cni_netconfpath": f"{self.place}/n/cni",
        }
        settings = "".join(f'{name} = "{value}"\n' for name, value in own.items())
        (self.place / "nerdctl.toml").write_text(f'{text}{settings}hosts_dir = ["{self.containerd.hosts}"]\n')

    async def nerdctl(self, *arguments: str) -> str:
        """
        Run nerdctl.
        """
        return await run(
            reactor, ["env", f"NERDCTL_TOML={self.place}/nerdctl.toml", self.program, *arguments]
        )

    async def cat(self, *arguments: str) -> bytes:
        """
        Print C{/etc/os-release} in a new container.
        """
        return (await self.nerdctl("run", "--net=host", *arguments, "cat", "/etc/os-release")).encode()


class NerdctlTests(NerdctlCase):
    """
    Pulls, containers and commits.
    """

    async def test_run(self) -> None:
        """
        nerdctl requests manifest and config alone; containers run, also while xferd
        collects and after it was killed, and are removed.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.nerdctl("pull", "--quiet", reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        content = await self.containerd.ctr("content", "ls", "-q")
        self.assertEqual(len(content.split()), 2, content)
        self.assertEqual(await self.cat("--rm", reference), OS_RELEASE)
        await self.nerdctl("run", "--detach", "--net=host", "--name=one", reference, "sleep", "1000")
        self.assertEqual(await self.cat("--name=two", reference), OS_RELEASE)
        await self.daemon.ctl("gc")
        await self.daemon.stop("KILL")
        said = await self.nerdctl("exec", "one", "cat", "/etc/os-release")
        self.assertEqual(said.encode(), OS_RELEASE)
        self.daemon = await self.start_daemon()
        await self.patiently(lambda: self.nerdctl("start", "two"))
        await self.daemon.ctl("gc")
        await self.nerdctl("stop", "--time=1", "one")
        await self.nerdctl("start", "one")
        await self.nerdctl("rm", "--force", "one", "two")
        self.assertEqual(await self.cat("--rm", reference), OS_RELEASE)
        await self.nerdctl("rmi", reference)
        await self.until(lambda: not os.listdir(f"{self.daemon.data}/engines/main/snapshots"))
        self.assertEqual(self.blob_gets(image), [1, 1, 1])

    async def test_committed(self) -> None:
        """
        A committed image runs on xferd's layers; it is pushed and saved whole once its
        base was filled.
        """
        reference, built = self.add(runnable_image()), f"{self.registry.host}/built:1"
        await self.nerdctl("pull", "--quiet", reference)
        await self.nerdctl("run", "--net=host", "--name=one", reference, "touch", "/written")
        await self.nerdctl("commit", "one", built)
        await self.nerdctl("rm", "one")
        await self.daemon.ctl("gc")
        self.assertEqual(await self.cat("--rm", built), OS_RELEASE)
        await self.daemon.ctl("engine", "fill", "main", reference)
        await self.nerdctl("push", "--quiet", built)
        archive = str(self.place / "saved.tar")
        await self.nerdctl("save", "--output", archive, built)
        with tarfile.open(archive) as opened:
            layers = [name for name in opened.getnames() if name.startswith("blobs/sha256/")]
        # Four layers, config and manifest.
        self.assertGreaterEqual(len(layers), 6, layers)
        await self.nerdctl("rmi", built, reference)

    async def test_killed(self) -> None:
        """
        xferd is killed while nerdctl waits for a layer, and started again: the pull ends, and xferd
        has fetched all layers.
        """
        image = runnable_image(4, 1_000_000)
        reference = self.add(image)
        await self.kill_in_pull(image, lambda: self.nerdctl("pull", "--quiet", reference), "default")
        self.assertEqual(await self.cat("--rm", reference), OS_RELEASE)

    async def test_check(self) -> None:
        """
        C{xferctl engine check} succeeds.
        """
        tools = self.place / "tools"
        tools.mkdir()
        (tools / "nerdctl").symlink_to(self.program)
        variables = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "DOCKER_CONFIG": str(self.place),
            "NERDCTL_TOML": f"{self.place}/nerdctl.toml",
        }
        said = await self.daemon.ctl("engine", "check", "nerdctl", "--engine", "main", variables=variables)
        self.assertIn("nerdctl: nerdctl pulled 127.0.0.1:", said)
