"""
podman, Buildah and skopeo run, build, push and save images from the view of the daemon's
store.

The module is long because three programs use the same view, with root and without.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from tarfile import LNKTYPE
from tempfile import mkdtemp
from typing import Final, cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.other_user import JOE, make_user
from tests.integration.peers import DockerRegistry, PeerFailed, push, require, run
from tests.integration.places import free_port
from tests.integration.programs import Program, Xferd
from xferd.interfaces.reactor import IReactor
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, SampleIndex, image_of, index_of, sample_image
from xferd.testing.layers import LayerBuilder

reactor = cast(IReactor, installed)

RELEASE: Final = "NAME=Tiny\n"
"""The content of C{/etc/os-release} in the images."""

NET_BIND: Final = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""CAPNET_BIND_SERVICE, permitted and effective: struct vfs_cap_data of the kernel."""


def tiny_image(note: str = "", *, base: str = "") -> SampleImage:
    """
    An image of two layers that can run, with all that a layer can do to one below.

    @param note: makes the upper layer another one.
    @param base: makes the lower layer another one.
    """
    busybox = Path(require("busybox")).read_bytes()
    lower = (
        LayerBuilder().directory("bin").file("base", base.encode()).file("bin/busybox", busybox, mode=0o755)
    )
    for name in ("sh", "cat", "find", "ls", "sleep", "stat", "touch"):
        lower.symlink(f"bin/{name}", "busybox")
    for name in ("etc", "proc", "sys", "dev", "gone", "opaque", "opaque/in"):
        lower.directory(name)
    lower.file("etc/os-release", RELEASE.encode())
    lower.directory("data", uid=7, gid=8, mode=0o2775)
    lower.file("data/owned", b"1", uid=5000, gid=5001, mode=0o4750)
    lower.entry("data/again", LNKTYPE, target="data/owned", uid=5000, gid=5001, mode=0o4750)
    lower.file("data/capable", b"2", mode=0o755, xattrs={"security.capability": NET_BIND})
    lower.file("data/changed", b"old").file("gone/file").file("opaque/old").file("opaque/in/old").fifo(
        "data/pipe"
    )
    upper = LayerBuilder().whiteout("gone").directory("opaque", mode=0o700).opaque("opaque")
    upper.file("opaque/new", b"3").directory("data", uid=7, gid=8, mode=0o2775)
    upper.file("data/changed", b"new", uid=7).whiteout("data/pipe").file("implied/deep/file", b"4")
    upper.file("note", note.encode())
    config = {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]}
    return image_of([lower.finish(), upper.finish()], config=config)


