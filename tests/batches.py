"""
Schedules in processes of their own.

What the simulation of a schedule leaves has cycles, and to collect it takes a sixth of its
time.  A process that ends leaves nothing to collect.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from tests.forks import fork

T = TypeVar("T")

SIZE: Final = 10
"""The schedules of one process: each leaves about 12 MB."""


class BatchDied(Exception):
    """
    A process ended without a result.
    """


def in_batches(run: Callable[[range], list[T]], seeds: range) -> Iterator[T]:
    """
    Run some schedules.

    @param run: runs the schedules of some seeds; its results can be pickled.
    @return: the results of all, in the order of the seeds.
    @raise BatchDied: a process did not end as it should; what it raised is on standard error.
    """
    for first in range(0, len(seeds), SIZE):
        yield from _in_process(run, seeds[first : first + SIZE])


def _in_process(run: Callable[[range], list[T]], seeds: range) -> list[T]:
    reading, writing = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            with os.fdopen(writing, "wb") as file:
                pickle.dump(run(seeds), file)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as file:
            data = file.read()
    except BaseException:
        # Its stack shows where it hangs.
        os.kill(pid, signal.SIGABRT)
        raise
    finally:
        _, status = os.waitpid(pid, 0)
    if status:
        raise BatchDied(f"seeds {seeds[0]} to {seeds[-1]}: status {os.waitstatus_to_exitcode(status)}")
    results: list[T] = pickle.loads(data)
    return results
