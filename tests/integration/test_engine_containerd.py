"""
containerd pulls and runs images by the daemon's snapshotter.

The module is long because all tests share one containerd, which takes seconds to start.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.containerds import NEWEST, SnapshottingContainerd
from tests.integration.peers import PeerFailed, require
from tests.integration.programs import Xferd
from xferd.engines.snapshotter.pulls import PATIENCE
from xferd.interfaces.reactor import IReactor
from xferd.testing.faults import Stall
from xferd.testing.images import SampleImage, image_of, sample_layer
from xferd.testing.layers import LayerBuilder
from xferd.testing.registry import Registry
from xferd.testing.tokens import BasicGuard

reactor = cast(IReactor, installed)

OS_RELEASE: Final = b"ID=xferd-test\n"


def runnable_image(layers: int = 3, size: int = 200_000) -> SampleImage:
    """
    An image with a shell, and layers on top that remove and change what is below.
    """
    with open(require("busybox"), "rb") as file:
        busybox = file.read()
    base = LayerBuilder()
    for name in ("bin", "etc", "proc", "sys", "dev", "run", "gone", "hidden"):
        base.directory(name)
    base.directory("tmp", mode=0o1777)
    base.file("bin/busybox", busybox, mode=0o755)
    for name in ("sh", "cat", "ls", "id", "touch", "sleep", "stat", "find", "true"):
        base.symlink(f"bin/{name}", "busybox")
    base.file("etc/os-release", OS_RELEASE).file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    base.file("gone/file", b"below").file("hidden/file", b"below").file("removed", b"below")
    upper = LayerBuilder().directory("etc").file("etc/added", b"added", uid=1000, gid=1000)
    upper.whiteout("removed").whiteout("gone").directory("hidden").opaque("hidden")
    upper.file("hidden/new", b"above")
    more = [sample_layer(size, n) for n in range(layers - 2)]
    return image_of([base.finish(), upper.finish(), *more])


class ContainerdCase(TestCase):
    """
    A registry, xferd, and a containerd that uses it.

    @cvar newest: whether it is a containerd 2.
    @cvar directory: the directory of its programs, if it is neither that in
        C{XFERD_CONTAINERD} nor Debian's.
    @cvar users: the passwords that the registry wants, by user; none by default.
    @cvar more: further settings of the engine; C{PLACE} is the directory of the test.
    """

    newest = True
    directory = ""
    users: Mapping[str, str] = {}
    more = ""

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        if os.geteuid() != 0:
            raise SkipTest("containerd needs root")
        if self.newest and not os.path.exists(f"{NEWEST}/containerd"):
            raise SkipTest("XFERD_CONTAINERD names no directory with a containerd 2")
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        # Root of a user namespace has to get to its root directory.
        self.place.chmod(0o711)
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.registry = Registry(reactor, guard=BasicGuard(self.users) if self.users else None)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        self.socket = str(self.place / "engine.sock")
        self.settings = self.place / "xferd.toml"
        more = self.more.replace("PLACE", str(self.place))
        self.settings.write_text(
            f'[engines.containerd.main]\nsocket = "{self.socket}"\n{more}'
            f'[engines.containerd.second]\nsocket = "{self.place}/second.sock"\n'
        )
        self.daemon = await self.start_daemon()
        self.containerd = await self.start_containerd()

    async def start_daemon(self) -> Xferd:
        """
        Start xferd.
        """
        daemon = Xferd(reactor, str(self.place / "x"), "--config", str(self.settings))
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.end_snapshotter()))
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        return daemon

    async def start_containerd(self, name: str = "c", socket: str = "") -> SnapshottingContainerd:
        """
        Start containerd.

        @param socket: that of its engine; by default the first one.
        """
        place, socket = self.place / name, socket or self.socket
        daemon = SnapshottingContainerd(
            reactor,
            place,
            socket,
            self.daemon.data,
            newest=self.newest,
            pause=f"{self.registry.host}/pause:1",
            directory=self.directory,
        )
        daemon.plain(self.registry.host)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        return daemon

    async def until(self, condition: Callable[[], object]) -> None:
        """
        Wait until something holds.
        """
        while not condition():
            await deferLater(reactor, 0.02)

    async def patiently(self, work: Callable[[], Awaitable[str]]) -> str:
        """
        Do something that fails until containerd has connected again.
        """
        for _ in range(50):
            with contextlib.suppress(PeerFailed):
                return await work()
            await deferLater(reactor, 0.2)
        return await work()

    async def kill_in_pull(
        self, image: SampleImage, pull: Callable[[], Coroutine[Any, Any, str]], namespace: str
    ) -> None:
        """
        Kill xferd while an engine's pull waits for the last layer, and start it again: the pull ends,
        and xferd has fetched all layers.

        @param namespace: that of the engine's images.
        """
        last = image.layers[-1].blob.digest
        self.registry.faults.plant(Stall(100_000), last, times=None)
        pulling = Deferred.fromCoroutine(pull())
        await self.until(lambda: bool(self.registry.exchanges("GET", last)))
        self.assertFalse(pulling.called)
        await self.daemon.stop("KILL")
        self.registry.faults.clear()
        self.daemon = await self.start_daemon()
        await pulling
        content = await self.containerd.ctr("content", "ls", "-q", namespace=namespace)
        self.assertEqual([each for each in image.layers if str(each.blob.digest) in content], [])

    def add(self, image: SampleImage, name: str = "app") -> str:
        """
        Put an image into the registry; returns its name.
        """
        self.registry.add(image, name, "1")
        return f"{self.registry.host}/{name}:1"

    def blob_gets(self, image: SampleImage) -> list[int]:
        """
        How often each layer's blob was fetched.
        """
        return [self.registry.count("GET", layer.blob.digest) for layer in image.layers]


class NewestTests(ContainerdCase):
    """
    What works with any containerd.
    """

    async def test_pull_and_run(self) -> None:
        """
        A pull fetches manifest and config only; a container prints its
        C{/etc/os-release} from xferd's trees.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.containerd.pull(reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        content = await self.containerd.ctr("content", "ls", "-q")
        self.assertEqual(len(content.split()), 2, content)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_present(self) -> None:
        """
        Layers that the store has are used at once: nobody asks the registry for a blob, and
        xferd asks for nothing.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.daemon.ctl("pull", reference)
        manifests = self.registry.count("GET", image.digest) + self.registry.count("GET", "1")
        await self.containerd.pull(reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        asked = self.registry.count("GET", image.digest) + self.registry.count("GET", "1")
        self.assertLessEqual(asked - manifests, 2)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_life(self) -> None:
        """
        A container writes, is committed and removed; gc breaks neither it nor what was
        built on it; when the engine has removed all, gc frees all.
        """
        image = runnable_image()
        reference = self.add(image)
        ctr = self.containerd
        await ctr.pull(reference)
        await ctr.run_in(reference, "one", "touch", "/written", options=())
        await self.daemon.ctl("gc")
        await ctr.ctr("snapshots", "--snapshotter=xferd", "commit", "built", "one")
        await ctr.ctr("snapshots", "--snapshotter=xferd", "prepare", "again", "built")
        await ctr.ctr("containers", "rm", "one")
        await self.daemon.ctl("gc")
        mounts = await ctr.ctr("snapshots", "--snapshotter=xferd", "mounts", "/mnt", "again")
        self.assertIn("lowerdir=", mounts)
        usage = await ctr.ctr("snapshots", "--snapshotter=xferd", "usage")
        self.assertIn("built", usage)
        output = await ctr.run_in(reference, "two", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)
        for key in ("again", "built"):
            await ctr.ctr("snapshots", "--snapshotter=xferd", "rm", key)
        await ctr.ctr("images", "rm", "--sync", reference)
        listed = await ctr.ctr("snapshots", "--snapshotter=xferd", "ls")
        self.assertEqual(len(listed.splitlines()), 1, listed)
        # What a pull has brought is kept for the next request for some seconds.
        await deferLater(reactor, PATIENCE)
        (collected,) = await self.daemon.show("gc")
        self.assertEqual((collected["freed"]["layers"], collected["freed"]["trees"]), (3, 3))
        self.assertEqual(os.listdir(f"{self.daemon.data}/engines/main/snapshots"), [])
        self.assertEqual(os.listdir(f"{self.daemon.data}/engines/main/l"), [])

    async def test_two_namespaces(self) -> None:
        """
        Two namespaces that pull an image at once have each blob fetched once; when one
        removes the image, the other keeps it.
        """
        image = runnable_image(5, 2_000_000)
        reference = self.add(image)
        ctr = self.containerd
        pulls = [Deferred.fromCoroutine(ctr.pull(reference, namespace=name)) for name in ("one", "two")]
        await gatherResults(pulls, consumeErrors=True)
        self.assertEqual(self.blob_gets(image), [1] * 5)
        await ctr.ctr("images", "rm", "--sync", reference, namespace="one")
        output = await ctr.run_in(reference, "c", "cat", "/etc/os-release", namespace="two")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_restart(self) -> None:
        """
        xferd is killed while a container runs: the container goes on, and after the
        restart the snapshots are as before and new containers start.
        """
        image = runnable_image()
        reference = self.add(image)
        ctr = self.containerd
        await ctr.pull(reference)
        await ctr.run_in(reference, "one", "sleep", "1000", options=("--detach",))
        before = await ctr.ctr("snapshots", "--snapshotter=xferd", "ls")
        mounts = await ctr.ctr("snapshots", "--snapshotter=xferd", "mounts", "/mnt", "one")
        await self.daemon.stop("KILL")
        said = await ctr.ctr("tasks", "exec", "--exec-id", "x", "one", "cat", "/etc/os-release")
        self.assertEqual(said.encode(), OS_RELEASE)
        self.daemon = await self.start_daemon()
        self.assertEqual(await ctr.ctr("snapshots", "--snapshotter=xferd", "ls"), before)
        again = await ctr.ctr("snapshots", "--snapshotter=xferd", "mounts", "/mnt", "one")
        self.assertEqual(again, mounts)
        output = await self.patiently(lambda: ctr.run_in(reference, "two", "cat", "/etc/os-release"))
        self.assertEqual(output.encode(), OS_RELEASE)
        await self.daemon.ctl("gc")
        said = await ctr.ctr("tasks", "exec", "--exec-id", "y", "one", "ls", "/hidden")
        self.assertEqual(said.split(), ["new"])
        await ctr.ctr("tasks", "rm", "--force", "one")

    async def test_forgotten(self) -> None:
        """
        An engine that the settings do not name any more keeps its layers, until it is
        forgotten, which waits for the end of its containers.
        """
        reference = self.add(runnable_image())
        await self.containerd.pull(reference)
        await self.containerd.run_in(reference, "one", "sleep", "1000", options=("--detach",))
        await self.daemon.stop()
        self.settings.write_text("")
        self.daemon = await self.start_daemon()
        listed = await self.daemon.ctl("engine", "ls")
        self.assertIn("'xferctl engine forget main'", listed)
        (kept,) = await self.daemon.show("gc")
        self.assertEqual(kept["freed"]["layers"], 0)
        said, errors, code = await self.daemon.try_ctl("engine", "forget", "main")
        self.assertEqual((said, code), ("", 1), errors)
        self.assertIn("stop them first", errors)
        await self.containerd.ctr("tasks", "rm", "--force", "one")
        self.assertIn("4 snapshots of main", await self.daemon.ctl("engine", "forget", "main"))
        (freed,) = await self.daemon.show("gc")
        self.assertEqual((freed["freed"]["layers"], freed["freed"]["trees"]), (3, 3))
        self.assertFalse(os.path.exists(f"{self.daemon.data}/engines/main"))

    async def test_interrupted(self) -> None:
        """
        Ctrl-C in a pull cancels xferd's job, unless another pull needs it.
        """
        image = runnable_image(4, 1_000_000)
        self.registry.rate = 500_000
        reference = self.add(image)
        command = self.containerd.pulling(reference)
        starting = Deferred.fromCoroutine(command.start())
        await self.until(lambda: bool(self.registry.exchanges("GET", image.layers[3].blob.digest)))
        await command.stop("INT")
        with contextlib.suppress(PeerFailed):
            await starting

        while True:
            (job,) = await self.daemon.show("jobs", "--all")
            if job["state"] != "running":
                break
            await deferLater(reactor, 0.1)
        self.assertEqual((job["state"], job["client"]), ("cancelled", "containerd main"))
        self.registry.rate = None
        await self.containerd.pull(reference)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_denied(self) -> None:
        """
        If xferd may not have an image, containerd pulls it itself with its user's
        credentials.
        """
        image = runnable_image()
        guarded = Registry(reactor, guard=BasicGuard({"ann": "secret"}))
        await guarded.listen(reactor)
        self.addCleanup(guarded.stop)
        guarded.add(image, "app", "1")
        reference = f"{guarded.host}/app:1"
        await self.containerd.pull(reference, "--user", "ann:secret")
        self.assertIn("fetches and unpacks", self.daemon.output)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_user_namespace(self) -> None:
        """
        In a user namespace, files have the owners that the image says, and can be changed.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.containerd.pull(reference)
        await self.check_mapped(reference)

    async def test_deep(self) -> None:
        """
        A container runs on 120 layers, with and without a user namespace.
        """
        image = runnable_image(120, 1000)
        reference = self.add(image)
        await self.containerd.pull(reference)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)
        await self.check_mapped(reference)

    async def check_mapped(self, reference: str) -> None:
        """
        Run a container in a user namespace.
        """
        maps = ("--rm", "--uidmap=0:100000:65536", "--gidmap=0:200000:65536", "--remap-labels")
        script = (
            "stat -c %u:%g / /etc/added /bin/busybox; touch /written && stat -c %u:%g /written; ls /hidden"
        )
        output = await self.containerd.run_in(reference, "mapped", "sh", "-c", script, options=maps)
        self.assertEqual(output.split(), ["0:0", "1000:1000", "0:0", "0:0", "new"])

    async def test_cri(self) -> None:
        """
        C{crictl} pulls with labels, by which xferd provides the layers; its image is removed
        with them.
        """
        await check_cri(self)

    async def test_pods(self) -> None:
        """
        Pods start at once, run on xferd's trees, and are removed, over a restart of xferd.
        """
        await check_pods(self)

    async def test_two_engines(self) -> None:
        """
        Two engines that pull an image at once have each blob fetched once; each removes its
        own snapshots only.
        """
        image = runnable_image(4, 1_000_000)
        self.registry.rate = 2_000_000
        reference = self.add(image)
        socket = str(self.place / "second.sock")
        other = await self.start_containerd("d", socket)
        pulls = [Deferred.fromCoroutine(each.pull(reference)) for each in (self.containerd, other)]
        await gatherResults(pulls, consumeErrors=True)
        self.assertEqual(self.blob_gets(image), [1] * 4)
        await other.ctr("images", "rm", "--sync", reference)
        await deferLater(reactor, PATIENCE)
        await self.daemon.ctl("gc")
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)

    async def test_collected_meanwhile(self) -> None:
        """
        Collections while images are pulled, run and removed break none of it.
        """
        images = {f"app{n}": image_of([*runnable_image().layers, sample_layer(50_000, n)]) for n in range(4)}
        references = [self.add(image, name) for name, image in images.items()]
        going = True

        async def collect() -> None:
            while going:
                await self.daemon.ctl("gc")

        async def use(number: int, reference: str) -> None:
            for turn in range(2):
                await self.containerd.pull(reference)
                output = await self.containerd.run_in(
                    reference, f"c{number}-{turn}", "cat", "/etc/os-release"
                )
                self.assertEqual(output.encode(), OS_RELEASE)
                await self.containerd.ctr("images", "rm", "--sync", reference)

        collecting = Deferred.fromCoroutine(collect())
        try:
            uses = [Deferred.fromCoroutine(use(*each)) for each in enumerate(references)]
            await gatherResults(uses, consumeErrors=True)
        finally:
            going = False
        await collecting


