"""
Tests for L{xferd.registry.transport.connections}, on real sockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, clientFromString, connectProtocol
from twisted.internet.interfaces import IListeningPort, ITransport
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.iweb import IAgent

from tests.registry.fakes import NamingReactor
from tests.registry.wire import Listener, Peer
from xferd.errors import ConnectionFailed
from xferd.interfaces.reactor import IReactor
from xferd.registry.hosts.configured import Hosts
from xferd.registry.transport.client_protocol import address_of
from xferd.registry.transport.connections import Connections, TransportConfig, _Pool
from xferd.registry.transport.errors import connection_error
from xferd.registry.transport.limited_endpoint import UntrustedCertificate
from xferd.registry.transport.proxies import Proxies, Proxy, ProxySettings
from xferd.registry.transport.response_body import discard, read_whole
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.tls import TLSConfig
from xferd.registry.transport.zones import OutOfZone, Zone
from xferd.testing.certificates import Authority

reactor = cast(IReactor, installed)


class PoolTests(SynchronousTestCase):
    """
    A pool does not grow with the number of servers.
    """

    def test_forgotten(self) -> None:
        """
        Servers without an idle connection are forgotten.
        """
        pool = _Pool(Clock(), True)
        kept = ("http", "kept.example", 80)
        pool._connections = {("http", f"r{n}.example", 80): [] for n in range(100)} | {kept: [object()]}
        endpoint = clientFromString(MemoryReactorClock(), "tcp:127.0.0.1:80")
        _ = pool.getConnection(("http", "new.example", 80), endpoint)
        self.assertEqual(list(pool._connections), [kept])


class Relay(Protocol):
    """
    One connection at a proxy: reads a CONNECT, and leads on.
    """

    def __init__(self, proxy: RelayFactory) -> None:
        self._proxy = proxy
        self._head = b""
        self._other: ITransport | None = None

    def dataReceived(self, data: bytes) -> None:
        """
        Lead on, or begin to.
        """
        if self._other is not None:
            self._other.write(data)
            return
        self._head += data
        if b"\r\n\r\n" in self._head:
            self._proxy.heads.append(self._head.decode())
            _ = Deferred.fromCoroutine(self._lead())

    async def _lead(self) -> None:
        port = int(self._head.split(b" ")[1].rpartition(b":")[2])
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        assert self.transport is not None
        back = await connectProtocol(endpoint, Back(self.transport))
        self._other = back.transport
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End the other side.
        """
        if self._other is not None:
            self._other.loseConnection()


