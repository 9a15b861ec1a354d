# -*- test-case-name: tests.test_monotonic -*-
"""
Timers on monotonic time.
"""

from __future__ import annotations

from time import monotonic

from twisted.internet.base import ReactorBase


def use_monotonic_time(reactor: ReactorBase) -> None:
    """
    Run all timers of a reactor on monotonic time, Twisted's own among them.

    Twisted's reactors measure with C{time.time}: if the clock is set back by an
    hour, every timer is an hour late.  C{callLater}, C{DelayedCall} and the loop
    read the time by the reactor's C{seconds}, as does all code that uses the
    reactor as its clock.  Idempotent.

    @raise RuntimeError: a timer was set before, measured by the old clock.
    """
    if reactor.seconds is monotonic:
        return
    if reactor.getDelayedCalls():
        raise RuntimeError("the reactor's time must be made monotonic before the first timer is set")
    reactor.seconds = monotonic
