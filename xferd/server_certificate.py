# -*- test-case-name: tests.test_server_certificate -*-
"""
The certificate of a listener with TLS, which can be read again while the listener and its
connections stay.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509, PKey
from OpenSSL.SSL import Connection, Context
from OpenSSL.SSL import Error as TLSError
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import CertificateOptions, DiffieHellmanParameters
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.filepath import FilePath
from zope.interface import implementer

from xferd.errors import ConfigError

_PARTIAL_WRITE: Final = 1
"""C{SSL_MODE_ENABLE_PARTIAL_WRITE}: C{SSL_write} returns after each record."""


@frozen
class CertificateFiles:
    """
    The paths of a certificate, its key, and what belongs to them; all in PEM.

    @ivar certificate: the certificate, with those of its authorities behind it or in
        C{chain}.
    @ivar chain: further certificates, or the empty string.
    @ivar parameters: Diffie-Hellman parameters, or the empty string.
    """

    key: str
    certificate: str
    chain: str = ""
    parameters: str = ""


@implementer(IOpenSSLServerConnectionCreator)
class ServerCertificate:
    """
    Makes the TLS of a listener's connections.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """
        @raise ConfigError: the files cannot be used.
        """
        self._files = files
        self.reload()

    def reload(self) -> None:
        """
        Read the files again, for connections from now on.

        @raise ConfigError: the files cannot be used; the previous certificate remains.
        """
        self._context = _context(self._files)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> Connection:  # noqa: ARG002
        return Connection(self._context, None)


def _context(files: CertificateFiles) -> Context:
    """
    Read the files.
    """
    certificates = []
    for path in filter(None, (files.certificate, files.chain)):
        try:
            found = load_pem_x509_certificates(_read(path))
        except ValueError as e:
            raise ConfigError(f"{path} has no PEM certificates") from e
        certificates += [X509.from_cryptography(each) for each in found]
    try:
        key = PKey.from_cryptography_key(load_pem_private_key(_read(files.key), None))  # type: ignore[arg-type]
    except TypeError as e:
        raise ConfigError(f"the key in {files.key} is encrypted or of an unknown kind") from e
    except ValueError as e:
        raise ConfigError(f"{files.key} has no PEM key") from e
    try:
        parameters = (
            DiffieHellmanParameters.fromFile(FilePath(files.parameters)) if files.parameters else None
        )
        options = CertificateOptions(
            privateKey=key,
            certificate=certificates[0],
            extraCertChain=certificates[1:],
            dhParameters=parameters,
        )
        context = options.getContext()
        # What is written goes to memory, which has room for all of it.
        context.clear_mode(_PARTIAL_WRITE)
        return context
    except TLSError as e:
        raise ConfigError(f"the key in {files.key} is not that of {files.certificate}") from e
    except OSError as e:
        raise ConfigError(f"cannot read {files.parameters}: {e.strerror}") from e


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as e:
        raise ConfigError(f"cannot read {path}: {e.strerror}") from e
