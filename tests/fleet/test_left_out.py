"""
Tests for L{xferd.fleet.left_out}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.left_out import (
    BUSY_SECONDS,
    FAILED_SECONDS,
    KNOWN_SECONDS,
    MOST_REASONS,
    WRONG_SECONDS,
    LeftOut,
)
from xferd.names import Digest

DIGEST = Digest.of(b"a blob")
OTHER = Digest.of(b"another")


class LeftOutTests(SynchronousTestCase):
    """
    Tests for L{LeftOut}.
    """

    def setUp(self) -> None:
        """
        Leave none out.
        """
        self.clock = Clock()
        self.out = LeftOut(self.clock.seconds)

    def test_failed(self) -> None:
        """
        A peer that failed is left out for one blob, for half a minute.
        """
        self.out.failed("a", DIGEST, "it broke")
        self.assertTrue(self.out.is_out("a", DIGEST))
        self.assertFalse(self.out.is_out("a", OTHER))
        self.assertFalse(self.out.is_out("b", DIGEST))
        self.clock.advance(FAILED_SECONDS)
        self.assertFalse(self.out.is_out("a", DIGEST))

    def test_busy(self) -> None:
        """
        A busy one is not left out, but not asked for a moment.
        """
        self.out.busy("a", DIGEST)
        self.assertFalse(self.out.is_out("a", DIGEST))
        self.assertTrue(self.out.is_busy("a", DIGEST))
        self.assertFalse(self.out.is_busy("a", OTHER))
        self.clock.advance(BUSY_SECONDS)
        self.assertFalse(self.out.is_busy("a", DIGEST))

    def test_wrong(self) -> None:
        """
        One that sent wrong bytes is left out for all blobs, for an hour, and named.
        """
        self.out.wrong("a")
        self.assertTrue(self.out.is_out("a", DIGEST))
        self.assertTrue(self.out.is_out("a", OTHER))
        self.assertEqual(self.out.distrusted(), ("a",))
        self.clock.advance(WRONG_SECONDS)
        self.assertFalse(self.out.is_out("a", DIGEST))
        self.assertEqual(self.out.distrusted(), ())

    def test_reasons(self) -> None:
        """
        The newest reason of each peer is known for some minutes, of so many peers at most.
        """
        self.out.failed("a", DIGEST, "it broke")
        self.out.failed("b", DIGEST, "it is slow")
        self.out.failed("a", OTHER, "it is gone")
        self.assertEqual(self.out.reasons(), {"b": "it is slow", "a": "it is gone"})
        self.clock.advance(KNOWN_SECONDS)
        self.assertEqual(self.out.reasons(), {})
        for number in range(MOST_REASONS + 5):
            self.out.failed(f"n{number}", DIGEST, "it broke")
        self.assertEqual(len(self.out.reasons()), MOST_REASONS)
