"""
Tests for L{xferd.lookups}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.lookups import ENOUGH, SMALL, STRIDE, Lookups


class LookupsTests(SynchronousTestCase):
    """
    L{Lookups}.
    """

    def setUp(self) -> None:
        """
        Look in vain, as often as it takes.
        """
        self.lookups = Lookups()
        for _ in range(ENOUGH):
            self.assertTrue(self.lookups.worthwhile(0))
            self.lookups.note(found=False)

    def test_few(self) -> None:
        """
        After many looks that found nothing, one of several small blobs is looked for.
        """
        looks = [self.lookups.worthwhile(SMALL) for _ in range(3 * STRIDE)]
        self.assertEqual(looks, [n % STRIDE == 0 for n in range(1, 3 * STRIDE + 1)])

    def test_large(self) -> None:
        """
        A blob that is not small is always looked for.
        """
        self.assertEqual({self.lookups.worthwhile(SMALL + 1) for _ in range(STRIDE)}, {True})

    def test_found(self) -> None:
        """
        A look that finds a blob brings back all others.
        """
        self.lookups.note(found=True)
        for _ in range(ENOUGH):
            self.assertTrue(self.lookups.worthwhile(0))
            self.lookups.note(found=False)
        self.assertFalse(self.lookups.worthwhile(0))
