"""
What the package imports, and what C{setup.cfg} requires.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import xferd

_ROOT = Path(xferd.__file__).parent

_DISTRIBUTIONS = {"OpenSSL": "pyopenssl", "zope": "zope.interface"}
"""Top-level modules that are not named as their distribution is."""


def _imports(file: Path) -> Iterator[str]:
    """
    The modules that a file imports, wherever in it.
    """
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _required(setup: str) -> set[str]:
    """
    The distributions in C{install_requires}, in lower case.
    """
    config = ConfigParser()
    config.read_string(setup)
    lines = config["options"]["install_requires"].split("\n")
    return {
        re.split(r"[\s\[<>=!~;]", line.strip())[0].lower().replace("_", "-") for line in lines if line.strip()
    }


class RequirementTests(SynchronousTestCase):
    """
    C{install_requires} lists what the package imports.
    """

    def test_imports(self) -> None:
        """
        Each distribution that a module imports is required, and no other.
        """
        found = {name.partition(".")[0] for file in _ROOT.rglob("*.py") for name in _imports(file)}
        foreign = found - sys.stdlib_module_names - {"xferd"}
        used = {_DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in foreign}
        self.assertEqual(used, _required((_ROOT.parent / "setup.cfg").read_text("utf-8")))

    def test_requests(self) -> None:
        """
        One module imports treq, and none outside the transport imports
        Twisted's HTTP client.
        """
        files = {file.relative_to(_ROOT): set(_imports(file)) for file in _ROOT.rglob("*.py")}
        transport = Path("registry/transport")
        treq = [str(f) for f, found in files.items() if {n.partition(".")[0] for n in found} & {"treq"}]
        self.assertEqual(treq, [str(transport / "treq_client.py")])
        clients = {file.parent for file, found in files.items() if "twisted.web.client" in found}
        self.assertEqual(clients, {transport})

    def test_required(self) -> None:
        """
        Extras, versions and spelling of a requirement are no part of its name.
        """
        lines = (
            "[options]",
            "install_requires =",
            " twisted[tls] >= 1",
            " Service_Identity>=2",
            " zope.interface",
        )
        setup = "\n".join(lines)
        self.assertEqual(_required(setup), {"twisted", "service-identity", "zope.interface"})
