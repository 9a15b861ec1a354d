"""
Tests for L{xferd.access_tokens}: what clients show.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.access_tokens import AccessTokens, Right, own_token, read_tokens
from xferd.errors import ConfigError


class TokensTests(SynchronousTestCase):
    """
    Tokens and their rights.
    """

    def test_right(self) -> None:
        """
        A token has the rights of its line; an unknown token has none.
        """
        tokens = AccessTokens([("all", Right.ACT), ("some", Right.LOOK), ("", Right.ACT)])
        tokens.add("more")
        for shown, right in (
            (b"all", Right.ACT),
            (b"more", Right.ACT),
            (b"some", Right.LOOK),
            (b"al", Right.NONE),
            (b"all ", Right.NONE),
            (b"", Right.NONE),
            (b"\xff", Right.NONE),
        ):
            self.assertIs(tokens.right(shown), right, shown)
        self.assertNotIn("more", repr(tokens))
        self.assertTrue(tokens)
        self.assertFalse(AccessTokens([("", Right.ACT)]))


class FileTests(SynchronousTestCase):
    """
    Files with tokens.
    """

    def file(self, content: bytes) -> str:
        """
        Make a file.
        """
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def test_read(self) -> None:
        """
        A file has one token per line, some of them read-only.
        """
        tokens = read_tokens(self.file(b" one \n\ntwo  read_only\n"))
        found = [tokens.right(shown) for shown in (b"one", b"two", b"read_only", b"")]
        self.assertEqual(found, [Right.ACT, Right.LOOK, Right.NONE, Right.NONE])

    def test_refused(self) -> None:
        """
        The error names a file that cannot be read, has no token or has a malformed line.
        """
        for content, why in (
            (b" \n", "is empty"),
            (b"a\nb readonly\n", "line 2: expected TOKEN or TOKEN read_only"),
            (b"a read_only b", "line 1"),
            (b"\xff", "is not UTF-8"),
        ):
            path = self.file(content)
            error = str(self.assertRaises(ConfigError, read_tokens, path))
            self.assertIn(path, error)
            self.assertIn(why, error)
        self.assertIn("No such file", str(self.assertRaises(ConfigError, read_tokens, "/nowhere/token")))


class OwnTokenTests(SynchronousTestCase):
    """
    The daemon's own token.
    """

    def setUp(self) -> None:
        """
        Make a directory for the token.
        """
        self.place = Path(self.mktemp())
        self.place.mkdir()
        self.path = str(self.place / "xferd.token")

    def test_made(self) -> None:
        """
        The token is made once, only its user can read it, and it stays the same.
        """
        token = own_token(self.path)
        self.assertRegex(token, "^[0-9a-f]{64}$")
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertEqual(own_token(self.path), token)
        self.assertEqual(os.listdir(self.place), ["xferd.token"])

    def test_others(self) -> None:
        """
        A file that others can read or change is refused, and so is a symbolic link.
        """
        for mode in (0o640, 0o604, 0o620):
            Path(self.path).write_text("known")
            os.chmod(self.path, mode)
            error = str(self.assertRaises(ConfigError, own_token, self.path))
            self.assertIn("with mode 0600; remove it", error)
        os.chmod(self.path, 0o600)
        os.symlink("xferd.token", self.place / "link")
        self.assertRaises(OSError, own_token, str(self.place / "link"))

    def test_other_user(self) -> None:
        """
        A file of another user is refused, as that user knows its token.
        """
        if os.geteuid() != 0:
            self.skipTest("only root can give files away")
        Path(self.path).write_text("known")
        os.chmod(self.path, 0o600)
        os.chown(self.path, 65534, 65534)
        self.assertRaises(ConfigError, own_token, self.path)

    def test_empty(self) -> None:
        """
        An empty file is replaced by one with a token.
        """
        Path(self.path).touch(0o600)
        self.assertEqual(len(own_token(self.path)), 64)

    def test_no_place(self) -> None:
        """
        If the file cannot be written, the error has the system's reason.
        """
        self.assertRaises(OSError, own_token, "/nowhere/xferd.token")
        os.mkdir(self.place / "taken")
        self.assertRaises((OSError, ConfigError), own_token, str(self.place / "taken"))
