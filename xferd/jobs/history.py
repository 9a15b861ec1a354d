# -*- test-case-name: tests.jobs.test_history -*-
"""
What moved lately: the bytes of the last hour, and those of each client in the last minute.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from xferd.json_encoding import rfc3339

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

    from xferd.interfaces.job_json import HistoryJSON
    from xferd.interfaces.reactor import WallClock
    from xferd.jobs.job import Job

INTERVAL: Final = 10.0
"""Seconds from one sample to the next."""

SAMPLES: Final = 360
"""The number of samples that are kept: an hour."""

MINUTE: Final = 6
"""The number of intervals for which the bytes of clients are kept."""


class ClientBytes:
    """
    The bytes that moved for the jobs of each client in the last minute.  Bytes that moved for
    several clients count for each of them.

    @ivar total: the bytes since the start, for all clients together.
    """

    def __init__(self) -> None:
        self.total = 0
        self._counted: dict[Job, int] = {}
        self._buckets: deque[Counter[str]] = deque([Counter()], MINUTE)

    def begin(self, job: Job) -> None:
        """
        Count the bytes of a job from now on.
        """
        self._counted[job] = _moved(job)

    def end(self, job: Job) -> None:
        """
        Count the last bytes of a job that ends.
        """
        self._count(job)
        del self._counted[job]

    def turn(self) -> None:
        """
        Begin another interval.
        """
        self._buckets.append(Counter())

    def last(self) -> dict[str, int]:
        """
        The bytes of the last minute, by client.
        """
        self.count()
        return dict(sum(self._buckets, Counter()))

    def count(self) -> None:
        """
        Count what has moved until now.
        """
        for job in self._counted:
            self._count(job)

    def _count(self, job: Job) -> None:
        moved = _moved(job)
        self._buckets[-1][job.client] += moved - self._counted[job]
        self.total += moved - self._counted[job]
        self._counted[job] = moved


def _moved(job: Job) -> int:
    """
    The bytes of blobs that have moved for a job.
    """
    return sum(size for (kind, _), size in job.timing.moved.items() if kind != "document")


class History:
    """
    The bytes of the last hour, in samples.

    Life cycle: made; L{start}; L{stop}.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: WallClock,
        counters: Callable[[], Iterable[int]],
        clients: ClientBytes,
    ) -> None:
        """
        @param counters: returns the bytes received, sent and saved since the start, after those of
            clients were counted.
        """
        self._wall_clock = wall_clock
        self._counters = counters
        self._clients = clients
        self._loop = LoopingCall.withCount(self._sample)
        self._loop.clock = clock
        self._until = 0.0
        self._before: tuple[int, ...] = ()
        self._samples: deque[tuple[int, ...]] = deque(maxlen=SAMPLES)

    def start(self) -> None:
        """
        Begin.
        """
        self._before = tuple(self._counters())
        self._until = self._wall_clock()
        _ = self._loop.start(INTERVAL, now=False).addErrback(
            lambda failure: self._log.failure("while counting what moved", failure)
        )

    def stop(self) -> None:
        """
        End.  Idempotent.
        """
        if self._loop.running:
            self._loop.stop()

    def to_json(self) -> HistoryJSON:
        """
        The samples, the oldest first.
        """
        received, sent, saved = zip(*self._samples, strict=True) if self._samples else ((), (), ())
        return {
            "interval": INTERVAL,
            "until": rfc3339(self._until),
            "received": received,
            "sent": sent,
            "saved": saved,
            "clients": self._clients.last(),
        }

    def _sample(self, count: int) -> None:
        """
        Take a sample.

        @param count: the intervals since the last one: several if the reactor was late, over
            which the bytes are spread.
        """
        self._clients.count()
        now = tuple(self._counters())
        moved = [new - old for new, old in zip(now, self._before, strict=True)]
        self._before, self._until = now, self._wall_clock()
        for left in range(count, 0, -1):
            part = tuple(n // left for n in moved)
            moved = [n - taken for n, taken in zip(moved, part, strict=True)]
            self._samples.append(part)
            self._clients.turn()
