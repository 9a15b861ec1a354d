# -*- test-case-name: tests.web.test_client_limits -*-
"""
How many connections and event streams there may be, and how many of them one
client may have.

A client is a user of this machine, or an address of another one.  What is kept
free for the unix socket cannot be occupied over TCP, and what is kept for
those whom a listener trusts cannot be occupied by others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum
from fractions import Fraction
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, Final

from attrs import frozen
from twisted.internet.address import UNIXAddress

from xferd.web.peer_trust import user_of


class Kind(Enum):
    """
    The ways in which a client is connected.
    """

    SOCKET = "unix socket"
    TRUSTED = "trusted"
    """Over TCP; the connection shows that it may act, or it has shown a token."""
    STRANGER = "stranger"
    """Over TCP, and it may have no right at all."""


@frozen
class Client:
    """
    To whom a connection counts.

    @ivar name: the user, or the address.
    """

    kind: Kind
    name: str


SHARES: Final[Mapping[Kind, tuple[Fraction, Fraction]]] = {
    Kind.SOCKET: (Fraction(1), Fraction(3, 4)),
    Kind.TRUSTED: (Fraction(3, 4), Fraction(1, 2)),
    Kind.STRANGER: (Fraction(1, 2), Fraction(1, 4)),
}
"""
Which part of the places clients may occupy who are connected in this way or in
a lesser one, and which part one of them may.
"""


class ClientLimits:
    """
    ClientLimits, each of which one client at a time occupies.

    @ivar taken: how many are occupied.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        """
        @param most: how many places there are now.
        """
        self._most = most
        self.taken = 0
        self._kinds: Counter[Kind] = Counter()
        self._clients: Counter[Client] = Counter()

    def has_room(self, client: Client) -> bool:
        """
        Whether a client may occupy one more.
        """
        most = self._most()
        kinds = list(SHARES)
        for position, kind in enumerate(kinds[: kinds.index(client.kind) + 1]):
            if sum(self._kinds[other] for other in kinds[position:]) >= _part(most, SHARES[kind][0]):
                return False
        return self._clients[client] < _part(most, SHARES[client.kind][1])

    def enter(self, client: Client) -> bool:
        """
        Occupy a place for a client.

        @return: whether there was one; otherwise nothing changes.
        """
        if not self.has_room(client):
            return False
        self.taken += 1
        self._kinds[client.kind] += 1
        self._clients[client] += 1
        return True

    def leave(self, client: Client) -> None:
        """
        Release a place of a client.
        """
        self.taken -= 1
        self._kinds[client.kind] -= 1
        self._clients[client] -= 1
        if not self._clients[client]:
            del self._clients[client]


def _part(most: int, share: Fraction) -> int:
    """
    A part of the places, which is one place at least if there are any.
    """
    return min(most, max(1, int(most * share)))


def client_of(transport: Any, trusted: bool) -> Client:
    """
    Whose connection it is, which was accepted just now.

    @param trusted: whether its client may act because of it.
    """
    host, peer = transport.getHost(), transport.getPeer()
    if isinstance(host, UNIXAddress):
        return Client(Kind.SOCKET, _user(transport))
    kind = Kind.TRUSTED if trusted else Kind.STRANGER
    try:
        address = ip_address(peer.host.partition("%")[0])
    except (AttributeError, ValueError):
        # What is no socket has no address that is known.
        return Client(kind, "")
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None and not address.is_loopback:
            # One customer has as many addresses as fit into that (RFC 6177).
            return Client(kind, str(ip_network((address, 64), strict=False)))
        address = address.ipv4_mapped or address
    return Client(kind, _user(transport) if address.is_loopback else str(address))


def _user(transport: Any) -> str:
    """
    The user at the other end, who may be unknown.
    """
    return f"user {user_of(transport)}"
