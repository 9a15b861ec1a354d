"""
The configuration that C{xferctl engine show} makes, as the engines themselves parse it.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.filepath import FilePath
from twisted.trial.unittest import TestCase

from tests.ctl.engine.test_served import NODE, STORAGE
from tests.integration.newer import newer
from tests.integration.peers import require, run
from xferd.ctl.engine.containerd_config import PATH
from xferd.ctl.engine.files import containerd, cri_o, docker, nerdctl, podman
from xferd.ctl.engine.machine import Machine, Version
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)

PLATFORM = "linux/amd64"

DEBIAN = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""
"""A file like that of Debian's package."""


class ParsedCase(TestCase):
    """
    A machine with a directory of its own.
    """

    def setUp(self) -> None:
        """
        Make the directory.
        """
        self.place = Path(mkdtemp(prefix="xferd-files-"))
        self.addCleanup(FilePath(str(self.place)).remove)

    def machine(self, **versions: Version) -> Machine:
        """
        A machine whose tools have these versions, besides those that are installed.
        """
        return Machine(os.environ, 0, versions, str(self.place))


class ContainerdTests(ParsedCase):
    """
    containerd 1 of Debian.
    """

    directory = ""

    def program(self) -> str:
        """
        The program of containerd.
        """
        return require("containerd")

    async def parsed(self, lines: str, present: str = "") -> dict[str, Any]:
        """
        The settings of containerd, by a file with lines.
        """
        path = self.place / "config.toml"
        path.write_text(f"{present}\n{lines}")
        return tomllib.loads(await run(reactor, [self.program(), "--config", str(path), "config", "dump"]))

    async def version(self) -> Version:
        """
        The version of the program.
        """
        machine = Machine({"PATH": os.path.dirname(self.program())}, 0, {})
        return machine.version("containerd")

    def assert_cri(self, settings: dict[str, Any]) -> None:
        """
        Kubernetes uses xferd, with the labels of snapshots.
        """
        plugins = settings["plugins"]
        found = plugins.get("io.containerd.cri.v1.images")
        if found is None:
            found = plugins["io.containerd.grpc.v1.cri"]["containerd"]
        self.assertEqual(found["snapshotter"], "xferd")
        self.assertFalse(found["disable_snapshot_annotations"])

    def assert_served(self, settings: dict[str, Any], version: Version) -> None:
        """
        The proxy plugin is there, and the transfer service of version 2 uses it.
        """
        plugin = settings["proxy_plugins"]["xferd"]
        self.assertEqual((plugin["type"], plugin["address"]), ("snapshot", NODE.path))
        if version.major >= 2:
            self.assertEqual(plugin["capabilities"], ["remap-ids"])
            self.assertEqual(plugin["exports"]["root"], NODE.data_dir)
            transfer = settings["plugins"]["io.containerd.transfer.v1.local"]
            names = [each["snapshotter"] for each in transfer["unpack_config"]]
            self.assertEqual(names, ["xferd", "overlayfs"])

    async def test_whole(self) -> None:
        """
        The whole file is one that containerd reads.
        """
        version = await self.version()
        file, _ = containerd(NODE, self.machine(containerd=version), PLATFORM)
        settings = await self.parsed(file.text)
        self.assert_served(settings, version)
        self.assert_cri(settings)

    async def test_beside(self) -> None:
        """
        So are the lines beside those of another file, of each version.
        """
        version = await self.version()
        for present in (DEBIAN, "oom_score = 0\n"):
            place = self.place / PATH.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(present)
            file, _ = containerd(NODE, self.machine(containerd=version), PLATFORM)
            self.assertFalse(file.is_whole)
            settings = await self.parsed(file.text, present)
            self.assert_served(settings, version)
            self.assert_cri(settings)

    async def test_nerdctl(self) -> None:
        """
        nerdctl needs the same without CRI.
        """
        version = await self.version()
        machine = self.machine(containerd=version, nerdctl=Version(2, 0))
        settings = await self.parsed(nerdctl(NODE, machine, PLATFORM)[0].text)
        self.assert_served(settings, version)

    async def test_docker(self) -> None:
        """
        docker needs the proxy plugin alone.
        """
        version = await self.version()
        machine = self.machine(containerd=version, docker=Version(29, 0))
        settings = await self.parsed(docker(NODE, machine, PLATFORM)[0].text)
        self.assertEqual(settings["proxy_plugins"]["xferd"]["address"], NODE.path)


class Containerd2Tests(ContainerdTests):
    """
    containerd 2, from the directory in C{XFERD_CONTAINERD}.
    """

    def program(self) -> str:
        """
        The program of containerd.
        """
        directory = os.environ.get("XFERD_CONTAINERD")
        if directory is None:
            raise SkipTest("XFERD_CONTAINERD names no directory with containerd 2")
        return require(os.path.join(directory, "containerd"))


class Containerd17Tests(ContainerdTests):
    """
    containerd 1.7, from the directory in C{XFERD_ENGINES}.
    """

    def program(self) -> str:
        """
        The program of containerd.
        """
        return newer("containerd17/containerd")


class StorageTests(ParsedCase):
    """
    podman, buildah and skopeo with C{storage.conf}.
    """

    async def stores(self, *argv: str) -> str:
        """
        The output of a program with the file in place, whose roots are in the directory.
        """
        view = self.place / "view"
        view.mkdir()
        served = STORAGE._replace(path=str(view))
        (file,) = podman(served, self.machine(), PLATFORM)
        self.assertTrue(file.is_whole)
        path = self.place / "storage.conf"
        text = file.text.replace("/var/lib/", f"{self.place}/").replace("/run/", f"{self.place}/run/")
        path.write_text(text)
        output, errors, code = await getProcessOutputAndValue(
            require(argv[0]), argv[1:], {**os.environ, "CONTAINERS_STORAGE_CONF": str(path)}, None, reactor
        )
        self.assertEqual(code, 0, errors.decode())
        return str(output.decode())

    def assert_view(self, output: str) -> None:
        """
        The view is among the stores of a program.
        """
        options = json.loads(output)["store"]
        self.assertIn(str(self.place / "view"), json.dumps(options))
        self.assertIn(str(self.place), json.dumps(options.get("graphRoot", options.get("GraphRoot"))))

    async def test_podman(self) -> None:
        """
        podman lists the view among the options of its store.
        """
        self.assert_view(await self.stores("podman", "info", "--format", "json"))

    async def test_buildah(self) -> None:
        """
        buildah reads the file; it has no image yet.
        """
        self.assertEqual(json.loads(await self.stores("buildah", "images", "--json") or "[]"), [])

    async def test_cri_o(self) -> None:
        """
        CRI-O of the directory in C{XFERD_ENGINES} parses its configuration with the option.
        """
        program = newer("crio")
        files = cri_o(STORAGE, self.machine(**{"cri-o": Version(1, 36)}), PLATFORM)
        path = self.place / "crio.conf"
        path.write_text(files[-1].text)
        output = await run(reactor, [program, "--config", str(path), "config"])
        self.assertIn(f'"overlay.imagestore={STORAGE.path}"', output)
