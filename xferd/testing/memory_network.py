# -*- test-case-name: tests.testing.test_memory_network -*-
"""
A network in memory: hosts with addresses, connections between them, and their faults,
on a clock that the test winds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from twisted.internet.abstract import isIPAddress
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.error import ConnectionRefusedError as ConnectRefused
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IPushProducer,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.registry.transport.addresses import ResolvingReactor

PIECE: Final = 64 * 1024
"""Bytes that one call of C{dataReceived} gets, at most."""

BUFFER: Final = 128 * 1024
"""Bytes that a connection holds in one direction before its producer is paused."""


class MemoryNetwork:
    """
    All hosts.

    @ivar tried: the addresses and ports that were connected to.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self.tried: list[tuple[str, int]] = []
        self._factories: dict[tuple[str, int], Any] = {}
        self._clocks: dict[str, IReactorTime] = {}
        self._ends: list[_End] = []
        self._frozen: set[str] = set()
        self._down: set[str] = set()
        self._split: Callable[[str, str], bool] = lambda *_: False
        self._twisters: dict[str, Callable[[bytes], bytes]] = {}
        self._rates: dict[str, int] = {}
        self._free: dict[str, float] = {}

    def listen(self, address: str, port: int, factory: Any) -> None:
        """
        Accept connections.
        """
        self._factories[address, port] = factory

    def reactor(self, address: str, clock: IReactorTime | None = None) -> HostReactor:
        """
        The reactor of a host.

        @param clock: its clock; that of the network by default.
        """
        self._clocks[address] = self.clock if clock is None else clock
        return HostReactor(self, address, self._clocks[address])

    def clock_of(self, address: str) -> IReactorTime:
        """
        The clock of a host.
        """
        return self._clocks.get(address, self.clock)

    # ------------------------------------------------------------------ faults

    def kill(self, address: str) -> None:
        """
        End a host: its connections break, and new ones are refused.
        """
        self._down.add(address)
        for end in [end for end in self._ends if end.address == address]:
            end.break_off()

    def revive(self, address: str) -> None:
        """
        End L{kill}.
        """
        self._down.discard(address)

    def freeze(self, address: str) -> None:
        """
        Stop a host: nothing reaches it and nothing leaves it.
        """
        self._frozen.add(address)

    def thaw(self, address: str) -> None:
        """
        End L{freeze}.
        """
        self._frozen.discard(address)
        for end in list(self._ends):
            end.push()

    def split(self, apart: Callable[[str, str], bool]) -> None:
        """
        Have nothing pass between some hosts.

        @param apart: whether nothing passes between two addresses.
        """
        self._split = apart
        for end in list(self._ends):
            end.push()

    def slow(self, address: str, rate: int) -> None:
        """
        Have a host send at a rate, over all its connections.

        @param rate: bytes a second.
        """
        self._rates[address] = rate

    def twist(self, address: str, change: Callable[[bytes], bytes] | None) -> None:
        """
        Change all bytes that leave a host.
        """
        if change is None:
            self._twisters.pop(address, None)
        else:
            self._twisters[address] = change

    # ------------------------------------------------------- for connections

    def passes(self, one: str, other: str) -> bool:
        """
        Whether bytes pass between two hosts now.
        """
        return not ({one, other} & self._frozen or self._split(one, other))

    def twisted(self, address: str, data: bytes) -> bytes:
        """
        What arrives of bytes that leave a host.
        """
        change = self._twisters.get(address)
        return data if change is None else change(data)

    def turn(self, address: str, size: int) -> tuple[int, float]:
        """
        How many of some bytes a host may send next, and in how many seconds they have
        arrived.
        """
        rate = self._rates.get(address)
        if rate is None:
            return min(size, PIECE), 0.0
        size, now = min(size, max(rate // 4, 1)), self.clock.seconds()
        self._free[address] = max(self._free.get(address, now), now) + size / rate
        return size, self._free[address] - now

    def connect(self, own: str, host: str, port: int, client: Any, connector: _Connector) -> None:
        """
        Connect a client, or have its attempt fail.
        """
        self.tried.append((host, port))
        server = self._factories.get((host, port))
        if not self.passes(own, host):
            return
        if server is None or host in self._down or own in self._down:
            connector.fail(ConnectRefused())
            return
        here, there = IPv4Address("TCP", own, 40000), IPv4Address("TCP", host, port)
        accepted = server.buildProtocol(here)
        made = client.buildProtocol(there)
        if accepted is None or made is None:
            connector.fail(ConnectRefused())
            return
        connector.done()
        ours, theirs = _End(self, own, here, there), _End(self, host, there, here)
        ours.other, theirs.other = theirs, ours
        self._ends += [ours, theirs]
        theirs.begin(accepted)
        ours.begin(made)

    def forget(self, end: _End) -> None:
        """
        A connection has ended.
        """
        if end in self._ends:
            self._ends.remove(end)


@implementer(ITransport, IPushProducer)
class _End:
    """
    One end of a connection.

    @ivar address: the address of its host.
    @ivar other: the other end.
    @ivar protocol: what gets the bytes.
    @ivar reading: whether it takes bytes now.
    """

    disconnecting = False

    def __init__(self, network: MemoryNetwork, address: str, own: IAddress, peer: IAddress) -> None:
        self.address = address
        self.other: _End = self
        self._network = network
        self._own = own
        self._peer = peer
        self.protocol: Any = None
        self._buffer = bytearray()
        self._producer: Any = None
        self._waits = False
        self.reading = True
        self._closing = False
        self._over = False
        self._scheduled = False

    def begin(self, protocol: IProtocol) -> None:
        """
        Attach the protocol.
        """
        self.protocol = protocol
        protocol.makeConnection(self)

    # ------------------------------------------------------------ ITransport

    def write(self, data: bytes) -> None:
        """
        Send bytes.
        """
        if self._over or self.disconnecting:
            return
        self._buffer += data
        if len(self._buffer) > BUFFER and self._producer is not None and not self._waits:
            self._waits = True
            self._producer.pauseProducing()
        self.push()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.disconnecting = True
        self.push()

    def abortConnection(self) -> None:
        self.break_off()

    def getPeer(self) -> IAddress:
        return self._peer

    def getHost(self) -> IAddress:
        return self._own

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: ARG002
        self._producer = producer
        if self._over:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        self._producer, self._waits = None, False
        self.push()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True
        self.other.push()

    def stopProducing(self) -> None:
        self.loseConnection()

    # ---------------------------------------------------------------- inside

    def break_off(self) -> None:
        """
        End the connection at once, for both.
        """
        self.finish(ConnectionLost())
        self.other.finish(ConnectionLost())

    def push(self) -> None:
        """
        Deliver what was written, from a clean turn.
        """
        if not self._scheduled and not self._over and (self._buffer or self.disconnecting):
            self._scheduled = True
            size, seconds = self._network.turn(self.address, len(self._buffer))
            self._network.clock_of(self.other.address).callLater(seconds, self._deliver, size)

    def _deliver(self, size: int) -> None:
        self._scheduled = False
        if self._over or not self._network.passes(self.address, self.other.address):
            return
        if self._buffer:
            if not self.other.reading:
                return
            size = max(size, 1)
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            self.other.protocol.dataReceived(self._network.twisted(self.address, data))
            if self._waits and len(self._buffer) < BUFFER // 2 and self._producer is not None:
                self._waits = False
                self._producer.resumeProducing()
        elif self.disconnecting and self._producer is None:
            self.finish(ConnectionDone())
            self.other.finish(ConnectionDone())
            return
        self.push()

    def finish(self, reason: Exception) -> None:
        """
        End this side of the connection.  Idempotent.
        """
        if self._over:
            return
        self._over = True
        self._network.forget(self)
        self._buffer.clear()
        producer, self._producer = self._producer, None

        def lost() -> None:
            if producer is not None:
                producer.stopProducing()
            self.protocol.connectionLost(Failure(reason))

        self._network.clock_of(self.address).callLater(0, lost)


class _Connector:
    """
    An attempt to connect.
    """

    def __init__(self, clock: IReactorTime, address: IAddress, factory: Any, timeout: float) -> None:
        self._address = address
        self._factory = factory
        self._timer = clock.callLater(timeout, lambda: self.fail(ConnectTimeout()))
        self._over = False

    def getDestination(self) -> IAddress:
        """
        Where it leads.
        """
        return self._address

    def stopConnecting(self) -> None:
        """
        Fail this connection attempt.
        """
        self.fail(ConnectTimeout())

    def done(self) -> None:
        """
        There is a connection.
        """
        self._over = True
        self._timer.cancel()

    def fail(self, error: Exception) -> None:
        """
        There is none.
        """
        if not self._over:
            self._over = True
            if self._timer.active():
                self._timer.cancel()
            self._factory.clientConnectionFailed(self, Failure(error))

    @property
    def over(self) -> bool:
        """
        Whether the attempt has ended.
        """
        return self._over


@implementer(IReactorPluggableNameResolver)
class HostReactor(ResolvingReactor):
    """
    The reactor of one host: the network's clock, and connections from its address.

    @ivar names: the address of each name.
    """

    def __init__(self, network: MemoryNetwork, address: str, clock: IReactorTime) -> None:
        super().__init__(clock, _Names(self))
        self.names: dict[str, str] = {}
        self._network = network
        self._address = address
        self._clock = clock

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,  # noqa: ARG002
    ) -> Any:
        """
        Connect to a host of the network.
        """
        connector = _Connector(self._clock, IPv4Address("TCP", host, port), factory, timeout)
        factory.doStart()
        factory.startedConnecting(connector)

        def connect() -> None:
            if not connector.over:
                self._network.connect(self._address, host, port, factory, connector)

        self._clock.callLater(0, connect)
        return connector


@implementer(IHostnameResolver)
class _Names:
    """
    Resolves the names that a host knows; an address stands for itself.
    """

    def __init__(self, reactor: HostReactor) -> None:
        self._reactor = reactor

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,  # noqa: ARG002
        transportSemantics: str = "TCP",  # noqa: ARG002
    ) -> IHostResolution:
        """
        Report the address at once.
        """
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        address = self._reactor.names.get(hostName, hostName if isIPAddress(hostName) else None)
        if address is not None:
            resolutionReceiver.addressResolved(IPv4Address("TCP", address, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IHostResolution)
class _Resolution:
    """
    A resolution that is over at once.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """
        There is nothing to cancel.
        """
