"""
Tests for L{xferd.testing.fake_keychain}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.credentials import Credentials, Secret
from xferd.interfaces.registry import IKeychain
from xferd.testing.fakes import FakeKeychain


class FakeKeychainTests(SynchronousTestCase):
    """
    The fake is a keychain.
    """

    def test_lookup(self) -> None:
        """
        It returns its credentials, records the requests, and can wait.
        """
        me = Credentials("me", Secret("p"))
        keychain = FakeKeychain(lambda: me)
        self.assertTrue(verifyObject(IKeychain, keychain))
        self.assertIs(self.successResultOf(keychain.lookup("h", "a/b")), me)
        held: Deferred[Credentials | None] = Deferred()  # Nobody cancels it here.
        keychain.held = held
        self.assertIs(keychain.lookup("h", ""), held)
        self.assertIs(self.successResultOf(keychain.lookup("h", "")), me)
        keychain.forget("h")
        self.assertEqual((keychain.asked[0], keychain.forgotten), (("h", "a/b"), ["h"]))
        self.assertIsNone(self.successResultOf(FakeKeychain().lookup("h", "")))
