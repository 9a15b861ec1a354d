"""
xferd is killed, stopped and started again while containerd pulls images and runs
containers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from tests.integration.containerds import NEWEST
from tests.integration.peers import PeerFailed
from tests.integration.test_engine_containerd import OS_RELEASE, ContainerdCase, runnable_image
from xferd.engines.snapshotter.daemon_link import PATIENCE
from xferd.interfaces.reactor import IReactor
from xferd.testing.faults import Stall
from xferd.testing.images import SampleImage

reactor = cast(IReactor, installed)


class RestartCase(ContainerdCase):
    """
    Pulls, and what becomes of them.

    @cvar client: C{ctr} or C{crictl}.
    @cvar namespace: the one of its images.
    """

    client = "ctr"
    namespace = "default"

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Prepare an image that takes some seconds.
        """
        if self.client == "crictl" and not os.path.exists(f"{NEWEST}/crictl"):
            raise SkipTest("XFERD_CONTAINERD names no directory with crictl")
        await super().setUp()
        self.numbers = 0

    def new_image(self) -> tuple[SampleImage, str]:
        """
        An image that the store does not have.
        """
        self.numbers += 1
        image = runnable_image(5, 1_000_000 + self.numbers)
        return image, self.add(image, f"app{self.numbers}")

    def hold(self, image: SampleImage) -> None:
        """
        Let the registry send only the beginning of an image's last layer in each answer, until
        the faults are cleared: the pull does not end before.
        """
        self.registry.faults.plant(Stall(100_000), image.layers[4].blob.digest, times=None)

    async def pull(self, reference: str) -> str:
        """
        Pull an image.
        """
        if self.client == "ctr":
            return await self.containerd.pull(reference)
        return await self.containerd.crictl("pull", reference)

    async def check_runs(self, reference: str, name: str) -> None:
        """
        A container of an image runs: by its exit status, as ctr of containerd 1 may lose what
        a container prints that ends at once.
        """
        grep = ("/bin/busybox", "grep", "-q", OS_RELEASE.decode().strip(), "/etc/os-release")
        await self.containerd.run_in(reference, name, *grep, namespace=self.namespace)

    async def state(self) -> list[str]:
        """
        List, Stat and Mounts of all snapshots.
        """
        ctr = self.containerd.ctr
        own = ("snapshots", "--snapshotter=xferd")
        listed = await ctr(*own, "ls", namespace=self.namespace)
        found = [listed]
        for line in listed.splitlines()[1:]:
            key, kind = line.split()[0], line.split()[-1]
            found.append(await ctr(*own, "info", key, namespace=self.namespace))
            if kind != "Committed":
                found.append(await ctr(*own, "mounts", "/mnt", key, namespace=self.namespace))
        return found

    async def interrupt(self, layers: int, away: float | None, end: str = "KILL") -> None:
        """
        End xferd in the middle of a pull.  The pull ends well.

        @param layers: the layers that are snapshots by then; their number may be greater.
        @param away: seconds until xferd is there again; L{None} for after the pull.
        """
        image, reference = self.new_image()
        self.registry.rate = 600_000
        self.hold(image)
        present = len((await self.listed()).splitlines())
        pulling = Deferred.fromCoroutine(self.pull(reference))
        await self.until(lambda: bool(self.registry.exchanges("GET", image.layers[4].blob.digest)))
        while len((await self.listed()).splitlines()) < present + layers:
            await deferLater(reactor, 0.02)
        self.assertFalse(pulling.called)
        await self.daemon.stop(end)
        self.registry.faults.clear()
        # Those that xferd could not finish are fetched by containerd, or by the next xferd.
        self.registry.rate = 3_000_000
        if away is not None:
            await deferLater(reactor, away)
            self.daemon = await self.start_daemon()
        await pulling
        content = await self.containerd.ctr("content", "ls", "-q", namespace=self.namespace)
        fetched = [str(layer.blob.digest) in content for layer in image.layers]
        # Without xferd, containerd has fetched some; else none.
        self.assertEqual(any(fetched), away is None, fetched)
        if away is None:
            # Containers of present images start without it, too.
            await self.check_runs(reference, f"without{self.numbers}")
            self.daemon = await self.start_daemon()
        await self.check_runs(reference, f"after{self.numbers}")

    async def listed(self) -> str:
        """
        The snapshots.
        """
        return await self.containerd.ctr("snapshots", "--snapshotter=xferd", "ls", namespace=self.namespace)

    async def check_containers(self, restart: Callable[[], Awaitable[object]]) -> None:
        """
        Containers run on, whatever happens; all snapshots are as before; new ones start.
        """
        _, reference = self.new_image()
        await self.pull(reference)
        run = self.containerd.run_in
        await run(reference, "one", "sleep", "1000", options=("--detach",), namespace=self.namespace)
        before = await self.state()
        await restart()
        tasks = ("tasks", "exec", "--exec-id", "x", "one", "cat", "/etc/os-release")
        self.assertEqual((await self.containerd.ctr(*tasks, namespace=self.namespace)).encode(), OS_RELEASE)
        self.assertEqual(await self.state(), before)
        await self.check_runs(reference, "two")
        await self.containerd.ctr("tasks", "rm", "--force", "one", namespace=self.namespace)


