"""
Pods with a network of their own, by CNI, on the daemon's snapshotter, with each version of
containerd.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred

from tests.integration.newer import DIRECTORY, newer
from tests.integration.peers import require, run
from tests.integration.test_engine_containerd import ContainerdCase, check_cri, check_pods
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)


class Containerd2Tests(ContainerdCase):
    """
    containerd 2.
    """

    async def test_pods(self) -> None:
        """
        Pods have an interface of a bridge; they outlive xferd, and are removed.
        """
        require("/usr/lib/cni/bridge")
        bridge = f"xfcni{os.getpid()}"
        ipam = {"type": "host-local", "subnet": "10.98.0.0/24", "dataDir": f"{self.place}/ipam"}
        plugin = {"type": "bridge", "bridge": bridge, "ipam": ipam}
        network = {"cniVersion": "0.4.0", "name": "pods", "plugins": [plugin]}
        (self.containerd.networks / "pods.conflist").write_text(json.dumps(network))
        # Made with the first pod, if there is one.
        remove = ["ip", "link", "delete", bridge]
        self.addCleanup(
            lambda: (
                Deferred.fromCoroutine(run(reactor, remove))
                if Path("/sys/class/net", bridge).exists()
                else None
            )
        )
        ready = '"status": true, "type": "NetworkReady"'
        await self.patiently(self.info)
        self.assertIn(ready, await self.info())
        await check_pods(self, network=0)

    async def info(self) -> str:
        """
        CRI's description of the runtime.
        """
        status = json.loads(await self.containerd.crictl("info", "--output", "json"))["status"]
        return json.dumps(status, sort_keys=True)


class DebiansTests(Containerd2Tests):
    """
    Debian's containerd 1.6.
    """

    newest = False


class Containerd17Tests(DebiansTests):
    """
    containerd 1.7, from the directory in C{XFERD_ENGINES}.
    """

    directory = f"{DIRECTORY}/containerd17"

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Find it.
        """
        newer("containerd17/containerd")
        await super().setUp()

    async def test_cri(self) -> None:
        """
        C{crictl} pulls with labels, by which xferd provides the layers.
        """
        await check_cri(self)
