# -*- test-case-name: tests.test_paths -*-
"""
Tests for L{xferd.paths}.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from xferd import paths
from xferd.paths import default_data_dir, default_socket

NOBODY_KNOWS = 3_999_999_999
"""A user's number that no user database has."""


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
