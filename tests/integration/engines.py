"""
Container tools that pull images through a mirror, each with a store, sockets and
configuration files of its own: those that Debian has.
"""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IReactorProcess

from tests.integration.peers import require, run
from tests.integration.programs import Dockerd, Program
from xferd.testing.images import SampleImage


class Engine(ABC):
    """
    A tool that pulls images.

    Life cycle: made; C{start}ed; C{pull}s; C{stop}ped.

    @cvar client: the name by which C{xferctl mirror show} knows it, or the empty
        string: it has no configuration, and names the mirror in each reference.
    @cvar hub_alone: whether it can mirror nothing but Docker Hub.
    @cvar falls_back: whether it requests a manifest from the registry itself where the mirror has
        none.
    @cvar replaces: whether it continues with the registry itself in the middle of an image.
    @cvar programs: the programs that it needs.
    """

    client: str = "podman"
    hub_alone: bool = False
    falls_back: bool = True
    replaces: bool = False
    programs: Sequence[str] = ()

    def __init__(
        self, reactor: IReactorProcess, place: Path, mirror: str, *, before: Sequence[str] = ()
    ) -> None:
        """
        @param place: its directory, which is created, with a short path.
        @param mirror: host and port of the mirror.
        @param before: a program that runs the rest of each command line.
        """
        self._before = before
        self._reactor = reactor
        self.place = place
        self._mirror = mirror
        place.mkdir(parents=True)

    def configure(self, files: Sequence[Mapping[str, Any]]) -> None:
        """
        Write the files that C{xferctl mirror show --json} printed.
        """
        for file in files:
            path = self._path(file["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file["text"])

    def allow(self, registry: str) -> None:  # noqa: B027 - many tools use plain HTTP on loopback
        """
        Let it use a registry itself over plain HTTP, as its user has to configure.

        @param registry: host and port, the name of an upstream.
        """

    @staticmethod
    def content(image: SampleImage) -> str:
        """
        What L{pull} returns for an image.
        """
        return str(image.config.digest)

    def _path(self, path: str) -> Path:
        """
        The place of a file of the machine.
        """
        return self.place / path.lstrip("/")

    async def start(self) -> None:
        """
        Start its daemon, if it has one.

        @raise SkipTest: a program is not installed.
        """
        for program in self.programs:
            require(program)

    async def stop(self) -> None:  # noqa: B027 - most tools have no daemon
        """
        Stop its daemon.
        """

    @abstractmethod
    async def pull(self, reference: str) -> str:
        """
        Pull an image.

        @param reference: the full name, with C{docker.io} where it is there.
        @return: its L{content}: by default the digest of its config.
        @raise PeerFailed: it cannot be pulled.
        """

    @property
    def _registries_conf(self) -> Path:
        """
        The drop-in, as the file of all registries.
        """
        return self._path("etc/containers/registries.conf.d/50-xferd.conf")

    async def _run(self, *argv: str) -> str:
        """
        Run a program that uses the drop-in for registries.
        """
        own = [f"HOME={self.place}", f"CONTAINERS_REGISTRIES_CONF={self._registries_conf}"]
        return await run(self._reactor, [*self._before, "env", *own, *argv])

    def _insert(self, path: Path, after: str, text: str) -> None:
        """
        Insert some text in a file.
        """
        before = path.read_text()
        assert after in before, before
        path.write_text(before.replace(after, after + text, 1))

    def _stored(self, directory: Path) -> str:
        """
        The config's digest of the one image in a directory of skopeo's.
        """
        return str(json.loads((directory / "manifest.json").read_text())["config"]["digest"])

    def _laid_out(self, directory: Path) -> str:
        """
        The config's digest of the one image in an OCI layout.
        """
        return str(self._manifest(directory)["config"]["digest"])

    def _manifest(self, directory: Path) -> Mapping[str, Any]:
        """
        The manifest of the one image in an OCI layout.
        """
        (entry,) = json.loads((directory / "index.json").read_text())["manifests"]
        algorithm, _, encoded = entry["digest"].partition(":")
        manifest: Mapping[str, Any] = json.loads((directory / "blobs" / algorithm / encoded).read_text())
        return manifest

    def _through(self, reference: str) -> str:
        """
        The name of an image in the mirror.
        """
        return f"{self._mirror}/{reference}"


class Containers(Engine):
    """
    A tool that reads C{registries.conf}.
    """

    def allow(self, registry: str) -> None:
        """
        Declare the registry insecure.
        """
        self._insert(self._registries_conf, f'location = "{registry}"\n', "insecure = true\n")


class Skopeo(Containers):
    """
    C{skopeo copy} into a directory.
    """

    programs: Sequence[str] = ("skopeo",)

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        target = self.place / "image"
        shutil.rmtree(target, ignore_errors=True)
        # It does not read the variable that names the file for podman and buildah.
        options = ["--insecure-policy", "--registries-conf", str(self._registries_conf)]
        await self._run("skopeo", *options, "copy", f"docker://{reference}", f"dir:{target}")
        return self._stored(target)


class Podman(Containers):
    """
    C{podman pull}.
    """

    programs: Sequence[str] = ("podman",)

    @property
    def _storage(self) -> list[str]:
        return [f"--root={self.place}/root", f"--runroot={self.place}/run", "--storage-driver=vfs"]

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        podman = ["podman", *self._storage, "--cgroup-manager=cgroupfs", "--events-backend=none"]
        pulled = await self._run(*podman, "pull", "--quiet", reference)
        return f"sha256:{pulled.strip()}"


class Buildah(Podman):
    """
    C{buildah pull}.
    """

    programs: Sequence[str] = ("buildah",)

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        pulled = await self._run("buildah", *self._storage, "pull", "--quiet", reference)
        return f"sha256:{pulled.strip()}"


class Docker(Engine):
    """
    Debian's dockerd, with the classic image store.

    @cvar program: the name or the path of its daemon.
    @cvar driver: the options that choose its storage driver.
    """

    client = "docker"
    hub_alone = True
    replaces = True
    programs: Sequence[str] = ("dockerd", "docker")
    program = "dockerd"
    driver: Sequence[str] = ("--storage-driver=overlay2",)

    def allow(self, registry: str) -> None:
        """
        Use the registry as a second mirror: docker would continue with Docker Hub, and after five
        attempts in 75 seconds.
        """
        path = self._path("etc/docker/daemon.json")
        config = json.loads(path.read_text())
        config["registry-mirrors"].append(f"http://{registry}")
        config["max-download-attempts"] = 1
        path.write_text(json.dumps(config))

    async def start(self) -> None:
        """
        Start the daemon.
        """
        await super().start()
        config = str(self._path("etc/docker/daemon.json"))
        place = str(self.place / "d")
        self._daemon = Dockerd(
            self._reactor,
            place,
            *("--config-file", config),
            program=self.program,
            driver=self.driver,
            before=self._apart,
        )
        await self._daemon.start()

    @property
    def _apart(self) -> Sequence[str]:
        """
        A program that runs its daemon's command line.
        """
        return self._before

    async def stop(self) -> None:
        """
        Stop the daemon.
        """
        await self._daemon.stop()

    async def pull(self, reference: str) -> str:
        """
        Pull an image by its short name.
        """
        short = reference.removeprefix("docker.io/").removeprefix("library/")
        await self._daemon.run("pull", "--quiet", short)
        return (await self._daemon.run("image", "inspect", "--format={{.Id}}", short)).strip()


class DockerBuild(Docker):
    """
    BuildKit inside Debian's dockerd, which pulls the base of an image.
    """

    # Newer clients have no builder without a plugin.
    programs: Sequence[str] = ("dockerd", "/usr/bin/docker")

    @staticmethod
    def content(image: SampleImage) -> str:
        """
        The diff IDs: each engine makes a config of its own.
        """
        return " ".join(map(str, image.diff_ids))

    async def pull(self, reference: str) -> str:
        """
        Build an image that has nothing else.
        """
        (self.place / "Dockerfile").write_text(f"FROM {reference}\n")
        docker = [self.programs[1], *self._daemon.command[1:]]
        build = ["build", "--quiet", "--tag=built", str(self.place)]
        await run(self._reactor, ["env", "DOCKER_BUILDKIT=1", *docker, *build])
        (image,) = json.loads(await run(self._reactor, [*docker, "image", "inspect", "built"]))
        return " ".join(image["RootFS"]["Layers"])


class Containerd(Engine):
    """
    containerd and C{ctr images pull --hosts-dir}.

    @ivar directory: the directory of the programs; empty for those of the C{PATH}.
    """

    client = "containerd"
    replaces = True
    programs: Sequence[str] = ("containerd", "ctr")
    directory = ""
    snapshotter = "native"

    async def start(self) -> None:
        """
        Start the daemon.
        """
        self.programs = [os.path.join(self.directory, name) for name in ("containerd", "ctr")]
        await super().start()
        settings = self.place / "config.toml"
        settings.write_text(
            f'version = 2\nroot = "{self.place}/root"\nstate = "{self.place}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.place}/s"\n'
        )
        argv = [*self._before, self.programs[0], "--config", str(settings)]
        self._daemon = Program(self._reactor, argv, "containerd successfully booted", str(self.place))
        await self._daemon.start()

    async def stop(self) -> None:
        """
        Stop the daemon.
        """
        await self._daemon.stop()

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        ctr = [self.programs[1], "--address", f"{self.place}/s"]
        hosts = str(self._path("etc/containerd/certs.d"))
        await self._run(
            *ctr, "images", "pull", "--hosts-dir", hosts, "--snapshotter", self.snapshotter, reference
        )
        listed = (await self._run(*ctr, "images", "ls", f"name=={reference}")).splitlines()[1].split()
        manifest = json.loads(await self._run(*ctr, "content", "get", listed[2]))
        return str(manifest["config"]["digest"])


DEBIAN: Final[Sequence[type[Engine]]] = (Docker, DockerBuild, Containerd, Podman, Skopeo, Buildah)
"""The tools that Debian has."""
