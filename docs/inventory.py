"""
Make inventories of Python and Twisted, so that pydoctor can check links in
docstrings without the network.

C{python docs/inventory.py DIRECTORY} writes C{python.inv} and C{twisted.inv}: the
contents of the installed modules of Python and Twisted that xferd imports, with
their locations at docs.python.org and docs.twisted.org.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import isclass, isroutine
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType
from zlib import compress

from zope.interface.interface import InterfaceClass

import xferd

HEADER = "# Sphinx inventory version 2\n# Project: {name}\n# Version: \n# The rest is compressed by zlib.\n"
"""The header that Sphinx and pydoctor expect."""


def load() -> None:
    """
    Import all of xferd, and so every module that its docstrings can name.
    """
    for module in walk_packages(xferd.__path__, "xferd."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def members(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """
    The members of a module: name, role, and the name of the class, or C{""}.
    """
    for name, value in vars(module).items():
        if isinstance(value, InterfaceClass):
            yield name, "class", ""
            for member in value.names(all=True):
                yield f"{name}.{member}", "method", name
        elif isclass(value):
            yield name, "class", ""
            for member in dir(value):
                yield f"{name}.{member}", "method", name
        elif isroutine(value):
            yield name, "function", ""
        elif name == name.upper():
            yield name, "data", ""


def python() -> Iterator[tuple[str, str, str]]:
    """
    Name, role and location of the members of Python.
    """
    for name, value in vars(builtins).items():
        if isclass(value) and issubclass(value, BaseException):
            page = "exceptions"
        else:
            page = "functions" if callable(value) else "constants"
        yield name, "data", f"library/{page}.html#{name}"
    for where, module in list(sys.modules.items()):
        if where.partition(".")[0] in sys.stdlib_module_names and module is not builtins:
            yield where, "module", f"library/{where}.html#module-{where}"
            for name, role, _ in members(module):
                yield f"{where}.{name}", role, f"library/{where}.html#{where}.{name}"


def twisted() -> Iterator[tuple[str, str, str]]:
    """
    Name, role and location of the members of Twisted, by pydoctor's scheme.
    """
    for where, module in list(sys.modules.items()):
        if where.partition(".")[0] == "twisted":
            yield where, "module", f"{where}.html"
            for name, role, owner in members(module):
                if role == "class":
                    place = f"{where}.{name}.html"
                else:
                    place = f"{where}{'.' * bool(owner)}{owner}.html#{name.rpartition('.')[2]}"
                yield f"{where}.{name}", role, place


def write(path: Path, entries: Callable[[], Iterator[tuple[str, str, str]]]) -> None:
    """
    Write an inventory.
    """
    lines = sorted({f"{name} py:{role} 1 {place} -\n" for name, role, place in entries()})
    header = HEADER.format(name=entries.__name__)
    path.write_bytes(header.encode() + compress("".join(lines).encode()))


if __name__ == "__main__":
    load()
    for entries in (python, twisted):
        write(Path(sys.argv[1]) / f"{entries.__name__}.inv", entries)
