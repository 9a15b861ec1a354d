"""
Tests for L{xferd.real_progress}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.real_progress import REAL_PROGRESS, is_real_progress


class RealProgressTests(SynchronousTestCase):
    """
    Which bytes count.
    """

    def test_large(self) -> None:
        """
        Of a large blob, or one of unknown size, 64 KiB are enough.
        """
        for size in (10 * REAL_PROGRESS, None):
            self.assertFalse(is_real_progress(5, 5 + REAL_PROGRESS - 1, size))
            self.assertTrue(is_real_progress(5, 5 + REAL_PROGRESS, size))

    def test_end(self) -> None:
        """
        Fewer are enough if they complete the blob.
        """
        self.assertFalse(is_real_progress(90, 99, 100))
        self.assertTrue(is_real_progress(90, 100, 100))

    def test_none(self) -> None:
        """
        Without new bytes there is no progress, even if no byte is missing.
        """
        self.assertFalse(is_real_progress(100, 100, 100))
        self.assertFalse(is_real_progress(100, 90, 100))
        self.assertFalse(is_real_progress(0, 0, None))
