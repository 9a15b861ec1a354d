"""
Tests for L{xferd.registry.push.chunked_upload} and L{xferd.registry.capabilities}, over real
sockets: connections that break, and registries that refuse.

The module is long because a registry can refuse or lose an upload at each of its requests.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from tests.registry.pushing import DATA, DIGEST, KIB, SMALL, Bytes, Pushing
from xferd.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    RegistryError,
    RegistryUnavailable,
    StoreError,
    TooManyRequests,
    XferdError,
)
from xferd.interfaces.registry import IContent, Pushed, UploadSession
from xferd.registry.push.chunked_upload import PROBE
from xferd.testing.answers import BEFORE_HEADERS, Answer, problem
from xferd.testing.faults import (
    CutBody,
    Drop,
    Fault,
    Instead,
    RefuseBody,
    SetHeader,
    too_large,
    unavailable,
)
from xferd.testing.registry import Registry


class BreakTests(Pushing):
    """
    A connection that breaks costs little.
    """

    async def test_resumed(self) -> None:
        """
        After a break, the upload resumes at the registry's offset, at once.
        """
        self.plant(CutBody(300 * KIB), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertIn(300 * KIB, [s.offset for s in self.remembered if s is not None])
        self.assertEqual(self.registry.bytes_received, len(DATA))

    async def test_again_and_again(self) -> None:
        """
        If the connection breaks repeatedly, the chunks shrink, and few bytes
        are sent twice, even if the registry drops incomplete chunks.
        """
        for breaks, most in (("keep", 1.0), ("drop", 1.3)):
            self.registry = await self.serve()
            self.registry.breaks = breaks
            self.plant(CutBody(900 * KIB, connection=True), "PATCH", None)
            self.assertEqual(await self.push(), Pushed("uploaded"))
            self.there()
            self.assertLessEqual(self.registry.bytes_received, most * len(DATA))

    async def test_no_progress(self) -> None:
        """
        A break without progress is retried once; then the attempt fails, and
        the next one can resume the session.
        """
        self.plant(CutBody(0), "PATCH", None)
        await self.fails(ConnectionFailed)
        self.assertEqual(self.methods(), ["HEAD", "POST", "PATCH", "GET", "PATCH"])
        self.assertEqual(self.registry.sessions, 1)
        self.registry.faults.clear()
        self.assertEqual(await self.push(session=self.remembered[-1]), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.methods().count("POST"), 1)

    async def test_little_progress(self) -> None:
        """
        A target that confirms 1,000 bytes for each connection gets no more
        connections than one that confirms none.
        """
        self.plant(CutBody(1000), "PATCH", None)
        await self.fails(ConnectionFailed)
        self.assertLessEqual(self.methods().count("PATCH"), 3)

    async def test_next_attempt(self) -> None:
        """
        A later attempt, also of another process, resumes the session.
        """
        self.plant(Fault(), "PATCH")
        self.plant(unavailable(), "PATCH", None)
        await self.fails(RegistryUnavailable)
        session = self.remembered[-1]
        assert session is not None
        self.assertEqual(session.offset, 512 * KIB)
        self.assertNotIn(session.location, repr(session))
        self.registry.faults.clear()
        self.client = self.make_client()
        self.assertEqual(await self.push(session=session), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.registry.bytes_received, len(DATA) + 1024 * KIB)

    async def test_forgotten(self) -> None:
        """
        A registry that has forgotten the session receives all bytes
        again, in chunks with connections of their own.
        """
        self.registry.breaks = "forget"
        self.plant(Fault(), "PATCH")
        self.plant(CutBody(100 * KIB), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.registry = await self.serve()
        self.registry.breaks = "forget"
        self.plant(CutBody(900 * KIB, connection=True), "PATCH", None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertLess(self.registry.bytes_received, 1.5 * len(DATA))

    async def test_forgetful(self) -> None:
        """
        A registry that loses sessions repeatedly fails the attempt.
        """
        registry = self.registry

        class Forget(Fault):
            def on_answer(self, answer: Answer) -> Answer:
                registry.forget_uploads()
                return answer

        self.plant(Forget(), "PATCH", None)
        error = await self.fails(RegistryUnavailable)
        self.assertIn("forgets", str(error))
        self.assertEqual(self.methods().count("POST"), 4)

    async def test_session_gone(self) -> None:
        """
        A session that an earlier attempt left and the registry has forgotten
        is begun again.
        """
        self.plant(unavailable(), "PATCH")
        await self.fails(RegistryUnavailable)
        self.registry.forget_uploads()
        self.assertEqual(await self.push(session=self.remembered[-1]), Pushed("uploaded"))
        self.there()
        self.assertIn(None, self.remembered[:-1])

    async def test_gone_in_between(self) -> None:
        """
        The same holds for a session that is lost between two chunks.
        """
        registry = self.registry

        class Forget(Fault):
            def on_request(self, request: object) -> None:
                registry.forget_uploads()

        self.plant(Fault(), "PATCH")
        self.plant(Forget(), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.methods().count("POST"), 2)

    async def test_lost_answers(self) -> None:
        """
        If the response to a chunk is lost, the offset is queried; if
        that to the commit is lost, the blob is looked for before
        anything is sent again.
        """
        self.plant(Drop(BEFORE_HEADERS), "PATCH")
        self.plant(Drop(BEFORE_HEADERS, reset=True), "PUT")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.registry.bytes_received, len(DATA))
        self.assertEqual(self.methods().count("PUT"), 1)
        self.assertEqual(self.methods()[-1], "HEAD")

    async def test_lost_end(self) -> None:
        """
        An end that did not arrive is sent again.
        """
        self.plant(CutBody(1000), "PUT")
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.there(SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "PUT", "HEAD", "GET", "PATCH", "PUT"])

    async def test_out_of_step(self) -> None:
        """
        After a 416 the client requests the offset.
        """
        self.plant(Instead(problem(416, "BLOB_UPLOAD_INVALID", "where?").answer), "PATCH")
        # Some registries send that code for a session that is gone.
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.registry.storage.remove("team/a", str(DIGEST))
        self.registry.faults.plant(Instead(problem(416, "RANGE_INVALID", "where?").answer), method="PATCH")
        self.registry.storage.blobs.clear()
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()


class RestTests(Pushing):
    """
    The rest of a request that broke off still arrives, from a proxy.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Begin a session.
        """
        await super().setUp()
        self.plant(unavailable(), "PATCH")
        await self.fails(RegistryUnavailable)
        session = self.remembered[-1]
        assert session is not None
        self.session = UploadSession(session.location, 0)
        self.before = self.registry.bytes_received

    async def begin(self, method: str, data: bytes, arrived: int, query: str = "") -> _Raw:
        """
        Begin a request of the session that another client has sent.

        @param arrived: the bytes of its body that arrive now.
        """
        host, _, port = self.registry.host.rpartition(":")
        endpoint = TCP4ClientEndpoint(self.reactor, host, int(port))
        raw = _Raw()
        await connectProtocol(endpoint, raw)
        path = self.session.location.partition(self.registry.host)[2] + query
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.registry.host}", f"Content-Length: {len(data)}"]
        raw.write("\r\n".join([*lines, "", ""]).encode() + data[:arrived])
        await self.arrived(arrived)
        return raw

    async def arrived(self, size: int) -> None:
        """
        Wait until the registry has some bytes of the request.
        """
        await self.until(lambda: sum(each.arriving for each in self.registry._uploads.values()) == size)

    async def refused(self) -> None:
        """
        Wait until the registry has refused a chunk.
        """
        await self.until(lambda: any((e.method, e.status) == ("PATCH", 416) for e in self.registry.log))

    async def test_chunk(self) -> None:
        """
        The upload continues where that request ends, and one chunk at most is sent twice.
        """
        raw = await self.begin("PATCH", DATA, 300 * KIB)
        work = self.push(session=self.session)
        await self.refused()
        raw.write(DATA[300 * KIB : 1500 * KIB])
        await self.arrived(1500 * KIB)
        raw.close()
        self.assertEqual(await work, Pushed("uploaded"))
        self.there()
        self.assertEqual(self.methods().count("POST"), 1)
        self.assertTrue(self.capabilities.chunks)
        self.assertLessEqual(self.registry.bytes_received - self.before, len(DATA) + PROBE)

    async def test_whole(self) -> None:
        """
        If that request completes the blob, nothing else is sent.
        """
        raw = await self.begin("PUT", DATA, 300 * KIB, f"?digest={DIGEST}")
        work = self.push(session=self.session)
        await self.refused()
        raw.write(DATA[300 * KIB :])
        self.assertEqual(await work, Pushed("uploaded"))
        self.there()
        self.assertLessEqual(self.registry.bytes_received - self.before, len(DATA) + PROBE)

    async def test_small(self) -> None:
        """
        A blob that one request would carry is sent by two: a PUT does not name its offset.
        """
        raw = await self.begin("PATCH", SMALL, 100)
        work = self.push(SMALL, session=self.session)
        await self.refused()
        raw.close()
        self.assertEqual(await work, Pushed("uploaded"))
        self.there(SMALL)
        self.assertEqual(self.methods().count("POST"), 1)

    async def test_busy(self) -> None:
        """
        A registry that receives one request of a session at a time is asked again; if that
        request does not end, the attempt fails, and the session remains.
        """
        busy = Instead(problem(409, "BLOB_UPLOAD_INVALID", "another request").answer)
        self.plant(busy, "PATCH")
        self.assertEqual(await self.push(session=self.session), Pushed("uploaded"))
        self.there()
        self.registry.storage.remove("team/a", str(DIGEST))
        self.registry.storage.blobs.clear()
        self.plant(busy, "PATCH", None)
        error = await self.fails(RegistryUnavailable)
        self.assertIn("is still receiving another request", str(error))
        self.assertTrue(error.retryable)
        self.assertEqual(self.registry.sessions, 1)
        self.assertTrue(self.capabilities.chunks)


class _Raw(Protocol):
    """
    A connection that sends what it is given.
    """

    def write(self, data: bytes) -> None:
        """
        Send some bytes.
        """
        assert self.transport is not None
        self.transport.write(data)

    def close(self) -> None:
        """
        Send no more.
        """
        assert self.transport is not None
        self.transport.loseConnection()


class RefusalTests(Pushing):
    """
    The refusals of a registry.
    """

    async def test_early(self) -> None:
        """
        A response before the end of the body stops the body and is reported,
        although the registry reads no more and breaks the connection.
        """
        for answer, kind in (
            (problem(403, "DENIED", "no").answer, Denied),
            (problem(429, "TOOMANYREQUESTS", "slow", {"Retry-After": "7"}).answer, TooManyRequests),
            (unavailable().answer, RegistryUnavailable),
        ):
            self.plant(RefuseBody(answer, 50 * KIB), "PATCH")
            content = Bytes(DATA)
            try:
                await self.push(content=content)
            except kind as e:
                error = e
            else:
                raise AssertionError(f"no {kind}")
            self.assertEqual(error.status, answer.status)
            self.assertLessEqual(content.read_bytes, 512 * KIB)
        self.assertEqual(self.registry.sessions, 3)

    async def test_too_large(self) -> None:
        """
        The maximum size of a body that a proxy accepts is found by halving and
        remembered, also for uploads in one request.
        """
        self.plant(too_large(100 * KIB), None, None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.capabilities.most, 64 * KIB)
        self.assertLess(self.registry.bytes_received, 1.3 * len(DATA))
        medium = DATA[: 200 * KIB]
        self.assertEqual(await self.push(medium), Pushed("uploaded"))
        self.there(medium)

    async def test_much_too_large(self) -> None:
        """
        A limit below all reason is reported.
        """
        self.plant(too_large(1000), None, None)
        error = await self.fails(RegistryError)
        self.assertIn("at once", str(error))
        self.assertEqual(getattr(error, "status", None), 413)

    async def test_no_chunks(self) -> None:
        """
        A registry without chunks gets all in one request, now and later.
        """
        self.registry.chunks = False
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertFalse(self.capabilities.chunks)
        self.assertEqual(await self.push(DATA[1:]), Pushed("uploaded"))
        self.assertEqual(self.methods().count("PATCH"), 1)

    async def test_never_right(self) -> None:
        """
        So does one that refuses whatever follows the first chunk.
        """
        self.plant(Fault(), "PATCH")
        self.plant(Instead(problem(416, "RANGE_INVALID", "no").answer), "PATCH", None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertFalse(self.capabilities.chunks)

    async def test_no_chunks_and_a_limit(self) -> None:
        """
        With a limit in addition, there is no way.
        """
        self.registry.chunks = False
        self.plant(too_large(1000 * KIB), "PUT", None)
        error = await self.fails(RegistryError)
        self.assertIn("at once", str(error))

    async def test_unknown_request(self) -> None:
        """
        A 404 to a chunk of an existing session means that chunks are not
        supported.
        """
        self.plant(Instead(problem(404, "UNSUPPORTED", "no such page").answer), "PATCH", None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertFalse(self.capabilities.chunks)

    async def test_least(self) -> None:
        """
        Chunks are as large as the registry wants them, but the last.
        """
        self.registry = Registry(self.reactor, chunk_min_length=2000 * KIB)
        await self.registry.listen(self.reactor)
        self.addCleanup(self.registry.stop)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        sizes = [e.bytes_received // KIB for e in self.registry.log if e.method == "PATCH"]
        self.assertEqual(sizes, [2000, 1072])

    async def test_read_only(self) -> None:
        """
        A registry that refuses a pushes is named as such.
        """
        for status, says in ((405, "read-only"), (404, "no repository"), (403, "xferctl login")):
            self.plant(Instead(problem(status, "UNSUPPORTED", "no").answer), "POST", None)
            error = await self.fails(XferdError)
            self.assertIn(says, str(error))
            self.registry.faults.clear()
        self.assertEqual(self.remembered, [])

    async def test_wrong_bytes(self) -> None:
        """
        Bytes that are not the blob are not sent twice, unless another attempt
        may have spoiled them.
        """
        self.capabilities.learn(single_post=False)
        await self.fails_with(self.push(SMALL, digest=DIGEST), DigestMismatch)
        self.assertEqual(self.methods().count("PUT"), 1)
        self.plant(unavailable(), "PATCH")
        await self.fails(RegistryUnavailable)
        session = self.remembered[-1]
        assert session is not None
        (upload,) = self.registry._uploads.values()
        upload._file.write(b"spoiled")
        upload.size = 7
        self.assertEqual(await self.push(session=session), Pushed("uploaded"))
        self.there()

    async def test_other_digest(self) -> None:
        """
        A registry that reports another digest is an error.
        """
        self.plant(SetHeader("Docker-Content-Digest", str(DIGEST)), "PUT")
        await self.fails(DigestMismatch, SMALL)

    async def test_content_fails(self) -> None:
        """
        Bytes that cannot be had are no fault of the registry, at whichever
        offset, and the session stays.
        """

        @implementer(IContent)
        class Broken(Bytes):
            def read(self, offset: int, most: int) -> Deferred[bytes]:
                if offset >= fine:
                    raise_it: Deferred[bytes] = Deferred()
                    raise_it.errback(StoreError("gone"))
                    return raise_it
                return super().read(offset, most)

        for at in (0, 700 * KIB):
            fine = at
            await self.fails_with(self.push(content=Broken(DATA)), StoreError)
        self.assertEqual(self.registry.sessions, 2)

    async def test_arriving(self) -> None:
        """
        Content that is still arriving is sent in chunks of the available bytes.
        """
        self.capabilities.learn(single_post=False)
        sizes: list[tuple[int, int, int]] = []

        @implementer(IContent)
        class Arriving(Bytes):
            def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
                sizes.append((offset, size, least))
                return succeed(min(100, size, self.size - offset))

        await self.push(SMALL, content=Arriving(SMALL))
        self.assertEqual(sizes[0], (0, len(SMALL), 1))
        self.assertEqual([offset for offset, *_ in sizes], list(range(0, len(SMALL), 100)))

    async def test_not_ready(self) -> None:
        """
        If its bytes will not arrive soon, the attempt ends, and the session is
        kept.
        """

        class Later(Exception):
            pass

        @implementer(IContent)
        class Paused(Bytes):
            def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
                return succeed(100) if offset < fine else fail(Later())

        fine = 0
        await self.fails_with(self.push(content=Paused(DATA)), Later)
        # The one that the registry began in place of a mount.
        self.assertEqual((self.registry.sessions, len(self.remembered)), (1, 1))
        fine = 200
        await self.fails_with(self.push(content=Paused(DATA), session=self.remembered[-1]), Later)
        self.assertEqual(self.registry.sessions, 1)
        last = self.remembered[-1]
        assert last is not None
        self.assertEqual(last.offset, 200)
        await self.push(session=last)

    async def test_ends_early(self) -> None:
        """
        The same holds for content with fewer bytes than its size.
        """
        content = Bytes(SMALL)
        content.size += 5
        await self.fails_with(self.push(SMALL, content=content), StoreError)
