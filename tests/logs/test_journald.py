"""
Tests for L{xferd.logs.journald}, with a socket in place of the journal's.
"""

from __future__ import annotations

import mmap
import os
import shutil
import socket
from tempfile import mkdtemp

from twisted.logger import ILogObserver, Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.logs.journald import Journald, encode, is_stdout


def decode(entry: bytes) -> dict[str, list[str]]:
    """
    The fields of an entry, as the journal reads them.
    """
    fields: dict[str, list[str]] = {}
    while entry:
        line, _, rest = entry.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if not is_short:
            size = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + size], rest[9 + size :]
        fields.setdefault(name.decode(), []).append(value.decode())
        entry = rest
    return fields


class JournaldTests(SynchronousTestCase):
    """
    Entries of the journal.
    """

    def setUp(self) -> None:
        """
        Listen as the journal does.
        """
        place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, place)
        self.address = f"{place}/socket"
        self.journal = self.listen()
        self.observer = Journald(self.address)
        self.writer = Logger("xferd.test", observer=LogPublisher(self.observer))

    def listen(self) -> socket.socket:
        """
        Listen at the address.
        """
        journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(journal.close)
        journal.bind(self.address)
        journal.setblocking(False)
        return journal

    def entry(self) -> dict[str, list[str]]:
        """
        The next entry, as a datagram or as a file.
        """
        data, files, _, _ = socket.recv_fds(self.journal, 1 << 20, 1)
        if files:
            self.assertEqual(data, b"")
            size = os.fstat(files[0]).st_size
            with mmap.mmap(files[0], size, prot=mmap.PROT_READ, flags=mmap.MAP_PRIVATE) as content:
                data = content[:]
            self.assertRaises(PermissionError, os.pwrite, files[0], b"x", 0)
            os.close(files[0])
        return decode(data)

    def test_fields(self) -> None:
        """
        An entry has the text, the level, and the values of the event.
        """
        verifyObject(ILogObserver, self.observer)
        self.writer.warn("{kind} failed", kind="pull", code=None, size=3, jobs=["a", "b"], done=True)
        self.assertEqual(
            self.entry(),
            {
                "MESSAGE": ["pull failed"],
                "PRIORITY": ["4"],
                "SYSLOG_IDENTIFIER": ["xferd"],
                "XFERD_LOGGER": ["xferd.test"],
                "XFERD_KIND": ["pull"],
                "XFERD_SIZE": ["3"],
                "XFERD_JOBS": ["a", "b"],
                "XFERD_DONE": ["true"],
            },
        )

    def test_levels(self) -> None:
        """
        Each level has its priority.
        """
        for write, priority in (
            (self.writer.debug, "7"),
            (self.writer.info, "6"),
            (self.writer.warn, "4"),
            (self.writer.error, "3"),
            (self.writer.critical, "2"),
        ):
            write("x")
            self.assertEqual(self.entry()["PRIORITY"], [priority])

    def test_lines(self) -> None:
        """
        A value with a line break forges no field, and a traceback follows the text.
        """
        self.writer.info("x", error="one\nPRIORITY=0\ntwo")
        entry = self.entry()
        self.assertEqual((entry["XFERD_ERROR"], entry["PRIORITY"]), (["one\nPRIORITY=0\ntwo"], ["6"]))
        try:
            raise ZeroDivisionError("by zero")
        except ZeroDivisionError:
            self.writer.failure("it broke")
        (message,) = self.entry()["MESSAGE"]
        self.assertEqual(
            (message.splitlines()[0], message.splitlines()[-1]),
            ("it broke", "builtins.ZeroDivisionError: by zero"),
        )

    def test_names(self) -> None:
        """
        A value whose name can be no field is left out.
        """
        self.writer.info("x", **{"a-b": 1, "é": 2, "x" * 60: 3, "ok_1": 4})
        self.assertEqual([name for name in self.entry() if name.startswith("XFERD_O")], ["XFERD_OK_1"])
        self.writer.info("x", **{"a-b": 1})
        self.assertNotIn("XFERD_A-B", self.entry())

    def test_large(self) -> None:
        """
        An entry that is too large for a datagram is in a sealed file.
        """
        texts = {f"text{n}": "x" * 8000 for n in range(100)}
        self.writer.info("x", **texts)
        entry = self.entry()
        self.assertEqual([entry[f"XFERD_TEXT{n}"] for n in range(100)], [["x" * 8000]] * 100)

    def test_lost(self) -> None:
        """
        Without the journal, or while it takes nothing, entries are dropped; the next one
        reports how many.
        """
        self.journal.close()
        os.unlink(self.address)
        self.writer.info("one")
        self.writer.info("two")
        self.journal = self.listen()
        self.writer.info("three")
        self.writer.info("four")
        third, fourth = self.entry(), self.entry()
        self.assertEqual(third["MESSAGE"], ["three (2 lines before this one were lost)"])
        self.assertEqual(third["XFERD_LOST"], ["2"])
        self.assertEqual((fourth["MESSAGE"], fourth.get("XFERD_LOST")), (["four"], None))

    def test_full(self) -> None:
        """
        A journal that reads nothing does not block the daemon.
        """
        for n in range(5000):
            self.writer.info("{n}", n=n, text="x" * 1000)
        count = 0
        while self.observer._lost and count < 5000:
            self.entry()
            count += 1
            if count == 10:
                self.writer.info("last")
        self.assertEqual(self.observer._lost, 0)

    def test_stream(self) -> None:
        """
        Stdout is the journal's where the variable names its file.
        """
        status = os.fstat(1)
        stream = f"{status.st_dev}:{status.st_ino}"
        self.assertTrue(is_stdout({"JOURNAL_STREAM": stream}))
        for other in ({}, {"JOURNAL_STREAM": "1:2"}, {"JOURNAL_STREAM": ""}):
            self.assertFalse(is_stdout(other))

    def test_surrogates(self) -> None:
        """
        Text that is not Unicode is escaped.
        """
        self.assertEqual(encode({"A": "\udcff"}), b"A=\\udcff\n")
