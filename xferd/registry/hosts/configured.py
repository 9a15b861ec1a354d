# -*- test-case-name: tests.registry.hosts.test_configured -*-
"""
The C{[hosts]} tables of the configuration: scheme and TLS of hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

from xferd.errors import ConfigError
from xferd.expiring import ExpiringDict
from xferd.names import DOCKER_HUB, HUB_NAMES, is_loopback
from xferd.registry.transport.tls import TLSConfig, read_ca

_DOCKER_HUB_API = "registry-1.docker.io"

_MOST_OPTIONS: Final = 50
"""Servers whose TLS options are kept at most."""


@frozen
class HostConfig:
    """
    One C{[hosts]} table.

    @ivar plain_http: whether to use HTTP without TLS.
    @ivar ca_file: a file of PEM certificates; the host's certificate must be
        signed by one of these.  Empty: by one that the system trusts.
    @ivar skip_verify: whether to accept any certificate.
    @ivar private_redirects: whether the registry may lead to addresses of
        private networks although it has a public one itself.
    """

    plain_http: bool = False
    ca_file: str = ""
    skip_verify: bool = False
    private_redirects: bool = False


@frozen
class _Settings:
    """
    One version of the configuration.

    @ivar hosts: what is configured of each, but for C{private_redirects}.
    @ivar private: the hosts with C{private_redirects}.
    @ivar tls: the TLS of each, by the server's name and port.
    """

    hosts: Mapping[str, HostConfig]
    private: frozenset[str]
    tls: Mapping[tuple[str, int], TLSConfig]

    @classmethod
    def of(cls, configured: Mapping[str, HostConfig]) -> _Settings:
        """
        Read the files that a configuration names.

        @raise ConfigError: one of them or a host is invalid.
        """
        usual = {_usual(host): config for host, config in configured.items()}
        private = frozenset(host for host, config in usual.items() if config.private_redirects)
        # A table with nothing else leaves the certs.d directories in force.
        only = HostConfig(private_redirects=True)
        hosts = {host: config for host, config in usual.items() if config != only}
        return cls(hosts, private, {_server(host): _tls(host, config) for host, config in hosts.items()})


class Hosts:
    """
    The hosts of registries: their configuration, and which loopback hosts speak
    plain HTTP.

    A loopback host without a configuration speaks plain HTTP, or TLS with any
    certificate.  The first request finds out which, and it is remembered.
    """

    def __init__(
        self, configured: Mapping[str, HostConfig], clock: Callable[[], float] = lambda: 0.0
    ) -> None:
        """
        @param configured: by host as people write it, C{docker.io},
            C{registry.example:5000}.
        @param clock: returns seconds that never go back, by which what was found
            out expires.
        @raise ConfigError: a CA file cannot be used.
        """
        self._settings = _Settings.of(configured)
        self._clock = clock
        self._learned: ExpiringDict[str, bool] = ExpiringDict(clock)
        self._options = self._no_options()

    def configures(self, host: str) -> bool:
        """
        Whether the scheme or the TLS of a host is configured.
        """
        return host in self._settings.hosts

    def allows_private(self, host: str) -> bool:
        """
        Whether a registry may lead to private networks, wherever it is.
        """
        return _usual(host) in self._settings.private

    def reload(self, configured: Mapping[str, HostConfig]) -> None:
        """
        Replace the configuration for all requests from now on.  What was found
        out about loopback hosts and the connections that are open remain.

        @raise ConfigError: a CA file cannot be used; then nothing changes.
        """
        self._settings = _Settings.of(configured)
        self._options = self._no_options()

    def url(self, host: str) -> str | None:
        """
        The URL of a host's API without its path, C{https://registry-1.docker.io},
        or L{None} for a loopback host of which nothing is known yet.
        """
        config = self._settings.hosts.get(host)
        if config is not None:
            return _url(host, config.plain_http)
        if is_loopback(host):
            plain = self._learned.get(host)
            return None if plain is None else _url(host, plain)
        return _url(host, False)

    def learn(self, host: str, plain: bool) -> str:
        """
        Remember whether a loopback host speaks plain HTTP.

        @return: the URL of its API without its path.
        """
        self._learned[host] = plain
        return _url(host, plain)

    def forget(self, host: str) -> None:
        """
        Forget how a loopback host speaks, as it has failed.
        """
        self._learned.pop(host)

    def tls_options(self, name: str, port: int) -> IOpenSSLClientConnectionCreator:
        """
        The TLS options for a server, a registry or another.

        @param name: its host name or address, without brackets.
        """
        config = self._settings.tls.get((name.lower(), port)) or TLSConfig(name.lower())
        return self._options.get_or_make((name, port), lambda: config.options(name))

    def _no_options(self) -> ExpiringDict[tuple[str, int], IOpenSSLClientConnectionCreator]:
        # Each has all authorities of the system in memory.
        return ExpiringDict(self._clock, most=_MOST_OPTIONS)


def bracketed(name: str) -> str:
    """
    A host name or an address as in an URL: an IPv6 address in brackets.
    """
    return f"[{name}]" if ":" in name else name


def _url(host: str, plain: bool) -> str:
    """
    The URL of a host's API without its path.
    """
    return f"{'http' if plain else 'https'}://{api_host(host)}"


def _usual(host: str) -> str:
    """
    The canonical one of a host's names.
    """
    return DOCKER_HUB if host in HUB_NAMES else host


def api_host(host: str) -> str:
    """
    The host, with its port, of a registry's API: Docker Hub's has another
    name.
    """
    return _DOCKER_HUB_API if host in HUB_NAMES else host


def _server(host: str) -> tuple[str, int]:
    """
    The name and the port of the server behind a configured host.
    """
    split = urlsplit(f"//{api_host(host)}")
    try:
        port = split.port
    except ValueError as e:
        raise ConfigError(f"{host!r} is not a registry's host: {e}") from e
    return (split.hostname or "").lower(), port or 443


def _tls(host: str, config: HostConfig) -> TLSConfig:
    ca = (read_ca(config.ca_file, host),) if config.ca_file and not config.skip_verify else ()
    return TLSConfig(_server(host)[0], ca, skip_verify=config.skip_verify, exclusive=bool(ca))
