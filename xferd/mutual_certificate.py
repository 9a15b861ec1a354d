# -*- test-case-name: tests.test_mutual_certificate -*-
"""
TLS of a listener whose clients need a certificate, and the hosts that a certificate names.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from cryptography.x509 import (
    DNSName,
    ExtensionNotFound,
    IPAddress,
    SubjectAlternativeName,
    load_der_x509_certificate,
    load_pem_x509_certificates,
)
from OpenSSL.crypto import X509
from OpenSSL.SSL import SSL_CB_ALERT, VERIFY_FAIL_IF_NO_PEER_CERT, VERIFY_PEER, Connection
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol

from xferd.errors import ConfigError
from xferd.server_certificate import CertificateFiles, ServerCertificate

WARN_SECONDS: Final = 60.0
"""Seconds for which a refusal is not logged again: any client can connect."""

_WRITTEN: Final = 0x08
"""C{SSL_CB_WRITE}: the alert is sent, not received."""

_ALERTS: Final = {
    40: "it shows no certificate",
    42: "its certificate is not valid",
    45: "its certificate has expired",
    46: "its certificate cannot be verified",
    48: "another authority has signed its certificate",
    # By an authority of the same name, with another key.
    51: "another authority has signed its certificate",
    116: "it shows no certificate",
}
"""The reasons of alerts, by their numbers (RFC 8446, section 6.2)."""


class MutualCertificate(ServerCertificate):
    """
    Makes the TLS of connections of clients that have a certificate of an authority, and
    refuses all others in the handshake.
    """

    _log = Logger()

    def __init__(self, files: CertificateFiles, authorities: str, clock: Callable[[], float]) -> None:
        """
        @param authorities: the path of their certificates in PEM.
        @param clock: returns monotonic seconds.
        @raise ConfigError: the files cannot be used.
        """
        self._authorities = authorities
        self._clock = clock
        self._warned: dict[str, float] = {}
        super().__init__(files)

    def reload(self) -> None:
        before = getattr(self, "_context", None)
        super().reload()
        try:
            with open(self._authorities, "rb") as file:
                found = load_pem_x509_certificates(file.read())
        except (OSError, ValueError) as e:
            if before is not None:
                self._context = before
            raise ConfigError(f"{self._authorities} has no PEM certificates that can be read") from e
        store = self._context.get_cert_store()
        assert store is not None
        for each in found:
            store.add_cert(X509.from_cryptography(each))
        self._context.set_verify(VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT)
        self._context.set_info_callback(self._informed)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:
        connection = super().serverConnectionForTLS(tlsProtocol)
        connection.set_app_data(tlsProtocol)
        return connection

    def _informed(self, connection: Connection, where: int, value: int) -> None:
        """
        Log the reason for which a handshake is refused.
        """
        why = _ALERTS.get(value & 0xFF) if where & SSL_CB_ALERT and where & _WRITTEN else None
        now = self._clock()
        if why is None or self._warned.get(why, now) > now:
            return
        self._warned[why] = now + WARN_SECONDS
        protocol: Any = connection.get_app_data()
        address = getattr(protocol.transport.getPeer(), "host", "unknown")
        self._log.warn("a peer at {address} is refused: {why}", address=address, why=why)


def certified_hosts(certificate: bytes) -> frozenset[str]:
    """
    The names and addresses that a certificate is for, in lower case.

    @param certificate: in DER.
    """
    try:
        found = load_der_x509_certificate(certificate).extensions.get_extension_for_class(
            SubjectAlternativeName
        )
    except (ExtensionNotFound, ValueError):
        return frozenset()
    names = {name.lower().rstrip(".") for name in found.value.get_values_for_type(DNSName)}
    return frozenset(names | {str(each) for each in found.value.get_values_for_type(IPAddress)})


def is_certified(certificate: bytes, host: str) -> bool:
    """
    Whether a certificate is for a host.  C{*.example} is for any name with one label in
    the place of the asterisk (RFC 9525, section 6.3).

    @param certificate: in DER.
    @param host: a name or an address, without brackets.
    """
    hosts = certified_hosts(certificate)
    try:
        return str(ip_address(host)) in hosts
    except ValueError:
        name = host.lower().rstrip(".")
    first, dot, rest = name.partition(".")
    return name in hosts or bool(first and dot and f"*.{rest}" in hosts)
