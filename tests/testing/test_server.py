"""
Tests for L{xferd.testing.server}, L{xferd.testing.certificates} and for what
needs real sockets.
"""

from __future__ import annotations

from typing import Any, cast

from OpenSSL import SSL
from treq import collect
from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from xferd.interfaces.reactor import IReactor
from xferd.testing.certificates import Authority
from xferd.testing.faults import Drop, Redirect, Slow, Stall
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry

reactor = cast(IReactor, installed)


class SocketTests(TestCase):
    """
    A server on a real socket.
    """

    def setUp(self) -> None:
        """
        Make a registry with an image whose layer is larger than any buffer.
        """
        self.registry = Registry(reactor)
        self.addCleanup(self.registry.stop)
        self.image = sample_image(1, size=20_000_000, compression="tar")
        self.registry.add(self.image, "sample")
        self.blob = self.image.layers[0].blob
        self.pool = HTTPConnectionPool(reactor, persistent=True)
        self.addCleanup(self.pool.closeCachedConnections)
        self.agent = Agent(reactor, pool=self.pool)
        self.received = bytearray()

    def get(self, agent: Agent | None = None, url: str | None = None) -> Deferred[IResponse]:
        """
        Request the blob.
        """
        path = f"{self.registry.url}/v2/sample/blobs/{self.blob.digest}"
        asked: Deferred[IResponse] = (agent or self.agent).request(
            b"GET", (url or path).encode(), Headers({"Authorization": ["Basic YTpi"]})
        )
        return asked

    def read(self, response: IResponse) -> Deferred[Any]:
        """
        Read a body.
        """
        read: Deferred[Any] = collect(response, self.received.extend)
        return read

    async def test_blob(self) -> None:
        """
        A large blob arrives whole, from the loopback interface.
        """
        address = await self.registry.listen(reactor)
        self.assertEqual(f"{address.host}:{address.port}", self.registry.host)
        self.assertEqual("127.0.0.1", address.host)
        await self.read(await self.get())
        self.assertEqual(self.blob.read(), self.received)
        self.assertEqual(self.blob.descriptor.size, self.registry.bytes_sent)

    async def test_client_that_does_not_read(self) -> None:
        """
        A client that does not read stops the delivery at the size of the buffers; when it
        disconnects, the exchange is broken.
        """
        await self.registry.listen(reactor)
        response = await self.get()
        (exchange,) = self.registry.log
        self.assertLess(exchange.bytes_sent, self.blob.descriptor.size)
        await self.registry.stop()
        self.assertEqual("broken", exchange.state)
        await self.assertFailure(self.read(response), ResponseFailed)

    async def test_reset(self) -> None:
        """
        A planted reset reaches the client after the bytes.
        """
        await self.registry.listen(reactor)
        self.registry.faults.plant(Drop(5000, reset=True))
        failure = await self.assertFailure(self.read(await self.get()), ResponseFailed)
        self.assertTrue(failure.reasons[0].check(ConnectionLost), failure)
        self.assertEqual(self.blob.read()[:5000], self.received)

    async def test_drop(self) -> None:
        """
        A planted end follows exactly the planned bytes.
        """
        await self.registry.listen(reactor)
        self.registry.faults.plant(Drop(300_000))
        await self.assertFailure(self.read(await self.get()), ResponseFailed)
        self.assertEqual(self.blob.read()[:300_000], self.received)

    async def test_stop_while_stalled(self) -> None:
        """
        Stopping ends stalled answers, and is idempotent.
        """
        await self.registry.listen(reactor)
        self.registry.faults.plant(Stall(5))
        response = await self.get()
        await self.registry.stop()
        await self.registry.stop()
        await self.assertFailure(self.read(response), ResponseFailed)

    async def test_stop_while_slow(self) -> None:
        """
        Stopping ends slow answers, with no call left.
        """
        await self.registry.listen(reactor)
        self.registry.faults.plant(Slow(1000))
        response = await self.get()
        await self.registry.stop()
        await self.assertFailure(self.read(response), ResponseFailed)
        self.assertEqual("broken", self.registry.log[0].state)

    async def test_redirect_to_other_origin(self) -> None:
        """
        A redirect leads to another registry with the same content, whose log shows the
        credentials.
        """
        other = Registry(reactor, storage=self.registry.storage)
        self.addCleanup(other.stop)
        await self.registry.listen(reactor)
        await other.listen(reactor)
        self.registry.faults.plant(Redirect(other.url))
        response = await self.get()
        (location,) = response.headers.getRawHeaders("Location")
        await self.read(response)
        await self.read(await self.get(url=location))
        self.assertEqual(self.blob.read(), self.received)
        self.assertEqual(["Basic YTpi"], [e.authorization for e in other.log])

    async def test_tls(self) -> None:
        """
        It serves TLS with a certificate of a test authority.
        """
        authority = Authority()
        await self.registry.listen(reactor, tls=authority.options())
        self.assertTrue(self.registry.url.startswith("https://127.0.0.1:"))
        trusted = trustRootFromCertificates([Certificate.loadPEM(authority.pem)])
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(trusted), pool=self.pool)
        await self.read(await self.get(agent))
        self.assertEqual(self.blob.descriptor.size, len(self.received))
        await self.assertFailure(self.get(Agent(reactor)), ResponseFailed)

    async def test_tls_for_other_host(self) -> None:
        """
        A certificate is valid for its hosts only.
        """
        authority = Authority()
        await self.registry.listen(reactor, tls=authority.options("elsewhere.test"))
        trusted = trustRootFromCertificates([Certificate.loadPEM(authority.pem)])
        agent = Agent(reactor, BrowserLikePolicyForHTTPS(trusted), pool=self.pool)
        await self.assertFailure(self.get(agent), ResponseFailed)

    async def test_tls_where_there_is_none(self) -> None:
        """
        A client that tries TLS on a plain port receives an answer without TLS at once.
        """
        await self.registry.listen(reactor)
        url = self.registry.url.replace("http:", "https:")
        error = cast(Any, await self.assertFailure(self.get(url=f"{url}/v2/"), ResponseFailed))
        self.assertEqual(type(error.reasons[0].value), SSL.Error, error.reasons)
        self.assertEqual([], self.registry.log)

    async def test_never_listened(self) -> None:
        """
        A server that does not listen can be stopped.
        """
        registry = Registry(Clock())
        await registry.stop()
        self.assertEqual("", registry.url)
