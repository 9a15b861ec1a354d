# -*- test-case-name: tests.ctl.test_listener_owner -*-
"""
Whether C{xferctl} may believe what listens at an address.

Any user of a machine can listen at a free port of loopback, such as the one
where a daemon listens by default.  So where the user named no address, what
listens must belong to this user or to root.
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
"""Seconds in which a daemon at a port must accept the connection: before, it has no owner."""

_PAUSE: Final = 0.005
"""Seconds between two lookups of the owner."""


class UntrustedListener(OSError):
    """
    The process that listens must not be believed; the text says why.
    """


def check_owner(connection: socket.socket, lookup: Callable[[socket.socket], int | None] = peer_uid) -> None:
    """
    Make sure that the other end of a connection is this user's or root's.
    Nothing has been sent on it, and nothing is.

    @param lookup: finds the user, as L{peer_uid} does.
    @raise UntrustedListener: it is another user's, or the kernel does not know whose.
    """
    until = time.monotonic() + ACCEPTING
    while (owner := lookup(connection)) is None:
        # A server of HTTP sends nothing first, so it has hung up.
        if select([connection], [], [], _PAUSE)[0]:
            raise UntrustedListener("the process there closes connections at once")
        if time.monotonic() > until:
            raise UntrustedListener("which user's process listens there is not known; name it with --host")
    if owner not in (0, os.geteuid()):
        raise UntrustedListener(
            f"the process there belongs to another user, {owner}; name it with --host if it is your daemon"
        )
