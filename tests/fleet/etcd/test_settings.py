"""
Tests for L{xferd.fleet.etcd.settings}.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.testing.certificates import Authority


class SettingsTests(SynchronousTestCase):
    """
    How to reach etcd.
    """

    def file(self, content: bytes) -> str:
        """
        Write a file.
        """
        path = Path(self.mktemp())
        path.write_bytes(content)
        return str(path)

    def refused(self, *urls: str, **options: str) -> str:
        """
        Expect that settings are refused.
        """
        return str(self.assertRaises(ConfigError, EtcdSettings.read, urls, **options))

    def test_plain(self) -> None:
        """
        Members have a host and a port, 2379 by default.
        """
        found = EtcdSettings.read(("http://10.0.0.1:23", "http://etcd.example/", "http://[::1]"))
        self.assertEqual(
            ["10.0.0.1:23", "etcd.example:2379", "[::1]:2379"], [e.name for e in found.endpoints]
        )
        self.assertEqual("http://[::1]:2379", found.endpoints[2].url)
        self.assertEqual([None] * 3, [e.tls for e in found.endpoints])

    def test_tls(self) -> None:
        """
        With an authority, no other is trusted; without, the system's are; never is a
        certificate accepted without a check.
        """
        authority = Authority()
        certificate, key = (self.file(each) for each in authority.issue("node"))
        ca = self.file(authority.pem)
        own = (
            EtcdSettings.read(("https://127.0.0.1:1",), ca=ca, certificate=certificate, key=key)
            .endpoints[0]
            .tls
        )
        assert own is not None
        self.assertEqual((True, False, (authority.pem,)), (own.exclusive, own.skip_verify, own.ca))
        self.assertIsNotNone(own.client)
        public = EtcdSettings.read(("https://127.0.0.1:1",)).endpoints[0].tls
        assert public is not None
        self.assertEqual((False, False, ()), (public.exclusive, public.skip_verify, public.ca))

    def test_user(self) -> None:
        """
        The password is the first line of its file, and is not shown.
        """
        path = self.file(b"secret word\n")
        found = EtcdSettings.read(("http://h",), user="ann", password_file=path)
        self.assertEqual(("ann", "secret word"), (found.user, found.password.reveal()))
        self.assertNotIn("secret word", repr(found))

    def test_wrong(self) -> None:
        """
        Each wrong setting is named, with the remedy.
        """
        self.assertIn("add one", self.refused())
        for url in (
            "etcd:2379",
            "ftp://h",
            "http://",
            "http://u@h",
            "http://h/p",
            "http://h:x",
            "http://h?q",
        ):
            self.assertIn("fleet.etcd", self.refused(url))
        self.assertIn("both", self.refused("http://h", user="ann"))
        self.assertIn("empty", self.refused("http://h", user="ann", password_file=self.file(b"\n")))
        self.assertIn("UTF-8", self.refused("http://h", user="ann", password_file=self.file(b"\xff\n")))
        self.assertIn("No such file", self.refused("http://h", user="ann", password_file="/nothing"))
        self.assertIn("etcd_certificate", self.refused("https://h", key="/k"))
        certificate, key = (self.file(each) for each in Authority().issue("node"))
        self.assertIn("not https", self.refused("http://h", certificate=certificate, key=key))
        self.assertIn("/ca", self.refused("https://h", ca="/ca"))
