# -*- test-case-name: tests.engines.snapshotter.test_main -*-
"""
The command line of the snapshotter, and its files in the data directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import xferd
from xferd.engines.settings import MAX_SOCKET
from xferd.locks import is_held

_START: Final = (
    "import sys; root = sys.argv.pop(1); root in sys.path or sys.path.insert(0, root); "
    "from xferd.engines.snapshotter.main import console; sys.exit(console())"
)
"""Instead of C{-m}: in isolated mode, Python finds only installed packages."""


def command(option: str, data_dir: str) -> Sequence[str]:
    """
    The command line that runs this version of the snapshotter.

    @param option: C{--detach} or C{--stop}.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(xferd.__file__)))
    return [sys.executable, "-I", "-X", "utf8", "-c", _START, root, option, "--data-dir", data_dir]


def socket_of_daemon(data_dir: str) -> str:
    """
    The unix socket on which the daemon serves the snapshotter.  If its path is longer than
    that of a socket can be, it is one that only this process can use.

    @raise OSError: there is no directory for it.
    """
    path = os.path.join(data_dir, "engines", "daemon.sock")
    if len(os.fsencode(path)) <= MAX_SOCKET:
        return path
    # As long as the process lives.
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{directory}/{os.path.basename(path)}"


def lock_of_snapshotter(data_dir: str) -> str:
    """
    The file whose lock the snapshotter holds while it runs.
    """
    return os.path.join(data_dir, "engines", "snapshotter.lock")


def log_of_snapshotter(data_dir: str) -> str:
    """
    The log of a snapshotter that the daemon has started.
    """
    return os.path.join(data_dir, "engines", "snapshotter.log")


def settings_of_snapshotter(data_dir: str) -> str:
    """
    The file of what the snapshotter serves, for a time without the daemon.
    """
    return os.path.join(data_dir, "engines", "snapshotter.json")


def is_running(data_dir: str) -> bool:
    """
    Whether a process serves the engines of a data directory.  Blocking.

    @raise OSError: that cannot be found out.
    """
    return is_held(lock_of_snapshotter(data_dir))
