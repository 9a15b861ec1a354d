# -*- test-case-name: tests.fleet.etcd.test_settings -*-
"""
How to reach etcd.
"""

from __future__ import annotations

from attrs import field, frozen

from xferd.credentials import Secret
from xferd.errors import ConfigError, quoted
from xferd.http_urls import split_url
from xferd.registry.transport.tls import TLSConfig, read_ca, read_client


@frozen
class Endpoint:
    """
    One member of etcd.

    @ivar url: its client URL, without a path.
    @ivar name: its host and port.
    @ivar tls: the TLS of connections to it, or L{None} for plain HTTP.
    """

    url: str
    name: str
    tls: TLSConfig | None = None


@frozen
class EtcdSettings:
    """
    How to reach etcd.

    @ivar endpoints: its members, at least one.
    @ivar user: the user's name; empty without authentication.
    @ivar password: the password.
    """

    endpoints: tuple[Endpoint, ...]
    user: str = ""
    password: Secret = field(factory=lambda: Secret(""))

    @classmethod
    def read(
        cls,
        urls: tuple[str, ...],
        *,
        ca: str = "",
        certificate: str = "",
        key: str = "",
        user: str = "",
        password_file: str = "",
    ) -> EtcdSettings:
        """
        Read the files that the settings name.

        @param urls: the client URLs of the members, as C{https://10.0.0.1:2379}.
        @param ca: the path of the authority's certificate; empty for the system's.
        @param certificate: the path of our certificate, if etcd wants one.
        @param key: the path of its key; the certificate's own by default.
        @param password_file: the path of a file with the user's password.
        @raise ConfigError: a setting is wrong, or a file cannot be used.
        """
        if not urls:
            raise ConfigError("fleet.etcd names no member of etcd: add one, as 'https://10.0.0.1:2379'")
        if bool(user) != bool(password_file):
            raise ConfigError("fleet.etcd_user and fleet.etcd_password_file are set both, or neither")
        if key and not certificate:
            raise ConfigError("fleet.etcd_key is set without fleet.etcd_certificate")
        authorities = (read_ca(ca, "etcd"),) if ca else ()
        client = read_client(certificate, key, "etcd") if certificate else None
        endpoints = tuple(_endpoint(url, authorities, client) for url in urls)
        return cls(endpoints, user, Secret(_read_password(password_file)))


def _endpoint(url: str, ca: tuple[bytes, ...], client: tuple[bytes, bytes] | None) -> Endpoint:
    """
    A member of etcd, by its URL.

    @raise ConfigError: it is not one.
    """
    try:
        parts = split_url(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    else:
        if parts.scheme not in ("http", "https") or parts.username is not None or parts.query:
            host = None
        if parts.path not in ("", "/") or parts.fragment or not url.isascii():
            host = None
    if not host:
        raise ConfigError(f"fleet.etcd: {quoted(url)} is not the URL of a member, as 'https://10.0.0.1:2379'")
    port = port or 2379
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    tls = None
    if url.lower().startswith("https:"):
        tls = TLSConfig(host, ca, client, skip_verify=False, exclusive=bool(ca))
    elif client is not None:
        raise ConfigError(f"fleet.etcd_certificate is of no use for {quoted(url)}, which is not https")
    return Endpoint(f"{'http' if tls is None else 'https'}://{name}", name, tls)


def _read_password(path: str) -> str:
    """
    The first line of a file.

    @raise ConfigError: it cannot be read, or is empty.
    """
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as file:
            password = file.readline(4096).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not UTF-8"
        raise ConfigError(f"fleet.etcd_password_file {path} cannot be read: {reason}") from None
    if not password:
        raise ConfigError(f"fleet.etcd_password_file {path} is empty: write the password into it")
    return password
