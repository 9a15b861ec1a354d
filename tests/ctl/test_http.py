# -*- test-case-name: tests.ctl.test_http -*-
"""
Tests for L{xferd.ctl.http}.
"""

from __future__ import annotations

import socket
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.http import BadResponse, Response, send

HEADERS = {"Host": "localhost", "Accept": "application/json"}


class SendTests(SynchronousTestCase):
    """
    Tests for L{send}, and for bodies of all forms.
    """

    def exchange(self, *pieces: bytes, method: str = "GET", body: bytes | None = None) -> Response:
        """
        Send a request, and receive an answer in pieces.  The request is kept.
        """
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        ours.settimeout(10)

        def answer() -> None:
            with theirs:
                self.sent = theirs.recv(65536)
                for piece in pieces:
                    theirs.sendall(piece)

        thread = Thread(target=answer)
        thread.start()
        try:
            return send(ours, method, "/api/v1/jobs?a=b", HEADERS, body)
        finally:
            thread.join()

    def test_request(self) -> None:
        """
        A request has its headers, and the length of its body if it can have one.
        """
        end = b"HTTP/1.1 204 No Content\r\n\r\n"
        head = b"GET /api/v1/jobs?a=b HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
        self.exchange(end)
        self.assertEqual(self.sent, head + b"\r\n")
        self.exchange(end, method="POST")
        self.assertEqual(self.sent, head.replace(b"GET", b"POST") + b"Content-Length: 0\r\n\r\n")
        self.exchange(end, method="PATCH", body=b"\x00ab")
        self.assertTrue(self.sent.endswith(b"\r\nContent-Length: 3\r\n\r\n\x00ab"))

    def test_no_injection(self) -> None:
        """
        Spaces in the target and line breaks in headers are refused before anything is sent.
        """
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            self.addCleanup(each.close)
        for target, value in (("/a b", "x"), ("/a\r\nb", "x"), ("/a", "x\r\ny: z")):
            self.assertRaises(ValueError, send, ours, "GET", target, {"X": value}, None)
        theirs.setblocking(False)
        self.assertRaises(BlockingIOError, theirs.recv, 1)

    def test_length(self) -> None:
        """
        A body has the announced length; what follows is not read.
        """
        found = self.exchange(b"HTTP/1.1 200 OK\r\nContent-LENGTH:  5 \r\nX-Y: z\r\n\r\nhel", b"lo, and more")
        self.assertEqual((found.status, found.headers["x-y"]), (200, "z"))
        self.assertEqual((found.read(3), found.read(9), found.read(9)), (b"hel", b"lo", b""))

    def test_chunks(self) -> None:
        """
        Chunks are joined, lines may be in several, and extensions and trailers are skipped.
        """
        found = self.exchange(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nab\n\r\n",
            b"2\r\ncd\r\nA\r\nefg\nhijklm\r\n",
            b"0\r\nTrailer: x\r\n\r\nmore",
        )
        self.assertEqual([found.readline(99) for _ in range(4)], [b"ab\n", b"cdefg\n", b"hijklm", b""])

    def test_line_at_once(self) -> None:
        """
        A line is returned when it has come, while the stream goes on.
        """
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n")
            ours.settimeout(10)
            found = send(ours, "GET", "/", HEADERS, None)
            self.assertEqual(found.readline(99), b"one\n")
            theirs.sendall(b"2\r\ntw")
            theirs.sendall(b"\r\n2\r\no\n\r\n")
            self.assertEqual(found.readline(99), b"two\n")
            ours.settimeout(0.01)
            self.assertRaises(TimeoutError, found.readline, 99)

    def test_until_the_end(self) -> None:
        """
        Without a length, a body lasts as long as the connection; without content it is empty.
        """
        self.assertEqual(self.exchange(b"HTTP/1.0 200 OK\r\n\r\na\nb").read(99), b"a\nb")
        self.assertEqual(self.exchange(b"HTTP/1.1 204 \r\n\r\n").read(99), b"")

    def test_informational(self) -> None:
        """
        Informational answers come before the answer.
        """
        found = self.exchange(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        self.assertEqual((found.status, found.read(9)), (200, b"x"))

    def test_early_end(self) -> None:
        """
        A body that ends early is reported.
        """
        for head in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
            for rest in (b"", b"5\r\n", b"5\r\nab"):
                found = self.exchange(
                    b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + rest[: 4 if b"L" in head else 9]
                )
                self.assertIn("ended early", str(self.assertRaises(BadResponse, found.read, 99)))

    def test_not_http(self) -> None:
        """
        Other protocols, and heads without an end, are refused.
        """
        for data in (
            b"",
            b"SSH-2.0-x\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 2xx OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300,
            b"x" * 70_000,
        ):
            self.assertRaises(BadResponse, self.exchange, data)
        for chunk in (b"x\r\n", b"-1\r\n", b"1\r\nab\r\n"):
            found = self.exchange(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
            self.assertRaises(BadResponse, found.read, 99)
