"""
Tests for L{xferd.listeners}.
"""

from __future__ import annotations

from socket import gethostname

from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.listeners import BACKLOG, own_hosts, parse_endpoint
from xferd.server_certificate import CertificateFiles
from xferd.web.peer_trust import Trust


class EndpointTests(SynchronousTestCase):
    """
    The endpoints of the daemon.
    """

    def test_unix(self) -> None:
        """
        The path of a unix socket is parsed as by Twisted, and Twisted's own lock is off.
        """
        for description, path in (
            ("unix:/run/s", "/run/s"),
            ("unix:/run/s:mode=660:lockfile=1", "/run/s"),
            ("unix:mode=660:address=/run/s", "/run/s"),
            ("unix:address=/run/a=b", "/run/a=b"),
            ("unix:/run/a\\:b\\\\c", "/run/a:b\\c"),
        ):
            found = parse_endpoint(description)
            self.assertEqual((found.socket, found.trust), (path, Trust.ALL))
            endpoint = serverFromString(MemoryReactor(), found.description)
            self.assertEqual((endpoint._address, endpoint._wantPID), (path, False))
            self.assertEqual(endpoint._mode, 0o660 if "mode=660" in description else 0o600)

    def test_tcp(self) -> None:
        """
        The interface of a TCP port decides who can reach it.
        """
        for description, trust, port in (
            ("tcp:80", Trust.NONE, 0),
            ("tcp:80:interface=127.0.0.1", Trust.OWNER, 80),
            ("tcp:interface=127.0.0.1:port=80", Trust.OWNER, 80),
            ("tcp:80:interface=\\:\\:1", Trust.OWNER, 80),
            ("tcp:80:interface=10.0.0.1", Trust.NONE, 0),
            ("ssl:80:interface=127.0.0.1:privateKey=k", Trust.OWNER, 0),
        ):
            found = parse_endpoint(description)
            self.assertEqual((found.trust, found.socket, found.description), (trust, "", description))
            self.assertEqual(found.port, port)

    def test_backlog(self) -> None:
        """
        Many clients can connect at the same moment, unless the endpoint names a number.
        """
        tls = ":privateKey=k"
        for description in ("tcp:80", "tcp:80:interface=127.0.0.1", f"ssl:80{tls}", "unix:/run/s"):
            found = parse_endpoint(description)
            endpoint = serverFromString(MemoryReactor(), found.plain or found.description)
            self.assertEqual(endpoint._backlog, BACKLOG)
            found = parse_endpoint(f"{description}:backlog=7")
            endpoint = serverFromString(MemoryReactor(), found.plain or found.description)
            self.assertEqual(endpoint._backlog, 7)

    def test_tls(self) -> None:
        """
        The files of a certificate are separate from the address to listen on, also of
        IPv6; unknown arguments are refused.
        """
        found = parse_endpoint(
            "ssl:443:interface=\\:\\:1:privateKey=/a\\:k:certKey=/c:backlog=9", "--registry"
        )
        self.assertEqual(found.certificate, CertificateFiles("/a:k", "/c"))
        self.assertEqual((found.trust, found.number), (Trust.OWNER, 443))
        endpoint = serverFromString(MemoryReactor(), found.plain)
        self.assertEqual((endpoint._port, endpoint._interface, endpoint._backlog), (443, "::1", 9))
        both = parse_endpoint("ssl:443:privateKey=/k:extraCertChain=/x:dhParameters=/d")
        self.assertEqual(both.certificate, CertificateFiles("/k", "/k", "/x", "/d"))
        for description, why in (
            ("ssl:443", "it needs privateKey=FILE:certKey=FILE"),
            ("ssl:443:privateKey=/k:sslmethod=X", "sslmethod is unknown"),
        ):
            self.assertIn(why, str(self.assertRaises(ConfigError, parse_endpoint, description)))

    def test_option(self) -> None:
        """
        An error names the option.
        """
        error = self.assertRaises(ConfigError, parse_endpoint, "5000", "--registry")
        expected = "--registry: '5000' is not an endpoint; an example is tcp:5000:interface=127.0.0.1"
        self.assertEqual(str(error), expected)

    def test_port(self) -> None:
        """
        A port is a number that a socket can have.
        """
        for port in ("65536", "-1", "http", "9" * 20, "²"):
            for kind in ("tcp", "ssl"):
                error = self.assertRaises(ConfigError, parse_endpoint, f"{kind}:{port}:interface=127.0.0.1")
                self.assertIn("the port must be from 0 to 65535", str(error))
        self.assertEqual(parse_endpoint("tcp:65535:interface=127.0.0.1").port, 65_535)

    def test_own_hosts(self) -> None:
        """
        A port is reached by the names of loopback and of this machine, and by the external URL.
        """
        listeners = [parse_endpoint(each) for each in ("tcp:5000", "tcp:5001:interface=10.0.0.1", "unix:/s")]
        found = own_hosts(listeners, "https://Registry.lan")
        wanted = {"127.0.0.1:5000", "localhost:5000", "[::1]:5000", f"{gethostname().lower()}:5000"}
        self.assertLessEqual({*wanted, "10.0.0.1:5001", "registry.lan"}, found)
        self.assertEqual(own_hosts([]), frozenset())

    def test_url(self) -> None:
        """
        A port has a URL for clients on this machine, unless it is known only once it listens.
        """
        for description, url in (
            ("tcp:5000:interface=127.0.0.1", "http://127.0.0.1:5000"),
            ("tcp:5000", "http://127.0.0.1:5000"),
            ("tcp:5000:interface=\\:\\:", "http://127.0.0.1:5000"),
            ("tcp:5000:interface=\\:\\:1", "http://[::1]:5000"),
            ("tcp:5000:interface=10.0.0.1", "http://10.0.0.1:5000"),
            ("ssl:5000:interface=localhost:privateKey=k", "https://localhost:5000"),
            ("tcp:0:interface=127.0.0.1", ""),
            ("unix:/run/s", ""),
            ("systemd:INET:index=0", ""),
        ):
            self.assertEqual(parse_endpoint(description).url, url, description)