class DebianTests(ContainerdCase):
    """
    Debian's containerd 1.6.
    """

    newest = False

    async def test_pull_and_run(self) -> None:
        """
        C{ctr} of this version asks for no layer: it fetches and unpacks by itself, and its
        containers run as with any snapshotter.
        """
        image = runnable_image()
        reference = self.add(image)
        await self.containerd.pull(reference)
        self.assertEqual(self.blob_gets(image), [1, 1, 1])
        await self.containerd.run_in(reference, "one", "touch", "/written", options=())
        await self.daemon.ctl("gc")
        output = await self.containerd.run_in(reference, "two", "cat", "/etc/os-release")
        self.assertEqual(output.encode(), OS_RELEASE)
        await self.containerd.ctr("containers", "rm", "one")
        await self.containerd.ctr("images", "rm", "--sync", reference)
        self.assertEqual(os.listdir(f"{self.daemon.data}/engines/main/snapshots"), [])

    async def test_cri(self) -> None:
        """
        C{crictl} pulls with labels, by which xferd provides the layers; containers run on
        their trees.
        """
        await check_cri(self)

    async def test_pods(self) -> None:
        """
        Pods start at once, run on xferd's trees, and are removed, over a restart of xferd.
        """
        await check_pods(self)

    async def test_deep(self) -> None:
        """
        A container runs on 120 layers.
        """
        image = runnable_image(120, 1000)
        reference = self.add(image)
        await self.containerd.crictl("pull", reference)
        self.assertEqual(self.blob_gets(image), [1] * 120)
        output = await self.containerd.run_in(reference, "one", "cat", "/etc/os-release", namespace="k8s.io")
        self.assertEqual(output.encode(), OS_RELEASE)


