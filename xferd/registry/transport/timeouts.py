# -*- test-case-name: tests.registry.transport.test_timeouts -*-
"""
Timeouts of everything that waits for a registry.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

from attrs import Attribute, field, fields, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


def _positive(_: Timeouts, attribute: Attribute[float], value: float) -> None:
    """
    Refuse zero, negative and infinite values, and those that are not numbers.
    """
    if not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise ValueError(f"{attribute.name!r} must be a number above 0, not {value!r}")


@frozen(kw_only=True)
class Timeouts:
    """
    The limits on waiting for a registry, in seconds unless stated otherwise.

    @ivar connect: resolving the name and connecting by TCP.
    @ivar tls: the TLS handshake.
    @ivar headers: the head of a response, once there is a connection.
    @ivar silence: between two pieces of a body, in either direction.
    @ivar window: the time over which C{floor} is measured.
    @ivar floor: bytes per second; a body that is slower over a whole C{window}
        fails, in either direction.  C{silence} alone would permit a trickle.
    @ivar commit: the head of the response to an upload, after its last byte was
        written: the kernel may still buffer much of it, and registries store it
        before they respond.
    @ivar token: the whole exchange with a token server.
    @ivar helper: a credential helper, from its start to its end.
    @ivar document: a manifest or config, from the first request to the last
        byte, tokens and redirects included.
    @ivar excerpt: reading the body of an error or a redirect.
    @ivar close: closing the connections at the end.
    """

    connect: float = field(default=10.0, validator=_positive)
    tls: float = field(default=10.0, validator=_positive)
    headers: float = field(default=30.0, validator=_positive)
    silence: float = field(default=30.0, validator=_positive)
    window: float = field(default=60.0, validator=_positive)
    floor: float = field(default=1024.0, validator=_positive)
    commit: float = field(default=300.0, validator=_positive)
    token: float = field(default=30.0, validator=_positive)
    helper: float = field(default=30.0, validator=_positive)
    document: float = field(default=60.0, validator=_positive)
    excerpt: float = field(default=5.0, validator=_positive)
    close: float = field(default=5.0, validator=_positive)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """
        The settings, in order.
        """
        return tuple(f.name for f in fields(cls))


def within(
    clock: IReactorTime,
    seconds: float,
    work: Deferred[T],
    late: Callable[[], Exception],
    discard: Callable[[T], object] = lambda _: None,
) -> Deferred[T]:
    """
    Wait for C{work}, not longer than C{seconds}.

    Unlike L{Deferred.addTimeout}, this works if C{work} does not end when it is
    cancelled, or ends with another error than L{CancelledError
    <twisted.internet.defer.CancelledError>}: L{Agent.request
    <twisted.web.iweb.IAgent.request>} has four others.

    @param late: makes the error for a timeout.
    @param discard: disposes of a result that comes after the end.
    @return: fires as C{work} does.  Cancelling it cancels C{work}, and fails it
        with CancelledError whatever C{work} does.
    """
    over = False

    def give_up() -> None:
        nonlocal over
        over = True
        if timer.active():
            timer.cancel()
        work.cancel()

    def expire() -> None:
        give_up()
        outcome.errback(late())

    def settle(result: T | Failure) -> Any:
        if over:
            if not isinstance(result, Failure):
                discard(result)
            return
        timer.cancel()
        if isinstance(result, Failure):
            outcome.errback(result)
        else:
            outcome.callback(result)

    outcome: Deferred[T] = Deferred(lambda _: give_up())
    timer = clock.callLater(seconds, expire)
    _ = work.addBoth(settle)
    return outcome
