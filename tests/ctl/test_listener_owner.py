"""
Tests for L{xferd.ctl.listener_owner}.
"""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import Answer, FakeDaemon
from tests.ctl.run import run
from tests.other_user import OTHER, child
from xferd.ctl import address as address_module
from xferd.ctl import listener_owner
from xferd.ctl.address import Address, candidate_addresses
from xferd.ctl.client import Daemon
from xferd.ctl.errors import NoDaemon
from xferd.ctl.listener_owner import UntrustedListener, check_owner
from xferd.peer_credentials import peer_uid


@contextmanager
def listening(uid: int, *, unix: str = "") -> Iterator[tuple[Address, int]]:
    """
    A process of a user that accepts one connection.

    @param unix: the path of a unix socket where it listens instead of a port.
    @return: the context, which has the address, as one that was found, and a pipe
        with what the process has received.
    """
    server = socket.socket(socket.AF_UNIX) if unix else socket.create_server(("127.0.0.1", 0))
    with server:
        if unix:
            server.bind(unix)
            os.chmod(unix, 0o666)
            address = Address("unix", unix, named=False)
        else:
            address = Address("http", "127.0.0.1", server.getsockname()[1], named=False)
        reads, writes = os.pipe()

        def accept(_: int) -> None:
            """
            Record the received bytes.
            """
            server.listen()
            os.write(writes, b"\n")
            server.settimeout(20)
            connection, _ = server.accept()
            connection.settimeout(20)
            while data := connection.recv(4096):
                os.write(writes, data)
                if b"\r\n\r\n" in data:
                    connection.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        with child(uid, accept):
            os.close(writes)
            try:
                # From then on it is the child that listens.
                os.read(reads, 1)
                yield address, reads
            finally:
                # So that a child that has had no connection ends.
                with address._replace(named=True).connect(5):
                    pass
        os.close(reads)


class OwnerTests(SynchronousTestCase):
    """
    L{check_owner}, through L{Address.connect}.
    """

    def test_own(self) -> None:
        """
        A listener of this user is trusted, at a port or a socket.
        """
        with TemporaryDirectory() as directory:
            for unix in ("", f"{directory}/s"):
                with listening(os.geteuid(), unix=unix) as (address, _):
                    address.connect(20).close()

    def test_other_user(self) -> None:
        """
        A listener of another user is refused at a default address, and accepted at one that
        the user named.
        """
        with TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            for unix in ("", f"{directory}/s"):
                with listening(OTHER, unix=unix) as (address, received):
                    error = self.assertRaises(UntrustedListener, address.connect, 20)
                    self.assertEqual(
                        str(error),
                        f"the process there belongs to another user, {OTHER}; "
                        "name the address with --host to use it",
                    )
                    self.assertEqual(os.read(received, 100), b"")
        with listening(OTHER) as (address, _):
            address._replace(named=True).connect(20).close()

    def test_accepted_late(self) -> None:
        """
        A busy daemon's accept is awaited.
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            looked: list[int | None] = []

            def look(connection: socket.socket) -> int | None:
                """
                Accept the connection after the first lookup.
                """
                looked.append(peer_uid(connection))
                if len(looked) == 1:
                    self.addCleanup(server.accept()[0].close)
                return looked[-1]

            with socket.create_connection(server.getsockname()) as connection:
                check_owner(connection, look)
        self.assertEqual(looked, [None, os.geteuid()])

    def test_never_accepted(self) -> None:
        """
        The wait for an accept is limited.
        """
        self.patch(listener_owner, "ACCEPTING", 0.02)
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = Address("http", "127.0.0.1", server.getsockname()[1], named=False)
            error = self.assertRaises(UntrustedListener, address.connect, 20)
        self.assertEqual(
            str(error), "the owner of the process there is unknown; name the address with --host to use it"
        )

    def test_hangs_up(self) -> None:
        """
        A closed connection ends the wait at once.
        """
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as connection,
        ):
            server.accept()[0].close()
            error = self.assertRaises(UntrustedListener, check_owner, connection)
        self.assertEqual(str(error), "the process there closed the connection")


class GuessTests(SynchronousTestCase):
    """
    C{xferctl} without an address, where root runs no daemon.
    """

    def setUp(self) -> None:
        """
        Leave the default port as the only address.
        """
        self.patch(address_module, "default_socket", lambda *_: "/nonexistent/own.sock")
        self.patch(address_module, "ROOT_SOCKET", "/nonexistent/root.sock")
        self.home = os.path.abspath(self.mktemp())
        os.mkdir(self.home)

    def test_another_users_daemon(self) -> None:
        """
        Another user who listens at the daemon's port receives nothing: no password, no
        credentials, no request.
        """
        for argv in (
            ["login", "-u", "ann", "--password-stdin", "r.example"],
            ["pull", "r.example/a"],
            ["unpack", "r.example/a", os.path.join(self.home, "tree")],
            ["limits"],
        ):
            with listening(OTHER) as (address, received):
                self.patch(address_module, "DEFAULT", address)
                self.patch(sys, "stdin", io.StringIO("hunter2\n"))
                outcome = run(argv, {"HOME": self.home, "PATH": os.environ["PATH"]})
                self.assertEqual(os.read(received, 100), b"", argv)
            self.assertEqual(outcome.status, 1, outcome.err)
            self.assertIn(f"{address} (the process there belongs to another user, {OTHER}; ", outcome.err)

    def test_own_daemon(self) -> None:
        """
        The user's own daemon at that port is found.
        """
        fake = FakeDaemon()
        fake.start()
        self.addCleanup(fake.stop)
        fake.on("GET", "/jobs", Answer([]))
        self.patch(address_module, "DEFAULT", Address.parse(fake.url))
        self.assertEqual(Daemon(candidate_addresses(None, {}, 0), client="me").jobs(), [])

    def test_nothing(self) -> None:
        """
        If nothing listens, that is reported.
        """
        self.patch(address_module, "DEFAULT", Address("http", "127.0.0.1", 1))
        daemon = Daemon(candidate_addresses(None, {}, 0), client="me")
        self.assertIn("(connection refused)", str(self.assertRaises(NoDaemon, daemon.jobs)))
