"""
Tests for L{xferd.unpack.layer_process}, L{xferd.unpack.worker} and
L{xferd.unpack.sandbox}.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import io
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from hashlib import sha256
from typing import Any

from attrs import asdict, evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.forks import bounded, mapped
from tests.unpack.tars import (
    END,
    IS_ROOT,
    LIMITS,
    NOBODY,
    died,
    file,
    folder,
    gzipped,
    in_child,
    listing,
    symlink,
)
from tests.unpack.test_landlock import available as landlocked
from xferd.errors import StoreError
from xferd.unpack import inflate, layer_process, protocol, sandbox, seccomp
from xferd.unpack.layer_process import Abandoned, GrowingBlob
from xferd.unpack.worker import Worker

SIZE = 1 << 20

TAR = folder(b"d/", mtime=5) + file(b"d/f", b"hello") + file(b"e/g", b"world!") + END


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


class LayerCase(SynchronousTestCase):
    """
    A scratch directory with a blob and a staging directory.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="xferd-layer-"))
        self.addCleanup(shutil.rmtree, self.folder)
        os.chmod(self.folder, 0o755)
        # Processes are forked from this one, which has mapped more than a worker.
        self.patch(sandbox, "MEMORY", sandbox.MEMORY + mapped())
        self.staged = os.path.join(self.folder, "staged")
        os.mkdir(self.staged)
        self.blob = os.path.join(self.folder, "blob")
        self.write(gzipped(TAR))

    def write(self, data: bytes) -> None:
        """
        Write the blob.
        """
        with open(self.blob, "wb") as f:
            f.write(data)

    def grown(self, size: int, sealed: bool, path: str | None = None) -> bytes:
        """
        A line as a layer's process gets it.
        """
        return protocol.encode("grown", path=path or self.blob, size=size, sealed=sealed)

    def sealed(self) -> bytes:
        """
        All of the blob.
        """
        return self.grown(os.path.getsize(self.blob), True)

    def task(self, **changes: Any) -> dict[str, Any]:
        """
        The body of C{begin}.
        """
        limits = asdict(evolve(LIMITS, **changes))
        return {"staged": self.staged, "compression": "gzip", "algorithm": "sha256", "limits": limits}


class GrowingTests(LayerCase):
    """
    Tests for L{GrowingBlob}.
    """

    def growing(self, *lines: bytes) -> GrowingBlob:
        """
        Make a blob with these messages.
        """
        self.said: list[tuple[str, dict[str, Any]]] = []
        return GrowingBlob(
            io.BytesIO(b"".join(lines)), lambda line: self.said.append(protocol.decode(line.rstrip()))
        )

    def test_reads_as_far_as_told(self) -> None:
        """
        It never reads further than permitted, reports when it is hungry, and
        ends when the blob is sealed and all is read.
        """
        self.write(b"0123456789")
        source = self.growing(self.grown(4, False), self.grown(6, False), self.grown(6, True))
        source.open()
        room = memoryview(bytearray(10))
        self.assertEqual(source.readinto(room[:3]), 3)
        self.assertEqual(source.readinto(room[3:]), 1)
        self.assertEqual(self.said, [])
        self.assertEqual(source.readinto(room[4:]), 2)
        self.assertEqual(self.said, [("hungry", {"consumed": 4})])
        self.assertEqual(source.readinto(room[6:]), 0)
        self.assertEqual(source.readinto(room[6:]), 0)
        self.assertEqual(bytes(room[:7]), b"012345\0")
        self.assertEqual(len(self.said), 2)

    def test_renamed(self) -> None:
        """
        A partial file that was renamed before it was opened is found by the
        path that the seal brings; one that was opened stays open.
        """
        source = self.growing(self.grown(4, False, self.blob + ".partial"), self.sealed())
        source.open()
        self.assertEqual(self.said, [("hungry", {"consumed": 0})])
        os.unlink(self.blob)
        self.assertEqual(source.readinto(memoryview(bytearray(4))), 4)

    def test_gone(self) -> None:
        """
        A sealed blob that is missing, or shorter than announced, is an error
        of the store.
        """
        self.assertRaises(StoreError, self.growing(self.grown(4, True, "/nowhere")).open)
        source = self.growing(self.grown(40_000, True))
        source.open()
        while source.readinto(memoryview(bytearray(40_000))) == 40_000:
            self.fail("more than there is")
        self.assertRaises(StoreError, source.readinto, memoryview(bytearray(4)))

    def test_abandoned(self) -> None:
        """
        The work ends with the end of the messages.
        """
        self.assertRaises(Abandoned, self.growing().open)
        source = self.growing(self.grown(0, False), b"grown {half a li")
        source.open()
        self.assertRaises(Abandoned, source.readinto, memoryview(bytearray(4)))


