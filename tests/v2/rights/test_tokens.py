"""
Tests for L{xferd.v2.rights.tokens}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials
from xferd.v2.rights.tokens import LIFE, Login, Tokens


class TokensTests(SynchronousTestCase):
    """
    Tokens are made and read.
    """

    def setUp(self) -> None:
        """
        Make a daemon's tokens.
        """
        self.clock = Clock()
        self.tokens = Tokens(self.clock)

    def test_read(self) -> None:
        """
        A token is read as it was made, and shows nothing to others.
        """
        for login in (
            Login(),
            Login("ann", "stamp"),
            Login("ann", "stamp", Credentials.of("ann", "hunter2ü")),
            Login(credentials=Credentials.of("bob", "hunter2")),
        ):
            token = self.tokens.make(login)
            read = self.tokens.read(token)
            self.assertEqual(read, login)
            assert read is not None
            self.assertTrue(read.is_token)
            self.assertNotIn("hunter2", f"{token} {read!r}")

    def test_too_old(self) -> None:
        """
        A token ends by itself.
        """
        token = self.tokens.make(Login("ann"))
        self.clock.advance(LIFE)
        self.assertIsNotNone(self.tokens.read(token))
        self.clock.advance(1)
        self.assertIsNone(self.tokens.read(token))

    def test_invalid(self) -> None:
        """
        Changed tokens, tokens of another daemon, and other texts are invalid.
        """
        token = self.tokens.make(Login("ann"))
        other = Tokens(self.clock).make(Login("ann"))
        for text in (token[:-4] + "AAA=", token[1:], other, "", "x", "é" * 50):
            self.assertIsNone(self.tokens.read(text), text)
