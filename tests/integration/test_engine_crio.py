"""
CRI-O pulls and runs pods' images from the view of the daemon's store.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.containerds import NEWEST
from tests.integration.newer import newer
from tests.integration.peers import PeerFailed, require, run
from tests.integration.programs import Program
from tests.integration.test_engine_podman import RELEASE, PodmanCase, tiny_image
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import image_of

reactor = cast(IReactor, installed)

ENTER = 'mount --bind "$0" /etc/containers; exec "$@"'
"""Runs a program with the configuration of containers in another directory."""


class CrioCase(PodmanCase):
    """
    CRI-O of the directory in C{XFERD_ENGINES}.
    """

    wait_for = 'wait_for = ["root"]\n'

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start CRI-O with the files that C{xferctl engine show cri-o} and C{xferctl mirror
        show} print.
        """
        newer("crio")
        newer("pinns")
        if not os.path.exists(f"{NEWEST}/crictl"):
            raise SkipTest("XFERD_CONTAINERD names no directory with crictl")
        await super().setUp()
        base = tiny_image(base="pause")
        await self.push("pause:1", image_of(base.layers, config={"Cmd": ["/bin/sleep", "1000"]}))
        shown = await self.daemon.show("engine", "show", "cri-o", "--for", "cri-o=1.36")
        (lines,) = [file["text"] for file in shown if file["path"] == "/etc/containers/storage.conf"]
        await self.use_mirror()
        await self.start_crio(
            "c", lines.partition("[storage.options]\n")[2], self.storage.registries.read_text()
        )

    async def start_crio(self, name: str, options: str, registries: str) -> None:
        """
        Start a CRI-O.

        @param name: of the directory that it has for itself.
        @param options: C{[storage.options]} of its C{storage.conf}.
        @param registries: its C{registries.conf}.
        """
        place = self.place / name
        etc = place / "etc"
        etc.mkdir(parents=True)
        (etc / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        root = self.storage.root if name == "c" else place / "root"
        (etc / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{root}"\nrunroot = "{place}/cr"\n'
            f"[storage.options]\n{options}"
        )
        loopback = '[[registry]]\nlocation = "127.0.0.1"\ninsecure = true\n'
        (etc / "registries.conf").write_text(registries + loopback)
        config = place / "crio.conf"
        config.write_text(
            f"""
[crio]
log_dir = "{place}/log"
version_file = "{place}/version"
clean_shutdown_file = "{place}/clean"
[crio.api]
listen = "{place}/crio"
stream_address = "127.0.0.1"
stream_port = "0"
[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
container_exits_dir = "{place}/exits"
container_attach_socket_dir = "{place}/a"
namespaces_dir = "{place}/ns"
pinns_path = "{newer("pinns")}"
hooks_dir = []
[crio.runtime.runtimes.runc]
runtime_path = "{require("runc")}"
runtime_root = "{place}/runc"
monitor_path = "{require("conmon")}"
monitor_cgroup = "pod"
[crio.image]
pause_image = "{self.registry.host}/pause:1"
pause_command = ""
[crio.network]
network_dir = "{place}/cni"
[crio.nri]
enable_nri = false
"""
        )
        enter = ["unshare", "--mount", "sh", "-ec", ENTER, str(etc)]
        argv = [*enter, newer("crio"), "--config", str(config), "--config-dir", "", "--log-level", "debug"]
        crio = Program(reactor, argv, "Starting CRI-O", str(place))
        crio.environment["DOCKER_CONFIG"] = str(self.place)
        await crio.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(crio.stop()))
        self.addCleanup(self.remove_pods, name)

    async def crictl(self, *arguments: str, name: str = "c") -> str:
        """
        Run crictl.

        @param name: that of the CRI-O.
        """
        endpoint = f"unix://{self.place}/{name}/crio"
        ends = ("--runtime-endpoint", endpoint, "--image-endpoint", endpoint)
        return await run(reactor, [f"{NEWEST}/crictl", *ends, "--timeout", "60s", *arguments])

    async def remove_pods(self, name: str) -> None:
        """
        End all pods.
        """
        for pod in json.loads(await self.crictl("pods", "--output", "json", name=name))["items"]:
            await self.crictl("rmp", "--force", pod["id"], name=name)

    async def run_pod(
        self, reference: str, name: str = "c", users: Sequence[Mapping[str, int]] = ()
    ) -> tuple[str, str]:
        """
        Run a pod in the network of the host; returns its ID and its container's.

        @param users: the map of its user namespace, if it has one.
        """
        place = self.place / name
        pod = place / "pod.json"
        metadata = {"name": "pod", "uid": "uid", "namespace": "default"}
        namespaces: dict[str, object] = {"network": 2, "pid": 1, "ipc": 1}
        if users:
            namespaces["userns_options"] = {"mode": 0, "uids": users, "gids": users}
        linux = {"security_context": {"namespace_options": namespaces}}
        pod.write_text(json.dumps({"metadata": metadata, "linux": linux, "log_directory": f"{place}/log"}))
        sandbox = (await self.crictl("runp", str(pod), name=name)).strip()
        created = await self.create(sandbox, reference, name=name)
        await self.crictl("start", created, name=name)
        return sandbox, created

    async def create(self, sandbox: str, reference: str, container: str = "app", name: str = "c") -> str:
        """
        Create a container in the pod that was run last; returns its ID.

        @param container: its name.
        """
        place = self.place / name
        pod, settings = place / "pod.json", place / "container.json"
        settings.write_text(
            json.dumps(
                {
                    "metadata": {"name": container},
                    "image": {"image": reference},
                    "command": ["/bin/sleep", "1000"],
                    "linux": json.loads(pod.read_text())["linux"],
                    "log_path": f"{container}.log",
                }
            )
        )
        argv = ("create", "--no-pull", sandbox, str(settings), str(pod))
        return (await self.crictl(*argv, name=name)).strip()

    async def cat(self, container: str) -> str:
        """
        Print C{/etc/os-release} in a container.
        """
        return await self.crictl("exec", container, "cat", "/etc/os-release")


