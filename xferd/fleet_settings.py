# -*- test-case-name: tests.test_fleet_settings -*-
"""
The settings of the fleet.

They are beside the package C{xferd.fleet}: a daemon without C{[fleet]} imports nothing
of it.
"""

from __future__ import annotations

import re
import socket
from ipaddress import ip_address, ip_network

from attrs import Attribute, field, frozen
from attrs.validators import ge, le

from xferd.errors import ConfigError
from xferd.http_urls import split_url
from xferd.interfaces.fleet import MAX_HOLDERS, MAX_URL, is_node_name

_PEER_LISTEN = re.compile(r"ssl:[0-9]{1,5}(?::interface=(?:[A-Za-z0-9.-]|\\:)+)?")
_SERVER = re.compile(r"https?://(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?/?")


@frozen
class FleetSettings:
    """
    How this node works with the others of its fleet.

    @ivar etcd: the URLs of etcd's members; empty for no fleet.
    @ivar etcd_ca: a PEM file with the authorities of etcd's certificates; the empty
        string for the system's.
    @ivar etcd_certificate: a PEM file with the certificate for etcd, or the empty
        string.
    @ivar etcd_key: its key.
    @ivar etcd_user: the user at etcd, or the empty string.
    @ivar etcd_password_file: the file with its password.
    @ivar name: the name of this node; the empty string for the name of the host.
    @ivar url: the URL of this node's registry, for its peers.
    @ivar secret_file: the file with the secret that all nodes have; the empty string if
        peers are known by certificates alone.
    @ivar peer_networks: the networks of the peers.
    @ivar peer_listen: the endpoint for peers alone, which need a certificate; the empty
        string if they use the registry's.
    @ivar peer_ca: a PEM file with the authorities of the peers' certificates; the empty
        string for the system's.
    @ivar peer_certificate: a PEM file with the certificate for peers, or the empty
        string.
    @ivar peer_key: its key.
    @ivar max_followers: the peers that get one blob from here at the same time.
    @ivar upload_rate: bytes a second to all peers together; 0 for no limit.
    @ivar keep_copies: on how many other nodes a blob must be to go first, when space is
        needed; 0 for no difference.
    """

    etcd: tuple[str, ...] = field(default=())
    etcd_ca: str = ""
    etcd_certificate: str = field(default="")
    etcd_key: str = ""
    etcd_user: str = field(default="")
    etcd_password_file: str = ""
    name: str = field(default="")
    url: str = field(default="")
    secret_file: str = field(default="")
    peer_networks: tuple[str, ...] = field(default=())
    peer_ca: str = ""
    peer_certificate: str = field(default="")
    peer_key: str = ""
    peer_listen: str = field(default="")
    max_followers: int = field(default=8, validator=[ge(1), le(1000)])
    upload_rate: int = field(default=0, validator=ge(0))
    keep_copies: int = field(default=2, validator=[ge(0), le(MAX_HOLDERS)])

    @etcd.validator
    def _check_etcd(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        for url in value:
            if not _is_server(url):
                raise ValueError(f"'etcd' must be URLs such as 'https://10.0.0.1:2379', not {url!r}")
        if len({url.partition(":")[0] for url in value}) > 1:
            raise ValueError("'etcd' must be URLs of one kind, either all https or all http")
        if self.etcd_user and value and value[0].startswith("http:"):
            hosts = [split_url(url).hostname or "" for url in value]
            if not all(map(_is_loopback, hosts)):
                raise ValueError("'etcd' must be https URLs where 'etcd_user' is set, for the password")
        if not value and (self.name or self.url or self.secret_file or self.peer_networks):
            raise ValueError("'etcd' must be the URLs of etcd's members, such as ['https://10.0.0.1:2379']")

    @etcd_certificate.validator
    def _check_etcd_certificate(self, _: Attribute[str], value: str) -> None:
        if bool(value) != bool(self.etcd_key):
            raise ValueError("'etcd_certificate' must be set together with 'etcd_key'")

    @etcd_user.validator
    def _check_etcd_user(self, _: Attribute[str], value: str) -> None:
        if bool(value) != bool(self.etcd_password_file):
            raise ValueError("'etcd_user' must be set together with 'etcd_password_file'")

    @name.validator
    def _check_name(self, _: Attribute[str], value: str) -> None:
        if value and not is_node_name(value):
            raise ValueError(f"'name' must be letters, digits, '.', '_' and '-', at most 253, not {value!r}")

    @url.validator
    def _check_url(self, _: Attribute[str], value: str) -> None:
        if not value and not self.etcd:
            return
        if not _is_server(value) or len(value) > MAX_URL:
            raise ValueError(
                f"'url' must be how peers reach the registry, 'http://10.0.0.7:5000', not {value!r}"
            )

    @secret_file.validator
    def _check_secret_file(self, _: Attribute[str], value: str) -> None:
        if self.etcd and not value and not self.peer_listen:
            raise ValueError(
                "'secret_file' must be a file with the secret that all nodes have, or 'peer_listen' be set"
            )

    @peer_networks.validator
    def _check_networks(self, _: Attribute[tuple[str, ...]], value: tuple[str, ...]) -> None:
        networks = []
        for text in value:
            try:
                networks.append(ip_network(text))
            except ValueError:
                raise ValueError(
                    f"'peer_networks' must be networks such as '10.0.0.0/8', not {text!r}"
                ) from None
        if not self.etcd:
            return
        if not value:
            raise ValueError("'peer_networks' must be the networks of the peers, such as ['10.0.0.0/8']")
        try:
            own = ip_address(split_url(self.url).hostname or "")
        except ValueError:
            return  # A name, or no URL: see 'url'.
        if not any(own in network for network in networks):
            raise ValueError(f"'peer_networks' must contain {own}, the address in 'url'")

    @peer_certificate.validator
    def _check_peer_certificate(self, _: Attribute[str], value: str) -> None:
        if bool(value) != bool(self.peer_key):
            raise ValueError("'peer_certificate' must be set together with 'peer_key'")

    @peer_listen.validator
    def _check_peer_listen(self, _: Attribute[str], value: str) -> None:
        if not value:
            return
        if _PEER_LISTEN.fullmatch(value) is None:
            raise ValueError(
                f"'peer_listen' must be such as 'ssl:5001' or 'ssl:5001:interface=10.0.0.7', not {value!r}"
            )
        for name in ("peer_ca", "peer_certificate"):
            if not getattr(self, name):
                raise ValueError(f"'{name}' must be set together with 'peer_listen'")
        if self.etcd and not self.url.startswith("https:"):
            raise ValueError("'url' must be the https URL of 'peer_listen'")

    @property
    def is_configured(self) -> bool:
        """
        Whether this node is in a fleet.
        """
        return bool(self.etcd)

    @property
    def node_name(self) -> str:
        """
        The name of this node.

        @raise ConfigError: the name of the host cannot be one.
        """
        name = self.name or socket.gethostname()
        if not is_node_name(name):
            raise ConfigError(f"the name of this host, {name!r}, is not that of a node: set name in [fleet]")
        return name


def _is_server(url: str) -> bool:
    """
    Whether an URL names a server and nothing else.
    """
    if _SERVER.fullmatch(url) is None:
        return False
    try:
        split_url(url)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
