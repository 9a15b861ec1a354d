"""
Tests for L{xferd.registry.auth.authenticator}: the header of each request.
"""

from __future__ import annotations

from urllib.parse import parse_qs, parse_qsl, urlsplit

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.testing import StringTransport

from tests.registry.auth.authenticator_case import (
    BASIC,
    ME,
    REALM,
    SCOPE,
    AuthenticatorCase,
    BearerCase,
    bearer,
)
from tests.registry.fakes import failure_of
from xferd.credentials import Credentials, Secret
from xferd.errors import (
    CredentialsUnavailable,
    Denied,
    RegistryUnavailable,
)
from xferd.registry.auth.challenge import Challenge
from xferd.testing.fakes import FakeKeychain


class BasicTests(AuthenticatorCase):
    """
    Basic sends user and password.
    """

    def test_unasked(self) -> None:
        """
        Before a challenge, no authorization is sent.
        """
        self.assertIsNone(self.successResultOf(self.ask(self.authenticator(ME))))

    def test_basic(self) -> None:
        """
        Once it has, user and password are sent with every request.
        """
        authenticator = self.authenticator(ME)
        self.successResultOf(self.challenge(authenticator, Challenge("negotiate"), Challenge("basic")))
        self.assertEqual(self.successResultOf(self.ask(authenticator)), BASIC)
        self.assertEqual(self.successResultOf(self.ask(authenticator, "other")), BASIC)

    def test_refused(self) -> None:
        """
        User and password that were refused are not sent again.
        """
        authenticator = self.authenticator(ME)
        error = failure_of(self, self.challenge(authenticator, Challenge("basic"), sent=BASIC), Denied)
        self.assertNotIn("hunter2", str(error))
        self.assertIn("does not accept a login with a secret", str(error))
        self.assertEqual(self.keychain.forgotten, ["hub.example"])

    def test_nobody(self) -> None:
        """
        Without a password, the error has the remedy.
        """
        for credentials in (None, Credentials("", Secret(""), Secret("identity"))):
            asking = self.challenge(self.authenticator(credentials), Challenge("basic"))
            error = str(failure_of(self, asking, Denied))
            self.assertIn("'xferctl login hub.example'", error)
            self.assertEqual("/c.json has none for it" in error, credentials is None)

    def test_unknown(self) -> None:
        """
        Other schemes are named.
        """
        asking = self.challenge(self.authenticator(ME), Challenge("ntlm"), Challenge("bearer"))
        self.assertIn("bearer, ntlm", str(failure_of(self, asking, Denied)))


