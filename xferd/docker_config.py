# -*- test-case-name: tests.test_docker_config -*-
"""
Docker's C{config.json}, and podman's C{auth.json}, which is the same: where
it is, and what it says of registries.

Pure, so that C{xferctl} can use it without Twisted.
"""

from __future__ import annotations

import json
import os.path
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

from xferd.credentials import Credentials
from xferd.errors import BadInput, BadReference, ConfigError
from xferd.names import DOCKER_HUB, HUB_NAMES, Reference

MAX_CONFIG: Final = 1024 * 1024
"""Bytes of a C{config.json} at most."""

HUB_KEY: Final = "https://index.docker.io/v1/"
"""What docker calls Docker Hub, in its file and to its helpers."""

HELPER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What may follow C{docker-credential-} in the name of a program."""

NOT_FOUND: Final = "credentials not found in native keychain"
"""By which words all helpers say that they have none."""


def auth_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """
    Where credentials are when nobody says: C{$REGISTRY_AUTH_FILE}, or else
    docker's file and, for what that does not know, podman's.

    @param environ: the environment.
    @return: paths, the first one being where new credentials go.
    """
    named = environ.get("REGISTRY_AUTH_FILE")
    if named:
        return (named,)
    directory = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME") or "/", ".docker")
    docker = os.path.join(directory, "config.json")
    runtime = environ.get("XDG_RUNTIME_DIR")
    return (docker, os.path.join(runtime, "containers/auth.json")) if runtime else (docker,)


def registry_of(key: str) -> str:
    """
    The host that a key of the file means, with the repositories below it if
    it is for those only.

    Docker has written C{https://index.docker.io/v1/}, hosts, and URLs of the
    old API; podman writes C{host/namespace}, too.
    """
    _, _, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    host, path = host.lower(), path.strip("/")
    if host in HUB_NAMES:
        host = DOCKER_HUB
    return host if path in ("", "v1", "v2") else f"{host}/{path}"


def host_of(text: str) -> str:
    """
    The registry that somebody means, by whatever it is called.

    @return: the host as references have it, C{docker.io}.
    @raise BadInput: it is none.
    """
    host = registry_of(text)
    try:
        # The grammar of hosts is that of references; what has neither a dot
        # nor a port is taken for a path there.
        found = Reference.parse(f"{host}/x/x").repository.host
    except BadReference:
        found = ""
    if not host or found != host:
        raise BadInput(f"{json.dumps(text)} is no registry: say for example docker.io or localhost:5000")
    return host


def server_of(host: str) -> str:
    """
    What docker calls a registry, in its file and to its helpers.

    @param host: as people write it, C{docker.io}.
    """
    return HUB_KEY if host == DOCKER_HUB else host


@frozen
class DockerConfig:
    """
    What a C{config.json} says.

    @ivar path: the file.
    @ivar auths: credentials, by host or C{host/namespace}.
    @ivar helpers: the helpers of single hosts; the empty string is the file
        itself.
    @ivar store: the helper of all other hosts, or the empty string.
    @ivar broken: what is wrong with entries of C{auths} that cannot be used,
        by host or C{host/namespace}, in one line that quotes no value.
    """

    path: str
    auths: Mapping[str, Credentials]
    helpers: Mapping[str, str]
    store: str
    broken: Mapping[str, str] = field(factory=dict)

    def helper(self, host: str) -> str:
        """
        The helper that keeps a host's credentials: what follows
        C{docker-credential-} in the program's name, or the empty string.
        """
        return self.helpers.get(host, self.store)

    def below(self, host: str, path: str) -> Credentials | None:
        """
        The credentials of the narrowest namespace that a repository is in, if
        there are any; those of the whole host do not count.
        """
        return next((self.auths[key] for key in _namespaces(host, path) if key in self.auths), None)

    def problem(self, host: str, path: str) -> str:
        """
        What is wrong with the entry of a repository's host or of a namespace
        that it is in, or the empty string.
        """
        keys = (*_namespaces(host, path), host)
        return next((self.broken[key] for key in keys if key in self.broken), "")


def _namespaces(host: str, path: str) -> Iterator[str]:
    """
    The namespaces that a repository is in, the narrowest first.
    """
    parts = path.split("/") if path else []
    for count in range(len(parts), 0, -1):
        yield "/".join([host, *parts[:count]])


def parse_docker_config(data: bytes, path: str) -> DockerConfig:
    """
    Read a C{config.json}.

    An entry of C{auths} that cannot be used is one registry's: the others
    are read all the same.

    @param path: what to call the file in an error, and in the credentials'
        C{origin}.
    @raise ConfigError: it cannot be used; the message has the line and the
        key, and never quotes a value.
    """
    source = _Source(data, path)
    auths: dict[str, Credentials] = {}
    broken: dict[str, str] = {}
    for key, entry in source.table("auths"):
        try:
            credentials = _read_entry(source, key, entry)
        except ConfigError as e:
            broken.setdefault(registry_of(key), str(e))
            continue
        if credentials:
            auths.setdefault(registry_of(key), credentials)
    helpers: dict[str, str] = {}
    for key, name in source.table("credHelpers"):
        helpers.setdefault(registry_of(key), _helper_name(source, name, "credHelpers", key))
    store = _helper_name(source, source.value.get("credsStore"), "credsStore")
    return DockerConfig(path, auths, helpers, store, broken)


def parse_object(data: bytes, path: str) -> dict[str, Any]:
    """
    Read the file as what it is, for who wants to write it back.

    @raise ConfigError: it is no JSON object; the message has the line.
    """
    if len(data) > MAX_CONFIG:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG} bytes")
    try:
        value = json.loads(data.decode("utf-8") if data.strip() else "{}")
    # All without their causes, which quote the text.
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8, which JSON must be") from None
    except json.JSONDecodeError as e:
        raise ConfigError(f"{path}, line {e.lineno}, column {e.colno}: this is not JSON: {e.msg}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply") from None
    except ValueError:
        # Python reads no integer of more than 4300 digits.
        raise ConfigError(f"{path} has a number with too many digits") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}, line 1: this must be a JSON object, as docker login writes it")
    return value


class _Source:
    """
    The file's text, to tell where something in it stands.
    """

    def __init__(self, data: bytes, path: str) -> None:
        self.value = parse_object(data, path)
        self.path = path
        self._text = data.decode("utf-8")

    def table(self, name: str) -> Iterator[tuple[str, object]]:
        """
        The items of a table; one that is absent or null is empty.
        """
        table = self.value.get(name)
        if table is None:
            return
        if not isinstance(table, dict):
            raise self.wrong("an object", name)
        yield from table.items()

    def wrong(self, expected: str, *keys: str) -> ConfigError:
        """
        The error for a value, by the keys that lead to it.
        """
        at = 0
        for key in keys:
            # Written with escapes it is not found; then the line is not told.
            at = self._text.find(json.dumps(key, ensure_ascii=False), at)
            if at < 0:
                break
        line = f", line {self._text.count(chr(10), 0, at) + 1}" if at >= 0 else ""
        name = ".".join(key if key.isidentifier() else json.dumps(key) for key in keys)
        return ConfigError(f"{self.path}{line}: {name} must be {expected}")


def _helper_name(source: _Source, value: object, *keys: str) -> str:
    """
    Read the name of a helper, which becomes a part of a program's name.
    """
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or HELPER_NAME.fullmatch(value) is None:
        raise source.wrong("the name of a helper: what follows 'docker-credential-'", *keys)
    return value


def _read_entry(source: _Source, key: str, entry: object) -> Credentials | None:
    """
    Read one entry; an empty one, or null, says that a credential helper
    knows.
    """
    if entry is None:
        return None
    if not isinstance(entry, dict):
        raise source.wrong("an object", "auths", key)

    def text(name: str) -> str:
        value = entry.get(name)
        if value is None:
            return ""
        if not isinstance(value, str) or not is_unicode(value):
            raise source.wrong("a text", "auths", key, name)
        return value

    username, password = text("username"), text("password")
    auth, token = text("auth"), text("identitytoken")
    if auth:
        pair = unpack_auth(auth)
        if pair is None:
            raise source.wrong("user:password in base64", "auths", key, "auth")
        username, password = pair
    return Credentials.of(username, password, token, source.path)


def is_unicode(text: str) -> bool:
    """
    Whether a text out of JSON can be sent at all: half a surrogate pair, which
    its grammar allows, cannot.
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def unpack_auth(auth: str) -> tuple[str, str] | None:
    """
    Read C{user:password} in base64, which may be wrapped; old docker padded
    the password with zeros.

    @return: L{None} if it is something else.
    """
    # Go's decoder passes over line breaks, and so do docker and podman.
    auth = auth.replace("\r", "").replace("\n", "")
    try:
        username, colon, password = b64decode(auth, validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None
    return (username, password.strip("\x00")) if colon else None


def parse_helper_answer(data: bytes, origin: str) -> Credentials | None:
    """
    Read what a credential helper has found.

    @param origin: what to call the helper.
    @return: L{None} if it is something else.
    """
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    username, secret = value.get("Username"), value.get("Secret")
    if not isinstance(username, str) or not isinstance(secret, str):
        return None
    if not is_unicode(username + secret):
        return None
    return Credentials.of(username, secret, origin=origin)
