# -*- test-case-name: tests.ctl.test_text -*-
"""
Tests for L{xferd.ctl.text}.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.ctl.text import (
    age,
    ago,
    amount,
    clean,
    clock,
    counted,
    cut,
    cut_front,
    cut_reference,
    json_line,
    lasting,
    portion,
    short,
    size,
    span,
)

NOW = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


class CleanTests(SynchronousTestCase):
    """
    Tests for L{clean} and L{json_line}.
    """

    def test_harmless(self) -> None:
        """
        Printable text of any script is unchanged.
        """
        self.assertEqual(clean("größe 画像 v1"), "größe 画像 v1")

    def test_harmful(self) -> None:
        """
        Escape sequences, line breaks, C1 controls, direction marks and lone surrogates are
        escaped.
        """
        self.assertEqual(clean("a\x1b[2J\r\n\x9b\u202e\ud800"), r"a\x1b[2J\r\n\x9b\u202e\ud800")

    def test_none(self) -> None:
        """
        L{None} is empty.
        """
        self.assertEqual(clean(None), "")

    @settings(max_examples=50)
    @given(st.text())
    def test_any(self, text: str) -> None:
        """
        The result can always be printed and encoded.
        """
        self.assertTrue(clean(text).isprintable())
        self.assertTrue(json_line({"key": text}).isprintable())
        clean(text).encode()


class NumberTests(SynchronousTestCase):
    """
    Tests for sizes and times.
    """

    def test_size(self) -> None:
        """
        Sizes have decimal units and at most three digits.
        """
        said = {
            0: "0 B",
            999: "999 B",
            1000: "1.0 kB",
            41_200_000: "41.2 MB",
            99_940_000: "99.9 MB",
            99_960_000: "100 MB",
            999_499_999: "999 MB",
            999_500_000: "1.0 GB",
            5 * 10**21: "5000 EB",
        }
        self.assertEqual({count: size(count) for count in said}, said)

    def test_portion(self) -> None:
        """
        A portion has its total if known.
        """
        self.assertEqual(portion(1500, 3000), "1.5 kB of 3.0 kB")
        self.assertEqual((portion(1500, None), portion(1500, 0)), ("1.5 kB", "1.5 kB"))

    def test_amount(self) -> None:
        """
        In a column, equal units are written once.
        """
        self.assertEqual(amount(1500, 3000), "1.5/3.0 kB")
        self.assertEqual(amount(999, 3000), "999 B/3.0 kB")
        self.assertEqual((amount(1500, None), amount(0, 0)), ("1.5 kB", "0 B"))

    def test_age(self) -> None:
        """
        An age is short.
        """
        ages = {59: "59s", 60: "1m", 3599: "59m", 3600: "1h", 86400: "1d", 40 * 86400: "40d", -5: "0s"}
        for seconds, text in ages.items():
            self.assertEqual(age((NOW - timedelta(seconds=seconds)).isoformat(), NOW), text)
        self.assertEqual(age("soon\x1b", NOW), r"soon\x1b")

    def test_span(self) -> None:
        """
        A duration is in its largest unit, rounded down.
        """
        said = {
            0: "0 seconds",
            1.9: "1 second",
            59: "59 seconds",
            60: "1 minute",
            7199: "1 hour",
            86400: "1 day",
            8 * 86400: "1 week",
            40 * 86400: "1 month",
            900 * 86400: "2 years",
            -5: "0 seconds",
        }
        self.assertEqual({seconds: span(seconds) for seconds in said}, said)

    def test_clock(self) -> None:
        """
        A short duration is in minutes and seconds.
        """
        self.assertEqual([clock(n) for n in (7.9, 750, 10921)], ["0:07", "12:30", "3:02:01"])

    def test_counted(self) -> None:
        """
        The first number of seconds is counted up or down, never below 1.
        """
        text = "trying again in 40 s: it asks to wait 40 s"
        self.assertEqual(counted(text, -1, 3.9), "trying again in 37 s: it asks to wait 40 s")
        self.assertEqual(counted(text, -1, 100), "trying again in 1 s: it asks to wait 40 s")
        self.assertEqual(counted("no bytes for 3 s, 2 MB/s", 1, 9.0), "no bytes for 12 s, 2 MB/s")
        self.assertEqual(counted(text, 0, 9.0), text)
        self.assertEqual(counted("waiting", 1, 9.0), "waiting")

    def test_ago(self) -> None:
        """
        Times in any form of RFC 3339 are relative to now.
        """
        moment = NOW - timedelta(hours=3)
        for text in (
            moment.isoformat(),
            "2026-01-02T09:00:00Z",
            "2026-01-02T09:00:00.5Z",
            "2026-01-02T09:00:00",
        ):
            self.assertIn(ago(text, NOW), ("3 hours ago", "2 hours ago"))

    def test_lasting(self) -> None:
        """
        A reason has the time at which its wait began once that has lasted three seconds, with
        the day if that was another one.
        """
        began = NOW - timedelta(seconds=3)
        local = began.astimezone()
        self.assertEqual(lasting("paused", began.isoformat(), NOW), f"paused (since {local:%H:%M:%S})")
        self.assertEqual(lasting("paused", began.isoformat(), NOW - timedelta(seconds=1)), "paused")
        self.assertEqual(
            lasting("paused", began.isoformat(), NOW + timedelta(days=1)),
            f"paused (since {local:%Y-%m-%d %H:%M:%S})",
        )
        self.assertEqual(lasting("", began.isoformat(), NOW), "")
        for since in (None, "", "soon"):
            self.assertEqual(lasting("paused", since, NOW), "paused")

    def test_no_time(self) -> None:
        """
        Text that is not a time is escaped.
        """
        self.assertEqual(ago("soon\x1b", NOW), r"soon\x1b")


class CutTests(SynchronousTestCase):
    """
    Tests for what makes text short.
    """

    def test_short(self) -> None:
        """
        A short digest has twelve digits; a missing one is empty.  A tag is whole, or shows that it
        is not.
        """
        self.assertEqual(short("2026.12.1-rc1"), "2026.12.1-rc1")
        self.assertEqual(short("t" * 128), "t" * 23 + "…")
        self.assertEqual(short("sha256:" + "ab" * 32), "abababababab")
        self.assertEqual(short(None), "")

    def test_cut(self) -> None:
        """
        A cut text ends or begins with an ellipsis.
        """
        self.assertEqual((cut("abcdef", 6), cut("abcdef", 4)), ("abcdef", "abc…"))
        self.assertEqual([cut_front("abcdef", n) for n in (6, 4, 1, 0)], ["abcdef", "…def", "…", ""])

    def test_reference(self) -> None:
        """
        The end of a name stays, and both names of a push or copy have a part; digests become
        short.
        """
        name = "docker.io/library/alpine:3.20"
        self.assertEqual(cut_reference(name, 29), name)
        self.assertEqual(cut_reference(name, 16), "…ary/alpine:3.20")
        pinned = "r.example/app@sha256:" + "ab" * 32
        self.assertEqual(cut_reference(pinned, 40), "r.example/app@sha256:abababababab")
        self.assertEqual(
            cut_reference(f"{name} -> r.example/mirror/alpine:3.20", 30), "…/alpine:3.20 -> …/alpine:3.20"
        )
        self.assertEqual(cut_reference(f"{name} -> r.example/a", 34), "…ibrary/alpine:3.20 -> r.example/a")

    @settings(max_examples=50)
    @given(st.integers(0, 60), st.text("ab/: ->"))
    def test_fits(self, width: int, text: str) -> None:
        """
        No cut text is too long.
        """
        for shortened in (cut(text, max(1, width)), cut_front(text, width), cut_reference(text, width)):
            self.assertLessEqual(len(shortened), max(1, width))
