"""
Five bugs that the simulation has to find, each in fewer than L{MOST} schedules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen
from twisted.python.monkey import MonkeyPatcher

from tests.simulation.runner import shrink
from tests.simulation.schedules import Schedule
from tests.simulation.world import Simulation
from xferd.jobs.pull import Pull
from xferd.transfer.fair_queue import FairQueue
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots
from xferd.transfer.watcher import Watcher

MOST: Final = 500
"""The number of schedules that are tried."""

Patch = tuple[type, str, Callable[..., Any]]

SENTENCES: Final[Mapping[str, str]] = {
    "lost slot": "are in use, and",
    "double delivery": "AlreadyCalledError",
    "early name": "is visible without",
    "forgotten watcher": "is watched for jobs that have ended alone",
    "unfair queue": "waits for a slot for a",
}
"""A part of a sentence that each bug causes: another one would be a fault of the patch."""


def _lost_slot() -> Patch:
    """
    A slot that is released while its host is paused is not free again.
    """
    end = Slots.end

    def broken(self: Slots, request: SlotRequest) -> None:
        paused = request.held and self.hosts.paused(request.host, request.account)
        end(self, request)
        if paused:
            self.tokens -= 1

    return Slots, "end", broken


def _double_delivery() -> Patch:
    """
    A result that several jobs wait for is delivered again when one of them leaves.
    """
    deliver = Watcher.deliver

    def broken(self: Watcher[Any]) -> None:
        waiting = list(self._waiting)
        deliver(self)
        if len(self.transfer._watchers) > 1 and not self._released:
            self._waiting += waiting

    return Watcher, "deliver", broken


def _early_name() -> Patch:
    """
    An image gets its name before its top layer is registered, if other images share it.
    """
    stack = Pull._stack

    async def broken(self: Pull, *args: Any) -> Any:
        _, stacks = await self._configured(*args)
        if any(
            watcher.transfer.snapshot()["watchers"] > 1 for pair in self._fetches.values() for watcher in pair
        ):
            return stacks
        return await stack(self, *args)

    return Pull, "_stack", broken


def _forgotten_watcher() -> Patch:
    """
    A job that ends while one of its transfers waits for the next attempt does not
    release it.
    """
    release = Watcher.release

    def broken(self: Watcher[Any]) -> None:
        if self.transfer.state != "backing-off":
            release(self)

    return Watcher, "release", broken


def _unfair_queue() -> Patch:
    """
    A client that had its turn stays in front of the others.
    """

    def broken(self: FairQueue[Any], name: str) -> None:
        pass

    return FairQueue, "served", broken


PLANTED: Final[Mapping[str, Callable[[], Patch]]] = {
    "lost slot": _lost_slot,
    "double delivery": _double_delivery,
    "early name": _early_name,
    "forgotten watcher": _forgotten_watcher,
    "unfair queue": _unfair_queue,
}
"""What returns the method to replace, and the broken one, by the name of the bug."""


@frozen
class Found:
    """
    A bug that was found.

    @ivar schedules: after how many schedules.
    @ivar schedule: the schedule, shrunk.
    @ivar wrong: what is wrong then.
    """

    schedules: int
    schedule: Schedule
    wrong: list[str]


def find(bug: str, first: int = 0) -> Found | None:
    """
    Plant a bug, and look for it.

    @param bug: one of L{PLANTED}.
    @param first: the first seed.
    @return: L{None} if no schedule fails.
    """
    patcher = MonkeyPatcher(PLANTED[bug]())
    patcher.patch()
    try:
        for number in range(MOST):
            schedule = Schedule.of(first + number)
            if any(SENTENCES[bug] in sentence for sentence in Simulation(schedule).run()):
                return Found(number + 1, *shrink(schedule))
    finally:
        patcher.restore()
    return None
