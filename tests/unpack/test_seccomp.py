"""
Tests for L{xferd.unpack.seccomp}.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from struct import pack, unpack

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import died, in_child
from xferd.unpack import sandbox, seccomp
from xferd.unpack.seccomp import ALLOWED, FATAL, MACHINES, UNLESS_EXECUTABLE, Machine

ALLOW, KILL, UNKNOWN = 0x7FFF0000, 0x80000000, 0x00050000 | errno.ENOSYS

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
"""The kernel's own lists, where they are installed."""

OTHER_NAMES = {"newfstatat": "fstatat"}


def verdict(machine: Machine, number: int, architecture: int | None = None, third: int = 0) -> int:
    """
    The filter's return value for a call, by an interpreter of its
    instructions.
    """
    program = seccomp.assemble(machine)
    data = pack(
        "<IIQQQQ", number, machine.architecture if architecture is None else architecture, 0, 0, 0, third
    )
    loaded, at = 0, 0
    while True:
        code, true, false, value = unpack("<HBBI", program[8 * at : 8 * at + 8])
        at += 1
        if code == 0x20:
            (loaded,) = unpack("<I", data[value : value + 4])
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: loaded & value != 0}[code]
            at += true if holds else false


def sealed(attempt: Callable[[], object]) -> Callable[[], object]:
    """
    An action behind the filter.
    """

    def work() -> object:
        sandbox._call("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        seccomp.install()
        return attempt()

    return work


class ProgramTests(SynchronousTestCase):
    """
    Tests for L{seccomp.assemble}, on both machines.
    """

    def test_tables(self) -> None:
        """
        Calls that are listed as allowed are allowed, those listed as fatal
        kill, and all numbers between are unknown.
        """
        for machine in MACHINES.values():
            tables = {
                table: {row[machine.column] for row in rows.values()} - {None}
                for table, rows in (("allowed", ALLOWED), ("checked", UNLESS_EXECUTABLE), ("fatal", FATAL))
            }
            self.assertEqual(
                sum(map(len, tables.values())),
                len(set().union(*tables.values())),
                "a number is in two tables",
            )
            for number in range(600):
                expected = UNKNOWN
                if number in tables["fatal"]:
                    expected = KILL
                elif number in tables["allowed"] | tables["checked"]:
                    expected = ALLOW
                self.assertEqual(verdict(machine, number), expected, number)

    def test_executable_memory(self) -> None:
        """
        Memory can be mapped and its protection changed, but never to be executable.
        """
        for machine in MACHINES.values():
            for numbers in UNLESS_EXECUTABLE.values():
                number = numbers[machine.column]
                assert number is not None
                self.assertEqual(verdict(machine, number, third=3), ALLOW)
                self.assertEqual(verdict(machine, number, third=4), KILL)
                self.assertEqual(verdict(machine, number, third=7), KILL)

    def test_other_abis(self) -> None:
        """
        The same numbers by another instruction set's table, or by x32's,
        are other calls: they kill, allowed numbers too.
        """
        for machine in MACHINES.values():
            for number in (0, 1, 63, 257):
                for architecture in (0x40000003, 0x40000028, 0, 0xFFFFFFFF):
                    self.assertEqual(verdict(machine, number, architecture), KILL)
                self.assertEqual(verdict(machine, number | 0x40000000), KILL)
            self.assertEqual(verdict(machine, 0x3FFFFFFF), UNKNOWN)
            self.assertEqual(verdict(machine, 0xFFFFFFFF), KILL)

    def test_numbers(self) -> None:
        """
        The numbers are those of the kernel's headers.
        """
        for name, header in HEADERS.items():
            if not header.exists():
                self.skipTest(f"{header} is not installed")
            text = header.read_text()
            known = {m[1]: int(m[2]) for m in re.finditer(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\n", text)}
            for call, numbers in {**ALLOWED, **UNLESS_EXECUTABLE, **FATAL}.items():
                number = numbers[MACHINES[name].column]
                found = known.get(call, known.get(OTHER_NAMES.get(call, "")))
                if found is not None:
                    self.assertEqual(number, found, call)
                elif call not in ("fchmodat2",):
                    self.assertIsNone(number, f"{name} has no {call}")

    def test_too_many(self) -> None:
        """
        More calls than a jump can pass by are an error, not another program.
        """
        self.patch(seccomp, "ALLOWED", {str(number): (number, number) for number in range(200)})
        self.assertRaises(ValueError, seccomp.assemble, MACHINES["x86_64"])


class InstallTests(SynchronousTestCase):
    """
    Tests for L{seccomp.install}, in processes that do not come back.
    """

    def setUp(self) -> None:
        """
        On other machines there is no filter to install.
        """
        if seccomp._machine is None:
            self.skipTest("no filter for this machine")

    def test_fatal(self) -> None:
        """
        Foreign code in a layer's process can start no process or program, open
        no socket, and make no other forbidden call: each attempt ends the
        process.
        """
        libc = ctypes.CDLL(None)
        for attempt in (
            os.fork,
            lambda: os.execv("/bin/true", ["true"]),
            lambda: os.posix_spawn("/bin/true", ["true"], {}),
            lambda: threading.Thread(target=print).start(),
            lambda: os.kill(os.getppid(), 0),
            socket.socket,
            socket.socketpair,
            lambda: os.chroot("."),
            lambda: libc.unshare(0x10000000),
            lambda: libc.mount(None, b"/", None, 1 << 19, None),
            lambda: libc.ptrace(0, 0, 0, 0),
            lambda: libc.syscall(321, 0, 0, 0) if seccomp._machine is MACHINES["x86_64"] else os.abort(),
            lambda: os.setuid(0),
            lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
        ):
            self.assertEqual(died(sealed(attempt)), signal.SIGSYS)

    def test_unknown(self) -> None:
        """
        Any other call fails as on a kernel that does not have it.
        """

        def attempt() -> int | None:
            try:
                os.sched_setaffinity(0, [0])
            except OSError as e:
                return e.errno
            return None

        self.assertEqual(in_child(sealed(attempt)), errno.ENOSYS)

    def test_all_threads(self) -> None:
        """
        A thread that was there before is behind the filter, too.
        """
        go = threading.Event()

        def work() -> None:
            thread = threading.Thread(target=lambda: go.wait() and socket.socket())
            thread.start()
            sealed(go.set)()
            thread.join()

        self.assertEqual(died(work), signal.SIGSYS)

    def test_refused(self) -> None:
        """
        A kernel that refuses the filter, or a machine without one, is an
        L{OSError}.
        """

        def twice() -> None:
            sealed(lambda: None)()

        self.patch(seccomp, "_program", pack("<HBBI", 0xFF, 0, 0, 0))
        self.assertIn("Invalid argument", str(self.assertRaises(OSError, in_child, twice)))
        self.patch(seccomp, "_machine", None)
        self.assertIn("no system call filter for", str(self.assertRaises(OSError, seccomp.install)))

    def test_older_kernel(self) -> None:
        """
        A kernel that does not know one of the flags is called without it.
        """
        self.patch(seccomp, "_SPEC_ALLOW", 1 << 30)
        self.assertEqual(died(sealed(socket.socket)), signal.SIGSYS)
