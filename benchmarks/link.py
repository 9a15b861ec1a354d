"""
A slow link between a registry and those who pull: two network namespaces, and
between them a cable whose end at the registry sends at a given rate, or both ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from attrs import frozen

from benchmarks.peers import need_root
from benchmarks.processes import find, output

_NEAR, _FAR = "10.98.0.1", "10.98.0.2"
"""The addresses of the link, which are visible only in its namespaces."""


@frozen
class Link:
    """
    The two ends of a link.

    @ivar near: the command that runs a command at the end of those who pull.
    @ivar far: the same at the registry's end.
    @ivar address: the registry's address.
    """

    near: Sequence[str]
    far: Sequence[str]
    address: str


@contextmanager
def link(mbit: int, *, both: bool = False) -> Iterator[Link]:
    """
    Have a link for the time of the block.

    @param mbit: how many million bits it carries in a second, its frames'
        heads and the packets' counted.
    @param both: whether that is so in both directions, and not only to those who pull.
    @raise Failed: that is not possible here.
    """
    need_root()
    find("ip", "tc", "nsenter")
    near, far = f"xferd-near-{os.getpid()}", f"xferd-far-{os.getpid()}"
    with ExitStack() as stack:
        for name in (near, far):
            output(["ip", "netns", "add", name])
            stack.callback(output, ["ip", "netns", "delete", name])
        output(["ip", "-n", near, "link", "add", "xb0", "type", "veth", "peer", "name", "xb1", "netns", far])
        for name, address, end in ((near, _NEAR, "xb0"), (far, _FAR, "xb1")):
            output(["ip", "-n", name, "address", "add", f"{address}/30", "dev", end])
            for device in ("lo", end):
                output(["ip", "-n", name, "link", "set", device, "up"])
        shape = ["tbf", "rate", f"{mbit}mbit", "burst", "32kb", "latency", "100ms"]
        for name, end in ((far, "xb1"), (near, "xb0"))[: 1 + both]:
            output(["tc", "-n", name, "qdisc", "add", "dev", end, "root", *shape])
        # Not "ip netns exec": it hides /sys/fs/cgroup, which dockerd needs.
        at_near, at_far = (("nsenter", f"--net=/run/netns/{name}") for name in (near, far))
        yield Link(at_near, at_far, _FAR)
