"""
Tests for L{xferd.docker_config}.
"""

from __future__ import annotations

import json
from base64 import b64encode

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.credentials import Credentials, Secret
from xferd.docker_config import (
    MAX_CONFIG,
    DockerConfig,
    auth_files,
    host_of,
    parse_docker_config,
    registry_of,
    server_of,
    unpack_auth,
)
from xferd.errors import BadInput, ConfigError


def auth(pair: str) -> str:
    """
    A user name and a password in docker's form.
    """
    return b64encode(pair.encode()).decode()


def config(**auths: object) -> bytes:
    """
    A file with these C{auths}.
    """
    return json.dumps({"auths": auths}).encode()


def parsed(data: bytes) -> DockerConfig:
    """
    Parse a file with the path C{/f}.
    """
    return parse_docker_config(data, "/f")


class PlaceTests(SynchronousTestCase):
    """
    The paths of the files.
    """

    def test_usual(self) -> None:
        """
        The default files are docker's, then podman's; a path in the environment replaces
        both.
        """
        self.assertEqual(auth_files({"HOME": "/h"}), ("/h/.docker/config.json",))
        self.assertEqual(auth_files({"DOCKER_CONFIG": "/c", "HOME": "/h"}), ("/c/config.json",))
        environ = {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/7"}
        self.assertEqual(auth_files(environ), ("/h/.docker/config.json", "/run/user/7/containers/auth.json"))
        self.assertEqual(auth_files({**environ, "REGISTRY_AUTH_FILE": "/a.json"}), ("/a.json",))


class NameTests(SynchronousTestCase):
    """
    The names of registries.
    """

    def test_keys(self) -> None:
        """
        Docker Hub has several names; hosts may be URLs of the old API, and
        may have a namespace.
        """
        for key in (
            "https://index.docker.io/v1/",
            "index.docker.io",
            "docker.io",
            "https://registry-1.docker.io/v2/",
        ):
            self.assertEqual(registry_of(key), "docker.io")
        self.assertEqual(registry_of("http://H:5000/v1/"), "h:5000")
        self.assertEqual(registry_of("quay.io/Team/"), "quay.io/Team")
        self.assertEqual(server_of("docker.io"), "https://index.docker.io/v1/")
        self.assertEqual(server_of("quay.io"), "quay.io")

    def test_hosts(self) -> None:
        """
        A registry's name is its host; other names are refused.
        """
        for text, host in (
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("LOCALHOST:5000", "localhost:5000"),
            ("https://quay.io/", "quay.io"),
        ):
            self.assertEqual(host_of(text), host)
        for text in ("", "quay", "quay.io/team", "a b.c", "-x.example/", "h:port"):
            self.assertIn(json.dumps(text), str(self.assertRaises(BadInput, host_of, text)))


class ParseTests(SynchronousTestCase):
    """
    C{config.json} is parsed as by docker and podman.
    """

    def test_auth(self) -> None:
        """
        User name and password are base64, wrapped or not; the password may have colons,
        and old docker padded it with zeros.
        """
        wrapped = auth("u:" + "p" * 100)
        for written in (
            wrapped + "\n",
            wrapped[:76] + "\n" + wrapped[76:],
            wrapped[:76] + "\r\n" + wrapped[76:],
        ):
            self.assertEqual(unpack_auth(written), ("u", "p" * 100))
        self.assertIsNone(unpack_auth(wrapped[:76] + " " + wrapped[76:]))
        found = parsed(config(**{"R.example:5000": {"auth": auth("u:p:q\0\0")}}))
        self.assertEqual(found.auths, {"r.example:5000": Credentials("u", Secret("p:q"))})
        self.assertEqual(found.auths["r.example:5000"].origin, "/f")

    def test_plain(self) -> None:
        """
        User name and password may be plain.
        """
        found = parsed(config(h={"username": "u", "password": "p"}))
        self.assertEqual(found.auths, {"h": Credentials("u", Secret("p"))})

    def test_twice(self) -> None:
        """
        Of several keys for one registry, the first counts.
        """
        both = config(**{"docker.io": {"auth": auth("a:b")}, "index.docker.io": {"auth": auth("c:d")}})
        self.assertEqual(parsed(both).auths["docker.io"].username, "a")

    def test_namespaces(self) -> None:
        """
        The most specific namespace of a repository applies, by whole components.
        """
        names = ("h", "h/team", "h/team/app")
        found = parsed(config(**{name: {"auth": auth(f"{name}:p")} for name in names}))
        for path, name in (
            ("team/app", "h/team/app"),
            ("team/app/deep", "h/team/app"),
            ("team/apple", "h/team"),
            ("team", "h/team"),
        ):
            self.assertEqual(getattr(found.below("h", path), "username", None), name)
        for path in ("teams/app", "x", ""):
            self.assertIsNone(found.below("h", path))

    def test_identity_token(self) -> None:
        """
        An identity token stands for user and password.
        """
        for entry in (
            {"auth": auth("<token>:x"), "identitytoken": "t"},
            {"identitytoken": "t"},
            {"username": "<token>", "password": "t"},
        ):
            found = parsed(config(h=entry)).auths["h"]
            self.assertEqual((found.identity_token, found.password), (Secret("t"), Secret("")))

    def test_helpers(self) -> None:
        """
        A host's own helper takes precedence over the general one, and may be empty.
        """
        value = {
            "credsStore": "pass",
            "credHelpers": {"gcr.io": "gcloud", "https://index.docker.io/v1/": "hub", "h": ""},
        }
        found = parsed(json.dumps(value).encode())
        self.assertEqual(
            [found.helper(host) for host in ("gcr.io", "docker.io", "h", "x")], ["gcloud", "hub", "", "pass"]
        )
        self.assertEqual(parsed(b"{}").helper("h"), "")

    def test_empty(self) -> None:
        """
        An empty file, no C{auths}, and an entry for a credential helper have no
        credentials.
        """
        for data in (b"", b" \n", b"{}", b'{"auths": null, "credHelpers": null}', config(h={})):
            self.assertEqual(parsed(data).auths, {})

    def test_bad(self) -> None:
        """
        An invalid file is refused in one line with file, line, key and the expected
        value, without a quotation.
        """
        for data, place in (
            (b'{\n  "auths": {secret', "/f, line 2, column 13: invalid JSON"),
            (b"{\n\n\xff", "/f, line 3: invalid UTF-8"),
            (b"[" * 100_000, "/f is nested too deeply"),
            (b"9" * 5000, "/f has a number with too many digits"),
            (b"[]", "/f, line 1: expected a JSON object"),
            (b'{\n"auths":\n["secret"]}', "/f, line 2: auths must be an object"),
            (b'{"credsStore": "/bin/secret"}', "/f, line 1: credsStore must be the name of a helper"),
            (b'{"credHelpers": {"h": ["secret"]}}', "/f, line 1: credHelpers.h must be the name of a helper"),
            (b" " * (MAX_CONFIG + 1), "/f is larger"),
        ):
            error = self.assertRaises(ConfigError, parsed, data)
            self.assertIn(place, str(error))
            self.assertNotIn("secret", str(error))
            self.assertNotIn("\n", str(error))
            self.assertIsNone(error.__cause__)

    def test_broken_entry(self) -> None:
        """
        An invalid entry is reported without quoting a value; the others are read.
        """
        for data, place in (
            (b'{"auths": {\n"h": "secret"}}', "/f, line 2: auths.h must be an object"),
            (
                b'{"auths": {"a.b": {},\n "c.d": {\n"auth": "secret!"}}}',
                '/f, line 3: auths."c.d".auth must be user:password in base64',
            ),
            (config(h={"auth": auth("secret")}), "/f, line 1: auths.h.auth must be user:password"),
            (
                config(h={"auth": b64encode(b"\xff:secret").decode()}),
                "auths.h.auth must be user:password in base64",
            ),
            (config(h={"username": 1, "password": "secret"}), "auths.h.username must be a string"),
            (config(h={"username": "u", "password": "\ud800secret"}), "auths.h.password must be a string"),
            (config(**{"\u00e9\n": {"username": 1}}), '/f: auths."\\u00e9\\n".username must be a string'),
        ):
            found = parsed(data)
            (problem,) = found.broken.values()
            self.assertIn(place, problem)
            self.assertNotIn("secret", problem)
            self.assertNotIn("\n", problem)
        found = parsed(config(**{"a.b/team": {"auth": "!"}, "a.b": {"auth": auth("u:p")}}))
        self.assertIsNotNone(found.auths.get("a.b"))
        self.assertIn("a.b/team", found.problem("a.b", "team/app"))
        self.assertEqual((found.problem("a.b", "other"), found.problem("c.d", "")), ("", ""))

    def test_null_entry(self) -> None:
        """
        A null entry is an empty one.
        """
        found = parsed(config(**{"a.b": None, "c.d": {"auth": auth("u:p")}}))
        self.assertEqual((list(found.auths), dict(found.broken)), (["c.d"], {}))

    @given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
    def test_anything(self, data: bytes) -> None:
        """
        Any content is either read or refused.
        """
        try:
            parsed(data)
        except ConfigError as e:
            self.assertIn("/f", str(e))

    @given(st.text(max_size=20))
    def test_any_auth(self, text: str) -> None:
        """
        Any C{auth} is either a pair or refused.
        """
        pair = unpack_auth(text)
        self.assertTrue(pair is None or len(pair) == 2)
