"""
A container on xferd's trees sees what it sees on the trees that its engine unpacks itself:
the same entries with the same types, modes, owners, times, contents, links, devices and
extended attributes, with and without a user namespace, and nothing that an upper layer removes.
"""

from __future__ import annotations

import json
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from tarfile import LNKTYPE
from typing import Any, ClassVar, Final, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from tests.integration.newer import DIRECTORY, newer
from tests.integration.programs import Program, Xferd
from tests.integration.seen import seen
from tests.integration.test_engine_containerd import ContainerdCase, runnable_image
from tests.integration.test_engine_crio import CrioCase
from tests.integration.test_engine_docker import DockerCase
from tests.integration.test_engine_mounts import MAPS, unseen
from tests.integration.test_engine_podman import NET_BIND, PodmanCase, RootlessCase, Storage
from tests.integration.test_engine_podman5 import Podman5Case
from tests.integration.trees import differences
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import SampleImage, image_of
from xferd.testing.layers import LayerBuilder

reactor = cast(IReactor, installed)

_REMOVED: Final = (b"removed", b"gone/file", b"hidden/file", b"etc/added", b"odd/below", b"odd/fifo2")
"""What a layer has and one above it removes."""

XFERD, OWN = "xferd", "own"
"""Whose trees a container stands on."""


def unusual_image(highest: int) -> SampleImage:
    """
    An image with files of many kinds, that can run.

    @param highest: the largest user ID of its files.
    """
    below = (
        LayerBuilder()
        .directory("odd")
        .file("odd/below", b"x")
        .fifo("odd/fifo2")
        .directory("kept", mode=0o711)
    )
    below.file("kept/file", b"below", uid=5).directory("kept/deep").file("kept/deep/file", b"below")
    layer = LayerBuilder().directory("odd", mode=0o2775, uid=3, gid=4, mtime=1_500_000_000.25)
    layer.file("odd/setuid", b"x", mode=0o4755, uid=7, gid=8).file("odd/none", mode=0)
    layer.file("odd/noted", b"x", xattrs={"user.a": b"b"})
    layer.file("odd/capable", b"x", mode=0o755, xattrs={"security.capability": NET_BIND})
    layer.file("odd/far", b"x", uid=highest, gid=highest).file("odd/later", b"x", mtime=1_900_000_000.75)
    layer.entry("odd/same", LNKTYPE, target="odd/setuid", mode=0o4755, uid=7, gid=8)
    layer.symlink("odd/link", "../gone/else").fifo("odd/fifo").device("odd/device", 1, 3)
    layer.directory("implied/not/listed").file("bin/../odd/up", b"x")
    layer.whiteout("etc/added").directory("gone").file("gone/again", b"x").opaque("odd")
    layer.file("kept/deep/more", b"above").file("kept/file", b"above", uid=6, mode=0o640)
    return image_of([*runnable_image().layers[:2], below.finish(), layer.finish()])


class SameTrees(ABC):
    """
    Mixed into the case of an engine.

    @cvar maps: the options of containers.
    @cvar implies: whether a directory that a layer implies keeps the mode that one below gives it, as
        on xferd's trees; else the engine makes it like a new one.
    @cvar highest: the largest user ID in the image.
    """

    timeout = 600
    maps: ClassVar[Sequence[Sequence[str]]] = ((), MAPS)
    implies: ClassVar[bool] = True
    highest: ClassVar[int] = 2**31
    daemon: Xferd
    place: Path

    @abstractmethod
    async def put(self, image: SampleImage) -> str:
        """
        Have a registry serve an image; returns its name.
        """

    @abstractmethod
    async def pull(self, reference: str) -> None:
        """
        Have the engine pull the image: by xferd, which has it, and in its own way.
        """

    @abstractmethod
    async def start_on(self, trees: str, reference: str, name: str, options: Sequence[str]) -> str:
        """
        Start a container that sleeps.

        @param trees: L{XFERD} or L{OWN}.
        @return: the ID of its process.
        """

    async def test_same(self) -> None:
        """
        Both containers see the same, the one on xferd's trees and the other.
        """
        case = cast(TestCase, self)
        began = os.stat(self.place).st_ctime_ns
        reference = await self.put(unusual_image(self.highest))
        await self.daemon.ctl("pull", reference)
        await self.pull(reference)
        for number, options in enumerate(self.maps):
            theirs = await seen(reactor, await self.start_on(OWN, reference, f"own{number}", options))
            case.assertNotEqual(await unseen(self.daemon, reference), set())
            ours = await seen(reactor, await self.start_on(XFERD, reference, f"xferd{number}", options))
            case.assertEqual(await unseen(self.daemon, reference), set())
            case.assertIn(b"odd/setuid", ours)
            case.assertEqual([path for path in _REMOVED if path in ours], [])
            case.assertEqual(ours[b"kept"]["mode"], "0o40711")
            if not self.implies:
                theirs[b"kept"]["mode"] = "0o40711"
            case.assertEqual(differences(*_timed(ours, theirs, began)), [], options)
            await self.clean()

    @abstractmethod
    async def clean(self) -> None:
        """
        Remove the containers.
        """