class Storage:
    """
    podman, Buildah and skopeo with a storage of their own.
    """

    def __init__(
        self, place: Path, view: str = "", before: Sequence[str] = (), *, podman: str = "podman"
    ) -> None:
        """
        @param place: the directory of the storage.
        @param view: an additional image store, if any.
        @param before: a program that runs the rest of its command line.
        @param podman: the name of podman, or its path if it is not Debian's.
        """
        place.mkdir()
        self._podman = podman
        self._before = before
        self.root = place / "root"
        stores = f'additionalimagestores = ["{view}"]\n' if view else ""
        (place / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.root}"\nrunroot = "{place}/run"\n'
            f'rootless_storage_path = "{self.root}"\n'
            f"[storage.options]\n{stores}"
        )
        # The defaults of podman exceed what a container of the tests may have.
        (place / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\nnetns = "none"\n'
            '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n'
        )
        self.registries = place / "registries.conf"
        self.registries.write_text('unqualified-search-registries = []\nshort-name-mode = "permissive"\n')
        self._policy = place / "policy.json"
        self._policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self._environment = [
            f"HOME={place}",
            f"XDG_RUNTIME_DIR={place}",
            f"CONTAINERS_STORAGE_CONF={place}/storage.conf",
            f"CONTAINERS_CONF={place}/containers.conf",
            f"CONTAINERS_REGISTRIES_CONF={self.registries}",
        ]

    def argv(self, *command: str) -> list[str]:
        """
        The command line of a program that uses the storage.
        """
        program, *arguments = command
        own = self._podman if program == "podman" else program
        return [*self._before, "env", *self._environment, own, *arguments]

    async def run(self, *command: str) -> str:
        """
        Run a program.
        """
        return await run(reactor, self.argv(*command))

    async def podman(self, *arguments: str) -> str:
        """
        Run podman.
        """
        return await self.run("podman", *arguments)

    async def images(self) -> dict[str, bool]:
        """
        The names of all images, each with whether it is read-only.
        """
        found = json.loads(await self.podman("images", "--format", "json"))
        return {
            name: bool(each.get("ReadOnly")) for each in found for name in each.get("Names") or ["<none>"]
        }

    def own_layers(self) -> list[object]:
        """
        The layers that it has unpacked itself; podman 5 has no file of none.
        """
        file = self.root / "overlay-layers" / "layers.json"
        return list(json.loads(file.read_text() or "[]")) if file.exists() else []

    async def stop(self) -> None:
        """
        Remove all containers and mounts.
        """
        removal = ("rm", "--all", "--force", "--time", "0")
        try:
            await self.podman(*removal)
        except PeerFailed as error:
            # podman 4.3 does not always unmount it in time for a container with a user namespace;
            # the second removal succeeds.
            if "userdata/shm: device or resource busy" not in str(error):
                raise
            await self.podman(*removal)


