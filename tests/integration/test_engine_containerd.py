"""
containerd pulls and runs images by the daemon's snapshotter.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Final, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.containerds import NEWEST, SnapshottingContainerd
from tests.integration.peers import PeerFailed, require
from tests.integration.programs import Xferd
from xferd.engines.snapshotter.pulls import PATIENCE
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import SampleImage, image_of, sample_layer
from xferd.testing.layers import LayerBuilder
from xferd.testing.registry import Registry
from xferd.testing.tokens import BasicGuard

reactor = cast(IReactor, installed)

OS_RELEASE: Final = b"ID=xferd-test\n"


def runnable_image(layers: int = 3, size: int = 200_000) -> SampleImage:
    """
    An image with a shell, and layers on top that remove and change what is below.
    """
    with open(require("busybox"), "rb") as file:
        busybox = file.read()
    base = LayerBuilder()
    for name in ("bin", "etc", "proc", "sys", "dev", "run", "gone", "hidden"):
        base.directory(name)
    base.directory("tmp", mode=0o1777)
    base.file("bin/busybox", busybox, mode=0o755)
    for name in ("sh", "cat", "ls", "id", "touch", "sleep", "stat", "find", "true"):
        base.symlink(f"bin/{name}", "busybox")
    base.file("etc/os-release", OS_RELEASE).file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    base.file("gone/file", b"below").file("hidden/file", b"below").file("removed", b"below")
    upper = LayerBuilder().directory("etc").file("etc/added", b"added", uid=1000, gid=1000)
    upper.whiteout("removed").whiteout("gone").directory("hidden").opaque("hidden")
    upper.file("hidden/new", b"above")
    more = [sample_layer(size, n) for n in range(layers - 2)]
    return image_of([base.finish(), upper.finish(), *more])


class ContainerdCase(TestCase):
    """
    A registry, xferd, and a containerd that uses it.

    @cvar newest: whether it is a containerd 2.
    @cvar users: the passwords that the registry wants, by user; none by default.
    @cvar more: further settings of the engine; C{PLACE} is the directory of the test.
    """

    timeout = 180
    newest = True
    users: Mapping[str, str] = {}
    more = ""

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        if os.geteuid() != 0:
            raise SkipTest("containerd needs root")
        if self.newest and not os.path.exists(f"{NEWEST}/containerd"):
            raise SkipTest("XFERD_CONTAINERD names no directory with a containerd 2")
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.registry = Registry(reactor, guard=BasicGuard(self.users) if self.users else None)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        self.socket = str(self.place / "engine.sock")
        self.settings = self.place / "xferd.toml"
        more = self.more.replace("PLACE", str(self.place))
        self.settings.write_text(f'[engines.containerd.main]\nsocket = "{self.socket}"\n{more}')
        self.daemon = await self.start_daemon()
        self.containerd = await self.start_containerd()

    async def start_daemon(self) -> Xferd:
        """
        Start xferd.
        """
        daemon = Xferd(reactor, str(self.place / "x"), "--config", str(self.settings))
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        return daemon

    async def start_containerd(self, name: str = "c") -> SnapshottingContainerd:
        """
        Start containerd.
        """
        place = self.place / name
        daemon = SnapshottingContainerd(reactor, place, self.socket, self.daemon.data, newest=self.newest)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        return daemon

    async def until(self, condition: Callable[[], object]) -> None:
        """
        Wait until something holds.
        """
        while not condition():
            await deferLater(reactor, 0.02)

    async def patiently(self, work: Callable[[], Awaitable[str]]) -> str:
        """
        Do something that fails until containerd has connected again.
        """
        for _ in range(50):
            with contextlib.suppress(PeerFailed):
                return await work()
            await deferLater(reactor, 0.2)
        return await work()

    def add(self, image: SampleImage, name: str = "app") -> str:
        """
        Put an image into the registry; returns its name.
        """
        self.registry.add(image, name, "1")
        return f"{self.registry.host}/{name}:1"

    def blob_gets(self, image: SampleImage) -> list[int]:
        """
        How often each layer's blob was fetched.
        """
        return [self.registry.count("GET", layer.blob.digest) for layer in image.layers]


class NewestTests(ContainerdCase):
    """
    containerd 2.
    """

    async def test_pull_and_run(self) -> None:
        """
        A pull fetches manifest and config only; a container prints its
        C{/etc/os-release} from xferd's trees.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.containerd.pull(reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        content = await self.containerd.ctr("content", "ls", "-q")
        self.assertEqual(len(content.split()), 2, content)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_present(self) -> None:
        """
        Layers that the store has are used at once: nobody asks the registry for a blob, and
        xferd asks for nothing.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.daemon.ctl("pull", reference)
        manifests = self.registry.count("GET", image.digest) + self.registry.count("GET", "1")
        await self.containerd.pull(reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        asked = self.registry.count("GET", image.digest) + self.registry.count("GET", "1")
        self.assertLessEqual(asked - manifests, 2)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_life(self) -> None:
        """
        A container writes, is committed and removed; gc breaks neither it nor what was
        built on it; when the engine has removed all, gc frees all.
        """
        image = runnable_image()
        reference = self.add(image)
        ctr = self.containerd
        await ctr.pull(reference)
        await ctr.run_in(reference, "one", "touch", "/written", options=())
        await self.daemon.ctl("gc")
        await ctr.ctr("snapshots", "--snapshotter=xferd", "commit", "built", "one")
        await ctr.ctr("snapshots", "--snapshotter=xferd", "prepare", "again", "built")
        await ctr.ctr("containers", "rm", "one")
        await self.daemon.ctl("gc")
        mounts = await ctr.ctr("snapshots", "--snapshotter=xferd", "mounts", "/mnt", "again")
        self.assertIn("lowerdir=", mounts)
        usage = await ctr.ctr("snapshots", "--snapshotter=xferd", "usage")
        self.assertIn("built", usage)
        output = await ctr.run_in(reference, "two", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)
        for key in ("again", "built"):
            await ctr.ctr("snapshots", "--snapshotter=xferd", "rm", key)
        await ctr.ctr("images", "rm", "--sync", reference)
        listed = await ctr.ctr("snapshots", "--snapshotter=xferd", "ls")
        self.assertEqual(len(listed.splitlines()), 1, listed)
        # What a pull has brought is kept for the next request for some seconds.
        await deferLater(reactor, PATIENCE)
        (collected,) = await self.daemon.show("gc")
        self.assertEqual((collected["freed"]["layers"], collected["freed"]["trees"]), (3, 3))
        self.assertEqual(os.listdir(f"{self.daemon.data}/engines/main/snapshots"), [])
        self.assertEqual(os.listdir(f"{self.daemon.data}/engines/main/l"), [])

    async def test_two_namespaces(self) -> None:
        """
        Two namespaces that pull an image at once have each blob fetched once; when one
        removes the image, the other keeps it.
        """
        image = runnable_image(5, 2_000_000)
        reference = self.add(image)
        ctr = self.containerd
        pulls = [Deferred.fromCoroutine(ctr.pull(reference, namespace=name)) for name in ("one", "two")]
        await gatherResults(pulls, consumeErrors=True)
        self.assertEqual(self.blob_gets(image), [1] * 5)
        await ctr.ctr("images", "rm", "--sync", reference, namespace="one")
        output = await ctr.run_in(reference, "c", "cat", "/etc/os-release", namespace="two")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_restart(self) -> None:
        """
        xferd is killed while a container runs: the container goes on, and after the
        restart the snapshots are as before and new containers start.
        """
        image = runnable_image()
        reference = self.add(image)
        ctr = self.containerd
        await ctr.pull(reference)
        await ctr.run_in(reference, "one", "sleep", "1000", options=("--detach",))
        before = await ctr.ctr("snapshots", "--snapshotter=xferd", "ls")
        mounts = await ctr.ctr("snapshots", "--snapshotter=xferd", "mounts", "/mnt", "one")
        await self.daemon.stop("KILL")
        said = await ctr.ctr("tasks", "exec", "--exec-id", "x", "one", "cat", "/etc/os-release")
        self.assertEqual(said.encode(), OS_RELEASE)
        self.daemon = await self.start_daemon()
        self.assertEqual(await ctr.ctr("snapshots", "--snapshotter=xferd", "ls"), before)
        again = await ctr.ctr("snapshots", "--snapshotter=xferd", "mounts", "/mnt", "one")
        self.assertEqual(again, mounts)
        output = await self.patiently(lambda: ctr.run_in(reference, "two", "cat", "/etc/os-release"))
        self.assertEqual(output.encode(), OS_RELEASE)
        await self.daemon.ctl("gc")
        said = await ctr.ctr("tasks", "exec", "--exec-id", "y", "one", "ls", "/hidden")
        self.assertEqual(said.split(), ["new"])
        await ctr.ctr("tasks", "rm", "--force", "one")

    async def test_killed_in_a_pull(self) -> None:
        """
        xferd is killed in the middle of a pull: containerd pulls by itself, and the image
        runs.
        """
        image = runnable_image(4, 1_500_000)
        self.registry.rate = 1_500_000
        reference = self.add(image)
        pulling = Deferred.fromCoroutine(self.containerd.pull(reference))
        await self.until(lambda: bool(self.registry.count("GET", image.layers[3].blob.digest)))
        await self.daemon.stop("KILL")
        self.daemon = await self.start_daemon()
        # The call that waited for a layer ended with the connection, and the pull with it.
        with contextlib.suppress(PeerFailed):
            await pulling
        self.registry.rate = None
        await self.containerd.pull(reference)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)