def _timed(
    ours: dict[bytes, dict[str, Any]], theirs: dict[bytes, dict[str, Any]], began: int
) -> tuple[dict[bytes, dict[str, Any]], dict[bytes, dict[str, Any]]]:
    """
    Both listings without the times of entries that the engine has made itself: directories that a
    layer implies, and mount points.  xferd keeps the time that a lower layer gives to the
    first.
    """
    made = {path for path, facts in theirs.items() if began <= (facts["mtime"] or 0) < began + 10**12}
    for path in made & ours.keys():
        ours[path]["mtime"] = theirs[path]["mtime"] = None
    return ours, theirs


class Containerd2Tests(SameTrees, ContainerdCase):
    """
    containerd 2, beside its snapshotter overlayfs.
    """

    maps: ClassVar[Sequence[Sequence[str]]] = ((), (*MAPS, "--remap-labels"))

    async def put(self, image: SampleImage) -> str:
        """
        Have a registry serve an image; returns its name.
        """
        return self.add(image)

    async def pull(self, reference: str) -> None:
        """
        Have the engine pull the image.
        """
        await self.containerd.pull(reference, namespace="k8s.io")
        own = ("images", "pull", "--plain-http", "--snapshotter=overlayfs", "--local")
        await self.containerd.ctr(*own, reference, namespace=OWN)

    async def start_on(self, trees: str, reference: str, name: str, options: Sequence[str]) -> str:
        """
        Start a container that sleeps.
        """
        namespace, snapshotter = ("k8s.io", "xferd") if trees == XFERD else (OWN, "overlayfs")
        more = ("--detach", f"--snapshotter={snapshotter}", *options)
        await self.containerd.run_in(reference, name, "sleep", "1000", options=more, namespace=namespace)
        listed = await self.containerd.ctr("tasks", "ls", namespace=namespace)
        (line,) = (line for line in listed.splitlines() if line.startswith(f"{name} "))
        return line.split()[1]

    async def clean(self) -> None:
        """
        Remove the containers.
        """
        for namespace in ("k8s.io", OWN):
            for name in (await self.containerd.ctr("containers", "ls", "-q", namespace=namespace)).split():
                await self.containerd.ctr("tasks", "rm", "--force", name, namespace=namespace)
                await self.containerd.ctr("containers", "rm", name, namespace=namespace)


class DebiansContainerdTests(Containerd2Tests):
    """
    Debian's containerd 1.6 by CRI.
    """

    newest = False
    # It copies the image for a user namespace.
    maps = ((), MAPS)

    async def pull(self, reference: str) -> None:
        """
        Have the engine pull the image.
        """
        await self.containerd.crictl("pull", reference)
        own = ("images", "pull", "--plain-http", "--snapshotter=overlayfs")
        await self.containerd.ctr(*own, reference, namespace=OWN)


