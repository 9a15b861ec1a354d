# -*- test-case-name: tests.ctl -*-
"""
Runs C{xferctl} inside the test, and as a process.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from threading import Thread
from typing import NamedTuple

import xferd
from xferd.ctl.main import main

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(xferd.__file__)))

_SCRIPT = """
import signal, sys
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from xferd.ctl.main import console
sys.exit(console())
"""

COMMAND = (sys.executable, "-c", _SCRIPT)
"""
The installed C{xferctl}, with the signals of a foreground shell: the tests may
run with some of them ignored.
"""


class Outcome(NamedTuple):
    """
    The result of a run.
    """

    status: int
    out: str
    err: str


def run(argv: Sequence[str], environ: Mapping[str, str] | None = None) -> Outcome:
    """
    Run a command in this process.
    """
    out, err = StringIO(), StringIO()
    status = main(argv, stdout=out, stderr=err, environ=environ or {})
    return Outcome(status, out.getvalue(), err.getvalue())


def environment(**more: str) -> dict[str, str]:
    """
    The environment for a process that imports this xferd.
    """
    # By default, the tests use no credentials of the user who runs them.
    own = {"DOCKER_CONFIG": os.devnull, "REGISTRY_AUTH_FILE": "", "XDG_RUNTIME_DIR": ""}
    return {**os.environ, "PYTHONPATH": ROOT, "COLUMNS": "", "LINES": "", **own, **more}


def run_on_terminal(
    argv: Sequence[str], url: str, at: bytes, act: Callable[[subprocess.Popen[bytes], int], None]
) -> tuple[int, str]:
    """
    Run a command as a process on a terminal of its own, and act once on its output.

    @param url: the daemon's address.
    @param at: the output to wait for.
    @param act: called with the process and the descriptor by which keys are pressed.
    @return: the exit status, and the output.
    """
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", *COMMAND, *argv],
        env=environment(XFERD_HOST=url, TERM="xterm", COLUMNS="80", LINES="24"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        acted = False
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                # The last process has closed its end.
                break
            shown += piece
            if not acted and at in shown:
                acted = True
                act(process, ours)
        status = process.wait(30)
    os.close(ours)
    return status, shown.decode()


class Terminal:
    """
    A terminal of the test's own, and its output.

    @ivar file: the terminal, for a program to write to.
    """

    def __init__(self) -> None:
        self._ours, theirs = pty.openpty()
        self.file = open(theirs, "w")  # noqa: SIM115 - closed on leaving
        self._shown = b""
        self._reader = Thread(target=self._read)

    def __enter__(self) -> Terminal:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._reader.join()
        os.close(self._ours)

    def _read(self) -> None:
        """
        Read until the terminal is closed.
        """
        while True:
            try:
                self._shown += os.read(self._ours, 65536)
            except OSError:
                return

    def shown(self) -> str:
        """
        The output until the terminal was closed.
        """
        return self._shown.decode()
