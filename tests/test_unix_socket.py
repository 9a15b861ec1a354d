"""
Tests for L{xferd.unix_socket}.
"""

from __future__ import annotations

import grp
import os
import shutil
import socket
from pathlib import Path
from tempfile import mkdtemp

from twisted.trial.unittest import SynchronousTestCase

from xferd import unix_socket
from xferd.unix_socket import SocketInUse, UnixSocket, make_directory, open_to_group


class UnixSocketTests(SynchronousTestCase):
    """
    L{UnixSocket}.
    """

    def setUp(self) -> None:
        """
        Make a path that is short enough for a socket.
        """
        place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, place)
        self.path = os.path.join(place, "s")
        self.socket = UnixSocket(self.path)
        self.addCleanup(self.socket.release)

    def bind(self, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """
        Bind a socket to the path.
        """
        bound = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(bound.close)
        bound.bind(self.path)
        return bound

    def refused(self) -> str:
        """
        The reason why the path cannot be claimed.
        """
        return str(self.assertRaises(SocketInUse, self.socket.claim))

    def test_free(self) -> None:
        """
        A free path can be claimed, and again after its release.
        """
        for _ in range(2):
            self.socket.claim()
            self.assertFalse(os.path.lexists(self.path))
            self.socket.release()
        self.socket.release()

    def test_stale(self) -> None:
        """
        A socket on which no process listens is removed, whatever Twisted's lock says.
        """
        self.bind().close()
        os.symlink("1", f"{self.path}.lock")
        self.socket.claim()
        self.assertFalse(os.path.lexists(self.path))

    def test_claimed(self) -> None:
        """
        A path claimed by another process stays unchanged; the error names the process.
        """
        other = UnixSocket(self.path)
        other.claim()
        self.addCleanup(other.release)
        self.bind().listen()
        self.assertEqual(self.refused(), f"another xferd (process {os.getpid()}) listens there")
        self.assertTrue(os.path.exists(self.path))

    def test_other_program(self) -> None:
        """
        A socket with a listener stays unchanged, also if its program is busy or if it is
        of another type.
        """
        listener = self.bind()
        listener.listen(0)
        for _ in range(3):
            self.assertEqual(self.refused(), "another program listens there")
            caller = socket.socket(socket.AF_UNIX)
            self.addCleanup(caller.close)
            caller.setblocking(False)
            caller.connect_ex(self.path)
        os.unlink(self.path)
        self.bind(socket.SOCK_DGRAM)
        self.assertEqual(self.refused(), "a socket of another kind has that name")
        self.assertTrue(os.path.exists(self.path))

    def test_no_socket(self) -> None:
        """
        A file that is not a socket is not removed.
        """
        Path(self.path).write_text("mine")
        self.assertEqual(self.refused(), "something that is no socket has that name")
        self.assertEqual(Path(self.path).read_text(), "mine")

    def test_refusal_releases(self) -> None:
        """
        After a refusal, the path can be claimed once the reason has gone.
        """
        Path(self.path).write_text("mine")
        self.refused()
        os.unlink(self.path)
        self.socket.claim()

    def test_no_directory(self) -> None:
        """
        For a path in a missing directory, the error is the system's.
        """
        self.assertRaises(OSError, UnixSocket(os.path.join(self.path, "s")).claim)


class GroupTests(SynchronousTestCase):
    """
    Access to a socket.
    """

    def setUp(self) -> None:
        """
        Make a socket that only this user can use.
        """
        place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, place)
        self.path = os.path.join(place, "new", "s")
        make_directory(self.path)
        bound = socket.socket(socket.AF_UNIX)
        self.addCleanup(bound.close)
        bound.bind(self.path)
        os.chmod(self.path, 0o600)
        # A group of every machine stands for xferd's.
        self.group = grp.getgrnam("daemon")

    def access(self) -> tuple[int, int]:
        """
        Mode and group of the socket.
        """
        status = os.stat(self.path)
        return status.st_mode & 0o777, status.st_gid

    def test_directory(self) -> None:
        """
        Others can traverse the socket's directory, also with a strict umask. An existing
        directory stays unchanged.
        """
        directory = os.path.dirname(self.path)
        self.assertEqual(os.stat(directory).st_mode & 0o777, 0o711)
        os.chmod(directory, 0o700)
        make_directory(self.path)
        self.assertEqual(os.stat(directory).st_mode & 0o777, 0o700)
        self.addCleanup(os.umask, os.umask(0o077))
        make_directory(os.path.join(directory, "more", "s"))
        self.assertEqual(os.stat(os.path.join(directory, "more")).st_mode & 0o777, 0o711)

    def test_no_group(self) -> None:
        """
        Without the group, the socket stays the owner's.
        """
        self.patch(unix_socket, "GROUP", "no-such-group")
        open_to_group(self.path)
        self.assertEqual(self.access()[0], 0o600)

    def test_group(self) -> None:
        """
        The group may use the socket of root's daemon.
        """
        if os.geteuid() != 0:
            self.skipTest("only root can give a file to any group")
        self.patch(unix_socket, "GROUP", self.group.gr_name)
        open_to_group(self.path)
        self.assertEqual(self.access(), (0o660, self.group.gr_gid))

    def test_member(self) -> None:
        """
        A user's daemon opens its socket to the group only if that is the user's primary
        group.
        """
        self.patch(unix_socket, "GROUP", self.group.gr_name)
        self.patch(os, "geteuid", lambda: 1000)
        open_to_group(self.path)
        self.assertEqual(self.access()[0], 0o600)
        if os.getuid() == 0:
            self.patch(os, "getegid", lambda: self.group.gr_gid)
            open_to_group(self.path)
            self.assertEqual(self.access(), (0o660, self.group.gr_gid))
