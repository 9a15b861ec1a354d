"""
Tests for L{xferd.registry.hosts.hosts_toml}.
"""

from __future__ import annotations

from textwrap import dedent

from hypothesis import given
from hypothesis.strategies import binary
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.registry.hosts.hosts_toml import (
    CAPABILITIES,
    MAX_DURATION,
    MAX_UNKNOWN,
    HostEntry,
    HostsToml,
    parse_duration,
    parse_hosts_toml,
)

PATH = "/etc/certs.d/docker.io/hosts.toml"


def read(text: str) -> HostsToml:
    """
    Read a file.
    """
    return parse_hosts_toml(dedent(text).encode(), PATH)


class ReadTests(SynchronousTestCase):
    """
    L{parse_hosts_toml} reads what containerd does.
    """

    def test_all(self) -> None:
        """
        Servers have the order of the file, the registry's own last,
        each with all its settings.
        """
        found = read(
            """
            server = "https://registry-1.docker.io"
            ca = "own.pem"
            [host."https://public.example"]
              capabilities = ["PULL"]
              ca = ["a.pem", "/b.pem"]
              client = [["c.cert", "c.key"], ["d.pem", ""]]
              skip_verify = false
              dial_timeout = "1m1.5s"
              proxy = "http://proxy:3128"
              [host."https://public.example".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."http://10.0.0.1:5000/prefix"]
              client = "e.pem"
              skip_verify = true
            [host."bare.example/v2/"]
              client = ["f.pem", "/g.pem"]
              override_path = true
            """
        )
        directory = "/etc/certs.d/docker.io"
        self.assertEqual(found.unknown, ())
        self.assertEqual(
            found.entries,
            (
                HostEntry(
                    url="https://public.example",
                    capabilities=frozenset({"pull"}),
                    ca=(f"{directory}/a.pem", "/b.pem"),
                    client=((f"{directory}/c.cert", f"{directory}/c.key"), (f"{directory}/d.pem", "")),
                    skip_verify=False,
                    headers=(("x-one", "1"), ("x-two", "2"), ("x-two", "3")),
                    dial_timeout=61.5,
                    proxy="http://proxy:3128",
                ),
                HostEntry(
                    url="http://10.0.0.1:5000",
                    path="/prefix/v2",
                    client=((f"{directory}/e.pem", ""),),
                    skip_verify=True,
                ),
                HostEntry(
                    url="https://bare.example",
                    path="/v2",
                    client=((f"{directory}/f.pem", ""), ("/g.pem", "")),
                ),
                HostEntry(url="https://registry-1.docker.io", ca=(f"{directory}/own.pem",)),
            ),
        )

    def test_default(self) -> None:
        """
        Without C{server}, the registry itself is the last one; without
        C{capabilities}, it has all.
        """
        self.assertEqual(read("").entries, (HostEntry(),))
        self.assertEqual(HostEntry().capabilities, CAPABILITIES)
        self.assertEqual(read("capabilities = []").entries, (HostEntry(),))

    def test_override_path(self) -> None:
        """
        A path that is the API's own root is used unchanged.
        """
        for url, path in (("https://h/a/b", "/a/b"), ("https://h", ""), ("https://h//a/", "/a")):
            found = read(f'server = "{url}"\noverride_path = true')
            self.assertEqual(found.entries[0].path, path)

    def test_secrets(self) -> None:
        """
        Neither headers nor a proxy's password are shown.
        """
        found = read('proxy = "http://a:hunter2@p"\nheader = {authorization = "Basic hunter2"}')
        self.assertNotIn("hunter2", repr(found))

    def test_unknown(self) -> None:
        """
        Keys that mean nothing here are passed over, and named.
        """
        found = read('[host."https://m"]\ncolour = 1')
        self.assertEqual(len(found.entries), 2)
        self.assertEqual(found.unknown, (f'{PATH}, line 2: host."https://m".colour',))

    def test_many_unknown(self) -> None:
        """
        Of very many unknown keys a few are reported, as each is searched for
        its line.
        """
        found = read("\n".join(f"k{number} = 1" for number in range(5000)))
        self.assertEqual(len(found.unknown), MAX_UNKNOWN)

    def test_endless(self) -> None:
        """
        A value that exceeds the limits of Python's reader is refused.
        """
        for text in ("capabilities = " + "[" * 5000, "capabilities = " + "9" * 5000):
            self.assertIn("cannot be read", str(self.assertRaises(ConfigError, read, text)))

    def test_refused(self) -> None:
        """
        An invalid value is reported with its file, line and key, and with the
        expected form.
        """
        mirror = '[host."https://m"]\n'
        for text, where, why in (
            ("\nserver =", "", "line 2"),
            ("server = 3", ", line 1: server", "a URL"),
            ('server = "https://"', ", line 1: server", "the URL of a server"),
            ('server = "https://h:x"', ", line 1: server", "the URL of a server"),
            ('server = "https://a:b@h"', ", line 1: server", "the URL of a server"),
            ('server = "https://a:b[::1]"', ", line 1: server", "the URL of a server"),
            ('server = "htps://h"', ", line 1: server", "the URL of a server"),
            ('server = "https://h:/v2"', ", line 1: server", "the URL of a server"),
            ('server = "%h"', ", line 1: server", "the URL of a server"),
            ("host = 3", ", line 1: host", "tables"),
            ('[host]\n"https://m" = 3', ', line 2: host."https://m"', "a table"),
            ('[host."https://m?x"]', ', line 1: host."https://m?x"', "the URL of a server"),
            (f"{mirror}\ncapabilities = ['fly']", ', line 3: host."https://m".capabilities', '"resolve"'),
            (f"{mirror}capabilities = 'pull'", ', line 2: host."https://m".capabilities', "a list"),
            (f"{mirror}ca = 3", ', line 2: host."https://m".ca', "not 3"),
            (f"{mirror}ca = ['']", ', line 2: host."https://m".ca', "the path of a PEM file"),
            (f"{mirror}client = [['a']]", ', line 2: host."https://m".client', "pairs"),
            (f"{mirror}client = 3", ', line 2: host."https://m".client', "pairs"),
            ("skip_verify = 'yes'", ", line 1: skip_verify", "true or false, not 'yes'"),
            ("override_path = 1", ", line 1: override_path", "true or false"),
            ("dial_timeout = 3", ", line 1: dial_timeout", "a duration"),
            ("dial_timeout = '3 s'", ", line 1: dial_timeout", "a duration"),
            ("header = 3", ", line 1: header", "a table"),
            ("proxy = 3", ", line 1: proxy", "the URL of a proxy"),
            ('[header]\nx = "a\\nb"', ", line 2: header.x", "a header"),
            ("[header]\n'x y' = 'a'", ', line 2: header."x y"', "a header"),
        ):
            error = str(self.assertRaises(ConfigError, read, text))
            self.assertIn(f"{PATH}{where}", error)
            self.assertIn(why, error)
        self.assertIn("UTF-8", str(self.assertRaises(ConfigError, parse_hosts_toml, b"\xff", PATH)))

    def test_password_in_a_name(self) -> None:
        """
        A password in the name of a server is not quoted.
        """
        for name in (
            "http://u:hunter2@m/v2",
            "u:hunter2@m",
            "http://u:hunter2@[::1]:5000",
            "http://u:hunter2[::1]",
        ):
            error = str(self.assertRaises(ConfigError, read, f'[host."{name}"]\n'))
            self.assertIn(f"{PATH}, line 1: host.", error)
            self.assertNotIn("hunter2", error)

    @given(binary(max_size=60))
    def test_anything(self, data: bytes) -> None:
        """
        Whatever the file holds, it is read or refused.
        """
        try:
            self.assertTrue(parse_hosts_toml(data, PATH).entries)
        except ConfigError as e:
            self.assertIn(PATH, str(e))


class DurationTests(SynchronousTestCase):
    """
    L{parse_duration} reads Go's.
    """

    def test_read(self) -> None:
        """
        Numbers with units, one after another.
        """
        for text, seconds in (("1s", 1), ("500ms", 0.5), ("1h1m1s", 3661), (".5m", 30), ("2µs", 2e-6)):
            self.assertAlmostEqual(parse_duration(text), seconds)

    def test_refused(self) -> None:
        """
        Invalid durations are refused.
        """
        for text in ("", "1", "s", "1 s", "-1s", "1s2"):
            self.assertRaises(ValueError, parse_duration, text)

    def test_long(self) -> None:
        """
        A duration has at most 64 characters; a longer text costs no time.
        """
        longest = "1s" * (MAX_DURATION // 2)
        self.assertEqual(parse_duration(longest), MAX_DURATION // 2)
        for text in (f"{longest}s", f"{longest}1s", "1" * 1_000_000):
            self.assertRaises(ValueError, parse_duration, text)
