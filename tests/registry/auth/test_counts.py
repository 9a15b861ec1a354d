"""
Tests for L{xferd.registry.auth.counts}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from tests.registry.auth.authenticator_case import BASIC, ME, BearerCase, bearer
from tests.registry.fakes import failure_of
from xferd.errors import Denied, RegistryUnavailable, TimedOut
from xferd.registry.auth.challenge import Challenge
from xferd.registry.auth.counts import FAILED, MOST_HOSTS, OTHERS, RESULTS, AuthCounts


class AuthenticatorCountsTests(BearerCase):
    """
    The counts of an authenticator.
    """

    def assert_counts(self, **counts: int) -> None:
        """
        Expect counts; the others are 0.
        """
        wanted = {("hub.example", result): counts.get(result, 0) for result in RESULTS}
        self.assertEqual(self.counts.counts, wanted)

    def test_token(self) -> None:
        """
        A token counts once, whatever the number of requests that share it, and so does its refusal.
        """
        authenticator = self.challenged()
        asking = [self.ask(authenticator) for _ in range(3)]
        self.give("old")
        for each in asking:
            self.assertEqual(self.successResultOf(each), "Bearer old")
        self.assert_counts(challenged=1, token=1)
        for _ in range(2):
            self.successResultOf(self.challenge(authenticator, bearer(), sent="Bearer old"))
        self.assert_counts(challenged=3, token=1, refused=1)

    def test_password(self) -> None:
        """
        A password that a registry or a token server refuses is counted.
        """
        failure_of(self, self.challenge(self.authenticator(ME), Challenge("basic"), sent=BASIC), Denied)
        self.assert_counts(challenged=1, refused=1)
        asking = self.ask(self.challenged(ME))
        self.agent.respond(401)
        failure_of(self, asking, Denied)
        self.assert_counts(challenged=2, refused=2)

    def test_failures(self) -> None:
        """
        Other failures of the token server are counted, its silence included; a request that was
        cancelled is not.
        """
        asking = self.ask(self.challenged())
        self.agent.respond(503)
        failure_of(self, asking, RegistryUnavailable)
        asking = self.ask(self.challenged())
        self.clock.advance(7)
        failure_of(self, asking, TimedOut)
        asking = self.ask(self.challenged())
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assert_counts(challenged=3, failed=2)


class BoundTests(SynchronousTestCase):
    """
    The number of registries that are counted singly.
    """

    def test_many(self) -> None:
        """
        Further registries are counted together; those that are counted singly remain so.
        """
        counts = AuthCounts()
        for n in range(MOST_HOSTS + 5):
            counts.add(f"r{n}.example", FAILED)
        counts.add("r0.example", FAILED)
        self.assertEqual(counts.counts[OTHERS, FAILED], 5)
        self.assertEqual(counts.counts["r0.example", FAILED], 2)
        self.assertEqual(len(counts.counts), (MOST_HOSTS + 1) * len(RESULTS))
