"""
Twenty nodes with faults, in some schedules; see L{tests.fleet.simulation}.

Each pull that is not cancelled ends well, no node keeps wrong bytes, upstream sends
hardly more than it has to, and nothing is left behind.  C{.ci/step tests} runs all
schedules.
"""

from __future__ import annotations

import gc

from twisted.trial.unittest import SynchronousTestCase

from tests.fleet.schedules import KINDS, Schedule
from tests.fleet.simulation import SCHEDULES, run_all


class SimulationTests(SynchronousTestCase):
    """
    The schedules of some seeds.
    """

    def test_schedules(self) -> None:
        """
        All goes well in the first schedules.
        """
        wrong = []
        for seeds in (range(6), range(6, 12)):
            wrong += run_all(seeds)
            # An unhandled error is logged when it is collected.
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
