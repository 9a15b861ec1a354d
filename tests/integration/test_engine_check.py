"""
C{xferctl engine check} with real engines, which have the configuration that C{xferctl engine
show} prints and nothing else of xferd's.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.containerds import NEWEST
from tests.integration.peers import require, run
from tests.integration.programs import XFERCTL, Program, Xferd, environment
from xferd.ctl.engine.containerd_config import PATH
from xferd.ctl.engine.sample_registry import SampleRegistry, make_image
from xferd.interfaces.reactor import IReactor
from xferd.platforms import Platform

reactor = cast(IReactor, installed)


K3S = "/var/lib/rancher/k3s/agent/etc/containerd"


class CheckCase(TestCase):
    """
    xferd with an engine of each kind.

    @ivar variables: the environment of engines and of their clients.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start xferd.
        """
        if os.geteuid() != 0:
            raise SkipTest("engines need root")
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        settings = self.place / "xferd.toml"
        settings.write_text(
            "[engines.containerd.node]\n[engines.containers-storage]\n"
            f'path = "{self.place}/view"\nroots = ["{self.place}/root"]\n'
        )
        self.xferd = Xferd(reactor, str(self.place / "x"), "--config", str(settings))
        await self.xferd.start()
        self.addCleanup(self.xferd.end_snapshotter)
        self.addCleanup(self.xferd.stop)
        self.variables: dict[str, str] = {}

    async def ctl(self, *arguments: str) -> tuple[str, str, int]:
        """
        Run C{xferctl engine} with the variables.

        @return: stdout, stderr and the exit status.
        """
        program, *options = XFERCTL
        argv = [*options, "--host", self.xferd.url, "engine", *arguments]
        environ = {**environment(), **self.variables}
        output, errors, code = await getProcessOutputAndValue(program, argv, environ, None, reactor)
        return output.decode(), errors.decode(), code

    async def assert_served(self, tool: str, *clients: str) -> None:
        """
        The check succeeds, and the engine requested manifest and config alone.
        """
        output, errors, code = await self.ctl("check", tool)
        self.assertEqual((code, errors), (0, ""))
        for client in clients:
            self.assertIn(f"{tool}: {client} pulled 127.0.0.1:", output)
        served = f"sent the layer to xferd, and to {tool} only: config, manifest\n"
        self.assertEqual(output.count(served), len(clients))

    async def assert_refused(self, tool: str, why: str) -> None:
        """
        The check fails with a reason.
        """
        output, errors, code = await self.ctl("check", tool)
        self.assertEqual((output, code), ("", 1))
        self.assertIn(why, errors)

    def sample(self) -> SampleRegistry:
        """
        A registry with a new image.
        """
        registry = SampleRegistry(make_image(Platform.local()))
        registry.start()
        self.addCleanup(registry.stop)
        return registry

    async def client(self, *argv: str) -> str:
        """
        Run a client of an engine.
        """
        return await run(reactor, ["env", *(f"{k}={v}" for k, v in self.variables.items()), *argv])

    def assert_fetched(self, registry: SampleRegistry, *, by_xferd: bool) -> None:
        """
        The layer was sent once, to xferd or to the engine.
        """
        layers = [each.is_xferd for each in registry.asked if each.kind == "layer"]
        self.assertEqual(layers, [by_xferd])


class ContainerdTests(CheckCase):
    """
    containerd 1 of Debian.
    """

    newest = False

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Find the programs.
        """
        if not os.path.exists(f"{NEWEST}/crictl"):
            raise SkipTest("XFERD_CONTAINERD names no directory with containerd 2 and crictl")
        await super().setUp()
        tools = self.place / "tools"
        tools.mkdir()
        for name in ("crictl", "containerd", "ctr") if self.newest else ("crictl",):
            (tools / name).symlink_to(f"{NEWEST}/{name}")
        socket = f"{self.place}/c"
        self.variables = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CONTAINERD_ADDRESS": socket,
            "CONTAINER_RUNTIME_ENDPOINT": f"unix://{socket}",
            "IMAGE_SERVICE_ENDPOINT": f"unix://{socket}",
        }
        self.program = str(tools / "containerd") if self.newest else require("containerd")

    async def start(self, *, configured: bool) -> None:
        """
        Start containerd.
        """
        output, errors, code = await self.ctl("show", "containerd", "--json")
        self.assertEqual((code, errors), (0, ""))
        file = json.loads(output.splitlines()[0])
        self.assertEqual(file["path"], PATH)
        lines = [] if not configured else file["text"].splitlines()
        # The lines are for a file of the machine, or a whole one.
        version = next((line for line in lines if line.startswith("version")), "version = 2")
        lines = [line for line in lines if not line.startswith("version")]
        own = [version, f'root = "{self.place}/cr"', f'state = "{self.place}/cs"']
        await self.run_with("\n".join([*own, *lines, f'[grpc]\naddress = "{self.place}/c"\n']))

    async def run_with(self, text: str) -> None:
        """
        Start containerd with a configuration.
        """
        config = self.place / "config.toml"
        config.write_text(text)
        argv = [self.program, "--config", str(config)]
        daemon = Program(reactor, argv, "containerd successfully booted", str(self.place))
        await daemon.start()
        self.addCleanup(daemon.stop)

    async def test_served(self) -> None:
        """
        After the configuration, the check succeeds, repeatedly.
        """
        await self.start(configured=True)
        clients = ["ctr", "crictl"] if self.newest else ["crictl"]
        await self.assert_served("containerd", *clients)
        await self.assert_served("containerd", *clients)
        self.assertEqual(await self.xferd.show("images"), [])

    async def test_cri(self) -> None:
        """
        Kubernetes' pulls are served, too.
        """
        await self.start(configured=True)
        registry = self.sample()
        await self.client("crictl", "pull", registry.reference)
        self.assert_fetched(registry, by_xferd=True)
        (engine, _) = await self.xferd.show("engine", "ls")
        self.assertEqual([image["image"] for image in engine["images"]], [registry.reference])

    async def test_not_configured(self) -> None:
        """
        Without the configuration, the check fails with the remedy.
        """
        await self.start(configured=False)
        await self.assert_refused("containerd", "xferctl engine show containerd")

    async def test_not_running(self) -> None:
        """
        Without containerd, the check names it.
        """
        await self.assert_refused("containerd", "start containerd")


