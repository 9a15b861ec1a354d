# -*- test-case-name: tests.test_paths -*-
"""
The default paths of a user's data directory and unix socket.

Daemon and client must agree on them, and C{xferctl} must start quickly, so this
imports the standard library only, and reads its arguments and the user database
only.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT_DATA_DIR = "/var/lib/xferd"
"""The data directory of a daemon that runs as root."""

ROOT_SOCKET = "/run/xferd/xferd.sock"
"""The unix socket of a daemon that runs as root."""


def user_of_paths(uid: int, root: str = "/", user_map: str = "/proc/self/uid_map") -> int:
    """
    The number of the user whose default paths a process has.

    It is that of the process, except for root of a user namespace on the machine's own files,
    as in C{podman unshare}: there it is the user's number outside.  Root of a container with
    files of its own is root.

    @param uid: the process's own number.
    @param root: the root directory.
    @param user_map: in the format of user_namespaces(7), C{/proc/pid/uid_map}.
    """
    if uid != 0 or os.stat(root).st_uid == 0:
        return uid
    try:
        with open(user_map, encoding="ascii") as file:
            inside, outside, _ = file.readline().split()
    except (OSError, ValueError):
        return uid
    return int(outside) if inside == "0" else uid


def default_data_dir(environ: Mapping[str, str], uid: int) -> str:
    """
    The data directory of a user: L{ROOT_DATA_DIR} for root, else C{xferd} in
    C{$XDG_DATA_HOME}, which is C{~/.local/share} unless it is set.

    @param environ: the environment; C{HOME} and C{XDG_DATA_HOME} are read.
    @param uid: the user's number, which decides whether this is root.
    @return: an absolute path, which may not exist yet.
    """
    if uid == 0:
        return ROOT_DATA_DIR
    base = _directory(environ, "XDG_DATA_HOME") or os.path.join(_home(environ, uid), ".local/share")
    return os.path.join(base, "xferd")


def default_socket(environ: Mapping[str, str], uid: int) -> str:
    """
    The unix socket of a user's daemon: L{ROOT_SOCKET} for root, else
    C{xferd/xferd.sock} in C{$XDG_RUNTIME_DIR}, and where that is not set,
    C{xferd.sock} in the data directory.

    @param environ: the environment; C{XDG_RUNTIME_DIR} is read, and what
        L{default_data_dir} reads.
    @param uid: the user's number.
    @return: an absolute path, which may not exist yet.
    """
    if uid == 0:
        return ROOT_SOCKET
    runtime = _directory(environ, "XDG_RUNTIME_DIR")
    if runtime is not None:
        return os.path.join(runtime, "xferd/xferd.sock")
    return os.path.join(default_data_dir(environ, uid), "xferd.sock")


def _directory(environ: Mapping[str, str], name: str) -> str | None:
    """
    The absolute path in a variable, or L{None}: the XDG Base Directory
    Specification has relative ones ignored.
    """
    value = environ.get(name, "")
    return value if os.path.isabs(value) else None


def _home(environ: Mapping[str, str], uid: int) -> str:
    """
    The user's home directory: C{$HOME}, else that of the user database, else
    C{/} for an unknown user.
    """
    home = _directory(environ, "HOME")
    if home is not None:
        return home
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