class PodmanCase(TestCase):
    """
    A registry with an image, a daemon with a view, and podman that reads it.
    """

    wait_for = ""
    before: Sequence[str] = ()

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        if os.geteuid() != 0:
            raise SkipTest("containers need root")
        for program in ("podman", "buildah", "skopeo", "runc"):
            require(program)
        # Outside the working directory: the paths of sockets have to be short.
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)
        self.registry = DockerRegistry(reactor, str(self.place / "registry"))
        await self.registry.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.registry.stop()))
        self.image = tiny_image()
        self.reference = await self.push("app:1", self.image)
        self.view = self.place / "view"
        self.storage = self.make_storage("podman", str(self.view))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.storage.stop()))
        self.mirror = f"127.0.0.1:{free_port()}"
        settings = self.place / "xferd.toml"
        settings.write_text(
            f'[registry]\nlisten = ["tcp:{self.mirror.rpartition(":")[2]}:interface=127.0.0.1"]\n'
            f'[registry.upstreams."{self.registry.host}"]\nalias = "lan"\n'
            f'[engines.containers-storage]\npath = "{self.view}"\n'
            f'roots = ["{self.storage.root}"]\n{self.wait_for}'
        )
        self.options = ("--config", str(settings))
        await self.start()

    async def start(self) -> None:
        """
        Start the daemon, which is stopped at the end.
        """
        self.daemon = daemon = Xferd(reactor, str(self.place / "x"), *self.options, before=self.before)
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))

    def make_storage(self, name: str, view: str = "") -> Storage:
        """
        Make the storage of an engine.
        """
        return Storage(self.place / name, view)

    async def push(self, name: str, image: SampleImage | SampleIndex) -> str:
        """
        Push an image to the registry; returns its reference.
        """
        reference = f"{self.registry.host}/{name}"
        await push(reactor, image, reference, mkdtemp(dir=self.place))
        return reference

    async def use_mirror(self) -> None:
        """
        Have podman pull through the daemon.
        """
        text = await self.daemon.ctl("mirror", "show", "podman")
        location = f'location = "{self.registry.host}"\n'
        self.storage.registries.write_text(text.replace(location, f"{location}insecure = true\n"))

    async def run_in(self, reference: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """
        Run a command in a container.
        """
        return await self.storage.podman("run", "--rm", *options, reference, *command)

    def fetched(self) -> int:
        """
        How many blobs the registry has sent.
        """
        return sum(method == "GET" and "/blobs/" in path for method, path, _ in self.registry.log)

    async def config_of(self, source: str, *options: str) -> str:
        """
        The digest of the config of an image anywhere, all blobs of which skopeo has read and
        checked.
        """
        target, owner = Path(mkdtemp(dir=self.place)), self.place.stat()
        os.chown(target, owner.st_uid, owner.st_gid)
        await self.storage.run(
            "skopeo", "--insecure-policy", "copy", "--quiet", *options, source, f"dir:{target}"
        )
        manifest = json.loads((target / "manifest.json").read_text())
        return str(manifest["config"]["digest"])


class ViewTests(PodmanCase):
    """
    Images from the daemon's trees.
    """

    async def test_run(self) -> None:
        """
        An image of the daemon is listed as read-only, and runs without a request for a blob.
        """
        await self.daemon.ctl("pull", self.reference)
        self.assertEqual(await self.storage.images(), {self.reference: True})
        before = self.fetched()
        self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)
        self.assertEqual(
            await self.run_in(self.reference, "sh", "-c", "echo x > /data/here; cat /data/here"), "x\n"
        )
        self.assertEqual(self.fetched(), before)

    async def test_user_namespace(self) -> None:
        """
        In a user namespace, files belong to the same users as outside of it.
        """
        await self.daemon.ctl("pull", self.reference)
        facts = ["stat", "-c", "%u %g %a", "/bin/busybox", "/data", "/data/owned", "/data/changed"]
        expected = "0 0 755\n7 8 2775\n5000 5001 4750\n7 0 644\n"
        for options in ((), ("--uidmap=0:100000:65536", "--gidmap=0:200000:65536")):
            self.assertEqual(await self.run_in(self.reference, *facts, options=options), expected, options)

    async def test_automatic_namespace(self) -> None:
        """
        podman chooses a range of users that is large enough for all owners in the image.
        """
        await self.daemon.ctl("pull", self.reference)
        ranges = self.place / "ranges"
        ranges.write_text("containers:1000000:1000000\n")
        script = 'mount --bind "$0" /etc/subuid; mount --bind "$0" /etc/subgid; exec "$@"'
        podman = self.storage.argv("podman", "run", "--rm", "--userns=auto", self.reference)
        facts = ["sh", "-c", "stat -c '%u %g' /data/owned; cat /proc/self/uid_map"]
        output = await run(reactor, ["unshare", "--mount", "sh", "-ec", script, str(ranges), *podman, *facts])
        self.assertEqual(output.split()[:3], ["5000", "5001", "0"])
        self.assertGreater(int(output.split()[4]), 5001)

    async def test_pull(self) -> None:
        """
        A pull by podman itself, from the registry, fetches no blob but the config.
        """
        await self.daemon.ctl("pull", self.reference)
        before = self.fetched()
        await self.storage.podman("pull", "--quiet", "--tls-verify=false", self.reference)
        self.assertEqual(self.fetched(), before + 1)
        self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)

    async def test_copy(self) -> None:
        """
        Images are pushed, saved and copied out of the view, also by an index's digest, and
        so is what was built on top.
        """
        await self.daemon.ctl("pull", self.reference)
        (self.place / "Containerfile").write_text(f"FROM {self.reference}\nCOPY added /added\n")
        (self.place / "added").write_text("5")
        built = f"{self.registry.host}/built:1"
        build = ["buildah", "bud", "--isolation=chroot", "--quiet", "--tag", built, str(self.place)]
        image_id = (await self.storage.run(*build)).split()[-1]
        container = (await self.storage.podman("create", "--quiet", self.reference)).strip()
        committed = f"{self.registry.host}/committed:1"
        commit_id = (await self.storage.podman("commit", "--quiet", container, committed)).strip()
        config = str(self.image.config.digest)
        for reference, expected in ((self.reference, config), (built, image_id), (committed, commit_id)):
            expected = f"sha256:{expected.removeprefix('sha256:')}"
            with self.subTest(reference):
                copy = reference.replace(":1", ":copy")
                await self.storage.podman("push", "--quiet", "--tls-verify=false", reference, copy)
                self.assertEqual(await self.config_of(f"docker://{copy}", "--src-tls-verify=false"), expected)
                self.assertEqual(await self.config_of(f"containers-storage:{reference}"), expected)
                archive = self.place / f"{expected.removeprefix('sha256:')}.tar"
                await self.storage.podman("save", "--quiet", "--output", str(archive), reference)
                self.assertEqual(await self.config_of(f"docker-archive:{archive}"), expected)

    async def test_index(self) -> None:
        """
        An image of an index is known by the digest of the index and by that of its manifest.
        """
        image, other = tiny_image("of an index"), Platform.parse("linux/s390x")
        index = index_of({Platform.local(): image, other: sample_image(1, platform=other)})
        await self.daemon.ctl("pull", await self.push("many:1", index))
        for digest in (index.digest, image.digest):
            name = f"{self.registry.host}/many@{digest}"
            self.assertEqual(await self.run_in(name, "cat", "/etc/os-release"), RELEASE)
        copy = f"{self.registry.host}/many:copy"
        await self.storage.podman(
            "push", "--quiet", "--tls-verify=false", f"{self.registry.host}/many:1", copy
        )
        config = await self.config_of(f"docker://{copy}", "--src-tls-verify=false")
        self.assertEqual(config, str(image.config.digest))

    async def test_docker_manifest(self) -> None:
        """
        An image with a manifest in Docker's form runs and is pushed.
        """
        docker, again = (f"{self.registry.host}/docker:{tag}" for tag in ("1", "copy"))
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet", "--format=v2s2"]
        insecure = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        await run(reactor, [*copy, *insecure, f"docker://{self.reference}", f"docker://{docker}"])
        await self.daemon.ctl("pull", docker)
        self.assertEqual(await self.run_in(docker, "cat", "/etc/os-release"), RELEASE)
        await self.storage.podman("push", "--quiet", "--tls-verify=false", docker, again)
        expected = await self.config_of(f"docker://{docker}", "--src-tls-verify=false")
        self.assertEqual(await self.config_of(f"docker://{again}", "--src-tls-verify=false"), expected)

    async def test_one_layer_on_two(self) -> None:
        """
        A layer that stands on two others is right on both.
        """
        other = await self.push("other:1", tiny_image(base="another"))
        for reference in (self.reference, other):
            await self.daemon.ctl("pull", reference)
        for reference, base in ((self.reference, ""), (other, "another")):
            for options in ((), ("--uidmap=0:100000:65536", "--gidmap=0:200000:65536")):
                self.assertEqual(await self.run_in(reference, "cat", "/base", options=options), base)
                self.assertEqual(await self.run_in(reference, "cat", "/data/changed", options=options), "new")

    async def test_service(self) -> None:
        """
        A service that runs sees an image that comes, and misses one that goes.
        """
        socket = f"unix://{self.place}/p"
        argv = self.storage.argv("podman", "--log-level=info", "system", "service", "--time=0", socket)
        service = Program(reactor, argv, "API service listening", str(self.place))
        await service.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(service.stop()))

        async def listed() -> str:
            return await self.storage.podman(
                "--remote", "--url", socket, "images", "--format={{.Repository}}"
            )

        self.assertEqual(await listed(), "")
        await self.daemon.ctl("pull", self.reference)
        self.assertEqual(await listed(), f"{self.registry.host}/app\n")
        await self.daemon.ctl("rm", self.reference)
        self.assertEqual(await listed(), "")


