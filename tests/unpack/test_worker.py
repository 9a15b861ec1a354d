"""
Tests for L{xferd.unpack.worker}.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
from typing import Any

from tests.forks import bounded
from tests.unpack.layer_case import LayerCase
from tests.unpack.tars import (
    listing,
)
from xferd.unpack import protocol, seccomp
from xferd.unpack.worker import Worker


class WorkerTests(LayerCase):
    """
    Tests for L{Worker}, with real processes.
    """

    def setUp(self) -> None:
        """
        Make a worker, and hold its other ends.
        """
        super().setUp()
        # As the worker does it: in a fork, no object of this process may be collected, and a descriptor
        # closed with it.
        gc.collect()
        gc.freeze()
        self.addCleanup(gc.unfreeze)
        commands, self.commands = os.pipe()
        self.reports, reports = os.pipe()
        self.worker = Worker(commands, reports)
        self.lines = protocol.Lines()
        self.heard: list[tuple[int, str, dict[str, Any]]] = []
        for descriptor in (commands, self.reports, reports):
            self.addCleanup(os.close, descriptor)
        self.addCleanup(self.hang_up)
        bound = bounded(lambda: [child.pid for child in list(self.worker._by_number.values())])
        bound.__enter__()
        self.addCleanup(bound.__exit__, None, None, None)

    def hang_up(self) -> None:
        """
        End the worker and its processes.
        """
        if self.commands >= 0:
            os.close(self.commands)
            self.commands = -1
        while self.worker.step():
            pass

    def say(self, number: int, line: bytes) -> None:
        """
        Send a command.
        """
        os.write(self.commands, protocol.address(number, line))

    def begin(self, number: int) -> None:
        """
        Begin a layer.
        """
        self.say(number, protocol.encode("begin", **self.task()))

    def until(self, number: int, verb: str) -> dict[str, Any]:
        """
        Run the worker until a layer has sent a message.
        """
        while True:
            for found, said, body in self.heard:
                if (found, said) == (number, verb):
                    self.heard.remove((found, said, body))
                    return body
            self.assertNotIn((number, "ended"), [(found, said) for found, said, _ in self.heard], self.heard)
            self.assertTrue(self.worker.step())
            self.listen()

    def listen(self) -> None:
        """
        Read the messages.
        """
        os.set_blocking(self.reports, False)
        try:
            for line in self.lines.feed(os.read(self.reports, 1 << 16)):
                number, rest = protocol.split(line)
                self.heard.append((number, *protocol.decode(rest)))
        except BlockingIOError:
            pass

    def test_layer(self) -> None:
        """
        A layer is unpacked in a process of its own, whose end is awaited.
        """
        self.begin(7)
        self.say(7, self.sealed())
        self.assertEqual(self.until(7, "result")["entries"], 3)
        self.assertEqual(self.until(7, "ended"), {"status": 0})
        self.assertEqual(sorted(listing(self.staged)), ["d", "d/f", "e", "e/g"])

    def test_sealed(self) -> None:
        """
        A layer's process is sealed before it reads a byte of its blob.
        """
        if seccomp._machine is None:
            self.skipTest("no filter for this machine")
        self.begin(1)
        self.say(1, self.grown(1, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/status") as status:
                self.assertIn("Seccomp:\t2\n", status.readlines())

    def test_two(self) -> None:
        """
        A process that waits does not delay another, and each has its own
        pipes.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        other = os.path.join(self.folder, "other")
        os.mkdir(other)
        self.say(2, protocol.encode("begin", **{**self.task(), "staged": other}))
        self.say(2, self.sealed())
        self.until(2, "ended")
        self.say(1, self.sealed())
        self.assertEqual(self.until(1, "result")["entries"], 3)
        self.until(1, "ended")

    def test_cancel(self) -> None:
        """
        The process of a cancelled layer has ended when its end is reported;
        commands to it that arrive later are ignored.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        self.say(1, protocol.encode("cancel"))
        self.assertEqual(self.until(1, "ended"), {"status": -signal.SIGKILL})
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)
        self.say(1, self.sealed())
        self.say(1, protocol.encode("cancel"))
        self.assertTrue(self.worker.step())

    def test_death(self) -> None:
        """
        A process that dies takes nothing with it, and the next one works; a
        word that it does not read any more is dropped.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        os.kill(pid, signal.SIGSEGV)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.say(1, self.sealed())
        self.assertEqual(self.until(1, "ended"), {"status": -signal.SIGSEGV})
        shutil.rmtree(self.staged)
        os.mkdir(self.staged)
        self.begin(2)
        self.say(2, self.sealed())
        self.until(2, "result")

    def test_endless_line(self) -> None:
        """
        A process that sends too long a line is killed.
        """
        self.patch(protocol, "MAX_LINE", 10)
        self.begin(1)
        self.assertTrue(self.worker.step())
        self.worker._by_number[1].lines = _Cut()
        self.say(1, self.grown(50, False))
        self.assertEqual(self.until(1, "ended"), {"status": -signal.SIGKILL})

    def test_hang_up(self) -> None:
        """
        When the reactor ends, all layers' processes end.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        pid = self.worker._by_number[1].pid
        self.hang_up()
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)

    def test_hang_up_both(self) -> None:
        """
        The same if it has stopped reading, too.
        """
        self.begin(1)
        self.say(1, self.grown(50, False))
        self.until(1, "hungry")
        reader, writer = os.pipe()
        os.close(reader)
        self.addCleanup(os.close, writer)
        self.patch(self.worker, "_reports", writer)
        pid = self.worker._by_number[1].pid
        self.hang_up()
        self.assertRaises(ProcessLookupError, os.kill, pid, 0)


class _Cut(protocol.Lines):
    """
    Lines that have lost their ends.
    """

    def feed(self, data: bytes) -> list[bytes]:
        """
        See L{protocol.Lines.feed}.
        """
        return super().feed(data.replace(b"\n", b""))
