# -*- test-case-name: tests.ctl.demo.test_processes -*-
"""
Child processes and a temporary directory for the demo, both removed at its
end.
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
"""Seconds after SIGTERM until SIGKILL: more than the daemon's own grace period."""

_TAIL = 2000


class Child:
    """
    A Python process in a process group of its own, so that Ctrl-C reaches
    only the parent, which ends it.

    @ivar process: the process; its stdin is a pipe that closes with the parent.
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
        Start the process.

        @param arguments: the interpreter's arguments.
        @param directory: its working directory, which holds its log.
        @param name: the log's name.
        @param environ: its environment; C{PYTHONPATH} is added.
        @param talks: whether its stdout is read by L{receive}, and not logged.
        """
        self._log = os.path.join(directory, f"{name}.log")
        # The empty entry of 'python -c' means the parent's working directory.
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

    def send(self, line: bytes) -> None:
        """
        Write a line to its stdin.

        @raise OSError: it has ended.
        """
        self._input.write(line + b"\n")
        self._input.flush()

    def receive(self) -> bytes:
        """
        Wait for a line of its stdout; empty if it has ended.
        """
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @property
    def ended(self) -> bool:
        """
        Whether it has ended.
        """
        return self.process.poll() is not None

    def last_line(self) -> str:
        """
        The last line of its log that is not empty.
        """
        with open(self._log, "rb") as log:
            log.seek(max(0, os.path.getsize(self._log) - _TAIL))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")

    def stop(self) -> None:
        """
        End the process and its children.  Idempotent.
        """
        for pipe in (self._input, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    # The process has ended; its unread input is lost.
                    pass
        if not self.ended:
            self.process.terminate()
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            # The usual case: its process group is empty.
            pass
        self.process.wait()


@contextmanager
def scratch() -> Iterator[str]:
    """
    A temporary directory that exists during the block.
    """
    path = tempfile.mkdtemp(prefix="xferd-demo-")
    try:
        yield path
    finally:
        remove_tree(path)


def remove_tree(path: str) -> None:
    """
    Remove a directory and its contents, whatever modes an image gave to its
    directories.  Links are not followed.
    """
    os.chmod(path, 0o700)
    for parent, directories, _ in os.walk(path):
        for name in directories:
            below = os.path.join(parent, name)
            if not os.path.islink(below):
                os.chmod(below, 0o700)
    shutil.rmtree(path)
