# -*- test-case-name: tests.registry.hosts.test_certs_d -*-
"""
The directories with containerd's and docker's configuration of registries:
C{certs.d/<host>/}, with a C{hosts.toml}, or with certificates alone.

They are checked each time, and changed files are read again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence, Set
from urllib.parse import urlsplit

from attrs import define
from twisted.logger import Logger

from xferd.errors import ConfigError
from xferd.expiring import ExpiringDict
from xferd.names import DOCKER_HUB, HUB_NAMES
from xferd.registry.hosts.configured import api_host
from xferd.registry.hosts.endpoint_config import EndpointConfig
from xferd.registry.hosts.hosts_toml import CAPABILITIES, HostEntry, HostsToml, parse_hosts_toml
from xferd.registry.transport.connections import TransportConfig
from xferd.registry.transport.proxies import Proxy
from xferd.registry.transport.tls import TLSConfig, UnreadableFile, read_ca, read_client

DEFAULT = "_default"
"""The directory for hosts without one of their own."""

MAX_FILE = 1024 * 1024
"""Bytes of a C{hosts.toml} at most."""


@define(eq=False)
class _Known:
    """
    The configuration of a host when it was last read.

    @ivar files: the paths that were checked.
    @ivar stamp: the stamps of these files.
    @ivar endpoints: the valid configuration, or L{None} if there is none.
    @ivar error: the error, if no version was valid.
    @ivar good: whether a version was valid.
    """

    files: tuple[str, ...] = ()
    stamp: object = None
    endpoints: tuple[EndpointConfig, ...] | None = None
    error: ConfigError | None = None
    good: bool = False


class CertsDirs:
    """
    Several such directories; the first one that has a host applies.
    """

    _log = Logger()

    def __init__(
        self,
        directories: Sequence[str],
        clock: Callable[[], float] = lambda: 0.0,
        *,
        own: Set[str] = frozenset(),
    ) -> None:
        """
        @param directories: paths, which need not exist.
        @param clock: returns seconds that never go back, by which what was read
            for a host expires.
        @param own: the hosts, with their ports, at which this daemon's registry is
            reached.  The files make containerd and docker use it as a mirror; the
            daemon's own requests would come back to it.
        """
        self.reload(own)
        self._directories = tuple(directories)
        self._known: ExpiringDict[str, _Known] = ExpiringDict(clock)

    def reload(self, own: Set[str]) -> None:
        """
        Replace the hosts at which this daemon's registry is reached, for all requests from
        now on.
        """
        self._own = own

    def check(self) -> None:
        """
        Read all files, to find invalid ones at start.

        A file that this user must not read is logged; requests to its host fail
        until it can be read.

        @raise ConfigError: a file is invalid.
        """
        for directory in self._directories:
            try:
                names = sorted(os.listdir(directory))
            except OSError:
                continue
            for name in names:
                if not os.path.isdir(os.path.join(directory, name)):
                    continue
                host = DOCKER_HUB if name == DEFAULT else _host_of(name)
                try:
                    self._read(os.path.join(directory, name), host, [])
                except UnreadableFile as e:
                    self._log.warn("{host} cannot be used: {why}", host=host, why=str(e))

    def find(self, host: str) -> tuple[EndpointConfig, ...] | None:
        """
        The endpoints of a registry in the order of preference, or L{None} if
        there is no configuration.

        If a file has become invalid, that is logged once, and its previous
        contents remain in effect.

        @raise ConfigError: it is invalid, and no version was valid.
        """
        known = self._known.get_or_make(host, _Known)
        if known.stamp is None or self._stamp(known.files) != known.stamp:
            self._look(known, host)
        if known.error is not None:
            raise known.error
        return known.endpoints

    @property
    def remedy(self) -> str:
        """
        The directory for a missing certificate, or the empty string.
        """
        return self._directories[-1] if self._directories else ""

    def _look(self, known: _Known, host: str) -> None:
        """
        Read the files again.
        """
        files: list[str] = []
        try:
            found: tuple[EndpointConfig, ...] | None = None
            for directory in self._candidates(host):
                files.append(directory)
                if os.path.isdir(directory):
                    found = self._read(directory, host, files)
                    break
            known.endpoints, known.error, known.good = found, None, True
        except ConfigError as e:
            if known.good:
                self._log.warn(
                    "the previous configuration of {host} remains in effect: {why}", host=host, why=str(e)
                )
            else:
                known.error = e
        known.files = tuple(files)
        known.stamp = self._stamp(known.files)

    def _stamp(self, files: tuple[str, ...]) -> object:
        """
        A value that changes if one of the files does, or the hosts of this daemon.
        """
        return self._own, *map(_stamp, files)

    def _candidates(self, host: str) -> Iterator[str]:
        """
        The directories that may have a host, in the order of preference.
        """
        names = sorted(HUB_NAMES, key=lambda n: (n != DOCKER_HUB, n)) if host == DOCKER_HUB else [host]
        if ":" in host:
            name, _, port = host.rpartition(":")
            names.insert(0, f"{name}_{port}_")
        for name in names:
            for directory in self._directories:
                yield os.path.join(directory, name)
        for directory in self._directories:
            yield os.path.join(directory, DEFAULT)

    def _read(self, directory: str, host: str, files: list[str]) -> tuple[EndpointConfig, ...]:
        """
        Read one directory.

        @param files: receives the paths that were checked.
        """
        path = os.path.join(directory, "hosts.toml")
        files.append(path)
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            data = b""
        except PermissionError as e:
            raise UnreadableFile(f"{path} cannot be read: {e.strerror}") from e
        except OSError as e:
            raise ConfigError(f"{path} cannot be read: {e.strerror}") from e
        if len(data) > MAX_FILE:
            raise ConfigError(f"{path} is larger than {MAX_FILE} bytes")
        # An empty file counts as missing, as for containerd.
        found = parse_hosts_toml(data, path) if data.strip() else HostsToml((_plain_entry(directory),))
        for key in found.unknown:
            self._log.debug("the key {key} is unknown, and ignored", key=key)
        endpoints = []
        entries = [entry for entry in found.entries if urlsplit(entry.url).netloc.lower() not in self._own]
        for entry in entries or [HostEntry()]:
            files.extend([*entry.ca, *(p for pair in entry.client for p in pair if p)])
            endpoints.append(_endpoint(entry, host, path))
        return tuple(endpoints)


def _plain_entry(directory: str) -> HostEntry:
    """
    The configuration by certificates without a C{hosts.toml}, as for docker: each
    C{*.crt} is a CA, each C{*.cert} with its C{*.key} is a client's.

    @raise ConfigError: a certificate lacks its key, or a key its certificate.
    """
    try:
        names = sorted(os.listdir(directory))
    except PermissionError as e:
        raise UnreadableFile(f"{directory} cannot be read: {e.strerror}") from e
    except OSError as e:
        raise ConfigError(f"{directory} cannot be read: {e.strerror}") from e
    pairs = []
    for name in names:
        stem, extension = os.path.splitext(name)
        other = {".cert": f"{stem}.key", ".key": f"{stem}.cert"}.get(extension)
        if other is not None and other not in names:
            raise ConfigError(f"{directory} has {name}, but not the {other} that belongs to it")
        if extension == ".cert":
            pairs.append((os.path.join(directory, name), os.path.join(directory, f"{stem}.key")))
    ca = tuple(os.path.join(directory, name) for name in names if name.endswith(".crt"))
    return HostEntry(ca=ca, client=tuple(pairs))


def _endpoint(entry: HostEntry, host: str, path: str) -> EndpointConfig:
    """
    Read the certificates that an entry names.

    @raise ConfigError: they, or its proxy, cannot be used.
    """
    split = urlsplit(entry.url or f"https://{api_host(host)}")
    url = entry.url and f"{split.scheme}://{api_host(split.netloc)}"
    own = not url or api_host(split.netloc) == api_host(host)
    name = host if own else split.netloc
    tls = TLSConfig(
        split.hostname if split.netloc not in HUB_NAMES and split.hostname else api_host(DOCKER_HUB),
        tuple(read_ca(p, name) for p in entry.ca),
        # OpenSSL uses one only.
        next((read_client(*pair, name) for pair in entry.client), None),
        entry.skip_verify,
    )
    proxy = Proxy.parse(entry.proxy, f"{path}: the proxy of {name}") if entry.proxy else None
    return EndpointConfig(
        name=name,
        url=url or None,
        path=entry.path,
        capabilities=entry.capabilities if url or entry.url else CAPABILITIES,
        namespace="" if own else host,
        headers=entry.headers,
        transport=TransportConfig(tls if tls else None, entry.dial_timeout, proxy),
    )


def _host_of(name: str) -> str:
    """
    The host that a directory is for.
    """
    if name in HUB_NAMES:
        return DOCKER_HUB
    stem, _, port = name.removesuffix("_").rpartition("_")
    return f"{stem}:{port}" if name.endswith("_") and stem and port.isdigit() else name


def _stamp(path: str) -> tuple[int, ...] | None:
    """
    The stamp of a file, which changes when the file does.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
