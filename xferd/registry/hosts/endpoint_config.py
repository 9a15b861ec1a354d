# -*- test-case-name: tests.registry.hosts.test_certs_d -*-
"""
The configuration of one server of a registry.
"""

from __future__ import annotations

from attrs import field, frozen

from xferd.registry.hosts.hosts_toml import CAPABILITIES
from xferd.registry.transport.connections import TransportConfig


@frozen
class EndpointConfig:
    """
    One server of a registry: the registry's own, or a mirror.

    @ivar name: its name in errors: the registry's host, or the mirror's.
    @ivar url: its scheme, host and port, or L{None} for the registry's own
        address by L{Hosts<xferd.registry.hosts.configured.Hosts>}.
    @ivar path: the path of its API.
    @ivar capabilities: the requests that it serves: C{pull} is content by its
        digest, C{resolve} a tag's manifest, C{push} writing.
    @ivar namespace: the registry that it mirrors, for C{ns}, or the empty string
        for the registry's own.
    @ivar headers: additional headers of each request.  They may be secret.
    @ivar transport: its TLS, timeouts and proxy.
    """

    name: str
    url: str | None = None
    path: str = "/v2"
    capabilities: frozenset[str] = CAPABILITIES
    namespace: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    transport: TransportConfig = field(factory=TransportConfig)
