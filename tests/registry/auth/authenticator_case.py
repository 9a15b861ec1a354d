"""
What the tests of the authenticator share.
"""

from __future__ import annotations

import json
from base64 import b64encode

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.fakes import ScriptedAgent
from xferd.credentials import Credentials, Secret
from xferd.errors import (
    ManifestUnknown,
)
from xferd.registry.auth.authenticator import Authenticator
from xferd.registry.auth.challenge import Challenge
from xferd.registry.auth.counts import AuthCounts
from xferd.registry.transport.errors import CredentialsUsed, Resource
from xferd.registry.transport.exchange import Authorization, Exchange
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.zones import Zone
from xferd.testing.fakes import FakeKeychain, FakeWallClock

WHAT = Resource("hub.example", "hub.example/a:1", ManifestUnknown)
SCOPE = "repository:a:pull"
REALM = "https://auth.example/token"
ME = Credentials("me", Secret("hunter2"))
BASIC = "Basic " + b64encode(b"me:hunter2").decode()


def bearer(**parameters: str) -> Challenge:
    """
    A Bearer challenge of the token server.
    """
    return Challenge("bearer", {"realm": REALM, "service": "s", **parameters})


class AuthenticatorCase(SynchronousTestCase):
    """
    An authenticator over an agent that the test answers.
    """

    def setUp(self) -> None:
        """
        Make the clocks and the agent.
        """
        self.clock = Clock()
        self.clock.advance(1000)
        self.wall_clock = FakeWallClock(self.clock)
        self.agent = ScriptedAgent()
        self.counts = AuthCounts()
        self.url = "https://hub.example"
        self.zone = Zone.PUBLIC

    def authenticator(self, credentials: Credentials | None = None) -> Authenticator:
        """
        An authenticator for C{hub.example}.
        """
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
            counts=self.counts,
        )

    def ask(self, authenticator: Authenticator, scope: str = SCOPE) -> Deferred[str | None]:
        """
        Request the header of a request.

        @return: fires with its value, or C{None}.
        """
        asking = Deferred.fromCoroutine(authenticator.authorization(scope, WHAT))
        return asking.addCallback(lambda proof: None if proof is None else proof.secret.reveal())

    def challenge(
        self, authenticator: Authenticator, *challenges: Challenge, sent: str | None = None
    ) -> Deferred[None]:
        """
        Answer 401 with challenges.

        @param sent: the header of the request that was refused.
        """
        proof = (
            None
            if sent is None
            else Authorization(Secret(sent), CredentialsUsed("with a secret", login=True))
        )
        return Deferred.fromCoroutine(authenticator.challenged(challenges, SCOPE, proof, WHAT))

    def give(self, token: str, **more: object) -> None:
        """
        Answer the last request with a token.
        """
        self.agent.respond(200, body=json.dumps({"token": token, **more}).encode())


class BearerCase(AuthenticatorCase):
    """
    An authenticator that a registry challenged to present a Bearer token.
    """

    def tearDown(self) -> None:
        """
        No test leaves a timer.
        """
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def challenged(self, credentials: Credentials | None = None, **parameters: str) -> Authenticator:
        """
        An authenticator that received a Bearer challenge.
        """
        authenticator = self.authenticator(credentials)
        self.successResultOf(self.challenge(authenticator, Challenge("basic"), bearer(**parameters)))
        return authenticator
