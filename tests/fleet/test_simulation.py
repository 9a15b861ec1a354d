"""
Twenty nodes with faults, in 500 schedules; see L{tests.fleet.simulation}.

Each pull that is not cancelled ends well, no node keeps wrong bytes, upstream sends
hardly more than it has to, and nothing is left behind.
"""

from __future__ import annotations

import gc
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.fleet.schedules import KINDS, Schedule
from tests.fleet.simulation import run

SCHEDULES: Final = 500
PARTS: Final = 10


class SimulationTests(SynchronousTestCase):
    """
    The schedules of the first L{SCHEDULES} seeds, in parts.
    """

    def setUp(self) -> None:
        """
        Collect garbage from time to time only: all of it is left by whole runs.
        """
        gc.disable()
        self.addCleanup(gc.enable)

    def run_part(self, part: int) -> None:
        """
        Run one part.
        """
        wrong: list[str] = []
        for seed in range(part, SCHEDULES, PARTS):
            wrong += run(seed)
            if seed // PARTS % 5 == 0:
                gc.collect()
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_repeatable(self) -> None:
        """
        A seed is one schedule, and the schedules have all kinds of faults.
        """
        self.assertEqual(Schedule.of(7), Schedule.of(7))
        schedules = [Schedule.of(seed) for seed in range(SCHEDULES)]
        for kind in KINDS:
            self.assertGreater(sum(schedule.has(kind) for schedule in schedules), SCHEDULES // 10)


def _add_parts() -> None:
    """
    Make each part a test: a part is short enough for any limit of a test's time.
    """
    for part in range(PARTS):

        def test(self: SimulationTests, part: int = part) -> None:
            self.run_part(part)

        test.__doc__ = f"Each {PARTS}th schedule, from {part} on."
        setattr(SimulationTests, f"test_part_{part}", test)


_add_parts()
