"""
Pushing over real sockets, into a registry with faults: early answers, broken
connections, tokens that expire, and what a registry has when it is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.ssl import CertificateOptions
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from tests.registry.certificates import Authority
from xferd.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    RegistryError,
    RegistryUnavailable,
    StoreError,
    TimedOut,
    TooManyRequests,
    XferdError,
)
from xferd.interfaces import IContent, IReactor, Pushed, UploadSession
from xferd.names import Digest, Repository
from xferd.registry.abilities import Abilities, ChunkSizes
from xferd.registry.client import Registries
from xferd.registry.credentials import Credentials, Secret
from xferd.registry.timeouts import Timeouts
from xferd.testing.answers import BEFORE_HEADERS, Answer, problem
from xferd.testing.faults import (
    CutBody,
    Drop,
    Fault,
    Instead,
    Redirect,
    RefuseBody,
    SetHeader,
    Stall,
    too_large,
    unauthorized,
    unavailable,
)
from xferd.testing.layers import Blob
from xferd.testing.registry import Guard, Registry
from xferd.testing.tokens import BasicGuard, TokenServer

_KIB = 1024
_SIZES = ChunkSizes(first=512 * _KIB, largest=1024 * _KIB, smallest=128 * _KIB)
_DATA = bytes(range(256)) * (12 * _KIB)
_DIGEST = Digest.of(_DATA)
_SMALL = b"a small blob" * 1000
_ANN = Credentials("ann", Secret("secret"))


@implementer(IContent)
class Bytes:
    """
    Content that is all here.

    @ivar read_bytes: how many bytes were read.
    """

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.read_bytes = 0
        self._data = data

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Read.
        """
        data = self._data[offset : offset + most]
        self.read_bytes += len(data)
        return succeed(data)


