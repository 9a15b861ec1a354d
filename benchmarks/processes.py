"""
Programs that are run to their end, and those that stay until they are stopped.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep

_PATIENCE = 60.0
"""Seconds that a program gets to be ready, and to end."""

_LONGEST = 900.0
"""Seconds that one run may take: a large image over a slow link."""

_LONGEST_LINE = 300


class Failed(Exception):
    """
    A program is missing, or failed; the text names it and the reason.
    """


def find(*names: str) -> None:
    """
    See whether programs are installed.

    @raise Failed: one is not.
    """
    for name in names:
        if shutil.which(name) is None:
            raise Failed(f"{name} is not installed")


def output(argv: Sequence[str]) -> str:
    """
    Run a short program.

    @return: its output.
    @raise Failed: it failed.
    """
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Failed(f"{argv[0]}: {e}") from e
    if done.returncode:
        raise Failed(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Program:
    """
    A program with a log.

    Life cycle: made, which starts it; ended, by itself or by L{stop}.

    @ivar log: the file with its output, stdout and stderr together.
    """

    def __init__(self, argv: Sequence[str], log: Path, environ: Mapping[str, str] | None = None) -> None:
        """
        @param environ: variables to set besides our own.
        @raise Failed: it cannot be started.
        """
        self._name = Path(argv[0]).name
        self.log = log
        self.began = monotonic()
        try:
            with log.open("wb") as file:
                self._process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env={**os.environ, **(environ or {})},
                    # Ctrl-C is for us; we end it then.
                    start_new_session=True,
                )
        except OSError as e:
            raise Failed(f"{self._name}: {e.strerror}") from e

    @property
    def pid(self) -> int:
        """
        Its process ID.
        """
        return self._process.pid

    @property
    def running(self) -> bool:
        """
        Whether it has not ended.
        """
        return self._process.poll() is None

    def ready(self, sign: str) -> str:
        """
        Wait until it has written a line with a sign.

        @return: the line.
        @raise Failed: it ended, or needs too long.
        """
        until = monotonic() + _PATIENCE
        while monotonic() < until:
            running = self.running
            for line in self.text().splitlines():
                if sign in line:
                    return line
            if not running:
                raise Failed(f"{self._name} ended with {self._process.returncode}: {self._last()}")
            sleep(0.02)
        raise Failed(f"{self._name} was not ready after {_PATIENCE:.0f} s: {self._last()}")

    def finish(self) -> float:
        """
        Wait until it has done its work.

        @return: seconds since it was started.
        @raise Failed: it failed, or needs too long.
        """
        status = self._wait(_LONGEST)
        took = monotonic() - self.began
        if status is None:
            self.stop()
            raise Failed(f"{self._name} was not done after {_LONGEST:.0f} s: {self._last()}")
        if status:
            raise Failed(f"{self._name} ended with {status}: {self._last()}")
        return took

    def stop(self) -> float:
        """
        End it with C{SIGTERM}, and wait until it is gone.  Idempotent.

        @return: seconds that it took.
        """
        asked = monotonic()
        self._process.terminate()
        if self._wait(_PATIENCE) is None:
            self._process.kill()
            self._process.wait()
        took = monotonic() - asked
        try:
            # Processes that it left in its group.
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return took

    def text(self) -> str:
        """
        Its output so far.
        """
        return self.log.read_text(errors="replace")

    def _wait(self, limit: float) -> int | None:
        """
        Wait for its end, without the doubling pauses of C{Popen.wait}, which
        would blur what takes milliseconds.

        @return: its status; L{None} if it has not ended.
        """
        descriptor = os.pidfd_open(self.pid) if self.running else None
        if descriptor is not None:
            with open(descriptor, "rb", buffering=0) as ended:
                poll = select.poll()
                poll.register(ended, select.POLLIN)
                poll.poll(limit * 1000)
        return self._process.poll()

    def _last(self) -> str:
        """
        The last line that it wrote.
        """
        *_, last = self.text().strip().splitlines() or ["it did not say why"]
        return last[:_LONGEST_LINE]
