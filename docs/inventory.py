"""
Make inventories of what docstrings link to outside of xferd, so that pydoctor
can check these links, and does not need the network for it.

C{python docs/inventory.py DIRECTORY} writes C{python.inv} and C{twisted.inv}: what
is in those modules of Python and Twisted that xferd imports, as they are installed
here, with the place of each at docs.python.org and docs.twisted.org.
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
"""What Sphinx and pydoctor expect at the beginning."""


def load() -> None:
    """
    Import all of xferd, and so all that its docstrings can name.
    """
    for module in walk_packages(xferd.__path__, "xferd."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


def members(module: ModuleType) -> Iterator[tuple[str, str, str]]:
    """
    What a module has: name, role, and the name of the class that it belongs to, if any.
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
    Name, role and place of what Python has.
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
    Name, role and place of what Twisted has, by the way in which pydoctor places it.
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
