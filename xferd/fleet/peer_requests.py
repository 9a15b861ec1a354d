# -*- test-case-name: tests.fleet.test_peer_client -*-
"""
Requests to the other nodes of a fleet, each with a proof.

What etcd says of a peer is not trusted: no request goes to an address outside of the
peers' networks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from xferd.errors import RegistryError, SourceError
from xferd.fleet.peer_messages import host_of
from xferd.fleet.proofs import NONCE_SECONDS, Proof, Prover, challenged, is_nonce
from xferd.interfaces.fleet import Peer
from xferd.registry.transport.connections import Connections, TransportConfig
from xferd.registry.transport.errors import clean, header
from xferd.registry.transport.exchange import Exchange
from xferd.registry.transport.networks import Networks
from xferd.registry.transport.response_body import read_excerpt
from xferd.registry.transport.timeouts import Timeouts
from xferd.registry.transport.tls import TLSConfig
from xferd.registry.transport.urls import Origin
from xferd.registry.transport.zones import Zone

PEER_TIMEOUTS: Final = Timeouts(
    connect=1.5, tls=1.5, headers=2.0, silence=5.0, window=10.0, floor=1024.0, excerpt=1.0, close=2.0
)
"""A peer that does not answer within 5 s in all, is silent for 5 s, or slower than 1 KiB/s,
is left.  Clients of the registry wait for 10 s."""

_NONCES: Final = 16
"""Unused nonces that are kept for one peer."""


class NotAPeer(RegistryError):
    """
    A server is not a node of this fleet, or its address is not permitted.
    """


class PeerRequests:
    """
    Makes requests.  Connections are kept, and with each answer comes the nonce for the
    next request.

    @ivar prover: proves who asks, and checks answers.
    @ivar clock: measures time.
    @ivar timeouts: the limits of each request.
    """

    def __init__(
        self,
        prover: Prover,
        networks: Networks,
        *,
        clock: IReactorTime,
        ca: tuple[bytes, ...] = (),
        client: tuple[bytes, bytes] | None = None,
        timeouts: Timeouts = PEER_TIMEOUTS,
        agent: IAgent | None = None,
        certified: bool = False,
    ) -> None:
        """
        @param certified: whether peers are known by their certificates, so that only
            https URLs are used.
        @param networks: the networks of the peers.
        @param clock: also connects (TCP and names), unless there is an C{agent}.
        @param ca: PEM certificates that sign those of peers; by default the system's.
        @param client: our own certificate and its key in PEM, for peers that want one.
        @param agent: makes the requests instead of our own connections.
        """
        self.prover = prover
        self._networks = networks
        self._certified = certified
        self.clock = clock
        self.timeouts = timeouts

        self.use_certificates(ca, client)

        def options(host: str, _: int) -> object:
            return TLSConfig(host, self._ca, self._client, exclusive=bool(self._ca)).options(host)

        self._connections = Connections(clock, timeouts=timeouts, tls_options=options)  # type: ignore[arg-type]
        config = TransportConfig(networks=networks)

        def choose(fresh: bool, led_from: Zone | None) -> IAgent:
            if agent is not None:
                return agent
            return self._connections.agent(config, reuse=not fresh, led_from=led_from)

        self._exchange = Exchange(choose, clock, timeouts)
        self._nonces: OrderedDict[str, list[tuple[float, str]]] = OrderedDict()

    def use_certificates(self, ca: tuple[bytes, ...], client: tuple[bytes, bytes] | None) -> None:
        """
        Use other certificates for the connections from now on.
        """
        self._ca, self._client = ca, client

    def usable(self, peer: Peer) -> str:
        """
        Check the URL of a peer, without a request.  A name is resolved, and its
        addresses are checked, when a connection is made.

        @return: why it may not be asked; empty if it may.
        """
        try:
            origin = Origin.of(peer.url)
        except ValueError as e:
            return f"the URL of {peer.name} is refused: {e}"
        if peer.url.rstrip("/").count("/") != 2 or "?" in peer.url or "#" in peer.url:
            return f"the URL of {peer.name} is refused: it has a path"
        if self._certified and not peer.url.startswith("https:"):
            return f"the URL of {peer.name} is refused: it is not https, and peers are known by certificates"
        if origin.zone is not None and origin.host != "localhost" and origin.host not in self._networks:
            return f"the URL of {peer.name} is refused: {origin.host} is not in peer_networks"
        return ""

    def close(self) -> Deferred[None]:
        """
        Close all connections; fires within a bounded time.
        """
        return self._connections.close()

    async def ask(
        self, peer: Peer, method: str, path: str, fields: Mapping[str, Sequence[str]]
    ) -> tuple[IResponse, Proof]:
        """
        Make a request with a proof; the first one to a peer learns a nonce.

        @param fields: its headers.
        @return: the answer, which proves nothing yet, and the proof of the request.
        @raise NotAPeer: the peer's URL is refused, or the server is not an xferd with
            the same secret.
        @raise SourceError: there is no answer.
        """
        why = self.usable(peer)
        if why:
            raise NotAPeer(why, host=host_of(peer.name))
        host = host_of(peer.name)
        nonce = self._take_nonce(peer)
        used_kept = nonce is not None
        if nonce is None:
            response = await self._send(peer, method, path, Headers({}))
            nonce = await self._challenge(response)
            if nonce is None:
                raise NotAPeer(
                    f"{peer.name} at {peer.url} is not a node of this fleet: it answers {response.code}",
                    host=host,
                )
        while nonce is not None:
            proof = self.prover.prove(method, path, peer, nonce)
            headers = Headers({"Authorization": [str(proof)], **fields})
            response = await self._send(peer, method, path, headers)
            self._keep_nonce(peer, response)
            if response.code != 401:
                return response, proof
            # A kept nonce may be older than the peer's present life.
            nonce = await self._challenge(response) if used_kept else None
            used_kept = False
        what = "peer_certificate must be for the host in url, " if self._certified else ""
        raise NotAPeer(
            f"{peer.name} refuses this node: {what}secret_file must be the same on both, and name and url "
            "correct",
            host=host,
        )

    async def reaches(self, peer: Peer, path: str) -> bool:
        """
        Whether a peer answers a request without a proof as an xferd does.
        """
        try:
            return not self.usable(peer) and bool(
                await self._challenge(await self._send(peer, "GET", path, Headers({})))
            )
        except SourceError:
            return False

    async def _challenge(self, response: IResponse) -> str | None:
        """
        Drop a response, and return the nonce in it, if it is a 401 of a peer.
        """
        await self.excerpt(response)
        return challenged(header(response.headers, "WWW-Authenticate")) if response.code == 401 else None

    async def _send(self, peer: Peer, method: str, path: str, headers: Headers) -> IResponse:
        url = peer.url.rstrip("/") + path
        return await self._exchange.request_once(
            method.encode("ascii"), url, headers, host=host_of(peer.name)
        )

    async def excerpt(self, response: IResponse) -> str:
        """
        The begin of the text of an answer; the rest is dropped.
        """
        data = await read_excerpt(response, host="a peer", clock=self.clock, timeouts=self.timeouts)
        return clean(data.decode("utf-8", "replace"))

    def _take_nonce(self, peer: Peer) -> str | None:
        """
        A nonce for the next request to a peer, if one is kept.
        """
        kept = self._nonces.get(f"{peer.name} {peer.url}", [])
        now = self.clock.seconds()
        while kept:
            since, nonce = kept.pop()
            if now - since < NONCE_SECONDS - self.timeouts.headers:
                return nonce
        return None

    def _keep_nonce(self, peer: Peer, response: IResponse) -> None:
        nonce = header(response.headers, "Xferd-Nonce")
        if is_nonce(nonce):
            kept = self._nonces.setdefault(f"{peer.name} {peer.url}", [])
            kept.append((self.clock.seconds(), nonce))
            del kept[:-_NONCES]
            while len(self._nonces) > 1000:
                self._nonces.popitem(last=False)
