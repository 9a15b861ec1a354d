# -*- test-case-name: tests.ctl.test_address -*-
"""
Where the daemon listens, and connecting to it: TCP, TLS or a unix socket.
"""

from __future__ import annotations

import os
import socket
import struct
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING, NamedTuple

from xferd.ctl.errors import BadAddress
from xferd.ctl.listener_owner import check_owner
from xferd.http_urls import split_url
from xferd.paths import ROOT_SOCKET, default_socket

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_URL = "http://127.0.0.1:9337"
"""The daemon's default TCP address; it listens on a unix socket as well."""


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
            try:
                parts = split_url(text)
                if parts.scheme in ("http", "https") and parts.hostname and parts.username is None:
                    return cls(parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/"))
            except ValueError:
                # A port that is not a number, or unbalanced brackets.
                pass
        raise BadAddress(f"{text!r} is not a daemon's address; use http://HOST:PORT or unix:PATH")

    def connect(self, timeout: float) -> HTTPConnection:
        """
        Connect.

        @param timeout: seconds for connecting and for each read and write.
        @raise OSError: the connection fails, or the user did not name the
            address and its listener belongs to another user.
        """
        connection: HTTPConnection
        if self.scheme == "unix":
            connection = UnixHTTPConnection(self.name, timeout)
        elif self.scheme == "https":
            connection = HTTPSConnection(self.name, self.port, timeout=timeout)
        else:
            connection = HTTPConnection(self.name, self.port, timeout=timeout)
        connection.connect()
        if not self.named:
            try:
                check_owner(connection.sock)
            except BaseException:
                connection.close()
                raise
        return connection

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.name}"
        host = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}{self.prefix}"


class UnixHTTPConnection(HTTPConnection):
    """
    HTTP over a unix socket.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """
        Connect to the socket's path.

        Python's own timeout makes the socket non-blocking, and Linux refuses
        a non-blocking connect with C{EAGAIN} while the listen queue is full
        (unix(7)).  C{SO_SNDTIMEO} waits for a place in the queue instead.
        """
        assert self.timeout is not None
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            limit = struct.pack("ll", int(self.timeout), int(self.timeout % 1 * 1e6))
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self.sock.connect(self._path)
            self.sock.settimeout(self.timeout)
        except BaseException:
            self.sock.close()
            raise


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
    return [address._replace(named=False) for address in (*found, Address.parse(DEFAULT_URL))]
