"""
Tests for L{xferd.secret_files}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.secret_files import read_secrets


class SecretTests(SynchronousTestCase):
    """
    L{read_secrets}.
    """

    def write(self, data: bytes, mode: int = 0o600) -> str:
        """
        Write a file.
        """
        path = Path(self.mktemp())
        path.write_bytes(data)
        path.chmod(mode)
        return str(path)

    def test_read(self) -> None:
        """
        The secret has no space around it; a group may read it.  There may be several, one a
        line.
        """
        path = self.write(b" 0123456789abcdef\n", 0o640)
        self.assertEqual(read_secrets(path, "the fleet"), [b"0123456789abcdef"])
        path = self.write(b"0123456789abcdef\r\n\nfedcba9876543210")
        self.assertEqual(read_secrets(path, "the fleet"), [b"0123456789abcdef", b"fedcba9876543210"])

    def test_secret(self) -> None:
        """
        A secret is refused that is missing, short, long, readable by others, or no file.
        """
        for path, reason in (
            ("/nonexistent/secret", "cannot read the secret of the fleet in /nonexistent/secret: No such"),
            (self.write(b"short\n"), "has 5 bytes, and needs 16: write one with 'openssl rand -hex 32'"),
            (self.write(b"\n"), "has 0 bytes, and needs 16"),
            (self.write(b"0123456789abcdef\nshort"), "a secret of the fleet in"),
            (self.write(b"0123456789abcdef\n" * 5), "has 5 secrets, and may have 4: remove the oldest"),
            (self.write(b"x" * 5000), "has more than 4096 bytes"),
            (self.write(b"0123456789abcdef", 0o644), "is open to other users: run chmod 0600"),
            ("/dev/null", "/dev/null is not a file"),
        ):
            self.assertIn(reason, str(self.assertRaises(ConfigError, read_secrets, path, "the fleet")))
