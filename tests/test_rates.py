"""
Tests for L{xferd.rates}.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from twisted.trial.unittest import SynchronousTestCase

from xferd.rates import ELSE, MOST, MOST_SPANS, NO_LIMIT, Rate, local_minute, parse_rate


def minute(text: str) -> int:
    """
    The minute of the day of C{08:30}.
    """
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


class RateTests(SynchronousTestCase):
    """
    Rates as numbers and texts.
    """

    def test_rates(self) -> None:
        """
        A rate is a number of bytes, or a text with a unit.
        """
        for value, rate in (
            (0, 0),
            (MOST, MOST),
            ("0", 0),
            ("20MB/s", 20_000_000),
            ("20 MB/s", 20_000_000),
            ("2M", 2_000_000),
            ("2k", 2000),
            ("500kB/s", 500_000),
            ("1.5Gi", 1_610_612_736),
            ("1.5GiB/s", 1_610_612_736),
            ("3TB", 3 * 10**12),
            ("12B/s", 12),
        ):
            self.assertEqual(parse_rate(value), rate, value)
            self.assertEqual(Rate.of(value), Rate(rate))
        self.assertEqual((bool(NO_LIMIT), bool(Rate(1))), (False, True))

    def test_refused(self) -> None:
        """
        Everything else is refused, with an example of what is right.
        """
        texts = ("", "fast", "20Mb/s", "20Mbit/s", "-1", "1.5", "1e3", "5 M B", "9999999T", "5/m")
        for text in texts:
            error = str(self.assertRaises(ValueError, parse_rate, text))
            self.assertIn(f"such as 20MB/s, 500kB/s or 0, not {text!r}", error)
        wrong: tuple[object, ...] = (-1, MOST + 1, True, None, 1.5, [1])
        for value in wrong:
            error = str(self.assertRaises(ValueError, parse_rate, value))
            self.assertIn(f"must be a whole number from 0 to {MOST}, not {value!r}", error)


class TimetableTests(SynchronousTestCase):
    """
    Rates that depend on the time of day.
    """

    def test_spans(self) -> None:
        """
        A span has its own rate, from its first minute to the one before its end.
        """
        rate = Rate.of({"08:00-18:00": "20MB/s", "22:30-06:00": 5, ELSE: "1k"})
        for when, expected in (
            ("07:59", 1000),
            ("08:00", 20_000_000),
            ("17:59", 20_000_000),
            ("18:00", 1000),
            ("22:29", 1000),
            ("22:30", 5),
            ("00:00", 5),
            ("05:59", 5),
            ("06:00", 1000),
        ):
            self.assertEqual(rate.at(minute(when)), expected, when)
        self.assertEqual(rate.setting(), {"08:00-18:00": 20_000_000, "22:30-06:00": 5, ELSE: 1000})
        self.assertEqual(Rate.of(rate.setting()), rate)
        self.assertEqual(Rate.of(rate), rate)
        whole = Rate.of({"00:00-12:00": 1, "12:00-24:00": 2})
        self.assertEqual(
            [whole.at(minute(when)) for when in ("00:00", "11:59", "12:00", "23:59")], [1, 1, 2, 2]
        )
        self.assertEqual((Rate.of({"08:00-09:00": 0, ELSE: 7}).at(500), Rate.of({ELSE: 7}).setting()), (0, 7))

    def test_refused(self) -> None:
        """
        A wrong timetable is refused in one sentence, which names the time.
        """
        for table, expected in (
            ({"08:00-18:00": 1, "17:59-19:00": 2}, "has 08:00-18:00 and 17:59-19:00, which overlap"),
            ({"22:00-06:00": 1, "05:00-07:00": 2}, "has 22:00-06:00 and 05:00-07:00, which overlap"),
            ({"8-18": 1}, "has '8-18': write times of day as 08:00-18:00, or else"),
            ({"08:60-18:00": 1}, "has '08:60-18:00': write times of day"),
            ({"24:00-25:00": 1}, "has '24:00-25:00': a day is from 00:00 to 24:00"),
            ({"08:00-08:00": 1}, "has '08:00-08:00', which has no length: for a whole day write else"),
            ({"08:00-18:00": "fast"}, "has for 08:00-18:00 a rate that must be bytes per second"),
            ({ELSE: -1}, "has for else a rate that must be a whole number"),
            ({ELSE: {"08:00-18:00": 1}}, "has for else a rate that must be a whole number"),
            ({f"00:{n:02}-00:{n + 1:02}": 1 for n in range(MOST_SPANS + 1)}, "has more than 48 times of day"),
        ):
            error = str(self.assertRaises(ValueError, Rate.of, table))
            self.assertTrue(error.startswith(expected), error)
            self.assertNotIn("\n", error)

    def test_summer_time(self) -> None:
        """
        The time of day counts: what the clock leaves out has no rate, and what comes twice
        has its own twice.
        """
        zone = ZoneInfo("Europe/Berlin")
        rate = Rate.of({"02:00-03:00": 5})

        def minutes(day: datetime) -> int:
            found = 0
            for offset in range(0, 5 * 3600, 60):
                now = datetime.fromtimestamp(day.timestamp() + offset, zone)
                found += rate.at(now.hour * 60 + now.minute) == 5
            return found

        self.assertEqual(
            [minutes(datetime(2026, *day, tzinfo=zone)) for day in ((3, 28), (3, 29), (10, 25))], [60, 0, 120]
        )

    def test_local(self) -> None:
        """
        The minute is that of the local time zone.
        """
        now = datetime(2026, 5, 4, 13, 37, 59)
        self.assertEqual(local_minute(now.timestamp()), 13 * 60 + 37)
