"""
What the modules of the package import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import xferd

ROOT = Path(xferd.__file__).parent
"""The directory of the package."""

Import = ast.Import | ast.ImportFrom


@cache
def imports() -> Mapping[Path, tuple[Import, ...]]:
    """
    The imports of each module by its path, wherever in it: inside functions and under
    C{TYPE_CHECKING}, too.
    """
    return {
        path: tuple(node for node in _statements(ast.parse(path.read_bytes())) if isinstance(node, Import))
        for path in ROOT.rglob("*.py")
    }


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """
    All statements within another one or a module.
    """
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, block, ()):
            yield child
            yield from _statements(child)
