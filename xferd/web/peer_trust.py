# -*- test-case-name: tests.web.test_peer_trust -*-
"""
The rights that a connection alone gives.
"""

from __future__ import annotations

import os
import socket
from enum import Enum
from typing import Final

from xferd.peer_credentials import peer_uid

_UID_MAP: Final = "/proc/self/uid_map"
_OVERFLOW: Final = 65534
"""The user that the kernel shows for one who has no number in a user namespace."""

_ALL: Final = 0xFFFFFFFF
"""How many users the map of a machine's first user namespace has."""


class Trust(Enum):
    """
    The clients of a listener that may act without a token.
    """

    ALL = "all"
    """Mode and group of a unix socket decide who can connect."""
    OWNER = "owner"
    """Every user of this machine can connect: root and the daemon's user may act."""
    NONE = "none"
    """Other machines can connect."""


def trusts(trust: Trust, uid: int | None) -> bool:
    """
    Whether a client may act because of its connection.

    @param uid: see L{user_of}.
    """
    return trust is Trust.ALL or (trust is Trust.OWNER and uid in owners())


def user_of(transport: object) -> int | None:
    """
    Find the user of a connection of this machine that was accepted just now.

    @param transport: of the connection, with or without TLS.
    @return: the user ID, or L{None} if it is not known.
    """
    connection = getattr(transport, "socket", None)
    return peer_uid(connection) if isinstance(connection, socket.socket) else None


def owners() -> frozenset[int]:
    """
    Root and the daemon's user.  In a user namespace the kernel shows one overflow
    user for all outside of it; that one is never included.
    """
    own = {0, os.geteuid()}
    if _OVERFLOW in own and not _knows_all_users():
        own.discard(_OVERFLOW)
    return frozenset(own)


def _knows_all_users() -> bool:
    """
    Whether every user of the machine has a number in this user namespace.
    """
    try:
        with open(_UID_MAP, encoding="ascii") as file:
            return file.read().split() == ["0", "0", str(_ALL)]
    except OSError:
        return False