class Containerd2Tests(ContainerdTests):
    """
    containerd 2, from the directory in C{XFERD_CONTAINERD}.
    """

    newest = True

    async def start_k3s(self, more: str = "") -> None:
        """
        Start a containerd with the configuration that k3s makes of the printed template: k3s' own
        part has CRI's tables with the snapshotter of the other printed file, and disables the
        annotations of snapshots.

        @param more: what k3s' own part has besides in the table of images.
        """
        output, errors, code = await self.ctl("show", "k3s", "--for", "k3s=1.34.1", "--json")
        self.assertEqual((code, errors), (0, ""))
        files = {file["path"]: file["text"] for file in map(json.loads, output.splitlines())}
        base, _, template = files[f"{K3S}/config-v3.toml.tmpl"].partition("\n")
        self.assertEqual(base, '{{ template "base" . }}')
        self.assertIn("snapshotter: xferd\n", files["/etc/rancher/k3s/config.yaml.d/50-xferd.yaml"])
        (self.place / "certs.d").mkdir()
        await self.run_with(
            f"version = 3\nroot = '{self.place}/cr'\nstate = '{self.place}/cs'\n"
            f"[grpc]\naddress = '{self.place}/c'\n"
            f"[plugins.'io.containerd.internal.v1.opt']\n  path = '{self.place}/opt'\n"
            "[plugins.'io.containerd.grpc.v1.cri']\n  stream_server_port = '0'\n"
            "[plugins.'io.containerd.cri.v1.runtime']\n  enable_unprivileged_ports = true\n"
            "[plugins.'io.containerd.cri.v1.images']\n"
            f"  snapshotter = 'xferd'\n  disable_snapshot_annotations = true\n{more}"
            "[plugins.'io.containerd.cri.v1.images'.pinned_images]\n  sandbox = 'pause:3.6'\n"
            f"[plugins.'io.containerd.cri.v1.runtime'.cni]\n  conf_dir = '{self.place}/cni'\n"
            "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\n"
            "  runtime_type = 'io.containerd.runc.v2'\n"
            f"[plugins.'io.containerd.cri.v1.images'.registry]\n  config_path = '{self.place}/certs.d'\n"
            f"{template}"
        )

    async def test_k3s(self) -> None:
        """
        The containerd of k3s fetches images by xferd.
        """
        await self.start_k3s()
        registry = self.sample()
        await self.client("crictl", "pull", registry.reference)
        self.assert_fetched(registry, by_xferd=True)

    async def test_k3s_local_pull(self) -> None:
        """
        Where k3s' own part has CRI pull without the transfer service, images of the store alone
        are used, as the note of the template says.
        """
        await self.start_k3s("  use_local_image_pull = true\n")
        registry = self.sample()
        await self.client("crictl", "pull", registry.reference)
        self.assert_fetched(registry, by_xferd=False)
        output, _, _ = await self.ctl("show", "k3s", "--for", "k3s=1.34.1")
        self.assertIn("use_local_image_pull", output)
        registry = self.sample()
        await self.xferd.ctl("pull", registry.reference)
        await self.client("crictl", "pull", registry.reference)
        self.assert_fetched(registry, by_xferd=True)


class StorageTests(CheckCase):
    """
    podman and buildah with the view.
    """

    async def configure(self, tool: str = "podman", *, with_view: bool) -> None:
        """
        Write C{storage.conf}.
        """
        output, _, code = await self.ctl("show", tool)
        self.assertEqual(code, 0)
        options = output.partition("[storage.options]\n")[2]
        roots = f'runroot = "{self.place}/run"\ngraphroot = "{self.place}/root"\n'
        config = self.place / "storage.conf"
        config.write_text(
            f'[storage]\ndriver = "overlay"\n{roots}[storage.options]\n{options if with_view else ""}'
        )
        (self.place / "config.json").write_text("{}")
        self.variables = {"CONTAINERS_STORAGE_CONF": str(config), "DOCKER_CONFIG": str(self.place)}

    async def test_podman(self) -> None:
        """
        After the configuration, the check succeeds, repeatedly.
        """
        require("podman")
        await self.configure(with_view=True)
        await self.assert_served("podman", "podman")
        await self.assert_served("podman", "podman")
        self.assertEqual(await self.xferd.show("images"), [])

    async def test_not_configured(self) -> None:
        """
        Without the configuration, the check fails with the remedy.
        """
        require("podman")
        await self.configure(with_view=False)
        await self.assert_refused("podman", "compare its configuration with 'xferctl engine show podman'")

    async def test_buildah(self) -> None:
        """
        The same with buildah.
        """
        require("buildah")
        await self.configure("buildah", with_view=True)
        await self.assert_served("buildah", "buildah")
        await self.assert_served("buildah", "buildah")
        self.assertEqual(await self.xferd.show("images"), [])
        self.assertEqual(json.loads(await self.client("buildah", "images", "--json")), [])