class Pushing(TestCase):
    """
    A client and a registry.
    """

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start them.
        """
        self.reactor = cast(IReactor, default_reactor)
        self.remembered: list[UploadSession | None] = []
        self.reported: list[int] = []
        self.credentials: Credentials | None = None
        self.registry = await self.serve()
        self.client = self.make_client()

    async def serve(self, guard: Guard | None = None, tls: CertificateOptions | None = None) -> Registry:
        """
        Start a registry.
        """
        registry = Registry(self.reactor, guard=guard)
        await registry.listen(self.reactor, tls=tls)
        self.addCleanup(registry.stop)
        return registry

    def make_client(self, timeouts: Timeouts | None = None) -> Registries:
        """
        Make a client.
        """
        client = Registries(
            self.reactor,
            credentials=lambda _: self.credentials,
            timeouts=timeouts or Timeouts(),
            chunk_sizes=_SIZES,
        )
        self.addCleanup(client.close)
        return client

    def push(
        self,
        data: bytes = _DATA,
        *,
        digest: Digest | None = None,
        candidates: Sequence[str] = (),
        session: UploadSession | None = None,
        content: IContent | None = None,
        path: str = "team/a",
    ) -> Deferred[Pushed]:
        """
        Push a blob.
        """
        host = self.registry.host
        target = self.client.registry(host).target(Repository(host, path))
        return target.push(
            digest or Digest.of(data),
            content or Bytes(data),
            [Repository(host, c) for c in candidates],
            session,
            self.remembered.append,
            self.reported.append,
        )

    async def fails(self, kind: type[XferdError], data: bytes = _DATA) -> XferdError:
        """
        Push in vain.
        """
        try:
            await self.push(data)
        except kind as e:
            return e
        raise AssertionError(f"no {kind.__name__}")

    async def fails_with(self, work: Deferred[Pushed], kind: type[BaseException]) -> None:
        """
        Wait for a failure.
        """
        try:
            await work
        except kind:
            return
        raise AssertionError(f"no {kind.__name__}")

    def plant(self, fault: Fault, method: str | None = None, times: int | None = 1) -> None:
        """
        Plant a fault in uploads.
        """
        self.registry.faults.plant(fault, "/uploads/", method=method, times=times)

    def there(self, data: bytes = _DATA, path: str = "team/a") -> None:
        """
        The registry has the blob, as it is, and no session is left.
        """
        digest = Digest.of(data)
        self.assertIn(digest, self.registry.storage.repositories[path].blobs)
        self.assertEqual(self.registry.storage.blobs[digest].read(), data)
        self.assertEqual(self.registry.sessions, 0)
        if self.remembered:
            self.assertIsNone(self.remembered[-1])

    def methods(self) -> list[str]:
        """
        The methods of the requests for blobs.
        """
        return [e.method for e in self.registry.log if "/blobs/" in e.path]

    @property
    def abilities(self) -> Abilities:
        """
        What the client has learned of the registry.
        """
        return self.client._shared.abilities[self.registry.host]


class PushTests(Pushing):
    """
    A blob comes into a registry in the cheapest way there is.
    """

    async def test_small(self) -> None:
        """
        A small blob goes in one request, after a look and a beginning.
        """
        self.assertEqual(await self.push(_SMALL), Pushed("uploaded"))
        self.there(_SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "PUT"])
        self.assertEqual(self.reported[-1], len(_SMALL))

    async def test_empty(self) -> None:
        """
        A blob without bytes is a blob.
        """
        self.assertEqual(await self.push(b""), Pushed("uploaded"))
        self.there(b"")

    async def test_chunks(self) -> None:
        """
        A large one goes in chunks, which grow, and each confirmed offset is
        remembered.
        """
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.methods(), ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"])
        offsets = [s.offset // _KIB for s in self.remembered if s is not None]
        self.assertEqual(offsets, [0, 512, 1536, 2560, 3072])
        self.assertEqual(self.reported, sorted(self.reported))
        self.assertEqual(self.registry.bytes_received, len(_DATA))

    async def test_exists(self) -> None:
        """
        What is there already is not sent; a session that was begun is given
        up.
        """
        await self.push()
        self.remembered.clear()
        self.assertEqual(await self.push(), Pushed("exists"))
        self.assertEqual(self.remembered, [])
        began = await self._interrupted_session(_SMALL + b"x")
        self.assertEqual(self.registry.sessions, 1)
        self.assertEqual(await self.push(session=began), Pushed("exists"))
        self.there()

    async def _interrupted_session(self, data: bytes) -> UploadSession:
        self.plant(unavailable(), "PUT")
        await self.fails(RegistryUnavailable, data)
        session = self.remembered[-1]
        assert session is not None
        return session

    async def test_mounted(self) -> None:
        """
        A blob of another repository is mounted from there, and one of nobody
        knows where by the registry itself.
        """
        host = self.registry.host
        self.registry.storage.put_blob("team/b", Blob.of("x/y", _DATA))
        how = await self.push(candidates=["team/a", "team/c", "team/b"])
        self.assertEqual(how, Pushed("mounted", Repository(host, "team/b")))
        self.there()
        self.assertEqual(await self.push(path="team/d"), Pushed("mounted"))
        self.assertEqual(self.registry.bytes_received, 0)
        self.assertEqual(self.registry.sessions, 0)

    async def test_not_mounted(self) -> None:
        """
        The session that a registry begins instead of a mount is used.
        """
        self.assertEqual(await self.push(_SMALL, candidates=["team/b", "team/c"]), Pushed("uploaded"))
        self.there(_SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "POST", "DELETE", "PUT"])

    async def test_mount_refused(self) -> None:
        """
        A registry that refuses mounts without a source is not asked again.
        """
        self.plant(Instead(problem(400, "UNSUPPORTED", "from?").answer), "POST")
        await self.push(_SMALL)
        self.assertFalse(self.abilities.finds_blobs)
        await self.push()
        self.there()
        self.assertEqual(self.methods()[:4], ["HEAD", "POST", "POST", "PUT"])
        self.assertEqual(self.methods().count("POST"), 3)

    async def test_head_says_nothing(self) -> None:
        """
        A registry whose HEAD fails is just tried.
        """
        for status in (403, 405, 503):
            self.registry.faults.plant(unavailable(status), method="HEAD")
            data = b"%d" % status
            self.assertEqual(await self.push(data), Pushed("uploaded"))
            self.there(data)

    async def test_sha512(self) -> None:
        """
        The registry is told which other digest will come.
        """
        digest = Digest.of(_SMALL, "sha512")
        self.assertEqual(await self.push(_SMALL, digest=digest), Pushed("uploaded"))
        self.assertIn(digest, self.registry.storage.repositories["team/a"].blobs)

    async def test_tls(self) -> None:
        """
        All this works over TLS.
        """
        certificate = Authority().server("127.0.0.1")
        self.registry = await self.serve(tls=certificate)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()


class BreakTests(Pushing):
    """
    A connection that breaks costs little.
    """

    async def test_resumed(self) -> None:
        """
        What breaks goes on where the registry says that it is, at once.
        """
        self.plant(CutBody(300 * _KIB), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertIn(300 * _KIB, [s.offset for s in self.remembered if s is not None])
        self.assertEqual(self.registry.bytes_received, len(_DATA))

    async def test_again_and_again(self) -> None:
        """
        With a connection that breaks all the time, the chunks shrink, and
        little is sent twice, even where the registry drops what is no whole
        chunk.
        """
        for breaks, most in (("keep", 1.0), ("drop", 1.3)):
            self.registry = await self.serve()
            self.registry.breaks = breaks
            self.plant(CutBody(900 * _KIB, connection=True), "PATCH", None)
            self.assertEqual(await self.push(), Pushed("uploaded"))
            self.there()
            self.assertLessEqual(self.registry.bytes_received, most * len(_DATA))

    async def test_no_progress(self) -> None:
        """
        A break without any progress is tried again once; then it is for who
        asked, with the session.
        """
        self.plant(CutBody(0), "PATCH", None)
        await self.fails(ConnectionFailed)
        self.assertEqual(self.methods(), ["HEAD", "POST", "PATCH", "GET", "PATCH"])
        self.assertEqual(self.registry.sessions, 1)
        self.registry.faults.clear()
        self.assertEqual(await self.push(session=self.remembered[-1]), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.methods().count("POST"), 1)

    async def test_next_attempt(self) -> None:
        """
        Another attempt, perhaps of another process, goes on with the session
        of the one before.
        """
        self.plant(Fault(), "PATCH")
        self.plant(unavailable(), "PATCH", None)
        await self.fails(RegistryUnavailable)
        session = self.remembered[-1]
        assert session is not None
        self.assertEqual(session.offset, 512 * _KIB)
        self.assertNotIn(session.location, repr(session))
        self.registry.faults.clear()
        self.client = self.make_client()
        self.assertEqual(await self.push(session=session), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.registry.bytes_received, len(_DATA) + 1024 * _KIB)

    async def test_forgotten(self) -> None:
        """
        A registry that has forgotten the session gets all anew, in chunks
        that have connections of their own.
        """
        self.registry.breaks = "forget"
        self.plant(Fault(), "PATCH")
        self.plant(CutBody(100 * _KIB), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.registry = await self.serve()
        self.registry.breaks = "forget"
        self.plant(CutBody(900 * _KIB, connection=True), "PATCH", None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertLess(self.registry.bytes_received, 1.5 * len(_DATA))

    async def test_forgetful(self) -> None:
        """
        One that forgets all the time is given up.
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
        is begun anew.
        """
        self.plant(unavailable(), "PATCH")
        await self.fails(RegistryUnavailable)
        self.registry.forget_uploads()
        self.assertEqual(await self.push(session=self.remembered[-1]), Pushed("uploaded"))
        self.there()
        self.assertIn(None, self.remembered[:-1])

    async def test_gone_in_between(self) -> None:
        """
        So is one that is forgotten between two chunks.
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
        An answer to a chunk that is lost is asked for; after a lost answer to
        the end, the blob is looked for before anything is sent again.
        """
        self.plant(Drop(BEFORE_HEADERS), "PATCH")
        self.plant(Drop(BEFORE_HEADERS, reset=True), "PUT")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.registry.bytes_received, len(_DATA))
        self.assertEqual(self.methods().count("PUT"), 1)
        self.assertEqual(self.methods()[-1], "HEAD")

    async def test_lost_end(self) -> None:
        """
        An end that did not arrive is sent again.
        """
        self.plant(CutBody(1000), "PUT")
        self.assertEqual(await self.push(_SMALL), Pushed("uploaded"))
        self.there(_SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "PUT", "HEAD", "GET", "PATCH", "PUT"])

    async def test_out_of_step(self) -> None:
        """
        A 416 makes the client ask.
        """
        self.plant(Instead(problem(416, "BLOB_UPLOAD_INVALID", "where?").answer), "PATCH")
        # That code is what some say of a session that is gone.
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.registry.storage.remove("team/a", str(_DIGEST))
        self.registry.faults.plant(Instead(problem(416, "RANGE_INVALID", "where?").answer), method="PATCH")
        self.registry.storage.blobs.clear()
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()


class RefusalTests(Pushing):
    """
    What a registry refuses, and when.
    """

    async def test_early(self) -> None:
        """
        An answer before the end of the body stops the body and is what is
        reported, though the registry reads no more and breaks the connection.
        """
        for answer, kind in (
            (problem(403, "DENIED", "no").answer, Denied),
            (problem(429, "TOOMANYREQUESTS", "slow", {"Retry-After": "7"}).answer, TooManyRequests),
            (unavailable().answer, RegistryUnavailable),
        ):
            self.plant(RefuseBody(answer, 50 * _KIB), "PATCH")
            content = Bytes(_DATA)
            try:
                await self.push(content=content)
            except kind as e:
                error = e
            else:
                raise AssertionError(f"no {kind}")
            self.assertEqual(error.status, answer.status)
            self.assertLessEqual(content.read_bytes, 512 * _KIB)
        self.assertEqual(self.registry.sessions, 3)

    async def test_too_large(self) -> None:
        """
        The largest body that a proxy takes is found out by halving and
        remembered, also for what would have gone in one request.
        """
        self.plant(too_large(100 * _KIB), None, None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(self.abilities.most, 64 * _KIB)
        self.assertLess(self.registry.bytes_received, 1.3 * len(_DATA))
        medium = _DATA[: 200 * _KIB]
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
        self.assertFalse(self.abilities.chunks)
        self.assertEqual(await self.push(_DATA[1:]), Pushed("uploaded"))
        self.assertEqual(self.methods().count("PATCH"), 1)

    async def test_no_chunks_and_a_limit(self) -> None:
        """
        With a limit in addition, there is no way.
        """
        self.registry.chunks = False
        self.plant(too_large(1000 * _KIB), "PUT", None)
        error = await self.fails(RegistryError)
        self.assertIn("at once", str(error))

    async def test_unknown_request(self) -> None:
        """
        A 404 to a chunk of a session that is there means: no chunks.
        """
        self.plant(Instead(problem(404, "UNSUPPORTED", "no such page").answer), "PATCH", None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertFalse(self.abilities.chunks)

    async def test_least(self) -> None:
        """
        Chunks are as large as the registry wants them, but the last.
        """
        self.registry = Registry(self.reactor, chunk_min_length=2000 * _KIB)
        await self.registry.listen(self.reactor)
        self.addCleanup(self.registry.stop)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        sizes = [e.bytes_received // _KIB for e in self.registry.log if e.method == "PATCH"]
        self.assertEqual(sizes, [2000, 1072])

    async def test_read_only(self) -> None:
        """
        A registry that takes no pushes is named as such.
        """
        for status, says in ((405, "read-only"), (404, "no repository"), (403, "docker login")):
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
        await self.fails_with(self.push(_SMALL, digest=_DIGEST), DigestMismatch)
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
        A registry that says that it has got something else is not believed.
        """
        self.plant(SetHeader("Docker-Content-Digest", str(_DIGEST)), "PUT")
        await self.fails(DigestMismatch, _SMALL)

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

        for at in (0, 700 * _KIB):
            fine = at
            await self.fails_with(self.push(content=Broken(_DATA)), StoreError)
        self.assertEqual(self.registry.sessions, 2)

    async def test_ends_early(self) -> None:
        """
        So is content with fewer bytes than it said.
        """
        content = Bytes(_SMALL)
        content.size += 5
        await self.fails_with(self.push(_SMALL, content=content), StoreError)


