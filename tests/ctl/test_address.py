# -*- test-case-name: tests.ctl.test_address -*-
"""
Tests for L{xferd.ctl.address}.
"""

from __future__ import annotations

import os
import socket
from threading import Thread

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.address import Address, candidate_addresses
from xferd.ctl.errors import BadAddress


class AddressTests(SynchronousTestCase):
    """
    Tests for L{Address} and L{candidate_addresses}.
    """

    def test_written(self) -> None:
        """
        Each kind of address survives a round trip.
        """
        for text in (
            "http://127.0.0.1:9337",
            "http://[::1]:9337",
            "https://build.example/xferd",
            "unix:/run/x.sock",
        ):
            self.assertEqual(str(Address.parse(text)), text)

    def test_wrong(self) -> None:
        """
        An invalid address is refused, with the valid forms.
        """
        wrong = (
            "",
            "unix:",
            "localhost:9337",
            "ftp://x",
            "http://",
            "http://x:y",
            "http://[",
            "http://u@x",
            "http://x[::1]",
            "http://x\n",
        )
        for text in wrong:
            error = self.assertRaises(BadAddress, Address.parse, text)
            self.assertIn("use http://HOST:PORT or unix:PATH", str(error))

    @settings(max_examples=50)
    @given(st.text(max_size=40))
    def test_any(self, text: str) -> None:
        """
        Any text is an address or L{BadAddress}.
        """
        for start in ("", "http://", "unix:"):
            try:
                Address.parse(start + text)
            except BadAddress as e:
                self.assertTrue(str(e).isprintable())

    def test_said(self) -> None:
        """
        The address that the user named is the only candidate.
        """
        self.assertEqual(candidate_addresses("unix:/x", {}, 0), [Address("unix", "/x")])

    def test_default(self) -> None:
        """
        The default candidates are this user's socket, if it exists, and then the port.
        """
        runtime = self.mktemp()
        os.makedirs(f"{runtime}/xferd")
        environ = {"XDG_RUNTIME_DIR": os.path.abspath(runtime), "HOME": "/nonexistent"}
        path = os.path.abspath(f"{runtime}/xferd/xferd.sock")
        own = Address("unix", path, named=False)
        self.assertNotIn(own, candidate_addresses(None, environ, 1000))
        with open(path, "w"):
            pass
        found = candidate_addresses("", environ, 1000)
        self.assertEqual(found[0], own)
        self.assertEqual(found[-1], Address("http", "127.0.0.1", 9337, named=False))

    def test_tls(self) -> None:
        """
        An https address uses TLS.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener:
            said: list[bytes] = []

            def answer() -> None:
                peer, _ = listener.accept()
                with peer:
                    said.append(peer.recv(1))

            thread = Thread(target=answer)
            thread.start()
            address = Address("https", *listener.getsockname())
            self.assertRaises(OSError, address.connect, 5)
            thread.join()
        # A TLS handshake (RFC 8446, 5.1).
        self.assertEqual(said, [b"\x16"])


class UnixTests(SynchronousTestCase):
    """
    Connections to unix sockets.
    """

    def test_crowded(self) -> None:
        """
        A connection waits while the listen queue is full.
        """
        directory = os.path.abspath(self.mktemp())
        os.mkdir(directory)
        here = os.open(directory, os.O_RDONLY)
        self.addCleanup(os.close, here)
        path = f"/proc/self/fd/{here}/s"
        door = socket.socket(socket.AF_UNIX)
        self.addCleanup(door.close)
        door.bind(path)
        door.listen(0)
        connected = []

        def connect() -> None:
            connected.append(Address("unix", path).connect(30.0))
            self.addCleanup(connected[-1].close)

        connect()
        late = Thread(target=connect)
        late.start()
        for _ in range(2):
            door.accept()[0].close()
        late.join()
        self.assertEqual(len(connected), 2)
