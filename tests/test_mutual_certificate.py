"""
Tests for L{xferd.mutual_certificate}; its connections are tested in
L{tests.integration.test_fleet_certificates}.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.SSL import SSL_CB_ALERT
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.mutual_certificate import WARN_SECONDS, MutualCertificate, certified_hosts, is_certified
from xferd.server_certificate import CertificateFiles
from xferd.testing.certificates import Authority


class HostsTests(SynchronousTestCase):
    """
    The hosts that a certificate names.
    """

    def der(self, *hosts: str) -> bytes:
        """
        A certificate.
        """
        certificate, _ = Authority().issue(*hosts)
        return load_pem_x509_certificates(certificate)[0].public_bytes(Encoding.DER)

    def test_hosts(self) -> None:
        """
        Names and addresses match in any spelling, and nothing else does.
        """
        certificate = self.der("N1.fleet.example", "10.0.0.7", "fd00::7", "*.pool.example")
        for host in (
            "n1.fleet.example",
            "N1.FLEET.example.",
            "10.0.0.7",
            "fd00:0::7",
            "a.pool.example",
        ):
            self.assertTrue(is_certified(certificate, host), host)
        for host in (
            "n2.fleet.example",
            "fleet.example",
            "10.0.0.8",
            "a.b.pool.example",
            "pool.example",
            ".pool.example",
            "*",
            "",
        ):
            self.assertFalse(is_certified(certificate, host), host)

    def test_none(self) -> None:
        """
        What is no certificate names no host, and neither does one without the extension.
        """
        authority = load_pem_x509_certificates(Authority().pem)[0].public_bytes(Encoding.DER)
        for certificate in (b"", b"hello", authority):
            self.assertEqual(certified_hosts(certificate), frozenset())


class MutualCertificateTests(SynchronousTestCase):
    """
    The files of a listener, and what it logs.
    """

    def setUp(self) -> None:
        """
        Write them.
        """
        self.clock = Clock()
        place = Path(self.mktemp())
        place.mkdir()
        self.authorities = place / "ca.pem"
        authority = Authority()
        self.authorities.write_bytes(authority.pem)
        certificate, key = authority.issue("a.example")
        for name, content in (("cert.pem", certificate), ("key.pem", key)):
            (place / name).write_bytes(content)
        self.files = CertificateFiles(str(place / "key.pem"), str(place / "cert.pem"))

    def make(self) -> MutualCertificate:
        """
        Read the files.
        """
        return MutualCertificate(self.files, str(self.authorities), self.clock.seconds)

    def test_reload(self) -> None:
        """
        Files that cannot be used are refused, and the previous ones remain.
        """
        certificate = self.make()
        before = certificate._context
        self.authorities.write_bytes(b"hello")
        self.assertRaises(ConfigError, certificate.reload)
        self.assertIs(certificate._context, before)
        self.assertRaises(ConfigError, self.make)
        self.authorities.unlink()
        self.assertRaises(ConfigError, self.make)

    def test_logged(self) -> None:
        """
        Whoever connects again and again does not fill the log; what a client says in an
        alert is not logged.
        """
        events: list[LogEvent] = []
        observer: Any = events.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        certificate = self.make()
        connection = cast("Any", _Connection())
        for _ in range(2):
            for _ in range(10):
                certificate._informed(connection, SSL_CB_ALERT | 0x08, 0x22D)
                certificate._informed(connection, SSL_CB_ALERT | 0x04, 0x230)
                certificate._informed(connection, 0x10, 1)
            self.clock.advance(WARN_SECONDS)
        self.assertEqual(
            [(each["address"], each["why"]) for each in events],
            [("10.0.0.9", "its certificate has expired")] * 2,
        )


class _Connection:
    """
    A connection from 10.0.0.9, as OpenSSL passes it on.
    """

    @property
    def transport(self) -> _Connection:
        """
        Its transport.
        """
        return self

    def get_app_data(self) -> _Connection:
        """
        Its protocol.
        """
        return self

    def getPeer(self) -> IPv4Address:
        """
        The client.
        """
        return IPv4Address("TCP", "10.0.0.9", 40000)
