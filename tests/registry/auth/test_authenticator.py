"""
Tests for L{xferd.registry.auth.authenticator}.
"""

from __future__ import annotations

import json
from base64 import b64encode
from email.utils import formatdate
from urllib.parse import parse_qs, parse_qsl, urlsplit

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.fakes import ScriptedAgent, failure_of
from xferd.credentials import Credentials, Secret
from xferd.errors import (
    CredentialsUnavailable,
    Denied,
    ManifestUnknown,
    RegistryError,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
)
from xferd.registry.auth.authenticator import MAX_TOKEN_ANSWER, Authenticator
from xferd.registry.auth.challenge import Challenge
from xferd.registry.transport.errors import CredentialsUsed, Resource
from xferd.registry.transport.exchange import Authorization, Exchange
from xferd.registry.transport.limited_endpoint import StaleConnection
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.urls import Origin
from xferd.registry.transport.zones import Zone
from xferd.testing.fake_wall_clock import BEGIN
from xferd.testing.fakes import FakeKeychain, FakeWallClock

_WHAT = Resource("hub.example", "hub.example/a:1", ManifestUnknown)
_SCOPE = "repository:a:pull"
_REALM = "https://auth.example/token"
_ME = Credentials("me", Secret("hunter2"))
_BASIC = "Basic " + b64encode(b"me:hunter2").decode()


def _bearer(**parameters: str) -> Challenge:
    return Challenge("bearer", {"realm": _REALM, "service": "s", **parameters})


