"""
Tests for L{xferd.registry.push.target}, over real sockets: existing blobs,
mounts, and redirects.
"""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tests.registry.pushing import ANN, DATA, DIGEST, KIB, SMALL, Bytes, Pushing
from tests.registry.waits import Waits
from xferd.credentials import Credentials, Secret
from xferd.errors import (
    RegistryError,
    RegistryUnavailable,
    TooManyRequests,
)
from xferd.interfaces.registry import IRepository, Pushed, UploadSession
from xferd.lookups import ENOUGH, STRIDE
from xferd.names import Digest, Repository
from xferd.testing.answers import BEFORE_HEADERS, Answer, problem
from xferd.testing.certificates import Authority
from xferd.testing.faults import (
    Drop,
    Fault,
    Instead,
    Redirect,
    SetHeader,
    too_many_requests,
    unavailable,
)
from xferd.testing.layers import Blob
from xferd.testing.tokens import BasicGuard
from xferd.waits import reporting


class PushTests(Pushing):
    """
    A blob comes into a registry in the cheapest way there is.
    """

    async def test_small(self) -> None:
        """
        A small blob goes in one request, after a look and a beginning.
        """
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.there(SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "PUT"])
        self.assertEqual(self.reported[-1], len(SMALL))

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
        offsets = [s.offset // KIB for s in self.remembered if s is not None]
        self.assertEqual(offsets, [0, 512, 1536, 2560, 3072])
        self.assertEqual(self.reported, sorted(self.reported))
        self.assertEqual(self.registry.bytes_received, len(DATA))

    async def test_exists(self) -> None:
        """
        An existing blob is not sent; an open session is aborted.
        """
        await self.push()
        self.remembered.clear()
        self.assertEqual(await self.push(), Pushed("exists"))
        self.assertEqual(self.remembered, [])
        began = await self._interrupted_session(SMALL + b"x")
        self.assertEqual(self.registry.sessions, 1)
        self.assertEqual(await self.push(session=began), Pushed("exists"))
        self.there()

    async def _interrupted_session(self, data: bytes) -> UploadSession:
        self.plant(unavailable(), "PUT")
        await self.fails(RegistryUnavailable, data)
        session = self.remembered[-1]
        assert session is not None
        return session

    async def test_many_small(self) -> None:
        """
        Of many small blobs that a repository lacks, most are sent without a look; the
        looks of another job are its own.
        """
        target = self.client.repository(Repository(self.registry.host, "team/a"))
        blobs = [b"%d" % number for number in range(ENOUGH + 2 * STRIDE)]
        for blob in blobs:
            await target.push(Digest.of(blob), Bytes(blob), [], None, self.remembered.append, lambda _: None)
            self.there(blob)
        self.assertEqual(self.methods().count("HEAD"), ENOUGH + 2)
        self.assertEqual(self.methods()[-5:], ["POST", "PUT", "HEAD", "POST", "PUT"])
        self.assertEqual(await self.push(blobs[-2]), Pushed("exists"))

    async def test_mounted(self) -> None:
        """
        A blob of another repository is mounted from there, and one
        without a known repository by the registry itself.
        """
        host = self.registry.host
        self.registry.storage.put_blob("team/b", Blob.of("x/y", DATA))
        how = await self.push(candidates=["team/a", "team/c", "team/b"])
        self.assertEqual(how, Pushed("mounted", Repository(host, "team/b")))
        self.there()
        self.assertEqual(await self.push(path="team/d"), Pushed("mounted"))
        self.assertEqual(self.registry.bytes_received, 0)
        self.assertEqual(self.registry.sessions, 0)

    async def test_reported(self) -> None:
        """
        The questions for the blob are reported while they are open.
        """
        self.registry.storage.put_blob("team/b", Blob.of("x/y", DATA))
        waits, host = Waits(), self.registry.host
        with reporting(waits):
            await self.push(candidates=["team/b"])
        self.assertEqual((waits.all, waits.present), ([f"confirmation {host}", f"mount {host}"], []))

    async def test_not_mounted(self) -> None:
        """
        The session that a registry begins instead of a mount is used.
        """
        self.assertEqual(await self.push(SMALL, candidates=["team/b", "team/c"]), Pushed("uploaded"))
        self.there(SMALL)
        self.assertEqual(self.methods(), ["HEAD", "POST", "POST", "DELETE", "PUT"])

    async def test_mount_refused(self) -> None:
        """
        A registry that refuses mounts without C{from} gets no further ones.
        """
        self.plant(Instead(problem(400, "UNSUPPORTED", "from?").answer), "POST")
        await self.push(DATA[: 100 * KIB])
        self.assertFalse(self.capabilities.finds_blobs)
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
        The registry receives the algorithm of another digest.
        """
        digest = Digest.of(SMALL, "sha512")
        self.assertEqual(await self.push(SMALL, digest=digest), Pushed("uploaded"))
        self.assertIn(digest, self.registry.storage.repositories["team/a"].blobs)

    async def test_tls(self) -> None:
        """
        All this works over TLS.
        """
        certificate = Authority().options("127.0.0.1")
        self.registry = await self.serve(tls=certificate)
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()


class LocationTests(Pushing):
    """
    The registry names the location of an upload.
    """

    async def test_elsewhere(self) -> None:
        """
        Storage on another host gets no credentials, but its own query.
        """
        storage = await self.serve()
        self.registry = await self.serve(guard=BasicGuard({"ann": "secret"}))
        storage.storage = self.registry.storage
        storage._uploads = self.registry._uploads
        self.credentials = ANN
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


class OddTests(Pushing):
    """
    Registries that behave oddly.
    """

    async def test_rate_limited(self) -> None:
        """
        A rate limit is reported with its time, wherever it is met.
        """
        for method in ("HEAD", "POST", "PUT"):
            self.registry.faults.plant(too_many_requests("9"), "/blobs/", method=method)
            error = await self.fails(TooManyRequests, SMALL)
            assert isinstance(error, TooManyRequests)
            self.assertEqual(error.retry_after, 9)

    async def test_other_digest_there(self) -> None:
        """
        A HEAD that speaks of another blob is not believed.
        """
        self.registry.storage.put_blob("team/a", Blob.of("x/y", SMALL))
        self.registry.faults.plant(SetHeader("Docker-Content-Digest", str(DIGEST)), method="HEAD")
        self.registry.storage.blobs.pop(Digest.of(SMALL))
        self.registry.storage.repositories.clear()
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))

    async def test_no_sha512(self) -> None:
        """
        A registry that does not know the algorithm is named as such.
        """
        self.plant(Instead(problem(400, "UNSUPPORTED", "what?").answer), "POST", None)
        digest = Digest.of(SMALL, "sha512")
        try:
            await self.push(SMALL, digest=digest)
        except RegistryError as e:
            self.assertIn("sha512", str(e))
        else:
            raise AssertionError("it was taken")

    async def test_confirms_too_much(self) -> None:
        """
        A registry that has more than it was sent is not believed.
        """
        self.plant(SetHeader("Range", "0-9999999999"), "PATCH")
        error = await self.fails(RegistryError)
        self.assertIn("confirms", str(error))

    async def test_confirms_less(self) -> None:
        """
        One that has less gets the rest again.
        """
        self.plant(SetHeader("Range", f"bytes=0-{100 * KIB - 1}"), "PATCH")
        self.registry.faults.plant(
            Instead(problem(416, "RANGE_INVALID", "no").answer), "/uploads/", method="PATCH"
        )
        self.assertEqual(await self.push(), Pushed("uploaded"))
        self.there()

    async def test_cannot_be_asked(self) -> None:
        """
        If the offset of a session cannot be queried, another one is
        begun; a server error is reported.
        """
        self.plant(unavailable(), "PATCH", 2)
        await self.fails(RegistryUnavailable)
        session = self.remembered[-1]
        self.plant(SetHeader("Range", None), "GET")
        await self.fails_with(self.push(session=session), RegistryUnavailable)
        self.plant(unavailable(), "GET")
        await self.fails_with(self.push(session=session), RegistryUnavailable)
        self.registry.faults.clear()
        self.assertEqual(await self.push(session=self.remembered[-1]), Pushed("uploaded"))

    async def test_chunks_no_more(self) -> None:
        """
        The session is useless if the registry turns out not to accept chunks;
        an error in its deletion is ignored.
        """
        self.plant(Fault(), "PATCH")
        self.plant(unavailable(), "PATCH")
        await self.fails(RegistryUnavailable)
        session = self.remembered[-1]
        self.registry.chunks = False
        self.plant(Drop(BEFORE_HEADERS), "DELETE", None)
        self.assertEqual(await self.push(session=session), Pushed("uploaded"))
        self.capabilities.chunks = True
        self.registry.storage.repositories.clear()
        self.registry.storage.blobs.clear()
        self.registry.chunks = True
        self.plant(Fault(), "PATCH")
        self.plant(unavailable(), "PATCH")
        await self.fails(RegistryUnavailable)
        self.capabilities.chunks = False
        self.assertEqual(await self.push(session=self.remembered[-1]), Pushed("uploaded"))

    async def test_expired_elsewhere(self) -> None:
        """
        A foreign URL that is too old is replaced by a new session.
        """
        storage = await self.serve(guard=BasicGuard({}))
        registry = self.registry

        class Elsewhere(Fault):
            def on_answer(self, answer: Answer) -> Answer:
                location = f"{storage.url}/v2/team/a/blobs/uploads/{next(iter(registry._uploads))}"
                return SetHeader("Location", location).on_answer(answer)

        self.plant(Elsewhere(), "POST")
        self.assertEqual(await self.push(SMALL), Pushed("uploaded"))
        self.assertIn(Digest.of(SMALL), self.registry.storage.repositories["team/a"].blobs)
        self.assertEqual({e.authorization for e in storage.log}, {None})

    def test_names(self) -> None:
        """
        A repository provides its Interface, and no name of it shows a secret.
        """
        self.credentials = Credentials("ann", Secret("hunter2"))
        target = self.client.repository(Repository("hub.example", "team/a"))
        verifyObject(IRepository, target)
        self.assertEqual((target.host, target.label), ("hub.example", "hub.example/team/a"))
        client = self.client.endpoints("hub.example").own.client
        self.assertNotIn("hunter2", f"{target!r} {target.identity!r} {client!r}")
