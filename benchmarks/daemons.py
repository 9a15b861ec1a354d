"""
Daemons of this tree and of another one, and what can be seen of them while
they run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from socket import AF_UNIX, socket
from time import monotonic

from benchmarks.peers import ROOT, Xferd
from benchmarks.places import in_memory
from benchmarks.processes import Failed, Program
from benchmarks.rounds import OURS, Served, Setting

BESIDE = "beside"
"""The name of the other version in the tables."""

_TICKS = os.sysconf("SC_CLK_TCK")


class Measured(Xferd):
    """
    xferd, with a view of its CPU time and, with L{benchmarks.probe}, of its
    reactor's pauses.
    """

    probed = False

    def start(self) -> None:
        """
        Start the daemon.
        """
        if self.probed:
            self.twistd = (sys.executable, "-m", "benchmarks.probe", str(self._place / "pauses"))
        super().start()

    def longest_pause(self, began: float = 0.0) -> tuple[float, float]:
        """
        Stop the daemon, and find the longest pause of its reactor.

        @param began: C{monotonic()} before which pauses do not count.
        @return: how long it was, and the longest computation in any, both in
            milliseconds.
        """
        ended = monotonic()
        self.stop()
        lines = (self._place / "pauses").read_text().splitlines()
        pauses = [(long, cpu) for at, long, cpu in map(json.loads, lines) if began <= at <= ended + long]
        longest = max((long for long, _ in pauses), default=0.0)
        computing = max((cpu for _, cpu in pauses), default=0.0)
        return longest * 1000, computing * 1000

    def cpu_time(self) -> float:
        """
        The CPU time of the daemon's own process so far, in seconds.
        """
        assert self.daemon is not None
        fields = Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def clients(self, number: int, references: Sequence[str]) -> float:
        """
        Have some clients pull images, each one after the other.

        @return: seconds until the last one has the last image.
        @raise Failed: one does not get it.
        """
        argv = [sys.executable, "-m", "benchmarks.clients", self.socket, str(number), *references]
        program = Program(
            argv, self._place / "clients.log", {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1", "XFERD_HOST": ""}
        )
        program.finish()
        return float(program.text())

    def pages(self, number: int, causes: int, reference: str) -> list[float]:
        """
        Have some pages follow everything while an image is pulled, and jobs begin.

        @return: for each of these jobs and each page, the seconds from its request to its event.
        @raise Failed: a page does not get it.
        """
        argv = [sys.executable, "-m", "benchmarks.pages", self.socket, str(number), str(causes), reference]
        program = Program(
            argv, self._place / "pages.log", {"PYTHONPATH": ROOT, "PYTHONSAFEPATH": "1", "XFERD_HOST": ""}
        )
        program.finish()
        found: list[float] = json.loads(program.text())
        return found

    def get(self, path: str) -> bytes:
        """
        Read from the API, as fast as the daemon writes.

        @return: the body.
        """
        with socket(AF_UNIX) as connection:
            connection.connect(self.socket)
            connection.sendall(b"GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" % path.encode("ascii"))
            answer = bytearray()
            while data := connection.recv(1024 * 1024):
                answer += data
        head, _, body = bytes(answer).partition(b"\r\n\r\n")
        if b" 200 " not in head.partition(b"\r\n")[0]:
            raise Failed(f"{path}: {head[:100]!r}")
        return body


def roots(setting: Setting) -> Mapping[str, str]:
    """
    The directories of the versions to measure, by their names in the tables.
    """
    return {OURS: ROOT} | ({} if setting.beside is None else {BESIDE: str(setting.beside)})


@contextmanager
def daemon(root: str, registry: Served, settings: str = "", *, probed: bool = False) -> Iterator[Measured]:
    """
    A daemon with a fresh store in memory, for the time of the block.

    @param root: the directory of its version.
    @param settings: more of its settings, as TOML.
    @param probed: whether to watch its reactor.
    @raise Failed: it does not start.
    """
    kind = type("Version", (Measured,), {"root": root, "settings": settings, "probed": probed})
    with in_memory() as place:
        running: Measured = kind(place, registry.host)
        try:
            running.start()
            yield running
        finally:
            running.stop()
