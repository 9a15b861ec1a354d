"""
Tests for L{xferd.durations}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.durations import duration


class DurationTests(SynchronousTestCase):
    """
    Lengths of time as text.
    """

    def test_units(self) -> None:
        """
        The two largest units are shown, and tenths of a few seconds.
        """
        shown = {
            0.0: "0.0 s",
            4.23: "4.2 s",
            9.94: "9.9 s",
            9.96: "10 s",
            59.4: "59 s",
            59.6: "1 min 0 s",
            242.0: "4 min 2 s",
            3599.7: "1 h 0 min",
            11040.0: "3 h 4 min",
        }
        self.assertEqual({seconds: duration(seconds) for seconds in shown}, shown)
