"""
Engines that Debian does not have, or that are newer than Debian's: the programs are in the
directory in C{XFERD_ENGINES}.  CONTRIBUTING.rst says how to build them.
"""

from __future__ import annotations

import os
from typing import Final
from unittest import SkipTest

DIRECTORY: Final = os.environ.get("XFERD_ENGINES", "")
"""The directory of C{crio}, C{dockerd}, kaniko's C{executor}, C{kubelet}, C{nerdctl} and C{podman}, and of
C{containerd17}, which has containerd 1.7."""


def newer(name: str) -> str:
    """
    The path of a program.

    @raise SkipTest: it is not there.
    """
    path = os.path.join(DIRECTORY, name)
    if not DIRECTORY or not os.path.exists(path):
        raise SkipTest(f"XFERD_ENGINES names no directory with {name}")
    return path
