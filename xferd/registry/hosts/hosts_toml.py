# -*- test-case-name: tests.registry.hosts.test_hosts_toml -*-
"""
The grammar of C{hosts.toml}, by which containerd, and so docker and nerdctl,
are told which servers stand for a registry (containerd, C{docs/hosts.md}).

Pure: what the files hold that it names is for others to see.
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
"""What a server may be asked for: content by digest, what a tag stands for,
and to take things."""

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
    One server, as the file has it.

    @ivar url: scheme, host and port, C{https://mirror.example:5000}, or the
        empty string for the registry's own address.
    @ivar path: where its API begins, C{/v2}.
    @ivar capabilities: what it may be asked for.
    @ivar ca: paths of PEM files, whose certificates are trusted besides the
        system's.
    @ivar client: paths of certificate and key; the key's may be empty, and is
        then in the same file.
    @ivar skip_verify: whether to speak TLS with whoever answers, if the file
        says so or not.
    @ivar headers: what to send with each request.  It may be secret.
    @ivar dial_timeout: seconds that a connection may take, if the file says.
    @ivar proxy: the proxy's URL, or the empty string for the usual one.
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

    @ivar entries: the servers in the order in which they are to be asked; the
        registry itself, or what the file puts in its place, is the last.
    @ivar unknown: keys that mean nothing here, as C{path: key}.
    """

    entries: tuple[HostEntry, ...]
    unknown: tuple[str, ...] = ()


def parse_hosts_toml(data: bytes, path: str) -> HostsToml:
    """
    Read a C{hosts.toml}.

    Keys that are not known are left alone, as containerd does: a newer one may
    know them.

    @param path: the file's, against which the paths in it are relative.
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
        said = str(e).replace("at end of document", f"at line {len(text.splitlines())}, where it ends")
        raise ConfigError(f"{path} is not TOML: {said}") from e
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

    @raise ValueError: it is none, or longer than L{MAX_DURATION}.
    """
    # The search takes the square of the length.
    parts = _PART.findall(text[:MAX_DURATION])
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("it is no duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


class _Reader:
    """
    Reads the tables of one file, and knows how to complain of them.
    """

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._directory = os.path.dirname(path)
        self._lines = text.splitlines()
        self.unknown: list[str] = []

    def entry(self, table: tuple[str, ...], url: str, value: object) -> HostEntry:
        """
        Read what is said of one server.
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
        The error for a value that is another than was expected.

        @param value: what to quote.
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
        A server's origin, and where its API begins.
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
        What a server may be asked for; all, if nothing is said.
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
        More headers, each with a text or several.
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
        A duration, if there is one; zero is none.
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
        True or false, if there is one.
        """
        found = value.get(key)
        if found is not None and not isinstance(found, bool):
            raise self.wrong(table, key, "true or false", found)
        return found

    def _absolute(self, path: str) -> str:
        """
        A path, seen from the file.
        """
        return os.path.join(self._directory, path)


def _split(url: str) -> SplitResult | None:
    """
    The parts of a server's URL, or L{None} if it is none.
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
    The name of the table that a line begins.
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
