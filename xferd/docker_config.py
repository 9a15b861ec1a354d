# -*- test-case-name: tests.test_docker_config -*-
"""
Docker's C{config.json} and podman's C{auth.json}, of the same format: their paths,
and the credentials in them.

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
"""The most bytes of a C{config.json}."""

HUB_KEY: Final = "https://index.docker.io/v1/"
"""Docker's key of Docker Hub, in its file and for its helpers."""

HELPER_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""The part behind C{docker-credential-} in the name of a program."""

NOT_FOUND: Final = "credentials not found in native keychain"
"""The message of a helper without credentials."""


def auth_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """
    The default files of credentials: C{$REGISTRY_AUTH_FILE}, else docker's file,
    then podman's.

    @param environ: the environment.
    @return: paths; new credentials are written to the first one.
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
    The host of a key of the file, with the namespace, if the key has one.

    Docker writes C{https://index.docker.io/v1/}, hosts, and URLs of the old API;
    podman writes C{host/namespace}, too.
    """
    _, _, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    host, path = host.lower(), path.strip("/")
    if host in HUB_NAMES:
        host = DOCKER_HUB
    return host if path in ("", "v1", "v2") else f"{host}/{path}"


def host_of(text: str) -> str:
    """
    The host of a registry, of any of its names.

    @return: the host as in references, C{docker.io}.
    @raise BadInput: C{text} is not a registry.
    """
    host = registry_of(text)
    try:
        # The grammar of references reads a name without a dot or a port as a path.
        found = Reference.parse(f"{host}/x/x").repository.host
    except BadReference:
        found = ""
    if not host or found != host:
        raise BadInput(f"{json.dumps(text)} is not a registry; examples are docker.io and localhost:5000")
    return host


def server_of(host: str) -> str:
    """
    Docker's key of a registry, in its file and for its helpers.

    @param host: the host as in references, C{docker.io}.
    """
    return HUB_KEY if host == DOCKER_HUB else host


@frozen
class DockerConfig:
    """
    The content of a C{config.json}.

    @ivar path: the file.
    @ivar auths: credentials, by host or C{host/namespace}.
    @ivar helpers: the helpers of single hosts; the empty string is the file
        itself.
    @ivar store: the helper of all other hosts, or the empty string.
    @ivar broken: the error of each invalid entry of C{auths}, by host or
        C{host/namespace}, in one line without values.
    """

    path: str
    auths: Mapping[str, Credentials]
    helpers: Mapping[str, str]
    store: str
    broken: Mapping[str, str] = field(factory=dict)

    def helper(self, host: str) -> str:
        """
        The helper with a host's credentials: the part behind
        C{docker-credential-} in the program's name, or the empty string.
        """
        return self.helpers.get(host, self.store)

    def below(self, host: str, path: str) -> Credentials | None:
        """
        The credentials of a repository's most specific namespace, or L{None};
        those of the host do not count.
        """
        return next((self.auths[key] for key in _namespaces(host, path) if key in self.auths), None)

    def problem(self, host: str, path: str) -> str:
        """
        The error of the entry of a repository's host or of one of its namespaces,
        or the empty string.
        """
        keys = (*_namespaces(host, path), host)
        return next((self.broken[key] for key in keys if key in self.broken), "")


def _namespaces(host: str, path: str) -> Iterator[str]:
    """
    The namespaces of a repository, the most specific first.
    """
    parts = path.split("/") if path else []
    for count in range(len(parts), 0, -1):
        yield "/".join([host, *parts[:count]])


def parse_docker_config(data: bytes, path: str) -> DockerConfig:
    """
    Parse a C{config.json}.

    An invalid entry of C{auths} affects its registry only.

    @param path: the path of the file, for errors and the credentials' C{origin}.
    @raise ConfigError: the file is invalid; the message has the line and the key,
        and no value.
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
    Parse the file as JSON.

    @raise ConfigError: it is not a JSON object; the message has the line.
    """
    if len(data) > MAX_CONFIG:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG} bytes")
    try:
        value = json.loads(data.decode("utf-8") if data.strip() else "{}")
    # The causes quote the text.
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise ConfigError(f"{path}, line {line}: invalid UTF-8") from None
    except json.JSONDecodeError as e:
        raise ConfigError(f"{path}, line {e.lineno}, column {e.colno}: invalid JSON: {e.msg}") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply") from None
    except ValueError:
        # Python reads integers of at most 4,300 digits.
        raise ConfigError(f"{path} has a number with too many digits") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}, line 1: expected a JSON object, as docker login writes it")
    return value


class _Source:
    """
    The file's text, for the line of an error.
    """

    def __init__(self, data: bytes, path: str) -> None:
        self.value = parse_object(data, path)
        self.path = path
        self._text = data.decode("utf-8")

    def table(self, name: str) -> Iterator[tuple[str, object]]:
        """
        The items of a table; a missing or null one is empty.
        """
        table = self.value.get(name)
        if table is None:
            return
        if not isinstance(table, dict):
            raise self.wrong("an object", name)
        yield from table.items()

    def wrong(self, expected: str, *keys: str) -> ConfigError:
        """
        The error of a value, by its keys.
        """
        at = 0
        for key in keys:
            # A key with escapes is not found; the error then has no line.
            at = self._text.find(json.dumps(key, ensure_ascii=False), at)
            if at < 0:
                break
        line = f", line {self._text.count(chr(10), 0, at) + 1}" if at >= 0 else ""
        name = ".".join(key if key.isidentifier() else json.dumps(key) for key in keys)
        return ConfigError(f"{self.path}{line}: {name} must be {expected}")


def _helper_name(source: _Source, value: object, *keys: str) -> str:
    """
    Read the name of a helper, a part of a program's name.
    """
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or HELPER_NAME.fullmatch(value) is None:
        raise source.wrong("the name of a helper: the part behind 'docker-credential-'", *keys)
    return value


def _read_entry(source: _Source, key: str, entry: object) -> Credentials | None:
    """
    Read one entry; an empty or null one refers to a credential helper.
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
            raise source.wrong("a string", "auths", key, name)
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
    Whether a text of JSON can be encoded: a lone surrogate cannot.
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def unpack_auth(auth: str) -> tuple[str, str] | None:
    """
    Decode C{user:password} of base64, which may be wrapped; old docker padded the
    password with zeros.

    @return: user name and password, or L{None} for other text.
    """
    # Go's decoder, and so docker and podman, skip line breaks.
    auth = auth.replace("\r", "").replace("\n", "")
    try:
        username, colon, password = b64decode(auth, validate=True).decode("utf-8").partition(":")
    except ValueError:
        return None
    return (username, password.strip("\x00")) if colon else None


def parse_helper_answer(data: bytes, origin: str) -> Credentials | None:
    """
    Parse the output of a credential helper.

    @param origin: the name of the helper.
    @return: the credentials, or L{None} for other output.
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
