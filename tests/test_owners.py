"""
Tests for L{xferd.owners}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.owners import MOST_OWNERS, Owners, OwnerSet

IDS = st.integers(0, 2**32 - 2)


class OwnersTests(SynchronousTestCase):
    """
    The owners of a layer's files.
    """

    def collect(self, *pairs: tuple[int, int]) -> Owners:
        """
        Collect owners.
        """
        found = OwnerSet()
        for user, group in pairs:
            found.add(user, group)
        return found.owners()

    def test_collected(self) -> None:
        """
        Each user and each group is listed once, in ascending order.
        """
        self.assertEqual(self.collect(), Owners())
        pairs = ((1000, 5), (0, 0), (0, 0), (33, 5), (0, 0))
        self.assertEqual(self.collect(*pairs), Owners((0, 33, 1000), (0, 5)))

    def test_many(self) -> None:
        """
        Of more than the limit, the largest ID of each kind is kept.
        """
        pairs = [(number, 7) for number in range(MOST_OWNERS)]
        self.assertEqual(len(self.collect(*pairs).users), MOST_OWNERS)
        self.assertEqual(self.collect((9_999_999, 3), *pairs), Owners((9_999_999,), (7,), False))
        self.assertEqual(self.collect(*pairs, (9_999_999, 8)), Owners((9_999_999,), (8,), False))
        twice = [(5, number) for number in range(2 * MOST_OWNERS)]
        self.assertEqual(self.collect(*twice), Owners((5,), (2 * MOST_OWNERS - 1,), False))

    @given(st.lists(st.tuples(IDS, IDS), max_size=9))
    def test_json(self, pairs: list[tuple[int, int]]) -> None:
        """
        They are read as they were written.
        """
        owners = self.collect(*pairs)
        self.assertEqual(Owners.from_json(owners.to_json()), owners)

    def test_damaged(self) -> None:
        """
        Other values are errors.
        """
        good = Owners((1,), (2,), False).to_json()
        damaged: list[object] = [None, [], {}, {**good, "users": ["x"]}, {**good, "groups": 3}]
        for value in damaged:
            self.assertRaises((KeyError, TypeError, ValueError), Owners.from_json, value)