async def check_cri(case: ContainerdCase) -> None:
    """
    Pull by CRI as kubelet does, run a container, and remove the image.
    """
    if not os.path.exists(f"{NEWEST}/crictl"):
        raise SkipTest("XFERD_CONTAINERD names no directory with crictl")
    image = runnable_image()
    reference = case.add(image)
    await case.containerd.crictl("pull", reference)
    case.assertEqual(case.blob_gets(image), [1, 1, 1])
    content = await case.containerd.ctr("content", "ls", "-q", namespace="k8s.io")
    case.assertEqual(len(content.split()), 2, content)
    output = await case.containerd.run_in(reference, "one", "cat", "/etc/os-release", namespace="k8s.io")
    case.assertEqual(output.encode(), OS_RELEASE)
    listed = json.loads(await case.containerd.crictl("images", "--output", "json"))
    case.assertEqual([each["repoTags"] for each in listed["images"]], [[reference]])
    await case.containerd.crictl("rmi", reference)
    await case.until(lambda: not os.listdir(f"{case.daemon.data}/engines/main/snapshots"))
    # The audit trail has both, and one line for all requests of the pull.
    await case.until(
        lambda: re.search(r"containerd main by engine: Remove \d layers?: 0", case.daemon.output)
    )
    pulls = re.findall(r"containerd main by engine: Prepare (\S+)@sha256:[0-9a-f]{64}: 0", case.daemon.output)
    case.assertEqual(pulls, [reference.rpartition(":")[0]])


