# -*- test-case-name: tests.ctl.test_listener_owner -*-
"""
The owner of the process that listens at an address.

Any user of a machine can listen at a free loopback port, such as the daemon's
default one.  Where the user named no address, the listener must therefore
belong to this user or to root.
"""

from __future__ import annotations

import os
import time
from select import select
from typing import TYPE_CHECKING, Final

from xferd.peer_credentials import peer_uid

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

ACCEPTING: Final = 10.0
"""Seconds in which the listener must accept the connection: until then the kernel reports no owner."""

_PAUSE: Final = 0.005
"""Seconds between lookups of the owner."""


class UntrustedListener(OSError):
    """
    The listening process must not be trusted.
    """


def check_owner(connection: socket.socket, lookup: Callable[[socket.socket], int | None] = peer_uid) -> None:
    """
    Check that the other end of a connection belongs to this user or to root.
    Nothing is sent.

    @param lookup: returns the owner's user ID, or L{None} while unknown.
    @raise UntrustedListener: it belongs to another user, or its owner stays
        unknown.
    """
    until = time.monotonic() + ACCEPTING
    while (owner := lookup(connection)) is None:
        # An HTTP server sends nothing first: readable means closed.
        if select([connection], [], [], _PAUSE)[0]:
            raise UntrustedListener("the process there closed the connection")
        if time.monotonic() > until:
            raise UntrustedListener(
                "the owner of the process there is unknown; name the address with --host to use it"
            )
    if owner not in (0, os.geteuid()):
        raise UntrustedListener(
            f"the process there belongs to another user, {owner}; name the address with --host to use it"
        )
