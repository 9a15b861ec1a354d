# -*- test-case-name: tests.testing.test_gate -*-
"""
Where calls to a fake wait, pass or fail, as the test says.
"""

from __future__ import annotations

from collections.abc import Hashable

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure


@define(eq=False)
class _Planted:
    """
    A failure for the next calls.
    """

    what: str
    key: Hashable | None
    error: Exception
    times: int

    def fits(self, what: str, key: Hashable) -> bool:
        """
        Whether a call is meant.
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
    What every call to a fake goes through.

    A call is named by what it does, C{"open"}, and by what it does it to, a
    digest for example.  By default it passes in the next turn of the clock, as
    no real call is answered within the turn that makes it:
    C{clock.advance(0)} lets everything through that is not held.

    @ivar calls: what was asked, in order, as C{(what, key)}.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._held: set[tuple[str, Hashable | None]] = set()
        self._planted: list[_Planted] = []
        self._waiting: list[_Waiting] = []
        self.calls: list[tuple[str, Hashable]] = []

    def count(self, what: str, key: Hashable = None) -> int:
        """
        How often something was asked; of one thing, or of all.
        """
        return sum(1 for w, k in self.calls if w == what and key in (None, k))

    def hold(self, what: str, key: Hashable = None) -> None:
        """
        Let calls wait from now on; those for one thing, or all of this name.
        """
        self._held.add((what, key))

    def release(self, what: str, key: Hashable = None) -> None:
        """
        Let the calls that wait pass, and those to come.
        """
        self._held.discard((what, key))
        for waiting in [w for w in self._waiting if w.what == what and not self._is_held(w.what, w.key)]:
            self._pass(waiting)

    def waiting(self, what: str, key: Hashable = None) -> int:
        """
        How many calls are held now.
        """
        return sum(1 for w in self._waiting if w.what == what and key in (None, w.key))

    def fail(self, what: str, error: Exception, key: Hashable = None, times: int = 1) -> None:
        """
        Let the next calls fail: those for one thing, or any of this name.
        """
        self._planted.append(_Planted(what, key, error, times))

    def mend(self) -> None:
        """
        Let no further call fail.
        """
        self._planted.clear()

    def check(self, what: str, key: Hashable = None) -> None:
        """
        Remember a call that is answered at once.

        @raise Exception: the failure that was planted for it.
        """
        self.calls.append((what, key))
        planted = self._next_failure(what, key)
        if planted is not None:
            raise planted

    def enter(self, what: str, key: Hashable = None) -> Deferred[None]:
        """
        Remember a call and let it wait for its turn.

        @return: fires when it may go on; fails with what was planted for it.
            Cancelling takes the call back.
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


async def settle(work: Deferred[None]) -> None:
    """
    Wait for work that cannot be stopped to its end, also when cancelled.

    @raise CancelledError: this was cancelled meanwhile; the work has ended.
    """
    ended: list[Failure | None] = []
    waiter: Deferred[None] | None = None
    cancelled = False

    def end(result: Failure | None) -> None:
        ended.append(result)
        if waiter is not None:
            waiter.callback(None)

    work.addBoth(end)  # type: ignore[unused-awaitable]
    while not ended:
        waiter = Deferred()  # Cancelling it leaves the work alone.
        try:
            await waiter
        except CancelledError:
            cancelled = True
    if ended[0] is not None:
        ended[0].raiseException()
    if cancelled:
        raise CancelledError
