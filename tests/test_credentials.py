"""
Tests for L{xferd.credentials}.
"""

from __future__ import annotations

import json
import pickle

from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials, Secret


class SecretTests(SynchronousTestCase):
    """
    A secret never prints.
    """

    def test_hidden(self) -> None:
        """
        No form of printing reveals the text.
        """
        secret = Secret("hunter2")
        credentials = Credentials("u", secret, secret, secret)
        for text in (str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", repr(credentials)):
            self.assertNotIn("hunter2", text)
        self.assertRaises(TypeError, pickle.dumps, secret)
        self.assertEqual(secret.reveal(), "hunter2")

    def test_equality(self) -> None:
        """
        Equal secrets are equal, so that equal credentials share tokens.
        """
        self.assertEqual(Credentials("u", Secret("é")), Credentials("u", Secret("é")))
        self.assertEqual(hash(Secret("a")), hash(Secret("a")))
        self.assertNotEqual(Secret("a"), Secret("b"))
        self.assertNotEqual(Secret("a"), "a")
        self.assertTrue(Secret("a"))
        self.assertFalse(Secret(""))

    def test_fingerprint(self) -> None:
        """
        Different credentials have different fingerprints, which contain no part of them.
        """
        ann = Credentials("ann", Secret("hunter2"))
        self.assertEqual(ann.fingerprint, Credentials("ann", Secret("hunter2"), origin="a file").fingerprint)
        others = [
            Credentials("bob", Secret("hunter2")),
            Credentials("ann", Secret("hunter3")),
            Credentials("ann", identity_token=Secret("hunter2")),
            Credentials("ann", registry_token=Secret("hunter2")),
        ]
        self.assertEqual(len({ann.fingerprint, *(c.fingerprint for c in others)}), 5)
        self.assertNotIn("hunter2", ann.fingerprint)


class CredentialsTests(SynchronousTestCase):
    """
    Credentials at one registry.
    """

    def test_origin(self) -> None:
        """
        The origin has no effect on equality.
        """
        one, other = (Credentials.of("u", "p", origin=origin) for origin in ("/a", "/b"))
        self.assertEqual((one, hash(one)), (other, hash(other)))

    def test_identity_token(self) -> None:
        """
        The user name C{<token>} marks the password as an identity token.
        """
        for found in (Credentials.of("<token>", "t"), Credentials.of("<token>", "x", "t")):
            self.assertEqual(found, Credentials("", identity_token=Secret("t")))

    def test_revealed(self) -> None:
        """
        Revealed ones can be written as JSON and read again, with all members.
        """
        whole = Credentials("u", Secret("p"), Secret("i"), Secret("r"), "a file", "log in")
        found = Credentials.revealed(json.loads(json.dumps(whole.reveal())))
        self.assertEqual((found, found.origin, found.remedy), (whole, "a file", "log in"))
        self.assertRaises(KeyError, Credentials.revealed, {"username": "u"})

    def test_something(self) -> None:
        """
        Credentials need a user name or a token; a password alone is not enough.
        """
        self.assertTrue(Credentials.of("u", ""))
        self.assertTrue(Credentials.of("", "", "t"))
        self.assertTrue(Credentials("", registry_token=Secret("t")))
        self.assertFalse(Credentials.of("", "p"))
