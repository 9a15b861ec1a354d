# -*- test-case-name: tests.ctl.test_listener -*-
"""
Whether secrets may be sent to what listens at an address.

Any user of a machine can listen at a free port of loopback, such as the one
where a daemon listens by default.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from xferd.names import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xferd.ctl.client import Address

_LISTENING: Final = "0A"
"""TCP_LISTEN, as C{/proc/net/tcp} has it."""


def why_not_trusted(address: Address, *, named: bool) -> str | None:
    """
    Why secrets must not be sent to a daemon, or L{None} if they may.

    @param named: whether the user named the address; otherwise a port of
        loopback must belong to this user or to root.
    """
    if address.scheme in ("unix", "https"):
        return None
    if not is_loopback(address.name):
        return f"the connection to {address} is not encrypted: use https"
    if named:
        return None
    strangers = sorted(owners(address.port or 80, _tables()) - {0, os.geteuid()})
    if strangers:
        return (
            f"the process that listens at {address} belongs to another user ({strangers[0]}): "
            f"name it with --host if it is your daemon"
        )
    return None


def owners(port: int, tables: Iterable[str]) -> set[int]:
    """
    The users whose processes listen at a TCP port of this machine.

    @param tables: what C{/proc/net/tcp} and C{/proc/net/tcp6} contain
        (proc(5)): local address, remote address, state and, four fields on,
        the user ID.
    """
    found = set()
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(int(fields[7]))
    return found


def _tables() -> Iterable[str]:
    """
    The kernel's tables of TCP sockets.
    """
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                yield file.read()
        except OSError:
            # Without IPv6, or without /proc, there is nothing to be held against the port.
            continue
