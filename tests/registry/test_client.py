"""
Tests for L{xferd.registry.client}, over a registry in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sized
from weakref import ref

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web._newclient import ParseError, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.server import Request
from zope.interface.verify import verifyObject

from tests.registry.cases import HOST, ME, REPOSITORY, ClientCase
from tests.registry.fakes import ScriptedAgent, failure_of, refuse
from xferd.credentials import Credentials, Secret
from xferd.errors import (
    ConnectionFailed,
    Denied,
    RegistryError,
    SourceError,
)
from xferd.expiring import KEEP, MOST
from xferd.interfaces.registry import IBlobBody, IRegistries, IRepository
from xferd.names import Digest, Repository
from xferd.realms import PUBLIC
from xferd.registry.client import Registries
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.repository import RemoteRepository

YOU = Credentials("you", Secret("sesame"))


class RegistriesTests(ClientCase):
    """
    L{Registries} keeps the shared objects.
    """

    def test_interfaces(self) -> None:
        """
        Each class provides its Interface.
        """
        verifyObject(IRegistries, self.registries)
        verifyObject(IRegistries, self.registries.seen_by({}))
        verifyObject(IRegistries, self.registries.anonymous())
        verifyObject(IRepository, self.repository)
        verifyObject(IBlobBody, self.successResultOf(self.open_blob()))

    def test_shared(self) -> None:
        """
        Equal credentials for a host share the knowledge of its servers, as long
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

    def test_anonymous(self) -> None:
        """
        Anonymous sources are apart from those of the daemon's user, and from those of
        the clients that have credentials.
        """
        nobody = self.registries.anonymous()
        source = nobody.repository(REPOSITORY)
        self.assertEqual(source.identity, nobody.anonymous().repository(REPOSITORY).identity)
        self.assertNotEqual(source.identity, self.repository.identity)
        self.assertNotEqual(source.account, self.repository.account)
        self.assertEqual((source.origin, self.repository.origin), (PUBLIC, f"credentials@{REPOSITORY}"))
        self.assertIs(nobody.endpoints(HOST), self.registries.seen_by({}).anonymous().endpoints(HOST))
        mine = nobody.seen_by({HOST: ME})
        self.assertEqual(
            mine.repository(REPOSITORY).identity,
            self.registries.seen_by({HOST: ME}).repository(REPOSITORY).identity,
        )
        self.assertIs(mine.endpoints("other.example"), nobody.endpoints("other.example"))

    def test_close(self) -> None:
        """
        Without connections of our own, there is nothing to close.
        """
        self.successResultOf(self.registries.close())
        self.successResultOf(self.registries.seen_by({}).close())
        self.successResultOf(self.registries.anonymous().close())

    def test_defaults(self) -> None:
        """
        Everything but the clocks has a default.
        """
        registries = Registries(self.clock, wall_clock=self.wall_clock, agent=self.agent)
        self.assertEqual(registries.repository(REPOSITORY).host, HOST)


class AuthenticationTests(ClientCase):
    """
    Requests have the authorization that the registry demands.
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

    def test_anonymous(self) -> None:
        """
        Without credentials, those of the daemon's user are not used.
        """
        self.server.user, self.server.password = "me", "hunter2"
        self.credentials = ME
        nobody = self.registries.anonymous()
        failure_of(self, nobody.repository(REPOSITORY).manifest("1"), Denied)
        failure_of(self, nobody.check(HOST), Denied)
        self.assertEqual({headers.hasHeader("Authorization") for _, _, headers in self.server.log}, {False})
        self.successResultOf(nobody.seen_by({HOST: ME}).repository(REPOSITORY).manifest("1"))

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
        One client's credentials are used for it alone: requests of another,
        and of the daemon itself, use their own.
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
        A host that cannot be connected to is refused in one sentence,
        for every caller.
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
        Credentials can be tried; a refusal names their origin.
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
    The memory for registries does not grow with their number.
    """

    def sizes(self) -> set[int]:
        """
        How much the tables hold.
        """
        registries = self.registries
        hosts = registries._context.hosts
        tables: tuple[Sized, ...] = (
            registries._endpoints,
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
        Those that were not used for an hour are dropped, and no others.
        """
        often, seldom = (self.registries.endpoints(host) for host in ("often.example", "seldom.example"))
        capabilities = often.own.client.capabilities
        for _ in range(3):
            self.clock.advance(KEEP / 2)
            self.assertIs(self.registries.endpoints("often.example"), often)
        self.assertIs(self.registries._context.capabilities.of("often.example"), capabilities)
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
    Detection of the protocol of a registry on this machine.
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
        One that answers plain HTTP is reached by it; that is tried once.
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
        One that answers plain HTTP with 400, not at all or with
        nonsense is reached by TLS.
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
        If it no longer answers, or answers 400, the protocol is detected again.
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
        The configuration applies without a trial.
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
