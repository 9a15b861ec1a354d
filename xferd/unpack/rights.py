# -*- test-case-name: tests.unpack.test_rights -*-
"""
The rights of this process over the files that it unpacks.

Imports no Twisted: the unpacking worker uses it.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import Final

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP
IN_NAMESPACE: Final = sum(1 << bit for bit in (0, 1, 3, 4, 31))
"""The capabilities that unpacking needs in a user namespace."""

# SYS_ADMIN (for trusted.* xattrs) and MKNOD
AS_ROOT: Final = IN_NAMESPACE | 1 << 21 | 1 << 27
"""The capabilities that it needs outside of one."""

_SYS_CHROOT: Final = 1 << 18


class Rights(Enum):
    """
    What a process may do to files.
    """

    NONE = "none"
    """Its files belong to its user; xattrs have the owners of a layer."""
    NAMESPACE = "namespace"
    """
    It can set the owners that its user namespace has, as C{podman unshare} gives them; it
    can create no devices.  overlayfs reads C{user.overlay.*} in such a namespace.
    """
    ROOT = "root"
    """It can set any owner, create devices and set C{trusted.*} xattrs."""


def own_rights(processes: str = "/proc") -> Rights:
    """
    The rights of this process.  Root in a container often has less than L{Rights.ROOT}.

    @param processes: the mount point of C{proc}.
    """
    if os.geteuid() != 0:
        return Rights.NONE
    with open(f"{processes}/self/status", encoding="ascii", errors="replace") as status:
        effective = next((int(line[7:], 16) for line in status if line.startswith("CapEff:")), 0)
    users, groups = (_mapped(f"{processes}/self/{kind}_map") for kind in ("uid", "gid"))
    wanted = AS_ROOT | _SYS_CHROOT
    if users == [["0", "0", "4294967295"]]:
        return Rights.ROOT if effective & wanted == wanted else Rights.NONE
    # With one user alone, no owner of a layer but root could be set.
    several = all(sum(int(row[2]) for row in rows) > 1 for rows in (users, groups))
    return Rights.NAMESPACE if several and effective & IN_NAMESPACE == IN_NAMESPACE else Rights.NONE


def _mapped(path: str) -> list[list[str]]:
    """
    The rows of a map of IDs: inside, outside, number.
    """
    with open(path, encoding="ascii") as file:
        return [line.split() for line in file]
