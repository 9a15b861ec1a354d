"""
A data directory of an older version, whose trees containers use while the daemon
is replaced by a newer one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from tests.integration.test_store_peers import run
from tests.store.support import Sample, StoreTestCase, make_version_1, pull, sample
from xferd.store.gc.mounts import find_mounts
from xferd.store.paths import Paths

SCRIPT = "while :; do cat /content /extra > /changed.new; mv /changed.new /changed; sleep 0.05; done"
"""Reads a file of each layer, again and again, and writes into the container's own layer."""

PATIENCE = 60
"""Seconds to wait for a container."""


class ContainerCase(StoreTestCase):
    """
    An image whose trees a container uses.
    """

    program: ClassVar[str] = "runc"
    runtime: ClassVar[Sequence[str]] = ("runc",)

    def setUp(self) -> None:
        """
        Store an image with busybox, as an older daemon.
        """
        super().setUp()
        if os.geteuid() != 0:
            raise SkipTest("mounting takes the rights of root")
        run(self.program, "--version")
        self.path = os.path.abspath(self.path)
        # The survey also finds mounts of other tests.
        self.content = os.urandom(8).hex()
        self.wanted = sample("busybox", os.urandom(8), self.content.encode())
        self.run_now(pull(self.store, self.wanted))
        self.bottom, self.top = self.trees(self.wanted)
        for name in ("bin", "proc", "dev", "sys"):
            os.mkdir(os.path.join(self.bottom, name))
        busybox = shutil.which("busybox")
        if busybox is None:
            raise SkipTest("busybox is not installed")
        shutil.copy(busybox, os.path.join(self.bottom, "bin", "busybox"))
        for name in ("sh", "cat", "mv", "sleep"):
            os.symlink("busybox", os.path.join(self.bottom, "bin", name))
        with open(os.path.join(self.bottom, "extra"), "w") as file:
            file.write(" extra")
        self.close(self.store)
        make_version_1(self.path)
        self.bottom, self.top = (os.path.join(os.path.dirname(p), "fs") for p in (self.bottom, self.top))
        self.place = os.path.abspath(self.mktemp())
        os.makedirs(os.path.join(self.place, "upper"))
        os.makedirs(os.path.join(self.place, "work"))
        self.root = os.path.join(self.place, "rootfs")
        self.mounted = False
        self.addCleanup(self.unmount)

    def trees(self, wanted: Sample) -> tuple[str, str]:
        """
        The directories of the image's two layers, the bottom one first.
        """
        assert wanted.image.chain_id is not None
        top = self.store.layers.get(wanted.image.chain_id)
        assert top is not None and top.parent is not None
        bottom = self.store.layers.get(top.parent)
        assert bottom is not None
        return bottom.path, top.path

    def mount(self, *lowers: str, directory: str = "/") -> None:
        """
        Mount an overlay, until the test ends.

        @param directory: where to do it, for relative paths.
        """
        os.mkdir(self.root)
        options = f"lowerdir={':'.join(lowers)},upperdir={self.place}/upper,workdir={self.place}/work"
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, self.root]
        done = subprocess.run(mount, capture_output=True, text=True, cwd=directory)
        if done.returncode != 0:
            raise SkipTest(f"this kernel does not mount overlays here: {done.stderr}")
        self.mounted = True

    def unmount(self) -> None:
        """
        Unmount it, unless that was done.
        """
        mounted, self.mounted = self.mounted, False
        if mounted:
            subprocess.run(["umount", "-l", self.root], check=True)

    def start(self) -> None:
        """
        Start a container on the mount, until the test ends.
        """
        run("runc", "spec", "--bundle", self.place)
        config = os.path.join(self.place, "config.json")
        with open(config) as file:
            spec = json.load(file)
        spec["process"] |= {"terminal": False, "args": ["/bin/sh", "-c", SCRIPT]}
        spec["root"]["readonly"] = False
        # No limits are needed, and cgroups may not be writable.
        spec["linux"].pop("resources", None)
        spec["mounts"] = [each for each in spec["mounts"] if each["type"] != "cgroup"]
        with open(config, "w") as file:
            json.dump(spec, file)
        self.name = f"xferd-test-{os.getpid()}"
        self.state = os.path.join(self.place, "state")
        with open(os.path.join(self.place, "log"), "wb") as log:
            command = [*self.runtime, "--root", self.state, "run", "--bundle", self.place, self.name]
            # Only through this process does the test wait for the container's end.
            self.process = process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.addCleanup(self.kill)
        self.until(lambda: process.poll() is not None or self.written() > 0)
        if process.poll() is not None:
            with open(os.path.join(self.place, "log")) as file:
                raise AssertionError(f"the container ended with {process.returncode}: {file.read()}")

    def kill(self) -> None:
        """
        End the container, and wait until its mounts are gone.
        """
        subprocess.run([*self.runtime, "--root", self.state, "kill", self.name, "KILL"], capture_output=True)
        self.process.wait(PATIENCE)

    def written(self) -> float:
        """
        The time at which the container last wrote what it has read; 0 before that.
        """
        path = os.path.join(self.place, "upper", "changed")
        try:
            found = os.stat(path).st_mtime
            with open(path) as file:
                self.assertEqual(file.read(), f"{self.content} extra")
        except FileNotFoundError:
            return 0.0
        return found

    def until(self, true: Callable[[], bool]) -> None:
        """
        Wait for the container.
        """
        last = time.monotonic() + PATIENCE
        while not true():
            self.assertLess(time.monotonic(), last, "the container does not go on")
            time.sleep(0.02)

    def assert_goes_on(self) -> None:
        """
        The container still reads its layers and writes.
        """
        before = time.time()
        self.until(lambda: self.written() > before)


