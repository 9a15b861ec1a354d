# -*- test-case-name: tests.ctl -*-
"""
Running C{xferctl}, inside the test and as a process of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import NamedTuple

import xferd
from xferd.ctl.main import main

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(xferd.__file__)))

COMMAND = (sys.executable, "-c", "import sys; from xferd.ctl.main import console; sys.exit(console())")
"""What the installed C{xferctl} does."""


class Outcome(NamedTuple):
    """
    How a run ended.
    """

    status: int
    out: str
    err: str


def run(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Outcome:
    """
    Run a command in this process.
    """
    out, err = StringIO(), StringIO()
    status = main(argv, stdout=out, stderr=err, environ=environ or {})
    return Outcome(status, out.getvalue(), err.getvalue())


def environment(**more: str) -> dict[str, str]:
    """
    The environment for a process that finds this xferd.
    """
    return {**os.environ, "PYTHONPATH": ROOT, "COLUMNS": "", "LINES": "", **more}