class _Open:
    """
    No sandbox.
    """

    def seal(self) -> None:
        """
        See L{layer_process.Confined.seal}.
        """


class RunTests(LayerCase):
    """
    Tests for L{layer_process.run}, within this process and so without a sandbox.
    """

    def run_layer(self, *lines: bytes, **changes: Any) -> list[tuple[str, dict[str, Any]]]:
        """
        Run a layer's process and return its messages.
        """
        said: list[tuple[str, dict[str, Any]]] = []

        def confine(root: int, privileged: bool, size: int) -> _Open:
            self.addCleanup(os.umask, os.umask(0))
            self.assertEqual((privileged, size), (IS_ROOT, self.task(**changes)["limits"]["size"]))
            return _Open()

        layer_process.run(
            self.task(**changes),
            io.BytesIO(b"".join(lines)),
            lambda line: said.append(protocol.decode(line.rstrip())),
            confine,
        )
        return said

    def test_result(self) -> None:
        """
        The tree is written, and the facts are reported.
        """
        said = self.run_layer(self.sealed())
        facts = {
            "diff_id": f"sha256:{sha256(TAR).hexdigest()}",
            "tar_size": len(TAR),
            "size": 11,
            "entries": 3,
        }
        self.assertEqual(said, [("implied", {"paths": [".", "e"]}), ("result", facts)])
        self.assertEqual(sorted(listing(self.staged)), ["d", "d/f", "e", "e/g"])

    def test_bytes_behind_the_end(self) -> None:
        """
        Bytes after the tar's end are part of its digest, and the result waits
        for the seal.
        """
        whole = TAR + os.urandom(3000)
        self.write(gzipped(whole))
        size = os.path.getsize(self.blob)
        said = self.run_layer(self.grown(100, False), self.grown(size, False), self.sealed())
        self.assertEqual([verb for verb, _ in said], ["hungry", "hungry", "implied", "result"])
        self.assertEqual(said[-1][1]["diff_id"], f"sha256:{sha256(whole).hexdigest()}")

    def test_many_implied(self) -> None:
        """
        Implied directories come in as many lines as they need, bytes intact.
        """
        self.patch(layer_process, "_IMPLIED", 50)
        names = [b"\xff%d" % n * 5 for n in range(20)]
        self.write(b"".join(file(name + b"/f") for name in names) + END)
        said = self.run_layer(self.sealed())
        batches = [body["paths"] for verb, body in said if verb == "implied"]
        self.assertGreater(len(batches), 5)
        found = {path.encode("latin-1") for batch in batches for path in batch}
        self.assertEqual(found, {b".", *names})

    def test_progress_at_the_end(self) -> None:
        """
        Progress is reported for the directories too, which get their
        attributes when all entries have been read.
        """
        self.patch(layer_process, "_PROGRESS", 0.0)
        self.write(b"".join(folder(b"d%d/" % n) for n in range(50)) + END)
        said = self.run_layer(self.sealed())
        ends = [verb for verb, body in said if verb == "progress" and body["entries"] == 50]
        self.assertGreaterEqual(len(ends), 50)

    def test_progress(self) -> None:
        """
        Progress is reported while the blob is read.
        """
        self.patch(layer_process, "_PROGRESS", 0.0)
        self.patch(inflate, "BUFFER_SIZE", 512)
        said = self.run_layer(self.sealed())
        self.assertEqual(said[0], ("progress", {"consumed": os.path.getsize(self.blob), "entries": 0}))
        self.assertGreater([body["entries"] for verb, body in said if verb == "progress"][-1], 1)

    def test_errors(self) -> None:
        """
        Errors of the layer, of the disk and of xferd are reported by their
        codes.
        """

        def code(*lines: bytes, **changes: Any) -> str:
            [(verb, body)] = self.run_layer(*lines, **changes)
            self.assertEqual(verb, "error")
            self.assertTrue(body["message"])
            found: str = body["code"]
            return found

        self.assertEqual(code(self.sealed(), entries=1), "LAYER_INVALID")
        self.assertEqual(code(self.sealed(), size=1024), "LAYER_INVALID")
        self.write(b"no tar" * 1000)
        self.assertEqual(code(self.sealed()), "LAYER_INVALID")
        self.assertEqual(code(self.grown(1, True, "/nowhere")), "STORE_FAILED")
        self.assertEqual(code(self.grown(1, True, self.folder)), "STORE_FAILED")
        shutil.rmtree(self.staged)
        self.assertEqual(code(self.sealed()), "STORE_FAILED")
        os.symlink(self.folder, self.staged)
        self.assertEqual(code(self.sealed()), "STORE_FAILED")
        os.unlink(self.staged)
        os.mkdir(self.staged)

    def test_bug(self) -> None:
        """
        A bug is reported as one, with its place on standard error.
        """
        out, into = os.pipe()
        self.addCleanup(os.close, out)
        real = os.write
        self.patch(os, "write", lambda fd, data: real(into if fd == 2 else fd, data))
        self.patch(layer_process, "TreeWriter", lambda *_: 1 // 0)
        [(verb, body)] = self.run_layer(self.sealed())
        os.close(into)
        self.assertEqual((verb, body["code"]), ("error", "WORKER_LOST"))
        self.assertIn("ZeroDivisionError", body["message"])
        self.assertIn(b"layer_process.py:", os.read(out, 10_000))

    def test_abandoned(self) -> None:
        """
        After the end of the messages, nothing is reported.
        """
        self.assertEqual(self.run_layer(self.grown(50, False)), [("hungry", {"consumed": 50})])

    def test_memory(self) -> None:
        """
        A layer for which the memory of its process does not do is invalid.
        """
        said: list[bytes] = []

        def confine(root: int, privileged: bool, size: int) -> _Open:
            raise MemoryError

        layer_process.run(self.task(), io.BytesIO(self.sealed()), said.append, confine)
        self.assertEqual(
            [protocol.decode(line) for line in said],
            [
                (
                    "error",
                    {
                        "code": "LAYER_INVALID",
                        "message": "the layer takes more than 1610612736 bytes of memory to unpack",
                    },
                )
            ],
        )

    def test_inherited_modes(self) -> None:
        """
        Group and setgid bit of the staging directory do not spread.
        """
        if not IS_ROOT:
            self.skipTest("only root gives directories away")
        os.chown(self.staged, 7, 8)
        os.chmod(self.staged, 0o2700)
        self.run_layer(self.sealed())
        for name in ("", "d", "e/g"):
            info = os.stat(os.path.join(self.staged, name))
            self.assertEqual((info.st_uid, info.st_gid, info.st_mode & 0o7000), (0, 0, 0))


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
            sandbox.enter(root, False, SIZE)
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
        Root that cannot make trees as root, in a container, keeps nothing of
        the rights that it has.
        """

        def inside() -> list[str]:
            status = open("/proc/self/status")  # noqa: SIM115
            sandbox.enter(os.open(self.staged, os.O_RDONLY), False, SIZE)
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
            sandbox.enter(root, True, SIZE)
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
            sandbox.enter(root, IS_ROOT, SIZE)
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
            sandbox.enter(os.open(self.staged, os.O_RDONLY), False, SIZE)
            return resource.getrlimit(resource.RLIMIT_FSIZE)[1]

        self.assertEqual(in_child(inside, NOBODY if IS_ROOT else None), 10)

    def test_devices(self) -> None:
        """
        Whoever takes over root's process can make the machine's disk as a device,
        as images have devices, and cannot open it.
        """
        if not IS_ROOT:
            self.skipTest("only root can")

        def inside() -> list[str]:
            root = os.open(self.staged, os.O_RDONLY)
            confined = sandbox.enter(root, True, SIZE)
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
            confined = sandbox.enter(root, True, SIZE)
            confined.seal()
            found = []
            for path, start in (("..", root), ("../../..", root), ("/", None), ("..", None)):
                found.append(os.path.samestat(os.stat(path, dir_fd=start), os.fstat(root)))
            return found

        self.assertEqual(in_child(inside), [True] * 4)

    def test_without_namespaces(self) -> None:
        """
        Where no namespaces can be had, as under C{RestrictNamespaces=yes} or in
        a container, root changes its root directory, Landlock and the filter
        are in force, and what is missing is reported.
        """
        if not IS_ROOT or seccomp._machine is None:
            self.skipTest("only root can")

        def inside() -> tuple[dict[str, str], list[str], list[str]]:
            said: list[str] = []
            missing = refuse_namespaces()

            def confine(root: int, privileged: bool, size: int) -> sandbox.Sandbox:
                confined = sandbox.enter(root, privileged, size)
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

    def test_privileged(self) -> None:
        """
        The user nobody is not privileged, nor is root without its
        capabilities.
        """
        if not IS_ROOT:
            self.assertFalse(sandbox.is_privileged())
            return
        self.assertTrue(sandbox.is_privileged())
        self.assertFalse(in_child(sandbox.is_privileged, NOBODY))

        def stripped() -> bool:
            sandbox._keep_capabilities(0)
            return sandbox.is_privileged()

        self.assertFalse(in_child(stripped))

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


class WorkerTests(LayerCase):
    """
    Tests for L{Worker}, with real processes.
    """

    def setUp(self) -> None:
        """
        Make a worker, and hold its other ends.
        """
        super().setUp()
        # As the worker does: in a fork, nothing of ours may be collected, and a descriptor closed with it.
        gc.collect()
        gc.freeze()
        self.addCleanup(gc.unfreeze)
        commands, self.commands = os.pipe()
        self.reports, reports = os.pipe()
        self.worker = Worker(commands, reports)
        self.lines = protocol.Lines()
        self.heard: list[tuple[int, str, dict[str, Any]]] = []
        for descriptor in (commands, self.reports, reports):
            self.addCleanup(os.close, descriptor)
        self.addCleanup(self.hang_up)
        bound = bounded(lambda: [child.pid for child in list(self.worker._by_number.values())])
        bound.__enter__()
        self.addCleanup(bound.__exit__, None, None, None)

    def hang_up(self) -> None:
        """
        End the worker and all that it has begun.
        """
        if self.commands >= 0:
            os.close(self.commands)
            self.commands = -1
        while self.worker.step():
            pass

    def say(self, number: int, line: bytes) -> None:
        """
        Send a command.
        """
        os.write(self.commands, protocol.address(number, line))

    def begin(self, number: int) -> None:
        """
        Begin a layer.
        """
        self.say(number, protocol.encode("begin", **self.task()))

    def until(self, number: int, verb: str) -> dict[str, Any]:
        """
        Work until a layer has said something.
        """
        while True:
            for found, said, body in self.heard:
                if (found, said) == (number, verb):
                    self.heard.remove((found, said, body))
                    return body
            self.assertNotIn((number, "ended"), [(found, said) for found, said, _ in self.heard], self.heard)
            self.assertTrue(self.worker.step())
            self.listen()

    def listen(self) -> None:
        """
        Take what was reported.
        """
        os.set_blocking(self.reports, False)
        try:
            for line in self.lines.feed(os.read(self.reports, 1 << 16)):
                number, rest = protocol.split(line)
                self.heard.append((number, *protocol.decode(rest)))
        except BlockingIOError:
            pass

    def test_layer(self) -> None:
        """
        A layer is unpacked in a process of its own, which is seen off.
        """
        self.begin(7)
        self.say(7, self.sealed())
        self.assertEqual(self.until(7, "result")["entries"], 3)
        self.assertEqual(self.until(7, "ended"), {"status": 0})
        self.assertEqual(sorted(listing(self.staged)), ["d", "d/f", "e", "e/g"])

    def test_sealed(self) -> None:
        """
        A layer's process is sealed before it reads a byte of its blob.
        """
        if seccomp._machine is None:
            self.skipTest("no filter for this machine")
        self.begin(1)
        self.say(1, self.grown(1, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as status:
                self.assertIn("Seccomp:\t2\n", status.readlines())

    def test_two(self) -> None:
        """
        A process that waits does not delay another, and each has its own
        pipes.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        self.say(2, protocol.encode("begin", **{**self.task(), "staged": other}))
        self.say(2, self.sealed())
        self.until(2, "ended")
        self.say(1, self.sealed())
        self.assertEqual(self.until(1, "result")["entries"], 3)
        self.until(1, "ended")

    def test_cancel(self) -> None:
        """
        The process of a cancelled layer has ended when its end is reported;
        commands to it that arrive later are ignored.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        self.say(1, protocol.encode("cancel"))
        self.assertEqual(self.until(1, "ended"), {"status": -signal.SIGKILL})
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        self.say(1, self.sealed())
        self.say(1, protocol.encode("cancel"))
        self.assertTrue(self.worker.step())

    def test_death(self) -> None:
        """
        A process that dies takes nothing with it, and the next one works; a
        word that it does not read any more is dropped.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        os.kill(pid, signal.SIGSEGV)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.say(1, self.sealed())
        self.assertEqual(self.until(1, "ended"), {"status": -signal.SIGSEGV})
        shutil.rmtree(self.staged)
        os.mkdir(self.staged)
        self.begin(2)
        self.say(2, self.sealed())
        self.until(2, "result")

    def test_endless_line(self) -> None:
        """
        A process that sends too long a line is killed.
        """
        self.patch(protocol, "MAX_LINE", 10)
        self.begin(1)
        self.assertTrue(self.worker.step())
        self.worker._by_number[1].lines = _Cut()
        self.say(1, self.grown(50, False))
        self.assertEqual(self.until(1, "ended"), {"status": -signal.SIGKILL})

    def test_hang_up(self) -> None:
        """
        When the reactor ends, all layers' processes end.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        self.hang_up()
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_hang_up_both(self) -> None:
        """
        The same if it has stopped reading, too.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        self.patch(self.worker, "_reports", writer)
        pid = self.worker._by_number[1].pid
        self.hang_up()
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)


