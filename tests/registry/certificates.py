"""
A certificate authority for tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.ssl import CertificateOptions, PrivateCertificate

_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_TO = _FROM + timedelta(days=365 * 80)


class Authority:
    """
    Signs certificates.

    @ivar pem: its own certificate.
    """

    def __init__(self) -> None:
        self._key = generate_private_key(SECP256R1())
        self._name = _name("Test CA")
        self._certificate = self._sign(self._name, self._key, [], True)
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def server(self, host: str) -> CertificateOptions:
        """
        The TLS options of a server at a host name or an address.
        """
        key = generate_private_key(SECP256R1())
        alternative: x509.GeneralName
        try:
            alternative = x509.IPAddress(ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        certificate = self._sign(_name(host), key, [alternative], False)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem = certificate.public_bytes(Encoding.PEM) + private
        options = PrivateCertificate.loadPEM(pem).options()
        assert isinstance(options, CertificateOptions)
        return options

    def _sign(
        self, subject: x509.Name, key: EllipticCurvePrivateKey, names: list[x509.GeneralName], is_ca: bool
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_FROM)
            .not_valid_after(_TO)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
