# -*- test-case-name: tests.unpack.test_seccomp -*-
"""
The system calls of a layer's process, as a BPF program for C{seccomp(2)}.

A layer's process reads a pipe and a file, creates files below one directory and
computes in threads that have already started.  The calls that it needs are
allowed.  Calls that only an attacker would make kill the process.  All other
numbers, also those of future kernels, return C{ENOSYS}, after which the C
library uses an older call.

Memory can no longer become executable, and neither C{fork} nor C{exec} is
allowed: install the filter after all threads have started.

Imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Mapping
from struct import pack
from typing import Final

from attrs import frozen

_SET_MODE_FILTER: Final = 1
_TSYNC: Final = 1
_SPEC_ALLOW: Final = 4
"""Without this flag, older kernels slow down each process that has a filter."""

_KILL: Final = 0x80000000
_ERRNO: Final = 0x00050000
_ALLOW: Final = 0x7FFF0000

# Offsets in struct seccomp_data; both machines are little-endian.
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32

_LOAD, _EQUAL, _AT_LEAST, _SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06

_X32: Final = 0x40000000
"""Greater numbers belong to the x32 ABI."""

_PROT_EXEC: Final = 4

_MOST_JUMPED: Final = 255

# Name: (number on x86-64, number on arm64).  The most frequent first: before Linux 5.11 the
# kernel compares each call with this list in order.
ALLOWED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "openat": (257, 56),
    "write": (1, 64),
    "close": (3, 57),
    "newfstatat": (262, 79),
    "futex": (202, 98),
    "utimensat": (280, 88),
    "fchown": (93, 55),
    "fchmod": (91, 52),
    "read": (0, 63),
    "mkdirat": (258, 34),
    "fstat": (5, 80),
    "fsetxattr": (190, 7),
    "symlinkat": (266, 36),
    "fchownat": (260, 54),
    "linkat": (265, 37),
    "unlinkat": (263, 35),
    "readlinkat": (267, 78),
    "mknodat": (259, 33),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "getxattr": (191, 8),
    "lgetxattr": (192, 9),
    "fgetxattr": (193, 10),
    "statx": (332, 291),
    "ftruncate": (77, 46),
    "sync_file_range": (277, 84),
    "lseek": (8, 62),
    "getdents64": (217, 61),
    "fcntl": (72, 25),
    "dup": (32, 23),
    "dup3": (292, 24),
    "fchdir": (81, 50),
    "umask": (95, 166),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""The calls that unpacking makes."""

UNLESS_EXECUTABLE: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "mmap": (9, 222),
    "mprotect": (10, 226),
}
"""The calls that kill the process where their third argument has C{PROT_EXEC}."""

FATAL: Final[Mapping[str, tuple[int | None, int | None]]] = {
    # programs and processes
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "kill": (62, 129),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "personality": (135, 92),
    # the network, and other processes' memory and messages
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # namespaces, mounts, and files by other ways than by their paths
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "pivot_root": (155, 41),
    "mount": (165, 40),
    "umount2": (166, 39),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "quotactl": (179, 60),
    # the kernel and the machine
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    # other rights
    "seccomp": (317, 277),
    "capset": (126, 91),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
}
"""The calls that kill the process."""


@frozen
class Machine:
    """
    An instruction set.

    @ivar architecture: its C{AUDIT_ARCH}.
    @ivar column: its column in the tables above.
    @ivar call: the number of C{seccomp}.
    """

    architecture: int
    column: int
    call: int


MACHINES: Final[Mapping[str, Machine]] = {
    "x86_64": Machine(0xC000003E, 0, 317),
    "aarch64": Machine(0xC00000B7, 1, 277),
}
"""The instruction sets for which there is a filter, by what C{uname -m} calls them."""


def assemble(machine: Machine) -> bytes:
    """
    The filter as an array of C{struct sock_filter}.
    """
    allowed = _numbers(ALLOWED, machine)
    checked = _numbers(UNLESS_EXECUTABLE, machine)
    fatal = _numbers(FATAL, machine)
    head = [_statement(_LOAD, _ARCHITECTURE), _jump(_EQUAL, machine.architecture, 1, 0)]
    head += [_statement(_RETURN, _KILL), _statement(_LOAD, _NUMBER)]
    # One test for each number, followed by the return for all other numbers, the check of the
    # third argument, and the two returns that the tests jump to.
    tests = len(allowed) + 1 + len(checked) + len(fatal)
    rest = 1
    check = 2
    allow, kill = tests + rest + check + 1, tests + rest + check + 2
    if kill > _MOST_JUMPED:
        raise ValueError(f"{tests} system calls are more than one jump can skip")
    program = [_jump(_EQUAL, number, allow - at - 2, 0) for at, number in enumerate(allowed)]
    program.append(_jump(_AT_LEAST, _X32, kill - len(program) - 2, 0))
    for number in checked:
        program.append(_jump(_EQUAL, number, tests + rest - len(program) - 1, 0))
    for number in fatal:
        program.append(_jump(_EQUAL, number, kill - len(program) - 2, 0))
    program.append(_statement(_RETURN, _ERRNO | errno.ENOSYS))
    program += [_statement(_LOAD, _THIRD_ARGUMENT), _jump(_SET, _PROT_EXEC, 1, 0)]
    program += [_statement(_RETURN, _ALLOW), _statement(_RETURN, _KILL)]
    return b"".join(head + program)


def _numbers(table: Mapping[str, tuple[int | None, int | None]], machine: Machine) -> list[int]:
    return [number for row in table.values() if (number := row[machine.column]) is not None]


def _statement(code: int, value: int) -> bytes:
    return pack("=HBBI", code, 0, 0, value)


def _jump(code: int, value: int, true: int, false: int) -> bytes:
    """
    A conditional jump.

    @param true: instructions to skip if the condition holds.
    @param false: instructions to skip if not.
    """
    return pack("=HBBI", code, true, false, value)


def _present() -> Machine | None:
    """
    The instruction set of this process, or L{None} without a filter for it.
    """
    return MACHINES.get(platform.machine()) if sys.maxsize > 1 << 32 and sys.byteorder == "little" else None


_machine: Final = _present()
_program: Final = assemble(_machine) if _machine is not None else b""
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """
    C{struct sock_fprog}.
    """

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install() -> None:
    """
    Install the filter for all threads of this process, irrevocably.

    @raise OSError: the kernel does not support filters, or there is none for
        this machine.
    """
    if _machine is None:
        raise OSError(errno.ENOSYS, f"no system call filter for {platform.machine()}")
    code = _install(_TSYNC | _SPEC_ALLOW, _machine.call)
    if code == errno.EINVAL:
        code = _install(_TSYNC, _machine.call)
    if code:
        raise OSError(code, os.strerror(code))


def _install(flags: int, call: int) -> int:
    """
    @param call: the number of C{seccomp}.
    @return: an error number, or 0.
    """
    program = _Program(len(_program) // 8, _program)
    done = _libc.syscall(call, _SET_MODE_FILTER, flags, ctypes.byref(program))
    if done < 0:
        return ctypes.get_errno()
    return errno.EBUSY if done else 0  # the ID of a thread that has a filter of its own
