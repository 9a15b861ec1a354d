"""
Tests for L{xferd.jobs.mirror.freshness}.
"""

from __future__ import annotations

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import (
    BadDocument,
    ConnectionFailed,
    Denied,
    ManifestUnknown,
    RegistryUnavailable,
    StoreError,
    TimedOut,
    TooManyRequests,
    XferdError,
)
from xferd.interfaces.mirror import TagPolicy
from xferd.jobs.mirror.freshness import Fallback, after, explanation, in_words, is_fresh, lifetime

DAY = 86400.0


class LifetimeTests(SynchronousTestCase):
    """
    The time for which a tag is used without a check.
    """

    def test_usual(self) -> None:
        """
        A tag that moves is used for a minute, and one that is a whole version for
        an hour.
        """
        policy = TagPolicy()
        for tag in ("latest", "3", "3.19", "v1", "1.25-alpine", "20260101"):
            self.assertEqual(lifetime(policy, tag), 60.0, tag)
        for tag in ("1.2.3", "v1.2.3", "1.25.3-alpine", "1.2.3.4", "1.0.0_rc1"):
            self.assertEqual(lifetime(policy, tag), 3600.0, tag)

    def test_patterns(self) -> None:
        """
        The first pattern that matches counts, also for versions.
        """
        policy = TagPolicy(10.0, (("v*", inf), ("v1*", 5.0), ("latest", 0.0)))
        for tag, seconds in (("v1.2.3", inf), ("v1", inf), ("latest", 0.0), ("main", 10.0)):
            self.assertEqual(lifetime(policy, tag), seconds, tag)

    def test_fresh(self) -> None:
        """
        A tag is fresh until its time is over.  With a clock that was set back,
        nothing is known.
        """
        policy = TagPolicy(60.0, (("v*", inf),))
        for age, fresh in ((0, True), (59.9, True), (60, False), (-1, False)):
            self.assertEqual(is_fresh(policy, "latest", age), fresh, age)
        self.assertTrue(is_fresh(policy, "v1", 1e9))
        self.assertTrue(is_fresh(policy, "v1", -5))


class AfterTests(SynchronousTestCase):
    """
    Tags that were not confirmed.
    """

    def test_no_answer(self) -> None:
        """
        While the upstream does not answer, a tag is served, but not for ever.
        """
        for error in (
            ConnectionFailed(""),
            TimedOut("", phase="headers"),
            TooManyRequests(""),
            RegistryUnavailable(""),
            BadDocument(""),
        ):
            self.assertEqual(after(error, TagPolicy(), 30 * DAY), Fallback.SERVE)
            self.assertEqual(after(error, TagPolicy(), 30 * DAY + 1), Fallback.REFUSE)

    def test_gone(self) -> None:
        """
        A tag that the upstream no longer has is kept or dropped.  A refusal drops
        nothing: the credentials may be wrong.
        """
        keep, drop = TagPolicy(), TagPolicy(keep_gone=False)
        self.assertEqual(after(ManifestUnknown(""), keep, 5), Fallback.SERVE)
        self.assertEqual(after(ManifestUnknown(""), drop, 5), Fallback.DROP)
        self.assertEqual(after(Denied(""), keep, 5), Fallback.SERVE)
        self.assertEqual(after(Denied(""), drop, 5), Fallback.REFUSE)

    def test_ours(self) -> None:
        """
        Errors of the store, and bugs, are not covered up.
        """
        for error in (StoreError(""), ValueError()):
            self.assertEqual(after(error, TagPolicy(), 5), Fallback.REFUSE)

    def test_explained(self) -> None:
        """
        The client reads why, and how old it is.
        """
        cases: tuple[tuple[XferdError, str], ...] = (
            (ManifestUnknown(""), "does not have it"),
            (TooManyRequests(""), "rate limit"),
            (ConnectionFailed(""), "does not answer"),
        )
        for error, part in cases:
            text = explanation(error, "a.b/c:1", 7300)
            self.assertIn("a.b/c:1 is as it was 2 hours ago", text)
            self.assertIn(part, text)
        self.assertEqual(
            [in_words(s) for s in (5, 60, 3600, 9 * DAY)],
            [
                "less than a minute",
                "1 minute",
                "1 hour",
                "9 days",
            ],
        )
