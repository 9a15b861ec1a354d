# -*- test-case-name: tests.registry.hosts.test_hosts_toml -*-
"""
The grammar of C{hosts.toml}, which lists the servers of a registry for
containerd, docker and nerdctl (containerd, C{docs/hosts.md}).

Pure: the files that it names are not read here.
"""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any, Final
from urllib.parse import SplitResult

from attrs import field, frozen

from xferd.errors import ConfigError
from xferd.http_urls import split_url
from xferd.registry.transport.urls import Origin

CAPABILITIES: Final = frozenset({"pull", "resolve", "push"})
"""The requests that a server may serve: content by digest, tags, and pushes."""

_KEYS: Final = frozenset(
    {
        "capabilities",
        "ca",
        "client",
        "skip_verify",
        "header",
        "override_path",
        "dial_timeout",
        "proxy",
    }
)
MAX_UNKNOWN: Final = 20
"""Unknown keys of one file that are reported: each is searched for its line."""

MAX_DURATION: Final = 64
"""Characters of a duration."""

_UNITS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")


_USER_INFO: Final = re.compile(r"^(?:.*@|(?!(?:\w+://)?\[).*\[)")
"""A user and a password in the URL of a server, which an error does not quote."""


@frozen
class HostEntry:
    """
    One server of a file.

    @ivar url: scheme, host and port, C{https://mirror.example:5000}, or the
        empty string for the registry's own address.
    @ivar path: the path of its API, C{/v2}.
    @ivar capabilities: the requests that it may serve.
    @ivar ca: paths of PEM files, whose certificates are trusted in addition
        to the system's.
    @ivar client: paths of certificate and key; the key's may be empty, and is
        then in the same file.
    @ivar skip_verify: whether to accept any certificate, or L{None}.
    @ivar headers: additional headers of each request.  They may be secret.
    @ivar dial_timeout: seconds that a connection may take, or L{None}.
    @ivar proxy: the proxy's URL, or the empty string for the default.
    """

    url: str = ""
    path: str = "/v2"
    capabilities: frozenset[str] = CAPABILITIES
    ca: tuple[str, ...] = ()
    client: tuple[tuple[str, str], ...] = ()
    skip_verify: bool | None = None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    dial_timeout: float | None = None
    proxy: str = field(default="", repr=False)


@frozen
class HostsToml:
    """
    A whole file.

    @ivar entries: the servers in the order of preference; the last is the
        registry itself, or the C{server} of the file.
    @ivar unknown: keys that are not known, as C{path: key}.
    """

    entries: tuple[HostEntry, ...]
    unknown: tuple[str, ...] = ()


