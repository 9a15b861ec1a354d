"""
Container tools that Debian does not have, or has in older versions, as clients of a mirror.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.integration.containerds import NEWEST
from tests.integration.engines import Containerd, Docker, Engine
from tests.integration.newer import DIRECTORY
from tests.integration.programs import Program
from xferd.testing.images import SampleImage


class Containerd2(Containerd):
    """
    The same of version 2, from the directory in C{XFERD_CONTAINERD}.
    """

    directory = NEWEST
    programs: Sequence[str] = [os.path.join(NEWEST, name) for name in ("containerd", "ctr")]
    # By default, its transfer service unpacks for no other.
    snapshotter = "overlayfs"


class DockerContainerd(Docker):
    """
    dockerd of the directory in C{XFERD_ENGINES}, with the containerd image store, and a containerd
    2 that it runs itself.
    """

    hub_alone = False
    program = os.path.join(DIRECTORY or "/nowhere", "dockerd")
    driver = ()
    programs: Sequence[str] = [program, os.path.join(NEWEST, "containerd"), "docker", "unshare"]

    @staticmethod
    def content(image: SampleImage) -> str:
        """
        The diff IDs: it shows no digest of a config.
        """
        return " ".join(map(str, image.diff_ids))

    def allow(self, registry: str) -> None:
        """
        It uses plain HTTP on loopback.
        """

    @property
    def _apart(self) -> Sequence[str]:
        """
        Run it in a mount namespace, as no option names the directory of C{hosts.toml}.
        """
        Path("/etc/docker").mkdir(exist_ok=True)
        bind = f'mount --bind {self._path("etc/docker")} /etc/docker && PATH={NEWEST}:$PATH exec "$@"'
        return [*self._before, "unshare", "--mount", "sh", "-c", bind, "sh"]

    async def pull(self, reference: str) -> str:
        """
        Pull an image by its full name.
        """
        await self._daemon.run("pull", "--quiet", reference)
        (image,) = json.loads(await self._daemon.run("image", "inspect", reference))
        return " ".join(image["RootFS"]["Layers"])


class BuildKit(Engine):
    """
    buildkitd and C{buildctl}.
    """

    client = "buildkit"
    replaces = True
    programs: Sequence[str] = ("buildkitd", "buildctl", "runc")

    def allow(self, registry: str) -> None:
        """
        Declare plain HTTP.
        """
        path = self._path("etc/buildkit/buildkitd.toml")
        self._insert(path, f'[registry."{registry}"]\n', "  http = true\n")

    @staticmethod
    def content(image: SampleImage) -> str:
        """
        The digests of the layers: each engine makes a config of its own.
        """
        return " ".join(str(layer.blob.digest) for layer in image.layers)

    async def start(self) -> None:
        """
        Start the daemon.
        """
        await super().start()
        settings = str(self._path("etc/buildkit/buildkitd.toml"))
        argv = [*self._before, "buildkitd", "--config", settings, "--addr", f"unix://{self.place}/s"]
        argv += ["--root", str(self.place / "root"), "--oci-worker-snapshotter=native"]
        self._daemon = Program(self._reactor, argv, "running server on", str(self.place))
        await self._daemon.start()

    async def stop(self) -> None:
        """
        Stop the daemon.
        """
        await self._daemon.stop()

    async def pull(self, reference: str) -> str:
        """
        Build an image that has nothing else.
        """
        context, target = self.place / "context", self.place / "image"
        shutil.rmtree(target, ignore_errors=True)
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(f"FROM {reference}\n")
        build = ["--frontend=dockerfile.v0", f"--local=context={context}", f"--local=dockerfile={context}"]
        build += ["--progress=plain", f"--output=type=oci,tar=false,dest={target}"]
        await self._run("buildctl", "--addr", f"unix://{self.place}/s", "build", *build)
        return " ".join(layer["digest"] for layer in self._manifest(target)["layers"])


class Wharfie(Engine):
    """
    wharfie, the program by which k3s and RKE2 read C{registries.yaml} to pull their own images.
    """

    client = "k3s"
    programs: Sequence[str] = ("wharfie",)

    @staticmethod
    def content(image: SampleImage) -> str:
        """
        The diff IDs: it keeps the unpacked layers.
        """
        return " ".join(sorted(map(str, image.diff_ids)))

    async def pull(self, reference: str) -> str:
        """
        Unpack an image.
        """
        cache, target = self.place / "cache", self.place / "image"
        for directory in (cache, target):
            shutil.rmtree(directory, ignore_errors=True)
        options = ["--private-registry", str(self._path("etc/rancher/k3s/registries.yaml"))]
        options += ["--cache", "--cache-dir", str(cache)]
        await self._run("wharfie", *options, reference, str(target))
        return " ".join(sorted(path.name for path in cache.iterdir()))


class Kaniko(Engine):
    """
    kaniko's C{executor}, of the directory in C{XFERD_ENGINES}, with C{--registry-mirror} and
    C{--registry-map}.
    """

    client = ""
    programs: Sequence[str] = (os.path.join(DIRECTORY or "/nowhere", "executor"), "unshare")

    @staticmethod
    def content(image: SampleImage) -> str:
        """
        The digests of the layers: it makes a config of its own.
        """
        return " ".join(str(layer.blob.digest) for layer in image.layers)

    async def start(self) -> None:
        """
        Make a root directory: kaniko changes that in which it runs.
        """
        await super().start()
        for name in ("kaniko", "proc", "workspace"):
            self._path(f"root/{name}").mkdir(parents=True)
        shutil.copy(self.programs[0], self._path("root/kaniko/executor"))

    async def pull(self, reference: str) -> str:
        """
        Build an image that has nothing else.
        """
        host = reference.partition("/")[0]
        # In a path, it takes a host for the registry to use.
        alias = "lan" if ":" in host else host.partition(".")[0]
        mapped = f"--registry-map={host}={self._mirror}/{alias}"
        target = self._path("root/image")
        shutil.rmtree(target, ignore_errors=True)
        self._path("root/workspace/Dockerfile").write_text(f"FROM {reference}\n")
        build = ["--force", "--no-push", "--oci-layout-path=/image", "--context=dir:///workspace"]
        build += [f"--insecure-registry={self._mirror}", f"--insecure-registry={host}"]
        build.append(f"--registry-mirror={self._mirror}" if host == "docker.io" else mapped)
        apart = ["--mount", "--pid", "--fork", "--mount-proc", f"--root={self.place}/root"]
        await self._run("unshare", *apart, "/kaniko/executor", *build)
        return " ".join(layer["digest"] for layer in self._manifest(target)["layers"])


class ByName(Engine):
    """
    A tool that names the mirror in each reference.
    """

    client = ""
    falls_back = False


class Crane(ByName):
    """
    C{crane pull}.
    """

    programs: Sequence[str] = ("crane",)

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        target = self.place / "image"
        shutil.rmtree(target, ignore_errors=True)
        await self._run("crane", "pull", "--format=oci", self._through(reference), str(target))
        return self._laid_out(target)


class Oras(ByName):
    """
    C{oras copy} into a layout.
    """

    programs: Sequence[str] = ("oras",)

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        target = self.place / "image"
        shutil.rmtree(target, ignore_errors=True)
        options = ["--from-plain-http", "--to-oci-layout"]
        await self._run("oras", "copy", *options, self._through(reference), f"{target}:pulled")
        return self._laid_out(target)


class Regctl(ByName):
    """
    C{regctl image copy} into a layout.
    """

    programs: Sequence[str] = ("regctl",)

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        target = self.place / "image"
        shutil.rmtree(target, ignore_errors=True)
        host = f"reg={self._mirror},tls=disabled"
        await self._run(
            "regctl", "--host", host, "image", "copy", self._through(reference), f"ocidir://{target}:pulled"
        )
        return self._laid_out(target)


OTHERS: Final[Sequence[type[Engine]]] = (
    DockerContainerd,
    Containerd2,
    BuildKit,
    Wharfie,
    Kaniko,
    Crane,
    Oras,
    Regctl,
)
"""Tools that are tested where they are found."""


def found(kind: type[Engine]) -> bool:
    """
    Whether the programs of a tool are installed.
    """
    return all(shutil.which(program) for program in kind.programs)
