"""
Tests for L{xferd.ctl.listener}.
"""

from __future__ import annotations

import os
import socket
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl import listener
from xferd.ctl.client import Address
from xferd.ctl.listener import owners, why_not_trusted

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"

OTHER = 65534


class OwnersTests(SynchronousTestCase):
    """
    L{owners}.
    """

    def line(self, port: int, state: str, uid: int, address: str = "0100007F") -> str:
        """
        A line of the table.
        """
        return (
            f"   0: {address}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000"
            f" {uid:5}        0 17 1 0000000000000000 100 0 0 10 0\n"
        )

    def test_owners(self) -> None:
        """
        Each process that listens at the port counts, on any address, and no connection does.
        """
        four = HEAD + self.line(9337, "0A", 7) + self.line(9337, "01", 8) + self.line(80, "0A", 9)
        six = HEAD + self.line(9337, "0A", 6, "0" * 32)
        self.assertEqual(owners(9337, [four, six]), {6, 7})
        self.assertEqual(owners(1, [four, six]), set())
        self.assertEqual(owners(9337, [HEAD]), set())


class TrustTests(SynchronousTestCase):
    """
    L{why_not_trusted}.
    """

    def test_carriers(self) -> None:
        """
        Secrets go over a unix socket, over loopback or by TLS, and never over a network in clear.
        """
        for named in (False, True):
            for url in (
                "unix:/s",
                "http://127.0.0.1:1",
                "http://localhost:1",
                "http://[::1]:1",
                "https://a.example",
            ):
                self.assertIsNone(why_not_trusted(Address.parse(url), named=named), url)
            for url in (
                "http://a.example",
                "http://10.0.0.1:1",
                "http://[2001:db8::1]:1",
                "http://localhost.a.b",
            ):
                reason = why_not_trusted(Address.parse(url), named=named)
                self.assertEqual(reason, f"the connection to {url} is not encrypted: use https")

    def test_own(self) -> None:
        """
        A port of loopback where this user listens is trusted.
        """
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = Address("http", "127.0.0.1", listening.getsockname()[1])
            self.assertIsNone(why_not_trusted(address, named=False))

    def test_other_user(self) -> None:
        """
        One where another user listens is trusted only if the user named it.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can be another user")
        # A socket belongs to the user who made it.
        os.seteuid(OTHER)
        try:
            listening = socket.create_server(("127.0.0.1", 0))
        finally:
            os.seteuid(0)
        with listening:
            address = Address("http", "127.0.0.1", listening.getsockname()[1])
            self.assertIsNone(why_not_trusted(address, named=True))
            reason = why_not_trusted(address, named=False)
        self.assertEqual(
            reason,
            f"the process that listens at {address} belongs to another user ({OTHER}): "
            "name it with --host if it is your daemon",
        )

    def test_no_tables(self) -> None:
        """
        Where the kernel shows no tables, loopback is trusted.
        """
        self.patch(listener, "_tables", list)
        self.assertIsNone(why_not_trusted(Address("http", "127.0.0.1", 1), named=False))
