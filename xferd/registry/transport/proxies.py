# -*- test-case-name: tests.registry.transport.test_proxies -*-
"""
The proxy for each server, from the environment or the configuration.

Pure.  The rules are those of Go's C{httpproxy}, which docker and containerd
follow, and C{ALL_PROXY}.  No message has a proxy's password.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

from attrs import field, frozen

from xferd.credentials import Secret
from xferd.errors import ConfigError
from xferd.http_urls import split_url
from xferd.names import is_loopback

_PORTS = {"http": 80, "https": 443}


@frozen
class Proxy:
    """
    One proxy.

    @ivar scheme: C{http}, or C{https} if the connection to the proxy is by TLS.
    @ivar host: its name or address, without brackets.
    @ivar authorization: the C{Proxy-Authorization} header, or the empty string.
    """

    scheme: str
    host: str
    port: int
    authorization: Secret = field(factory=lambda: Secret(""))

    @classmethod
    def parse(cls, text: str, where: str) -> Proxy:
        """
        Read a proxy's URL, C{http://user:password@proxy.example:3128}, or
        only its host and port.

        @param where: where it is configured, for the error.
        @raise ConfigError: it cannot be used.
        """
        if re.match(r"[a-zA-Z0-9+.-]+://", text) is None:
            text = f"http://{text}"
        try:
            split = split_url(text)
            scheme, host, port = split.scheme.lower(), split.hostname, split.port
        except ValueError:
            raise ConfigError(f"{where} is not the URL of a proxy, such as {_EXAMPLE}") from None
        if scheme not in _PORTS:
            raise ConfigError(
                f"{where} names a proxy that speaks {scheme}; xferd uses those that speak http or https"
            )
        if not host or split.path not in ("", "/") or split.query or split.fragment or not host.isascii():
            raise ConfigError(f"{where} is not the URL of a proxy, such as {_EXAMPLE}")
        authorization = ""
        if split.username is not None:
            pair = f"{unquote(split.username)}:{unquote(split.password or '')}"
            authorization = f"Basic {b64encode(pair.encode()).decode()}"
        return cls(scheme, host, port or _PORTS[scheme], Secret(authorization))

    @property
    def name(self) -> str:
        """
        Its host and port, without secrets.
        """
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


_EXAMPLE = "http://proxy.example:3128"


@frozen
class ProxySettings:
    """
    The configuration of proxies.

    @ivar https: the URL of the proxy to servers by HTTPS, or the empty string
        for none.
    @ivar http: the same for those by plain HTTP.
    @ivar no_proxy: servers that are reached directly: a host with all below it
        (C{example.com}), only what is below (C{.example.com}), an address, a
        network (C{10.0.0.0/8}), each with a port or without, or C{*}.
    """

    https: str = field(default="", repr=False)
    http: str = field(default="", repr=False)
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ProxySettings:
        """
        Read C{HTTPS_PROXY}, C{HTTP_PROXY}, C{ALL_PROXY} and C{NO_PROXY}, or the
        same in lower case.
        """

        def get(*names: str) -> str:
            return next((v for n in names for v in (environ.get(n), environ.get(n.lower())) if v), "")

        no_proxy = tuple(item.strip() for item in get("NO_PROXY").split(",") if item.strip())
        return cls(get("HTTPS_PROXY", "ALL_PROXY"), get("HTTP_PROXY", "ALL_PROXY"), no_proxy)


@frozen
class _Exception:
    """
    One item of C{no_proxy}.

    @ivar port: the port that it applies to, or L{None} for all.
    @ivar network: the addresses that it matches, or L{None} if it is a name.
    @ivar below: the suffix of the names that it matches, C{.example.com}.
    @ivar itself: whether it matches C{example.com}, too.
    """

    port: int | None
    network: IPv4Network | IPv6Network | None = None
    below: str = ""
    itself: bool = False

    @classmethod
    def parse(cls, text: str) -> _Exception | None:
        """
        Read an item; an invalid one is ignored, as in Go.
        """
        matched = re.fullmatch(r"(\[[^\]]*\]|[^:]*):([0-9]+)", text)
        name, port = (matched[1], int(matched[2])) if matched is not None else (text, None)
        try:
            return cls(port, network=ip_network(name.strip("[]"), strict=False))
        except ValueError:
            pass
        name = name.removeprefix("*") if name.startswith("*.") else name
        if not name.strip("."):
            return None
        if name.startswith("."):
            return cls(port, below=name)
        return cls(port, below=f".{name}", itself=True)

    def matches(self, host: str, port: int) -> bool:
        """
        Whether a server is reached directly.
        """
        if self.port not in (None, port):
            return False
        if self.network is None:
            return host.endswith(self.below) or (self.itself and host == self.below[1:])
        try:
            return ip_address(host) in self.network
        except ValueError:
            return False


class Proxies:
    """
    Finds the proxy for a server.
    """

    def __init__(self, settings: ProxySettings) -> None:
        """
        @raise ConfigError: one of the proxies cannot be used.
        """
        self._proxies = {
            scheme: Proxy.parse(text, f"proxy.{scheme} ({scheme.upper()}_PROXY)")
            for scheme, text in (("https", settings.https), ("http", settings.http))
            if text
        }
        items = [item.strip().lower() for item in settings.no_proxy]
        self._none = "*" in items
        self._exceptions = [e for e in map(_Exception.parse, items) if e is not None]

    def find(self, scheme: str, host: str, port: int) -> Proxy | None:
        """
        The proxy for a server, or L{None} if it is reached directly.

        @param host: the server's name or address, without brackets.
        """
        host = host.lower()
        proxy = self._proxies.get(scheme)
        if proxy is None or self._none or is_loopback(f"[{host}]" if ":" in host else host):
            return None
        return None if any(e.matches(host, port) for e in self._exceptions) else proxy
