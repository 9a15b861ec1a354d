"""
Tests for L{xferd.ctl.display.timing}.
"""

from __future__ import annotations

from unittest import TestCase

from tests.ctl.fake_daemon import TIMING
from xferd.ctl.display.timing import timing_facts, verdict


class TimingTests(TestCase):
    """
    The lines about the time of a job.
    """

    def test_facts(self) -> None:
        """
        Duration, phases, bytes and verdict; a phase of no length is left out.
        """
        self.assertEqual(
            timing_facts({"timing": TIMING}),
            [
                ("took", "4 min 2 s"),
                ("phases", "resolving 0.6 s, waiting 42 s, moving 3 min 9 s"),
                ("moved", "397 MB received, 88.0 MB saved, 2.1 MB/s on average"),
                ("bounded by", "moving 78 % of 4 min 2 s: the line; ghcr.io sent 2.1 MB/s\\x1b"),
            ],
        )

    def test_none(self) -> None:
        """
        Nothing is shown for a running job or for a job of an older daemon, and a short job has no
        verdict.
        """
        for job in ({}, {"timing": None}, {"timing": "fast"}):
            self.assertEqual((timing_facts(job), verdict(job)), ([], ""))
        short = {"timing": {**TIMING, "bound": None}}
        self.assertEqual((timing_facts(short)[-1], verdict(short)), (("bounded by", ""), ""))

    def test_odd(self) -> None:
        """
        Values that are not as the API defines them are not shown.
        """
        odd = {"seconds": "long", "phases": [1], "rate": None, "bound": "x"}
        self.assertEqual(
            timing_facts({"timing": odd}),
            [("took", "0.0 s"), ("phases", ""), ("moved", ""), ("bounded by", "")],
        )
