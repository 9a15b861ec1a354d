"""
What concerns xferd alone: many clients of one image, its reactor's pauses, and
the cost of a queue.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable
from itertools import count
from pathlib import Path
from time import monotonic, perf_counter

from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from benchmarks.figures import Outcome, Row, Series
from benchmarks.images import Image
from benchmarks.peers import ROOT, Xferd
from benchmarks.places import in_memory
from benchmarks.processes import Failed, Program
from benchmarks.rounds import Setting, started
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots, Turn
from xferd.transfer.transfer import Transfer, TransferManager

_CLIENTS = 100
_QUEUED = 10_000


def clients(setting: Setting, image: Image) -> Outcome:
    """
    Pull one image for many clients at the same moment: the time until the last
    one has it, and the bytes that the registry sent.
    """
    numbers = {f"{n} client{'s' * (n > 1)}": n for n in (1, _CLIENTS)}
    sent: dict[str, list[float]] = {name: [] for name in numbers}

    def once(name: str, _: int) -> float:
        with in_memory() as place, started(Xferd, setting.registry) as daemon:
            before = setting.registry.sent()
            took = _pull(daemon, setting, image, numbers[name], place)
        # The registry notes what it has sent a moment after it was received.
        sent[name].append((setting.registry.sent() - before) / image.size)
        return took

    values, missing = setting.in_rounds(list(numbers), once)
    one = next(iter(numbers))
    rows = [
        Row(
            name,
            "s",
            Series(took),
            {
                **(
                    {"it / 1 client": Series(took).median / Series(values[one]).median}
                    if one in values
                    else {}
                ),
                "bytes / image": max(sent[name]),
            },
        )
        for name, took in values.items()
    ]
    return Outcome("clients", str(image), rows, missing)


def pause(setting: Setting, image: Image) -> Outcome:
    """
    Find the longest time for which the reactor does nothing else, while one
    client pulls and while many do.
    """
    numbers = {f"{n} client{'s' * (n > 1)}": n for n in (1, _CLIENTS)}
    computing: dict[str, list[float]] = {name: [] for name in numbers}

    def once(name: str, number: int) -> float:
        with in_memory() as place, started(_probed(place / "pauses"), setting.registry) as daemon:
            began = monotonic()
            _pull(daemon, setting, image, numbers[name], place)
            ended = monotonic()
            daemon.stop()
            lines = (place / "pauses").read_text().splitlines()
        pauses = [(long, cpu) for at, long, cpu in map(json.loads, lines) if began <= at <= ended + long]
        longest, cpu = max(pauses, default=(0.0, 0.0))
        if number:
            computing[name].append(cpu * 1000)
        return longest * 1000

    values, missing = setting.in_rounds(list(numbers), once, unit="ms")
    rows = [
        Row(name, "ms", Series(longest), {"computing": Series(computing[name]).median})
        for name, longest in values.items()
    ]
    return Outcome("pause", str(image), rows, missing)


def queue(setting: Setting) -> Outcome:
    """
    Queue many transfers on one slot, and let them run one after the other, on a
    clock that stands still: the cost of each.
    """
    queued = f"{_QUEUED} queued"

    def once(*_: object) -> float:
        clock = Clock()
        manager = TransferManager(
            clock, wall_clock=clock.seconds, slots=Slots(1, clock), retry=RetryPolicy(), kind="download"
        )
        ran = count()

        async def work(transfer: Transfer) -> int:
            async with transfer.slot():
                return await _number()

        def _number() -> Awaitable[int]:
            return succeed(next(ran))

        began = perf_counter()
        watchers = [
            manager.request(n, work, digest=n, turn=Turn(f"client {n % _CLIENTS}", 0, n, 0))
            for n in range(_QUEUED)
        ]
        clock.advance(0)
        while manager.slots.queued or manager.slots.in_use:
            clock.advance(0)
        for watcher in watchers:
            watcher.release()
        took = perf_counter() - began
        if next(ran) != _QUEUED:
            raise Failed("not all were run")
        return took / _QUEUED * 1_000_000

    values, missing = setting.in_rounds([queued], once, unit="us")
    rows = [Row(name, "us", Series(took)) for name, took in values.items()]
    return Outcome("queue", "one slot, a hundred clients; the cost of one transfer", rows, missing)


def _pull(daemon: Xferd, setting: Setting, image: Image, number: int, place: Path) -> float:
    """
    Pull for some clients at once.

    @return: seconds until the last one has it.
    @raise Failed: one does not get it.
    """
    argv = [
        sys.executable,
        "-m",
        "benchmarks.clients",
        daemon.socket,
        image.at(setting.registry),
        str(number),
    ]
    program = Program(argv, place / "clients.log", {"PYTHONPATH": ROOT})
    program.finish()
    return float(program.text())


def _probed(pauses: Path) -> type[Xferd]:
    """
    A daemon that writes down its reactor's pauses.
    """

    class Probed(Xferd):
        """
        xferd with L{benchmarks.probe}.
        """

        twistd = (sys.executable, "-m", "benchmarks.probe", str(pauses))

    return Probed
