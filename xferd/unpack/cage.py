# -*- test-case-name: tests.unpack.test_layer -*-
"""
A process gives away the rights that it does not need to make a tree.

As root, the tree becomes its root directory: even a mistake in
L{xferd.unpack.folders} then leads nowhere.  What a layer holds must never be
run (moby GHSA-x86f-5xw2-fm2r, CVE-2019-14271: a helper and a library out of the image),
so Python can import nothing from there on.  Of root's capabilities, those
that making files needs stay.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from struct import pack
from typing import Final

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522

# CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SYS_ADMIN (for trusted.* xattrs), MKNOD, SETFCAP
_NEEDED: Final = sum(1 << bit for bit in (0, 1, 3, 4, 21, 27, 31))
_SYS_CHROOT: Final = 1 << 18

_RECURSION = 10_000
"""Frames: enough to go down a path of the longest length, component by component."""

_libc = ctypes.CDLL(None, use_errno=True)


def is_privileged() -> bool:
    """
    Whether this process can give files any owner, make devices and set
    trusted xattrs.  Being root is not enough: in a container or a user
    namespace it often cannot.
    """
    if os.geteuid() != 0:
        return False
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        effective = next((int(line[7:], 16) for line in status if line.startswith("CapEff:")), 0)
    with open("/proc/self/uid_map", encoding="ascii") as ids:
        whole = [line.split() for line in ids] == [["0", "0", "4294967295"]]
    wanted = _NEEDED | _SYS_CHROOT
    return whole and effective & wanted == wanted


def end_with_parent(parent: int) -> None:
    """
    Let the kernel end this process when its parent is gone, however busy it is.

    @param parent: the parent's process ID.
    """
    _call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def enter(root: int, privileged: bool) -> None:
    """
    Make a directory this process's working directory and, where it can be
    done, its root; and give away rights.  There is no way back.

    @param root: the directory's descriptor.
    """
    os.umask(0)
    sys.setrecursionlimit(_RECURSION)
    os.fchdir(root)
    _call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if privileged:
        os.chroot(b".")
        _give_up_capabilities()
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()


def _give_up_capabilities() -> None:
    """
    Keep the capabilities that are needed, and no other.
    """
    header = pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = _NEEDED & 0xFFFFFFFF, _NEEDED >> 32
    _call("capset", header, pack("=6I", low, low, 0, high, high, 0))


def _call(name: str, *arguments: int | bytes) -> None:
    """
    Call a function of the C library that gives 0 or fails.
    """
    if getattr(_libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