class BearerTests(BearerCase):
    """
    Tokens are requested, kept, and shared by concurrent requests.
    """

    def test_anonymous(self) -> None:
        """
        An anonymous client gets a token as well: for the service and the scope.
        """
        asking = self.ask(self.challenged())
        url = urlsplit(self.agent.last.url)
        self.assertEqual(f"{url.scheme}://{url.netloc}{url.path}", REALM)
        self.assertEqual(parse_qs(url.query), {"service": ["s"], "scope": [SCOPE], "client_id": ["xferd"]})
        self.assertIsNone(self.agent.last.header("Authorization"))
        self.give("t1")
        self.assertEqual(self.successResultOf(asking), "Bearer t1")

    def test_password(self) -> None:
        """
        The token server gets the password; a realm keeps its own query.
        """
        asking = self.ask(self.challenged(ME, realm=f"{REALM}?a=b#c", service=""))
        self.assertEqual(self.agent.last.header("Authorization"), BASIC)
        self.assertTrue(self.agent.last.url.startswith(f"{REALM}?a=b&scope="))
        self.agent.respond(200, body=b'{"access_token": "t2"}')
        self.assertEqual(self.successResultOf(asking), "Bearer t2")

    def test_identity_token(self) -> None:
        """
        An identity token is posted, not put into an URL.
        """
        asking = self.ask(self.challenged(Credentials("", identity_token=Secret("id"))))
        asked = self.agent.last
        self.assertEqual((asked.method, asked.url), (b"POST", REALM))
        assert asked.body is not None
        sent = StringTransport()
        self.successResultOf(asked.body.startProducing(sent))
        asked.body.pauseProducing()
        self.assertEqual(asked.body.length, len(sent.value()))
        form = dict(parse_qsl(sent.value().decode()))
        self.assertEqual(
            (form["grant_type"], form["refresh_token"], form["scope"]), ("refresh_token", "id", SCOPE)
        )
        self.give("t3")
        self.assertEqual(self.successResultOf(asking), "Bearer t3")

    def test_registry_token(self) -> None:
        """
        A registry token is sent unchanged; nothing renews it.
        """
        who = Credentials("", registry_token=Secret("rt"), origin="a header", remedy="send others")
        authenticator = self.challenged(who)
        self.assertEqual(self.successResultOf(self.ask(authenticator)), "Bearer rt")
        error = failure_of(self, self.challenge(authenticator, bearer(), sent="Bearer rt"), Denied)
        self.assertIn("does not accept a login", str(error))
        self.assertEqual(self.agent.asked, [])

    def test_each_their_own(self) -> None:
        """
        When credentials change, so do tokens; and they are looked up for the
        repository.
        """
        who = [ME]
        authenticator = self.challenged(ME)
        authenticator._keychain = keychain = FakeKeychain(lambda: who[0])
        asking = self.ask(authenticator)
        self.give("mine")
        self.assertEqual(self.successResultOf(asking), "Bearer mine")
        who[0] = Credentials("you", Secret("sesame"))
        asking = self.ask(authenticator)
        self.give("yours")
        self.assertEqual(self.successResultOf(asking), "Bearer yours")
        who[0] = ME
        self.assertEqual(self.successResultOf(self.ask(authenticator)), "Bearer mine")
        self.assertEqual(set(keychain.asked), {("hub.example", "a")})

    def test_slow_keychain(self) -> None:
        """
        Waiting for a helper can be cancelled, and its failure is reported.
        """
        authenticator = self.challenged(ME)
        held: Deferred[Credentials | None] = Deferred(lambda _: None)
        self.keychain.held = held
        asking = self.ask(authenticator)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.keychain.held = fail(CredentialsUnavailable("no"))
        failure_of(self, self.ask(authenticator), CredentialsUnavailable)
        self.assertEqual(self.agent.asked, [])

    def test_scopes(self) -> None:
        """
        Scopes of the challenge are requested in addition to our own, sorted.
        """
        asking = self.ask(self.challenged(scope="repository:b:pull repository:a:pull"))
        query = parse_qs(urlsplit(self.agent.last.url).query)
        self.assertEqual(query["scope"], ["repository:a:pull", "repository:b:pull"])
        self.give("t")
        self.successResultOf(asking)

    def test_kept(self) -> None:
        """
        A token is used until shortly before its end, then another fetched.
        """
        authenticator = self.challenged()
        asking = self.ask(authenticator)
        self.give("t1", expires_in=300)
        self.successResultOf(asking)
        self.clock.advance(289)
        self.assertEqual(self.successResultOf(self.ask(authenticator)), "Bearer t1")
        self.assertEqual(len(self.agent.asked), 1)
        self.clock.advance(1)
        asking = self.ask(authenticator)
        self.give("t2")
        self.assertEqual(self.successResultOf(asking), "Bearer t2")

    def test_by_scope(self) -> None:
        """
        Each repository has its own token, and the challenge is remembered
        for all.
        """
        authenticator = self.challenged()
        asking = self.ask(authenticator)
        self.give("a")
        self.successResultOf(asking)
        asking = self.ask(authenticator, "repository:b:pull")
        self.give("b")
        self.assertEqual(self.successResultOf(asking), "Bearer b")
        self.assertEqual(self.successResultOf(self.ask(authenticator)), "Bearer a")

    def test_refused(self) -> None:
        """
        A token that the registry refuses is fetched again; one that was
        fetched in the meantime is kept.
        """
        authenticator = self.challenged()
        asking = self.ask(authenticator)
        self.give("old")
        self.successResultOf(asking)
        self.successResultOf(self.challenge(authenticator, bearer(), sent="Bearer old"))
        asking = self.ask(authenticator)
        self.give("new")
        self.assertEqual(self.successResultOf(asking), "Bearer new")
        self.successResultOf(self.challenge(authenticator, bearer(), sent="Bearer old"))
        self.assertEqual(self.successResultOf(self.ask(authenticator)), "Bearer new")

    def test_shared(self) -> None:
        """
        All who wait for one token share one fetch, and its failure.
        """
        authenticator = self.challenged()
        waiting = [self.ask(authenticator) for _ in range(50)]
        self.assertEqual(len(self.agent.asked), 1)
        self.give("t")
        self.assertEqual({self.successResultOf(d) for d in waiting}, {"Bearer t"})
        waiting = [self.ask(authenticator, "b") for _ in range(3)]
        self.agent.respond(503)
        for each in waiting:
            failure_of(self, each, RegistryUnavailable)
        self.assertEqual(len(self.agent.asked), 2)
        retrying = self.ask(authenticator, "b")
        self.give("t")
        self.successResultOf(retrying)

    def test_one_leaves(self) -> None:
        """
        A waiter that is cancelled does not end the wait of others, even if it
        was the first.
        """
        authenticator = self.challenged()
        first, second = self.ask(authenticator), self.ask(authenticator)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertFalse(self.agent.last.cancelled)
        self.give("t")
        self.assertEqual(self.successResultOf(second), "Bearer t")

    def test_all_leave(self) -> None:
        """
        When all waiters are cancelled, the fetch is cancelled; a later request
        begins another one.
        """
        authenticator = self.challenged()
        waiting = [self.ask(authenticator) for _ in range(3)]
        for each in waiting:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertTrue(self.agent.last.cancelled)
        asking = self.ask(authenticator)
        self.assertEqual(len(self.agent.asked), 2)
        self.give("t")
        self.assertEqual(self.successResultOf(asking), "Bearer t")

    def test_long_schemes(self) -> None:
        """
        A registry names authentication schemes without end: a few are shown,
        and each is cut.
        """
        challenges = [Challenge(f"{n}{'x' * 9000}") for n in range(10, 26)]
        error = str(failure_of(self, self.challenge(self.authenticator(ME), *challenges), Denied))
        self.assertIn(f"10{'x' * 38}, 11", error)
        self.assertLess(len(error), 350)

    def test_from_bearer_to_basic(self) -> None:
        """
        A registry may change its mind.
        """
        authenticator = self.challenged(ME)
        self.successResultOf(self.challenge(authenticator, Challenge("basic"), sent="Bearer x"))
        self.assertEqual(self.successResultOf(self.ask(authenticator)), BASIC)
