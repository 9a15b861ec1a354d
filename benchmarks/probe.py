"""
C{twistd}, with a measurement of the pauses of its reactor.

C{python -m benchmarks.probe FILE TWISTD-OPTIONS}: a timer of the reactor that
is due each few milliseconds records how late it is called.  All lateness is
counted, also what is the machine's: a reactor that waits for a processor
answers no request either.  FILE gets the pauses as JSON lines when the reactor
stops: when it ended (C{CLOCK_MONOTONIC}), how long it was, and for how much of
it the reactor's thread was computing, all in seconds.
"""

from __future__ import annotations

import json
import sys
from time import monotonic, thread_time

_PERIOD = 0.002
_WORTH = 0.002
"""Seconds; shorter pauses are not noted."""


class Probe:
    """
    A timer and its records.
    """

    def __init__(self) -> None:
        self._pauses: list[tuple[float, float, float]] = []

    def start(self) -> None:
        """
        Begin to look.
        """
        self._arm()

    def write(self, path: str) -> None:
        """
        Write down all pauses.
        """
        with open(path, "w", encoding="ascii") as file:
            file.writelines(json.dumps(pause) + "\n" for pause in self._pauses)

    def _arm(self) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - once twistd has chosen one

        self._due, self._computed = monotonic() + _PERIOD, thread_time()
        reactor.callLater(_PERIOD, self._called)

    def _called(self) -> None:
        now = monotonic()
        if now - self._due > _WORTH:
            self._pauses.append((now, now - self._due, thread_time() - self._computed))
        self._arm()


def main() -> None:
    """
    Be twistd, probed.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - as twistd does
    from twisted.scripts.twistd import run  # noqa: PLC0415

    path = sys.argv.pop(1)
    probe = Probe()
    reactor.callWhenRunning(probe.start)
    reactor.addSystemEventTrigger("after", "shutdown", probe.write, path)
    run()


if __name__ == "__main__":
    main()
