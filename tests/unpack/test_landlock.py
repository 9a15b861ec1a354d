"""
Tests for L{xferd.unpack.landlock}, in processes that do not come back.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import IS_ROOT, NOBODY, in_child
from xferd.unpack import landlock, sandbox


def available() -> bool:
    """
    Whether this kernel has a suitable Landlock.
    """
    try:
        return landlock.version() >= landlock.LEAST
    except OSError:
        return False


class RestrictTests(SynchronousTestCase):
    """
    Tests for L{landlock.restrict}.
    """

    def setUp(self) -> None:
        """
        Make a directory, and a file beside it, which every user can read.
        """
        if not available():
            self.skipTest("this kernel has no Landlock, or too old a one")
        self.place = Path(tempfile.mkdtemp(prefix="xferd-landlock-"))
        self.addCleanup(shutil.rmtree, self.place)
        self.tree = self.place / "tree"
        self.tree.mkdir()
        (self.place / "secret").write_text("secret")
        for path, mode in ((self.place, 0o777), (self.tree, 0o777), (self.place / "secret", 0o666)):
            path.chmod(mode)

    def restricted(self, work: Callable[[], object]) -> object:
        """
        Act in the directory, as an unprivileged user.
        """

        def inside() -> object:
            root = os.open(self.tree, os.O_RDONLY)
            os.fchdir(root)
            sandbox._call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            landlock.restrict(root)
            return work()

        return in_child(inside, NOBODY if IS_ROOT else None)

    def test_outside(self) -> None:
        """
        A process of the daemon's user behind Landlock reads, writes, creates,
        removes and lists nothing beside the tree, and runs no program.
        """
        place = str(self.place)

        def attempts() -> list[str]:
            refused = []
            for name, attempt in {
                "read": lambda: os.open(f"{place}/secret", os.O_RDONLY),
                "write": lambda: os.open("../secret", os.O_WRONLY),
                "truncate": lambda: os.open("../secret", os.O_WRONLY | os.O_TRUNC),
                "make": lambda: os.open(f"{place}/new", os.O_WRONLY | os.O_CREAT),
                "mkdir": lambda: os.mkdir("../new"),
                "list": lambda: os.listdir(place),
                "remove": lambda: os.unlink("../secret"),
                "link": lambda: os.link(f"{place}/secret", "secret"),
                "rename": lambda: os.rename("../secret", "secret"),
                "exec": lambda: os.execv("/bin/true", ["true"]),
                "memory": lambda: os.open("/proc/self/mem", os.O_WRONLY),
            }.items():
                try:
                    attempt()
                except OSError:
                    refused.append(name)
            return refused

        self.assertEqual(
            self.restricted(attempts),
            [
                "read",
                "write",
                "truncate",
                "make",
                "mkdir",
                "list",
                "remove",
                "link",
                "rename",
                "exec",
                "memory",
            ],
        )
        self.assertEqual(sorted(os.listdir(self.place)), ["secret", "tree"])
        self.assertEqual((self.place / "secret").read_text(), "secret")

    def test_inside(self) -> None:
        """
        Below the directory every operation that makes a tree is permitted,
        including hard links from one directory to another.
        """

        def work() -> list[str]:
            os.makedirs("a/b")
            Path("a/f").write_text("text")
            os.truncate("a/f", 2)
            os.link("a/f", "a/b/f")
            os.symlink("/", "l")
            os.mkfifo("p")
            os.mknod("w", 0o20000, 0)  # a whiteout
            os.rename("a/b", "b")
            os.unlink("a/f")
            os.rmdir("a")
            return [*sorted(os.listdir(".")), Path("b/f").read_text()]

        self.assertEqual(self.restricted(work), ["b", "l", "p", "w", "te"])

    def test_old(self) -> None:
        """
        A version that forbids links between directories is not used, and one
        that is newer than this module is used as the newest that it knows.
        """
        self.patch(landlock, "version", lambda: 1)
        self.assertIn("version is 1", str(self.assertRaises(OSError, self.restricted, lambda: None)))
        self.patch(landlock, "version", lambda: 99)
        self.assertRaises(PermissionError, self.restricted, lambda: os.listdir("/"))

    def test_known(self) -> None:
        """
        Each version's structure is accepted by this kernel, if it has that
        version.
        """
        for known in range(landlock.LEAST, landlock.version() + 1):
            self.patch(landlock, "version", lambda known=known: known)
            self.assertRaises(PermissionError, self.restricted, lambda: os.listdir("/"))
