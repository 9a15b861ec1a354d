"""
Tests for L{xferd.registry.auth.accounts}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials, Secret
from xferd.expiring import KEEP
from xferd.registry.auth.accounts import Accounts

ANN = Credentials("ann", Secret("hunter2"))


class AccountsTests(SynchronousTestCase):
    """
    L{Accounts}.
    """

    def setUp(self) -> None:
        """
        Make some with a salt.
        """
        self.clock = Clock()
        self.salt = b"1" * 32
        self.accounts = self.make()

    def make(self) -> Accounts:
        """
        Make the accounts of a daemon.
        """
        return Accounts(lambda: self.salt, self.clock.seconds)

    def test_restart(self) -> None:
        """
        The next daemon, which has the same salt, gives the same name.
        """
        name = self.accounts.name(ANN)
        self.assertRegex(name, "^[0-9a-f]{32}$")
        self.clock.advance(2 * KEEP)
        self.assertEqual(self.accounts.name(Credentials("ann", Secret("hunter2"), origin="elsewhere")), name)
        self.assertEqual(self.make().name(ANN), name)

    def test_different(self) -> None:
        """
        Other credentials have another name, and so have the same ones with
        another salt.
        """
        others = [
            Credentials("bob", Secret("hunter2")),
            Credentials("ann", Secret("hunter3")),
            Credentials("annhunter2"),
            Credentials("ann", identity_token=Secret("hunter2")),
            Credentials("ann", registry_token=Secret("hunter2")),
        ]
        names = {self.accounts.name(credentials) for credentials in [ANN, *others]}
        self.salt = b"2" * 32
        names.add(self.make().name(ANN))
        self.assertEqual(len(names), len(others) + 2)
        self.assertFalse(any("ann" in name for name in names))
