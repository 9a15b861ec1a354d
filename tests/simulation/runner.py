"""
Runs schedules, and shrinks those that fail.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.simulation.schedules import Schedule
from tests.simulation.world import Simulation

SCHEDULES: Final = 500
"""The number of schedules that C{.ci/step tests} runs."""


def run_one(seed: int, say: Callable[[str], object], only: Sequence[int] | None = None) -> list[str]:
    """
    Run the schedule of a seed.

    @param only: the numbers of the steps to run; L{None} for all.
    @return: what is wrong.
    """
    schedule = Schedule.of(seed)
    return Simulation(schedule if only is None else schedule.only(only), say).run()


def run_all(seeds: Iterable[int]) -> list[tuple[Schedule, list[str]]]:
    """
    Run the schedules of some seeds.

    @return: each schedule that fails, shrunk, and what is wrong then.
    """
    failed = []
    gc.disable()
    try:
        for seed in seeds:
            schedule = Schedule.of(seed)
            if Simulation(schedule).run():
                failed.append(shrink(schedule))
    finally:
        gc.enable()
    return failed


def shrink(schedule: Schedule) -> tuple[Schedule, list[str]]:
    """
    Drop steps of a schedule while it still fails.

    @return: the smallest schedule, and what is wrong in it.
    """
    wrong = Simulation(schedule).run()
    size = max(1, len(schedule.steps) // 2)
    while size:
        first = 0
        while first < len(schedule.steps):
            smaller = schedule.without(first, size)
            found = Simulation(smaller).run()
            if found:
                schedule, wrong = smaller, found
            else:
                first += size
        size //= 2
    return schedule, wrong


def report(schedule: Schedule, wrong: list[str]) -> None:
    """
    Print a schedule that fails.
    """
    only = ",".join(map(str, schedule.kept))
    print(f"seed {schedule.seed} fails: python -m tests.simulation --seed {schedule.seed} --only {only}")
    for step in schedule.steps:
        print(f"    {step}")
    for each in wrong:
        print(f"  {each}")
