# -*- test-case-name: tests.test_listeners -*-
"""
The endpoints that the API and the registry are served on, and the clients that can reach
them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.endpoints import quoteStringArgument

from xferd.errors import ConfigError
from xferd.names import is_loopback
from xferd.server_certificate import CertificateFiles
from xferd.web.peer_trust import Trust

MAX_PORT: Final = 65_535

EXAMPLES: Final = {"--listen": 9337, "--registry": 5000}
"""The usual port of each option."""

BACKLOG: Final = 1024
"""
Connections that may wait to be accepted.  The kernel drops what is beyond, and a client
tries again after a second: many connect at once.
"""

_TLS_ARGUMENTS: Final = frozenset(
    {"port", "interface", "backlog", "privateKey", "certKey", "extraCertChain", "dhParameters"}
)


@frozen
class Listener:
    """
    An endpoint to serve the API or the registry on.

    @ivar description: the endpoint string.
    @ivar trust: the clients that need no token.
    @ivar socket: the path of the unix socket to create, or the empty string.
    @ivar port: the TCP port of the page for browsers on this machine, or 0.
    @ivar url: its URL for clients on this machine; the empty string if it has
        none, or its port is known only once it listens.
    @ivar number: its TCP port, or 0.
    @ivar certificate: the files for TLS, or L{None}.
    @ivar for_peers: whether its clients are nodes of a fleet, which need certificates.
    @ivar plain: the endpoint string without TLS, to listen on; the empty string if that is
        C{description}.
    """

    description: str
    trust: Trust
    socket: str = ""
    port: int = 0
    url: str = ""
    number: int = 0
    certificate: CertificateFiles | None = None
    plain: str = ""
    for_peers: bool = False


def parse_endpoint(description: str, option: str = "--listen") -> Listener:
    """
    Parse an endpoint string, and find out who can reach it.

    @param option: the option that it is the value of, for errors.
    @raise ConfigError: it is not an endpoint string.
    """

    def wrong(why: str) -> ConfigError:
        return ConfigError(f"{option}: {description!r} is not an endpoint; {why}")

    kind, colon, rest = description.partition(":")
    if not colon or not kind or not rest:
        raise wrong(f"an example is tcp:{EXAMPLES.get(option, 9337)}:interface=127.0.0.1")
    arguments = _arguments(rest)
    if kind == "unix":
        # Twisted's lock relies on process IDs; the kernel holds that of UnixSocket.
        kept = [a for a in arguments if not a.startswith("lockfile=")]
        if not any(a.startswith("mode=") for a in kept):
            # Twisted's default lets every user connect.
            kept.append("mode=600")
        if not any(a.startswith("backlog=") for a in kept):
            kept.append(f"backlog={BACKLOG}")
        paths = [a.removeprefix("address=") for a in kept if "=" not in a or a.startswith("address=")]
        without = ":".join(["unix", *map(quoteStringArgument, kept), "lockfile=0"])
        return Listener(without, Trust.ALL, socket=paths[0] if paths else "")
    if kind == "systemd":
        family = next((a.removeprefix("domain=") for a in arguments if a.startswith("domain=")), arguments[0])
        if family not in ("UNIX", "INET", "INET6"):
            raise wrong("an example is systemd:UNIX:name=xferd.socket")
        # The socket's unit decides who may connect to a unix socket; any other
        # socket may be reachable from other machines.
        return Listener(description, Trust.ALL if family == "UNIX" else Trust.NONE)
    interfaces = [a.removeprefix("interface=") for a in arguments if a.startswith("interface=")]
    local = bool(interfaces) and is_loopback(interfaces[-1])
    ports = [a.removeprefix("port=") for a in arguments if "=" not in a or a.startswith("port=")]
    port = 0
    if kind in ("tcp", "ssl") and ports:
        port = int(ports[0]) if ports[0].isascii() and ports[0].isdecimal() else MAX_PORT + 1
        if port > MAX_PORT:
            raise wrong(f"the port must be from 0 to {MAX_PORT}")
    page = port if kind == "tcp" and local else 0
    url = _url(kind, interfaces[-1] if interfaces else "", port)
    trust = Trust.OWNER if local else Trust.NONE
    if kind != "ssl":
        more = kind == "tcp" and not any(a.startswith("backlog=") for a in arguments)
        plain = f"{description}:backlog={BACKLOG}" if more else ""
        return Listener(description, trust, port=page, url=url, number=port, plain=plain)
    values = dict(a.split("=", 1) for a in arguments if "=" in a)
    unknown = values.keys() - _TLS_ARGUMENTS
    if unknown:
        raise wrong(f"{min(unknown)} is unknown")
    if "privateKey" not in values:
        raise wrong("it needs privateKey=FILE:certKey=FILE")
    files = CertificateFiles(
        values["privateKey"],
        values.get("certKey", values["privateKey"]),
        values.get("extraCertChain", ""),
        values.get("dhParameters", ""),
    )
    passed = {"backlog": str(BACKLOG)}
    passed |= {name: values[name] for name in ("interface", "backlog") if name in values}
    plain = ":".join(["tcp", str(port), *(f"{k}={quoteStringArgument(v)}" for k, v in passed.items())])
    return Listener(description, trust, url=url, number=port, certificate=files, plain=plain)


def own_hosts(listeners: Iterable[Listener], external_url: str = "") -> frozenset[str]:
    """
    The hosts, with their ports, by which requests of this machine reach listeners.

    @param external_url: the URL that others use, or the empty string.
    """
    found = {urlsplit(external_url).netloc.lower()} if external_url else set()
    for listener in listeners:
        if listener.url:
            parts = urlsplit(listener.url)
            names = (
                "127.0.0.1",
                "localhost",
                "[::1]",
                socket.gethostname().lower(),
            )
            found |= {parts.netloc, *(f"{name}:{parts.port}" for name in names)}
    return frozenset(found)


def _url(kind: str, interface: str, port: int) -> str:
    """
    The URL of a TCP port for clients on this machine.
    """
    if not port:
        return ""
    # A socket of all interfaces accepts connections to the loopback address.
    host = "127.0.0.1" if interface in ("", "0.0.0.0", "::") else interface  # noqa: S104 - compared
    return f"{'https' if kind == 'ssl' else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _arguments(text: str) -> list[str]:
    """
    The arguments of an endpoint string: colons separate them, and a backslash
    escapes the next character.
    """
    found = [""]
    characters = iter(text)
    for character in characters:
        if character == ":":
            found.append("")
        else:
            found[-1] += next(characters, "") if character == "\\" else character
    return found