class CrunTests(PodmanCase):
    """
    Debian's podman with crun.
    """

    def make_storage(self, name: str, view: str = "") -> Storage:
        """
        Make a storage whose podman sees one version of cgroups: crun refuses two.
        """
        alone = 'umount /sys/fs/cgroup/unified 2>/dev/null || true; exec "$@"'
        return Storage(self.place / name, view, ["unshare", "--mount", "sh", "-c", alone, "sh"])

    async def test_run(self) -> None:
        """
        It runs an image as runc does, with and without a user namespace.
        """
        await self.daemon.ctl("pull", self.reference)
        for options in ((), ("--uidmap=0:100000:65536", "--gidmap=0:200000:65536")):
            command = ["--runtime", require("crun"), "run", "--rm", *options, self.reference]
            said = await self.storage.podman(*command, "stat", "-c", "%u %g", "/data/owned")
            self.assertEqual(said, "5000 5001\n", options)


class RemovalTests(PodmanCase):
    """
    What engines need stays.
    """

    async def test_containers(self) -> None:
        """
        A container, running or stopped, keeps its layers and its image, also over a restart
        of the daemon; what was committed keeps the layers.  The rest goes.
        """
        await self.daemon.ctl("pull", self.reference)
        run_web = ["run", "--detach", "--name=web", self.reference, "sleep", "1000"]
        await self.storage.podman(*run_web)
        for command in (["rm", self.reference], ["gc", "--dry-run"]):
            self.assertIn(f"container web of {self.storage.root}", await self.daemon.ctl(*command))
        await self.daemon.ctl("gc")
        self.assertEqual(await self.storage.podman("exec", "web", "cat", "/etc/os-release"), RELEASE)
        self.assertEqual(await self.storage.images(), {"<none>": True})
        await self.storage.podman("stop", "--time=0", "web")
        await self.daemon.stop()
        await self.start()
        await self.daemon.ctl("gc")
        await self.storage.podman("start", "web")
        self.assertEqual(await self.storage.podman("exec", "web", "cat", "/etc/os-release"), RELEASE)
        await self.storage.podman("commit", "--quiet", "web", "localhost/mine:1")
        await self.storage.podman("rm", "--force", "--time=0", "web")
        await self.daemon.ctl("gc")
        self.assertEqual(await self.storage.images(), {"localhost/mine:1": False})
        self.assertEqual(await self.run_in("localhost/mine:1", "cat", "/etc/os-release"), RELEASE)
        await self.storage.podman("rmi", "localhost/mine:1")
        await self.daemon.ctl("gc")
        self.assertEqual(list(Path(self.daemon.data, "trees", "sha256").iterdir()), [])
        self.assertEqual(await self.storage.images(), {})

    async def test_moved_tag(self) -> None:
        """
        A tag that moves leaves the containers of the older image as they are.
        """
        await self.daemon.ctl("pull", self.reference)
        await self.storage.podman("create", "--name=old", self.reference, "cat", "/note")
        self.assertEqual(await self.push("app:1", tiny_image("newer")), self.reference)
        await self.daemon.ctl("pull", self.reference)
        await self.daemon.ctl("gc")
        self.assertEqual(await self.run_in(self.reference, "cat", "/note"), "newer")
        self.assertEqual(await self.storage.podman("start", "--attach", "old"), "")

    async def test_killed(self) -> None:
        """
        Whenever the daemon is killed while it writes, podman can read the view.
        """
        references = [await self.push(f"many:{n}", tiny_image(str(n))) for n in range(6)]
        await self.storage.podman("create", "--name=web", await self.pulled(self.reference))
        for number, reference in enumerate(references):
            pulling = Deferred.fromCoroutine(self.daemon.try_ctl("pull", "--quiet", reference))
            if number % 2:
                await self.daemon.try_ctl("rm", references[number - 1])
            else:
                await pulling
            await self.daemon.stop("KILL")
            self.assertIn("web", await self.storage.podman("ps", "--all", "--format={{.Names}}"))
            self.assertIn(self.reference, await self.storage.images())
            await pulling
            await self.start()
        await self.daemon.ctl("pull", references[-1])
        self.assertEqual(await self.run_in(references[-1], "cat", "/note"), "5")

    async def test_stopped(self) -> None:
        """
        A stopped process that holds the lock of an engine's records delays nothing for long:
        the layers in the view stay, and another engine sees new images.
        """
        await self.storage.podman("create", "--name=web", await self.pulled(self.reference))
        lock = os.open(self.storage.root / "overlay-layers" / "layers.lock", os.O_RDWR)
        self.addCleanup(os.close, lock)
        child = os.fork()
        if not child:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            os.kill(os.getpid(), signal.SIGSTOP)
            os._exit(0)
        try:
            os.waitpid(child, os.WUNTRACED)
            reason = f"the engine of {self.storage.root}, whose records cannot be read"
            self.assertIn(reason, await self.daemon.ctl("rm", self.reference))
            newer = await self.pulled(await self.push("newer:1", tiny_image("newer")))
            await self.daemon.ctl("gc")
            other = self.make_storage("other", str(self.view))
            self.assertIn(newer, await other.images())
            self.assertIn("has held the lock", await self.daemon.ctl("engine", "ls"))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        await self.daemon.ctl("gc")
        await self.storage.podman("start", "--attach", "web")

    async def pulled(self, reference: str) -> str:
        """
        Have the daemon pull an image.
        """
        await self.daemon.ctl("pull", "--quiet", reference)
        return reference