def parse_hosts_toml(data: bytes, path: str) -> HostsToml:
    """
    Read a C{hosts.toml}.

    Unknown keys are ignored, as by containerd: a newer version may have them.

    @param path: the path of the file, to whose directory paths in it are
        relative.
    @raise ConfigError: it cannot be used; the message names file, line, key
        and what was expected, and quotes no header and no proxy.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path} is not TOML: it is not UTF-8 from byte {e.start} on") from e
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        reason = str(e).replace("at end of document", f"at line {len(text.splitlines())}, where it ends")
        raise ConfigError(f"{path} is not TOML: {reason}") from e
    except (ValueError, RecursionError) as e:
        # A number of more than 4300 digits, or a value nested too deeply.
        raise ConfigError(f"{path} cannot be read: {e}") from e
    reader = _Reader(path, text)
    servers = table.pop("host", {})
    if not isinstance(servers, dict):
        raise reader.wrong((), "host", 'tables [host."https://..."]')
    server = table.pop("server", "")
    if not isinstance(server, str):
        raise reader.wrong((), "server", "a URL")
    entries = [reader.entry(("host", url), url, value) for url, value in servers.items()]
    return HostsToml((*entries, reader.entry((), server, table)), tuple(reader.unknown))


def parse_duration(text: str) -> float:
    """
    Seconds from a duration as Go writes it, C{1m30s}.

    @raise ValueError: it is invalid, or longer than L{MAX_DURATION}.
    """
    # The time of the search is quadratic.
    parts = _PART.findall(text[:MAX_DURATION])
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("it is no duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


class _Reader:
    """
    Reads the tables of one file, and makes the errors for them.
    """

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._directory = os.path.dirname(path)
        self._lines = text.splitlines()
        self.unknown: list[str] = []

    def entry(self, table: tuple[str, ...], url: str, value: object) -> HostEntry:
        """
        Read the table of one server.
        """
        if not isinstance(value, dict):
            raise self.wrong(table[:-1], table[-1], "a table")
        for key in sorted(value.keys() - _KEYS)[: MAX_UNKNOWN - len(self.unknown)]:
            self.unknown.append(self._where(table, key))
        override = self._flag(table, value, "override_path") or False
        origin, path = self._server(table, url, override)
        return HostEntry(
            url=origin,
            path=path,
            capabilities=self._capabilities(table, value),
            ca=self._paths(table, value, "ca"),
            client=self._client(table, value),
            skip_verify=self._flag(table, value, "skip_verify"),
            headers=self._headers(table, value),
            dial_timeout=self._duration(table, value, "dial_timeout"),
            proxy=self._proxy(table, value),
        )

    def wrong(self, table: tuple[str, ...], key: str, expected: str, value: object = None) -> ConfigError:
        """
        The error for an invalid value.

        @param value: the value to quote, if it is not secret.
        """
        quoted = "" if value is None else f", not {value!r}"
        return ConfigError(f"{self._where(table, key)} must be {expected}{quoted}")

    def _where(self, table: tuple[str, ...], key: str) -> str:
        """
        A key with its file and, where it can be found, its line.
        """
        names = [_USER_INFO.sub("…", name) for name in (*table, key)]
        name = ".".join(n if re.fullmatch(r"[A-Za-z0-9_-]+", n) else f'"{n}"' for n in names)
        line = self._line_of(table, key)
        return f"{self._path}{'' if line is None else f', line {line}'}: {name}"

    def _line_of(self, table: tuple[str, ...], key: str) -> int | None:
        """
        The line on which a key is set, or its table begins.
        """
        current: tuple[str, ...] = ()
        for number, line in enumerate(self._lines, 1):
            stripped = line.strip()
            if stripped.startswith("["):
                current = _table_of(stripped)
                if current == (*table, key):
                    return number
            elif current == table and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*[=.]", stripped):
                return number
        return None

    def _server(self, table: tuple[str, ...], url: str, override: bool) -> tuple[str, str]:
        """
        A server's origin, and the path of its API.
        """
        if not url and not table:
            return "", "/v2"
        name, place = ("server", ()) if not table else (table[-1], table[:-1])
        whole = url if "://" in url else f"https://{url}"
        split = _split(whole)
        if split is None:
            raise self.wrong(place, name, "the URL of a server, for example https://mirror.example:5000")
        path = re.sub("/+", "/", split.path).rstrip("/")
        if not override and not path.endswith("/v2"):
            path += "/v2"
        return f"{split.scheme}://{split.netloc.lower()}", path

    def _capabilities(self, table: tuple[str, ...], value: dict[str, Any]) -> frozenset[str]:
        """
        The capabilities of a server; all, if none are listed.
        """
        found = value.get("capabilities", [])
        lowered = [c.lower() if isinstance(c, str) else c for c in found] if isinstance(found, list) else None
        if lowered is None or not all(isinstance(c, str) and c in CAPABILITIES for c in lowered):
            raise self.wrong(table, "capabilities", 'a list of "pull", "resolve" and "push"', found)
        return frozenset(lowered) or CAPABILITIES

    def _paths(self, table: tuple[str, ...], value: dict[str, Any], key: str) -> tuple[str, ...]:
        """
        One path or several.
        """
        found = value.get(key, [])
        listed = [found] if isinstance(found, str) else found
        if not isinstance(listed, list) or not all(isinstance(p, str) and p for p in listed):
            raise self.wrong(table, key, "the path of a PEM file, or a list of such", found)
        return tuple(self._absolute(p) for p in listed)

    def _client(self, table: tuple[str, ...], value: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        """
        Client certificates: a path, a list of paths, a list of pairs.
        """
        found = value.get("client", [])
        pairs: list[tuple[str, str]] = []
        for each in [found] if isinstance(found, str) else found if isinstance(found, list) else [None]:
            match each:
                case str() as path if path:
                    pairs.append((self._absolute(path), ""))
                case [str() as certificate, str() as key] if certificate:
                    pairs.append((self._absolute(certificate), self._absolute(key) if key else ""))
                case _:
                    expected = "the path of a PEM file, or a list of such or of pairs [certificate, key]"
                    raise self.wrong(table, "client", expected, found)
        return tuple(pairs)

    def _headers(self, table: tuple[str, ...], value: dict[str, Any]) -> tuple[tuple[str, str], ...]:
        """
        Additional headers, each with one value or several.
        """
        found = value.get("header", {})
        if not isinstance(found, dict):
            raise self.wrong(table, "header", "a table")
        headers: list[tuple[str, str]] = []
        for name, texts in found.items():
            listed = [texts] if isinstance(texts, str) else texts
            if (
                _HEADER_NAME.fullmatch(name) is None
                or not isinstance(listed, list)
                or not all(isinstance(t, str) and _HEADER_VALUE.fullmatch(t) for t in listed)
            ):
                raise self.wrong((*table, "header"), name, "a header, its value a string or a list of them")
            headers.extend((name, t) for t in listed)
        return tuple(headers)

    def _duration(self, table: tuple[str, ...], value: dict[str, Any], key: str) -> float | None:
        """
        A duration in seconds, or L{None} without one or for zero.
        """
        found = value.get(key, "")
        try:
            return parse_duration(found) or None if found else None
        except (TypeError, ValueError):
            raise self.wrong(table, key, 'a duration, for example "1s" or "500ms"', found) from None

    def _proxy(self, table: tuple[str, ...], value: dict[str, Any]) -> str:
        """
        The URL of a proxy, if there is one.
        """
        found = value.get("proxy", "")
        if not isinstance(found, str):
            raise self.wrong(table, "proxy", "the URL of a proxy")
        return found

    def _flag(self, table: tuple[str, ...], value: dict[str, Any], key: str) -> bool | None:
        """
        A boolean, or L{None} without one.
        """
        found = value.get(key)
        if found is not None and not isinstance(found, bool):
            raise self.wrong(table, key, "true or false", found)
        return found

    def _absolute(self, path: str) -> str:
        """
        A path, relative to the directory of the file.
        """
        return os.path.join(self._directory, path)


def _split(url: str) -> SplitResult | None:
    """
    The parts of a server's URL, or L{None} if it is invalid.
    """
    try:
        Origin.of(url)
        split = split_url(url)
    except ValueError:
        return None
    if split.port == 0 or split.netloc.endswith(":") or split.query or split.fragment:
        return None
    return None if re.fullmatch(r"[!-~]+", url) is None else split


def _table_of(line: str) -> tuple[str, ...]:
    """
    The name of the table whose header a line is.
    """
    try:
        value: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()  # A part of a list that goes over several lines.
    names = []
    while isinstance(value, dict) and value:
        name, value = next(iter(value.items()))
        names.append(name)
    return tuple(names)
