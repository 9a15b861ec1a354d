"""
Tests for L{xferd.registry.hosts.configured}.
"""

from __future__ import annotations

from pathlib import Path

from OpenSSL.SSL import Connection
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.registry.hosts.configured import HostConfig, Hosts
from xferd.testing.certificates import Authority


class URLTests(SynchronousTestCase):
    """
    A host's URL follows from its name, the configuration, and the detected
    protocol.
    """

    def test_usual(self) -> None:
        """
        TLS, at the host itself; Docker Hub's API has another name.
        """
        hosts = Hosts({"r.example": HostConfig()})
        self.assertEqual(hosts.url("ghcr.io"), "https://ghcr.io")
        self.assertEqual(hosts.url("r.example"), "https://r.example")
        self.assertEqual(hosts.url("docker.io"), "https://registry-1.docker.io")

    def test_configured(self) -> None:
        """
        The configuration applies, to loopback hosts, too.
        """
        hosts = Hosts({"r.example:80": HostConfig(plain_http=True), "localhost:5000": HostConfig()})
        self.assertEqual(hosts.url("r.example:80"), "http://r.example:80")
        self.assertEqual(hosts.url("localhost:5000"), "https://localhost:5000")

    def test_docker_hub(self) -> None:
        """
        Docker Hub may be configured by any of its names.
        """
        for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
            hosts = Hosts({name: HostConfig(plain_http=True)})
            self.assertTrue(hosts.configures("docker.io"))
            self.assertFalse(hosts.configures("r.example"))
            self.assertEqual(hosts.url("docker.io"), "http://registry-1.docker.io")

    def test_private_redirects(self) -> None:
        """
        C{private_redirects} alone does not configure scheme and TLS of a host;
        a reload replaces it.
        """
        hosts = Hosts(
            {name: HostConfig(private_redirects=True) for name in ("index.docker.io", "[::1]:5000")}
        )
        for name in ("docker.io", "[::1]:5000"):
            self.assertTrue(hosts.allows_private(name))
            self.assertFalse(hosts.configures(name))
        self.assertFalse(hosts.allows_private("r.example"))
        self.assertIsNone(hosts.url("[::1]:5000"))
        hosts.reload({"r.example": HostConfig(private_redirects=True, plain_http=True)})
        self.assertFalse(hosts.allows_private("docker.io"))
        self.assertTrue(hosts.allows_private("r.example"))
        self.assertTrue(hosts.configures("r.example"))

    def test_reloaded(self) -> None:
        """
        A new configuration applies from then on, and an invalid one does not;
        the detected protocols are kept.
        """
        hosts = Hosts({"r.example": HostConfig()})
        hosts.learn("[::1]:5000", True)
        hosts.reload({"r.example": HostConfig(plain_http=True)})
        self.assertEqual(hosts.url("r.example"), "http://r.example")
        self.assertEqual(hosts.url("[::1]:5000"), "http://[::1]:5000")
        wrong = {"r.example": HostConfig(ca_file="/nowhere.pem")}
        self.assertIn("/nowhere.pem", str(self.assertRaises(ConfigError, hosts.reload, wrong)))
        self.assertEqual(hosts.url("r.example"), "http://r.example")

    def test_learned(self) -> None:
        """
        How a loopback host speaks is remembered until it is forgotten.
        """
        hosts = Hosts({})
        self.assertIsNone(hosts.url("[::1]:5000"))
        self.assertEqual(hosts.learn("[::1]:5000", True), "http://[::1]:5000")
        self.assertEqual(hosts.url("[::1]:5000"), "http://[::1]:5000")
        self.assertEqual(hosts.learn("127.0.0.1:1", False), "https://127.0.0.1:1")
        hosts.forget("[::1]:5000")
        hosts.forget("[::1]:5000")
        self.assertIsNone(hosts.url("[::1]:5000"))
        self.assertEqual(hosts.url("127.0.0.1:1"), "https://127.0.0.1:1")


class TLSOptionsTests(SynchronousTestCase):
    """
    Whom to trust follows from the server that is spoken to.
    """

    def setUp(self) -> None:
        """
        Write a CA.
        """
        self.ca = Path(self.mktemp())
        self.ca.write_bytes(Authority().pem)

    def test_kept(self) -> None:
        """
        Options are made once for each server.
        """
        hosts = Hosts(
            {"r.example": HostConfig(ca_file=str(self.ca)), "docker.io": HostConfig(skip_verify=True)}
        )
        for name, port in (
            ("ghcr.io", 443),
            ("r.example", 443),
            ("registry-1.docker.io", 443),
            ("::1", 5000),
        ):
            self.assertIs(hosts.tls_options(name, port), hosts.tls_options(name, port))

    def test_distinct(self) -> None:
        """
        A configuration is for its own port, and does not reach another host.
        """
        hosts = Hosts({"r.example:5000": HostConfig(ca_file=str(self.ca)), "plain.example": HostConfig()})
        own = hosts.tls_options("r.example", 5000)
        self.assertIsNot(own, hosts.tls_options("r.example", 443))
        self.assertIsNot(own, hosts.tls_options("plain.example", 443))

    def test_server_name(self) -> None:
        """
        Without verification, the server still learns which name is meant,
        unless it is an address.
        """
        hosts = Hosts({})
        for name, sent in (("localhost", b"localhost"), ("127.0.0.1", None), ("::1", None)):
            connection = hosts.tls_options(name, 5000).clientConnectionForTLS(None)  # type: ignore[arg-type]
            assert isinstance(connection, Connection)
            self.assertEqual(connection.get_servername(), sent)

    def test_bad_files(self) -> None:
        """
        A CA file that cannot be used is named.
        """
        empty = Path(self.mktemp())
        empty.write_bytes(b"nothing")
        for path, why in (("/nonexistent/ca.pem", "cannot be read"), (str(empty), "no PEM")):
            error = self.assertRaises(ConfigError, Hosts, {"r.example": HostConfig(ca_file=path)})
            self.assertIn(path, str(error))
            self.assertIn(why, str(error))

    def test_bad_host(self) -> None:
        """
        An invalid host is named.
        """
        error = self.assertRaises(ConfigError, Hosts, {"r.example:x": HostConfig()})
        self.assertIn("r.example:x", str(error))
