"""
What concerns the store alone: the cost of a name and of a record, with few of
them and with many, in the reactor's thread and on a file system in memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from benchmarks.figures import Outcome, Row, Series
from benchmarks.places import in_memory
from benchmarks.processes import Failed
from benchmarks.rounds import Setting
from xferd.interfaces.reactor import IReactor
from xferd.interfaces.store import Image
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Descriptor
from xferd.store.store import Store
from xferd.testing.inline_threads import InlinePools, InlineReactor

_NAMES = (1_000, 10_000)
_RECORDS = (1_000, 1_000_000)
_TIMED = 50
_POOLS = InlinePools()


def names(setting: Setting) -> Outcome:
    """
    Give an image one more name, beside many.
    """
    together: dict[str, list[float]] = {}

    def once(who: str, number: int) -> float:
        with in_memory() as place:
            store = _opened(place)
            image = _image(store)
            with _POOLS.held():
                waiting = [store.images.put(evolve(image, reference=_name(n))) for n in range(_number(who))]
            _wait(gatherResults(waiting))
            one = _timed(
                lambda n: store.images.put(evolve(image, reference=Reference.parse(f"one:{n}"))), False
            )
            all_ = _timed(
                lambda n: store.images.put(evolve(image, reference=Reference.parse(f"all:{n}"))), True
            )
            _wait(store.stop())
        if number:
            together.setdefault(who, []).append(all_)
        return one

    return _outcome(setting, "names", "one more name; at once: 50 of them", _NAMES, once, together)


def records(setting: Setting) -> Outcome:
    """
    Write a job and an attempt into the journal, beside many.
    """
    together: dict[str, list[float]] = {}

    def once(who: str, number: int) -> float:
        with in_memory() as place:
            _wait(_opened(place).stop())
            _fill(place, _number(who))
            store = _opened(place)

            def record(n: int) -> Deferred[Any]:
                job = {"id": f"new-{n}", "created": "2027", "state": "done", "layers": ["x" * 2000]}
                attempt = {"transfer": f"new-{n}", "kind": "download", "attempt": 1}
                return gatherResults([store.journal.record_job(job), store.journal.record_attempt(attempt)])

            one = _timed(record, False)
            all_ = _timed(lambda n: record(n + _TIMED), True)
            _wait(store.stop())
        if number:
            together.setdefault(who, []).append(all_)
        return one

    subject = "one more job and attempt, with too many of each; at once: 50 of them"
    return _outcome(setting, "records", subject, _RECORDS, once, together)


def _outcome(
    setting: Setting,
    benchmark: str,
    subject: str,
    sizes: tuple[int, ...],
    once: Callable[[str, int], float],
    together: dict[str, list[float]],
) -> Outcome:
    values, missing = setting.in_rounds([f"{n:,} {benchmark}" for n in sizes], once, unit="ms")
    fewest = Series(next(iter(values.values()))).median if values else 1.0
    rows = [
        Row(
            who,
            "ms",
            Series(took),
            {"at once": Series(together[who]).median, "it / the fewest": Series(took).median / fewest},
        )
        for who, took in values.items()
    ]
    return Outcome(benchmark, subject, rows, missing)


def _number(who: str) -> int:
    return int(who.partition(" ")[0].replace(",", ""))


def _timed(work: Callable[[int], Deferred[Any]], together: bool) -> float:
    """
    Call a function several times.

    @return: milliseconds for each call.
    """
    began = perf_counter()
    if together:
        with _POOLS.held():
            all_ = gatherResults([work(n) for n in range(_TIMED)])
        _wait(all_)
    else:
        for n in range(_TIMED):
            _wait(work(n))
    return (perf_counter() - began) / _TIMED * 1000


def _opened(place: Path) -> Store:
    store = Store(
        str(place / "data"),
        cast("IReactor", InlineReactor()),
        wall_clock=lambda: 0.0,
        pools=_POOLS,
        reserve=0,
    )
    store.open()
    _wait(store.start())
    return store


def _wait(work: Deferred[Any]) -> None:
    """
    Check that work is done: with inline threads it never waits.

    @raise Failed: it is not done, or has failed.
    """
    results: list[Any] = []
    _ = work.addBoth(results.append)
    if not results or isinstance(results[0], Failure):
        raise Failed(f"the store did not do it: {results}")


def _name(number: int) -> Reference:
    return Reference.parse(f"registry.example.com/team-{number % 50}/application-{number}:1.{number}")


def _image(store: Store) -> Image:
    """
    An image without layers whose documents are in the store.
    """
    documents = [(OCI_MANIFEST, b'{"schemaVersion": 2}'), (OCI_CONFIG, b"{}")]
    manifest, config = (Descriptor(kind, Digest.of(data), len(data)) for kind, data in documents)
    for _, data in documents:
        _wait(store.blobs.put(Digest.of(data), data))
    return Image(_name(0), manifest, config, manifest.digest, (), None, 100, "2026-01-02T03:04:05Z")


def _fill(place: Path, number: int) -> None:
    """
    Put jobs and attempts into a journal.
    """
    database = sqlite3.connect(place / "data" / "xferd.db")
    record = json.dumps({"layers": ["x" * 500]})
    database.executemany(
        "INSERT INTO job (id, created, state, run, record) VALUES (?, ?, 'done', 1, ?)",
        ((f"{n * 7919 % number:x}-{n:x}", f"2026-{n:09}", record) for n in range(number)),
    )
    database.executemany(
        "INSERT INTO attempt (transfer, kind, attempt) VALUES (?, 'download', 1)",
        ((f"{n * 7919 % number:x}",) for n in range(number)),
    )
    database.commit()
    database.close()
