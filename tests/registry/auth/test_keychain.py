"""
Tests for L{xferd.registry.auth.keychain}.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

from twisted.internet.defer import CancelledError
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.registry.auth.test_credential_helpers import make_helper
from tests.registry.fakes import failure_of
from tests.registry.processes import FakeProcesses
from tests.test_docker_config import auth, config
from xferd.credentials import Credentials, Secret
from xferd.errors import ConfigError, CredentialsUnavailable
from xferd.interfaces.registry import IKeychain
from xferd.registry.auth.credential_helpers import CredentialHelpers, IHelperReactor
from xferd.registry.auth.keychain import Anonymous, ClientKeychain, DockerKeychain

ME = Credentials("u", Secret("p"))


class DockerKeychainTests(SynchronousTestCase):
    """
    The keychain follows its files.
    """

    def setUp(self) -> None:
        """
        Name two files.
        """
        self.path, self.second = Path(self.mktemp()), Path(self.mktemp())
        self.reactor = FakeProcesses()
        helpers = CredentialHelpers(
            cast("IHelperReactor", self.reactor),
            limit=7,
            environ={"PATH": make_helper(self.mktemp(), "fake", "")},
        )
        self.keychain = DockerKeychain([str(self.path), str(self.second)], helpers)
        self.ticks = 0

    def lookup(self, host: str = "h", path: str = "") -> Credentials | None:
        """
        Look up the credentials, without delay.
        """
        return self.successResultOf(self.keychain.lookup(host, path))

    def write(self, data: bytes, path: Path | None = None) -> None:
        """
        Change a file, so that it can be seen.
        """
        path = path or self.path
        path.write_bytes(data)
        self.ticks += 1
        os.utime(path, (self.ticks, self.ticks))

    def test_interfaces(self) -> None:
        """
        All keychains provide their Interface, and have the names that errors
        need.
        """
        for keychain in (self.keychain, ClientKeychain(ME, "me"), Anonymous()):
            verifyObject(IKeychain, keychain)
        self.assertEqual(self.keychain.where, f"{self.path} or {self.second}")

    def test_absent(self) -> None:
        """
        No file, no credentials; it may come and go.
        """
        self.assertIsNone(self.lookup())
        self.write(config(h={"auth": auth("u:p")}))
        self.assertEqual(self.lookup("H"), ME)
        self.path.unlink()
        self.assertIsNone(self.lookup())

    def test_changed(self) -> None:
        """
        A changed file is read again, an unchanged one is not.
        """
        self.write(config(h={"auth": auth("u:p")}))
        first = self.lookup()
        self.assertIs(self.lookup(), first)
        self.write(config(h={"auth": auth("u:new")}))
        self.assertEqual(self.lookup(), Credentials("u", Secret("new")))

    def test_bad_later(self) -> None:
        """
        A file that has become bad leaves the credentials as they were, and is
        warned of once.
        """
        self.write(config(h={"auth": auth("u:p")}))
        self.keychain.load()
        self.write(b"{")
        self.assertRaises(ConfigError, self.keychain.load)
        self.write(b"[")
        with capturedLogs() as events:
            self.assertEqual([self.lookup(), self.lookup()], [ME, ME])
        (warning,) = (e for e in events if e.get("log_level") is LogLevel.warn)
        self.assertIn(f"{self.path}, line 1", warning["reason"])

    def test_unreadable(self) -> None:
        """
        A file that cannot be read is an error that names it.
        """
        self.path.mkdir()
        error = self.assertRaises(ConfigError, self.keychain.load)
        self.assertIn("directory", str(error))

    def test_order(self) -> None:
        """
        The first file goes before the second, which knows what that does not.
        """
        self.write(config(h={"auth": auth("u:p")}))
        self.write(config(h={"auth": auth("x:y")}, other={"auth": auth("v:q")}), self.second)
        self.assertEqual(self.lookup(), ME)
        self.assertEqual(self.lookup("other"), Credentials("v", Secret("q")))

    def test_namespace(self) -> None:
        """
        Credentials of a namespace go before those of the host and its helper.
        """
        self.write(
            b'{"credsStore": "fake", "auths": {"h": {"auth": "%s"}, "h/a": {"auth": "%s"}}}'
            % (auth("x:y").encode(), auth("u:p").encode())
        )
        self.assertEqual(self.lookup("h", "a/b"), ME)
        self.assertEqual(self.reactor.started, [])

    def test_helper(self) -> None:
        """
        The helper runs before the file's own entry is used, which
        applies if the helper has no credentials; credentials that were
        refused are forgotten.
        """
        self.write(b'{"credsStore": "fake", "auths": {"h": {"auth": "%s"}}}' % auth("u:p").encode())
        asking = self.keychain.lookup("h", "a")
        self.reactor.started[-1].write(b'{"Username": "v", "Secret": "q"}')
        self.reactor.started[-1].end()
        self.assertEqual(self.successResultOf(asking), Credentials("v", Secret("q")))
        self.keychain.forget("H")
        asking = self.keychain.lookup("h", "a")
        self.reactor.started[-1].write(b"credentials not found in native keychain")
        self.reactor.started[-1].end(1)
        self.assertEqual(self.successResultOf(asking), ME)

    def test_helper_fails(self) -> None:
        """
        A helper's failure is reported, and no other credentials are used.
        """
        self.write(b'{"credHelpers": {"h": "fake"}, "auths": {"h": {"auth": "%s"}}}' % auth("u:p").encode())
        asking = self.keychain.lookup("h", "a")
        self.reactor.started[-1].end(1)
        self.assertIn(str(self.path), str(failure_of(self, asking, CredentialsUnavailable)))

    def test_helper_missing(self) -> None:
        """
        A helper of all hosts that is not installed counts as one that has
        none: it is warned of once, and named to those who are denied.  One
        that is named for this host is an error.
        """
        self.write(
            b'{"credsStore": "none", "credHelpers": {"other": "none"}, "auths": {"h": {"auth": "%s"}}}'
            % auth("u:p").encode()
        )
        with capturedLogs() as events:
            self.assertEqual(self.lookup(), ME)
            self.assertIsNone(self.lookup("third"))
        (warning,) = (e for e in events if e.get("log_level") is LogLevel.warn)
        self.assertEqual((warning["helper"], warning["path"]), ("none", str(self.path)))
        self.assertIn(f"{self.path}, whose helper docker-credential-none is not in PATH", self.keychain.where)
        failure_of(self, self.keychain.lookup("other", ""), CredentialsUnavailable)
        self.write(b'{"credsStore": "fake"}')
        asking = self.keychain.lookup("h", "")
        self.reactor.started[-1].write(b"credentials not found in native keychain")
        self.reactor.started[-1].end(1)
        self.assertIsNone(self.successResultOf(asking))
        self.assertEqual(self.keychain.where, f"{self.path} or {self.second}")

    def test_broken_entry(self) -> None:
        """
        A broken entry is its own registry's trouble, and is warned of when the
        file is read.
        """
        self.write(config(h={"auth": auth("u:p")}, other={"auth": "secret!"}))
        with capturedLogs() as events:
            self.assertEqual([self.lookup(), self.lookup()], [ME, ME])
            error = failure_of(self, self.keychain.lookup("other", "a"), CredentialsUnavailable)
        (warning,) = (e for e in events if e.get("log_level") is LogLevel.warn)
        for text in (str(error), warning["reason"]):
            self.assertIn("auths.other.auth must be user:password in base64", text)
            self.assertNotIn("secret", text)

    def test_cancelled(self) -> None:
        """
        Cancelling the wait for a helper ends it.
        """
        self.write(b'{"credsStore": "fake"}')
        asking = self.keychain.lookup("h", "a")
        asking.cancel()
        self.failureResultOf(asking, CancelledError)
        self.assertEqual(self.reactor.started[-1].signals, ["KILL"])


class OtherKeychainTests(SynchronousTestCase):
    """
    Keychains without a file.
    """

    def test_client(self) -> None:
        """
        A client's credentials are used, also after they were refused.
        """
        keychain = ClientKeychain(ME, "me")
        keychain.forget("h")
        self.assertIs(self.successResultOf(keychain.lookup("h", "")), ME)
        self.assertEqual(keychain.identity, ClientKeychain(Credentials.of("u", "p"), "u").identity)

    def test_nobody(self) -> None:
        """
        C{Anonymous} has no credentials for any host.
        """
        Anonymous().forget("docker.io")
        self.assertIsNone(self.successResultOf(Anonymous().lookup("docker.io", "")))
