"""
Tests for the routes that receive and send archives,
L{xferd.web.archive_request} and L{xferd.web.archive_response}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.web.connection import Answer, Connection
from tests.web.fakes import FakeArchive, FakeUploadStream
from tests.web.world import World
from xferd.errors import NotFound, StoreError
from xferd.interfaces.jobs import IArchive, IUploadStream
from xferd.web.archive_request import MAX_PIECE
from xferd.web.archive_response import PIECE, STALL
from xferd.web.site import MAX_BODY


class FakesTests(SynchronousTestCase):
    """
    The fakes provide the Interfaces.
    """

    def test_provided(self) -> None:
        """
        Each provides its Interface.
        """
        self.assertTrue(verifyObject(IUploadStream, FakeUploadStream()))
        self.assertTrue(verifyObject(IArchive, FakeArchive(b"")))


class ImportTests(SynchronousTestCase):
    """
    Archives that are received.
    """

    def setUp(self) -> None:
        """
        Start an import.
        """
        self.world = World()
        answer = self.world.post({"kind": "import", "reference": "a:1", "size": 10})
        self.assertEqual((answer.status, answer.json()["kind"]), (202, "import"))
        self.upload_stream = self.world.jobs.upload_streams["j1"]

    def send(
        self,
        body: bytes,
        range_: str | None,
        headers: Mapping[str, str] | None = None,
        *,
        world: World | None = None,
        announced: int | None = None,
    ) -> Connection:
        """
        Send a piece.
        """
        connection = (world or self.world).connect()
        fields = {"Host": "localhost", "Content-Type": "application/octet-stream", **(headers or {})}
        fields["Content-Length"] = str(len(body) if announced is None else announced)
        if range_ is not None:
            fields["Content-Range"] = range_
        connection.send("PATCH", "/api/v1/jobs/j1/content", fields, body)
        return connection

    def end(self, value: object) -> Answer:
        """
        Finish the archive.
        """
        return self.world.ask("PUT", "/api/v1/jobs/j1/content", json.dumps(value).encode())

    def test_begun(self) -> None:
        """
        All arguments of an import are passed to the jobs, and all are optional.
        """
        self.assertEqual(self.world.jobs.imported, [("a:1", None, 10, "127.0.0.1", 0)])
        self.world.post({"kind": "import", "platform": "linux/arm64", "priority": 2})
        self.assertEqual(self.world.jobs.imported[1], (None, "linux/arm64", None, "127.0.0.1", 2))
        for size in (-1, "1", True, 1.5, 1 << 63):
            self.assertEqual(self.world.post({"kind": "import", "size": size}).status, 400)

    def test_piece(self) -> None:
        """
        A piece is answered when it was read.
        """
        connection = self.send(b"abc", "0-2")
        self.assertEqual(connection.received(), b"")
        self.upload_stream.waiting[0].callback(3)
        answer = connection.answer()
        self.assertEqual((answer.status, answer.json()), (202, {"offset": 3}))
        self.assertEqual(self.upload_stream.pieces, [b"abc"])

    def test_largest(self) -> None:
        """
        A piece may be far larger than other bodies, up to its own limit.
        """
        connection = self.send(b"x" * MAX_PIECE, f"0-{MAX_PIECE - 1}")
        self.upload_stream.waiting[0].callback(MAX_PIECE)
        self.assertEqual(connection.answer().status, 202)
        self.assertEqual(self.send(b"", "0-1", announced=MAX_PIECE + 1).answer().status, 413)

    def test_strangers(self) -> None:
        """
        Without a required token, the limit on other bodies applies.
        """
        world = World(trusted=False, token="secret", hosts=["localhost"])
        body = b"x" * (MAX_BODY + 1)
        self.assertEqual(self.send(body, "0-1", world=world).answer().status, 413)
        answer = self.send(body, f"0-{MAX_BODY}", {"Authorization": "Bearer secret"}, world=world).answer()
        self.assertEqual(answer.status, 404)

    def test_wrong_offset(self) -> None:
        """
        A repeated piece is refused with the offset at which to continue.
        """
        self.send(b"abc", "0-2")
        answer = self.send(b"abc", "0-2").answer()
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (416, "OFFSET_INVALID"))
        self.assertEqual(answer.json()["error"]["detail"]["offset"], 3)

    def test_refused(self) -> None:
        """
        A piece without a range, with a wrong one, of another type, or for an
        unknown job, is refused.
        """
        for range_ in (None, "bytes", "0-1", "5-3", "0-", "-3"):
            self.assertEqual(self.send(b"abc", range_).answer().status, 400, range_)
        self.assertEqual(self.send(b"{}", "0-1", {"Content-Type": "application/json"}).answer().status, 415)
        self.world.jobs.refuses = NotFound("no such job")
        self.assertEqual(self.send(b"abc", "0-2").answer().status, 404)

    def test_client_leaves(self) -> None:
        """
        A piece of a client that disconnects is kept.
        """
        connection = self.send(b"abc", "0-2")
        connection.lose()
        self.assertEqual(self.upload_stream.pieces, [b"abc"])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_end(self) -> None:
        """
        The end has to state the right size.
        """
        self.send(b"abc", "0-2")
        self.assertEqual(self.end({"size": 2}).status, 416)
        wrongs: list[Any] = [{}, {"size": -1}, {"size": "3"}, {"size": 3, "more": 1}, []]
        for wrong in wrongs:
            self.assertEqual(self.end(wrong).status, 400, wrong)
        answer = self.end({"size": 3})
        self.assertEqual((answer.status, answer.json()), (200, {"offset": 3}))
        self.assertEqual(self.upload_stream.whole, 3)


class ExportTests(SynchronousTestCase):
    """
    Archives that are sent.
    """

    def setUp(self) -> None:
        """
        Make an archive of several pieces.
        """
        self.world = World()
        self.data = bytes(range(256)) * (5 * PIECE // 256)
        self.archive = self.world.jobs.archive = FakeArchive(self.data)

    def ask(self, path: str = "/api/v1/archives/a/b:1", method: str = "GET") -> Connection:
        """
        Request it.
        """
        connection = self.world.connect()
        connection.send(method, path, {"Host": "localhost", "Connection": "close"})
        return connection

    def advance(self) -> None:
        """
        Run all calls that are due.
        """
        for _ in range(50):
            self.world.clock.advance(0)

    def test_whole(self) -> None:
        """
        The archive is sent piece by piece, with its length.
        """
        connection = self.ask()
        self.assertEqual(self.archive.reads, 1)
        self.advance()
        answer = connection.answer()
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/x-tar"))
        self.assertEqual(answer.headers["content-length"], str(len(self.data)))
        self.assertEqual(answer.body, self.data)
        self.assertEqual(self.archive.closed, 1)
        self.assertEqual(self.world.jobs.exported, [("a/b:1", "docker", "127.0.0.1")])

    def test_format(self) -> None:
        """
        The client selects one of the known formats.
        """
        self.ask("/api/v1/archives/a?format=oci")
        self.assertEqual(self.world.jobs.exported, [("a", "oci", "127.0.0.1")])
        for query in ("format=zip", "form=oci"):
            self.assertEqual(self.ask(f"/api/v1/archives/a?{query}").answer().status, 400)

    def test_head(self) -> None:
        """
        The response to HEAD has the length, and the archive is closed.
        """
        answer = self.ask(method="HEAD").answer()
        self.assertEqual((answer.headers["content-length"], answer.body), (str(len(self.data)), b""))
        self.assertEqual((self.archive.reads, self.archive.closed), (0, 1))

    def test_refused(self) -> None:
        """
        An error before the first byte is a usual error response.
        """
        self.world.jobs.refuses = NotFound("no such image")
        self.assertEqual(self.ask().answer().status, 404)

    def test_slow_client(self) -> None:
        """
        No byte is read while the client does not read.
        """
        connection = self.ask()
        connection.pause()
        self.advance()
        reads = self.archive.reads
        self.advance()
        self.assertEqual(self.archive.reads, reads)
        self.assertLessEqual(reads, 2)
        connection.resume()
        self.advance()
        self.assertEqual(connection.answer().body, self.data)

    def test_stalled_client(self) -> None:
        """
        A client that does not read for a long time is disconnected.
        """
        connection = self.ask()
        connection.pause()
        self.advance()
        self.world.clock.advance(STALL)
        self.assertTrue(connection.cut)
        connection.lose()
        self.assertEqual(self.archive.closed, 1)

    def test_client_leaves(self) -> None:
        """
        When the client disconnects, the archive is closed.
        """
        connection = self.ask()
        connection.lose()
        self.advance()
        self.assertEqual(self.archive.closed, 1)
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_breaks(self) -> None:
        """
        An error after the first byte cuts the connection.
        """
        self.world.jobs.archive = FakeArchive(self.data, StoreError("blob is damaged"))
        connection = self.ask()
        self.advance()
        self.assertTrue(connection.cut)
        self.assertEqual(self.world.jobs.archive.closed, 1)
        connection.lose()