class NewestTests(RestartCase):
    """
    containerd 2, by C{ctr}.
    """

    async def test_killed_early(self) -> None:
        """
        Killed before the first layer was there, and started again at once.
        """
        await self.interrupt(0, 0)

    async def test_killed_late(self) -> None:
        """
        Killed when some layers were snapshots, and started again some seconds later.
        """
        await self.interrupt(2, 6)

    async def test_killed_for_good(self) -> None:
        """
        Killed and not started again: containerd fetches the other layers itself, once it has
        waited long enough; the next image at once.
        """
        began = monotonic()
        await self.interrupt(1, None)
        self.assertLess(monotonic() - began, PATIENCE + 40)
        await self.daemon.stop("KILL")
        await deferLater(reactor, PATIENCE)
        _, reference = self.new_image()
        began = monotonic()
        await self.pull(reference)
        self.assertLess(monotonic() - began, PATIENCE / 2)
        await self.check_runs(reference, "again")

    async def test_killed_again_and_again(self) -> None:
        """
        Several daemons that are killed during one pull.
        """
        image, reference = self.new_image()
        self.registry.rate = 300_000
        self.hold(image)
        pulling = Deferred.fromCoroutine(self.pull(reference))
        for turn in range(3):
            # Each daemon goes on with the layer.
            await self.until(lambda: self.registry.count("GET", image.layers[4].blob.digest) > turn)  # noqa: B023
            await deferLater(reactor, 0.3 * turn)
            self.assertFalse(pulling.called)
            await self.daemon.stop("KILL")
            self.daemon = await self.start_daemon()
        self.registry.rate = None
        self.registry.faults.clear()
        await pulling
        await self.check_runs(reference, "one")

    async def test_restarted(self) -> None:
        """
        Stopped and started in an orderly way, as at each upgrade.
        """
        await self.interrupt(1, 0, "TERM")
        await self.interrupt(0, 3, "TERM")

    async def test_containers(self) -> None:
        """
        Containers and snapshots, over the death of the daemon and its restart.
        """

        async def restart() -> None:
            await self.daemon.stop("KILL")
            self.daemon = await self.start_daemon()

        await self.check_containers(restart)

    async def test_containers_without_xferd(self) -> None:
        """
        The same while the daemon is away.
        """
        await self.check_containers(lambda: self.daemon.stop("KILL"))

    async def test_snapshotter_killed(self) -> None:
        """
        The snapshotter itself is killed while containers run: xferd starts it again, and all
        snapshots are as before.
        """

        async def restart() -> None:
            old = self.daemon.snapshotter()
            os.kill(old, signal.SIGKILL)
            await self.until(lambda: self.daemon.snapshotter() not in (0, old))
            await self.patiently(self.listed)

        await self.check_containers(restart)

    async def test_snapshotter_killed_in_a_pull(self) -> None:
        """
        The snapshotter is killed in the middle of a pull: the next try succeeds, and what
        was fetched is not fetched again.
        """
        image, reference = self.new_image()
        self.registry.rate = 600_000
        self.hold(image)
        pulling = Deferred.fromCoroutine(self.pull(reference))
        await self.until(lambda: bool(self.registry.exchanges("GET", image.layers[4].blob.digest)))
        old = self.daemon.snapshotter()
        os.kill(old, signal.SIGKILL)
        with self.assertRaises(PeerFailed):
            await pulling
        self.registry.rate = None
        self.registry.faults.clear()
        await self.until(lambda: self.daemon.snapshotter() not in (0, old))
        await self.patiently(lambda: self.pull(reference))
        await self.check_runs(reference, "one")
        self.assertLessEqual(self.blob_gets(image)[0], 2)

    async def test_collections(self) -> None:
        """
        Collections of garbage by daemons that come and go, while images are pulled: no layer
        goes that a snapshot stands on.
        """
        going = True

        async def collect() -> None:
            while going:
                await self.daemon.try_ctl("gc")
                await self.daemon.stop("KILL")
                self.daemon = await self.start_daemon()

        async def use(number: int) -> None:
            for turn in range(3):
                _, reference = self.new_image()
                await self.pull(reference)
                await self.check_runs(reference, f"c{number}-{turn}")
                await self.containerd.ctr("images", "rm", "--sync", reference)

        collecting = Deferred.fromCoroutine(collect())
        try:
            await gatherResults([Deferred.fromCoroutine(use(n)) for n in range(3)], consumeErrors=True)
        finally:
            going = False
            await collecting


class NewestCriTests(RestartCase):
    """
    containerd 2, by CRI.
    """

    client = "crictl"
    namespace = "k8s.io"

    async def test_killed_early(self) -> None:
        """
        Killed before the first layer was there, and started again at once.
        """
        await self.interrupt(0, 0)

    async def test_killed_late(self) -> None:
        """
        Killed when some layers were snapshots, and started again some seconds later.
        """
        await self.interrupt(2, 6)

    async def test_killed_for_good(self) -> None:
        """
        Killed and not started again.
        """
        await self.interrupt(1, None)

    async def test_restarted(self) -> None:
        """
        Stopped and started in an orderly way.
        """
        await self.interrupt(1, 0, "TERM")

    async def test_containers_without_xferd(self) -> None:
        """
        Containers and snapshots while the daemon is away.
        """
        await self.check_containers(lambda: self.daemon.stop("KILL"))


class DebianCriTests(NewestCriTests):
    """
    Debian's containerd 1.6, by CRI.
    """

    newest = False