class _Cut(protocol.Lines):
    """
    Lines that have lost their ends.
    """

    def feed(self, data: bytes) -> list[bytes]:
        """
        See L{protocol.Lines.feed}.
        """
        return super().feed(data.replace(b"\n", b""))


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

            def confine(root: int, privileged: bool, size: int) -> sandbox.Sandbox:
                confined = sandbox.enter(root, privileged, size)
                os.mkdir("/proof")
                return confined

            self.write(gzipped(symlink(b"up", os.fsencode(self.folder)) + file(b"up/f") + END))
            lines = io.BytesIO(self.sealed())
            layer_process.run(self.task(), lines, lambda line: said.append(line.decode().split()[0]), confine)
            return said

        self.assertEqual(in_child(inside), ["implied", "result"])
        self.assertEqual(sorted(os.listdir(self.folder)), ["blob", "staged"])
        self.assertEqual(sorted(os.listdir(self.staged)), ["proof", self.folder.split("/")[1], "up"])

    def test_unprivileged(self) -> None:
        """
        Another user, without a root directory of its own, writes the same
        tree, and nothing beside it.
        """
        if IS_ROOT:
            os.chown(self.staged, NOBODY, NOBODY)

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
        self.assertEqual(sorted(os.listdir(self.folder)), ["blob", "staged"])
        self.assertEqual(sorted(os.listdir(self.staged)), ["d", "e", "f", self.folder.split("/")[1], "up"])
