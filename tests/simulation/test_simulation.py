"""
The simulation of the daemon, in some schedules; see L{tests.simulation.world}.

C{.ci/step tests} runs all schedules.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.found import FOUND
from tests.simulation.planted import PLANTED, SENTENCES, find
from tests.simulation.runner import SCHEDULES, run_all, run_one
from tests.simulation.schedules import KINDS, Schedule
from tests.simulation.world import Simulation

FIRST: Final[Mapping[str, int]] = {"lost slot": 88, "forgotten watcher": 20, "unfair queue": 10}
"""Where the search for some bugs begins, so that it is short."""


class SimulationTests(SynchronousTestCase):
    """
    The schedules of some seeds.
    """

    def test_schedules(self) -> None:
        """
        All goes well in the first schedules.
        """
        found = run_all(range(12))
        # An unhandled error is logged when it is collected.
        gc.collect()
        self.assertEqual(found, [])

    def test_found(self) -> None:
        """
        Schedules that have found bugs of xferd go well.
        """
        # As in run_all: what is in a circle lives until it is collected.
        gc.disable()
        self.addCleanup(gc.enable)
        for bug, schedule in FOUND.items():
            self.assertEqual(Simulation(schedule).run(), [], bug)

    def test_repeatable(self) -> None:
        """
        What happens in a schedule depends on its seed alone.
        """
        runs: list[list[str]] = [[], []]
        for lines in runs:
            self.assertEqual(run_one(7, lines.append), [])
        self.assertGreater(len(runs[0]), 5)
        self.assertEqual(*runs)

    def test_kinds(self) -> None:
        """
        The schedules have all kinds of steps, each often.
        """
        schedules = [Schedule.of(seed) for seed in range(SCHEDULES)]
        for kind in KINDS:
            self.assertGreater(sum(schedule.has(kind) for schedule in schedules), SCHEDULES // 10, kind)

    def test_only(self) -> None:
        """
        Some steps of a schedule make a smaller one, which names them.
        """
        schedule = Schedule.of(3)
        smaller = schedule.without(0, 2).without(1, 1)
        self.assertEqual(smaller.steps, (schedule.steps[2], *schedule.steps[4:]))
        self.assertEqual(schedule.only(smaller.kept), smaller)


class PlantedTests(SynchronousTestCase):
    """
    Bugs that are planted; C{python -m tests.simulation --planted} looks for them from the
    first seed on.
    """

    def check(self, bug: str) -> None:
        """
        A bug is found, and in the end the schedule has few steps.
        """
        found = find(bug, FIRST.get(bug, 0))
        gc.collect()
        self.flushLoggedErrors()
        assert found is not None
        self.assertIn(SENTENCES[bug], "\n".join(found.wrong))
        self.assertLessEqual(len(found.schedule.steps), 5)

    def test_planted(self) -> None:
        """
        Each is found.
        """
        for bug in PLANTED:
            with self.subTest(bug):
                self.check(bug)
