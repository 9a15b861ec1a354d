"""
Tests for L{xferd.descriptors}.
"""

from __future__ import annotations

import resource
import subprocess

from twisted.trial.unittest import SynchronousTestCase

from xferd.descriptors import MOST, limited, own_limit, raise_limit


class RaiseTests(SynchronousTestCase):
    """
    L{raise_limit}.
    """

    def raised(self, soft: int, hard: int) -> tuple[int, int]:
        """
        The limits after L{raise_limit}.
        """
        limits = (soft, hard)

        def change(what: int, to: tuple[int, int]) -> None:
            nonlocal limits
            self.assertEqual(what, resource.RLIMIT_NOFILE)
            limits = to

        self.patch(resource, "getrlimit", lambda _: limits)
        self.patch(resource, "setrlimit", change)
        raise_limit()
        self.assertEqual(own_limit(), limits[0])
        return limits

    def test_raised(self) -> None:
        """
        The soft limit is raised to the hard one, at most to 65,536, and never lowered.
        """
        endless = resource.RLIM_INFINITY
        self.assertEqual(self.raised(1024, 4096), (4096, 4096))
        self.assertEqual(self.raised(1024, 524_288), (MOST, 524_288))
        self.assertEqual(self.raised(1024, endless), (MOST, endless))
        self.assertEqual(self.raised(100_000, 524_288), (100_000, 524_288))
        self.assertEqual(self.raised(endless, endless), (endless, endless))


class LimitedTests(SynchronousTestCase):
    """
    L{limited}.
    """

    def run_limited(self, soft: int, *argv: str) -> str:
        """
        The output of a program with a limit.
        """
        return subprocess.run(limited(soft, argv), capture_output=True, check=True, text=True).stdout

    def test_limit(self) -> None:
        """
        The program has the soft limit, and the hard limit of this process.
        """
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        printed = self.run_limited(77, "/bin/sh", "-c", "ulimit -S -n; ulimit -H -n")
        self.assertEqual(
            printed.split(), ["77", "unlimited" if hard == resource.RLIM_INFINITY else str(hard)]
        )

    def test_arguments(self) -> None:
        """
        Arguments are passed unchanged.
        """
        self.assertEqual(self.run_limited(77, "/usr/bin/printf", "%s|", "a b", "$0", "", "-n"), "a b|$0||-n|")