class Back(Protocol):
    """
    The other side.
    """

    def __init__(self, front: ITransport) -> None:
        self._front = front

    def dataReceived(self, data: bytes) -> None:
        """
        Give it back.
        """
        self._front.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        End the front.
        """
        self._front.loseConnection()


class RelayFactory(ServerFactory):
    """
    A proxy.

    @ivar heads: the heads of its requests.
    """

    noisy = False

    def __init__(self) -> None:
        self.heads: list[str] = []

    def buildProtocol(self, addr: object) -> Relay:
        """
        Build one.
        """
        return Relay(self)


class ConnectionsTests(TestCase):
    """
    L{Connections} keeps what differs apart.
    """

    def setUp(self) -> None:
        """
        Listen, by TLS, as C{r.test}.
        """
        self.authority = Authority()
        self.listener = Listener(self._answer)
        self.connections: list[Connections] = []
        self.addCleanup(lambda: Deferred.fromCoroutine(self._close()))
        self.port = self._listen(self.listener, self.authority.options("r.test", "127.0.0.1"))

    def _listen(self, factory: ServerFactory, tls: CertificateOptions | None) -> int:
        if tls is None:
            port: IListeningPort = reactor.listenTCP(0, factory, interface="127.0.0.1")
        else:
            port = reactor.listenSSL(0, factory, tls, interface="127.0.0.1")
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return int(port.getHost().port)  # type: ignore[attr-defined]

    def _answer(self, peer: Peer, path: str) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def make(
        self, settings: ProxySettings | None = None, names: Mapping[str, Sequence[str]] | None = None
    ) -> Connections:
        """
        Make connections, and close them in the end.

        @param names: the addresses of names.
        """
        made = Connections(
            reactor if names is None else cast(IReactor, NamingReactor(reactor, names)),
            timeouts=Timeouts(close=1),
            tls_options=Hosts({}).tls_options,
            proxies=None if settings is None else Proxies(settings),
            remedy=lambda name: f"mend {name}",
        )
        self.connections.append(made)
        return made

    async def _close(self) -> None:
        """
        Check that nothing is left.
        """
        for made in self.connections:
            await made.close()
        await self.listener.all_closed()

    async def get(self, agent: IAgent, url: str) -> bytes:
        """
        GET.
        """
        response = await agent.request(b"GET", url.encode())
        return await read_whole(
            response, 100, AssertionError, host="r.test", clock=reactor, timeouts=Timeouts()
        )

    async def test_apart(self) -> None:
        """
        Requests of one manner share a connection; those of another have
        their own, and are refused if that manner does not trust.
        """
        connections = self.make()
        url = f"https://127.0.0.1:{self.port}/"
        trusting = connections.agent(TransportConfig(TLSConfig("127.0.0.1", (self.authority.pem,))))
        for _ in range(2):
            self.assertEqual(await self.get(trusting, url), b"ok")
        self.assertEqual((len(self.listener.peers), len(connections)), (1, 1))
        self.assertIs(
            connections.agent(TransportConfig(TLSConfig("127.0.0.1", (self.authority.pem,)))), trusting
        )
        other = connections.agent(
            TransportConfig(TLSConfig("127.0.0.1", (Authority("other").pem,)), connect=5.0)
        )
        error = await self.assertFailure(Deferred.fromCoroutine(self.get(other, url)), UntrustedCertificate)
        self.assertIn(f"if it is right, mend 127.0.0.1:{self.port}", str(error))
        self.assertEqual(await self.get(connections.agent(), url), b"ok")

    async def test_led(self) -> None:
        """
        A connection to a server that was not led to, and that is idle, serves
        no request that another server led to: the address would not be
        checked.
        """
        port = self._listen(self.listener, None)
        connections = self.make(names={"inner.test": ["127.0.0.1"]})
        url = f"http://inner.test:{port}/"
        agents = {zone: connections.agent(led_from=zone) for zone in (None, *Zone)}
        for _ in range(2):
            self.assertEqual(await self.get(agents[None], url), b"ok")
        self.assertEqual(len(self.listener.peers), 1)
        for zone in (Zone.PUBLIC, Zone.PRIVATE, Zone.LINK_LOCAL):
            asking = Deferred.fromCoroutine(self.get(agents[zone], url))
            error = await self.assertFailure(asking, OutOfZone)
            self.assertEqual(str(error), "it is a loopback address of this machine")
        self.assertEqual((len(self.listener.peers), len(self.listener.heads)), (1, 2))
        for _ in range(2):
            self.assertEqual(await self.get(agents[Zone.LOOPBACK], url), b"ok")
        self.assertEqual((len(self.listener.peers), len(self.listener.heads)), (2, 4))

    async def test_address_of(self) -> None:
        """
        A response is known by the address that it came from, also one over a
        connection that was idle; behind a proxy by none.
        """
        port = self._listen(self.listener, None)
        connections = self.make(names={"inner.test": ["10.0.0.1"]})
        for _ in range(2):
            response = await connections.agent().request(b"GET", f"http://inner.test:{port}/".encode())
            self.assertEqual(address_of(response), "10.0.0.1")
            discard(response)
        connections = self.make(ProxySettings(https=f"http://127.0.0.1:{self._listen(RelayFactory(), None)}"))
        agent = connections.agent(
            TransportConfig(TLSConfig("r.test", (self.authority.pem,))), led_from=Zone.PUBLIC
        )
        response = await agent.request(b"GET", f"https://r.test:{self.port}/".encode())
        self.assertIsNone(address_of(response))
        discard(response)

    async def test_tunnel(self) -> None:
        """
        HTTPS goes through a proxy, by TLS to that where it wants it, and the
        server's certificate is looked at as ever.
        """
        for tls in (None, Authority().options("127.0.0.1")):
            relay = RelayFactory()
            scheme = "http" if tls is None else "https"
            proxy = f"{scheme}://a:hunter2@127.0.0.1:{self._listen(relay, tls)}"
            connections = self.make(ProxySettings(https=proxy))
            agent = connections.agent(TransportConfig(TLSConfig("r.test", (self.authority.pem,))))
            url = f"https://r.test:{self.port}/"
            for _ in range(2):
                self.assertEqual(await self.get(agent, url), b"ok")
            (head,) = relay.heads
            self.assertTrue(head.startswith(f"CONNECT r.test:{self.port} HTTP/1.1\r\n"))
            self.assertIn("Proxy-Authorization: Basic YTpodW50ZXIy", head)
            self.assertNotIn("hunter2", self.listener.heads[-1])
            self.assertNotIn("Proxy-", self.listener.heads[-1])
            usual = Deferred.fromCoroutine(self.get(connections.agent(), url))
            error = await self.assertFailure(usual, UntrustedCertificate)
            self.assertIn("r.test", str(error))

    async def test_scheme_in_capitals(self) -> None:
        """
        An https URL goes through a tunnel, and never to the proxy in clear,
        however its scheme is written.
        """
        relay = RelayFactory()
        proxy = f"http://127.0.0.1:{self._listen(relay, None)}"
        connections = self.make(ProxySettings(https=proxy, http=proxy))
        agent = connections.agent(TransportConfig(TLSConfig("r.test", (self.authority.pem,))))
        for scheme in ("https", "HTTPS", "Https"):
            self.assertEqual(await self.get(agent, f"{scheme}://r.test:{self.port}/"), b"ok")
        self.assertEqual({head.split(" ")[0] for head in relay.heads}, {"CONNECT"})

    async def test_whole_urls(self) -> None:
        """
        A proxy receives the whole URL of a request by plain HTTP, and its
        password; its own refusal is distinguished from the server's.
        """
        answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"HTTP/1.1 407 No\r\n\r\n"]
        proxy = Listener(lambda peer, path: peer.send(answers.pop(0)))
        port = self._listen(proxy, None)
        connections = self.make()
        found = Proxy.parse(f"http://a:hunter2@127.0.0.1:{port}", "here")
        agent = connections.agent(TransportConfig(proxy=found))
        self.assertEqual(await self.get(agent, "http://r.test/x"), b"ok")
        asking = Deferred.fromCoroutine(self.get(agent, "http://r.test/y"))
        error = await self.assertFailure(asking, ConnectionFailed)
        self.assertIn(f"the proxy 127.0.0.1:{port} wants other credentials", str(error))
        self.assertTrue(proxy.heads[0].startswith("GET http://r.test/x HTTP/1.1\r\n"))
        self.assertIn("\r\nProxy-Authorization: Basic YTpodW50ZXIy", proxy.heads[0])
        await connections.close()
        await proxy.all_closed()

    async def test_no_proxy_there(self) -> None:
        """
        A proxy that is not there is named, for plain HTTP as well.
        """
        closed = reactor.listenTCP(0, ServerFactory(), interface="127.0.0.1")
        port = closed.getHost().port  # type: ignore[attr-defined]
        await maybeDeferred(closed.stopListening)
        name = f"127.0.0.1:{port}"
        connections = self.make(ProxySettings(https=name, http=name))
        for scheme in ("https", "http"):
            asking = Deferred.fromCoroutine(self.get(connections.agent(), f"{scheme}://r.test/"))
            try:
                await asking
            except Exception as e:
                error = connection_error(e, "r.test", "r.test")
                self.assertIn(f"no answer from the proxy {name}: nothing listens there", str(error))
            else:
                self.fail("it answered")
