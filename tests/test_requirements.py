"""
What the package imports, and what C{setup.cfg} requires.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.imports import ROOT, imports

_DISTRIBUTIONS = {"OpenSSL": "pyopenssl", "google": "protobuf", "zope": "zope.interface"}
"""Top-level modules that are not named as their distribution is."""


def _imports(file: Path) -> Iterator[str]:
    """
    The modules that a file imports, wherever in it.
    """
    for node in imports()[file]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif node.module and not node.level:
            yield node.module


def _distributions(files: Iterable[Path]) -> set[str]:
    """
    The distributions that files import, in lower case.
    """
    found = {name.partition(".")[0] for file in files for name in _imports(file)}
    foreign = found - sys.stdlib_module_names - {"xferd"}
    return {_DISTRIBUTIONS.get(name, name).lower().replace("_", "-") for name in foreign}


def _required(setup: str, section: str = "options", key: str = "install_requires") -> set[str]:
    """
    The distributions in C{install_requires} or in an extra, in lower case.
    """
    config = ConfigParser()
    config.read_string(setup)
    lines = config[section][key].split("\n")
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
        used = _distributions(
            file for file in imports() if not self._is_extra(file) and file != ROOT / "tracing" / "spans.py"
        )
        self.assertEqual(used, _required((ROOT.parent / "setup.cfg").read_text("utf-8")))

    def test_traces(self) -> None:
        """
        Only one module imports OpenTelemetry, the extra C{traces}, which the tests have, too.
        """
        setup = (ROOT.parent / "setup.cfg").read_text("utf-8")
        users = [file.relative_to(ROOT) for file in imports() if "opentelemetry" in _distributions([file])]
        self.assertEqual(users, [Path("tracing/spans.py")])
        extra = _required(setup, "options.extras_require", "traces")
        self.assertEqual(extra, {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"})
        self.assertLessEqual(extra, _required(setup, "options.extras_require", "test"))

    def test_engines(self) -> None:
        """
        What the packages of engines import beyond that is the extra C{engines}, which
        the tests have, too.
        """
        setup = (ROOT.parent / "setup.cfg").read_text("utf-8")
        used = _distributions(filter(self._is_extra, imports()))
        extra = _required(setup, "options.extras_require", "engines")
        self.assertEqual(used - _required(setup), extra)
        self.assertLessEqual(extra, _required(setup, "options.extras_require", "test"))

    @staticmethod
    def _is_extra(file: Path) -> bool:
        """
        Whether a module is of a package that may import the extra C{engines}.
        """
        engines = ROOT / "engines"
        return file.is_relative_to(engines) and file.parent != engines

    def test_requests(self) -> None:
        """
        One module imports treq, and none outside the transport imports
        Twisted's HTTP client.
        """
        files = {file.relative_to(ROOT): set(_imports(file)) for file in imports()}
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