class Containerd17Tests(DebiansContainerdTests):
    """
    containerd 1.7 by CRI, from the directory in C{XFERD_ENGINES}.
    """

    directory = f"{DIRECTORY}/containerd17"

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Find it.
        """
        newer("containerd17/containerd")
        await super().setUp()


class PodmanTests(SameTrees, PodmanCase):
    """
    Debian's podman, beside one with a storage of its own.
    """

    implies = False

    async def put(self, image: SampleImage) -> str:
        """
        Have a registry serve an image; returns its name.
        """
        return await self.push("unusual:1", image)

    async def pull(self, reference: str) -> None:
        """
        Have the engine pull the image.
        """
        self.other = self.make_storage("other")
        self.addCleanup(lambda: Deferred.fromCoroutine(self.other.stop()))
        await self.other.podman("pull", "--quiet", "--tls-verify=false", reference)

    def storage_on(self, trees: str) -> Storage:
        """
        The storage of the containers.
        """
        return self.storage if trees == XFERD else self.other

    async def start_on(self, trees: str, reference: str, name: str, options: Sequence[str]) -> str:
        """
        Start a container that sleeps.
        """
        podman = self.storage_on(trees).podman
        await podman("run", "--detach", f"--name={name}", *options, reference, "sleep", "1000")
        return await podman("inspect", "--format={{.State.Pid}}", name)

    async def clean(self) -> None:
        """
        Remove the containers.
        """
        for trees in (XFERD, OWN):
            await self.storage_on(trees).stop()


class RootlessPodmanTests(RootlessCase, PodmanTests):
    """
    podman of another user, beside one with a storage of its own.
    """

    maps = ((),)
    # The user has no more.
    highest = 60_000


class Podman5Tests(Podman5Case, PodmanTests):
    """
    podman of the directory in C{XFERD_ENGINES}.
    """


class BuildahTests(PodmanTests):
    """
    Buildah, whose processes have a root directory and no other namespace.
    """

    maps = ((),)

    async def start_on(self, trees: str, reference: str, name: str, options: Sequence[str]) -> str:
        """
        Start a container that sleeps.
        """
        storage = self.storage_on(trees)
        await storage.run("buildah", "from", "--pull-never", f"--name={name}", *options, reference)
        script = "echo it is $$.; exec sleep 1000"
        command = ("buildah", "run", "--isolation=chroot", name, "sh", "-c", script)
        program = Program(reactor, storage.argv(*command), ".\n", str(self.place))
        await program.start()
        process = program.output.split()[-1].rstrip(".")

        async def end() -> None:
            os.kill(int(process), signal.SIGKILL)
            await program.ended

        self.addCleanup(lambda: Deferred.fromCoroutine(end()))
        return process


class DockerTests(SameTrees, DockerCase):
    """
    docker with the containerd image store, beside one with the driver overlayfs.
    """

    maps = ((),)  # docker refuses userns-remap with a snapshotter.

    async def put(self, image: SampleImage) -> str:
        """
        Have a registry serve an image; returns its name.
        """
        return self.add(image)

    async def pull(self, reference: str) -> None:
        """
        Have the engine pull the image.
        """
        spaces = (f"--containerd-namespace={OWN}", f"--containerd-plugins-namespace={OWN}-plugins")
        settings = {"features": {"containerd-snapshotter": True}, "storage-driver": "overlayfs"}
        self.other = await self.start_dockerd("e", settings, *spaces)
        for docker in (self.docker, self.other):
            await docker.run("pull", "--quiet", reference)

    async def start_on(self, trees: str, reference: str, name: str, options: Sequence[str]) -> str:
        """
        Start a container that sleeps.
        """
        docker = self.docker if trees == XFERD else self.other
        command = ("--detach", "--network=host", f"--name={name}", *options, reference, "sleep", "1000")
        await docker.run("run", *command)
        return await docker.run("inspect", "--format={{.State.Pid}}", name)

    async def clean(self) -> None:
        """
        Remove the containers.
        """
        for docker in (self.docker, self.other):
            await docker.run("rm", "--force", *(await docker.run("ps", "--quiet")).split())


class CrioTests(SameTrees, CrioCase):
    """
    CRI-O, beside one without the view.
    """

    maps = ((), ("mapped",))
    implies = False

    async def put(self, image: SampleImage) -> str:
        """
        Have a registry serve an image; returns its name.
        """
        return await self.push("unusual:1", image)

    async def pull(self, reference: str) -> None:
        """
        Have the engine pull the image.
        """
        insecure = f'[[registry]]\nlocation = "{self.registry.host}"\ninsecure = true\n'
        await self.start_crio(OWN, "", insecure)
        for name in ("c", OWN):
            await self.crictl("pull", reference, name=name)

    async def start_on(self, trees: str, reference: str, name: str, options: Sequence[str]) -> str:
        """
        Start a container that sleeps.
        """
        users = [{"host_id": 100_000, "container_id": 0, "length": 65_536}] if options else []
        crio = "c" if trees == XFERD else OWN
        _, container = await self.run_pod(reference, crio, users)
        return str(json.loads(await self.crictl("inspect", container, name=crio))["info"]["pid"])

    async def clean(self) -> None:
        """
        Remove the containers.
        """
        for name in ("c", OWN):
            await self.remove_pods(name)
