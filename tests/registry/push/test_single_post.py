"""
Tests for L{xferd.registry.push.target}, over real sockets: small blobs in the request
that begins an upload.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, gatherResults
from zope.interface import implementer

from tests.registry.pushing import ANN, DATA, DIGEST, SMALL, Bytes, Pushing
from xferd.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    RegistryError,
    RegistryUnavailable,
    StoreError,
    TooManyRequests,
)
from xferd.interfaces.registry import IContent, Pushed
from xferd.lookups import ENOUGH, STRIDE
from xferd.lookups import SMALL as MOST
from xferd.names import Digest, Repository
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.answers import BEFORE_HEADERS, Answer, problem
from xferd.testing.faults import (
    CutBody,
    Drop,
    Instead,
    SetHeader,
    Stall,
    not_found,
    too_many_requests,
    unavailable,
    wrong_digest_header,
)
from xferd.testing.layers import Blob
from xferd.testing.tokens import BasicGuard

OTHER = b"another small blob"


class SinglePosts(Pushing):
    """
    A registry that accepts a blob in a single POST.
    """

    single_post = True

    def uploaded(self, data: bytes) -> None:
        """
        The registry has the blob, and no session.
        """
        self.there(data)
        self.assertEqual(self.registry.sessions, 0)


class AcceptedTests(SinglePosts):
    """
    A registry that accepts a single POST.
    """

    async def test_uploaded(self) -> None:
        """
        A small blob is sent in the request that begins an upload.  The first one is
        confirmed.
        """
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.uploaded(SMALL)
        self.assertEqual(await self.push(OTHER), Pushed("uploaded"))
        self.uploaded(OTHER)
        self.assertEqual(self.methods(), ["HEAD", "POST", "HEAD", "HEAD", "POST"])
        self.assertEqual(self.registry.bytes_received, len(SMALL) + len(OTHER))
        self.assertEqual((self.remembered, self.reported[-1]), ([], len(OTHER)))

    async def test_many(self) -> None:
        """
        Of many small blobs, one in eight is first looked for in other repositories.  One
        that is found there restores these looks.
        """
        target = self.client.repository(Repository(self.registry.host, "team/a"))
        blobs = [b"%d" % number for number in range(ENOUGH + 2 * STRIDE)]
        for blob in blobs:
            await target.push(Digest.of(blob), Bytes(blob), [], None, self.remembered.append, lambda _: None)
            self.uploaded(blob)
        self.assertEqual(self.methods().count("PUT"), len(blobs) // STRIDE)
        self.assertEqual(self.methods().count("POST"), len(blobs))
        other = self.client.repository(Repository(self.registry.host, "team/b"))
        for blob in blobs:
            how = await other.push(
                Digest.of(blob), Bytes(blob), [], None, self.remembered.append, lambda _: None
            )
            if blob in blobs[STRIDE:]:
                self.assertEqual(how, Pushed("mounted"))

    async def test_known_holder(self) -> None:
        """
        A repository that is known to have the blob is asked for it first.
        """
        self.registry.storage.put_blob("team/b", Blob.of("x/y", SMALL))
        how = await self.push(SMALL, candidates=["team/b"])
        self.assertEqual(how, Pushed("mounted", Repository(self.registry.host, "team/b")))
        self.assertEqual(self.registry.bytes_received, 0)

    async def test_credentials(self) -> None:
        """
        The request is repeated with the credentials that the registry demands.
        """
        self.registry = await self.serve(guard=BasicGuard({"ann": "secret"}))
        self.registry.faults.plant(unavailable(), method="HEAD")
        self.credentials = ANN
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.uploaded(SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "POST", "HEAD"])

    async def test_sha512(self) -> None:
        """
        A blob may have a digest of another algorithm.
        """
        digest = Digest.of(SMALL, "sha512")
        self.assertEqual(await self.push(SMALL, digest=digest), Pushed("uploaded"))
        self.assertIn(digest, self.registry.storage.repositories["team/a"].blobs)
        self.assertNotIn("PUT", self.methods())

    async def test_others(self) -> None:
        """
        Empty and larger blobs are sent in sessions, and so are those that are larger than
        the registry accepts.
        """
        for data in (b"", DATA[: MOST + 1]):
            self.assertEqual(await self.push(data), Pushed("uploaded"))
            self.uploaded(data)
        self.capabilities.learn(most=100)
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.assertIsNone(self.capabilities.single_post)

    async def test_wrong_bytes(self) -> None:
        """
        Bytes that are not the blob are sent once to a registry that is known to accept the
        request, and are no reason to doubt that.
        """
        await self.push(OTHER)
        await self.fails_with(self.push(SMALL, digest=DIGEST), DigestMismatch)
        self.assertEqual(self.methods()[-2:], ["HEAD", "POST"])
        self.assertIs(self.capabilities.single_post, True)

    async def test_fails(self) -> None:
        """
        Errors of a registry that is known to accept the request are reported, and are no
        reason to doubt that.
        """
        await self.push(OTHER)
        for fault, kind in (
            (unavailable(), RegistryUnavailable),
            (too_many_requests("9"), TooManyRequests),
        ):
            self.plant(fault, "POST")
            await self.fails(kind, SMALL)
        self.plant(Drop(BEFORE_HEADERS), "POST", 2)
        await self.fails(ConnectionFailed, SMALL)
        self.assertIs(self.capabilities.single_post, True)
        self.assertNotIn("PUT", self.methods())

    async def test_no_more(self) -> None:
        """
        A registry that no longer accepts the request gets sessions.
        """
        await self.push(OTHER)
        self.registry.single_post = False
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.uploaded(SMALL)
        self.assertIs(self.capabilities.single_post, False)


class RefusedTests(SinglePosts):
    """
    A registry that does not accept a single POST, or not for certain.
    """

    async def test_session(self) -> None:
        """
        The session that Distribution begins is used.  No further body is sent in vain.
        """
        self.registry.single_post = False
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.uploaded(SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "PUT"])
        before = self.registry.bytes_received
        self.assertEqual(await self.push(OTHER), Pushed("uploaded"))
        self.assertEqual(self.registry.bytes_received, before + len(OTHER))

    async def test_at_the_same_time(self) -> None:
        """
        While one upload tries it, others use sessions.
        """
        self.registry.single_post = False
        blobs = [b"%d" % number * 100 for number in range(10)]
        await gatherResults([self.push(blob) for blob in blobs])
        for blob in blobs:
            self.there(blob)
        received = [e.bytes_received for e in self.registry.log if e.method == "POST"]
        self.assertEqual(len([each for each in received if each]), 1)

    async def test_kept_bytes(self) -> None:
        """
        A session that kept the body of the first request is given up.
        """
        registry = self.registry

        class Keeping(SetHeader):
            def on_answer(self, answer: Answer) -> Answer:
                (upload,) = registry._uploads.values()
                upload._file.write(SMALL)
                upload.size = len(SMALL)
                return answer

        registry.single_post = False
        self.plant(Keeping("X", None), "POST")
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.there(SMALL)

    async def test_refused(self) -> None:
        """
        After any refusal the blob is sent in a session, and so are all others.
        """
        for status in (200, 204, 202, 400, 404, 405, 411, 413, 415, 422, 500, 501, 502):
            self.registry = await self.serve()
            self.plant(Instead(Answer(status)), "POST")
            self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
            self.uploaded(SMALL)
            self.assertEqual(self.methods(), ["HEAD", "POST", "POST", "PUT"])
            self.assertIs(self.capabilities.single_post, False)
            self.assertEqual(await self.push(OTHER), Pushed("uploaded"))
            self.assertEqual(self.methods()[-2:], ["POST", "PUT"])

    async def test_not_believed(self) -> None:
        """
        A 201 for another blob, or without the blob, is not believed.
        """
        for fault in (wrong_digest_header(), Instead(Answer(201))):
            self.registry = await self.serve()
            self.plant(fault, "POST")
            self.registry.faults.plant(not_found(), method="HEAD", times=2)
            self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
            self.uploaded(SMALL)
            self.assertEqual(self.methods()[-2:], ["POST", "PUT"])
            self.assertIs(self.capabilities.single_post, False)

    async def test_closed(self) -> None:
        """
        If the connection is closed, early or late, with or without notice, the blob is
        sent in a session.
        """
        for fault in (CutBody(0), Drop(BEFORE_HEADERS), Drop(BEFORE_HEADERS, reset=True)):
            self.registry = await self.serve()
            self.plant(fault, "POST", 2)
            self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
            self.there(SMALL)
            self.assertEqual(self.methods()[-1], "PUT")
            self.assertIs(self.capabilities.single_post, False)

    async def test_no_answer(self) -> None:
        """
        A registry that waits for another request is given no longer than for any head of
        a response.
        """
        self.client = self.make_client(Timeouts(headers=0.3))
        self.plant(Stall(BEFORE_HEADERS), "POST")
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.there(SMALL)
        self.assertIs(self.capabilities.single_post, False)

    async def test_no_right(self) -> None:
        """
        A client that may not push does not decide for the others.
        """
        for answer, kind in (
            (problem(403, "DENIED", "no").answer, Denied),
            (problem(404, "NAME_UNKNOWN", "no").answer, RegistryError),
            (problem(429, "TOOMANYREQUESTS", "no", {"Retry-After": "9"}).answer, TooManyRequests),
        ):
            self.plant(Instead(answer), "POST", None)
            await self.fails(kind, SMALL)
            self.assertIsNone(self.capabilities.single_post)
            self.registry.faults.clear()
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.assertIs(self.capabilities.single_post, True)


class ContentTests(SinglePosts):
    """
    The bytes of the blob, and the end of an upload.
    """

    async def test_arriving(self) -> None:
        """
        A blob that has not arrived as a whole is sent in a session.
        """

        @implementer(IContent)
        class Arriving(Bytes):
            def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
                return super().ready(offset, min(size, 8_000), least)

        self.assertEqual(await self.push(SMALL, content=Arriving(SMALL)), Pushed("uploaded"))
        self.there(SMALL)
        self.assertIsNone(self.capabilities.single_post)

    async def test_unreadable(self) -> None:
        """
        Bytes that cannot be read are no fault of the registry.
        """

        @implementer(IContent)
        class Broken(Bytes):
            def read(self, offset: int, most: int) -> Deferred[bytes]:
                return fail(StoreError("gone"))

        await self.fails_with(self.push(content=Broken(SMALL)), StoreError)
        self.assertIsNone(self.capabilities.single_post)
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.assertIs(self.capabilities.single_post, True)

    async def test_cancelled_early(self) -> None:
        """
        An upload that is cancelled before its bytes are here has made no request for it.
        """
        waiting: Deferred[int] = Deferred()

        @implementer(IContent)
        class Waiting(Bytes):
            def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
                return waiting

        pushing = self.push(content=Waiting(SMALL))
        await self.until(lambda: bool(waiting.callbacks))
        pushing.cancel()
        await self.fails_with(pushing, CancelledError)
        self.assertEqual(self.methods(), ["HEAD"])
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))

    async def test_cancelled_late(self) -> None:
        """
        An upload that is cancelled before the answer leaves nothing behind: neither a
        connection nor a session.  The next one may try the request again.
        """
        for known in (False, True):
            self.plant(Stall(BEFORE_HEADERS), "POST")
            pushing = self.push(SMALL)
            await self.until(lambda: any(e.bytes_received and e.state == "open" for e in self.registry.log))
            pushing.cancel()
            await self.fails_with(pushing, CancelledError)
            await self.until(lambda: all(e.state != "open" for e in self.registry.log))
            self.assertEqual((self.registry.sessions, self.remembered), (0, []))
            self.assertIs(self.capabilities.single_post, True if known else None)
            self.registry.storage.repositories.clear()
            self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
            self.registry.storage.repositories.clear()
