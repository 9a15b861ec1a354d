"""
Tests for L{tests.batches}.
"""

from __future__ import annotations

import os
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.batches import SIZE, BatchDied, in_batches


def _with_process(seeds: range) -> list[tuple[int, int]]:
    return [(seed, os.getpid()) for seed in seeds]


def _dies(seeds: range) -> list[int]:
    if SIZE in seeds:
        os._exit(3)
    return list(seeds)


def _raises(_: range) -> list[int]:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends
    raise KeyError


class BatchesTests(SynchronousTestCase):
    """
    Each batch has a process.
    """

    def test_results(self) -> None:
        """
        The results of all seeds are in their order, and no process has more than a batch.
        """
        results = list(in_batches(_with_process, range(5, 5 + 2 * SIZE + 1)))
        self.assertEqual([seed for seed, _ in results], list(range(5, 5 + 2 * SIZE + 1)))
        processes = [process for _, process in results]
        self.assertEqual(sorted(map(processes.count, set(processes))), [1, SIZE, SIZE])
        self.assertNotIn(os.getpid(), processes)

    def test_dies(self) -> None:
        """
        A process that ends without a result is reported, after the results before it.
        """
        results = in_batches(_dies, range(SIZE + 2))
        self.assertEqual([next(results) for _ in range(SIZE)], list(range(SIZE)))
        error = self.assertRaises(BatchDied, next, results)
        self.assertEqual(str(error), f"seeds {SIZE} to {SIZE + 1}: status 3")

    def test_raises(self) -> None:
        """
        So is one that raises.
        """
        error = self.assertRaises(BatchDied, next, in_batches(_raises, range(2)))
        self.assertEqual(str(error), "seeds 0 to 1: status 1")
