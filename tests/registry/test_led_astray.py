"""
Tests for redirects over real sockets: every URL that a registry may name
(redirects, token servers, upload sessions), with names that hide addresses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import maybeDeferred
from twisted.trial.unittest import TestCase

from tests.registry.fakes import NamingReactor
from tests.registry.pushing import ANN, Bytes
from tests.registry.wire import Listener, Peer
from xferd.errors import XferdError
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.registry import UploadSession
from xferd.names import Digest, Repository
from xferd.registry.client import Registries
from xferd.registry.hosts.configured import HostConfig
from xferd.registry.transport.proxies import Proxies, ProxySettings
from xferd.registry.transport.timeouts import Timeouts
from xferd.testing.fakes import FakeKeychain

reactor = cast(IReactor, installed)

_DATA = b"the image's bytes" * 100
_DIGEST = Digest.of(_DATA)
_EMPTY = b"\r\nContent-Length: 0\r\n\r\n"


class LedAstrayTests(TestCase):
    """
    A registry, C{hub.test}, and another server, C{inner.test}, which the
    registry names.
    """

    def setUp(self) -> None:
        """
        Start both.
        """
        self.inner = Listener(self._answer)
        self.hub = Listener(self._lead)
        self.endpoints: dict[str, Callable[[Registries], Awaitable[object]]] = {
            "redirect": self._pull,
            "realm": self._pull,
            "upload": self._push,
        }
        self.inner_status = b"200 OK"
        self.inner_body = b'{"errors": [{"code": "X", "message": "internal secret: hunter2"}]}'
        self.inner_port, self.hub_port = (self._listen(each) for each in (self.inner, self.hub))
        self.repository = Repository(f"hub.test:{self.hub_port}", "team/a")
        self.place = f"inner.test:{self.inner_port}"

    def _listen(self, listener: Listener) -> int:
        port = reactor.listenTCP(0, listener, interface="127.0.0.1")
        self.addCleanup(lambda: maybeDeferred(port.stopListening))
        return int(port.getHost().port)  # type: ignore[attr-defined]

    def _answer(self, peer: Peer, path: str) -> None:
        body = self.inner_body
        peer.send(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (self.inner_status, len(body), body))

    def _lead(self, peer: Peer, path: str) -> None:
        """
        Lead to the other server.
        """
        place = self.place.encode()
        if self.hub.heads[-1].startswith("HEAD"):
            peer.send(b"HTTP/1.1 404 No" + _EMPTY)
        elif path.endswith("/back") or self.endpoint == "redirect":
            peer.send(b"HTTP/1.1 307 Go\r\nLocation: http://%s/secret" % place + _EMPTY)
        elif self.endpoint == "realm":
            challenge = b'Bearer realm="http://%s/secret"' % place
            peer.send(b"HTTP/1.1 401 No\r\nWWW-Authenticate: " + challenge + _EMPTY)
        else:
            peer.send(b"HTTP/1.1 202 Go\r\nLocation: http://%s/secret" % place + _EMPTY)

    async def _pull(self, client: Registries) -> object:
        body = await client.repository(self.repository).open(_DIGEST, 0)
        await body.deliver(lambda _: None)
        return body

    async def _push(self, client: Registries, session: UploadSession | None = None) -> object:
        target = client.repository(self.repository)
        return await target.push(_DIGEST, Bytes(_DATA), (), session, lambda _: None, lambda _: None)

    async def _ask(
        self,
        hub: str,
        inner: str | list[str],
        *,
        private: bool = False,
        proxy: str = "",
        work: Callable[[Registries], Awaitable[object]] | None = None,
    ) -> str:
        """
        Let the registry name a URL of the other server.

        @param hub: the registry's address.
        @param inner: the other's.
        @return: the error, or the empty string if the other server received the
            request and all succeeded.
        """
        names = {"hub.test": [hub], "inner.test": [inner] if isinstance(inner, str) else inner}
        client = Registries(
            cast(IReactor, NamingReactor(reactor, names)),
            wall_clock=reactor.seconds,
            hosts={self.repository.host: HostConfig(plain_http=True, private_redirects=private)},
            keychain=FakeKeychain(lambda: ANN),
            timeouts=Timeouts(close=1),
            proxies=Proxies(ProxySettings(http=proxy)),
        )
        try:
            await (self.endpoints[self.endpoint] if work is None else work)(client)
        except XferdError as e:
            return str(e)
        finally:
            await client.close()
            await self.inner.all_closed()
            await self.hub.all_closed()
        return ""

    async def test_names(self) -> None:
        """
        A registry with a public address names a server by a name of this
        machine's, of a private network's or of a metadata service: that is
        not connected to, by none of the ways, and no password is sent.
        """
        for endpoint in self.endpoints:
            self.endpoint = endpoint
            for address in (
                "127.0.0.1",
                "::1",
                "0.0.0.0",
                "::ffff:127.0.0.1",
                "64:ff9b::7f00:1",
                "2002:7f00:1::1",
                "169.254.169.254",
                "fd00:ec2::254",
                "10.0.0.5",
                "192.168.1.1",
                "fc00::1",
            ):
                error = await self._ask("8.8.8.8", address)
                self.assertIn(
                    "leads to inner.test, which is refused: it is ", error, (self.endpoint, address)
                )
                self.assertLess(len(error), 500)
        self.assertEqual(self.inner.peers, [])

    async def test_numbers(self) -> None:
        """
        A registry names this machine by a number that is not written as an
        address: that is refused by all of the ways.
        """
        for endpoint in self.endpoints:
            self.endpoint = endpoint
            for host in ("2130706433", "0x7f000001", "127.1", "0", "0177.0.0.1", "[::ffff:127.0.0.1]"):
                self.place = f"{host}:{self.inner_port}"
                error = await self._ask("8.8.8.8", "127.0.0.1")
                self.assertIn("refused", error, (self.endpoint, host))
        self.assertEqual(self.inner.peers, [])

    async def test_public(self) -> None:
        """
        A registry may redirect to a public address; if a name has several
        addresses, the public ones are used.
        """
        for endpoint in self.endpoints:
            self.endpoint = endpoint
            for inner in ("8.8.4.4", ["127.0.0.1", "8.8.4.4", "10.0.0.1"]):
                self.inner.peers.clear()
                await self._ask("8.8.8.8", inner)
                self.assertEqual(len(self.inner.peers), 1, self.endpoint)

    async def test_private(self) -> None:
        """
        A registry in a private network may lead to another server there, and
        neither to this machine nor to a metadata service; one on this machine
        may lead to this machine.
        """
        for endpoint in self.endpoints:
            self.endpoint = endpoint
            for hub, inner, allowed in (
                ("10.0.0.1", "10.0.0.5", True),
                ("fc00::1", "192.168.1.1", True),
                ("10.0.0.1", "127.0.0.1", False),
                ("10.0.0.1", "169.254.169.254", False),
                ("127.0.0.1", "127.0.0.1", True),
                ("127.0.0.1", "169.254.169.254", False),
            ):
                self.inner.peers.clear()
                error = await self._ask(hub, inner)
                self.assertEqual("refused" not in error, allowed, (self.endpoint, hub, inner, error))
                self.assertEqual(len(self.inner.peers), int(allowed), (self.endpoint, hub, inner))

    async def test_private_redirects(self) -> None:
        """
        C{private_redirects} permits a registry with a public address to
        lead to a private one, and no further.
        """
        for endpoint in self.endpoints:
            self.endpoint = endpoint
            for inner, private, allowed in (
                ("10.0.0.5", True, True),
                ("10.0.0.5", False, False),
                ("127.0.0.1", True, False),
                ("169.254.169.254", True, False),
            ):
                self.inner.peers.clear()
                error = await self._ask("8.8.8.8", inner, private=private)
                self.assertEqual("refused" not in error, allowed, (self.endpoint, inner, error))
                self.assertEqual(len(self.inner.peers), int(allowed), (self.endpoint, inner))
                self.assertEqual("private_redirects" in error, inner == "10.0.0.5" and not private)

    async def test_public_only(self) -> None:
        """
        With a limit to public addresses, neither a registry, nor where it redirects,
        nor its token server is reached elsewhere, whatever is configured.
        """

        async def pull(client: Registries) -> object:
            body = await client.public_only().repository(self.repository).open(_DIGEST, 0)
            await body.deliver(lambda _: None)
            return body

        for self.endpoint in ("redirect", "realm"):
            for hub, inner, reached in (
                ("127.0.0.1", "8.8.4.4", (0, 0)),
                ("10.0.0.1", "8.8.4.4", (0, 0)),
                ("169.254.169.254", "8.8.4.4", (0, 0)),
                ("8.8.8.8", "10.0.0.5", (1, 0)),
                ("8.8.8.8", "127.0.0.1", (1, 0)),
                ("8.8.8.8", "8.8.4.4", (1, 1)),
            ):
                self.inner.peers.clear()
                self.hub.peers.clear()
                error = await self._ask(hub, inner, private=True, work=pull)
                found = (min(1, len(self.hub.peers)), min(1, len(self.inner.peers)))
                self.assertEqual(found, reached, (self.endpoint, hub, inner, error))
                self.assertEqual("no public address" in error, reached != (1, 1), (hub, inner, error))

    async def test_session_of_old(self) -> None:
        """
        An upload session that was remembered is checked, too.
        """
        self.endpoint = "upload"
        for place in ("inner.test", "127.0.0.1"):
            session = UploadSession(f"http://{place}:{self.inner_port}/secret", 5)
            error = await self._ask("8.8.8.8", "127.0.0.1", work=lambda c, s=session: self._push(c, s))  # type: ignore[misc]
            self.assertIn("refused", error)
        self.assertEqual(self.inner.peers, [])

    async def test_back(self) -> None:
        """
        A server with a public address leads back to a registry in a private
        network: that is refused as any other private address.
        """
        self.endpoint = "redirect"

        def back(peer: Peer, path: str) -> None:
            place = self.repository.host.encode()
            peer.send(b"HTTP/1.1 307 Go\r\nLocation: http://%s/any" % place + _EMPTY)

        self.inner.answer = back
        self.assertIn("refused", await self._ask("10.0.0.1", "8.8.4.4"))
        self.assertFalse(any("GET /any" in head for head in self.hub.heads))

    async def test_no_words(self) -> None:
        """
        A registry leads to another server, which refuses: its status
        and its name are reported, and not its text.
        """
        for endpoint in self.endpoints:
            self.endpoint = endpoint
            for status in (b"400 No", b"401 No", b"403 No", b"404 No", b"429 No", b"500 No"):
                self.inner_status = status
                error = await self._ask("8.8.8.8", "8.8.4.4")
                self.assertTrue(error, (self.endpoint, status))
                self.assertNotIn("hunter2", error, (self.endpoint, status))
                if endpoint != "upload":
                    self.assertIn("inner.test", error, (endpoint, status))

    async def test_no_document(self) -> None:
        """
        If a registry redirects to another server instead of sending a manifest
        or a list of referrers, no value of that server's JSON is shown.
        """
        self.endpoint = "redirect"
        self.inner_status = b"200 OK\r\nContent-Type: application/vnd.oci.image.index.v1+json"

        async def manifest(client: Registries) -> object:
            return await client.repository(self.repository).manifest("1")

        async def referrers(client: Registries) -> object:
            return await client.repository(self.repository).referrers(_DIGEST)

        for body in (
            b'{"schemaVersion": "hunter2"}',
            b'{"schemaVersion": 2, "manifests": [{"size": "hunter2"}]}',
        ):
            self.inner_body = body
            for work in (manifest, referrers):
                error = await self._ask("8.8.8.8", "8.8.4.4", work=work)
                self.assertIn("leads to inner.test", error)
                self.assertIn("something else", error)
                self.assertNotIn("hunter2", error)

    async def test_proxy(self) -> None:
        """
        Behind a proxy, which resolves names, an address is refused, and
        a name is requested.
        """
        self.endpoint = "redirect"
        heads: list[str] = []

        def answer(peer: Peer, path: str) -> None:
            heads.append(path)
            if "hub.test" in path:
                self._lead(peer, path)
            else:
                peer.send(b"HTTP/1.1 404 No" + _EMPTY)

        proxy = Listener(answer)
        url = f"http://127.0.0.1:{self._listen(proxy)}"
        self.hub.heads.append("GET")
        for self.place, asked in (("127.0.0.1", 1), ("10.0.0.1", 1), ("inner.test", 2)):
            heads.clear()
            error = await self._ask("8.8.8.8", "127.0.0.1", proxy=url)
            self.assertEqual(len(heads), asked, heads)
            self.assertEqual("refused" in error, asked == 1, error)
            await proxy.all_closed()