async def check_pods(case: ContainerdCase, network: int = 2) -> None:
    """
    Run pods as kubelet does.

    @param network: CRI's C{NamespaceMode}: 2 for the network of the host, 0 for one of the pod's.
    """
    crictl = case.containerd.crictl
    pause = runnable_image()
    case.registry.add(image_of([*pause.layers[:2]], config={"Cmd": ["/bin/sleep", "1000"]}), "pause", "1")
    reference = case.add(runnable_image(4))
    await crictl("pull", reference)

    async def start(number: int) -> tuple[str, str]:
        pod, container = case.place / f"pod{number}.json", case.place / f"container{number}.json"
        metadata = {"name": f"pod{number}", "uid": f"uid{number}", "namespace": "default"}
        options = {"network": network, "pid": 1, "ipc": 1}
        security = {"namespace_options": options}
        pod.write_text(json.dumps({"metadata": metadata, "linux": {"security_context": security}}))
        command = ["/bin/sh", "-c", "echo $$ > /pid && cat /etc/os-release && sleep 1000"]
        container.write_text(
            json.dumps(
                {
                    "metadata": {"name": "app"},
                    "image": {"image": reference},
                    "command": command,
                    "linux": {"security_context": security},
                }
            )
        )
        sandbox = (await crictl("runp", str(pod))).strip()
        created = (await crictl("create", "--no-pull", sandbox, str(container), str(pod))).strip()
        await crictl("start", created)
        return sandbox, created

    started = await gatherResults([Deferred.fromCoroutine(start(n)) for n in range(5)], consumeErrors=True)
    for _, container in started:
        said = await crictl("exec", container, "cat", "/etc/os-release")
        case.assertEqual(said.encode(), OS_RELEASE)
    await case.daemon.stop("KILL")
    case.daemon = await case.start_daemon()
    said = await crictl("exec", started[0][1], "cat", "/pid", "/etc/os-release")
    case.assertIn(OS_RELEASE, said.encode())
    await case.daemon.ctl("gc")
    await case.patiently(lambda: Deferred.fromCoroutine(crictl("stats", "--output", "json")))
    for sandbox, container in started:
        if not network:
            said = await crictl("exec", container, "cat", "/proc/net/dev")
            case.assertIn("eth0", said)
        await crictl("rmp", "--force", sandbox)
    listed = json.loads(await crictl("ps", "--all", "--output", "json"))
    case.assertEqual(listed["containers"], [])
    case.assertEqual(case.blob_gets(runnable_image(4)), [1] * 4)
