"""
Tests for L{xferd.registry.transport.tls}.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from OpenSSL.SSL import VERIFY_NONE, VERIFY_PEER, Connection
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import ConfigError
from xferd.registry.transport.tls import TLSConfig, read_ca, read_client
from xferd.testing.certificates import Authority


class TLSConfigTests(SynchronousTestCase):
    """
    L{TLSConfig} knows whom to trust.
    """

    def setUp(self) -> None:
        """
        Make an authority and a client's certificate.
        """
        self.authority = Authority()
        self.client = self.authority.issue("me")

    def connection(self, tls: TLSConfig, name: str) -> Connection:
        """
        A connection, as TLS begins it.
        """
        factory = TLSMemoryBIOFactory(tls.options(name), True, Factory.forProtocol(Protocol))
        protocol = factory.buildProtocol(None)
        assert isinstance(protocol, TLSMemoryBIOProtocol)
        protocol.makeConnection(StringTransport())
        connection = protocol.getHandle()
        assert isinstance(connection, Connection)
        return connection

    def test_anything_said(self) -> None:
        """
        One with the defaults alone is false.
        """
        self.assertFalse(TLSConfig("r.test"))
        self.assertTrue(TLSConfig("r.test", skip_verify=False))
        self.assertTrue(TLSConfig("r.test", ca=(b"x",)))

    def test_verified(self) -> None:
        """
        Servers are verified, except with C{skip_verify}, and loopback
        hosts without a CA; a server's own exception does not apply to
        those that it leads to.
        """
        ca = (self.authority.pem,)
        for tls, name, mode in (
            (TLSConfig("r.test", ca), "r.test", VERIFY_PEER),
            (TLSConfig("r.test", skip_verify=True), "r.test", VERIFY_NONE),
            (TLSConfig("r.test", skip_verify=True), "R.TEST", VERIFY_NONE),
            (TLSConfig("r.test", skip_verify=True), "s.test", VERIFY_PEER),
            (TLSConfig("localhost", client=self.client), "localhost", VERIFY_NONE),
            (TLSConfig("::1", client=self.client), "::1", VERIFY_NONE),
            (TLSConfig("localhost", ca), "localhost", VERIFY_PEER),
            (TLSConfig("localhost", skip_verify=False), "localhost", VERIFY_PEER),
        ):
            context = self.connection(tls, name).get_context()
            self.assertEqual(context.get_verify_mode() & VERIFY_PEER, mode & VERIFY_PEER, (tls, name))

    def test_client(self) -> None:
        """
        Our certificate is shown to the server that it is for, and no other.
        """
        for skip in (True, False):
            tls = TLSConfig("r.test", (self.authority.pem,), self.client, skip)
            own = self.connection(tls, "r.test").get_certificate()
            assert own is not None
            self.assertEqual(own.get_subject().CN, "me")
            self.assertIsNone(self.connection(tls, "s.test").get_certificate())

    def test_chain(self) -> None:
        """
        A certificate may be followed by others of its chain.
        """
        certificate, key = self.client
        tls = TLSConfig("r.test", client=(certificate + self.authority.pem, key))
        self.assertIsNotNone(self.connection(tls, "r.test").get_certificate())

    def test_secret(self) -> None:
        """
        The key is not shown.
        """
        self.assertNotIn("PRIVATE", repr(TLSConfig("r.test", client=self.client)))


class ReadTests(SynchronousTestCase):
    """
    Files are read, and held against each other.
    """

    def setUp(self) -> None:
        """
        Write some.
        """
        self.authority = Authority()
        self.certificate, self.key = self.authority.issue("me")

    def write(self, data: bytes) -> str:
        """
        Write one.
        """
        path = Path(self.mktemp())
        path.write_bytes(data)
        return str(path)

    def test_read(self) -> None:
        """
        A valid certificate is returned unchanged.
        """
        self.assertEqual(read_ca(self.write(self.authority.pem), "h"), self.authority.pem)
        both = self.write(self.certificate + self.key)
        self.assertEqual(read_client(both, "", "h"), (self.certificate + self.key,) * 2)
        certificate, key = self.write(self.certificate), self.write(self.key)
        self.assertEqual(read_client(certificate, key, "h"), (self.certificate, self.key))

    def test_refused(self) -> None:
        """
        An invalid certificate is reported with its file, its host and the
        reason.
        """
        certificate = self.write(self.certificate)
        encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
        for key, why in (
            (self.write(self.authority.issue("me")[1]), "is not the key of"),
            (self.write(encrypted), "is encrypted"),
            (self.write(b"x"), "holds no private key"),
            ("/nonexistent", "No such file"),
        ):
            error = str(self.assertRaises(ConfigError, read_client, certificate, key, "r.test"))
            for part in (key, "r.test", why):
                self.assertIn(part, error)
        for path, why in ((self.write(b"x"), "no PEM"), ("/nonexistent", "No such file")):
            for read in (lambda p: read_ca(p, "r.test"), lambda p: read_client(p, "", "r.test")):
                error = str(self.assertRaises(ConfigError, read, path))
                for part in (path, "r.test", why):
                    self.assertIn(part, error)
