"""
The lives of daemons that are recorded: C{python -m tests.store.power_cut.life LIFE PATH}.

Each step that is done is written to stdout, which the recording has in its place among
the other system calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.store.test_crash import life, migrate, parts, pushes, tidy_life

LIVES: Final[Mapping[str, Callable[[str, Any], None]]] = {
    "life": life,
    "tidy_life": tidy_life,
    "parts": parts,
    "pushes": pushes,
    "migrate": migrate,
}
"""The lives, by name."""

if __name__ == "__main__":
    os.umask(0o022)
    LIVES[sys.argv[1]](sys.argv[2], lambda done: os.write(1, f"{done}\n".encode()))
