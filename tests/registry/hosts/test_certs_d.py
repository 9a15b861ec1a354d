"""
Tests for L{xferd.registry.hosts.certs_d}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from xferd.errors import ConfigError
from xferd.registry.hosts.certs_d import CertsDirs
from xferd.registry.hosts.endpoint_config import EndpointConfig
from xferd.registry.transport.tls import TLSConfig, UnreadableFile, read_ca
from xferd.testing.certificates import Authority

MIRROR = '[host."https://m.test:5000"]\n'


class DirsCase(SynchronousTestCase):
    """
    Two directories.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        self.first, self.second = Path(self.mktemp()), Path(self.mktemp())
        self.dirs = CertsDirs([str(self.first), str(self.second)])
        self.authority = Authority()
        self.warnings: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if event.get("log_level") is not None and event["log_level"].name == "warn":
                self.warnings.append(str(event.get("why")))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def write(self, path: Path, data: str | bytes) -> None:
        """
        Write a file, with its directories.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)

    def names(self, host: str) -> list[str]:
        """
        What stands for a host.
        """
        return [endpoint.name for endpoint in self.dirs.find(host) or ()]


class FindTests(DirsCase):
    """
    L{CertsDirs.find} finds a host's directory.
    """

    def test_nothing(self) -> None:
        """
        Without directories, there is no configuration.
        """
        self.assertIsNone(self.dirs.find("r.test"))
        self.dirs.check()
        self.assertEqual(CertsDirs(()).remedy, "")
        self.assertEqual(self.dirs.remedy, str(self.second))

    def test_spellings(self) -> None:
        """
        A port may be written in two ways; the default applies to hosts without
        a directory of their own.
        """
        self.write(self.first / "_default" / "hosts.toml", '[host."https://default.test"]')
        self.assertEqual(self.names("r.test:5000"), ["default.test", "r.test:5000"])
        self.write(self.second / "r.test:5000" / "hosts.toml", '[host."https://colon.test"]')
        self.assertEqual(self.names("r.test:5000"), ["colon.test", "r.test:5000"])
        self.write(self.second / "r.test_5000_" / "hosts.toml", '[host."https://under.test"]')
        self.assertEqual(self.names("r.test:5000"), ["under.test", "r.test:5000"])
        self.assertEqual(self.names("r.test"), ["default.test", "r.test"])

    def test_docker_hub(self) -> None:
        """
        Docker Hub is found by all its names; its API is where it is.
        """
        self.write(
            self.first / "index.docker.io" / "hosts.toml",
            'server = "https://docker.io"\n[host."https://m.test"]\n[host."https://index.docker.io"]',
        )
        found = self.dirs.find("docker.io") or ()
        self.assertEqual(
            [(e.name, e.url, e.namespace) for e in found],
            [
                ("m.test", "https://m.test", "docker.io"),
                ("docker.io", "https://registry-1.docker.io", ""),
                ("docker.io", "https://registry-1.docker.io", ""),
            ],
        )

    def test_own(self) -> None:
        """
        A mirror that is the daemon itself is left out, also where it stands for the registry.
        """
        self.dirs = CertsDirs([str(self.first)], own={"127.0.0.1:5000", "mirror.test"})
        for text, names in (
            ('[host."http://127.0.0.1:5000"]\n[host."http://127.0.0.1:5001"]', ["127.0.0.1:5001", "r.test"]),
            ('[host."https://Mirror.test"]', ["r.test"]),
            ('server = "http://127.0.0.1:5000"', ["r.test"]),
        ):
            self.write(self.first / "r.test" / "hosts.toml", text)
            self.assertEqual(self.names("r.test"), names, text)

    def test_other_own(self) -> None:
        """
        The hosts of the daemon may change, in files that were read before.
        """
        self.dirs = CertsDirs([str(self.first)], own={"mirror.test"})
        self.write(
            self.first / "r.test" / "hosts.toml", '[host."https://mirror.test"]\n[host."https://m.test"]'
        )
        self.assertEqual(self.names("r.test"), ["m.test", "r.test"])
        self.dirs.reload({"m.test"})
        self.assertEqual(self.names("r.test"), ["mirror.test", "r.test"])

    def test_other_server(self) -> None:
        """
        A server in the registry's place receives the registry's name.
        """
        self.write(self.first / "r.test" / "hosts.toml", 'server = "http://s.test/x"')
        (found,) = self.dirs.find("r.test") or ()
        self.assertEqual(found, EndpointConfig("s.test", "http://s.test", "/x/v2", namespace="r.test"))

    def test_certificates(self) -> None:
        """
        The files that are named are read; each server has its own.
        """
        directory = self.first / "r.test"
        certificate, key = self.authority.issue("me")
        self.write(directory / "ca.pem", self.authority.pem)
        self.write(directory / "both.pem", certificate + key)
        self.write(
            directory / "hosts.toml",
            f'skip_verify = true\n{MIRROR}ca = "ca.pem"\nclient = "both.pem"\ndial_timeout = "2s"\n'
            'proxy = "http://p.test"\n',
        )
        mirror, own = self.dirs.find("r.test") or ()
        both = certificate + key
        self.assertEqual(mirror.transport.tls, TLSConfig("m.test", (self.authority.pem,), (both, both)))
        self.assertEqual(mirror.transport.connect, 2.0)
        assert mirror.transport.proxy is not None
        self.assertEqual(mirror.transport.proxy.name, "p.test:80")
        self.assertEqual(own.transport.tls, TLSConfig("r.test", skip_verify=True))

    def test_docker(self) -> None:
        """
        Without a C{hosts.toml}, or with an empty one, certificates are read
        as docker does.
        """
        directory = self.second / "r.test:5000"
        certificate, key = self.authority.issue("me")
        self.write(directory / "ca.crt", self.authority.pem)
        self.write(directory / "client.cert", certificate)
        self.write(directory / "client.key", key)
        self.write(directory / "hosts.toml", "\n")
        (found,) = self.dirs.find("r.test:5000") or ()
        self.assertEqual((found.name, found.url), ("r.test:5000", None))
        self.assertEqual(found.transport.tls, TLSConfig("r.test", (self.authority.pem,), (certificate, key)))
        for name, other in (("client.key", "client.cert"), ("client.cert", "client.key")):
            dirs = CertsDirs([str(self.second)])
            hidden = (directory / name).rename(directory / "hidden")
            error = str(self.assertRaises(ConfigError, dirs.find, "r.test:5000"))
            self.assertIn(f"has {other}, but not the {name}", error)
            hidden.rename(directory / name)


class ChangeTests(DirsCase):
    """
    What changes counts at once, if it can be used.
    """

    def test_changes(self) -> None:
        """
        New, changed and deleted files are noticed, and so are certificates.
        """
        path = self.first / "r.test" / "hosts.toml"
        self.write(path, f'{MIRROR}ca = "ca.pem"')
        error = str(self.assertRaises(ConfigError, self.dirs.find, "r.test"))
        self.assertIn(f"the CA file {path.parent}/ca.pem for m.test:5000 cannot be read", error)
        self.write(path.parent / "ca.pem", self.authority.pem)
        before = self.dirs.find("r.test")
        self.assertEqual(self.dirs.find("r.test"), before)
        self.write(path.parent / "ca.pem", Authority().pem + b"\n")
        self.assertNotEqual(self.dirs.find("r.test"), before)
        path.unlink()
        self.assertEqual(self.names("r.test"), ["r.test"])
        (path.parent / "ca.pem").unlink()
        path.parent.rmdir()
        self.assertIsNone(self.dirs.find("r.test"))

    def test_bad_change(self) -> None:
        """
        An invalid file is logged once, and changes nothing; when it is
        corrected, it applies.
        """
        path = self.first / "r.test" / "hosts.toml"
        self.write(path, MIRROR)
        self.assertEqual(self.names("r.test"), ["m.test:5000", "r.test"])
        self.write(path, f"{MIRROR}ca = 3")
        for _ in range(3):
            self.assertEqual(self.names("r.test"), ["m.test:5000", "r.test"])
        (warning,) = self.warnings
        self.assertIn(f"{path}, line 2", warning)
        self.write(path, "")
        self.assertEqual(self.names("r.test"), ["r.test"])

    def test_check(self) -> None:
        """
        At the start, all files are read; an invalid one is an error.
        """
        self.write(self.second / "a_1_" / "hosts.toml", MIRROR)
        self.write(self.second / "file", "")
        self.dirs.check()
        for text, why in (
            ("x", "not TOML"),
            ("#" * (1024 * 1024 + 1), "larger"),
            ('client = "none.pem"', "No such file"),
            ('proxy = "socks5://p"', "speaks socks5"),
        ):
            self.write(self.second / "_default" / "hosts.toml", text)
            self.assertIn(why, str(self.assertRaises(ConfigError, self.dirs.check)))

    def test_unreadable(self) -> None:
        """
        A key that only others may read does not keep the daemon from
        starting; its host is refused.
        """
        path = self.first / "r.test" / "ca.crt"
        self.write(path, self.authority.pem)
        path.chmod(0)
        if os.access(path, os.R_OK):
            # Root may read any file; for other users, this error is raised.
            self.assertTrue(issubclass(UnreadableFile, ConfigError))
            self.assertEqual(read_ca(str(path), "r.test"), self.authority.pem)
            return
        self.dirs.check()
        self.assertEqual(len(self.warnings), 1)
        self.assertRaises(UnreadableFile, self.dirs.find, "r.test")