class _AuthCase(SynchronousTestCase):
    """
    An authenticator over an agent whose answers are ours.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.clock = Clock()
        self.clock.advance(1000)
        self.wall_clock = FakeWallClock(self.clock)
        self.agent = ScriptedAgent()
        self.url = "https://hub.example"
        self.zone = Zone.PUBLIC

    def _authenticator(self, credentials: Credentials | None = None) -> Authenticator:
        timeouts = Timeouts(token=7)
        self.keychain = FakeKeychain(lambda: credentials, where="/c.json")
        return Authenticator(
            "hub.example",
            lambda: self.url,
            self.keychain,
            exchange=Exchange(lambda *_: self.agent, self.clock, timeouts),
            clock=self.clock,
            wall_clock=self.wall_clock,
            timeouts=timeouts,
            zone=lambda: self.zone,
        )

    def _ask(self, authenticator: Authenticator, scope: str = _SCOPE) -> Deferred[str | None]:
        asking = Deferred.fromCoroutine(authenticator.authorization(scope, _WHAT))
        return asking.addCallback(lambda proof: None if proof is None else proof.secret.reveal())

    def _challenge(
        self, authenticator: Authenticator, *challenges: Challenge, sent: str | None = None
    ) -> Deferred[None]:
        proof = (
            None
            if sent is None
            else Authorization(Secret(sent), CredentialsUsed("with a secret", login=True))
        )
        return Deferred.fromCoroutine(authenticator.challenged(challenges, _SCOPE, proof, _WHAT))

    def _give(self, token: str, **more: object) -> None:
        self.agent.respond(200, body=json.dumps({"token": token, **more}).encode())


class BasicTests(_AuthCase):
    """
    Basic sends user and password.
    """

    def test_unasked(self) -> None:
        """
        Before a challenge, no authorization is sent.
        """
        self.assertIsNone(self.successResultOf(self._ask(self._authenticator(_ME))))

    def test_basic(self) -> None:
        """
        Once it has, user and password are sent with every request.
        """
        authenticator = self._authenticator(_ME)
        self.successResultOf(self._challenge(authenticator, Challenge("negotiate"), Challenge("basic")))
        self.assertEqual(self.successResultOf(self._ask(authenticator)), _BASIC)
        self.assertEqual(self.successResultOf(self._ask(authenticator, "other")), _BASIC)

    def test_refused(self) -> None:
        """
        User and password that were refused are not sent again.
        """
        authenticator = self._authenticator(_ME)
        error = failure_of(self, self._challenge(authenticator, Challenge("basic"), sent=_BASIC), Denied)
        self.assertNotIn("hunter2", str(error))
        self.assertIn("does not accept a login with a secret", str(error))
        self.assertEqual(self.keychain.forgotten, ["hub.example"])

    def test_nobody(self) -> None:
        """
        Without a password, the error has the remedy.
        """
        for credentials in (None, Credentials("", Secret(""), Secret("identity"))):
            asking = self._challenge(self._authenticator(credentials), Challenge("basic"))
            error = str(failure_of(self, asking, Denied))
            self.assertIn("'xferctl login hub.example'", error)
            self.assertEqual("/c.json has none for it" in error, credentials is None)

    def test_unknown(self) -> None:
        """
        Other schemes are named.
        """
        asking = self._challenge(self._authenticator(_ME), Challenge("ntlm"), Challenge("bearer"))
        self.assertIn("bearer, ntlm", str(failure_of(self, asking, Denied)))


class BearerTests(_AuthCase):
    """
    Bearer fetches tokens, keeps them, and fetches each but once.
    """

    def tearDown(self) -> None:
        """
        Whatever happened, no timer is left.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def _challenged(self, credentials: Credentials | None = None, **parameters: str) -> Authenticator:
        authenticator = self._authenticator(credentials)
        self.successResultOf(self._challenge(authenticator, Challenge("basic"), _bearer(**parameters)))
        return authenticator

    def test_anonymous(self) -> None:
        """
        An anonymous client gets a token as well: for the service and the scope.
        """
        asking = self._ask(self._challenged())
        url = urlsplit(self.agent.last.url)
        self.assertEqual(f"{url.scheme}://{url.netloc}{url.path}", _REALM)
        self.assertEqual(parse_qs(url.query), {"service": ["s"], "scope": [_SCOPE], "client_id": ["xferd"]})
        self.assertIsNone(self.agent.last.header("Authorization"))
        self._give("t1")
        self.assertEqual(self.successResultOf(asking), "Bearer t1")

    def test_password(self) -> None:
        """
        The token server gets the password; a realm keeps its own query.
        """
        asking = self._ask(self._challenged(_ME, realm=f"{_REALM}?a=b#c", service=""))
        self.assertEqual(self.agent.last.header("Authorization"), _BASIC)
        self.assertTrue(self.agent.last.url.startswith(f"{_REALM}?a=b&scope="))
        self.agent.respond(200, body=b'{"access_token": "t2"}')
        self.assertEqual(self.successResultOf(asking), "Bearer t2")

    def test_identity_token(self) -> None:
        """
        An identity token is posted, not put into an URL.
        """
        asking = self._ask(self._challenged(Credentials("", identity_token=Secret("id"))))
        asked = self.agent.last
        self.assertEqual((asked.method, asked.url), (b"POST", _REALM))
        assert asked.body is not None
        sent = StringTransport()
        self.successResultOf(asked.body.startProducing(sent))
        asked.body.pauseProducing()
        self.assertEqual(asked.body.length, len(sent.value()))
        form = dict(parse_qsl(sent.value().decode()))
        self.assertEqual(
            (form["grant_type"], form["refresh_token"], form["scope"]), ("refresh_token", "id", _SCOPE)
        )
        self._give("t3")
        self.assertEqual(self.successResultOf(asking), "Bearer t3")

    def test_stale_connection(self) -> None:
        """
        An identity token is posted again where the connection that was kept
        had been closed, and no more than once.
        """
        authenticator = self._challenged(Credentials("", identity_token=Secret("id")))
        asking = self._ask(authenticator)
        self.agent.last.answer.errback(StaleConnection("it closed the connection"))
        self._give("t4")
        self.assertEqual(self.successResultOf(asking), "Bearer t4")
        self.assertEqual([each.method for each in self.agent.asked], [b"POST"] * 2)
        asking = self._ask(authenticator, "other")
        for _ in range(2):
            self.agent.last.answer.errback(StaleConnection("it closed the connection"))
        failure_of(self, asking, StaleConnection)

    def test_no_oauth(self) -> None:
        """
        A token server without the OAuth2 form gets the identity token as a
        password; when it refuses that, too, the first refusal counts.
        """
        who = Credentials("me", identity_token=Secret("id"), origin="/c.json")
        for status in (401, 404, 405):
            asking = self._ask(self._challenged(who))
            self.agent.respond(status, body=b'{"details": "no such form"}')
            self.assertEqual(self.agent.last.method, b"GET")
            header = "Basic " + b64encode(b"me:id").decode()
            self.assertEqual(self.agent.last.header("Authorization"), header)
            self._give("t")
            self.assertEqual(self.successResultOf(asking), "Bearer t")
        asking = self._ask(self._challenged(who, realm=f"{self.url}/token"))
        self.agent.respond(401, body=b'{"details": "it has expired"}')
        self.agent.respond(404)
        error = str(failure_of(self, asking, Denied))
        self.assertIn("with the credentials of me from /c.json (token server hub.example: 401", error)
        self.assertIn("it has expired", error)
        self.assertIn("'xferctl login hub.example' renews them", error)
        self.assertEqual(self.keychain.forgotten, ["hub.example"])
        asking = self._ask(self._challenged(who))
        self.agent.respond(405)
        self.agent.respond(503)
        failure_of(self, asking, RegistryUnavailable)

    def test_no_oauth_cancelled(self) -> None:
        """
        The second form can be given up as the first can.
        """
        asking = self._ask(self._challenged(Credentials("", identity_token=Secret("id"))))
        self.agent.respond(405)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(self.agent.last.cancelled)

    def test_registry_token(self) -> None:
        """
        A registry token is sent as it is; nothing renews it.
        """
        who = Credentials("", registry_token=Secret("rt"), origin="a header", remedy="send others")
        authenticator = self._challenged(who)
        self.assertEqual(self.successResultOf(self._ask(authenticator)), "Bearer rt")
        error = failure_of(self, self._challenge(authenticator, _bearer(), sent="Bearer rt"), Denied)
        self.assertIn("does not accept a login", str(error))
        self.assertEqual(self.agent.asked, [])

    def test_each_their_own(self) -> None:
        """
        When credentials change, so do tokens; and they are looked up for the
        repository.
        """
        who = [_ME]
        authenticator = self._challenged(_ME)
        authenticator._keychain = keychain = FakeKeychain(lambda: who[0])
        asking = self._ask(authenticator)
        self._give("mine")
        self.assertEqual(self.successResultOf(asking), "Bearer mine")
        who[0] = Credentials("you", Secret("sesame"))
        asking = self._ask(authenticator)
        self._give("yours")
        self.assertEqual(self.successResultOf(asking), "Bearer yours")
        who[0] = _ME
        self.assertEqual(self.successResultOf(self._ask(authenticator)), "Bearer mine")
        self.assertEqual(set(keychain.asked), {("hub.example", "a")})

    def test_slow_keychain(self) -> None:
        """
        Waiting for a helper can be cancelled, and its failure is reported.
        """
        authenticator = self._challenged(_ME)
        held: Deferred[Credentials | None] = Deferred(lambda _: None)
        self.keychain.held = held
        asking = self._ask(authenticator)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.keychain.held = fail(CredentialsUnavailable("no"))
        failure_of(self, self._ask(authenticator), CredentialsUnavailable)
        self.assertEqual(self.agent.asked, [])

    def test_scopes(self) -> None:
        """
        Scopes of the challenge are requested in addition to our own, sorted.
        """
        asking = self._ask(self._challenged(scope="repository:b:pull repository:a:pull"))
        query = parse_qs(urlsplit(self.agent.last.url).query)
        self.assertEqual(query["scope"], ["repository:a:pull", "repository:b:pull"])
        self._give("t")
        self.successResultOf(asking)

    def test_kept(self) -> None:
        """
        A token is used until shortly before its end, then another fetched.
        """
        authenticator = self._challenged()
        asking = self._ask(authenticator)
        self._give("t1", expires_in=300)
        self.successResultOf(asking)
        self.clock.advance(289)
        self.assertEqual(self.successResultOf(self._ask(authenticator)), "Bearer t1")
        self.assertEqual(len(self.agent.asked), 1)
        self.clock.advance(1)
        asking = self._ask(authenticator)
        self._give("t2")
        self.assertEqual(self.successResultOf(asking), "Bearer t2")

    def test_by_scope(self) -> None:
        """
        Each repository has its own token, and the challenge is remembered
        for all.
        """
        authenticator = self._challenged()
        asking = self._ask(authenticator)
        self._give("a")
        self.successResultOf(asking)
        asking = self._ask(authenticator, "repository:b:pull")
        self._give("b")
        self.assertEqual(self.successResultOf(asking), "Bearer b")
        self.assertEqual(self.successResultOf(self._ask(authenticator)), "Bearer a")

    def test_refused(self) -> None:
        """
        A token that the registry refuses is fetched again; one that was
        fetched in the meantime is kept.
        """
        authenticator = self._challenged()
        asking = self._ask(authenticator)
        self._give("old")
        self.successResultOf(asking)
        self.successResultOf(self._challenge(authenticator, _bearer(), sent="Bearer old"))
        asking = self._ask(authenticator)
        self._give("new")
        self.assertEqual(self.successResultOf(asking), "Bearer new")
        self.successResultOf(self._challenge(authenticator, _bearer(), sent="Bearer old"))
        self.assertEqual(self.successResultOf(self._ask(authenticator)), "Bearer new")

    def test_shared(self) -> None:
        """
        All who wait for one token share one fetch, and its failure.
        """
        authenticator = self._challenged()
        waiting = [self._ask(authenticator) for _ in range(50)]
        self.assertEqual(len(self.agent.asked), 1)
        self._give("t")
        self.assertEqual({self.successResultOf(d) for d in waiting}, {"Bearer t"})
        waiting = [self._ask(authenticator, "b") for _ in range(3)]
        self.agent.respond(503)
        for each in waiting:
            failure_of(self, each, RegistryUnavailable)
        self.assertEqual(len(self.agent.asked), 2)
        retrying = self._ask(authenticator, "b")
        self._give("t")
        self.successResultOf(retrying)

    def test_one_leaves(self) -> None:
        """
        Who gives up waiting does not end the wait of others, the first not
        either.
        """
        authenticator = self._challenged()
        first, second = self._ask(authenticator), self._ask(authenticator)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertFalse(self.agent.last.cancelled)
        self._give("t")
        self.assertEqual(self.successResultOf(second), "Bearer t")

    def test_all_leave(self) -> None:
        """
        When all have given up, the fetch is cancelled; who comes then begins
        another.
        """
        authenticator = self._challenged()
        waiting = [self._ask(authenticator) for _ in range(3)]
        for each in waiting:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertTrue(self.agent.last.cancelled)
        asking = self._ask(authenticator)
        self.assertEqual(len(self.agent.asked), 2)
        self._give("t")
        self.assertEqual(self.successResultOf(asking), "Bearer t")

    def test_late(self) -> None:
        """
        A token server that is too slow fails all who wait.
        """
        authenticator = self._challenged()
        waiting = [self._ask(authenticator) for _ in range(2)]
        self.clock.advance(7)
        for each in waiting:
            self.assertEqual(getattr(failure_of(self, each, TimedOut), "phase", ""), "token")
        self.assertTrue(self.agent.last.cancelled)

    def test_refusals(self) -> None:
        """
        A token server's refusal names it.  Its text is reported only if
        it is the registry itself: otherwise a registry could read
        another server through our errors.
        """
        for status, kind in (
            (400, Denied),
            (401, Denied),
            (403, Denied),
            (404, RegistryError),
            (429, TooManyRequests),
            (500, RegistryUnavailable),
        ):
            for realm, used in ((_REALM, False), (f"{self.url}/token", True)):
                asking = self._ask(self._challenged(_ME, realm=realm))
                self.agent.respond(status, {"Retry-After": "9"}, b'{"details": "no hunter"}')
                error = failure_of(self, asking, kind)
                assert isinstance(error, SourceError)
                self.assertIs(type(error), kind)
                self.assertEqual((error.status, error.host), (status, "hub.example"))
                self.assertIn(f"token server {'hub' if used else 'auth'}.example", str(error))
                self.assertEqual("no hunter" in str(error), used)
        silent = self._ask(self._challenged())
        self.agent.respond(403)
        self.assertIn("403", str(failure_of(self, silent, Denied)))

    def test_clock_set(self) -> None:
        """
        A token lives as long as it was given for, wherever the time of day is
        set to meanwhile.
        """
        authenticator = self._challenged()
        asking = self._ask(authenticator)
        self._give("t1", expires_in=300)
        self.successResultOf(asking)
        self.wall_clock.set(BEGIN + 86400)
        self.assertEqual(self.successResultOf(self._ask(authenticator)), "Bearer t1")
        self.wall_clock.set(BEGIN - 3600)
        self.clock.advance(300)
        asking = self._ask(authenticator)
        self.assertNoResult(asking)
        self._give("t2", expires_in=300)
        self.assertEqual(self.successResultOf(asking), "Bearer t2")

    def test_date(self) -> None:
        """
        A C{Retry-After} date of a token server is compared with the
        wall clock.
        """
        asking = self._ask(self._challenged())
        self.wall_clock.set(BEGIN)
        self.agent.respond(429, {"Retry-After": formatdate(BEGIN + 40, usegmt=True)})
        error = failure_of(self, asking, TooManyRequests)
        assert isinstance(error, TooManyRequests)
        self.assertEqual(error.retry_after, 40.0)

    def test_bad_answers(self) -> None:
        """
        An answer without a token, or one without an end, is refused.
        """
        for body in (b"{}", b"x" * (MAX_TOKEN_ANSWER + 1)):
            asking = self._ask(self._challenged())
            self.agent.respond(200, body=body)
            failure_of(self, asking, RegistryError)

    def test_long_schemes(self) -> None:
        """
        A registry names authentication schemes without end: a few are shown,
        and each is cut.
        """
        challenges = [Challenge(f"{n}{'x' * 9000}") for n in range(10, 26)]
        error = str(failure_of(self, self._challenge(self._authenticator(_ME), *challenges), Denied))
        self.assertIn(f"10{'x' * 38}, 11", error)
        self.assertLess(len(error), 350)

    def test_realms(self) -> None:
        """
        A realm without TLS, on our own machine, in a private network or of
        another scheme is refused, before anything is sent.
        """
        for realm in (
            "http://auth.example/",
            "http://hub.example/",
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://[::ffff:127.0.0.1]/",
            "https://127.1/",
            "https://10.0.0.1/",
            "http://[::1]/",
            "file:///x",
            "nothing",
        ):
            asking = self._ask(self._challenged(_ME, realm=realm))
            self.assertIn("refused", str(failure_of(self, asking, RegistryError)))
        self.assertEqual(self.agent.asked, [])

    def test_plain_realms(self) -> None:
        """
        A registry without TLS, also on this machine, may have a token server
        that is so, too.
        """
        for url, realm in (
            ("http://hub.example", "http://auth.example/"),
            ("http://localhost:5000", "http://localhost:5001/"),
        ):
            self.url, self.zone = url, Origin.of(url).zone or Zone.PUBLIC
            asking = self._ask(self._challenged(_ME, realm=realm))
            self.assertTrue(self.agent.last.url.startswith(realm))
            self._give("t")
            self.successResultOf(asking)

    def test_from_bearer_to_basic(self) -> None:
        """
        A registry may change its mind.
        """
        authenticator = self._challenged(_ME)
        self.successResultOf(self._challenge(authenticator, Challenge("basic"), sent="Bearer x"))
        self.assertEqual(self.successResultOf(self._ask(authenticator)), _BASIC)