class CrioTests(CrioCase):
    """
    Pulls by the mirror, and pods on the view.
    """

    async def test_pod(self) -> None:
        """
        A pull through the mirror fetches the image once, by xferd; its pod runs from the
        view, also while xferd is killed, and keeps its layers until it is removed.
        """
        await self.crictl("pull", self.reference)
        self.assertEqual(
            [self.registry.count("GET", layer.blob.digest) for layer in self.image.layers], [1, 1]
        )
        sandbox, container = await self.run_pod(self.reference)
        self.assertEqual(await self.cat(container), RELEASE)
        await self.daemon.ctl("gc")
        await self.daemon.stop("KILL")
        self.assertEqual(await self.cat(container), RELEASE)
        await self.start()
        await self.daemon.ctl("gc")
        self.assertEqual(await self.cat(container), RELEASE)
        await self.crictl("stop", container)
        await self.daemon.ctl("gc")
        await self.crictl("rmp", "--force", sandbox)
        # CRI-O removes the image, and reports that it cannot remove the layers, which are the view's.
        with contextlib.suppress(PeerFailed):
            await self.crictl("rmi", self.reference)
        listed = json.loads((self.storage.root / "overlay-images" / "images.json").read_text())
        self.assertEqual([each["names"] for each in listed], [[f"{self.registry.host}/pause:1"]])
        (collected,) = await self.daemon.show("gc")
        self.assertEqual(collected["freed"]["layers"], 2)

    async def test_present(self) -> None:
        """
        An image that xferd has pulled is listed, and runs without a pull.
        """
        await self.daemon.ctl("pull", self.reference)
        listed = json.loads(await self.crictl("images", "--output", "json"))
        self.assertIn([self.reference], [each["repoTags"] for each in listed["images"]])
        _, container = await self.run_pod(self.reference)
        self.assertEqual(await self.cat(container), RELEASE)

    async def test_check(self) -> None:
        """
        C{xferctl engine check} succeeds.
        """
        endpoint = f"unix://{self.place}/c/crio"
        variables = {
            "DOCKER_CONFIG": str(self.place),
            "PATH": f"{NEWEST}:{os.environ['PATH']}",
            "CONTAINER_RUNTIME_ENDPOINT": endpoint,
            "IMAGE_SERVICE_ENDPOINT": endpoint,
        }
        said = await self.daemon.ctl("engine", "check", "cri-o", variables=variables)
        self.assertIn("cri-o: crictl pulled 127.0.0.1:", said)


class KilledTests(CrioCase):
    """
    A daemon that is killed while it lets a pull wait.
    """

    wait_for = CrioCase.wait_for + "[limits]\ndownload_rate = 100000\n"

    async def test_killed(self) -> None:
        """
        CRI-O ends the pull by itself, from the registry; its pod runs, also while the next daemon
        collects.
        """
        pulling = Deferred.fromCoroutine(self.crictl("pull", self.reference))
        while not self.fetched():
            await deferLater(reactor, 0.05)
        self.assertFalse(pulling.called)
        await self.daemon.stop("KILL")
        await pulling
        sandbox, container = await self.run_pod(self.reference)
        self.assertEqual(await self.cat(container), RELEASE)
        await self.start()
        await self.daemon.ctl("gc")
        self.assertEqual(await self.cat(container), RELEASE)
        again = await self.create(sandbox, self.reference, "again")
        await self.crictl("start", again)
        self.assertEqual(await self.cat(again), RELEASE)
