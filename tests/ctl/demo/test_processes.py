# -*- test-case-name: tests.ctl.demo.test_processes -*-
"""
Tests for L{xferd.ctl.demo.processes}.
"""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from tests.forks import bounded, fork
from xferd.ctl.demo import processes
from xferd.ctl.demo.processes import Child, remove_tree, scratch

ECHO = """
import sys
print("begun", flush=True)
for line in sys.stdin:
    print("heard " + line, end="", flush=True)
"""

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
alive = open("alive", "w")
os.fork()
time.sleep(60)
"""


class ChildTests(SynchronousTestCase):
    """
    Tests for L{Child}.
    """

    def child(self, program: str, *, talks: bool = True) -> Child:
        """
        Run a program.
        """
        directory = self.mktemp()
        os.mkdir(directory)
        os.mkfifo(f"{directory}/alive")
        child = Child(["-c", program], os.path.abspath(directory), "it", os.environ, talks=talks)
        self.addCleanup(child.stop)
        return child

    def test_talk(self) -> None:
        """
        Lines are sent and received until it is stopped.
        """
        child = self.child(ECHO)
        self.assertEqual(child.receive(), b"begun\n")
        child.send(b"one")
        self.assertEqual(child.receive(), b"heard one\n")
        self.assertFalse(child.ended)
        child.stop()
        self.assertTrue(child.ended)
        child.stop()

    def test_same_modules(self) -> None:
        """
        It imports the parent's modules.
        """
        child = self.child("import xferd.ctl; print(xferd.ctl.__file__)")
        self.assertEqual(
            os.path.realpath(child.receive().strip()),
            os.path.realpath(os.fsencode(processes.__file__).replace(b"demo/processes", b"__init__")),
        )

    def test_last_words(self) -> None:
        """
        The last line of its stdout or stderr is in its log.
        """
        child = self.child("import sys; print('out', flush=True); sys.exit('the \\xe9nd\\n\\n')", talks=False)
        child.process.wait(30)
        self.assertEqual(child.last_line(), "the énd")

    def test_no_words(self) -> None:
        """
        An empty log is reported.
        """
        child = self.child("")
        self.assertEqual(child.receive(), b"")
        child.process.wait(30)
        self.assertEqual(child.last_line(), "its log is empty")

    def test_unheard(self) -> None:
        """
        A process that ended without reading its input is stopped without an error.
        """
        child = self.child("")
        child.process.wait(30)
        child.process.stdin.write(b"x")  # type: ignore[union-attr]
        child.stop()
        self.assertTrue(child.ended)

    def test_stubborn(self) -> None:
        """
        A process that ignores SIGTERM is killed, with its children.
        """
        self.patch(processes, "_PATIENCE", 0.05)
        child = self.child(STUBBORN)
        # It and its own child hold this open until the last of them is dead.
        with open(f"/proc/{child.process.pid}/cwd/alive") as alive:
            child.stop()
            self.assertEqual(child.process.returncode, -signal.SIGKILL)
            self.assertEqual(alive.read(), "")


class ScratchTests(SynchronousTestCase):
    """
    Tests for L{scratch} and L{remove_tree}.
    """

    def test_gone(self) -> None:
        """
        The directory exists during the block, for this user alone, also if the block fails.
        """
        with self.assertRaises(ValueError), scratch() as path:
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o700)
            raise ValueError
        self.assertFalse(os.path.exists(path))

    def test_odd(self) -> None:
        """
        Directories without permissions are removed; the targets of links are kept.
        """
        outside, path = self.mktemp(), self.mktemp()
        os.mkdir(outside, 0o755)
        os.makedirs(f"{path}/closed/deep")
        os.symlink(os.path.abspath(outside), f"{path}/link")
        os.symlink("nowhere", f"{path}/closed/dangling")
        os.mkfifo(f"{path}/closed/deep/fifo", 0)
        for name in ("closed/deep", "closed"):
            os.chmod(f"{path}/{name}", 0)
        remove_tree(path)
        self.assertFalse(os.path.lexists(path))
        self.assertEqual(os.stat(outside).st_mode & 0o777, 0o755)

    def test_odd_as_user(self) -> None:
        """
        A user who is not root can do the same.
        """
        path = self.mktemp()
        child = fork() if os.getuid() == 0 else 0
        if child == 0:  # pragma: no cover - coverage ends with the fork
            status = 1
            try:
                if os.getuid() == 0:
                    os.chmod(".", 0o755)
                    os.mkdir(path)
                    os.chown(path, 65534, 65534)
                    here = os.open(path, os.O_RDONLY)
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                    os.fchdir(here)
                    os.makedirs("tree/closed/deep")
                    os.chmod("tree/closed", 0)
                    remove_tree("tree")
                    status = int(os.path.lexists("tree"))
            finally:
                os._exit(status)
        with bounded(lambda: [child]):
            self.assertEqual(os.waitpid(child, 0)[1], 0)