class LateAnswerTests(PodmanCase):
    """
    An unchanged C{podman pull} through the mirror.
    """

    wait_for = 'wait_for = ["root"]\n'

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Configure the mirror.
        """
        await super().setUp()
        await self.use_mirror()

    async def test_pull(self) -> None:
        """
        podman and Buildah fetch no layer: they find all of them in the view.  The image
        belongs to the engine: when it is removed there, it goes from the daemon.
        """
        for program in ("podman", "buildah"):
            await self.storage.run(program, "pull", "--quiet", self.reference)
            self.assertEqual(await self.storage.images(), {self.reference: False})
            self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)
            self.assertEqual(self.storage.own_layers(), [])
            for layer in self.image.layers:
                self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)
            self.assertEqual(await self.daemon.show("images"), [])
            await self.storage.podman("rmi", self.reference)

    async def test_index(self) -> None:
        """
        Of an index, podman asks for the manifest of its platform, which waits.
        """
        other = Platform.parse("linux/s390x")
        image = tiny_image("of an index")
        index = index_of({Platform.local(): image, other: sample_image(1, platform=other)})
        reference = await self.push("many:1", index)
        await self.storage.podman("pull", "--quiet", reference)
        self.assertEqual(await self.run_in(reference, "cat", "/note"), "of an index")
        self.assertEqual(self.storage.own_layers(), [])
        for layer in image.layers:
            self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)

    async def test_cannot_unpack(self) -> None:
        """
        An image that the daemon cannot unpack is fetched by podman as usual.
        """
        bad = LayerBuilder().directory("bin")
        bad.file("bin/" + "x" * 200 + "/" + "y" * 300, b"a name that no file system takes")
        reference = await self.push("bad:1", image_of([bad.finish()]))
        try:
            await self.storage.podman("pull", "--quiet", reference)
        except PeerFailed as e:
            # podman has tried to unpack it.
            self.assertIn("file name too long", str(e))
        else:
            self.fail("podman has unpacked it")


class KilledTests(PodmanCase):
    """
    A daemon that is killed while it lets C{podman pull} wait.
    """

    wait_for = 'wait_for = ["root"]\n[limits]\ndownload_rate = 100000\n'

    async def test_killed(self) -> None:
        """
        podman ends the pull by itself, from the registry; the image stays while the next daemon
        collects, and the next pull is the daemon's again.
        """
        await self.use_mirror()
        pulling = Deferred.fromCoroutine(self.storage.podman("pull", "--quiet", self.reference))
        while not self.fetched():
            await deferLater(reactor, 0.05)
        self.assertFalse(pulling.called)
        await self.daemon.stop("KILL")
        await pulling
        self.assertEqual(len(self.storage.own_layers()), len(self.image.layers))
        self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)
        await self.start()
        await self.daemon.ctl("gc")
        self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)
        await self.storage.podman("rmi", self.reference)
        await self.storage.podman("pull", "--quiet", self.reference)
        self.assertEqual(self.storage.own_layers(), [])
        self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)


class RootlessCase(PodmanCase):
    """
    A daemon and podman of the same user, the daemon in the user namespace of
    C{podman unshare}.
    """

    wait_for = 'wait_for = ["root"]\n'

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Make a user with further users, in mount namespaces alone.
        """
        self.user = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.user, ignore_errors=True)
        self.enter = make_user(self.user)
        await super().setUp()

    def make_storage(self, name: str, view: str = "") -> Storage:
        """
        Make the storage of the user's podman.
        """
        storage = Storage(self.place / name, view, self.enter)
        os.chown(self.place / name, JOE, JOE)
        # Ends the process that keeps the user's namespaces.
        migrate = ["podman", "system", "migrate"]
        self.addCleanup(lambda: Deferred.fromCoroutine(storage.run(*migrate)))
        return storage

    async def start(self) -> None:
        """
        Start the daemon as the user.
        """
        home = self.place / "x"
        # podman refuses all work while the additional store is missing.
        for path in (self.place, home, self.view):
            path.mkdir(exist_ok=True)
            os.chown(path, JOE, JOE)
        self.before = self.storage.argv("podman", "unshare")
        await super().start()
        self.addCleanup(self.end_daemon)

    def end_daemon(self) -> None:
        """
        End the daemon: podman, which runs it, does not pass on a signal.
        """
        process, _, _ = Path(self.daemon.data, "lock").read_text().partition(" ")
        os.kill(int(process), signal.SIGTERM)


