"""
Tests for L{xferd.registry.client}, over a registry in memory.
"""

from __future__ import annotations

import json

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import ParseError, ResponseFailed
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface.verify import verifyObject

from tests.registry.fakes import MemoryRegistry, Sample, ScriptedAgent, failure_of, refuse, send_range
from xferd.errors import (
    BadDigest,
    BadDocument,
    BadReference,
    BlobUnknown,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    ManifestUnknown,
    RegistryError,
    RegistryUnavailable,
    SizeMismatch,
    SourceError,
    TimedOut,
    TooManyRequests,
    Truncated,
    UnsupportedImage,
)
from xferd.interfaces import IBlobBody, IBlobSource, IRegistries, IRegistry
from xferd.names import Digest, Repository
from xferd.oci import MAX_DOCUMENT, OCI_CONFIG, OCI_MANIFEST, Descriptor
from xferd.registry.client import Registries, Registry
from xferd.registry.credentials import Credentials, Secret
from xferd.registry.hosts import HostConfig
from xferd.registry.timeouts import Timeouts

_HOST = "hub.example"
_REPOSITORY = Repository(_HOST, "team/a")
_ME = Credentials("me", Secret("hunter2"))


class _ClientCase(SynchronousTestCase):
    """
    A client, and a registry in memory that holds an image.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.clock = Clock()
        self.server = MemoryRegistry()
        self.sample = Sample.of(b"0123456789" * 100)
        self.server.hold(self.sample)
        self.digest = Digest.of(self.sample.layer)
        self.credentials: Credentials | None = None
        self.agent = RequestTraversalAgent(self.server)
        self.registries = Registries(
            self.clock,
            hosts={},
            credentials=lambda _: self.credentials,
            timeouts=Timeouts(),
            agent=self.agent,
        )

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    @property
    def registry(self) -> Registry:
        """
        The registry as the client sees it.
        """
        return self.registries.registry(_HOST)

    def _open(self, offset: int = 0) -> Deferred[IBlobBody]:
        return self.registry.blobs(_REPOSITORY).open(self.digest, offset)

    def _read(self, body: IBlobBody) -> bytes:
        data = bytearray()
        self.successResultOf(body.deliver(data.extend))
        return bytes(data)

    def _descriptor(self, data: bytes, size: int | None = None) -> Descriptor:
        return Descriptor(OCI_CONFIG, Digest.of(data), len(data) if size is None else size)


class RegistriesTests(_ClientCase):
    """
    L{Registries} keeps what is to be shared.
    """

    def test_interfaces(self) -> None:
        """
        Each class provides its Interface.
        """
        verifyObject(IRegistries, self.registries)
        verifyObject(IRegistry, self.registry)
        verifyObject(IBlobSource, self.registry.blobs(_REPOSITORY))
        verifyObject(IBlobBody, self.successResultOf(self._open()))

    def test_shared(self) -> None:
        """
        The same host with the same credentials is the same registry; with
        others it is another.
        """
        first = self.registry
        self.assertIs(self.registry, first)
        self.credentials = _ME
        self.assertIsNot(self.registry, first)
        self.assertIsNot(self.registries.registry("other.example"), self.registry)

    def test_identity(self) -> None:
        """
        Sources are alike if host, path and credentials are, and none of their
        names shows a secret.
        """
        nobody = self.registry.blobs(_REPOSITORY)
        self.credentials = _ME
        mine, again = self.registry.blobs(_REPOSITORY), self.registry.blobs(_REPOSITORY)
        self.assertEqual(mine.identity, again.identity)
        self.assertNotEqual(mine.identity, nobody.identity)
        self.assertNotEqual(mine.identity, self.registry.blobs(Repository(_HOST, "team/b")).identity)
        self.assertEqual((mine.host, mine.label), (_HOST, "hub.example/team/a"))
        self.assertNotIn("hunter2", f"{mine!r} {mine.identity!r} {self.registry!r}")

    def test_close(self) -> None:
        """
        Without connections of our own, there is nothing to close.
        """
        self.successResultOf(self.registries.close())

    def test_defaults(self) -> None:
        """
        Everything but the reactor has a default.
        """
        self.assertEqual(Registries(self.clock, agent=self.agent).registry(_HOST).host, _HOST)


class ManifestTests(_ClientCase):
    """
    Manifests are fetched and checked.
    """

    def _manifest(self, wanted: str = "1") -> Deferred[object]:
        return self.registry.manifest(_REPOSITORY, wanted)  # type: ignore[return-value]

    def test_by_tag_and_digest(self) -> None:
        """
        Both ways lead to the same bytes, as they are.
        """
        for wanted in ("1", str(Digest.of(self.sample.manifest))):
            document = self.successResultOf(self.registry.manifest(_REPOSITORY, wanted))
            self.assertEqual(document.data, self.sample.manifest)
            self.assertEqual(document.media_type, OCI_MANIFEST)
            self.assertEqual(document.digest, Digest.of(self.sample.manifest))
        _, path, headers = self.server.log[0]
        self.assertEqual(path, "/v2/team/a/manifests/1")
        (accept,) = headers.getRawHeaders("Accept", [])
        self.assertIn(OCI_MANIFEST, accept)
        self.assertIn("manifest.list.v2+json", accept)

    def test_other_algorithm(self) -> None:
        """
        The registry may vouch for the bytes by another algorithm than was
        asked for; both are checked.
        """
        digest = str(Digest.of(self.sample.manifest))

        def fault(request: Request) -> bytes:
            request.setHeader("Content-Type", OCI_MANIFEST)
            request.setHeader("Docker-Content-Digest", self.vouch)
            return self.sample.manifest

        self.server.fault = fault
        self.vouch = str(Digest.of(self.sample.manifest, "sha512"))
        self.successResultOf(self._manifest(digest))
        self.vouch = str(Digest.of(b"else", "sha512"))
        failure_of(self, self._manifest(digest), DigestMismatch)
        self.vouch = "md5:abc"
        self.successResultOf(self._manifest(digest))

    def test_sha512(self) -> None:
        """
        A manifest may be asked for by sha512.
        """
        wanted = Digest.of(self.sample.manifest, "sha512")
        self.server.manifests[str(wanted)] = (OCI_MANIFEST, self.sample.manifest)
        document = self.successResultOf(self.registry.manifest(_REPOSITORY, str(wanted)))
        self.assertEqual(document.digest, wanted)

    def test_wrong_bytes(self) -> None:
        """
        Bytes that are not what was asked for, or not what the registry says,
        are refused.
        """
        other = str(Digest.of(b"other"))
        self.server.manifests[other] = (OCI_MANIFEST, self.sample.manifest)
        error = failure_of(self, self._manifest(other), DigestMismatch)
        self.assertIn("hub.example/team/a@sha256:", str(error))

    def test_unknown(self) -> None:
        """
        An image that is not there.
        """
        error = failure_of(self, self._manifest("2"), ManifestUnknown)
        self.assertIn("hub.example/team/a:2", str(error))

    def test_bad_names(self) -> None:
        """
        What is neither tag nor digest does not reach the registry.
        """
        failure_of(self, self._manifest("../x"), BadReference)
        failure_of(self, self._manifest("md5:abc"), BadDigest)
        self.assertEqual(self.server.log, [])

    def test_schema1(self) -> None:
        """
        A schema 1 manifest is refused as such, though its digest is not that
        of its bytes.
        """
        media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
        wanted = str(Digest.of(b"payload"))
        self.server.manifests[wanted] = (media_type, b'{"schemaVersion": 1, "fsLayers": []}')
        self.assertIn("schema 1", str(failure_of(self, self._manifest(wanted), UnsupportedImage)))

    def test_too_large(self) -> None:
        """
        A manifest that is too large is refused.
        """
        self.server.manifests["1"] = (OCI_MANIFEST, b"x" * (MAX_DOCUMENT + 1))
        failure_of(self, self._manifest(), BadDocument)

    def test_encoded(self) -> None:
        """
        A manifest that was encoded all the same is refused.
        """

        def fault(request: Request) -> None:
            request.setHeader("Content-Encoding", "gzip")

        self.server.fault = fault
        self.assertIn("gzip", str(failure_of(self, self._manifest(), RegistryError)))

    def test_refusals(self) -> None:
        """
        Other answers become the errors that they stand for.
        """
        for status, kind in (
            (403, Denied),
            (429, TooManyRequests),
            (502, RegistryUnavailable),
            (400, RegistryError),
        ):

            def fault(request: Request, status: int = status) -> bytes:
                request.setHeader("Retry-After", "17")
                return refuse(request, status, "SOME_CODE", "some words")

            self.server.fault = fault
            error = failure_of(self, self._manifest(), kind)
            assert isinstance(error, SourceError)
            self.assertEqual((error.status, error.host), (status, _HOST))
            self.assertIn("SOME_CODE: some words", str(error))
            self.assertEqual(error.retry_after, 17.0 if status in (429, 502) else None)

    def test_time(self) -> None:
        """
        The whole of a document has a limit, and can be cancelled.
        """
        self.server.fault = lambda _: NOT_DONE_YET
        waiting = self._manifest()
        self.clock.advance(50)
        failure_of(self, waiting, TimedOut)
        waiting = self._manifest()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_slow_document(self) -> None:
        """
        A document that trickles in is given up after its limit, however
        regularly bytes come.
        """
        requests: list[Request] = []

        def fault(request: Request) -> int:
            request.setHeader("Content-Length", "1000")
            request.write(b"x")
            requests.append(request)
            return NOT_DONE_YET

        self.server.fault = fault
        waiting = self._manifest()
        for _ in range(4):
            self.clock.advance(15)
            requests[0].write(b"x")
            self.agent.flush()
        error = failure_of(self, waiting, TimedOut)
        self.assertEqual(getattr(error, "phase", ""), "rate")


class DocumentTests(_ClientCase):
    """
    Configs are fetched whole and checked.
    """

    def test_fetched(self) -> None:
        """
        The bytes that the descriptor describes.
        """
        fetching = self.registry.document(_REPOSITORY, self._descriptor(self.sample.config))
        self.assertEqual(self.successResultOf(fetching), self.sample.config)

    def test_wrong_size(self) -> None:
        """
        More or fewer bytes than the descriptor says are refused.
        """
        for size in (len(self.sample.config) - 1, len(self.sample.config) + 1):
            descriptor = self._descriptor(self.sample.config, size)
            failure_of(self, self.registry.document(_REPOSITORY, descriptor), SizeMismatch)

    def test_wrong_digest(self) -> None:
        """
        Other bytes of the right size are refused.
        """
        self.server.blobs[str(Digest.of(b"abc"))] = b"abd"
        failure_of(self, self.registry.document(_REPOSITORY, self._descriptor(b"abc")), DigestMismatch)

    def test_unknown(self) -> None:
        """
        A config that is not there.
        """
        failure_of(self, self.registry.document(_REPOSITORY, self._descriptor(b"none")), BlobUnknown)

    def test_too_large(self) -> None:
        """
        A descriptor that is too large for a document is not even asked for.
        """
        descriptor = self._descriptor(b"x", MAX_DOCUMENT + 1)
        failure_of(self, self.registry.document(_REPOSITORY, descriptor), BadDocument)
        self.assertEqual(self.server.log, [])


class BlobTests(_ClientCase):
    """
    Blobs are opened anywhere, and what is no answer to that is refused.
    """

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        def fault(request: Request) -> bytes:
            request.setResponseCode(status)
            for name, value in headers.items():
                request.setHeader(name.replace("_", "-"), value)
            return body

        self.server.fault = fault

    def test_whole(self) -> None:
        """
        From the beginning, no range is asked for.
        """
        body = self.successResultOf(self._open())
        self.assertEqual((body.start, body.total), (0, 1000))
        self.assertEqual(self._read(body), self.sample.layer)
        self.assertIsNone(self.server.log[0][2].getRawHeaders("Range"))
        self.assertEqual(self.server.log[0][2].getRawHeaders("Accept-Encoding"), ["identity"])

    def test_rest(self) -> None:
        """
        From an offset on, the rest comes.
        """
        body = self.successResultOf(self._open(990))
        self.assertEqual((body.start, body.total), (990, 1000))
        self.assertEqual(self._read(body), self.sample.layer[990:])

    def test_range_ignored(self) -> None:
        """
        A registry that ignores Range is told by the start.
        """
        self._answer(200, self.sample.layer)
        body = self.successResultOf(self._open(990))
        self.assertEqual((body.start, body.total), (0, 1000))

    def test_behind_the_end(self) -> None:
        """
        416 says that the blob is shorter, and how long it is.
        """
        self.assertIn("1000 bytes", str(failure_of(self, self._open(1000), SizeMismatch)))
        self._answer(416)
        self.assertIn("shorter", str(failure_of(self, self._open(1000), SizeMismatch)))

    def test_wrong_range(self) -> None:
        """
        A 206 that is not the rest, or was not asked for, is refused.
        """
        for given in ("", "bytes 0-9/1000", "bytes 990-994/1000", "bytes 990-999/1000, 1-2", "junk"):
            self._answer(206, b"x" * 5, Content_Range=given)
            error = failure_of(self, self._open(990), RegistryError)
            self.assertEqual(getattr(error, "status", 0), 206)
        self._answer(206, b"x", Content_Range="bytes 0-0/1")
        failure_of(self, self._open(0), RegistryError)

    def test_short_body(self) -> None:
        """
        A body that ends early is a truncation.
        """

        def fault(request: Request) -> int:
            request.setHeader("Content-Length", "1000")
            request.write(self.sample.layer[:300])
            assert request.transport is not None
            request.transport.loseConnection()
            return NOT_DONE_YET

        self.server.fault = fault
        body = self.successResultOf(self._open())
        failure_of(self, body.deliver(lambda _: None), Truncated)

    def test_encoded(self) -> None:
        """
        Bytes that claim an encoding are taken as they are: some storage says
        so of gzipped layers, and the digest decides.
        """
        self._answer(200, b"\x1f\x8bjunk", Content_Encoding="gzip")
        self.assertEqual(self._read(self.successResultOf(self._open())), b"\x1f\x8bjunk")

    def test_unknown(self) -> None:
        """
        A blob that is not there, and statuses that mean nothing here.
        """
        self.server.blobs.clear()
        failure_of(self, self._open(), BlobUnknown)
        self._answer(204)
        failure_of(self, self._open(), RegistryError)

    def test_abandoned(self) -> None:
        """
        A body can be dropped unread.
        """
        body = self.successResultOf(self._open())
        body.abandon()
        body.abandon()

    def test_cancelled(self) -> None:
        """
        Opening can be cancelled.
        """
        self.server.fault = lambda _: NOT_DONE_YET
        opening = self._open()
        opening.cancel()
        self.failureResultOf(opening, CancelledError)


class StorageTests(_ClientCase):
    """
    Registries keep blobs elsewhere.
    """

    def setUp(self) -> None:
        """
        Let the registry redirect to storage, whose URLs carry a signature.
        """
        super().setUp()
        self.signature = 0
        self.refusals = 0
        self.status = 403
        self.server.user, self.server.password = "me", "hunter2"
        self.credentials = _ME
        self.server.fault = self._fault
        self.stored: list[tuple[str | None, str | None]] = []

    def _fault(self, request: Request) -> bytes | None:
        if request.path.startswith(b"/storage/"):
            self.stored.append((request.getHeader("Authorization"), request.getHeader("Range")))
            if self.refusals:
                self.refusals -= 1
                return refuse(request, self.status, "Expired", "signature")
            request.setHeader("Content-Type", "binary/octet-stream")
            return send_range(request, self.sample.layer)
        if request.getHeader("Authorization") == self.server.basic():
            self.signature += 1
            request.setResponseCode(307)
            request.setHeader("Location", f"https://cdn.example/storage/x?Signature={self.signature}")
            return b"moved"
        return None

    def test_redirected(self) -> None:
        """
        Storage gets the range, and no credentials.
        """
        body = self.successResultOf(self._open(995))
        self.assertEqual(self._read(body), self.sample.layer[995:])
        self.assertEqual(self.stored, [(None, "bytes=995-")])

    def test_expired(self) -> None:
        """
        When storage refuses, the registry is asked for another URL, once.
        """
        for self.status in (401, 403):
            self.refusals = 1
            before = self.signature
            self.assertEqual(self._read(self.successResultOf(self._open())), self.sample.layer)
            self.assertEqual(self.signature, before + 2)

    def test_refused(self) -> None:
        """
        When it refuses again, that is no matter of credentials.
        """
        self.refusals = 2
        error = failure_of(self, self._open(), RegistryError)
        self.assertIn("cdn.example", str(error))
        self.assertNotIn("Signature", str(error))
        self.assertNotIsInstance(error, Denied)

    def test_asked_again(self) -> None:
        """
        A second request goes to the registry again, not to a remembered URL.
        """
        for _ in range(2):
            self._read(self.successResultOf(self._open(10)))
        self.assertEqual(self.signature, 2)

    def test_trouble(self) -> None:
        """
        Storage's other troubles are the source's.
        """
        for self.status, kind in ((404, BlobUnknown), (429, TooManyRequests), (503, RegistryUnavailable)):
            self.refusals = 1
            failure_of(self, self._open(), kind)


class AuthenticationTests(_ClientCase):
    """
    The proof that a registry wants is brought.
    """

    def test_basic(self) -> None:
        """
        After one 401, user and password go along with each request.
        """
        self.server.user, self.server.password = "me", "hunter2"
        self.credentials = _ME
        for _ in range(2):
            self.successResultOf(self.registry.manifest(_REPOSITORY, "1"))
        self.assertEqual(
            [headers.getRawHeaders("Authorization") for _, _, headers in self.server.log],
            [None, [self.server.basic()], [self.server.basic()]],
        )

    def test_denied(self) -> None:
        """
        Wrong credentials are tried once.
        """
        self.server.user, self.server.password = "me", "other"
        for self.credentials in (_ME, None):
            self.server.log.clear()
            error = failure_of(self, self.registry.manifest(_REPOSITORY, "1"), Denied)
            self.assertNotIn("hunter2", str(error))
            self.assertLessEqual(len(self.server.log), 2)

    def test_no_challenge(self) -> None:
        """
        A 401 without a challenge is a denial.
        """
        self.server.fault = lambda request: refuse(request, 401, "UNAUTHORIZED", "go away")
        self.assertIn("go away", str(failure_of(self, self.registry.manifest(_REPOSITORY, "1"), Denied)))

    def _bearer(self, valid: set[str]) -> None:
        """
        Let the registry want one of some tokens, and hand out C{t1}, C{t2}...
        """
        self.tokens = 0

        def fault(request: Request) -> bytes | None:
            if request.path == b"/token":
                self.tokens += 1
                return json.dumps({"token": f"t{self.tokens}", "expires_in": 300}).encode()
            if (request.getHeader("Authorization") or "").removeprefix("Bearer ") in valid:
                return None
            request.setHeader("WWW-Authenticate", 'Bearer realm="https://auth.example/token",service="s"')
            return refuse(request, 401, "UNAUTHORIZED", "no")

        self.server.fault = fault

    def test_bearer(self) -> None:
        """
        A token is fetched once for a repository.
        """
        self._bearer({"t1"})
        self.successResultOf(self.registry.manifest(_REPOSITORY, "1"))
        self.successResultOf(self.registry.document(_REPOSITORY, self._descriptor(self.sample.config)))
        self.successResultOf(self._open()).abandon()
        self.assertEqual(self.tokens, 1)

    def test_refreshed(self) -> None:
        """
        A token that the registry refuses is refreshed, once.
        """
        valid = {"t1"}
        self._bearer(valid)
        self.successResultOf(self.registry.manifest(_REPOSITORY, "1"))
        valid.clear()
        valid.add("t2")
        self.successResultOf(self._open()).abandon()
        self.assertEqual(self.tokens, 2)
        valid.clear()
        failure_of(self, self._open(), Denied)
        self.assertEqual(self.tokens, 3)


class LoopbackTests(SynchronousTestCase):
    """
    How a registry on this machine speaks is found out.
    """

    def setUp(self) -> None:
        """
        Make a client over an agent whose answers are ours.
        """
        self.clock = Clock()
        self.agent = ScriptedAgent()
        self.registries = Registries(self.clock, agent=self.agent)
        self.repository = Repository("localhost:5000", "a")

    def _open(self) -> Deferred[IBlobBody]:
        return self.registries.registry("localhost:5000").blobs(self.repository).open(Digest.of(b"x"), 0)

    def _urls(self) -> list[str]:
        urls = [each.url.partition("/blobs/")[0] for each in self.agent.asked]
        self.agent.asked.clear()
        return urls

    def test_plain(self) -> None:
        """
        One that answers plain HTTP is spoken to so; that is asked but once.
        """
        opening = self._open()
        self.agent.respond(401)
        self.agent.respond(200)
        self.successResultOf(opening)
        self.assertEqual(self._urls(), ["http://localhost:5000/v2/", "http://localhost:5000/v2/a"])
        opening = self._open()
        self.agent.respond(200)
        self.successResultOf(opening)
        self.assertEqual(self._urls(), ["http://localhost:5000/v2/a"])

    def test_tls(self) -> None:
        """
        One that says 400, nothing or nonsense to plain HTTP is spoken to by
        TLS.
        """
        for error in (None, ConnectRefused(), ResponseFailed([Failure(ParseError("x", b""))])):
            opening = self._open()
            if error is None:
                self.agent.respond(400, body=b"Client sent an HTTP request to an HTTPS server.")
            else:
                self.agent.last.answer.errback(error)
            self.agent.last.answer.errback(ConnectRefused())
            failure_of(self, opening, ConnectionFailed)
            self.assertEqual(self._urls(), ["http://localhost:5000/v2/", "https://localhost:5000/v2/a"])

    def test_redirected(self) -> None:
        """
        One that sends us from plain HTTP to TLS is spoken to by TLS.
        """
        opening = self._open()
        self.agent.respond(301, {"Location": "https://localhost:5443/v2/"})
        self.agent.respond(200)
        self.agent.respond(200)
        self.successResultOf(opening)
        self.assertEqual(self._urls()[-1], "https://localhost:5000/v2/a")

    def test_forgotten(self) -> None:
        """
        When it does not answer any more, or says 400, it is found out anew.
        """
        for status in (0, 400):
            opening = self._open()
            self.agent.respond(200)
            if status:
                self.agent.respond(status)
            else:
                self.agent.last.answer.errback(ConnectRefused())
            failure_of(self, opening, SourceError)
            self.assertEqual(len(self._urls()), 2)

    def test_configured(self) -> None:
        """
        What the operator says is not questioned.
        """
        self.registries = Registries(
            self.clock, agent=self.agent, hosts={"localhost:5000": HostConfig(plain_http=True)}
        )
        opening = self._open()
        self.agent.respond(200)
        self.successResultOf(opening)
        self.assertEqual(self._urls(), ["http://localhost:5000/v2/a"])
