"""
Tests for L{xferd.server_certificate}.
"""

from __future__ import annotations

from contextlib import suppress as ignored  # trial reads "suppress" of a module
from pathlib import Path
from typing import Any, cast

from cryptography.x509 import load_pem_x509_certificates
from OpenSSL.crypto import X509
from OpenSSL.SSL import Connection, WantReadError
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from xferd.errors import ConfigError
from xferd.server_certificate import CertificateFiles, ServerCertificate
from xferd.testing.certificates import Authority


class Echo(Protocol):
    """
    Sends each piece back.
    """

    def dataReceived(self, data: bytes) -> None:
        """
        Send it back.
        """
        assert self.transport is not None
        self.transport.write(data)


class Client(Protocol):
    """
    Waits for pieces.
    """

    def __init__(self) -> None:
        # One test waits at one time, and never cancels.
        self.came: Deferred[bytes] = Deferred()

    def ask(self) -> Deferred[bytes]:
        """
        Send a piece, and wait for it.
        """
        self.came = Deferred()
        assert self.transport is not None
        self.transport.write(b"x")
        return self.came

    def dataReceived(self, data: bytes) -> None:
        """
        The piece is here.
        """
        self.came.callback(data)

    @property
    def serial(self) -> int:
        """
        The serial number of the server's certificate.
        """
        certificate = cast("Any", self.transport).getPeerCertificate()
        assert isinstance(certificate, X509)
        return certificate.get_serial_number()


def serial(pem: bytes) -> int:
    """
    The serial number of a certificate.
    """
    return load_pem_x509_certificates(pem)[0].serial_number


class ServerCertificateTests(TestCase):
    """
    A certificate of a real listener.
    """

    def setUp(self) -> None:
        """
        Write a certificate.
        """
        self.authority = Authority()
        place = Path(self.mktemp())
        place.mkdir()
        self.cert, self.key = place / "cert.pem", place / "key.pem"
        self.first = self.write()

    def write(self) -> int:
        """
        Write another certificate with its key, and return its serial number.
        """
        certificate, key = self.authority.issue("a.example")
        self.cert.write_bytes(certificate + self.authority.pem)
        self.key.write_bytes(key)
        return serial(certificate)

    async def connect(self, port: int) -> Client:
        """
        Open a connection, with a complete handshake.
        """
        from twisted.internet import reactor  # noqa: PLC0415

        factory = TLSMemoryBIOFactory(CertificateOptions(), True, Factory.forProtocol(Client))
        endpoint = TCP4ClientEndpoint(cast("Any", reactor), "127.0.0.1", port)
        wrapper = cast("TLSMemoryBIOProtocol", await endpoint.connect(factory))
        self.addCleanup(wrapper.abortConnection)
        client = cast("Client", wrapper.wrappedProtocol)
        await client.ask()
        return client

    def test_whole_writes(self) -> None:
        """
        OpenSSL takes many records with one call.
        """
        certificate = ServerCertificate(CertificateFiles(str(self.key), str(self.cert)))
        server = certificate.serverConnectionForTLS(cast("TLSMemoryBIOProtocol", None))
        client = Connection(CertificateOptions().getContext(), None)
        server.set_accept_state()
        client.set_connect_state()
        for own, other in ((client, server), (server, client), (client, server), (server, client)):
            with ignored(WantReadError):
                own.do_handshake()
            other.bio_write(own.bio_read(1 << 16))
        data = bytes(1 << 17)
        self.assertEqual(server.send(data), len(data))

    async def test_reload(self) -> None:
        """
        New connections have the new certificate; those that are open continue.
        """
        from twisted.internet import reactor  # noqa: PLC0415

        certificate = ServerCertificate(CertificateFiles(str(self.key), str(self.cert)))
        verifyObject(IOpenSSLServerConnectionCreator, certificate)
        factory = TLSMemoryBIOFactory(certificate, False, Factory.forProtocol(Echo))
        listening = await TCP4ServerEndpoint(cast("Any", reactor), 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(listening.stopListening)
        port = listening.getHost().port
        before = await self.connect(port)
        self.assertEqual(before.serial, self.first)
        second = self.write()
        self.assertEqual((await self.connect(port)).serial, self.first)
        certificate.reload()
        self.assertEqual((await self.connect(port)).serial, second)
        self.assertEqual(await before.ask(), b"x")
        self.cert.write_bytes(b"")
        self.assertRaises(ConfigError, certificate.reload)
        self.assertEqual((await self.connect(port)).serial, second)


class RefusedTests(SynchronousTestCase):
    """
    Files that cannot be used.
    """

    def test_refused(self) -> None:
        """
        Each has a sentence with its name.
        """
        authority = Authority()
        (certificate, key), (_, other) = authority.issue("a"), authority.issue("b")
        place = Path(self.mktemp())
        place.mkdir()
        for cert, private, chain, why in (
            (None, key, b"", "cannot read"),
            (certificate, None, b"", "cannot read"),
            (b"x", key, b"", "cert has no PEM certificates"),
            (certificate, b"x", b"", "key has no PEM key"),
            (certificate, other, b"", "is not that of"),
            (certificate, key, b"x", "chain has no PEM certificates"),
        ):
            paths = [place / name for name in ("cert", "key", "chain")]
            for path, data in zip(paths, (cert, private, chain), strict=True):
                path.unlink(missing_ok=True)
                if data is not None:
                    path.write_bytes(data)
            files = CertificateFiles(str(paths[1]), str(paths[0]), str(paths[2]) if chain else "")
            self.assertIn(why, str(self.assertRaises(ConfigError, ServerCertificate, files)))
