# -*- test-case-name: tests.jobs.test_limits -*-
"""
The limits on concurrency and bandwidth, which change while the daemon runs:
one table for the configuration, C{PATCH /api/v1/limits}, C{SIGHUP} and the
API's schema.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from attrs import Attribute, evolve, field, fields, frozen

from xferd.docker_config import host_of
from xferd.errors import BadInput
from xferd.rates import MOST, NO_LIMIT, Rate


class Bounds(NamedTuple):
    """
    The smallest and the largest value of a limit.
    """

    least: int
    most: int


AT_ONCE: Final = 10_000
"""The largest number of blobs or requests at the same time."""

HEAVIEST: Final = 1000
"""The largest weight of a client."""

MOST_ENTRIES: Final = 1000
"""The largest number of hosts, or of clients, with limits of their own."""

_CLIENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,63}")

L = TypeVar("L", "HostLimits", "ClientLimits")


def _limit(default: int, bounds: Bounds, description: str) -> int:
    value: int = field(
        default=default,
        validator=_within_bounds,
        metadata={"bounds": bounds, "description": description},
    )
    return value


def _download_rate(value: object) -> Rate:
    return _named_rate("download_rate", value)


def _upload_rate(value: object) -> Rate:
    return _named_rate("upload_rate", value)


def _named_rate(name: str, value: object) -> Rate:
    try:
        return Rate.of(value)
    except ValueError as e:
        raise ValueError(f"{name!r} {e}") from e


def _rate(converter: Callable[[object], Rate], description: str) -> Rate:
    value: Rate = field(
        default=NO_LIMIT,
        converter=converter,
        metadata={"bounds": Bounds(0, MOST), "description": description},
    )
    return value


def _within_bounds(_: object, attribute: Attribute[int], value: object) -> None:
    least, most = attribute.metadata["bounds"]
    # A boolean is an int, too.
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{attribute.name!r} must be a whole number from {least} to {most}, not {value!r}")


@frozen
class HostLimits:
    """
    The limits on one host.

    @raise ValueError: a value is out of its bounds.
    """

    downloads: int = _limit(
        0, Bounds(0, AT_ONCE), "Blobs downloaded from it at the same time; 0 is downloads_per_host."
    )
    uploads: int = _limit(0, Bounds(0, AT_ONCE), "Blobs uploaded to it at the same time; 0 is no limit.")
    download_rate: Rate = _rate(_download_rate, "Bytes a second downloaded from it; 0 is no limit.")
    upload_rate: Rate = _rate(_upload_rate, "Bytes a second uploaded to it; 0 is no limit.")


@frozen
class ClientLimits:
    """
    The weight of one client, and the limits on its jobs.

    @raise ValueError: a value is out of its bounds.
    """

    weight: int = _limit(
        1, Bounds(1, HEAVIEST), "Its share of slots and bandwidth, relative to clients of weight 1."
    )
    download_rate: Rate = _rate(_download_rate, "Bytes a second downloaded by its jobs; 0 is no limit.")
    upload_rate: Rate = _rate(_upload_rate, "Bytes a second uploaded by its jobs; 0 is no limit.")


def _hosts(value: Mapping[str, HostLimits]) -> dict[str, HostLimits]:
    return _entries(value, "hosts", HostLimits())


def _clients(value: Mapping[str, ClientLimits]) -> dict[str, ClientLimits]:
    for name in value:
        if _CLIENT.fullmatch(name) is None:
            raise ValueError(
                f"'clients' must have names of 1 to 64 letters, digits and '._:@/+-', not {name[:40]!r}"
            )
    return _entries(value, "clients", ClientLimits())


def _entries(value: Mapping[str, L], name: str, usual: L) -> dict[str, L]:
    if len(value) > MOST_ENTRIES:
        raise ValueError(f"{name!r} must have at most {MOST_ENTRIES} entries")
    try:
        named = {host_of(key): each for key, each in value.items()} if name == "hosts" else dict(value)
    except BadInput as e:
        raise ValueError(f"'hosts' must have names of registries: {e}") from e
    return {key: each for key, each in named.items() if each != usual}


@frozen
class Limits:
    """
    A value for each limit.  A field's metadata has its C{bounds} and its
    C{description}.

    @ivar hosts: the limits on single registries, by host.
    @ivar clients: the weights of clients, and the limits on their jobs, by name.
    @raise ValueError: a value is out of its bounds.
    """

    downloads: int = _limit(3, Bounds(1, AT_ONCE), "Blobs downloaded at the same time, by all jobs together.")
    downloads_per_host: int = _limit(
        0, Bounds(0, AT_ONCE), "Blobs downloaded from one registry at the same time; 0 is no limit."
    )
    ranges: int = _limit(
        4,
        Bounds(1, AT_ONCE),
        "Requests for parts of one large blob at the same time; 1 is one for each blob.",
    )
    uploads: int = _limit(5, Bounds(1, AT_ONCE), "Blobs uploaded at the same time, by all jobs together.")
    workers: int = _limit(0, Bounds(0, 1_000), "Layers unpacked at the same time; 0 is one for each core.")
    download_rate: Rate = _rate(
        _download_rate, "Bytes a second downloaded by all jobs together; 0 is no limit."
    )
    upload_rate: Rate = _rate(_upload_rate, "Bytes a second uploaded by all jobs together; 0 is no limit.")
    hosts: dict[str, HostLimits] = field(factory=dict, converter=_hosts)
    clients: dict[str, ClientLimits] = field(factory=dict, converter=_clients)

    def resolved(self) -> Limits:
        """
        These limits, with the number of cores in place of C{workers = 0}.
        """
        return self if self.workers else evolve(self, workers=len(os.sched_getaffinity(0)))

    def changed(self, changes: Mapping[str, Any], configured: Limits) -> Limits:
        """
        These limits with changes, as in the API.

        @param changes: values by the names of the limits, L{None} for the configured one; C{hosts} and
            C{clients} have entries with some of their members, or L{None}, which removes
            the entry.
        @raise BadInput: there is no such limit, or a value is out of bounds.
        """
        values: dict[str, Any] = {}
        for name, value in changes.items():
            if name not in _NAMES:
                raise BadInput(f"there is no limit {name[:40]!r}; there are {', '.join(_NAMES)}")
            if name in _ENTRIES:
                values[name] = self._entries_changed(name, value)
            else:
                values[name] = getattr(configured, name) if value is None else value
        try:
            return evolve(self, **values).resolved()
        except ValueError as e:
            raise BadInput(str(e)) from e

    def _entries_changed(self, name: str, changes: object) -> dict[str, Any]:
        if not isinstance(changes, Mapping):
            raise BadInput(f"{name!r} must be an object with an entry for each of the {name}")
        kind = _ENTRIES[name]
        entries: dict[str, Any] = dict(getattr(self, name))
        for key, change in changes.items():
            named = host_of(key) if name == "hosts" else key
            if change is None:
                entries.pop(named, None)
                continue
            members = [each.name for each in fields(kind)]
            if not isinstance(change, Mapping) or not set(change) <= set(members):
                raise BadInput(f"the limits in {name!r} are {', '.join(members)}; null removes the entry")
            try:
                entries[named] = evolve(entries.get(named, kind()), **change)
            except ValueError as e:
                raise BadInput(re.sub(r"^'(\w+)'", rf"'{name}.{named}.\1'", str(e))) from e
        return entries


_ENTRIES: Final[Mapping[str, type[HostLimits] | type[ClientLimits]]] = {
    "hosts": HostLimits,
    "clients": ClientLimits,
}
_NAMES: Final = tuple(limit.name for limit in fields(Limits))


def checked_rates(values: Mapping[str, Any]) -> dict[str, Rate]:
    """
    The C{download_rate} and the C{upload_rate} of a job.

    @raise BadInput: a name is unknown, or a value is not a rate.
    """
    try:
        # These are the fields of a client, too.
        found = ClientLimits(**values)
    except TypeError as e:
        raise BadInput("a job has a download_rate and an upload_rate") from e
    except ValueError as e:
        raise BadInput(str(e)) from e
    return {name: getattr(found, name) for name in values}


def bounds() -> dict[str, Bounds]:
    """
    The bounds of each limit that is a number, by name.
    """
    return {limit.name: limit.metadata["bounds"] for limit in fields(Limits) if limit.metadata}


def merged(kept: Mapping[str, Any], changes: Mapping[str, Any], configured: Limits) -> dict[str, Any]:
    """
    Add changes to earlier ones, with both as for L{Limits.changed}.

    @param configured: the limits that they change.
    """
    found = dict(kept)
    for name, value in changes.items():
        if name not in _ENTRIES:
            found[name] = value
            if value is None:
                del found[name]
            continue
        entries = dict(found.get(name, {}))
        for key, change in value.items():
            named = host_of(key) if name == "hosts" else key
            if change is not None:
                entries[named] = {**(entries.get(named) or {}), **change}
            elif named in getattr(configured, name):
                entries[named] = None
            else:
                entries.pop(named, None)
        found[name] = entries
        if not entries:
            del found[name]
    return found
