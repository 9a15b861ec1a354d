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
    One server that stands for a registry: the registry's own, or a mirror.

    @ivar name: what to call it: the registry's host, or the mirror's.
    @ivar url: its scheme, host and port, or L{None} for the registry's own
        address, whatever that turns out to be.
    @ivar path: where its API begins.
    @ivar capabilities: what it may be asked for: C{pull} is content by its
        digest, C{resolve} what a tag stands for, C{push} to take things.
    @ivar namespace: the registry that it stands for, as it is told in C{ns},
        or the empty string for the registry's own.
    @ivar headers: what else it is sent.
    @ivar transport: how to speak with it.
    """

    name: str
    url: str | None = None
    path: str = "/v2"
    capabilities: frozenset[str] = CAPABILITIES
    namespace: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    transport: TransportConfig = field(factory=TransportConfig)