class MigrationTests(ContainerCase):
    """
    The daemon of version 2 starts while a container of version 1 runs.
    """

    def test_container(self) -> None:
        """
        The container goes on reading and writing while the trees are renamed, and
        afterwards; a collection spares its layers until it is unmounted.
        """
        self.mount(self.top, self.bottom)
        self.start()
        self.store = self.open()
        paths = self.trees(self.wanted)
        self.assertEqual([os.path.basename(path) for path in paths], ["diff", "diff"])
        self.assertFalse(os.path.exists(self.top))
        self.assert_goes_on()
        self.successResultOf(self.store.images.remove(self.wanted.image.reference))
        self.assertEqual(self.successResultOf(self.store.gc.collect()).trees, 0)
        self.assert_goes_on()
        for name in ("content", "extra", "bin/sh"):
            self.assertTrue(os.path.lexists(os.path.join(self.root, name)))
        self.kill()
        self.unmount()
        self.assertEqual(self.successResultOf(self.store.gc.collect()).trees, 2)

    def test_new_container(self) -> None:
        """
        A container that starts after the migration has the same trees.
        """
        self.store = self.open()
        bottom, top = self.trees(self.wanted)
        self.mount(top, bottom)
        self.start()
        self.assert_goes_on()

    def test_links(self) -> None:
        """
        Mounts by links to trees, as engines make them, are found in what the kernel
        shows of them: before and after the trees are renamed, with absolute and with
        relative paths.
        """
        trees = Paths(self.path).trees
        names = {os.path.relpath(os.path.dirname(path), trees) for path in (self.top, self.bottom)}
        self.store = store = self.open()
        os.mkdir(os.path.join(trees, "l"))
        for number, path in enumerate(self.trees(self.wanted)):
            identity = str(number) * 64
            os.symlink(os.path.relpath(os.path.dirname(path), trees), os.path.join(trees, identity))
            os.symlink(f"../{identity}/diff", os.path.join(trees, "l", str(number) * 26))
            links = os.path.join(self.path, "engines", "main", "l")
            os.makedirs(links, exist_ok=True)
            os.symlink(os.path.relpath(path, links), os.path.join(links, str(number)))
        view = os.path.join(self.place, "view")
        os.symlink(trees, view)
        self.successResultOf(self.store.images.remove(self.wanted.image.reference))
        for directory, top, bottom in (
            ("/", f"{view}/l/{'1' * 26}", f"{view}/l/{'0' * 26}"),
            ("/", f"{view}/{'1' * 64}/diff", f"{view}/{'0' * 64}/diff"),
            (trees, f"l/{'1' * 26}", f"{'0' * 64}/diff"),
            (self.path, "engines/main/l/1", f"trees/{os.path.relpath(self.trees(self.wanted)[0], trees)}"),
            (os.path.join(trees, "sha256"), *self.relative()),
        ):
            self.mount(top, bottom, directory=directory)
            self.assertLessEqual(names, find_mounts(Paths(self.path)).trees, top)
            self.assertEqual(self.successResultOf(store.gc.collect()).trees, 0, top)
            self.unmount()
            os.rmdir(self.root)
        self.assertEqual(self.successResultOf(store.gc.collect()).trees, 2)

    def test_bound(self) -> None:
        """
        A tree that is mounted by itself, before it is renamed, is spared afterwards.
        """
        os.mkdir(self.root)
        done = subprocess.run(["mount", "--bind", self.top, self.root], capture_output=True, text=True)
        if done.returncode != 0:
            raise SkipTest(f"nothing can be mounted here: {done.stderr}")
        self.mounted = True
        self.store = self.open()
        self.successResultOf(self.store.images.remove(self.wanted.image.reference))
        self.assertEqual(self.successResultOf(self.store.gc.collect()).trees, 1)
        self.assertEqual(os.listdir(self.root), ["content"])
        self.unmount()
        self.assertEqual(self.successResultOf(self.store.gc.collect()).trees, 1)

    def relative(self) -> tuple[str, str]:
        """
        The two trees as containerd writes them, from within the directory that they
        have in common.
        """
        bottom, top = (
            os.path.join(os.path.basename(os.path.dirname(p)), "diff") for p in self.trees(self.wanted)
        )
        return top, bottom


class CrunTests(MigrationTests):
    """
    The same with crun.
    """

    program: ClassVar[str] = "crun"
    # crun refuses the machine's cgroups where both versions are mounted.
    runtime: ClassVar[Sequence[str]] = (
        *("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "-"),
        *("crun", "--cgroup-manager=disabled"),
    )
