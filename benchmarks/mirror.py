# -*- test-case-name: tests.test_benchmarks -*-
"""
xferd as a registry that clients pull through: blobs that are in the store, blobs
that arrive over a slow link, and memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile

from attrs import evolve

from benchmarks.disk import disk
from benchmarks.figures import Outcome, Row, Series, with_ratios
from benchmarks.images import MB
from benchmarks.link import Link, link
from benchmarks.memory import Watch, cpu_time
from benchmarks.places import in_memory
from benchmarks.processes import Failed
from benchmarks.readers import Reading
from benchmarks.registry import Registry
from benchmarks.rounds import OURS, Setting, started
from benchmarks.servers import Mirror, MirrorTLS, Nginx, Server, read
from xferd.testing.certificates import Authority

_MBIT = 40
_GB = 1_000_000_000
_REPOSITORY = "mirrored"
_NGINX = "nginx"
_TLS = ", TLS"
"""The end of the name of what is measured with TLS."""

_HIT = 64 * 1024 * 1024
_READS = {1: 16, 64: 1}
"""How often each client reads it, by their number: one GiB and four."""

_MISS = 16 * 1024 * 1024
_MISSING = (1, 8, 64)
_STREAMS = {1: "1 stream", 4: "up to 4 streams"}
"""How many parts of a blob xferd may request at once; the latter is the default."""

_CONNECTIONS = 200


def hits(setting: Setting) -> Outcome:
    """
    Read a blob that is there: the server's CPU time for each GB, and the rate.
    """
    registry = setting.registry
    path = _blob(registry, _HIT)
    rows, missing = [], []
    with ExitStack() as stack:

        def place() -> Path:
            return stack.enter_context(in_memory())

        def other(program: str, authority: Authority | None = None) -> Server:
            running = Registry(place(), registry.storage, program=program, authority=authority)
            stack.callback(running.stop)
            return running

        def nginx() -> Server:
            running = Nginx(place(), registry.storage)
            stack.callback(running.stop)
            return running

        starts: Mapping[str, Callable[[], Server]] = {
            OURS: lambda: stack.enter_context(started(Mirror, registry)),
            f"{OURS}{_TLS}": lambda: stack.enter_context(started(MirrorTLS, registry)),
            "docker-registry": lambda: other("docker-registry"),
            f"docker-registry{_TLS}": lambda: other("docker-registry", Authority()),
            "registry 3": lambda: other("registry"),
            _NGINX: nginx,
        }
        urls: dict[str, tuple[str, int]] = {}
        for name, start in starts.items():
            try:
                server = start()
            except Failed as e:
                missing.append(f"{name}: {e}")
            else:
                urls[name] = (server.url + (_file(path) if name == _NGINX else path), server.pid)
        clients = place()
        for number, times in _READS.items():
            values, rates, failed = _served(setting, urls, number, times, clients)
            missing += failed
            rows += hit_rows(number, values, rates)
    return Outcome("hits", f"a blob of {_HIT / MB:.0f} MB; CPU time for each GB", rows, missing)


def _served(
    setting: Setting, urls: Mapping[str, tuple[str, int]], number: int, times: int, place: Path
) -> tuple[dict[str, list[float]], dict[str, list[float]], list[str]]:
    """
    Measure servers with a number of clients.

    @param urls: the blob's URL and the server's process ID, by the servers' names.
    @param place: a directory for the clients.
    @return: CPU seconds for each GB and MB in each second, by the servers' names, and
        the sentences that tell of those who failed.
    """
    rates: dict[str, list[float]] = {name: [] for name in urls}

    def once(name: str, round_: int) -> float:
        url, pid = urls[name]
        before = cpu_time(pid)
        reading = read(url, number, times, place)
        if round_:
            rates[name].append(reading.size / MB / reading.last)
        return (cpu_time(pid) - before) / reading.size * _GB

    values, missing = setting.in_rounds(list(urls), once, unit="s/GB")
    return values, rates, missing


def hit_rows(
    number: int, values: Mapping[str, Sequence[float]], rates: Mapping[str, Sequence[float]]
) -> list[Row]:
    """
    The rows of a number of clients, compared with one another: those with TLS by themselves.

    @param values: the CPU seconds for each GB, by the servers' names.
    @param rates: the MB in each second.
    """
    rows = [
        Row(name, "s/GB", Series(cpu), {"MB/s": Series(rates[name]).median}) for name, cpu in values.items()
    ]
    sealed = [row for row in rows if row.who.endswith(_TLS)]
    rows = with_ratios([row for row in rows if row not in sealed], OURS) + with_ratios(sealed, OURS + _TLS)
    return [evolve(row, who=f"{row.who}, {_clients(number)}") for row in rows]


def misses(setting: Setting) -> Outcome:
    """
    Read a blob that arrives over a slow link, beside the blob straight from the
    registry: plain, and with TLS on both sides of xferd.  There is one round, and all of it
    counts, as the link is steady.
    """
    subject = f"{_MBIT} Mbit/s, a blob of {_MISS / MB:.0f} MB; the last client's last byte"
    rows: list[Row] = []
    missing: list[str] = []
    path = _blob(setting.registry, _MISS)
    try:
        with link(_MBIT) as line:
            for authority in (None, Authority()):
                found, failed = _over(setting, line, path, authority)
                rows += found
                missing += failed
    except Failed as e:
        missing.append(str(e))
    return Outcome("misses", subject, rows, missing)


def _over(
    setting: Setting, line: Link, path: str, authority: Authority | None
) -> tuple[list[Row], list[str]]:
    """
    Measure misses over a link.

    @param authority: issues the certificates of the registry and of xferd; without one,
        both are plain.
    @return: the rows, and the sentences that tell of the cases that failed.
    """
    suffix = "" if authority is None else _TLS
    with in_memory() as place:
        registry = Registry(place, setting.registry.storage, line.address, line.far, authority=authority)
        attributes: dict[str, object] = {}
        if authority is not None:
            (place / "ca.pem").write_bytes(authority.pem)
            attributes = {"tls": True, "upstream": f'ca_file = "{place}/ca.pem"'}
        try:
            alone = read(f"{registry.url}{path}", 1, 1, place, line.near)
            setting.tell(f"  the blob alone{suffix}: {alone.last:.3f} s")
            rows, missing = [miss_row(f"the blob alone{suffix}", alone, alone, _MISS, _MISS)], []
            for number, (most, streams) in product(_MISSING, _STREAMS.items()):
                name = f"{_clients(number)}, {streams}{suffix}"
                own = {"settings": f"[limits]\nranges = {most}\n", **attributes}
                kind: type[Mirror] = type("Case", (Mirror,), own)
                try:
                    before = registry.sent()
                    with started(kind, registry, line.near) as mirror:
                        idle = cpu_time(mirror.pid)
                        reading = mirror.read(path, number)
                        used = cpu_time(mirror.pid) - idle
                    # The daemon has ended: the registry has noted all that it sent.
                    row = miss_row(name, reading, alone, registry.sent() - before, _MISS)
                except Failed as e:
                    missing.append(f"{name}: {e}")
                    continue
                setting.tell(f"  {name}: {reading.last:.3f} s")
                rows.append(evolve(row, facts={**row.facts, "CPU s": used}))
        finally:
            registry.stop()
    return rows, missing


def miss_row(name: str, reading: Reading, alone: Reading, sent: int, size: int) -> Row:
    """
    What clients of a mirror received, beside what the link itself does.

    @param alone: one client straight at the registry.
    @param sent: the bytes that the registry sent.
    @param size: the blob's bytes.
    """
    facts = {
        "it / alone": reading.last / alone.last,
        "sent / blob": sent / size,
        "first byte later, ms": (reading.first - alone.first) * 1000,
    }
    return Row(name, "s", Series([reading.last]), facts)


def connections(setting: Setting) -> Outcome:
    """
    Find the daemon's peak of resident memory with many connections.
    """
    idle: dict[str, float] = {}
    with ExitStack() as stack:
        place = stack.enter_context(in_memory())
        registry = Registry(place, place / "storage")
        stack.callback(registry.stop)
        path = _blob(registry, _MISS)
        many = _clients(_CONNECTIONS)
        cases = {
            "1 client, a miss": (Mirror, 1, False),
            f"{many}, a miss": (Mirror, _CONNECTIONS, False),
            f"{many}, a hit": (Mirror, _CONNECTIONS, True),
            f"{many}, a miss{_TLS}": (MirrorTLS, _CONNECTIONS, False),
            f"{many}, a hit{_TLS}": (MirrorTLS, _CONNECTIONS, True),
        }

        def once(name: str, round_: int) -> float:
            kind, number, there = cases[name]
            with started(kind, registry) as mirror:
                with Watch(mirror.pid) as watch:
                    pass
                if round_:
                    idle[name] = watch.peaks.main / MB
                if there:
                    mirror.read(path, 1)
                with Watch(mirror.pid) as watch:
                    mirror.read(path, number)
            return watch.peaks.main / MB

        values, missing = setting.in_rounds(list(cases), once, unit="MB", runs=1, warm_up=False)
    rows = [Row(name, "MB", Series(peaks), {"MB at the start": idle[name]}) for name, peaks in values.items()]
    subject = f"a blob of {_MISS / MB:.0f} MB; the daemon's peak of resident memory"
    return Outcome("connections", subject, rows, missing)


def _clients(number: int) -> str:
    return f"{number} client{'s' * (number > 1)}"


def _blob(registry: Registry, size: int) -> str:
    """
    Put a blob of noise into the registry.

    @return: its path at a registry.
    """
    with TemporaryFile() as file:
        file.write(os.urandom(size))
        file.seek(0)
        return f"/v2/{_REPOSITORY}/blobs/{registry.add(_REPOSITORY, file)}"


def _file(path: str) -> str:
    """
    Where docker-registry keeps a blob, below its storage.

    @param path: the blob's path at a registry.
    """
    algorithm, _, name = path.rpartition("/")[2].partition(":")
    return f"/docker/registry/v2/blobs/{algorithm}/{name[:2]}/{name}/data"


MIRROR: dict[str, Callable[[Setting], Outcome]] = {
    "hits": hits,
    "misses": misses,
    "connections": connections,
    "disk": disk,
}
"""The benchmarks by name."""
