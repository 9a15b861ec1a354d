"""
Several hosts on one bridge: network namespaces whose lines send at a given rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from attrs import frozen

from benchmarks.peers import need_root
from benchmarks.processes import find, output


@frozen
class Host:
    """
    One host.

    @ivar address: its address, which is visible only on the bridge.
    @ivar within: the command that runs a command on it.
    """

    address: str
    within: Sequence[str]


@contextmanager
def hosts(rates: Sequence[int]) -> Iterator[list[Host]]:
    """
    Have hosts for the time of the block.

    @param rates: for each host the million bits that its line sends in a second.
    @raise Failed: that is not possible here.
    """
    need_root()
    find("ip", "tc", "nsenter")
    prefix = f"xferd-{os.getpid()}"
    hub = f"{prefix}-hub"
    made = []
    with ExitStack() as stack:

        def namespace(name: str) -> None:
            output(["ip", "netns", "add", name])
            stack.callback(output, ["ip", "netns", "delete", name])

        namespace(hub)
        output(["ip", "-n", hub, "link", "add", "bridge", "type", "bridge"])
        output(["ip", "-n", hub, "link", "set", "bridge", "up"])
        for number, mbit in enumerate(rates, 1):
            name, near, address = f"{prefix}-{number}", f"v{number}", f"10.98.1.{number}"
            namespace(name)
            pair = ["e0", "type", "veth", "peer", "name", near, "netns", hub]
            output(["ip", "-n", name, "link", "add", *pair])
            output(["ip", "-n", name, "address", "add", f"{address}/24", "dev", "e0"])
            for device in ("lo", "e0"):
                output(["ip", "-n", name, "link", "set", device, "up"])
            output(["ip", "-n", hub, "link", "set", near, "master", "bridge", "up"])
            shape = ["tbf", "rate", f"{mbit}mbit", "burst", f"{max(32, mbit)}kb", "latency", "100ms"]
            output(["tc", "-n", name, "qdisc", "add", "dev", "e0", "root", *shape])
            made.append(Host(address, ["nsenter", f"--net=/run/netns/{name}"]))
        yield made
