"""
A kubelet without an API server runs static pods on containerd with the daemon's snapshotter,
and asks the daemon for images.
"""

from __future__ import annotations

import json
import os
import shutil
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.containerds import NEWEST
from tests.integration.newer import newer
from tests.integration.places import free_port
from tests.integration.programs import Program
from tests.integration.test_engine_containerd import OS_RELEASE, ContainerdCase, runnable_image
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import image_of

reactor = cast(IReactor, installed)

PASSWORD: Final = "hunter2-of-ann"

ENTER: Final = """
for path in lib log; do mkdir -p "$0/var/$path"; mount --bind "$0/var/$path" "/var/$path"; done
for pair in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \\
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file="$0/var/$(basename "${pair%=*}")"
  echo "${pair#*=}" > "$file"
  mount --bind "$file" "/proc/sys/${pair%=*}"
done
exec "$@"
"""
"""Runs a program in a mount namespace in which it changes nothing of the machine: a kubelet
has directories with fixed names, and sets parameters of the kernel, which it finds as it
wants them."""


class KubeletTests(ContainerdCase):
    """
    A kubelet of the directory in C{XFERD_ENGINES}, and a registry that wants a password,
    which kubelet alone has.
    """

    users: Mapping[str, str] = {"ann": PASSWORD}
    more = 'cri = true\naddress = "PLACE/c/s"\n'

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Pull the image of pods' own containers, which containerd pulls without a password.
        """
        self.program = newer("kubelet")
        if not os.path.exists(f"{NEWEST}/crictl"):
            raise SkipTest("XFERD_CONTAINERD names no directory with crictl")
        await super().setUp()
        base = runnable_image()
        pause = image_of(base.layers[:2], config={"Cmd": ["/bin/sleep", "1000"]})
        self.registry.add(pause, "pause", "1")
        await self.crictl("pull", "--creds", f"ann:{PASSWORD}", f"{self.registry.host}/pause:1")
        (self.place / "pods").mkdir()
        root = self.place / "kubelet"
        root.mkdir()
        auth = b64encode(f"ann:{PASSWORD}".encode()).decode()
        (root / "config.json").write_text(json.dumps({"auths": {self.registry.host: {"auth": auth}}}))
        self.addCleanup(self.remove_pods)

    async def crictl(self, *arguments: str) -> str:
        """
        Run crictl with the daemon's image service.
        """
        return await self.containerd.crictl(*arguments, images=self.socket)

    async def remove_pods(self) -> None:
        """
        End all pods.
        """
        for pod in json.loads(await self.crictl("pods", "--output", "json"))["items"]:
            await self.crictl("rmp", "--force", pod["id"])

    async def start_kubelet(self, **more: object) -> Program:
        """
        Start kubelet with the line that C{xferctl engine show containerd} prints.

        @param more: further settings.
        """
        shown = await self.daemon.show("engine", "show", "containerd", "--engine", "main")
        (line,) = [file["text"] for file in shown if file["path"] == "/var/lib/kubelet/config.yaml"]
        name, _, value = line.partition(": ")
        settings = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "address": "127.0.0.1",
            "port": free_port(),
            "healthzPort": free_port(),
            "containerRuntimeEndpoint": f"unix://{self.place}/c/s",
            name: json.loads(value),
            "staticPodPath": f"{self.place}/pods",
            "podLogsDir": f"{self.place}/logs",
            "volumePluginDir": f"{self.place}/plugins",
            "fileCheckFrequency": "1s",
            "cgroupDriver": "cgroupfs",
            "cgroupsPerQOS": False,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "failCgroupV1": False,
            "makeIPTablesUtilChains": False,
            "evictionHard": {"memory.available": "1Mi"},
            **more,
        }
        config = self.place / "kubelet.json"
        config.write_text(json.dumps(settings))
        own = ["--root-dir", f"{self.place}/kubelet", "--cert-dir", f"{self.place}/kubelet/pki"]
        enter = ["unshare", "--mount", "sh", "-ec", ENTER, str(self.place)]
        argv = [*enter, self.program, "--config", str(config), *own, "--hostname-override=node"]
        kubelet = Program(reactor, argv, "Started kubelet", str(self.place))
        await kubelet.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(kubelet.stop("KILL")))
        return kubelet

    def write_pod(self, name: str, reference: str) -> None:
        """
        Have kubelet run a pod, in the network of the host.
        """
        container = {
            "name": "app",
            "image": reference,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/bin/sh", "-c", "trap 'exit 0' TERM; cat /etc/os-release; sleep 1000 & wait"],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "hostNetwork": True,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
            },
        }
        temporary = self.place / f"{name}.json"
        temporary.write_text(json.dumps(pod))
        shutil.move(temporary, self.place / "pods" / f"{name}.json")

    async def running(self, attempt: int) -> str:
        """
        Wait until the container runs for the nth time, from zero; returns its ID.
        """
        while True:
            listed = json.loads(await self.crictl("ps", "--output", "json"))
            for each in listed["containers"]:
                if int(each["metadata"].get("attempt", 0)) >= attempt:
                    return str(each["id"])
            await deferLater(reactor, 0.2)

    async def images(self) -> list[str]:
        """
        The names of the images that containerd has.
        """
        listed: Mapping[str, Any] = json.loads(await self.crictl("images", "--output", "json"))
        return sorted(name for image in listed["images"] for name in image["repoTags"])

    async def test_pods(self) -> None:
        """
        A private image is fetched once, by xferd, with kubelet's credentials.  Its
        container is started again after it has ended, also by an xferd that was killed
        meanwhile; kubelet removes images that no pod uses, and xferd their layers.
        """
        image, unused = runnable_image(4), image_of([*runnable_image().layers, runnable_image(5).layers[-1]])
        reference, other = self.add(image), self.add(unused, "unused")
        kubelet = await self.start_kubelet()
        self.write_pod("web", reference)
        first = await self.running(0)
        self.assertEqual((await self.crictl("exec", first, "cat", "/etc/os-release")).encode(), OS_RELEASE)
        self.assertEqual([self.registry.count("GET", layer.blob.digest) for layer in image.layers], [1] * 4)
        await self.crictl("stop", first)
        second = await self.running(1)
        await self.daemon.stop("KILL")
        said = await self.containerd.crictl("exec", second, "cat", "/etc/os-release")
        self.assertEqual(said.encode(), OS_RELEASE)
        self.daemon = await self.start_daemon()
        await self.patiently(lambda: self.crictl("stop", second))
        await self.running(2)
        await self.daemon.ctl("gc")
        await self.crictl("pull", "--creds", f"ann:{PASSWORD}", other)
        # 99 % of the disk has to be free: kubelet removes what it can.
        await kubelet.stop()
        await self.start_kubelet(imageMinimumGCAge="1s", evictionHard={"imagefs.available": "99%"})
        while other in await self.images():
            await deferLater(reactor, 0.5)
        self.assertIn(reference, await self.images())
        (engine, *_) = await self.daemon.show("engine", "ls", "--engine", "main")
        self.assertNotIn(other, [each["image"] for each in engine["images"]])
        third = await self.running(2)
        self.assertEqual((await self.crictl("exec", third, "cat", "/etc/os-release")).encode(), OS_RELEASE)
        (self.place / "pods" / "web.json").unlink()
        while json.loads(await self.crictl("pods", "--output", "json"))["items"]:
            await deferLater(reactor, 0.2)
        self.assertEqual([self.registry.count("GET", layer.blob.digest) for layer in image.layers], [1] * 4)
