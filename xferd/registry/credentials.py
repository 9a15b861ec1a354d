# -*- test-case-name: tests.registry.test_credentials -*-
"""
Who the daemon's user is at a registry: read from docker's C{config.json},
where C{docker login} and C{podman login} leave it.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any

from attrs import field, frozen
from twisted.logger import Logger

from xferd.errors import ConfigError
from xferd.names import DOCKER_HUB

MAX_CONFIG = 1024 * 1024
"""Bytes of a C{config.json} at most."""

_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})


class Secret:
    """
    A text that neither prints nor formats: only L{reveal} gives it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """
        The text.
        """
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(self._text.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret is not to be pickled")


@frozen
class Credentials:
    """
    Who somebody is at one registry.

    @ivar username: the name, or the empty string if there is only a token.
    @ivar password: the password, or a token that serves as one.
    @ivar identity_token: an OAuth2 refresh token, which stands for both.
    """

    username: str
    password: Secret = field(factory=lambda: Secret(""))
    identity_token: Secret = field(factory=lambda: Secret(""))


def no_credentials(host: str) -> Credentials | None:  # noqa: ARG001 - the signature is the contract
    """
    Be nobody, everywhere.
    """
    return None


def default_path(environ: Mapping[str, str]) -> str:
    """
    Where docker keeps its C{config.json}.

    @param environ: the environment: C{DOCKER_CONFIG} names the directory, or
        it is C{.docker} in C{HOME}.
    """
    directory = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME", "/"), ".docker")
    return os.path.join(directory, "config.json")


class DockerConfig:
    """
    The credentials in a C{config.json}, which may change or come into being
    while the daemon runs.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._found: dict[str, Credentials] = {}

    def load(self) -> None:
        """
        Read the file anew, if it has changed since.  None is as good as an
        empty one.

        @raise ConfigError: it cannot be used; what was read before stays.
        """
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            with open(self._path, "rb") as file:
                data = file.read(MAX_CONFIG + 1)
        except FileNotFoundError:
            self._stamp, self._found = None, {}
            return
        except OSError as e:
            raise ConfigError(f"{self._path} cannot be read: {e.strerror}") from e
        self._found = parse_config(data, self._path)

    def lookup(self, host: str) -> Credentials | None:
        """
        The credentials for a registry, or L{None}.

        A file that has become unreadable is warned of once, and its former
        content used.

        @param host: as people write it, C{docker.io}.
        """
        try:
            self.load()
        except ConfigError as e:
            self._log.warn("credentials stay as they were: {reason}", reason=str(e))
        return self._found.get(host.lower())


def parse_config(data: bytes, path: str) -> dict[str, Credentials]:
    """
    Read the C{auths} of a C{config.json}.

    @param path: what to call the file in an error.
    @return: credentials by host as people write it.
    @raise ConfigError: it is none; the message never quotes it.
    """
    if len(data) > MAX_CONFIG:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG} bytes")
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        # Without its cause, which quotes the text.
        raise ConfigError(f"{path} is not JSON") from None
    auths = value.get("auths") if isinstance(value, dict) else []
    if auths is None:
        return {}
    if not isinstance(auths, dict):
        raise ConfigError(f"{path}: 'auths' is not an object")
    found: dict[str, Credentials] = {}
    for key, entry in auths.items():
        host = _host_of(key)
        credentials = _read_entry(entry, f"{path}: the entry for {host}")
        if credentials is not None:
            found.setdefault(host, credentials)
    return found


def _host_of(key: str) -> str:
    """
    The host that a key of C{auths} means: docker has written
    C{https://index.docker.io/v1/}, hosts, and URLs of the old API.
    """
    _, _, rest = key.rpartition("://")
    host, slash, path = rest.lower().partition("/")
    if host in _HUB_NAMES:
        host = DOCKER_HUB
    # Podman's keys may be of one repository only; such a one is not the host's.
    return host if path.strip("/") in ("", "v1", "v2") else f"{host}{slash}{path}"


def _read_entry(entry: object, where: str) -> Credentials | None:
    """
    Read one entry; an empty one says that a credential helper knows.
    """
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is not an object")
    username, password = _text(entry, "username", where), _text(entry, "password", where)
    auth, token = _text(entry, "auth", where), _text(entry, "identitytoken", where)
    if auth:
        try:
            decoded = b64decode(auth, validate=True).decode("utf-8")
        except ValueError:
            raise ConfigError(f"{where}: 'auth' is not base64") from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise ConfigError(f"{where}: 'auth' is not user:password in base64")
        password = password.strip("\x00")
    if not username and not token:
        return None
    if username == "<token>":
        username, password, token = "", "", token or password
    return Credentials(username, Secret(password), Secret(token))


def _text(entry: dict[str, Any], name: str, where: str) -> str:
    """
    A member that is a text, or absent.
    """
    value = entry.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {name!r} is not a text")
    return value
