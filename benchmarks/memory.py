"""
How much memory processes take at most, and how much processor time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import NamedTuple, Self

_PERIOD = 0.02
"""Seconds between two looks."""

_TICKS = os.sysconf("SC_CLK_TCK")


class Peaks(NamedTuple):
    """
    The maximum of the used memory, in bytes.

    @ivar main: resident in the main process.
    @ivar together: of all processes, with shared memory counted once.
    """

    main: int
    together: int


class Watch(Thread):
    """
    Samples the memory of processes and all their descendants during a C{with}
    block.

    It uses some processor time itself: sampled processes are not timed.
    """

    def __init__(self, main: int, others: Iterable[int] = ()) -> None:
        """
        @param main: the process whose own memory is reported as well.
        """
        super().__init__(name="memory", daemon=True)
        self._main = main
        self._roots = {main, *others}
        self._over = Event()
        self._own = self._all = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """
        Look until the block ends, and then once more.
        """
        while not self._over.wait(_PERIOD):
            self._look()
        self._look()

    @property
    def peaks(self) -> Peaks:
        """
        The maximum of all samples.
        """
        return Peaks(self._own, self._all)

    def _look(self) -> None:
        """
        Take a sample.
        """
        # The kernel remembers a process's own peak: what lies between two looks counts.
        self._own = max(self._own, _field(self._main, "status", "VmHWM"))
        self._all = max(self._all, sum(_field(pid, "smaps_rollup", "Pss") for pid in _tree(self._roots)))


def cpu_time(*pids: int) -> float:
    """
    The CPU time of processes and their descendants so far, in seconds.
    """
    total = 0
    for one in set(_tree(pids)):
        try:
            total += ticks(Path(f"/proc/{one}/stat").read_text(errors="replace"))
        except OSError:
            continue  # it has ended
    return total / _TICKS


def ticks(stat: str) -> int:
    """
    The CPU time of a process and of its children that ended, in the kernel's ticks.

    @param stat: C{/proc/<pid>/stat}; see proc(5).
    """
    # The name in parentheses may have anything in it.
    return sum(map(int, stat.rpartition(")")[2].split()[11:15]))


def _tree(roots: Iterable[int]) -> Iterator[int]:
    """
    Processes and all their descendants.
    """
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                # The name in parentheses may hold anything; the parent is the second word after it.
                parent = int((path / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it has ended
            children.setdefault(parent, []).append(int(path.name))
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting.extend(children.get(pid, ()))


def _field(pid: int, file: str, name: str) -> int:
    """
    A size that the kernel reports, in bytes; 0 if the process has ended.
    """
    try:
        found = re.search(rf"^{name}:\s+([0-9]+) kB$", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return 0 if found is None else int(found[1]) * 1024
