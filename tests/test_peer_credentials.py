"""
Tests for L{xferd.peer_credentials}.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.other_user import OTHER, child
from xferd import peer_credentials
from xferd.peer_credentials import peer_uid, tcp_uid, uid_in_tables

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def entry(
    local: str, remote: str, *, state: str = "01", uid: int = 7, inode: int = 17, number: int = 0
) -> str:
    """
    A line of a table of the kernel's.
    """
    return (
        f"{number:4}: {local} {remote} {state} 00000000:00000000 00:00000000 00000000"
        f" {uid:5}        0 {inode} 1 0000000000000000 20 4 30 10 -1\n"
    )


@contextmanager
def accepted(address: str, listens: str, uid: int, how: str = "stay") -> Iterator[socket.socket]:
    """
    A connection that another user's process makes.

    @param address: where the process connects.
    @param listens: where this one listens.
    @param how: C{leave} if the process sends a request and closes the
        connection before it is accepted.
    """
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with socket.create_server((listens, 0), family=family, dualstack_ipv6=listens == "::") as server:
        server.settimeout(20)
        port = server.getsockname()[1]

        def connect(until: int) -> None:
            """
            Connect, and stay connected for as long as the test wants it.
            """
            with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
                connection.connect((address, port))
                connection.send(b"POST / HTTP/1.1\r\n")
                if how == "stay":
                    os.read(until, 1)

        with child(uid, connect) as process:
            if how == "leave":
                os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
            connection, _ = server.accept()
            with connection:
                yield connection


class TablesTests(SynchronousTestCase):
    """
    L{uid_in_tables}.
    """

    local = ("127.0.0.1", 4660)
    remote = ("127.0.0.1", 9337)
    ends = ("0100007F:1234", "0100007F:2479")

    def setUp(self) -> None:
        """
        The addresses are those of machines that are little-endian.
        """
        if sys.byteorder != "little":
            raise SkipTest("the tables are of another byte order")

    def test_found(self) -> None:
        """
        The connection whose two ends these are has an owner, others do not count.
        """
        table = (
            HEAD
            + entry("0100007F:1234", "0100007F:2478", uid=1)
            + entry("0100007F:1235", "0100007F:2479", uid=2)
            + entry("0100007F:2479", "0100007F:1234", uid=3)
            + entry("0200007F:1234", "0100007F:2479", uid=4)
            + entry(*self.ends, uid=1234)
        )
        self.assertEqual(uid_in_tables([HEAD, table], self.local, self.remote), 1234)
        self.assertEqual(uid_in_tables([table], self.remote, self.local), 3)

    def test_mapped(self) -> None:
        """
        An IPv6 socket that is connected to an IPv4 address is found by that one.
        """
        mapped = "0000000000000000FFFF00000100007F"
        table = HEAD + entry(f"{mapped}:1234", f"{mapped}:2479", uid=9)
        self.assertEqual(uid_in_tables([table], self.local, self.remote), 9)
        self.assertEqual(uid_in_tables([table], ("::ffff:127.0.0.1", 4660), ("::ffff:127.0.0.1", 9337)), 9)

    def test_ipv6(self) -> None:
        """
        IPv6 addresses are read, with and without a scope.
        """
        one = "00000000000000000000000001000000"
        table = HEAD + entry(f"{one}:1234", f"{one}:2479", uid=9)
        self.assertEqual(uid_in_tables([table], ("::1", 4660), ("::1%lo", 9337)), 9)
        self.assertIsNone(uid_in_tables([table], self.local, self.remote))

    def test_not_open(self) -> None:
        """
        An end without an inode, which the kernel shows as root's, has no
        owner, and neither has a connection that is being closed or made.
        """
        for line in (
            entry(*self.ends, uid=0, inode=0),
            entry(*self.ends, uid=0, state="05"),
            entry(*self.ends, uid=0, state="02"),
            entry(*self.ends, uid=0, state="06"),
            entry("0100007F:1234", "00000000:0000", uid=0, state="0A"),
        ):
            self.assertIsNone(uid_in_tables([HEAD + line], self.local, self.remote), line)

    def test_nothing(self) -> None:
        """
        Without tables, or with lines that are cut off, there is no owner.
        """
        cut = HEAD + entry(*self.ends)[:40] + "\n"
        for tables in ([], [""], [HEAD], [cut]):
            self.assertIsNone(uid_in_tables(tables, self.local, self.remote))


class SocketTests(SynchronousTestCase):
    """
    L{peer_uid} with the kernel that the tests run on.
    """

    def without_sock_diag(self) -> None:
        """
        Have C{sock_diag} refused, so that the tables are read.
        """

        def refuse(*_: object) -> None:
            raise OSError

        self.patch(peer_credentials, "_ask", refuse)

    def both(self, expect: int | None, address: str, listens: str, uid: int, how: str = "stay") -> None:
        """
        Look a user's connection up in both ways.
        """
        with accepted(address, listens, uid, how) as connection:
            self.assertEqual(peer_uid(connection), expect)
            self.without_sock_diag()
            self.assertEqual(peer_uid(connection), expect)

    def test_other_user(self) -> None:
        """
        A connection of another user's is that user's.
        """
        self.both(OTHER, "127.0.0.1", "127.0.0.1", OTHER)

    def test_own(self) -> None:
        """
        A connection of this user's is this user's.
        """
        self.both(os.geteuid(), "127.0.0.1", "127.0.0.1", os.geteuid())

    def test_ipv6(self) -> None:
        """
        The same over IPv6.
        """
        self.both(OTHER, "::1", "::1", OTHER)

    def test_mapped_client(self) -> None:
        """
        A client that connects to an IPv4 address with an IPv6 socket is known.
        """
        self.both(OTHER, "::ffff:127.0.0.1", "127.0.0.1", OTHER)

    def test_mapped_server(self) -> None:
        """
        The same for a client with an IPv4 socket and a server that listens on
        IPv6.
        """
        self.both(OTHER, "127.0.0.1", "::", OTHER)

    def test_connects_sends_and_leaves(self) -> None:
        """
        A user who connects, sends a request and closes at once is not taken for
        root, whom the kernel reports as the owner of the closed end.
        """
        self.both(None, "127.0.0.1", "127.0.0.1", OTHER, "leave")

    def test_ports_reused(self) -> None:
        """
        The data of a user's closed connection is not taken for root's when
        root's own connection reuses the two ports.
        """
        with socket.create_server(("127.0.0.1", 0)) as server:
            first, second = socket.socket(), socket.socket()
            # Both have the port from the start: no other program gets it in between.
            for each in (first, second):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            first.bind(("127.0.0.1", 0))
            ports = first.getsockname()
            second.bind(ports)
            first.connect(server.getsockname())
            old, _ = server.accept()
            with old:
                # With no time to linger, the connection is reset.
                first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                first.close()
                with second:
                    second.connect(server.getsockname())
                    self.assertEqual(tcp_uid(ports, server.getsockname()), os.geteuid())
                    self.assertIsNone(peer_uid(old))

    def test_not_accepted(self) -> None:
        """
        A server that has not accepted the connection is not taken for root's.
        """
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as connection,
        ):
            self.assertIsNone(peer_uid(connection))
            other_end, _ = server.accept()
            with other_end:
                self.assertEqual(peer_uid(connection), os.geteuid())

    def test_closed(self) -> None:
        """
        The user of a socket that is closed, or not connected, is unknown.
        """
        with socket.socket() as unconnected:
            self.assertIsNone(peer_uid(unconnected))
        self.assertIsNone(peer_uid(unconnected))

    def test_not_loopback(self) -> None:
        """
        Addresses beyond loopback are not looked up.
        """
        self.assertIsNone(tcp_uid(("192.0.2.1", 1), ("127.0.0.1", 9337)))
        self.assertIsNone(tcp_uid(("::1", 1), ("2001:db8::1", 9337)))

    def test_unix(self) -> None:
        """
        Both ends of a unix socket know the other's user.
        """
        with TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as server:
            server.bind(f"{directory}/s")
            server.listen()
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"{directory}/s")
                other_end, _ = server.accept()
                with other_end:
                    self.assertEqual(peer_uid(connection), os.geteuid())
                    self.assertEqual(peer_uid(other_end), os.geteuid())

    def test_unix_other_user(self) -> None:
        """
        A unix socket where another user listens is that user's.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can be another user")
        server = socket.socket(socket.AF_UNIX)
        with server, TemporaryDirectory() as directory:
            server.bind(f"{directory}/s")
            os.seteuid(OTHER)
            try:
                server.listen()
            finally:
                os.seteuid(0)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"{directory}/s")
                self.assertEqual(peer_uid(connection), OTHER)

    def test_quick(self) -> None:
        """
        A lookup does not hold the daemon up.
        """
        with accepted("127.0.0.1", "127.0.0.1", os.geteuid()) as connection:
            began = time.perf_counter()
            for _ in range(100):
                peer_uid(connection)
            self.assertLess(time.perf_counter() - began, 1.0)
