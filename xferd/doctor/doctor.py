# -*- test-case-name: tests.doctor.test_doctor -*-
"""
The examination of a running daemon: files, listeners, certificates and limits.

Modes change, certificates expire and disks fill up after a daemon has started.
Each problem has a remedy.  The checks block, so they run in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from xferd.doctor.files import (
    check_credentials,
    check_data_directory,
    check_settings,
    check_sockets,
    check_tokens,
)
from xferd.doctor.fleet import check_fleet
from xferd.doctor.machine import check_disk, check_engines, check_limits, check_sandbox
from xferd.doctor.network import (
    check_certificates,
    check_clock,
    check_listeners,
    check_proxies,
    check_registry,
)
from xferd.doctor.problem import Check, Running

Checks = list[dict[str, object]]


class Doctor:
    """
    Runs one examination at a time; concurrent requests share it.
    """

    def __init__(self, reactor: IReactorThreads, state: Callable[[], Running]) -> None:
        """
        @param state: returns the daemon's state.
        """
        self._reactor = reactor
        self._state = state
        self._is_examining = False
        self._waiting: list[Deferred[Checks]] = []

    def examine(self) -> Deferred[Checks]:
        """
        Run all checks in a thread.

        @return: as L{examine}.  Cancelling it ends the wait; the examination
            ends by itself within seconds.
        """
        waiting: Deferred[Checks] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if not self._is_examining:
            self._is_examining = True
            pool = self._reactor.getThreadPool()
            made = deferToThreadPool(self._reactor, pool, examine, self._state())
            _ = made.addBoth(self._examined)
        return waiting

    def _examined(self, result: Checks | Failure) -> None:
        self._is_examining = False
        waiting = self._waiting[:]
        self._waiting.clear()
        for each in waiting:
            each.callback(result)


def examine(running: Running) -> Checks:
    """
    Run all checks.

    @return: the name and the problems of each check, as the API returns them.
    """
    return [
        {
            "name": name,
            "problems": [{"message": p.message, "remedy": p.remedy} for p in check(running)],
        }
        for name, check in CHECKS.items()
    ]


CHECKS: Final[Mapping[str, Check]] = {
    "data directory": check_data_directory,
    "sockets": check_sockets,
    "settings": check_settings,
    "credentials": check_credentials,
    "tokens": check_tokens,
    "listeners": check_listeners,
    "registry": check_registry,
    "certificates": check_certificates,
    "proxies": check_proxies,
    "clock": check_clock,
    "disk": check_disk,
    "engines": check_engines,
    "fleet": check_fleet,
    "limits": check_limits,
    "sandbox": check_sandbox,
}
"""All checks, by name."""
