"""
A quota that the store exceeds, C{rm} and C{gc}, while engines have running, stopped and
committed containers: what these need stays, and is named.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration import test_engine_podman as podman
from tests.integration.containerds import NEWEST
from tests.integration.peers import run
from tests.integration.programs import Xferd
from tests.integration.test_engine_containerd import OS_RELEASE, ContainerdCase, runnable_image
from tests.integration.test_engine_crio import CrioCase
from tests.integration.test_engine_docker import DockerCase
from tests.integration.test_engine_nerdctl import NerdctlCase
from tests.integration.test_engine_podman5 import Podman5Case
from tests.integration.trees import listing
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import image_of, sample_layer

reactor = cast(IReactor, installed)


async def exceed(daemon: Xferd, settings: str) -> None:
    """
    Set a quota of less than any image.
    """
    with open(settings, "a") as file:
        file.write("[store]\nquota = 1000\n")
    daemon.signal("HUP")


async def check_kept(
    daemon: Xferd, used: Sequence[str], unused: str, by: str, works: Callable[[], Awaitable[None]]
) -> None:
    """
    The quota removes the name of the unused image alone; C{rm} removes all names, and no
    layer that an engine needs.

    @param used: the names of images that have containers.
    @param by: how xferd names the engine.
    @param works: sees that the containers run, start, and have their files.
    """
    while unused in [image["reference"] for image in await daemon.show("images")]:
        await deferLater(reactor, 0.1)
    images = await daemon.show("images")
    assert sorted(image["reference"] for image in images) == sorted(used), images
    await daemon.ctl("gc")
    await works()
    for name in used:
        said = await daemon.ctl("rm", name)
        assert by in said, said
    said = await daemon.ctl("gc", "--dry-run")
    assert by in said, said
    await daemon.ctl("gc")
    await works()


async def check_commands(case: ContainerdCase, tool: Callable[..., Awaitable[str]]) -> None:
    """
    The containers of docker or nerdctl, whose commands are the same.

    @param tool: runs it, and returns what it prints.
    """
    base = runnable_image().layers
    names = []
    for name in ("running", "stopped", "committed", "unused"):
        names.append(case.add(image_of([*base, sample_layer(50_000, name)]), name))
        await case.daemon.ctl("pull", names[-1])
    for name in names[:3]:
        await tool("pull", "--quiet", name)
    cat = ("cat", "/etc/os-release")
    await tool("run", "--detach", "--net=host", "--name=running", names[0], "sleep", "1000")
    await tool("run", "--net=host", "--name=stopped", names[1], *cat)
    await tool("run", "--net=host", "--name=base", names[2], "touch", "/written")
    await tool("commit", "base", "built:1")
    await tool("rm", "base")

    async def works() -> None:
        for command in (
            ("exec", "running", *cat),
            ("start", "--attach", "stopped"),
            ("run", "--rm", "--net=host", "built:1", *cat, "/written"),
        ):
            case.assertEqual((await tool(*command)).encode(), OS_RELEASE, command)

    await exceed(case.daemon, str(case.settings))
    await check_kept(case.daemon, names[:3], names[3], "containerd main", works)
    await tool("rm", "--force", "running", "stopped")


class NewestTests(ContainerdCase):
    """
    containerd 2 by C{ctr}.
    """

    client = "ctr"
    namespace = "default"

    async def pull(self, reference: str) -> None:
        """
        Have xferd and containerd pull an image.
        """
        await self.daemon.ctl("pull", reference)
        if self.client == "ctr":
            await self.containerd.pull(reference)
        else:
            await self.containerd.crictl("pull", reference)

    async def ctr(self, *arguments: str) -> str:
        """
        Run ctr in the namespace.
        """
        return await self.containerd.ctr(*arguments, namespace=self.namespace)

    async def test_containers(self) -> None:
        """
        A running container, a created one, and a snapshot that was committed from one.
        """
        if self.client == "crictl" and not os.path.exists(f"{NEWEST}/crictl"):
            raise SkipTest("XFERD_CONTAINERD names no directory with crictl")
        base = runnable_image().layers
        names = []
        for name in ("running", "created", "committed", "unused"):
            names.append(self.add(image_of([*base, sample_layer(50_000, name)]), name))
            await self.daemon.ctl("pull", names[-1])
        for name in names[:3]:
            await self.pull(name)
        start = self.containerd.run_in
        await start(names[0], "running", "sleep", "1000", options=("--detach",), namespace=self.namespace)
        grep = ("/bin/busybox", "grep", "-q", OS_RELEASE.decode().strip(), "/etc/os-release")
        await self.ctr("containers", "create", "--snapshotter=xferd", names[1], "created", *grep)
        await start(names[2], "base", "touch", "/written", options=(), namespace=self.namespace)
        await self.ctr("snapshots", "--snapshotter=xferd", "commit", "built", "base")
        await exceed(self.daemon, str(self.settings))
        await check_kept(self.daemon, names[:3], names[3], "containerd main", self.works)
        await self.ctr("tasks", "rm", "--force", "running")

    async def works(self) -> None:
        """
        The containers run and start, and the snapshot has its files.
        """
        said = await self.ctr("tasks", "exec", "--exec-id", "x", "running", "cat", "/etc/os-release")
        self.assertEqual(said.encode(), OS_RELEASE)
        await self.ctr("tasks", "start", "created")
        target = str(self.place / "mounted")
        os.makedirs(target, exist_ok=True)
        await self.ctr("snapshots", "--snapshotter=xferd", "prepare", "again", "built")
        await run(
            reactor,
            ["sh", "-c", await self.ctr("snapshots", "--snapshotter=xferd", "mounts", target, "again")],
        )
        try:
            found = listing(target)
        finally:
            await run(reactor, ["umount", target])
        self.assertEqual({b"written", b"etc/os-release", b"hidden/new"} - found.keys(), set())
        await self.ctr("snapshots", "--snapshotter=xferd", "rm", "again")


class DebianTests(NewestTests):
    """
    Debian's containerd 1.6 by CRI.
    """

    newest = False
    client = "crictl"
    namespace = "k8s.io"


class PodmanTests(podman.PodmanCase):
    """
    Debian's podman.
    """

    async def test_containers(self) -> None:
        """
        A running container, a created one, and an image that was committed from one.
        """
        names = []
        for name in ("running", "created", "committed", "unused"):
            names.append(await self.push(f"{name}:1", podman.tiny_image(name)))
            await self.daemon.ctl("pull", names[-1])
        run_in = self.storage.podman
        await run_in("run", "--detach", "--name=running", names[0], "sleep", "1000")
        await run_in("create", "--name=created", names[1], "cat", "/etc/os-release")
        await run_in("create", "--name=base", names[2])
        await run_in("commit", "--quiet", "base", "localhost/built:1")
        await run_in("rm", "base")
        await exceed(self.daemon, self.options[1])
        await check_kept(self.daemon, names[:3], names[3], str(self.storage.root), self.works)

    async def works(self) -> None:
        """
        The containers run and start, the image as well.
        """
        podman_ = self.storage.podman
        self.assertEqual(await podman_("exec", "running", "cat", "/etc/os-release"), podman.RELEASE)
        await podman_("start", "--attach", "created")
        self.assertEqual(await self.run_in("localhost/built:1", "cat", "/etc/os-release"), podman.RELEASE)


class Podman5Tests(Podman5Case, PodmanTests):
    """
    podman of the directory in C{XFERD_ENGINES}.
    """


class BuildahTests(podman.PodmanCase):
    """
    Debian's Buildah.
    """

    async def test_containers(self) -> None:
        """
        A container that is mounted, one that is not, and an image that was committed from one.
        """
        names = []
        for name in ("mounted", "created", "committed", "unused"):
            names.append(await self.push(f"{name}:1", podman.tiny_image(name)))
            await self.daemon.ctl("pull", names[-1])
        run_ = self.storage.run
        for name, reference in zip(("mounted", "created", "base"), names, strict=False):
            await run_("buildah", "from", "--pull-never", f"--name={name}", reference)
        self.addCleanup(lambda: Deferred.fromCoroutine(run_("buildah", "rm", "--all")))
        self.mounted = Path((await run_("buildah", "mount", "mounted")).strip())
        await run_("buildah", "commit", "--quiet", "--rm", "base", "localhost/built:1")
        await exceed(self.daemon, self.options[1])
        await check_kept(self.daemon, names[:3], names[3], str(self.storage.root), self.works)

    async def works(self) -> None:
        """
        The containers have their files, and so has the image.
        """
        self.assertEqual((self.mounted / "etc/os-release").read_text(), podman.RELEASE)
        cat = ("run", "--isolation=chroot", "created", "cat", "/etc/os-release")
        self.assertEqual(await self.storage.run("buildah", *cat), podman.RELEASE)
        self.assertEqual(await self.run_in("localhost/built:1", "cat", "/etc/os-release"), podman.RELEASE)


class CrioTests(CrioCase):
    """
    CRI-O, which cannot commit.
    """

    async def test_containers(self) -> None:
        """
        A running container, two created ones, and a stopped one.
        """
        names = []
        for name in ("running", "created", "stopped", "unused"):
            names.append(await self.push(f"{name}:1", podman.tiny_image(name)))
            await self.daemon.ctl("pull", names[-1])
        listed = json.loads(await self.crictl("images", "--output", "json"))["images"]
        (self.stopped_image,) = [each["id"] for each in listed if names[2] in each["repoTags"]]
        self.sandbox, self.running = await self.run_pod(names[0])
        self.created = [await self.create(self.sandbox, names[1], f"created-{n}") for n in range(2)]
        stopped = await self.create(self.sandbox, names[2], "stopped")
        await self.crictl("start", stopped)
        await self.crictl("stop", stopped)
        await exceed(self.daemon, self.options[1])
        await check_kept(self.daemon, names[:3], names[3], str(self.storage.root), self.works)

    async def works(self) -> None:
        """
        The running container has its files, a created one starts, and a new one takes the
        place of the stopped one, as kubelet has it.
        """
        self.assertEqual(await self.cat(self.running), podman.RELEASE)
        again = await self.create(self.sandbox, self.stopped_image, f"again-{len(self.created)}")
        for container in (self.created.pop(), again):
            await self.crictl("start", container)
            self.assertEqual(await self.cat(container), podman.RELEASE)


class NerdctlTests(NerdctlCase):
    """
    nerdctl with a containerd 2.
    """

    async def test_containers(self) -> None:
        """
        A running container, a stopped one, and an image that was committed from one.
        """
        await check_commands(self, self.nerdctl)


class DockerTests(DockerCase):
    """
    docker with the containerd image store.
    """

    async def test_containers(self) -> None:
        """
        A running container, a stopped one, and an image that was committed from one.
        """
        await check_commands(self, self.docker.run)
