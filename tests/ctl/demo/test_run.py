# -*- test-case-name: tests.ctl.demo.test_run -*-
"""
Tests for L{xferd.ctl.demo.run}, with stand-ins for registry and daemon.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from io import StringIO
from threading import Timer
from typing import Any, TextIO

from twisted.trial.unittest import SynchronousTestCase

from tests.ctl.fake_daemon import DIGEST
from tests.ctl.run import Terminal
from xferd.ctl.client import Daemon
from xferd.ctl.demo import run as module
from xferd.ctl.demo.processes import Child
from xferd.ctl.demo.run import Parts, daemon_arguments, demo, registry_arguments
from xferd.ctl.errors import ClientError
from xferd.ctl.interrupts import Interrupts
from xferd.ctl.printer import Printer
from xferd.ctl.session import Session

IMAGE = {"reference": "127.0.0.1:1/demo:latest", "layers": 3, "bytes": 30_000_000}

REGISTRY = """
import sys
print({first!r}, flush=True)
for line in sys.stdin:
    print({then!r}, flush=True)
"""


class Recorded(Child):
    """
    A child that is recorded.
    """

    all: list[Recorded] = []  # noqa: RUF012 - emptied by setUp

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.all.append(self)


class DemoTests(SynchronousTestCase):
    """
    Tests for L{demo}.
    """

    def setUp(self) -> None:
        """
        Record the processes, and choose the place of temporary files.
        """
        self.scratch = os.path.abspath(self.mktemp())
        os.mkdir(self.scratch)
        self.patch(tempfile, "tempdir", self.scratch)
        self.patch(module, "Child", Recorded)
        self.patch(Recorded, "all", [])
        # Before what was patched is put back.
        self.addCleanup(self.check_clean)

    def check_clean(self) -> None:
        """
        Every process has ended, and no file is left.
        """
        self.assertEqual(os.listdir(self.scratch), [])
        self.assertGreater(len(Recorded.all), 0)
        self.assertTrue(all(child.ended for child in Recorded.all))

    def parts(self, kind: str = "good", sent: int = 30_000_000, image: object = IMAGE) -> Parts:
        """
        Stand-ins for registry and daemon.

        @param kind: the daemon's behaviour.
        @param sent: the bytes that the registry reports.
        """
        program = REGISTRY.format(first=json.dumps(image), then=json.dumps({"bytes": sent, "requests": 4}))

        def registry(directory: str) -> Sequence[str]:
            self.assertEqual(os.listdir(directory), [])
            return ("-c", program)

        def daemon(directory: str, port: int) -> Sequence[str]:
            self.assertEqual(os.listdir(directory), [])
            return ("-m", "tests.ctl.demo.stub_daemon", str(port), kind)

        return Parts(registry, daemon)

    def perform(self, parts: Parts, *, once: bool = True, stdout: TextIO | None = None) -> str:
        """
        Run the demo.

        @return: its output.
        """
        out = StringIO() if stdout is None else stdout
        printer = Printer(out, datetime.now(UTC))
        daemon = Daemon([], client="nobody")
        session = Session(daemon, printer, out, out, {**os.environ, "TERM": "xterm"}, Interrupts())
        demo(Namespace(once=once), session, parts)
        return out.getvalue() if isinstance(out, StringIO) else ""

    def interrupt_when(self, words: str) -> StringIO:
        """
        An output that interrupts the demo when it prints these words.
        """

        # A reactor that ran in an earlier test has left a handler of its own.
        self.addCleanup(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        signal.signal(signal.SIGINT, signal.default_int_handler)

        class Interrupting(StringIO):
            def write(self, text: str) -> int:
                if words in text:
                    # Not at once, but when the demo has gone on to wait.
                    Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
                return super().write(text)

        return Interrupting()

    def test_once(self) -> None:
        """
        Three clients pull, and the bytes transferred are those of the image.
        """
        text = self.perform(self.parts())
        self.assertRegex(text, r"(?m)^status page: http://127.0.0.1:\d+/$")
        self.assertIn("registry: 127.0.0.1:1/demo:latest, 3 layers, 30.0 MB\n", text)
        self.assertIn("3 clients, 30.0 MB each; 30.0 MB transferred in 4 requests for blobs\n", text)
        self.assertEqual(text.count(" downloading (shared by 3 clients)\n"), 1)
        for n in (1, 2, 3):
            self.assertIn(f"client {n}: 3 of 3 layers", text)
        self.assertIn(f"@{DIGEST}\n", text)

    def test_terminal(self) -> None:
        """
        A terminal shows a bar for each layer and each client.
        """
        with Terminal() as terminal:
            self.perform(self.parts(), stdout=terminal.file)
        shown = terminal.shown()
        for n in (1, 2, 3):
            self.assertIn(f"client {n}", shown)
        self.assertIn("3/3 layers", shown)

    def test_too_much(self) -> None:
        """
        One byte more than the image has is a failure.
        """
        error = self.assertRaises(ClientError, self.perform, self.parts(sent=30_000_001))
        self.assertEqual(str(error), "the image has 30000000 bytes, but 30000001 were transferred")

    def test_goes_on(self) -> None:
        """
        The demo runs until Ctrl-C, which is success.
        """
        out = self.interrupt_when("Ctrl-C ends")
        self.perform(self.parts(), once=False, stdout=out)
        self.assertTrue(out.getvalue().endswith("Ctrl-C ends the demo\ncleaning up ...\n"), out.getvalue())

    def test_interrupted(self) -> None:
        """
        Ctrl-C during the pulls ends the demo at once.
        """
        out = self.interrupt_when("client 3: 1 of 1")
        self.assertRaises(KeyboardInterrupt, self.perform, self.parts("hangs"), stdout=out)
        self.assertNotIn("crossed the wire", out.getvalue())

    def test_failed(self) -> None:
        """
        A client's error is reported.
        """
        error = self.assertRaises(ClientError, self.perform, self.parts("failed"))
        self.assertRegex(str(error), r"^client \d failed: no \(DENIED\)$")

    def test_refused(self) -> None:
        """
        The daemon's refusal is reported.
        """
        error = self.assertRaises(ClientError, self.perform, self.parts("absent"))
        self.assertRegex(str(error), r"^client \d failed: there is no such thing \(NOT_FOUND\)$")

    def test_no_registry(self) -> None:
        """
        The error of a registry that does not start is reported.
        """
        parts = self.parts()._replace(registry=lambda _: ("-c", "raise SystemExit('no \\x1bfiles')"))
        error = self.assertRaises(ClientError, self.perform, parts)
        self.assertEqual(str(error), r"the demo's registry failed: no \x1bfiles")

    def test_registry_gone(self) -> None:
        """
        The end of the registry is not mistaken for a closed stdout.
        """
        program = f"import sys; print({json.dumps(IMAGE)!r}, flush=True); sys.exit('out of luck')"
        parts = self.parts()._replace(registry=lambda _: ("-c", program))
        error = self.assertRaises(ClientError, self.perform, parts)
        self.assertEqual(str(error), "the demo's registry failed: out of luck")

    def test_no_daemon(self) -> None:
        """
        The error of a daemon that does not start is reported.
        """
        parts = self.parts()._replace(daemon=lambda *_: ("-c", "raise SystemExit('xferd: no')"))
        error = self.assertRaises(ClientError, self.perform, parts)
        self.assertEqual(str(error), "the demo's daemon did not start: xferd: no")

    def test_silent_daemon(self) -> None:
        """
        The wait for a daemon's answer is limited.
        """
        self.patch(module, "_START_TRIES", 2)
        parts = self.parts()._replace(daemon=lambda *_: ("-c", "import time; time.sleep(60)"))
        error = self.assertRaises(ClientError, self.perform, parts)
        self.assertIn("did not start", str(error))


class ArgumentTests(SynchronousTestCase):
    """
    The arguments of the real processes.
    """

    def test_daemon(self) -> None:
        """
        The daemon uses its directory alone, and listens on loopback.
        """
        arguments = daemon_arguments("/scratch/data", 4711)
        self.assertEqual(
            arguments[arguments.index("xferd") + 1 :],
            ("--data-dir", "/scratch/data", "--socket", "", "--listen", "tcp:4711:interface=127.0.0.1"),
        )

    def test_registry(self) -> None:
        """
        The registry stores its blobs in its directory.
        """
        self.assertEqual(
            registry_arguments("/scratch/r")[:3], ("-m", "xferd.ctl.demo.registry", "/scratch/r")
        )
