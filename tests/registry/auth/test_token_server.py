"""
Tests for L{xferd.registry.auth.authenticator}: the exchange with a token server.
"""

from __future__ import annotations

from base64 import b64encode
from email.utils import formatdate

from twisted.internet.defer import CancelledError

from tests.registry.auth.authenticator_case import ME, REALM, BearerCase
from tests.registry.fakes import failure_of
from tests.registry.waits import Waits
from xferd.credentials import Credentials, Secret
from xferd.errors import (
    Denied,
    RegistryError,
    RegistryUnavailable,
    SourceError,
    TimedOut,
    TooManyRequests,
)
from xferd.registry.auth.authenticator import MAX_TOKEN_ANSWER
from xferd.registry.transport.limited_endpoint import StaleConnection
from xferd.registry.transport.urls import Origin
from xferd.registry.transport.zones import Zone
from xferd.testing.fake_wall_clock import BEGIN
from xferd.waits import reporting


class TokenServerTests(BearerCase):
    """
    A token server's URL, its errors, its delays, and the age of its tokens.
    """

    def test_stale_connection(self) -> None:
        """
        An identity token is posted again if the kept connection had been
        closed, but only once.
        """
        authenticator = self.challenged(Credentials("", identity_token=Secret("id")))
        asking = self.ask(authenticator)
        self.agent.last.answer.errback(StaleConnection("it closed the connection"))
        self.give("t4")
        self.assertEqual(self.successResultOf(asking), "Bearer t4")
        self.assertEqual([each.method for each in self.agent.asked], [b"POST"] * 2)
        asking = self.ask(authenticator, "other")
        for _ in range(2):
            self.agent.last.answer.errback(StaleConnection("it closed the connection"))
        failure_of(self, asking, StaleConnection)

    def test_reported(self) -> None:
        """
        A request that waits for a token reports that, until it has one.
        """
        authenticator, waits = self.challenged(ME), Waits()
        with reporting(waits):
            asking = self.ask(authenticator)
        self.assertEqual(waits.present, ["token hub.example"])
        self.give("t")
        self.assertEqual(self.successResultOf(asking), "Bearer t")
        self.assertEqual(waits.present, [])

    def test_no_oauth(self) -> None:
        """
        A token server without the OAuth2 form gets the identity token as a
        password; when it refuses that, too, the first refusal counts.
        """
        who = Credentials("me", identity_token=Secret("id"), origin="/c.json")
        for status in (401, 404, 405):
            asking = self.ask(self.challenged(who))
            self.agent.respond(status, body=b'{"details": "no such form"}')
            self.assertEqual(self.agent.last.method, b"GET")
            header = "Basic " + b64encode(b"me:id").decode()
            self.assertEqual(self.agent.last.header("Authorization"), header)
            self.give("t")
            self.assertEqual(self.successResultOf(asking), "Bearer t")
        asking = self.ask(self.challenged(who, realm=f"{self.url}/token"))
        self.agent.respond(401, body=b'{"details": "it has expired"}')
        self.agent.respond(404)
        error = str(failure_of(self, asking, Denied))
        self.assertIn("with the credentials of me from /c.json (token server hub.example: 401", error)
        self.assertIn("it has expired", error)
        self.assertIn("'xferctl login hub.example' renews them", error)
        self.assertEqual(self.keychain.forgotten, ["hub.example"])
        asking = self.ask(self.challenged(who))
        self.agent.respond(405)
        self.agent.respond(503)
        failure_of(self, asking, RegistryUnavailable)

    def test_no_oauth_cancelled(self) -> None:
        """
        The second form can be cancelled like the first.
        """
        asking = self.ask(self.challenged(Credentials("", identity_token=Secret("id"))))
        self.agent.respond(405)
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertTrue(self.agent.last.cancelled)

    def test_late(self) -> None:
        """
        A token server that is too slow fails all who wait.
        """
        authenticator = self.challenged()
        waiting = [self.ask(authenticator) for _ in range(2)]
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
            for realm, used in ((REALM, False), (f"{self.url}/token", True)):
                asking = self.ask(self.challenged(ME, realm=realm))
                self.agent.respond(status, {"Retry-After": "9"}, b'{"details": "no hunter"}')
                error = failure_of(self, asking, kind)
                assert isinstance(error, SourceError)
                self.assertIs(type(error), kind)
                self.assertEqual((error.status, error.host), (status, "hub.example"))
                self.assertIn(f"token server {'hub' if used else 'auth'}.example", str(error))
                self.assertEqual("no hunter" in str(error), used)
        silent = self.ask(self.challenged())
        self.agent.respond(403)
        self.assertIn("403", str(failure_of(self, silent, Denied)))

    def test_clock_set(self) -> None:
        """
        A token is valid for its lifetime, independent of changes of the time of
        day.
        """
        authenticator = self.challenged()
        asking = self.ask(authenticator)
        self.give("t1", expires_in=300)
        self.successResultOf(asking)
        self.wall_clock.set(BEGIN + 86400)
        self.assertEqual(self.successResultOf(self.ask(authenticator)), "Bearer t1")
        self.wall_clock.set(BEGIN - 3600)
        self.clock.advance(300)
        asking = self.ask(authenticator)
        self.assertNoResult(asking)
        self.give("t2", expires_in=300)
        self.assertEqual(self.successResultOf(asking), "Bearer t2")

    def test_date(self) -> None:
        """
        A C{Retry-After} date of a token server is compared with the
        wall clock.
        """
        asking = self.ask(self.challenged())
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
            asking = self.ask(self.challenged())
            self.agent.respond(200, body=body)
            failure_of(self, asking, RegistryError)

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
            asking = self.ask(self.challenged(ME, realm=realm))
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
            asking = self.ask(self.challenged(ME, realm=realm))
            self.assertTrue(self.agent.last.url.startswith(realm))
            self.give("t")
            self.successResultOf(asking)
