# -*- test-case-name: tests.test_benchmarks -*-
"""
How the daemon's cost grows with the number of blobs, jobs, transfers and event
streams.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from time import monotonic, sleep

from benchmarks.daemons import Measured, daemon, roots
from benchmarks.figures import Outcome, Row, Series
from benchmarks.images import MB
from benchmarks.places import in_memory
from benchmarks.processes import Failed, Program
from benchmarks.registry import TAG, Registry
from benchmarks.rounds import Setting
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.oci import Document
from xferd.testing.images import SampleImage, encode, image_of, sample_image, sample_layer
from xferd.testing.layers import Blob
from xferd.testing.storage import OCTETS, Storage

_CLIENTS = 100
_LAYERS = 40
_CAUSES = 20
_RATE = 20 * MB
"""Bytes a second that the daemon fetches at most while clients follow."""

_BLOBS = (1_500, 3_000, 6_000)
_BLOBS_PER_MANIFEST = 500
_PULLING = 50
_PULLS_EACH = 20
_TRANSFERS = 5_000
_BLOBS_EACH = 100
"""Blobs of each copy: all of them are requested at once."""

_SLOW = "[limits]\nuploads = 1\nupload_rate = 1\n"
_REQUESTS = 10
_PATIENCE = 120.0
"""Seconds for all transfers to be listed."""


def follow(setting: Setting) -> Outcome:
    """
    Pull one image for many clients who follow their jobs: the longest time for
    which the reactor computed, and the CPU time of the daemon.
    """
    layers = [sample_layer(2 * MB, f"follow-{n}", compression="tar") for n in range(_LAYERS)]
    image = _put(setting, "follow", image_of(layers))
    pauses: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}

    def once(name: str, number: int) -> float:
        settings = f"[limits]\ndownload_rate = {_RATE}\n"
        with daemon(roots(setting)[name], setting.registry, settings, probed=True) as running:
            before = running.cpu_time()
            running.clients(_CLIENTS, [image])
            used = running.cpu_time() - before
            pause, computing = running.longest_pause()
        if number:
            pauses.setdefault(name, []).append(pause)
            cpu.setdefault(name, []).append(used)
        return computing

    values, missing = setting.in_rounds(list(roots(setting)), once, unit="ms")
    rows = [
        Row(
            name,
            "ms",
            Series(took),
            {"with waits": Series(pauses[name]).median, "s CPU": Series(cpu[name]).median},
        )
        for name, took in values.items()
    ]
    return Outcome("follow", f"{_CLIENTS} clients of an image of {_LAYERS} layers", rows, missing)


def pages(setting: Setting) -> Outcome:
    """
    Begin jobs while an image is pulled and many pages follow everything: the time from the request
    for a job to its event on a page, and the CPU time of the daemon.
    """
    layers = [sample_layer(2 * MB, f"follow-{n}", compression="tar") for n in range(_LAYERS)]
    image = _put(setting, "follow", image_of(layers))
    facts: dict[str, dict[str, float]] = {}

    def once(name: str, _: int) -> float:
        settings = f"[limits]\ndownload_rate = {_RATE // 4}\n"
        with daemon(roots(setting)[name], setting.registry, settings) as running:
            before = running.cpu_time()
            delays = Series([1000 * delay for delay in running.pages(_CLIENTS, _CAUSES, image)])
            used = running.cpu_time() - before
        facts[name] = {"median": delays.median, "s CPU": used}
        return delays.most

    values, missing = setting.in_rounds(list(roots(setting)), once, unit="ms", runs=1, warm_up=False)
    rows = [Row(name, "ms", Series(took), facts[name]) for name, took in values.items()]
    return Outcome("pages", f"{_CLIENTS} pages; the longest time until an event", rows, missing)


def blobs(setting: Setting) -> Outcome:
    """
    Copy small blobs into another registry: the CPU time of the daemon, and the
    longest time for which its reactor computed.
    """
    numbers = {
        f"{name}, {n:,}": (root, n, f"blobs-{n}") for n in _BLOBS for name, root in roots(setting).items()
    }
    for _, number, name in numbers.values():
        _put_artifacts(setting, name, number)
    facts: dict[str, dict[str, float]] = {}

    def once(name: str, _: int) -> float:
        root, number, source = numbers[name]
        with (
            _another() as (target, settings),
            daemon(root, setting.registry, settings, probed=True) as running,
        ):
            before, began = running.cpu_time(), monotonic()
            running.copy(_at(setting, source), f"{target.host}/copy:{TAG}").finish()
            took, used = monotonic() - began, running.cpu_time() - before
            pause, computing = running.longest_pause(began)
        facts[name] = {"ms / blob": used / number * 1000, "s": took, "stall": computing, "with waits": pause}
        return used

    values, missing = setting.in_rounds(list(numbers), once, unit="s CPU", runs=1, warm_up=False)
    rows = [Row(name, "s CPU", Series(used), facts[name]) for name, used in values.items()]
    return Outcome("blobs", "a copy of small blobs; stalls in milliseconds", rows, missing)


def snapshots(setting: Setting) -> Outcome:
    """
    Count the snapshots that are made while one layer of many moves.
    """

    def once(name: str, _: int) -> float:
        with in_memory() as place:
            store = place / "store"
            store.mkdir()
            argv = [sys.executable, str(Path(__file__).with_name("snapshots.py")), str(store)]
            program = Program(
                argv, place / "log", {"PYTHONPATH": roots(setting)[name], "PYTHONSAFEPATH": "1"}
            )
            program.finish()
            return float(program.text())

    values, missing = setting.in_rounds(list(roots(setting)), once, unit="", runs=1, warm_up=False)
    rows = [Row(name, "", Series(counted)) for name, counted in values.items()]
    subject = f"one moving download of {_LAYERS} layers; for each stream and tick"
    return Outcome("snapshots", subject, rows, missing)


def here(setting: Setting) -> Outcome:
    """
    Pull small images that are all here, for many clients: the CPU time of the
    daemon.
    """
    images = [
        _put(setting, f"here-{n}", sample_image(3, 4096, f"here-{n}", compression="tar"))
        for n in range(_PULLS_EACH)
    ]

    def once(name: str, _: int) -> float:
        with daemon(roots(setting)[name], setting.registry) as running:
            running.clients(1, images)
            before = running.cpu_time()
            running.clients(_PULLING, images)
            return running.cpu_time() - before

    values, missing = setting.in_rounds(list(roots(setting)), once, unit="s CPU")
    pulls = _PULLING * _PULLS_EACH
    rows = [
        Row(name, "s CPU", Series(used), {"ms / pull": Series(used).median / pulls * 1000})
        for name, used in values.items()
    ]
    return Outcome("here", f"{pulls:,} pulls by {_PULLING} clients", rows, missing)


def transfers(setting: Setting) -> Outcome:
    """
    List thousands of transfers over the API.
    """
    _put_artifacts(setting, "transfers", _BLOBS_EACH)

    cpu: dict[str, float] = {}
    values: dict[str, list[float]] = {}

    def once(name: str, _: int) -> float:
        with (
            _another() as (target, settings),
            daemon(roots(setting)[name], setting.registry, settings + _SLOW) as running,
        ):
            copying = [
                running.copy(_at(setting, "transfers"), f"{target.host}/copy-{n}:{TAG}")
                for n in range(_TRANSFERS // _BLOBS_EACH)
            ]
            _wait_for(running, _TRANSFERS)
            before = running.cpu_time()
            times = values[name] = []
            for _n in range(_REQUESTS):
                began = monotonic()
                running.get("/api/v1/transfers")
                times.append((monotonic() - began) * 1000)
            cpu[name] = (running.cpu_time() - before) / _REQUESTS * 1000
            for copy in copying:
                copy.stop()
        return min(times)

    _, missing = setting.in_rounds(list(roots(setting)), once, unit="ms", runs=1, warm_up=False)
    rows = [Row(name, "ms", Series(times), {"ms CPU": cpu[name]}) for name, times in values.items()]
    return Outcome("transfers", f"GET /api/v1/transfers, {_TRANSFERS:,} of them", rows, missing)


def _wait_for(running: Measured, number: int) -> None:
    """
    Wait until so many transfers are listed.

    @raise Failed: there are fewer for too long.
    """
    until, listed = monotonic() + _PATIENCE, 0
    while listed < number:
        if monotonic() > until:
            raise Failed(f"there are only {listed} transfers")
        sleep(0.5)
        listed = len(json.loads(running.get("/api/v1/transfers")))


@contextmanager
def _another() -> Iterator[tuple[Registry, str]]:
    """
    A second registry, for the time of the block, and the settings for it.
    """
    with in_memory() as place:
        registry = Registry(place, place / "storage")
        try:
            yield registry, f'[hosts."{registry.host}"]\nplain_http = true\n'
        finally:
            registry.stop()


def _at(setting: Setting, name: str) -> str:
    return f"{setting.registry.host}/many/{name}:{TAG}"


def _put(setting: Setting, name: str, image: SampleImage) -> str:
    """
    Put an image into the registry.

    @return: its reference.
    """
    storage = Storage()
    for blob in image.blobs:
        storage.put_blob(f"many/{name}", blob)
    storage.put_document(f"many/{name}", image.manifest, TAG)
    setting.registry.push(f"many/{name}", storage)
    return _at(setting, name)


def _put_artifacts(setting: Setting, name: str, number: int) -> None:
    """
    Put an index of artifacts into the registry, which have so many blobs of a
    thousand bytes together.
    """
    storage, repository = Storage(), f"many/{name}"
    chance = Random(name)
    config = Blob.of("application/vnd.oci.empty.v1+json", b"{}")
    storage.put_blob(repository, config)
    entries = []
    for first in range(0, number, _BLOBS_PER_MANIFEST):
        parts = [
            Blob.of(OCTETS, chance.randbytes(1000)) for _ in range(min(_BLOBS_PER_MANIFEST, number - first))
        ]
        for part in parts:
            storage.put_blob(repository, part)
        manifest = encode(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "artifactType": "application/vnd.example.many",
                "config": config.descriptor.to_json(),
                "layers": [part.descriptor.to_json() for part in parts],
            }
        )
        document = Document.verified(OCI_MANIFEST, manifest)
        storage.put_document(repository, document)
        entries.append(document.descriptor.to_json())
    index = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    storage.put_document(repository, Document.verified(OCI_INDEX, index), TAG)
    setting.registry.push(repository, storage)


MANY: dict[str, Callable[[Setting], Outcome]] = {
    "follow": follow,
    "pages": pages,
    "blobs": blobs,
    "snapshots": snapshots,
    "here": here,
    "transfers": transfers,
}
"""The benchmarks by name."""
