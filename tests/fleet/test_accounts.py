"""
Tests for L{xferd.fleet.accounts}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials
from xferd.errors import CredentialsUnavailable
from xferd.fleet.accounts import FleetAccounts
from xferd.fleet.proofs import Secrets
from xferd.testing.fake_keychain import FakeKeychain

BOB = Credentials.of("bob", "correct horse")


OLD = b"0123456789abcdef"
NEW = b"fedcba9876543210"


class AccountsTests(SynchronousTestCase):
    """
    The names of accounts.
    """

    def setUp(self) -> None:
        """
        Have credentials.
        """
        self.keychain = FakeKeychain(lambda: BOB)
        self.accounts = FleetAccounts(Secrets(OLD), self.keychain)

    def name(self, accounts: FleetAccounts, host: str = "docker.io") -> str:
        """
        The name of the account at a registry.
        """
        names = self.successResultOf(Deferred.fromCoroutine(accounts.names(host)))
        return names[0] if names else ""

    def test_same(self) -> None:
        """
        Equal credentials have the same name on all nodes with the secret, and no others.
        """
        name = self.name(self.accounts)
        self.assertRegex(name, "^[0-9a-f]{32}$")
        other = FakeKeychain(lambda: Credentials.of("bob", "correct horse", origin="elsewhere"))
        self.assertEqual(self.name(FleetAccounts(Secrets(OLD), other)), name)
        another = FakeKeychain(lambda: Credentials.of("bob", "battery staple"))
        self.assertNotEqual(self.name(FleetAccounts(Secrets(OLD), another)), name)
        self.assertNotEqual(self.name(FleetAccounts(Secrets(NEW), self.keychain)), name)
        self.assertNotEqual(self.name(self.accounts, "ghcr.io"), name)

    def test_replaced(self) -> None:
        """
        While the secret is replaced, the account has a name by each of the two.
        """
        old, new = (self.name(FleetAccounts(Secrets(each), self.keychain)) for each in (OLD, NEW))
        for secrets, expected in (((OLD, NEW), [old, new]), ((NEW, OLD), [new, old])):
            naming = FleetAccounts(Secrets(*secrets), self.keychain).names("docker.io")
            self.assertEqual(self.successResultOf(Deferred.fromCoroutine(naming)), expected)

    def test_none(self) -> None:
        """
        Without credentials, and where a helper fails, there is no name.
        """
        self.assertEqual(self.name(FleetAccounts(Secrets(OLD), FakeKeychain())), "")
        self.keychain.held = fail(CredentialsUnavailable("the helper fails"))
        self.assertEqual(self.name(self.accounts), "")

    def test_cancelled(self) -> None:
        """
        Cancelling ends the wait for a helper.
        """
        self.keychain.held = Deferred()
        naming = Deferred.fromCoroutine(self.accounts.names("docker.io"))
        naming.cancel()
        self.failureResultOf(naming, CancelledError)
