"""
Tests for L{xferd.expiring}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.expiring import ExpiringDict


class ExpiringDictTests(SynchronousTestCase):
    """
    L{ExpiringDict} drops unused entries.
    """

    def setUp(self) -> None:
        """
        Make one that keeps three entries for ten seconds.
        """
        self.clock = Clock()
        self.table: ExpiringDict[str, int] = ExpiringDict(self.clock.seconds, keep=10, most=3)

    def keys(self) -> list[str]:
        """
        The keys, the least recently used one first.
        """
        return [key for key, _ in self.table.items()]

    def test_dict(self) -> None:
        """
        Until an entry expires, it is a table like others.
        """
        self.table["a"] = 1
        self.assertEqual((self.table.get("a"), self.table.get("b")), (1, None))
        self.assertTrue("a" in self.table)
        self.assertEqual(self.table.get_or_make("a", lambda: 2), 1)
        self.assertEqual(self.table.get_or_make("b", lambda: 2), 2)
        self.table["a"] = 3
        self.assertEqual(list(self.table.items()), [("b", 2), ("a", 3)])
        self.assertEqual((self.table.pop("a"), self.table.pop("a")), (3, None))
        self.assertEqual(len(self.table), 1)

    def test_expired(self) -> None:
        """
        An entry is dropped after its time without use, at the next use of the table.
        """
        self.table["a"] = self.table["b"] = 1
        self.clock.advance(6)
        self.table.get("a")
        self.clock.advance(6)
        self.table.get("c")
        self.assertEqual(self.keys(), ["a"])
        self.clock.advance(10)
        self.assertIsNone(self.table.get("a"))
        self.assertEqual(len(self.table), 0)

    def test_most(self) -> None:
        """
        Beyond the largest number of entries, the least recently used one is dropped.
        """
        for key in "abc":
            self.table[key] = 1
        self.table.get("a")
        self.table["d"] = 1
        self.assertEqual(self.keys(), ["c", "a", "d"])
