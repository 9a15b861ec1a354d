# -*- test-case-name: tests.test_paths -*-
"""
Tests for L{xferd.paths}.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd import paths
from xferd.paths import default_data_dir, default_socket, user_of_paths

NOBODY_KNOWS = 3_999_999_999
"""A user's number that no user database has."""


class UserTests(SynchronousTestCase):
    """
    Tests for L{user_of_paths}.
    """

    def user(self, uid: int, user_map: str, *, owns_files: bool) -> int:
        """
        The user whose paths a process has.

        @param uid: the number in its namespace.
        @param owns_files: whether root of the namespace owns the root directory.
        """
        path, theirs = Path(self.mktemp()), Path(self.mktemp())
        path.write_text(user_map)
        theirs.mkdir()
        if os.geteuid() == 0:
            os.chown(theirs, 65534, -1)
        return user_of_paths(uid, "/" if owns_files else str(theirs), str(path))

    def test_outside(self) -> None:
        """
        Outside of a user namespace, each user has their own paths.
        """
        identity = "         0          0 4294967295\n"
        self.assertEqual(self.user(0, identity, owns_files=True), 0)
        self.assertEqual(self.user(1000, identity, owns_files=True), 1000)

    def test_namespace(self) -> None:
        """
        Root of a user's namespace on the machine's files has the paths of the user.
        """
        user_map = "         0       1000          1\n         1     100000      65536\n"
        self.assertEqual(self.user(0, user_map, owns_files=False), 1000)
        self.assertEqual(self.user(5, user_map, owns_files=False), 5)

    def test_container(self) -> None:
        """
        Root of a container with files of its own is root.
        """
        self.assertEqual(self.user(0, "         0     100000      65536\n", owns_files=True), 0)

    def test_unknown(self) -> None:
        """
        Without a map that can be read, the number decides.
        """
        self.assertEqual(self.user(0, "", owns_files=False), 0)
        self.assertEqual(self.user(0, "1 2 3\n", owns_files=False), 0)
        self.assertEqual(user_of_paths(0, os.devnull, "/nowhere"), 0)


class DataDirectoryTests(SynchronousTestCase):
    """
    Tests for L{default_data_dir}.
    """

    def test_root(self) -> None:
        """
        Root's data directory does not depend on the environment.
        """
        self.assertEqual(default_data_dir({"XDG_DATA_HOME": "/data", "HOME": "/root"}, 0), "/var/lib/xferd")

    def test_named(self) -> None:
        """
        C{$XDG_DATA_HOME} is used.
        """
        self.assertEqual(default_data_dir({"XDG_DATA_HOME": "/data", "HOME": "/home/a"}, 1000), "/data/xferd")

    def test_home(self) -> None:
        """
        Without C{$XDG_DATA_HOME}, or with an empty or a relative one, it is
        C{~/.local/share}.
        """
        for value in ({}, {"XDG_DATA_HOME": ""}, {"XDG_DATA_HOME": "data"}):
            self.assertEqual(
                default_data_dir({"HOME": "/home/a", **value}, 1000), "/home/a/.local/share/xferd"
            )

    def test_no_home(self) -> None:
        """
        Without C{$HOME}, the home of the user database is used.
        """
        user = next(u for u in pwd.getpwall() if u.pw_uid != 0 and u.pw_dir.startswith("/"))
        expected = os.path.join(pwd.getpwuid(user.pw_uid).pw_dir, ".local/share/xferd")
        self.assertEqual(default_data_dir({}, user.pw_uid), expected)

    def test_unknown_user(self) -> None:
        """
        An unknown user has an absolute path, too.
        """
        self.assertEqual(default_data_dir({}, NOBODY_KNOWS), "/.local/share/xferd")


class SocketTests(SynchronousTestCase):
    """
    Tests for L{default_socket}.
    """

    def test_root(self) -> None:
        """
        Root's socket does not depend on the environment.
        """
        self.assertEqual(default_socket({"XDG_RUNTIME_DIR": "/run/user/0"}, 0), "/run/xferd/xferd.sock")

    def test_runtime_directory(self) -> None:
        """
        A user's socket is in a subdirectory of C{$XDG_RUNTIME_DIR}.
        """
        self.assertEqual(
            default_socket({"XDG_RUNTIME_DIR": "/run/user/1000"}, 1000), "/run/user/1000/xferd/xferd.sock"
        )

    def test_no_runtime_directory(self) -> None:
        """
        Without a runtime directory, the socket is in the data directory.
        """
        environ = {"XDG_DATA_HOME": "/data", "XDG_RUNTIME_DIR": "relative"}
        self.assertEqual(default_socket(environ, 1000), "/data/xferd/xferd.sock")


class ImportTests(SynchronousTestCase):
    """
    The cost of importing the module.
    """

    def test_light(self) -> None:
        """
        The module imports neither Twisted nor attrs, so that the client starts quickly.
        """
        program = "import sys, xferd.paths; print(sorted({'attr', 'twisted'} & set(sys.modules)))"
        root = os.path.dirname(os.path.dirname(paths.__file__))
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
        )
        self.assertEqual(done.stdout, "[]\n")
