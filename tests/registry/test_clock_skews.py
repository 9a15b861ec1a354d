"""
Tests for L{xferd.registry.clock_skews}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from xferd.registry.clock_skews import MAX_HOSTS, ClockSkews

NOON = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def headers(date: str) -> Headers:
    """
    The headers of an answer.
    """
    return Headers({"Date": [date]})


class ClockSkewsTests(SynchronousTestCase):
    """
    L{ClockSkews}.
    """

    def test_note(self) -> None:
        """
        The last answer of a host counts, and one without a date does not.
        """
        skews = ClockSkews(lambda: NOON)
        skews.note("a", headers("Thu, 01 Jan 2026 00:02:00 GMT"))
        skews.note("b", headers("Wed, 31 Dec 2025 23:59:00 GMT"))
        skews.note("a", headers("Thu, 01 Jan 2026 00:01:00 GMT"))
        skews.note("b", headers("yesterday"))
        skews.note("c", Headers())
        self.assertEqual(skews.known(), {"a": 60.0, "b": -60.0})

    def test_bound(self) -> None:
        """
        Of many hosts those are remembered that answered last.
        """
        skews = ClockSkews(lambda: NOON)
        for number in range(MAX_HOSTS + 1):
            skews.note(str(number), headers("Thu, 01 Jan 2026 00:00:00 GMT"))
            skews.note("1", headers("Thu, 01 Jan 2026 00:00:00 GMT"))
        self.assertEqual(len(skews.known()), MAX_HOSTS)
        self.assertNotIn("0", skews.known())
        self.assertIn("1", skews.known())
