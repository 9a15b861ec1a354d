"""
Tests for L{xferd.registry.client}, over a registry in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sized
from weakref import ref

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import ParseError, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface.verify import verifyObject

from tests.registry.cases import HOST, ME, REPOSITORY, ClientCase
from tests.registry.fakes import ScriptedAgent, failure_of, refuse
from xferd.credentials import Credentials, Secret
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
    UnsupportedImage,
)
from xferd.expiring import KEEP, MOST
from xferd.interfaces.registry import IBlobBody, IRegistries, IRepository
from xferd.media_types import ACCEPT, OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import MAX_DOCUMENT
from xferd.registry.client import Registries
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.repository import RemoteRepository

YOU = Credentials("you", Secret("sesame"))


class RegistriesTests(ClientCase):
    """
    L{Registries} keeps what is to be shared.
    """

    def test_interfaces(self) -> None:
        """
        Each class provides its Interface.
        """
        verifyObject(IRegistries, self.registries)
        verifyObject(IRegistries, self.registries.seen_by({}))
        verifyObject(IRepository, self.repository)
        verifyObject(IBlobBody, self.successResultOf(self.open_blob()))

    def test_shared(self) -> None:
        """
        Equal credentials for a host share what is known of its servers, as long
        as a client has them; other credentials do not.
        """
        first = self.registries.endpoints(HOST)
        self.assertIs(self.registries.endpoints(HOST), first)
        theirs = self.registries.seen_by({HOST: ME})
        client = theirs.endpoints(HOST)
        self.assertIsNot(client, first)
        self.assertIs(self.registries.seen_by({HOST: ME}).endpoints(HOST), client)
        self.assertIsNot(self.registries.seen_by({HOST: YOU}).endpoints(HOST), client)
        self.assertIsNot(theirs.seen_by({HOST: YOU}).endpoints(HOST), client)
        self.assertIs(theirs.endpoints("other.example"), self.registries.endpoints("other.example"))
        known = ref(client)
        del client
        self.assertIs(known(), theirs.endpoints(HOST))
        repository = theirs.repository(REPOSITORY)
        del theirs
        self.assertIsNotNone(known())
        del repository
        self.assertIsNone(known())
        self.assertIsNot(self.registries.endpoints("other.example"), first)

    def test_identity(self) -> None:
        """
        Sources are alike if host, path and credentials are, and none of their
        names shows a secret.
        """
        nobody = self.repository
        mine, again = (self.registries.seen_by({HOST: ME}).repository(REPOSITORY) for _ in "12")
        self.assertEqual(mine.identity, again.identity)
        self.assertNotEqual(mine.identity, nobody.identity)
        self.assertNotEqual(nobody.identity, self.registries.repository(Repository(HOST, "team/b")).identity)
        self.assertEqual((mine.host, mine.label), (HOST, "hub.example/team/a"))
        self.assertNotIn(
            "hunter2", f"{mine!r} {mine.identity!r} {self.registries.endpoints(HOST).own.client!r}"
        )

    def test_close(self) -> None:
        """
        Without connections of our own, there is nothing to close.
        """
        self.successResultOf(self.registries.close())
        self.successResultOf(self.registries.seen_by({}).close())

    def test_defaults(self) -> None:
        """
        Everything but the clocks has a default.
        """
        registries = Registries(self.clock, wall_clock=self.wall_clock, agent=self.agent)
        self.assertEqual(registries.repository(REPOSITORY).host, HOST)


class ManifestTests(ClientCase):
    """
    Manifests are fetched and checked.
    """

    def _manifest(self, wanted: str = "1") -> Deferred[object]:
        return self.repository.manifest(wanted)  # type: ignore[return-value]

    def test_by_tag_and_digest(self) -> None:
        """
        Both ways lead to the same bytes, as they are.
        """
        for wanted in ("1", str(Digest.of(self.sample.manifest))):
            document = self.successResultOf(self.repository.manifest(wanted))
            self.assertEqual(document.data, self.sample.manifest)
            self.assertEqual(document.media_type, OCI_MANIFEST)
            self.assertEqual(document.digest, Digest.of(self.sample.manifest))
        _, path, headers = self.server.log[0]
        self.assertEqual(path, "/v2/team/a/manifests/1")
        # All types on the first line, and one line for each.
        first, *lines = headers.getRawHeaders("Accept", [])
        self.assertEqual(first, ", ".join(lines))
        for media_type in ACCEPT:
            self.assertIn(media_type, lines)

    def test_warnings(self) -> None:
        """
        What the registry warns of is told each time, with the repository that
        it was asked about.
        """
        told: list[tuple[Repository, str]] = []

        def warned(repository: Repository, text: str) -> None:
            told.append((repository, text))

        def warn(request: Request) -> None:
            request.setHeader("Warning", '299 - "gone soon"')

        self.server.fault = warn
        registries = Registries(self.clock, wall_clock=self.wall_clock, agent=self.agent, on_warning=warned)
        for _ in range(2):
            self.successResultOf(registries.repository(REPOSITORY).manifest("1"))
        self.assertEqual(told, [(REPOSITORY, "gone soon")] * 2)

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
        document = self.successResultOf(self.repository.manifest(str(wanted)))
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
            self.assertEqual((error.status, error.host), (status, HOST))
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


class DocumentTests(ClientCase):
    """
    Configs are fetched whole and checked.
    """

    def test_fetched(self) -> None:
        """
        The bytes that the descriptor describes.
        """
        fetching = self.repository.config(self.describe(self.sample.config))
        self.assertEqual(self.successResultOf(fetching), self.sample.config)

    def test_wrong_size(self) -> None:
        """
        More or fewer bytes than the descriptor says are refused.
        """
        for size in (len(self.sample.config) - 1, len(self.sample.config) + 1):
            descriptor = self.describe(self.sample.config, size)
            failure_of(self, self.repository.config(descriptor), SizeMismatch)

    def test_wrong_digest(self) -> None:
        """
        Other bytes of the right size are refused.
        """
        self.server.blobs[str(Digest.of(b"abc"))] = b"abd"
        failure_of(self, self.repository.config(self.describe(b"abc")), DigestMismatch)

    def test_unknown(self) -> None:
        """
        A config that is not there.
        """
        failure_of(self, self.repository.config(self.describe(b"none")), BlobUnknown)

    def test_too_large(self) -> None:
        """
        A descriptor that is too large for a document is not even asked for.
        """
        descriptor = self.describe(b"x", MAX_DOCUMENT + 1)
        failure_of(self, self.repository.config(descriptor), BadDocument)
        self.assertEqual(self.server.log, [])


class AuthenticationTests(ClientCase):
    """
    The proof that a registry wants is brought.
    """

    def test_basic(self) -> None:
        """
        After one 401, user and password go along with each request.
        """
        self.server.user, self.server.password = "me", "hunter2"
        self.credentials = ME
        for _ in range(2):
            self.successResultOf(self.repository.manifest("1"))
        self.assertEqual(
            [headers.getRawHeaders("Authorization") for _, _, headers in self.server.log],
            [None, [self.server.basic()], [self.server.basic()]],
        )

    def test_denied(self) -> None:
        """
        Wrong credentials are tried once.
        """
        self.server.user, self.server.password = "me", "other"
        for self.credentials in (ME, None):
            self.server.log.clear()
            error = failure_of(self, self.repository.manifest("1"), Denied)
            self.assertNotIn("hunter2", str(error))
            self.assertLessEqual(len(self.server.log), 2)

    def test_of_a_client(self) -> None:
        """
        What one client brought is used for it alone: for another, and for the
        daemon itself, the registry is asked with what they have.
        """
        self.server.user, self.server.password = "me", "hunter2"
        mine = self.registries.seen_by({HOST: ME}).repository(REPOSITORY)
        self.successResultOf(mine.manifest("1"))
        yours = self.registries.seen_by({HOST: YOU}).repository(REPOSITORY)
        failure_of(self, yours.manifest("1"), Denied)
        failure_of(self, self.repository.manifest("1"), Denied)
        self.successResultOf(mine.manifest("1"))

    def test_no_host(self) -> None:
        """
        A host that stands for no server is refused in one sentence, whoever
        named it.
        """
        for host in ("127.1", "2130706433:5000", "[::..]:5000", "[1.2.3.4]"):
            opening = self.registries.repository(Repository(host, "a")).open(self.digest, 0)
            for error in (
                failure_of(self, self.registries.check(host), RegistryError),
                failure_of(self, opening, RegistryError),
            ):
                self.assertIn("cannot be requested", str(error))

    def test_check(self) -> None:
        """
        Credentials can be tried; a refusal says whose they are.
        """
        self.server.user, self.server.password = "me", "hunter2"
        self.credentials = evolve(ME, origin="/c.json")
        self.successResultOf(self.registries.check(HOST))
        self.server.password = "other"
        error = str(failure_of(self, self.registries.check(HOST), Denied))
        self.assertIn("does not accept a login with the credentials of me from /c.json (401", error)
        self.assertIn("'xferctl login hub.example' renews them", error)
        self.credentials = None
        self.assertIn("without credentials", str(failure_of(self, self.registries.check(HOST), Denied)))
        self.server.user = ""
        self.successResultOf(self.registries.check(HOST))

    def test_no_challenge(self) -> None:
        """
        A 401 without a challenge is a denial.
        """
        self.server.fault = lambda request: refuse(request, 401, "UNAUTHORIZED", "go away")
        self.assertIn("go away", str(failure_of(self, self.repository.manifest("1"), Denied)))

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
        self.successResultOf(self.repository.manifest("1"))
        self.successResultOf(self.repository.config(self.describe(self.sample.config)))
        self.successResultOf(self.open_blob()).abandon()
        self.assertEqual(self.tokens, 1)

    def test_refreshed(self) -> None:
        """
        A token that the registry refuses is refreshed, once.
        """
        valid = {"t1"}
        self._bearer(valid)
        self.successResultOf(self.repository.manifest("1"))
        valid.clear()
        valid.add("t2")
        self.successResultOf(self.open_blob()).abandon()
        self.assertEqual(self.tokens, 2)
        valid.clear()
        failure_of(self, self.open_blob(), Denied)
        self.assertEqual(self.tokens, 3)


class MemoryTests(ClientCase):
    """
    What is known of registries does not grow with their number.
    """

    def sizes(self) -> set[int]:
        """
        How much the tables hold.
        """
        registries = self.registries
        hosts = registries._context.hosts
        tables: tuple[Sized, ...] = (
            registries._endpoints,
            registries._breakers,
            registries._context.capabilities,
            registries._context.exchange._warned,
            registries._certs_dirs._known,
            hosts._learned,
        )
        return {len(table) for table in tables}

    def test_many(self) -> None:
        """
        Of many registries, those that were used last are known.
        """
        exchange, hosts = self.registries._context.exchange, self.registries._context.hosts
        for n in range(MOST + 50):
            self.registries.endpoints(f"r{n}.example")
            hosts.learn(f"localhost:{n}", True)
            hosts.tls_options("localhost", n)
            exchange._show_warnings(Headers({"Warning": [f'299 - "gone soon {n}"']}), "r.example")
        self.assertEqual(self.sizes(), {MOST})
        self.assertEqual(len(hosts._options), 50)

    def test_expired(self) -> None:
        """
        Those that nobody used for an hour are dropped, and no other.
        """
        often, seldom = (self.registries.endpoints(host) for host in ("often.example", "seldom.example"))
        capabilities = often.own.client.capabilities
        for _ in range(3):
            self.clock.advance(KEEP / 2)
            self.assertIs(self.registries.endpoints("often.example"), often)
        self.assertIs(self.registries._context.capabilities.get("often.example"), capabilities)
        self.assertEqual(len(self.registries._endpoints), 1)
        self.assertEqual(len(self.registries._context.capabilities), 1)
        self.assertIsNot(self.registries.endpoints("seldom.example"), seldom)

    def test_tokens(self) -> None:
        """
        Tokens that are not used are dropped, though they are valid for long.
        """

        def challenge(request: Request) -> bytes | None:
            if request.path == b"/token":
                return json.dumps({"token": "t", "expires_in": 10**8}).encode()
            if request.getHeader("Authorization"):
                return None
            request.setHeader("WWW-Authenticate", 'Bearer realm="https://hub.example/token"')
            return refuse(request, 401, "UNAUTHORIZED", "no")

        self.server.fault = challenge
        endpoints = self.registries.endpoints(HOST)

        def fetch(path: str) -> None:
            self.successResultOf(RemoteRepository(endpoints, Repository(HOST, path)).manifest("1"))

        for n in range(5):
            fetch(f"a{n}")
        authenticator = endpoints.own.client._authenticator
        self.assertEqual(len(authenticator._tokens), 5)
        self.clock.advance(KEEP + 1)
        fetch("b")
        self.assertEqual((len(authenticator._tokens), len(authenticator._asked_scopes)), (1, 0))


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
        self.registries = Registries(self.clock, wall_clock=self.clock.seconds, agent=self.agent)
        self.repository = Repository("localhost:5000", "a")

    def _open(self) -> Deferred[IBlobBody]:
        return self.registries.repository(self.repository).open(Digest.of(b"x"), 0)

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
        One that redirects elsewhere speaks plain HTTP; one that redirects to
        its own port by TLS is spoken to by TLS.
        """
        for location, scheme in (
            ("http://127.0.0.1:5001/v2/", "http"),
            ("https://localhost:5443/v2/", "http"),
            ("https://registry.example/v2/", "http"),
            ("ftp://x", "http"),
            ("/elsewhere/", "http"),
            ("https://localhost:5000/v2/", "https"),
        ):
            self.setUp()
            opening = self._open()
            self.agent.respond(307, {"Location": location})
            self.agent.respond(200)
            self.successResultOf(opening)
            self.assertEqual(self._urls(), ["http://localhost:5000/v2/", f"{scheme}://localhost:5000/v2/a"])

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
            self.clock,
            wall_clock=self.clock.seconds,
            agent=self.agent,
            hosts={"localhost:5000": HostConfig(plain_http=True)},
        )
        opening = self._open()
        self.agent.respond(200)
        self.successResultOf(opening)
        self.assertEqual(self._urls(), ["http://localhost:5000/v2/a"])
