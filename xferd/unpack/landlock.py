# -*- test-case-name: tests.unpack.test_landlock -*-
"""
Landlock: a process keeps access only to the files below one directory.

This needs no privilege.  Landlock checks opening, creating, linking and
removing; open files stay open.  Its first version forbids hard links between
directories, so the second (Linux 5.19) is required.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import ctypes
import errno
import os
from struct import pack
from typing import Final

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1

LEAST: Final = 2
"""The oldest version that allows hard links between directories."""

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_FIFO = 1 << 6, 1 << 7, 1 << 8, 1 << 10
_MAKE_BLOCK, _MAKE_SYM, _REFER, _TRUNCATE = 1 << 11, 1 << 12, 1 << 13, 1 << 14

_BELOW: Final = (
    _WRITE_FILE
    | _READ_FILE
    | _READ_DIR
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_CHAR
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_FIFO
    | _MAKE_BLOCK
    | _MAKE_SYM
    | _REFER
    | _TRUNCATE
)
"""
The rights that writing a tree needs.  Not among them: executing programs,
creating sockets, and C{ioctl} on devices.
"""

# By version: the rights to files that the kernel knows; those to TCP ports; the scopes.
_KNOWN: Final = {2: (14, 0, 0), 3: (15, 0, 0), 4: (15, 2, 0), 5: (16, 2, 0), 6: (16, 2, 2)}

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """
    The kernel's version of Landlock.

    @raise OSError: the kernel lacks Landlock, or has it disabled.
    """
    return _call(_CREATE_RULESET, None, 0, _VERSION)


def restrict(root: int) -> None:
    """
    Limit this process to the files below a directory.

    @param root: the directory's descriptor.
    @raise OSError: the kernel lacks Landlock, or its version is too old.
    """
    found = version()
    if found < LEAST:
        raise OSError(errno.ENOSYS, f"Landlock's version is {found}, and {LEAST} is needed")
    files, ports, scopes = ((1 << bits) - 1 for bits in _KNOWN[min(found, max(_KNOWN))])
    rules = pack("=QQQ", files, ports, scopes)
    # Older kernels accept a longer structure whose further fields are 0.
    ruleset = _call(_CREATE_RULESET, rules, len(rules), 0)
    try:
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, pack("=Qi", _BELOW & files, root), 0)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _call(number: int, *arguments: int | bytes | None) -> int:
    """
    Make a system call.
    """
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *given))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
