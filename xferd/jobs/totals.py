# -*- test-case-name: tests.jobs.test_timing -*-
"""
The times of all jobs that have ended, for metrics.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from xferd.interfaces.job_json import TimingJSON
from xferd.transfer.histogram import Histogram


class Totals:
    """
    Sums since the start of the daemon, by kind of job.

    @ivar durations: the durations of jobs.
    @ivar phases: the durations of their phases.
    @ivar bounds: the jobs that each cause has bounded.
    @ivar saved: the bytes that did not have to move.
    """

    def __init__(self) -> None:
        self.durations: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.phases: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)
        self.bounds: Counter[tuple[str, str]] = Counter()
        self.saved: Counter[str] = Counter()

    def add(self, kind: str, timing: TimingJSON) -> None:
        """
        Add a job that has ended.
        """
        self.durations[kind].add(timing["seconds"])
        for phase, seconds in timing["phases"].items():
            self.phases[kind, phase].add(seconds)
        if timing["bound"] is not None:
            self.bounds[kind, timing["bound"]["by"]] += 1
        self.saved[kind] += timing["bytes_saved"]
