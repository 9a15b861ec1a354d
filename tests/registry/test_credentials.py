"""
Tests for L{xferd.registry.credentials}.
"""

from __future__ import annotations

import json
import os
import pickle
from base64 import b64encode
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.registry.credentials import (
    MAX_CONFIG,
    Credentials,
    DockerConfig,
    Secret,
    default_path,
    no_credentials,
    parse_config,
)


def _auth(pair: str) -> str:
    return b64encode(pair.encode()).decode()


def _config(**auths: object) -> bytes:
    return json.dumps({"auths": auths}).encode()


class SecretTests(SynchronousTestCase):
    """
    A secret does not show itself.
    """

    def test_hidden(self) -> None:
        """
        No way of printing gives it away.
        """
        secret = Secret("hunter2")
        credentials = Credentials("u", secret)
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


class ParseConfigTests(SynchronousTestCase):
    """
    C{config.json} is read as docker and podman write it.
    """

    def test_auth(self) -> None:
        """
        User and password in base64; the password may have colons, and old
        docker padded it with zeros.
        """
        found = parse_config(_config(**{"R.example:5000": {"auth": _auth("u:p:q\0\0")}}), "f")
        self.assertEqual(found, {"r.example:5000": Credentials("u", Secret("p:q"))})

    def test_plain(self) -> None:
        """
        User and password as they are.
        """
        found = parse_config(_config(h={"username": "u", "password": "p"}), "f")
        self.assertEqual(found, {"h": Credentials("u", Secret("p"))})

    def test_hub(self) -> None:
        """
        Docker Hub has several names; of equal ones the first counts.
        """
        for key in (
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://registry-1.docker.io/v2/",
        ):
            found = parse_config(_config(**{key: {"auth": _auth("u:p")}}), "f")
            self.assertEqual(list(found), ["docker.io"], key)
        both = _config(**{"docker.io": {"auth": _auth("a:b")}, "index.docker.io": {"auth": _auth("c:d")}})
        self.assertEqual(parse_config(both, "f")["docker.io"].username, "a")

    def test_urls(self) -> None:
        """
        A key may be an URL of the old API; one for a single repository is not
        its host's.
        """
        data = _config(**{"http://h/v1/": {"auth": _auth("u:p")}, "quay.io/team": {"auth": _auth("u:p")}})
        self.assertEqual(sorted(parse_config(data, "f")), ["h", "quay.io/team"])

    def test_identity_token(self) -> None:
        """
        An identity token stands for user and password.
        """
        for entry in (
            {"auth": _auth("<token>:x"), "identitytoken": "t"},
            {"identitytoken": "t"},
            {"username": "<token>", "password": "t"},
        ):
            found = parse_config(_config(h=entry), "f")["h"]
            self.assertEqual((found.identity_token, found.password), (Secret("t"), Secret("")))

    def test_empty(self) -> None:
        """
        An empty file, no C{auths}, and an entry that a credential helper would
        fill are no credentials.
        """
        for data in (
            b"",
            b"{}",
            b'{"auths": null}',
            _config(h={}),
            b'{"credsStore": "pass", "auths": {"h": {}}}',
        ):
            self.assertEqual(parse_config(data, "f"), {})

    def test_bad(self) -> None:
        """
        What cannot be read is refused in one line that names the file and
        quotes nothing.
        """
        for data in (
            b"secret",
            b"[" * 100_000,
            b"[]",
            b'{"auths": ["secret"]}',
            _config(h="secret"),
            _config(h={"auth": "secret!"}),
            _config(h={"auth": _auth("secret")}),
            _config(h={"auth": b64encode(b"\xff:secret").decode()}),
            _config(h={"username": 1, "password": "secret"}),
            b" " * (MAX_CONFIG + 1),
        ):
            error = self.assertRaises(ConfigError, parse_config, data, "/f")
            self.assertIn("/f", str(error))
            self.assertNotIn("secret", str(error))
            self.assertNotIn("\n", str(error))
            self.assertIsNone(error.__cause__)


class DockerConfigTests(SynchronousTestCase):
    """
    L{DockerConfig} follows its file.
    """

    def setUp(self) -> None:
        """
        Name a file.
        """
        self.path = Path(self.mktemp())
        self.config = DockerConfig(str(self.path))
        self.ticks = 0

    def _write(self, data: bytes) -> None:
        self.path.write_bytes(data)
        self.ticks += 1
        os.utime(self.path, (self.ticks, self.ticks))

    def test_absent(self) -> None:
        """
        No file, no credentials; it may come and go.
        """
        self.assertIsNone(self.config.lookup("h"))
        self._write(_config(h={"auth": _auth("u:p")}))
        self.assertEqual(self.config.lookup("H"), Credentials("u", Secret("p")))
        self.path.unlink()
        self.assertIsNone(self.config.lookup("h"))

    def test_changed(self) -> None:
        """
        A changed file is read anew, an unchanged one is not.
        """
        self._write(_config(h={"auth": _auth("u:p")}))
        first = self.config.lookup("h")
        self.assertIs(self.config.lookup("h"), first)
        self._write(_config(h={"auth": _auth("u:new")}))
        self.assertEqual(self.config.lookup("h"), Credentials("u", Secret("new")))

    def test_bad_later(self) -> None:
        """
        A file that has become bad leaves the credentials as they were.
        """
        self._write(_config(h={"auth": _auth("u:p")}))
        self.config.load()
        self._write(b"{")
        self.assertRaises(ConfigError, self.config.load)
        self._write(b"[")
        self.assertEqual(self.config.lookup("h"), Credentials("u", Secret("p")))

    def test_unreadable(self) -> None:
        """
        A file that cannot be read is an error that says so.
        """
        self.path.mkdir()
        error = self.assertRaises(ConfigError, self.config.load)
        self.assertIn("directory", str(error))

    def test_default_path(self) -> None:
        """
        The file is where docker keeps it.
        """
        self.assertEqual(default_path({"DOCKER_CONFIG": "/c", "HOME": "/h"}), "/c/config.json")
        self.assertEqual(default_path({"HOME": "/h"}), "/h/.docker/config.json")

    def test_nobody(self) -> None:
        """
        One can be nobody everywhere.
        """
        self.assertIsNone(no_credentials("docker.io"))
