# -*- test-case-name: tests.ctl.demo.test_processes -*-
"""
Processes and a directory for the demo, of which nothing stays behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_PATIENCE = 15.0
"""Seconds that a process gets to end by itself: the daemon's own grace, and some."""

_TAIL = 2000


class Child:
    """
    A process of Python's, in a group of its own: Ctrl-C reaches only us, and
    we end it.

    @ivar process: the process; its input is a pipe that ends when we do.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        directory: str,
        name: str,
        environ: Mapping[str, str],
        *,
        talks: bool = False,
    ) -> None:
        """
        Start it.

        @param arguments: what to give to the interpreter.
        @param directory: where to run it, and to keep its log.
        @param name: what to call the log.
        @param environ: the environment; it finds the modules that we find.
        @param talks: whether its output is for L{hear}, not for the log.
        """
        self._log = os.path.join(directory, f"{name}.log")
        # The empty entry of C{python -c} is the current directory: ours, not the child's.
        path = os.pathsep.join(map(os.path.abspath, sys.path))
        with open(self._log, "wb") as log:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, *arguments],
                cwd=directory,
                env={**environ, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else log,
                stderr=log,
                start_new_session=True,
            )
        assert self.process.stdin is not None
        self._input: IO[bytes] = self.process.stdin

    def say(self, line: bytes) -> None:
        """
        Give it a line.

        @raise OSError: it has gone.
        """
        self._input.write(line + b"\n")
        self._input.flush()

    def hear(self) -> bytes:
        """
        Wait for a line of it; an empty one if it has gone.
        """
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @property
    def gone(self) -> bool:
        """
        Whether it has ended.
        """
        return self.process.poll() is not None

    def last_words(self) -> str:
        """
        The last of what it wrote into its log that is not empty.
        """
        with open(self._log, "rb") as log:
            log.seek(max(0, os.path.getsize(self._log) - _TAIL))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it did not say why")

    def stop(self) -> None:
        """
        End it and all that it started.  Idempotent.
        """
        for pipe in (self._input, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    # What it has not heard yet it need not hear.
                    pass
        if not self.gone:
            self.process.terminate()
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # The usual case: nobody of its group is left.
            pass
        self.process.wait()


@contextmanager
def scratch() -> Iterator[str]:
    """
    A directory that is there for the time of the block.
    """
    path = tempfile.mkdtemp(prefix="xferd-demo-")
    try:
        yield path
    finally:
        remove_tree(path)


def remove_tree(path: str) -> None:
    """
    Remove a directory with all that is in it, whatever modes an image has
    given to the directories.  Links are not followed.
    """
    os.chmod(path, 0o700)
    for parent, directories, _ in os.walk(path):
        for name in directories:
            below = os.path.join(parent, name)
            if not os.path.islink(below):
                os.chmod(below, 0o700)
    shutil.rmtree(path)
