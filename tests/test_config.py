"""
Tests for L{xferd.config}.
"""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import dedent

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from xferd.access_tokens import Right
from xferd.config import DEFAULT_LISTEN, Config
from xferd.errors import ConfigError
from xferd.jobs.limits import ClientLimits, HostLimits, bounds
from xferd.jobs.steering_settings import SteeringSettings
from xferd.rates import Rate
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.proxies import ProxySettings


class ConfigTests(SynchronousTestCase):
    """
    Settings of defaults and a file.
    """

    def file(self, text: str) -> str:
        """
        Write a file, and return its path.
        """
        path = str(self.mktemp())
        Path(path).write_text(dedent(text))
        return path

    def read(self, text: str) -> Config:
        """
        The default settings, overridden by a file.
        """
        return Config.default({"HOME": "/home/me"}, 1000).with_file(self.file(text))

    def refused(self, text: str) -> str:
        """
        The message for a file that is refused; it names the file.
        """
        path = self.file(text)
        error = self.assertRaises(ConfigError, Config.default({}, 0).with_file, path)
        self.assertIn(path, str(error))
        return str(error)

    def test_default(self) -> None:
        """
        All settings have defaults.
        """
        config = Config.default({}, 0)
        self.assertEqual(config.data_dir, "/var/lib/xferd")
        self.assertEqual(config.socket, "/run/xferd/xferd.sock")
        self.assertEqual(config.listen, DEFAULT_LISTEN)
        self.assertEqual(config.limits.downloads, 3)
        self.assertFalse(config.read_tokens())
        self.assertEqual(config.own_token_file, "/run/xferd/xferd.token")
        self.assertEqual(config.limits.resolved().workers, len(os.sched_getaffinity(0)))

    def test_docker_credentials(self) -> None:
        """
        By default, credentials are those of docker and podman.
        """
        usual = Config.default({"DOCKER_CONFIG": "/etc/d"}, 1000)
        self.assertEqual(usual.auth_files, ("/etc/d/config.json",))
        self.assertEqual(evolve(usual, auth_file="/f").auth_files, ("/f",))
        self.assertEqual(Config(data_dir="/d").auth_files, ())
        self.assertIn("is not a setting", self.refused('usual_auth_files = ["/f"]'))
        self.assertEqual(self.read('auth_file = "/f"').auth_files, ("/f",))

    def test_steering(self) -> None:
        """
        Pauses have the names of the API.
        """
        self.assertEqual(Config.default({}, 0).steering, SteeringSettings())
        text = '[steering]\npause = ["uploads", "hosts/index.docker.io"]\ndrain = true'
        self.assertEqual(
            self.read(text).steering, SteeringSettings(("uploads", "hosts/docker.io"), drain=True)
        )
        self.assertIn("steering.pause must have 'all', ", self.refused('[steering]\npause = ["docker.io"]'))
        self.assertIn("steering.pause must name", self.refused('[steering]\npause = ["hosts/a b"]'))
        self.assertIn("steering.drain must be true or false", self.refused("[steering]\ndrain = 1"))

    def test_log(self) -> None:
        """
        The form of the log is one of three.
        """
        self.assertEqual(Config.default({}, 0).log.format, "auto")
        self.assertEqual(self.read('[log]\nformat = "json"').log.format, "json")
        message = "format must be 'auto', 'text' or 'json', not 'xml'"
        self.assertIn(message, self.refused('[log]\nformat = "xml"'))

    def test_sharing(self) -> None:
        """
        Sharing is either C{shared} or C{isolated}.
        """
        self.assertEqual(Config.default({}, 0).sharing, "shared")
        self.assertEqual(self.read('sharing = "isolated"').sharing, "isolated")
        self.assertIn("sharing must be 'shared' or 'isolated', not 'some'", self.refused('sharing = "some"'))

    def test_file(self) -> None:
        """
        Each key of a file overrides one default; the others stay.
        """
        config = self.read(
            """
            data_dir = "/srv/xferd"
            listen = ["tcp:80", "unix:/x"]
            grace = 3
            [limits]
            downloads = 5
            ranges = 2
            workers = 7
            [retry]
            attempts = 2
            base = 0.5
            [timeouts]
            silence = 12
            [unpack]
            entries = 10
            [proxy]
            https = "http://p:1"
            no_proxy = ["a", "b"]
            [collect]
            partials = 60
            [hosts."registry.lan:5000"]
            plain_http = true
            [hosts."other.lan"]
            ca_file = "/etc/ca.pem"
            private_redirects = true
            """
        )
        self.assertEqual(config.data_dir, "/srv/xferd")
        self.assertEqual(config.listen, ("tcp:80", "unix:/x"))
        self.assertEqual(config.grace, 3.0)
        self.assertEqual(
            (config.limits.downloads, config.limits.downloads_per_host, config.limits.workers), (5, 0, 7)
        )
        self.assertEqual(config.limits.ranges, 2)
        self.assertEqual((config.retry.attempts, config.retry.base), (2, 0.5))
        self.assertEqual(config.timeouts.silence, 12.0)
        self.assertEqual(config.unpack.entries, 10)
        self.assertEqual(config.proxy, ProxySettings(https="http://p:1", no_proxy=("a", "b")))
        self.assertEqual(config.collect.partials, 60.0)
        self.assertEqual(
            config.hosts,
            {
                "registry.lan:5000": HostConfig(plain_http=True),
                "other.lan": HostConfig(ca_file="/etc/ca.pem", private_redirects=True),
            },
        )

    def test_reloaded(self) -> None:
        """
        A running daemon takes over limits, quota, hosts and the registry, and names the rest.
        """
        before = self.read('grace = 1\n[registry]\nlisten = ["tcp:1"]')
        after = self.read(
            """
            grace = 2
            [limits]
            downloads = 7
            [store]
            quota = 1_000_000
            trust_data_dir = true
            [hosts."r.test"]
            [registry]
            listen = ["tcp:2"]
            external_url = "https://registry.lan"
            """
        )
        found = before.reloaded(after)
        self.assertEqual(
            (found.limits, found.hosts, found.store.quota), (after.limits, after.hosts, 1_000_000)
        )
        self.assertEqual(found.registry, evolve(after.registry, listen=("tcp:1",)))
        self.assertEqual((found.grace, found.store.trust_data_dir), (1, False))
        late = ["grace", "store.trust_data_dir", "registry.listen"]
        self.assertEqual(sorted(before.needing_restart(after)), sorted(late))
        self.assertEqual(found.needing_restart(found), [])

    def test_proxies(self) -> None:
        """
        The environment sets the proxies; a file overrides them one by one.
        """
        config = Config.default({"HTTPS_PROXY": "http://p:1", "no_proxy": "a,b"}, 1000)
        self.assertEqual(config.proxy, ProxySettings(https="http://p:1", no_proxy=("a", "b")))
        path = Path(self.mktemp())
        path.write_text('[proxy]\nhttps = ""\nhttp = "q:2"\n')
        self.assertEqual(config.with_file(str(path)).proxy, ProxySettings(http="q:2", no_proxy=("a", "b")))

    def test_unknown_key(self) -> None:
        """
        An unknown key is refused, with the nearest setting.
        """
        self.assertIn("did you mean 'data_dir'?", self.refused("datadir = '/x'"))
        self.assertIn(
            "limits.download is not a setting; did you mean", self.refused("[limits]\ndownload = 1")
        )
        self.assertIn("the settings are: plain_http", self.refused("[hosts.x]\nzzz = 1"))

    def test_wrong_value(self) -> None:
        """
        A value of a wrong type or out of bounds is refused, with the key and the expected
        value.
        """
        for text, why in (
            ("data_dir = 1", "data_dir must be a string, not 1"),
            ("listen = 'tcp:80'", "listen must be a list of strings"),
            ("listen = [1]", "listen must be a list of strings"),
            ("grace = true", "grace must be a number, not True"),
            ("grace = -1", "grace must be at least 0.0, not -1.0"),
            ("[collect]\npartials = -1", "partials"),
            ("[store]\nquota = -1", "store.quota must be at least 0, not -1"),
            ("[store]\nquota = 1.5", "store.quota must be a whole number"),
            ("[store]\nquotas = 1", "did you mean 'quota'?"),
            ("limits = 3", "limits must be a table"),
            ("[limits]\ndownloads = 0", "limits.downloads must be a whole number from 1 to 10000, not 0"),
            ("[timeouts]\nsilence = 0", "timeouts.silence must be a number above 0, not 0.0"),
            ("[unpack]\ndepth = 0", "unpack.depth must be at least 1, not 0"),
            ("[retry]\njitter = 2", "retry.jitter must be at most 1, not 2.0"),
            ("[limits]\ndownloads = 1.5", "limits.downloads must be a whole number"),
            ("[limits]\ndownloads = true", "limits.downloads must be a whole number"),
            ("hosts = 1", "hosts must be a table of tables"),
            ("[hosts]\nx = 1", 'hosts."x" must be a table'),
            ("[hosts.x]\nplain_http = 'yes'", 'hosts."x".plain_http must be true or false'),
            ("[registry]\nrights = ['x']", "registry.rights must be a list of tables"),
            (
                "[registry.upstreams.x]\npolicy = 'open'",
                "upstreams.\"x\".policy must be of 'public', 'account'",
            ),
            ("[registry.upstreams.x]\naccounts = [{}]", "upstreams.\"x\".accounts must have 'repositories'"),
            (
                "[registry.upstreams.x]\naccounts = [{repositories = ['a b'], entry = 'x'}]",
                "must have patterns such as 'team/*', not 'a b'",
            ),
            ("[[registry.rights]]\nuser = ['x']", "registry.rights[1].user is not a setting; did you mean"),
            (
                "[[registry.rights]]\nmay = ['write']",
                "rights[1].may must be of 'pull', 'push', 'delete', not",
            ),
            ("[[registry.rights]]\nusers = ['a:b']", "users must be names of users, not 'a:b'"),
            ("[[registry.rights]]\nrepositories = ['a b']", "must be patterns such as 'local/team/*', not"),
            ("[[registry.rights]]\nusers = ['a']", "rights must have 'repositories' in each row: row 1"),
        ):
            self.assertIn(why, self.refused(text), text)

    def test_own_limits(self) -> None:
        """
        Rates have units and timetables; hosts and clients have limits of their own.
        """
        limits = self.read(
            """
            [limits]
            download_rate = "20MB/s"
            upload_rate = {"08:00-18:00" = "1MB/s", else = 5}

            [limits.hosts."ghcr.io"]
            downloads = 2
            download_rate = "5MB/s"

            [limits.clients.ci]
            weight = 3
            """
        ).limits
        self.assertEqual(limits.download_rate, Rate(20_000_000))
        self.assertEqual(limits.upload_rate.setting(), {"08:00-18:00": 1_000_000, "else": 5})
        self.assertEqual(limits.hosts, {"ghcr.io": HostLimits(downloads=2, download_rate=Rate(5_000_000))})
        self.assertEqual(limits.clients, {"ci": ClientLimits(weight=3)})
        for text, expected in (
            ('download_rate = "fast"', "limits.download_rate must be bytes per second, such as 20MB/s"),
            ('download_rate = {"8-9" = 1}', "limits.download_rate has '8-9': write times of day as"),
            ('hosts."ghcr.io".uploads = -1', 'limits.hosts."ghcr.io".uploads must be a whole number from 0'),
            ('hosts."ghcr.io".upload_rate = "x"', 'limits.hosts."ghcr.io".upload_rate must be bytes per'),
            ('hosts."no host".uploads = 1', 'limits.hosts must have names of registries: "no host" is not'),
            ('clients."c i".weight = 2', "limits.clients must have names of 1 to 64 letters"),
            ("clients.ci.wait = 2", "limits.clients.\"ci\".wait is not a setting; did you mean 'weight'?"),
        ):
            self.assertIn(expected, self.refused(f"[limits]\n{text}"))

    def test_bounds_of_limits(self) -> None:
        """
        The bounds of a limit are the same as while the daemon runs.
        """
        for name, (least, most) in bounds().items():
            for value in (least, most):
                limits = self.read(f"[limits]\n{name} = {value}").limits
                self.assertEqual(getattr(limits, name), Rate(value) if name.endswith("_rate") else value)
            for value in (least - 1, most + 1):
                why = self.refused(f"[limits]\n{name} = {value}")
                expected = f"must be a whole number from {least} to {most}, not {value}"
                self.assertIn(f"limits.{name} {expected}", why)

    def test_endless(self) -> None:
        """
        Infinite and excessive times are refused.
        """
        for value in ("inf", "-inf", "nan", "1e300", "10_000_000_000"):
            self.assertIn("grace must be a number of at most 1000000000", self.refused(f"grace = {value}"))

    def test_not_toml(self) -> None:
        """
        A file that is not TOML is refused.
        """
        for text in ("data_dir =", "listen = " + "[" * 5000):
            self.assertIn("is not TOML", self.refused(text))

    def test_endless_number(self) -> None:
        """
        A number of more digits than Python reads is refused.
        """
        self.assertIn("cannot be read", self.refused("grace = " + "9" * 5000))

    def test_no_file(self) -> None:
        """
        The error names a missing file.
        """
        error = self.assertRaises(ConfigError, Config.default({}, 0).with_file, "/nowhere/x.toml")
        self.assertIn("/nowhere/x.toml: No such file", str(error))

    def test_token(self) -> None:
        """
        The token is the content of its file, without white space.
        """
        tokens = self.read(f"token_file = '{self.file(' secret ')}'").read_tokens()
        self.assertIs(tokens.right(b"secret"), Right.ACT)
        empty = self.read(f"token_file = '{self.file(' ')}'")
        self.assertIn("is empty", str(self.assertRaises(ConfigError, empty.read_tokens)))
        missing = self.read("token_file = '/nowhere/token'")
        self.assertIn("/nowhere/token", str(self.assertRaises(ConfigError, missing.read_tokens)))

    def test_own_token(self) -> None:
        """
        The daemon keeps its own token beside the socket, or in the data directory without
        a socket.
        """
        for socket, path in (
            ("/run/s", "/run/s.token"),
            ("/run/a.sock", "/run/a.token"),
            ("", "/d/xferd.token"),
        ):
            self.assertEqual(Config(data_dir="/d", socket=socket).own_token_file, path)
