"""
Hosts in network namespaces, on one bridge, with lines of a given rate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import count
from typing import Any

from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.procutils import which
from twisted.trial.unittest import SkipTest

from tests.integration.peers import run

_NUMBERS = count(1)

_BUFFER = 262144
"""The most bytes of a socket's buffers: a process that is stopped receives no more."""

_HEAD = 66
"""Bytes of the heads of a packet: Ethernet, IPv4, and TCP with timestamps."""


class Network:
    """
    Some hosts with the addresses 10.97.0.1, 10.97.0.2 and so on.

    Life cycle: made; built; removed.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._prefix = f"xf{os.getpid() % 100_000}-{next(_NUMBERS)}"
        self._hosts: list[Host] = []

    async def build(self) -> None:
        """
        Make the bridge, in a namespace of its own.

        @raise SkipTest: that needs root and C{iproute2}.
        """
        if os.getuid() != 0 or not which("ip") or not which("tc"):
            raise SkipTest("network namespaces need root, ip and tc")
        _, errors, code = await getProcessOutputAndValue(
            which("ip")[0], ["netns", "add", f"{self._prefix}-0"], os.environ
        )
        if code:
            raise SkipTest(f"network namespaces cannot be made here: {errors.decode()}")
        await self.ip("-n", f"{self._prefix}-0", "link", "add", "bridge", "type", "bridge")
        await self.ip("-n", f"{self._prefix}-0", "link", "set", "bridge", "up")

    async def host(self) -> Host:
        """
        Make one more host.
        """
        host = Host(self, len(self._hosts) + 1, f"{self._prefix}-{len(self._hosts) + 1}")
        self._hosts.append(host)
        hub, near = f"{self._prefix}-0", f"v{host.number}"
        await self.ip("netns", "add", host.name)
        pair = ["link", "add", "e0", "type", "veth", "peer", "name", near, "netns", hub]
        await self.ip("-n", host.name, *pair)
        await self.ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "e0")
        for device in ("lo", "e0"):
            await self.ip("-n", host.name, "link", "set", device, "up")
        await self.ip("-n", hub, "link", "set", near, "master", "bridge", "up")
        for name in ("rmem", "wmem"):
            value = f"net.ipv4.tcp_{name}=4096 {_BUFFER // 4} {_BUFFER}"
            await run(self._reactor, [*host.within, "sysctl", "-qw", value])
        return host

    async def ip(self, *arguments: str) -> str:
        """
        Run C{ip}.
        """
        return await run(self._reactor, ["ip", *arguments])

    async def tc(self, *arguments: str) -> str:
        """
        Run C{tc}.
        """
        return await run(self._reactor, ["tc", *arguments])

    async def remove(self) -> None:
        """
        Remove all.
        """
        for host in self._hosts:
            await self.ip("netns", "delete", host.name)
        await self.ip("netns", "delete", f"{self._prefix}-0")


class Host:
    """
    One host.

    @ivar number: its number, from 1 on.
    @ivar address: its address.
    @ivar within: the command that runs a command on it.
    """

    def __init__(self, network: Network, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.address = f"10.97.0.{number}"
        self.within: Sequence[str] = ["nsenter", f"--net=/run/netns/{name}"]
        self._network = network

    async def limit(self, mbit: int) -> None:
        """
        Have its line send that many million bits a second.
        """
        shape = ["tbf", "rate", f"{mbit}mbit", "burst", "32kb", "latency", "50ms"]
        await self._network.tc("-n", self.name, "qdisc", "add", "dev", "e0", "root", *shape)

    async def cut(self, *others: Host) -> None:
        """
        Have nothing leave it for other hosts.
        """
        for other in others:
            await self._network.ip("-n", self.name, "route", "add", "blackhole", f"{other.address}/32")

    async def heal(self, *others: Host) -> None:
        """
        End L{cut}.
        """
        for other in others:
            await self._network.ip("-n", self.name, "route", "delete", "blackhole", f"{other.address}/32")

    async def sent(self) -> int:
        """
        The bytes that have left it, without the heads of the packets.
        """
        (link,) = json.loads(await self._network.ip("-n", self.name, "-j", "-s", "link", "show", "e0"))
        return int(link["stats64"]["tx"]["bytes"]) - _HEAD * int(link["stats64"]["tx"]["packets"])
