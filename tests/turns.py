"""
Single turns of a clock that a test winds.
"""

from __future__ import annotations

from twisted.internet.task import Clock


def is_due(clock: Clock) -> bool:
    """
    Whether a call is due.
    """
    return any(call.getTime() <= clock.seconds() for call in clock.calls)


def turn(clock: Clock) -> None:
    """
    Make the calls that are due, as a turn of the reactor does.  C{clock.advance(0)} makes
    those, too, that these make due, until none is left.
    """
    for call in [call for call in clock.calls if call.getTime() <= clock.seconds()]:
        if call.active():
            clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
