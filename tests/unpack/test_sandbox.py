"""
Tests for L{xferd.unpack.sandbox}.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import resource
import signal
import socket
import sys
from functools import partial

from tests.unpack.layer_case import SIZE, TAR, LayerCase
from tests.unpack.tars import (
    END,
    IS_ROOT,
    NOBODY,
    died,
    file,
    gzipped,
    in_child,
    symlink,
)
from tests.unpack.test_landlock import available as landlocked
from xferd.unpack import layer_process, sandbox, seccomp
from xferd.unpack.rights import Rights, own_rights


def refuse_namespaces() -> dict[str, str]:
    """
    Let C{unshare} fail in this process from now on, as systemd's
    C{RestrictNamespaces=yes} does; then do as the worker does.
    """
    machine = seccomp._machine
    assert machine is not None
    number = seccomp.FATAL["unshare"][machine.column]
    assert number is not None
    program = b"".join(
        (
            seccomp._statement(0x20, 0),
            seccomp._jump(0x15, number, 0, 1),
            seccomp._statement(0x06, 0x00050000 | errno.EPERM),
            seccomp._statement(0x06, 0x7FFF0000),
        )
    )
    own, seccomp._program = seccomp._program, program  # type: ignore[misc]
    sandbox._call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    seccomp.install()
    seccomp._program = own  # type: ignore[misc]
    return sandbox.leave_network()


class CageTests(LayerCase):
    """
    Tests for L{sandbox}, in processes that do not come back.
    """

    def test_enter(self) -> None:
        """
        Inside, nothing can be imported, the umask is 0, and no program gains rights.
        """

        def inside() -> tuple[int, bool, str]:
            root = os.open(self.staged, os.O_RDONLY)
            status = open("/proc/self/status")  # noqa: SIM115
            sandbox.enter(root, Rights.NONE, SIZE)
            try:
                import this  # noqa: F401, PLC0415
            except ImportError:
                importable = False
            else:
                importable = True
            with status:
                privileges = next(line for line in status if line.startswith("NoNewPrivs"))
            return os.umask(0), importable, privileges.split()[1]

        sys.modules.pop("this", None)
        self.assertEqual(in_child(inside), (0, False, "1"))

    def test_all_capabilities_go(self) -> None:
        """
        Root that cannot make trees as root, in a container, keeps none of its
        rights.
        """

        def inside() -> list[str]:
            status = open("/proc/self/status")  # noqa: SIM115
            sandbox.enter(os.open(self.staged, os.O_RDONLY), Rights.NONE, SIZE)
            with status:
                return [line.split()[1] for line in status if line.startswith(("CapEff", "CapPrm"))]

        self.assertEqual(in_child(inside), ["0" * 16] * 2)

    def test_root(self) -> None:
        """
        Root is in the tree for good, has kept what making files needs, and
        still ends with its parent.
        """
        if not IS_ROOT:
            self.skipTest("only root can")

        parent = os.getpid()

        def inside() -> tuple[list[str], list[str], int]:
            sandbox.end_with_parent(parent)
            root = os.open(self.staged, os.O_RDONLY)
            outside = os.open(self.folder, os.O_RDONLY)
            sandbox.enter(root, Rights.ROOT, SIZE)
            os.mkdir("/in")
            os.chown("/in", 5, 6)
            os.mknod("/in/null", 0o20666, os.makedev(1, 3))
            os.setxattr("/in", "trusted.x", b"y")
            refused = []
            os.fchdir(outside)
            for name, attempt in {
                "chroot": lambda: os.chroot("."),
                "setuid": lambda: os.setuid(NOBODY),
                "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1),
                "nice": lambda: os.nice(-1),
            }.items():
                try:
                    attempt()
                except PermissionError:
                    refused.append(name)
            signalled = ctypes.c_int()
            sandbox._libc.prctl(2, ctypes.byref(signalled))  # PR_GET_PDEATHSIG
            return os.listdir("/"), refused, signalled.value

        self.assertEqual(in_child(inside), (["in"], ["chroot", "setuid", "raw", "nice"], signal.SIGKILL))

    def test_limits(self) -> None:
        """
        A layer that would fill the machine's memory gets a MemoryError; one
        file has at most the bytes that a tar may have, and no core is written.
        """

        def inside() -> tuple[list[int], list[str | None]]:
            root = os.open(self.staged, os.O_RDONLY)
            score = open("/proc/self/oom_score_adj")  # noqa: SIM115
            sandbox.enter(root, own_rights(), SIZE)
            found = [resource.getrlimit(limit) for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)]
            with open("file", "wb", buffering=0) as f:
                f.seek(SIZE - 1)
                f.write(b"x")
                refused: list[str | None] = []
                try:
                    f.write(b"x")
                except OSError as e:
                    refused.append(e.strerror)
            try:
                bytearray(sandbox.MEMORY)
            except MemoryError:
                refused.append("memory")
            return [*found[0], *found[1], int(score.read())], refused

        expected = [SIZE, SIZE, 0, 0, sandbox.OOM_SCORE]
        self.assertEqual(in_child(inside), (expected, ["File too large", "memory"]))

    def test_lower_limits(self) -> None:
        """
        A limit that is lower already stays.
        """

        def inside() -> int:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
            sandbox.enter(os.open(self.staged, os.O_RDONLY), Rights.NONE, SIZE)
            return resource.getrlimit(resource.RLIMIT_FSIZE)[1]

        self.assertEqual(in_child(inside, NOBODY if IS_ROOT else None), 10)

    def test_devices(self) -> None:
        """
        Code that takes over root's process can create the device of the
        machine's disk, as images have devices, but cannot open it.
        """
        if not IS_ROOT:
            self.skipTest("only root can")

        def inside() -> list[str]:
            root = os.open(self.staged, os.O_RDONLY)
            confined = sandbox.enter(root, Rights.ROOT, SIZE)
            os.mknod("disk", 0o60666, os.makedev(8, 0), dir_fd=root)
            os.mknod("/null", 0o20666, os.makedev(1, 3))
            confined.seal()
            refused = []
            for name in ("disk", "null"):
                try:
                    os.open(name, os.O_RDONLY)
                except PermissionError:
                    refused.append(name)
            return refused

        self.assertEqual(in_child(inside), ["disk", "null"])

    def test_way_out(self) -> None:
        """
        No C{..} leads out of the tree, not even from the descriptor of the tree.
        """
        if not IS_ROOT:
            self.skipTest("only root can")

        def inside() -> list[bool]:
            root = os.open(self.staged, os.O_RDONLY)
            confined = sandbox.enter(root, Rights.ROOT, SIZE)
            confined.seal()
            found = []
            for path, start in (("..", root), ("../../..", root), ("/", None), ("..", None)):
                found.append(os.path.samestat(os.stat(path, dir_fd=start), os.fstat(root)))
            return found

        self.assertEqual(in_child(inside), [True] * 4)

    def test_without_namespaces(self) -> None:
        """
        Without namespaces, as under C{RestrictNamespaces=yes} or in a
        container, root changes its root directory, Landlock and the filter are
        in force, and the missing measures are reported.
        """
        if not IS_ROOT or seccomp._machine is None:
            self.skipTest("only root can")

        def inside() -> tuple[dict[str, str], list[str], list[str]]:
            said: list[str] = []
            missing = refuse_namespaces()

            def confine(root: int, rights: Rights, size: int) -> sandbox.Sandbox:
                confined = sandbox.enter(root, rights, size)
                missing.update(confined.missing)
                return confined

            lines = io.BytesIO(self.sealed())
            layer_process.run(self.task(), lines, lambda line: said.append(line.decode().split()[0]), confine)
            return missing, said, sorted(os.listdir("/"))

        missing, said, root = in_child(inside)
        for measure in ("mounts", "network", "ipc"):
            self.assertEqual(missing.pop(measure), "unshare: Operation not permitted")
        if not landlocked():
            missing.pop("landlock")
        # A busy machine reports progress in between.
        results = [verb for verb in said if verb != "progress"]
        self.assertEqual((missing, results, root), ({}, ["implied", "result"], ["d", "e"]))

    def test_capabilities(self) -> None:
        """
        A process keeps what its rights need, and nothing without any.
        """
        if not IS_ROOT:
            self.skipTest("only root has capabilities")

        def stripped() -> bool:
            sandbox._keep_capabilities(0)
            return own_rights() is Rights.NONE

        self.assertTrue(in_child(stripped))
        for rights in (Rights.NAMESPACE, Rights.ROOT):
            self.assertEqual(in_child(partial(self.kept, rights)), sandbox._KEPT[rights])

    def kept(self, rights: Rights) -> int:
        """
        The capabilities of this process in the sandbox.
        """
        with open("/proc/self/status") as status:
            sandbox.enter(os.open(self.staged, os.O_RDONLY), rights, SIZE)
            # The sandbox has no /proc; this was opened before, and is read again.
            status.seek(0)
            return next(int(line[7:], 16) for line in status if line.startswith("CapEff:"))

    def test_end_with_parent(self) -> None:
        """
        A process whose parent has already ended ends at once.
        """
        self.assertEqual(died(lambda: sandbox.end_with_parent(1 << 22)), signal.SIGKILL)

    def test_no_such_call(self) -> None:
        """
        An error of the C library is raised.
        """
        self.assertRaises(OSError, sandbox._call, "prctl", -1, 0, 0, 0, 0)


class EscapeTests(LayerCase):
    """
    The whole, with a hostile layer.
    """

    def test_chroot(self) -> None:
        """
        As root, also an unresolved path does not lead out.
        """
        if not IS_ROOT:
            self.skipTest("only root can")

        def inside() -> list[str]:
            said: list[str] = []

            def confine(root: int, rights: Rights, size: int) -> sandbox.Sandbox:
                confined = sandbox.enter(root, rights, size)
                os.mkdir("/proof")
                return confined

            self.write(gzipped(symlink(b"up", os.fsencode(self.folder)) + file(b"up/f") + END))
            lines = io.BytesIO(self.sealed())
            layer_process.run(self.task(), lines, lambda line: said.append(line.decode().split()[0]), confine)
            return said

        self.assertEqual(in_child(inside), ["implied", "result"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["blob", "entries", "staged"])
        self.assertCountEqual(os.listdir(self.staged), ["proof", self.folder.split("/")[1], "up"])

    def test_unprivileged(self) -> None:
        """
        Another user, without a root directory of its own, writes the same tree,
        and nothing beside it.
        """
        if IS_ROOT:
            for path in (self.folder, self.staged):
                os.chown(path, NOBODY, NOBODY)

        def inside() -> list[str]:
            said: list[str] = []
            lines = io.BytesIO(self.sealed())
            layer_process.run(
                self.task(), lines, lambda line: said.append(line.decode().split()[0]), sandbox.enter
            )
            return said

        self.write(gzipped(TAR + END) + gzipped(b""))
        self.assertEqual(in_child(inside, NOBODY if IS_ROOT else None), ["implied", "result"])
        kept = os.getxattr(os.path.join(self.staged, "d/f"), "user.containers.override_stat")
        self.assertEqual(kept, b"0:0:0644:file")
        self.write(gzipped(symlink(b"up", os.fsencode(self.folder)) + file(b"up/../f") + file(b"up/g") + END))
        self.assertEqual(in_child(inside, NOBODY if IS_ROOT else None), ["implied", "result"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["blob", "entries", "staged"])
        self.assertCountEqual(os.listdir(self.staged), ["d", "e", "f", self.folder.split("/")[1], "up"])
