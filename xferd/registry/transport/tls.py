# -*- test-case-name: tests.registry.transport.test_tls -*-
"""
TLS of clients: trusted authorities, client certificates, and the files that have
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import field, frozen
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate as X509Certificate
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509, PKey
from OpenSSL.SSL import Connection, Context
from twisted.internet._sslverify import IOpenSSLTrustRoot
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from xferd.errors import ConfigError
from xferd.names import is_loopback


class UnreadableFile(ConfigError):
    """
    The permissions of a file forbid to read it.
    """


@frozen
class TLSConfig:
    """
    The TLS of connections to one server, and to those that it leads to.

    Connections with equal configurations may be shared.

    @ivar host: the server's name or address, without brackets.
    @ivar ca: PEM certificates that are trusted in addition to the system's,
        also for servers that this one leads to, which are the same operator's.
    @ivar client: our certificate with its chain, and its key, in PEM; shown
        to this server only.
    @ivar exclusive: whether only C{ca} is trusted.
    @ivar skip_verify: whether any certificate is accepted; L{None} for loopback
        hosts without a CA only.
    """

    host: str
    ca: tuple[bytes, ...] = field(default=(), repr=False)
    client: tuple[bytes, bytes] | None = field(default=None, repr=False)
    skip_verify: bool | None = None
    exclusive: bool = False

    def __bool__(self) -> bool:
        """
        Whether anything differs from the default.
        """
        return bool(self.ca) or self.client is not None or self.skip_verify is not None

    def options(self, name: str) -> IOpenSSLClientConnectionCreator:
        """
        The TLS options for this server, or for one that it led to.

        @param name: its name or address, without brackets.
        """
        own = name.lower() == self.host
        client = self.client if own else None
        skip = self.skip_verify if own else None
        if skip is None:
            skip = not self.ca and is_loopback(f"[{name}]" if ":" in name else name)
        extra = {} if client is None else _client_options(*client)
        if skip:
            return UnverifiedTLS(name, CertificateOptions(**extra).getContext())
        authorities = [X509.from_cryptography(c) for pem in self.ca for c in load_pem_x509_certificates(pem)]
        creator: IOpenSSLClientConnectionCreator = optionsForClientTLS(
            name, trustRoot=_Authorities(authorities, self.exclusive), extraCertificateOptions=extra
        )
        return creator


@implementer(IOpenSSLClientConnectionCreator)
class UnverifiedTLS:
    """
    TLS that accepts any certificate.
    """

    def __init__(self, name: str, context: Context) -> None:
        """
        @param name: the server's name or address, without brackets.
        """
        self._context = context
        # RFC 6066, section 3: an address is no server name.
        self._server_name = None if isIPAddress(name) or isIPv6Address(name) else name.encode("ascii")

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: ARG002
        connection = Connection(self._context, None)
        if self._server_name is not None:
            connection.set_tlsext_host_name(self._server_name)
        return connection


@implementer(IOpenSSLTrustRoot)
class _Authorities:
    """
    Some authorities, with the system's or without.

    Twisted has each of the two, but not both: its Interface for this is
    private, and has been the same since 2014.
    """

    def __init__(self, authorities: Iterable[X509], exclusive: bool) -> None:
        self._authorities = list(authorities)
        self._exclusive = exclusive

    def _addCACertsToContext(self, context: Context) -> None:
        if not self._exclusive:
            context.set_default_verify_paths()
        store = context.get_cert_store()
        assert store is not None
        for root in self._authorities:
            store.add_cert(root)


def _client_options(certificates: bytes, key: bytes) -> dict[str, Any]:
    """
    A client certificate as arguments of L{CertificateOptions}.
    """
    first, *chain = [X509.from_cryptography(c) for c in load_pem_x509_certificates(certificates)]
    private = load_pem_private_key(key, None)
    options: dict[str, Any] = {
        "certificate": first,
        "privateKey": PKey.from_cryptography_key(private),  # type: ignore[arg-type]
    }
    return options | ({"extraCertChain": chain} if chain else {})


def read_ca(path: str, host: str) -> bytes:
    """
    Read certificates to trust.

    @param host: the host that they are for, for errors.
    @raise ConfigError: there are none; L{UnreadableFile}, if its permissions are
        the reason.
    """
    data = _read(path, "CA file", host)
    _certificates(data, path, "CA file", host)
    return data


def read_client(certificate: str, key: str, host: str) -> tuple[bytes, bytes]:
    """
    Read a client certificate and its key.

    @param key: the key's path; the certificate's own, if it is empty.
    @raise ConfigError: they are invalid, or do not belong together;
        L{UnreadableFile}, if permissions are the reason.
    """
    certificate_pem = _read(certificate, "client certificate", host)
    first, *_ = _certificates(certificate_pem, certificate, "client certificate", host)
    key = key or certificate
    key_pem = _read(key, "client key", host)
    try:
        private = load_pem_private_key(key_pem, None)
    except TypeError:
        raise ConfigError(f"the client key {key} for {host} is encrypted; xferd needs it in clear") from None
    except ValueError:
        raise ConfigError(f"the client key {key} for {host} holds no private key in PEM") from None
    kinds = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*kinds) != first.public_key().public_bytes(*kinds):
        raise ConfigError(f"the client key {key} for {host} is not the key of {certificate}")
    return certificate_pem, key_pem


def _certificates(data: bytes, path: str, what: str, host: str) -> list[X509Certificate]:
    """
    The certificates in a file.
    """
    try:
        return load_pem_x509_certificates(data)
    except ValueError:
        raise ConfigError(f"the {what} {path} for {host} holds no PEM certificates") from None


def _read(path: str, what: str, host: str) -> bytes:
    """
    Read a file.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except PermissionError as e:
        raise UnreadableFile(f"the {what} {path} for {host} cannot be read: {e.strerror}") from e
    except OSError as e:
        raise ConfigError(f"the {what} {path} for {host} cannot be read: {e.strerror}") from e
