# -*- test-case-name: tests.test_peer_credentials -*-
"""
The user at the other end of a connection on this machine, as the kernel knows
it.

For a unix socket, C{SO_PEERCRED} returns the user (unix(7)).  The other end of
a TCP connection over loopback is a socket of this machine, too; the kernel lists
the owners of sockets by C{sock_diag} (sock_diag(7)), or in C{/proc/net/tcp} and
C{tcp6} (proc(5)) where netlink is denied.

An end counts only while the connection is established and a process has it
open.  Of an end that was closed the kernel shows user 0, and so it does of a
connection that nothing has accepted yet: both have the inode number 0.

Client and daemon use this, so it imports the standard library only.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Endpoint = tuple[str, int]
"""An address without its scope, and a port."""

_ESTABLISHED: Final = 1
"""TCP_ESTABLISHED of the kernel's include/net/tcp_states.h."""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_ERROR: Final = 2
_NLM_F_REQUEST: Final = 1

_HEADER: Final = struct.Struct("=IHHII")
"""C{struct nlmsghdr}: length, type, flags, sequence number, port."""

_REQUEST: Final = struct.Struct("=BBBxI2s2s16s16sIII")
"""C{struct inet_diag_req_v2} of linux/inet_diag.h."""

_ENTRY: Final = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
"""C{struct inet_diag_msg}."""

_TIMEOUT: Final = 1.0
"""Seconds for an answer of the kernel's, which comes at once."""


def peer_uid(connection: socket.socket) -> int | None:
    """
    The user whose process has the other end of a connection open.  Blocking,
    for well below a millisecond where C{sock_diag} is allowed.

    @param connection: a connected unix socket, or a TCP socket of either
        family.
    @return: the user ID, or L{None} if the kernel does not know of one: the
        other end is on another machine or in another network namespace, is
        closed, or is not accepted yet.
    """
    try:
        if connection.family == socket.AF_UNIX:
            return _unix_uid(connection)
        if not _is_established(connection):
            return None
        own, peer = connection.getsockname()[:2], connection.getpeername()[:2]
        found = tcp_uid(peer, own)
        # A connection never returns to this state: so all the time it was this
        # peer that had the two ports, and no later connection of another user's.
        return found if _is_established(connection) else None
    except OSError:
        return None


def tcp_uid(local: Endpoint, remote: Endpoint) -> int | None:
    """
    The user whose process has a TCP socket of this machine open, looked up by
    its two addresses.  Blocking.

    Prefer L{peer_uid}: the two ports may belong to another connection by now.

    @param local: the socket's own end.
    @param remote: what it is connected to.
    @return: the user ID, or L{None} if there is no such established
        connection over loopback that a process has open.
    """
    ends = _end(local), _end(remote)
    if not (ends[0][0].is_loopback and ends[1][0].is_loopback):
        return None
    try:
        return _ask(*ends)
    except OSError:
        # Netlink or the module tcp_diag is missing, or there is no such socket.
        return uid_in_tables(_tables(), local, remote)


def uid_in_tables(tables: Iterable[str], local: Endpoint, remote: Endpoint) -> int | None:
    """
    The owner of an established socket that a process has open.

    @param tables: what C{/proc/net/tcp} and C{/proc/net/tcp6} contain: after
        a number come local address, remote address, state and, four fields on,
        the user ID, and two fields on, the inode.
    """
    wanted = [_end(local), _end(remote)]
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if (
                len(fields) > 9
                and int(fields[3], 16) == _ESTABLISHED
                and int(fields[9]) != 0
                and [_read_end(fields[1]), _read_end(fields[2])] == wanted
            ):
                return int(fields[7])
    return None


def _unix_uid(connection: socket.socket) -> int:
    """
    The user who connected, or for the end that connected, the user who
    listens.
    """
    layout = struct.Struct("=iII")
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    uid: int = layout.unpack(data)[1]
    return uid


def _is_established(connection: socket.socket) -> bool:
    """
    Whether neither end has closed a TCP connection.
    """
    # The first byte of struct tcp_info is tcpi_state.
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED


def _end(endpoint: Endpoint) -> tuple[IPv4Address | IPv6Address, int]:
    """
    An end in one form, whichever family its socket is of.
    """
    return _address(endpoint[0]), endpoint[1]


@lru_cache(maxsize=256)
def _address(text: str) -> IPv4Address | IPv6Address:
    """
    The address of an endpoint.
    """
    return _plain(ip_address(text.partition("%")[0]))


def _read_end(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """
    An end as the tables have it: words of 32 bits in the byte order of the
    machine, a colon, and the port.
    """
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    return _plain(ip_address(packed)), int(port, 16)


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """
    The address, as an IPv4 one if that is what it stands for (RFC 4291,
    section 2.5.5.2).
    """
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _ask(
    local: tuple[IPv4Address | IPv6Address, int], remote: tuple[IPv4Address | IPv6Address, int]
) -> int | None:
    """
    Look a socket up by C{sock_diag}.  An IPv4 address finds sockets of both
    families.

    @raise OSError: the kernel does not answer, or knows no such socket.
    """
    family = socket.AF_INET if local[0].version == 4 else socket.AF_INET6
    packed = [address.packed.ljust(16, b"\0") for address, _ in (local, remote)]
    ports = [port.to_bytes(2, "big") for _, port in (local, remote)]
    any_cookie = 0xFFFFFFFF
    request = _REQUEST.pack(
        family, socket.IPPROTO_TCP, 0, 1 << _ESTABLISHED, *ports, *packed, 0, any_cookie, any_cookie
    )
    head = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_TIMEOUT)
        kernel.send(head + request)
        answer = kernel.recv(4096)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        raise OSError(-code, os.strerror(-code))
    if kind != _SOCK_DIAG_BY_FAMILY or len(answer) < _HEADER.size + _ENTRY.size:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    entry = _ENTRY.unpack_from(answer, _HEADER.size)
    # Where there is no connection, the kernel finds who listens at the port.
    if entry[1] != _ESTABLISHED or entry[4:6] != tuple(ports) or entry[-1] == 0:
        return None
    uid: int = entry[-2]
    return uid


def _tables() -> Iterable[str]:
    """
    The kernel's tables of TCP sockets.
    """
    for name in ("tcp", "tcp6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as file:
                yield file.read()
        except OSError:
            # Without IPv6 there is no tcp6, and without /proc neither.
            continue