class RootlessTests(RootlessCase):
    """
    podman without root.
    """

    async def test_run(self) -> None:
        """
        Containers run and are committed; the image is pushed.
        """
        await self.daemon.ctl("pull", self.reference)
        self.assertEqual(await self.storage.images(), {self.reference: True})
        self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)
        await self.storage.podman("create", "--name=web", self.reference)
        await self.storage.podman("commit", "--quiet", "web", "localhost/mine:1")
        copy = self.reference.replace(":1", ":copy")
        await self.storage.podman("push", "--quiet", "--tls-verify=false", self.reference, copy)
        config = await self.config_of(f"docker://{copy}", "--src-tls-verify=false")
        self.assertEqual(config, str(self.image.config.digest))

    async def test_pull(self) -> None:
        """
        An unchanged pull waits for the daemon, whose namespace has the user as root.
        """
        await self.use_mirror()
        await self.storage.podman("pull", "--quiet", self.reference)
        self.assertEqual(await self.storage.images(), {self.reference: False})
        for layer in self.image.layers:
            self.assertEqual(self.registry.count("GET", layer.blob.digest), 1)
        self.assertEqual(await self.run_in(self.reference, "cat", "/etc/os-release"), RELEASE)
        # Reads what podman has recorded.
        await self.daemon.ctl("gc")
        (engine,) = await self.daemon.show("engine", "ls")
        self.assertEqual([image["image"] for image in engine["images"]], [self.reference])

    async def test_default_paths(self) -> None:
        """
        In the namespace of the user, the defaults are the user's own.
        """
        script = "from xferd.paths import default_data_dir as d, user_of_paths as u; import os; "
        script += "print(d(os.environ, u(os.geteuid())))"
        said = await self.storage.run("podman", "unshare", sys.executable, "-c", script)
        home = self.storage.root.parent
        self.assertEqual(said.splitlines()[-1], f"{home}/.local/share/xferd")

    async def test_unknown_owner(self) -> None:
        """
        An image with owners that the user does not have is refused in a sentence.
        """
        layer = LayerBuilder().file("theirs", b"1", uid=70_000)
        reference = await self.push("theirs:1", image_of([layer.finish()]))
        _, errors, status = await self.daemon.try_ctl("pull", reference)
        self.assertEqual(status, 1)
        self.assertIn("belongs to user 70000 and group 0, which this user namespace does not have", errors)
