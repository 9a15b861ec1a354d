# -*- test-case-name: tests.web.test_client_limits -*-
"""
Limits on connections and event streams, for each client and for all.

A client is a user of this machine, or the address of another machine.  A part
is reserved for the unix socket, and another for clients that a listener
trusts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

from attrs import frozen
from twisted.internet.address import UNIXAddress

from xferd.web.peer_trust import user_of


class Kind(Enum):
    """
    The kind of a client's connection.  A kind that comes later in this list is a lesser one.
    """

    # Enum's own is a function in Python, and each connection needs some.
    __hash__ = object.__hash__

    SOCKET = "unix socket"
    TRUSTED = "trusted"
    """Over TCP; the connection shows that it may act, or it has shown a token."""
    STRANGER = "stranger"
    """Over TCP, and it may have no right at all."""


@frozen(cache_hash=True)
class Client:
    """
    The client that a connection counts for.

    @ivar name: the user, or the address.
    @ivar uid: the user's number, where the kernel shows it.
    """

    kind: Kind
    name: str
    uid: int | None = None


UNKNOWN_USER: Final = f"user {None}"
"""The name of a client of this machine whose user the kernel does not show."""

SHARES: Final[Mapping[Kind, tuple[tuple[int, int], tuple[int, int]]]] = {
    Kind.SOCKET: ((1, 1), (3, 4)),
    Kind.TRUSTED: ((3, 4), (1, 2)),
    Kind.STRANGER: ((1, 2), (1, 4)),
}
"""
Which part of the places clients may occupy who are connected in this way or in
a lesser one, and which part one of them may: numerator and denominator.
"""

_COUNTED: Final = {kind: tuple(Kind)[: number + 1] for number, kind in enumerate(Kind)}
"""The kinds of which a client of each kind counts as one, or as a lesser one."""


class ClientLimits:
    """
    Counts what each client holds, and limits it.

    @ivar taken: how many are held by all clients.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        """
        @param most: returns how many there may be now.
        """
        self._most = most
        self.taken = 0
        # Those of each kind together with the lesser ones.
        self._kinds = dict.fromkeys(Kind, 0)
        self._clients: dict[Client, int] = {}

    def has_room(self, client: Client) -> bool:
        """
        Whether a client may hold one more.
        """
        most = self._most()
        for kind in _COUNTED[client.kind]:
            if self._kinds[kind] >= _part(most, SHARES[kind][0]):
                return False
        return self._clients.get(client, 0) < _part(most, SHARES[client.kind][1])

    def enter(self, client: Client) -> bool:
        """
        Count one more for a client.

        @return: whether the limits allow it; otherwise nothing changes.
        """
        if not self.has_room(client):
            return False
        self._count(client, 1)
        return True

    def leave(self, client: Client) -> None:
        """
        Count one less for a client.
        """
        self._count(client, -1)

    def _count(self, client: Client, change: int) -> None:
        self.taken += change
        for kind in _COUNTED[client.kind]:
            self._kinds[kind] += change
        held = self._clients.get(client, 0) + change
        if held:
            self._clients[client] = held
        else:
            del self._clients[client]


def _part(most: int, share: tuple[int, int]) -> int:
    """
    A share of all, at least one if there are any.
    """
    numerator, denominator = share
    return min(most, most * numerator // denominator or 1)


def client_of(transport: Any, trusted: bool, uid: int | None = None) -> Client:
    """
    Find the client of a connection that was accepted just now.

    @param trusted: whether its client may act because of the connection.
    @param uid: the user of the connection, if that was found before: a look-up takes
        longer than all else here.
    """
    host, peer = transport.getHost(), transport.getPeer()
    if isinstance(host, UNIXAddress):
        return _user(Kind.SOCKET, transport, uid)
    kind = Kind.TRUSTED if trusted else Kind.STRANGER
    try:
        address = ip_address(peer.host.partition("%")[0])
    except (AttributeError, ValueError):
        # What is no socket has no address that is known.
        return _client(kind, "")
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None and not address.is_loopback:
            # One customer has as many addresses as fit into that (RFC 6177).
            return _client(kind, str(ip_network((address, 64), strict=False)))
        address = address.ipv4_mapped or address
    return _user(kind, transport, uid) if address.is_loopback else _client(kind, str(address))


def _user(kind: Kind, transport: Any, uid: int | None) -> Client:
    """
    The user at the other end, where the kernel knows it.
    """
    uid = user_of(transport) if uid is None else uid
    return _client(kind, f"user {uid}", uid)


# One object for the connections of a client: tables compare it by its identity.
_client = lru_cache(maxsize=1024)(Client)
