# -*- test-case-name: tests.ctl.test_address -*-
"""
Where the daemon listens, and connecting to it: TCP, TLS or a unix socket.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from xferd.ctl.errors import BadAddress
from xferd.ctl.listener_owner import check_owner
from xferd.paths import ROOT_SOCKET, default_socket

if TYPE_CHECKING:
    from collections.abc import Mapping


class Address(NamedTuple):
    """
    One address at which a daemon may listen.

    @ivar scheme: C{unix}, C{http} or C{https}.
    @ivar name: the socket's path, or the host.
    @ivar port: the port, or L{None}.
    @ivar prefix: the path before C{/api}.
    @ivar named: whether the user chose the address.  At any other address
        the listening process must belong to this user or to root.
    """

    scheme: str
    name: str
    port: int | None = None
    prefix: str = ""
    named: bool = True

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Parse C{http://HOST:PORT}, C{https://HOST} or C{unix:PATH}.

        @raise BadAddress: the text has none of these forms.
        """
        if text.startswith("unix:"):
            path = text[len("unix:") :]
            if path and "\0" not in path:
                return cls("unix", path)
        elif text.isprintable():
            from xferd.http_urls import split_url  # noqa: PLC0415 - slow to import, and for these alone

            try:
                parts = split_url(text)
                if parts.scheme in ("http", "https") and parts.hostname and parts.username is None:
                    return cls(parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/"))
            except ValueError:
                # A port that is not a number, or unbalanced brackets.
                pass
        raise BadAddress(f"{text!r} is not a daemon's address; use http://HOST:PORT or unix:PATH")

    def connect(self, timeout: float) -> socket.socket:
        """
        Connect.

        @param timeout: seconds for connecting and for each read and write.
        @raise OSError: the connection fails, or the user did not name the
            address and its listener belongs to another user.
        """
        if self.scheme == "unix":
            connection = _connect_unix(self.name, timeout)
        else:
            port = self.port or (443 if self.scheme == "https" else 80)
            connection = socket.create_connection((self.name, port), timeout)
        try:
            if self.scheme == "https":
                import ssl  # noqa: PLC0415 - slow to import, and for these addresses alone

                connection = ssl.create_default_context().wrap_socket(connection, server_hostname=self.name)
            if not self.named:
                check_owner(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @property
    def authority(self) -> str:
        """
        The value of a request's header C{Host}.
        """
        if self.scheme == "unix":
            return "localhost"
        host = f"[{self.name}]" if ":" in self.name else self.name
        return host if self.port is None else f"{host}:{self.port}"

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.name}"
        return f"{self.scheme}://{self.authority}{self.prefix}"


DEFAULT = Address("http", "127.0.0.1", 9337)
"""The daemon's default TCP address; it listens on a unix socket as well."""


def _connect_unix(path: str, timeout: float) -> socket.socket:
    """
    Connect to a unix socket.

    Python's own timeout makes the socket non-blocking, and Linux refuses
    a non-blocking connect with C{EAGAIN} while the listen queue is full
    (unix(7)).  C{SO_SNDTIMEO} waits for a place in the queue instead.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        limit = struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(path)
        connection.settimeout(timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def candidate_addresses(host: str | None, environ: Mapping[str, str], uid: int) -> list[Address]:
    """
    The addresses to try, in order.

    @param host: the address that the user named.  L{None} or C{""} stands for
        this user's socket, root's socket and the default port; a socket
        counts if this user may write to it.
    @raise BadAddress: C{host} cannot be parsed.
    """
    if host:
        return [Address.parse(host)]
    sockets = dict.fromkeys((default_socket(environ, uid), ROOT_SOCKET))
    found = [Address("unix", path) for path in sockets if os.access(path, os.W_OK)]
    return [address._replace(named=False) for address in (*found, DEFAULT)]
