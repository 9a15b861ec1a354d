# -*- test-case-name: tests.testing.test_gate -*-
"""
Control over the calls to a fake: a test lets them wait, pass or fail.
"""

from __future__ import annotations

from collections.abc import Hashable

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


@define(eq=False)
class _Planted:
    """
    A failure of the next calls.
    """

    what: str
    key: Hashable | None
    error: Exception
    times: int

    def fits(self, what: str, key: Hashable) -> bool:
        """
        Whether it applies to a call.
        """
        return self.times > 0 and what == self.what and self.key in (None, key)


@define(eq=False)
class _Waiting:
    """
    A call that waits.
    """

    what: str
    key: Hashable
    turn: Deferred[None] = field(repr=False)


class Gate:
    """
    The gate that each call to a fake passes.

    A call has a name, C{"open"}, and a key, for example a digest.  By default it
    passes in the next turn of the clock, as no real call is answered in the turn
    that makes it: C{clock.advance(0)} lets all calls pass that are not held.

    @ivar calls: all calls in order, as C{(what, key)}.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._held: set[tuple[str, Hashable | None]] = set()
        self._planted: list[_Planted] = []
        self._waiting: list[_Waiting] = []
        self.calls: list[tuple[str, Hashable]] = []

    def count(self, what: str, key: Hashable = None) -> int:
        """
        The number of calls with a name, of one key or of all.
        """
        return sum(1 for w, k in self.calls if w == what and key in (None, k))

    def hold(self, what: str, key: Hashable = None) -> None:
        """
        Hold calls with a name from now on, of one key or of all.
        """
        self._held.add((what, key))

    def release(self, what: str, key: Hashable = None) -> None:
        """
        Release the held calls with a name, and those to come.
        """
        self._held.discard((what, key))
        for waiting in [w for w in self._waiting if w.what == what and not self._is_held(w.what, w.key)]:
            self._pass(waiting)

    def waiting(self, what: str, key: Hashable = None) -> int:
        """
        The number of held calls.
        """
        return sum(1 for w in self._waiting if w.what == what and key in (None, w.key))

    def fail(self, what: str, error: Exception, key: Hashable = None, times: int = 1) -> None:
        """
        Make the next calls with a name fail, of one key or of all.
        """
        self._planted.append(_Planted(what, key, error, times))

    def mend(self) -> None:
        """
        Let no further call fail.
        """
        self._planted.clear()

    def check(self, what: str, key: Hashable = None) -> None:
        """
        Record a call that returns at once.

        @raise Exception: the planted failure.
        """
        self.calls.append((what, key))
        planted = self._next_failure(what, key)
        if planted is not None:
            raise planted

    def enter(self, what: str, key: Hashable = None) -> Deferred[None]:
        """
        Record a call, and wait until it passes.

        @return: fires when the call passes; fails with the planted failure.
            Cancelling ends the wait.
        """
        self.calls.append((what, key))
        waiting = _Waiting(what, key, Deferred(lambda _: self._forget(waiting)))
        self._waiting.append(waiting)
        if not self._is_held(what, key):
            self._pass(waiting)
        return waiting.turn

    def _is_held(self, what: str, key: Hashable) -> bool:
        return (what, None) in self._held or (what, key) in self._held

    def _pass(self, waiting: _Waiting) -> None:
        self._forget(waiting)
        self._clock.callLater(0, self._decide, waiting)

    def _decide(self, waiting: _Waiting) -> None:
        if waiting.turn.called:
            return  # It was cancelled.
        error = self._next_failure(waiting.what, waiting.key)
        if error is None:
            waiting.turn.callback(None)
        else:
            waiting.turn.errback(error)

    def _forget(self, waiting: _Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _next_failure(self, what: str, key: Hashable) -> Exception | None:
        for planted in self._planted:
            if planted.fits(what, key):
                planted.times -= 1
                return planted.error
        return None