class ProofTests(Pushing):
    """
    Registries want to know who pushes, all along.
    """

    async def _with_tokens(self) -> TokenServer:
        tokens = TokenServer(self.reactor, users={"ann": "secret"})
        await tokens.listen(self.reactor)
        self.addCleanup(tokens.stop)
        self.credentials = _ANN
        self.registry = await self.serve(guard=tokens)
        return tokens

    async def test_basic(self) -> None:
        """
        With a password, or not at all.
        """
        self.registry = await self.serve(guard=BasicGuard({"ann": "secret"}))
        await self.fails(Denied)
        self.credentials = _ANN
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()

    async def test_token_expires(self) -> None:
        """
        A token that is refused in the middle is replaced, once, and costs the
        chunk that was refused.
        """
        tokens = await self._with_tokens()

        class Revoke(Fault):
            def on_request(self, request: object) -> None:
                tokens.revoke()

        self.plant(Fault(), "PATCH")
        self.plant(Revoke(), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual(len(tokens.fetches), 2)
        self.assertLessEqual(self.registry.bytes_received, len(_DATA) + 1024 * _KIB)

    async def test_refused_for_ever(self) -> None:
        """
        A registry that likes no token is not asked for ever.
        """
        tokens = await self._with_tokens()
        challenge = f'Bearer realm="{tokens.url}/token",service="registry.test"'
        self.plant(unauthorized(challenge), "PATCH", None)
        await self.fails(Denied)
        self.assertLess(self.methods().count("PATCH"), 5)

    async def test_mount_scopes(self) -> None:
        """
        A mount needs one token for both repositories.
        """
        tokens = await self._with_tokens()
        self.registry.storage.put_blob("team/b", Blob.of("x/y", _DATA))
        how = await self.push(candidates=["team/b"])
        self.assertEqual(how.how, "mounted")
        scopes = set(tokens.fetches[-1].scopes)
        self.assertEqual(scopes, {"repository:team/a:pull,push", "repository:team/b:pull"})

    async def test_may_only_pull(self) -> None:
        """
        Who may not push is told so.
        """
        await self._with_tokens()
        self.credentials = None
        error = await self.fails(Denied)
        self.assertIn("push", str(error))


class LocationTests(Pushing):
    """
    A registry says where to send.
    """

    async def test_elsewhere(self) -> None:
        """
        Storage on another host gets no credentials, but its own query.
        """
        storage = await self.serve()
        self.registry = await self.serve(guard=BasicGuard({"ann": "secret"}))
        storage.storage = self.registry.storage
        storage._uploads = self.registry._uploads
        self.credentials = _ANN
        registry = self.registry

        class Elsewhere(Fault):
            def on_answer(self, answer: Answer) -> Answer:
                location = f"{storage.url}/v2/team/a/blobs/uploads/{next(iter(registry._uploads))}?sig=a%2Fb"
                return SetHeader("Location", location).on_answer(answer)

        self.plant(Elsewhere(), "POST")
        storage.faults.plant(SetHeader("Location", None), method="PATCH", times=None)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual({e.authorization for e in storage.log}, {None})
        self.assertEqual([e.method for e in storage.log], ["PATCH"] * 4 + ["PUT"])

    async def test_redirected(self) -> None:
        """
        A redirect of a chunk is followed, with the chunk.
        """
        other = await self.serve()
        other.storage = self.registry.storage
        other._uploads = self.registry._uploads
        self.plant(Redirect(other.url), "PATCH")
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()
        self.assertEqual([e.method for e in other.log][:1], ["PATCH"])

    async def test_refused(self) -> None:
        """
        Some places are not to be sent to.
        """
        for location in ("ftp://a/b", "http://u:p@a/", "https://[x"):
            self.plant(SetHeader("Location", location), "POST")
            error = await self.fails(RegistryError)
            self.assertIn("refused", str(error))


class EndTests(Pushing):
    """
    Pushes end when they are told to, or when nothing happens any more.
    """

    async def test_cancelled(self) -> None:
        """
        Cancelling stops the body at once and leaves the session, which can be
        gone on with, or deleted.
        """
        self.plant(Stall(BEFORE_HEADERS), "PATCH")
        work = self.push()
        while not self.methods().count("PATCH"):
            await self._turn()
        work.cancel()
        await self.fails_with(work, CancelledError)
        session = self.remembered[-1]
        assert session is not None
        self.assertEqual(self.registry.sessions, 1)
        host = self.registry.host
        target = self.client.registry(host).target(Repository(host, "team/a"))
        await target.abort(session)
        self.assertEqual(self.registry.sessions, 0)
        await target.abort(session)

    async def test_cancelled_in_body(self) -> None:
        """
        Also while the registry takes nothing.
        """
        content = Bytes(_DATA)
        work = self.push(content=content)
        self.plant(Fault(), "PATCH", None)
        while not content.read_bytes:
            await self._turn()
        work.cancel()
        await self.fails_with(work, CancelledError)
        read = content.read_bytes
        for _ in range(20):
            await self._turn()
        self.assertEqual(content.read_bytes, read)

    async def test_no_answer(self) -> None:
        """
        A registry that takes all and says nothing is given up.
        """
        self.client = self.make_client(Timeouts(commit=0.2))
        self.plant(Stall(BEFORE_HEADERS), "PATCH")
        error = await self.fails(TimedOut)
        self.assertIn("did not answer", str(error))

    async def test_abort_never_fails(self) -> None:
        """
        Giving up ends in time, and well, whatever the registry does.
        """
        self.client = self.make_client(Timeouts(close=0.2))
        host = self.registry.host
        target = self.client.registry(host).target(Repository(host, "team/a"))
        session = UploadSession(f"{self.registry.url}/v2/team/a/blobs/uploads/x", 5)
        self.plant(Stall(BEFORE_HEADERS), "DELETE")
        self.plant(unavailable(), "DELETE")
        self.plant(Drop(BEFORE_HEADERS), "DELETE", 2)
        for _ in range(3):
            await target.abort(session)

    def _turn(self) -> Deferred[None]:
        turn: Deferred[None] = Deferred()
        self.reactor.callLater(0.001, turn.callback, None)
        return turn
