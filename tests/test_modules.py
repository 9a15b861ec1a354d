"""
Tests for how modules introduce themselves.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import xferd

ROOT = Path(xferd.__file__).parent


class ModuleTests(SynchronousTestCase):
    """
    Every module of the package.
    """

    def test_tests_named(self) -> None:
        """
        A module that names its tests names some that are there.
        """
        tests = Path(__file__).parent
        checked = 0
        for module in ROOT.rglob("*.py"):
            with module.open() as file:
                found = re.fullmatch(r"# -\*- test-case-name: (\S+) -\*-\n", file.readline())
            for name in found[1].split(",") if found else ():
                path = tests.joinpath(*name.split(".")[1:])
                self.assertTrue(path.with_suffix(".py").exists() or path.is_dir(), f"{module} names {name}")
                checked += 1
        self.assertGreater(checked, 80)
