"""
Tests for L{xferd.fleet.accounts}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials
from xferd.errors import CredentialsUnavailable
from xferd.fleet.accounts import FleetAccounts
from xferd.testing.fake_keychain import FakeKeychain

BOB = Credentials.of("bob", "correct horse")


class AccountsTests(SynchronousTestCase):
    """
    The names of accounts.
    """

    def setUp(self) -> None:
        """
        Have credentials.
        """
        self.keychain = FakeKeychain(lambda: BOB)
        self.accounts = FleetAccounts(b"0123456789abcdef", self.keychain)

    def name(self, accounts: FleetAccounts, host: str = "docker.io") -> str:
        """
        The name of the account at a registry.
        """
        return self.successResultOf(Deferred.fromCoroutine(accounts.name(host)))

    def test_same(self) -> None:
        """
        Equal credentials have the same name on all nodes with the secret, and no others.
        """
        name = self.name(self.accounts)
        self.assertRegex(name, "^[0-9a-f]{32}$")
        other = FakeKeychain(lambda: Credentials.of("bob", "correct horse", origin="elsewhere"))
        self.assertEqual(self.name(FleetAccounts(b"0123456789abcdef", other)), name)
        another = FakeKeychain(lambda: Credentials.of("bob", "battery staple"))
        self.assertNotEqual(self.name(FleetAccounts(b"0123456789abcdef", another)), name)
        self.assertNotEqual(self.name(FleetAccounts(b"fedcba9876543210", self.keychain)), name)
        self.assertNotEqual(self.name(self.accounts, "ghcr.io"), name)

    def test_none(self) -> None:
        """
        Without credentials, and where a helper fails, there is no name.
        """
        self.assertEqual(self.name(FleetAccounts(b"0123456789abcdef", FakeKeychain())), "")
        self.keychain.held = fail(CredentialsUnavailable("the helper fails"))
        self.assertEqual(self.name(self.accounts), "")

    def test_cancelled(self) -> None:
        """
        Cancelling ends the wait for a helper.
        """
        self.keychain.held = Deferred()
        naming = Deferred.fromCoroutine(self.accounts.name("docker.io"))
        naming.cancel()
        self.failureResultOf(naming, CancelledError)
