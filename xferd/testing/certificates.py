# -*- test-case-name: tests.registry.hosts.test_configured -*-
"""
A certificate authority for tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.ssl import CertificateOptions, PrivateCertificate

_LIFETIME = timedelta(days=1)


class Authority:
    """
    Issues certificates that only its own clients trust.

    @ivar pem: the certificate of the authority, for these clients.
    @ivar lifetime: for how long its certificates are valid.
    """

    def __init__(self, name: str = "xferd test authority", lifetime: timedelta = _LIFETIME) -> None:
        self.lifetime = lifetime
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        usage = x509.BasicConstraints(ca=True, path_length=0)
        self._certificate = (
            self._build(self._name, self._key.public_key())
            .add_extension(usage, critical=True)
            .sign(self._key, SHA256())
        )
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def issue(self, *hosts: str, expired: bool = False) -> tuple[bytes, bytes]:
        """
        Make a server's certificate.

        @param hosts: its names and addresses; C{localhost} and C{127.0.0.1}
            by default.
        @param expired: whether it was valid until an hour ago.
        @return: certificate and key in PEM.
        """
        names = hosts or ("localhost", "127.0.0.1")
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._build(_named(names[0]), key.public_key(), timedelta(hours=-1) if expired else self.lifetime)
            .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
            .sign(self._key, SHA256())
        )
        written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return certificate.public_bytes(Encoding.PEM), written

    def options(self, *hosts: str) -> CertificateOptions:
        """
        Make a server's certificate, for L{xferd.testing.server.Server.listen}.
        """
        certificate, key = self.issue(*hosts)
        options: CertificateOptions = PrivateCertificate.loadPEM(certificate + key).options()
        return options

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, lasts: timedelta = _LIFETIME
    ) -> x509.CertificateBuilder:
        """
        The common fields of all certificates.
        """
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _LIFETIME)
            .not_valid_after(now + lasts)
        )


def _named(name: str) -> x509.Name:
    """
    A distinguished name of one part.
    """
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _general(name: str) -> x509.GeneralName:
    """
    A host as a certificate names it.
    """
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
