"""
Tests for what holds in every module of the package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from inspect import getdoc, getmembers, isclass
from pathlib import Path
from pkgutil import walk_packages
from types import FunctionType, ModuleType

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementedBy
from zope.interface.interface import InterfaceClass

import xferd
from tests.imports import ROOT, imports

LONG = 500
"""Lines of a module that need no reason."""

METHODS = (FunctionType, classmethod, staticmethod, property, cached_property)
"""The members of a class that want a docstring."""


def modules() -> Iterator[ModuleType]:
    """
    Import every module of the package but its C{__main__} modules, which run.
    """
    for found in walk_packages(xferd.__path__, "xferd."):
        if not found.name.endswith(".__main__"):
            yield import_module(found.name)


def interfaces() -> list[InterfaceClass]:
    """
    Every zope Interface that the package defines.
    """
    return [
        member
        for module in modules()
        for _, member in getmembers(module, lambda member: isinstance(member, InterfaceClass))
        if member.__module__ == module.__name__
    ]


def undocumented(kind: type) -> list[str]:
    """
    The public methods and properties that a class defines and that neither the
    class (itself or as C{@ivar}), nor one of its bases, nor an Interface that it
    implements documents.
    """
    attributes = set(re.findall(r"@ivar (\w+):", kind.__doc__ or ""))
    promised = {name for interface in implementedBy(kind) for name in interface.names(all=True)}
    return [
        name
        for name, member in vars(kind).items()
        if not name.startswith("_")
        and isinstance(member, METHODS)
        and name not in promised | attributes
        and not any(getdoc(vars(base)[name]) for base in kind.__mro__ if name in vars(base))
    ]


def own_imports() -> dict[str, set[str]]:
    """
    The modules of the package that each of them imports, wherever in it.
    """
    paths = {".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path for path in imports()}
    names = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        found[name] = set()
        for node in imports()[path]:
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & names.keys()
            elif node.module is not None:
                members = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= members & names.keys() or {node.module} & names.keys()
    return found


class ImportTests(SynchronousTestCase):
    """
    The imports between the modules of the package.
    """

    def test_no_circle(self) -> None:
        """
        No modules import one another in a circle.
        """
        order = TopologicalSorter(own_imports())
        try:
            order.prepare()
        except CycleError as e:
            self.fail(" <- ".join(e.args[1]))


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

    def test_length(self) -> None:
        """
        A module of more than L{LONG} lines says in its docstring why it is long.
        """
        tree = ROOT.parent
        paths = [
            path for part in ("xferd", "tests", "benchmarks") for path in tree.joinpath(part).rglob("*.py")
        ]
        self.assertGreater(len(paths), 900)
        long = [path for path in paths if path.read_bytes().count(b"\n") > LONG]
        silent = [
            str(path.relative_to(tree))
            for path in long
            if not re.search(r"\b[Ll]ong(est)?\b", ast.get_docstring(ast.parse(path.read_bytes())) or "")
        ]
        self.assertEqual(silent, [], f"split these modules by idea, or state why they have over {LONG} lines")

    def test_methods_documented(self) -> None:
        """
        Every public method of a public class has a docstring: its own, a base
        class's, or the one of the Interface that promises it.
        """
        checked = 0
        for module in modules():
            for name, kind in getmembers(module, isclass):
                if kind.__module__ == module.__name__ and not name.startswith("_"):
                    self.assertEqual([], undocumented(kind), f"{module.__name__}.{name}")
                    checked += 1
        self.assertGreater(checked, 300)
