"""
All entries below a container's root directory, as its processes see them: in its mount
namespace, with the users of its user namespace, and without what is mounted there besides.

It is a program of its own, as a process with threads cannot enter a user namespace.
"""

from __future__ import annotations

import ast
import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any, Final

from twisted.internet.interfaces import IReactorProcess

from tests.integration.peers import run
from tests.integration.programs import ROOT
from tests.integration.trees import listing

_USER_NAMESPACE: Final = 0x10000000
"""CLONE_NEWUSER of <linux/sched.h>."""


async def seen(reactor: IReactorProcess, process: str) -> dict[bytes, dict[str, Any]]:
    """
    The entries that a process of a container sees, by path; see L{listing}.
    """
    argv = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.integration.seen", process.strip()]
    found: dict[bytes, dict[str, Any]] = ast.literal_eval(await run(reactor, argv))
    return found


def _enter(process: str) -> None:
    """
    Become root of the user namespace of a process.
    """
    path = f"/proc/{process}/ns/user"
    if os.stat(path).st_ino == os.stat("/proc/self/ns/user").st_ino:
        return
    namespace = os.open(path, os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _USER_NAMESPACE):
        raise OSError(ctypes.get_errno(), path)
    os.setgid(0)
    os.setuid(0)


def _mounted(process: str) -> set[bytes]:
    """
    The mount points of a process below its root directory, relative to it.
    """
    points = (line.split()[4] for line in Path(f"/proc/{process}/mountinfo").read_bytes().splitlines())
    escaped = re.compile(rb"\\([0-7]{3})")
    return {escaped.sub(lambda found: bytes([int(found[1], 8)]), point)[1:] for point in points} - {b""}


if __name__ == "__main__":
    _enter(sys.argv[1])
    print(repr(listing(f"/proc/{sys.argv[1]}/root", without=_mounted(sys.argv[1]))))
