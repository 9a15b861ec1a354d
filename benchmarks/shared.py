"""
What concerns xferd alone: many clients of one image, its reactor's pauses, and
the cost of a queue.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from itertools import count
from time import monotonic, perf_counter

from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from benchmarks.daemons import daemon, roots
from benchmarks.figures import Outcome, Row, Series
from benchmarks.images import Image
from benchmarks.processes import Failed
from benchmarks.rounds import OURS, Setting
from xferd.transfer.bandwidth import CLIENT, HOST, JOB, Bandwidth, Flow
from xferd.transfer.fair_queue import Turn
from xferd.transfer.manager import TransferManager
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots
from xferd.transfer.transfer import Transfer

_CLIENTS = 100
_QUEUED = 10_000
_FLOWS = 100
_PIECES = 20_000
_PIECE = 64 * 1024


def clients(setting: Setting, image: Image) -> Outcome:
    """
    Pull one image for many clients at the same moment: the time until the last
    one has it, and the bytes that the registry sent.
    """
    numbers = _numbers(setting)
    sent: dict[str, list[float]] = {name: [] for name in numbers}

    def once(name: str, _: int) -> float:
        root, number = numbers[name]
        with daemon(root, setting.registry) as running:
            before = setting.registry.sent()
            took = running.clients(number, [image.at(setting.registry)])
        # The registry logs a response a moment after it was received.
        sent[name].append((setting.registry.sent() - before) / image.size)
        return took

    values, missing = setting.in_rounds(list(numbers), once)
    alone = {numbers[name][0]: Series(took).median for name, took in values.items() if numbers[name][1] == 1}
    rows = [
        Row(
            name,
            "s",
            Series(took),
            {
                **(
                    {"it / 1 client": Series(took).median / alone[numbers[name][0]]}
                    if numbers[name][0] in alone
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
    numbers = _numbers(setting)
    computing: dict[str, list[float]] = {name: [] for name in numbers}

    def once(name: str, round_: int) -> float:
        root, number = numbers[name]
        with daemon(root, setting.registry, probed=True) as running:
            began = monotonic()
            running.clients(number, [image.at(setting.registry)])
            longest, computed = running.longest_pause(began)
        if round_:
            computing[name].append(computed)
        return longest

    values, missing = setting.in_rounds(list(numbers), once, unit="ms")
    rows = [
        Row(name, "ms", Series(longest), {"computing": Series(computing[name]).median})
        for name, longest in values.items()
    ]
    return Outcome("pause", str(image), rows, missing)


def _numbers(setting: Setting) -> dict[str, tuple[str, int]]:
    """
    By the names of the rows: the directory of a version, and how many clients
    there are.
    """
    return {
        f"{n} client{'s' * (n > 1)}{'' if version == OURS else f', {version}'}": (root, n)
        for version, root in roots(setting).items()
        for n in (1, _CLIENTS)
    }


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


def pieces(setting: Setting) -> Outcome:
    """
    Count the pieces of many transfers against limits of bandwidth, on a clock that moves as
    the limits require: the cost of each piece.
    """
    fast, slow = 10**12, 10**8
    limits = {"no limit": (0, 0), "within limits": (fast, fast), "waiting": (slow, fast)}

    def once(name: str, _: int) -> float:
        clock = Clock()
        rate, other = limits[name]
        bandwidth = Bandwidth(rate, clock)
        for n in range(_FLOWS):
            bandwidth.limit(HOST, f"host {n % 4}", other)
            bandwidth.limit(CLIENT, f"client {n % 10}", other)
            bandwidth.limit(JOB, n, other)
        clock.advance(1)
        turns = [(Turn(f"client {n % 10}", 0, n, 0),) for n in range(_FLOWS)]
        flows = [Flow(bandwidth, f"host {n % 4}", partial(turns.__getitem__, n)) for n in range(_FLOWS)]
        began = perf_counter()
        for _ in range(_PIECES // _FLOWS):
            waits = [flow.take(_PIECE) for flow in flows]
            while not all(wait is None or wait.called for wait in waits):
                (timer,) = clock.getDelayedCalls()
                clock.advance(max(1e-6, timer.getTime() - clock.seconds()))
            if name == "within limits":
                clock.advance(0.01)
        return (perf_counter() - began) / _PIECES * 1_000_000

    values, missing = setting.in_rounds(list(limits), once, unit="us")
    rows = [Row(name, "us", Series(took)) for name, took in values.items()]
    return Outcome("pieces", "100 transfers of 10 clients; the cost of 64 KiB", rows, missing)
