# -*- test-case-name: tests.registry.transport.test_watchdog -*-
"""
The limits on how slowly a body may move, in either direction.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.errors import TimedOut
from xferd.registry.transport.timeouts import Timeouts


class Watchdog:
    """
    Watches one body for silence, and for a rate below the floor over a whole
    window.

    States: made; running, from L{start} on, in which silence is measured while
    it is armed, and the rate while it is not suspended; stopped, by L{stop} or
    by a limit.
    """

    def __init__(
        self,
        fail: Callable[[TimedOut], object],
        *,
        host: str,
        verb: str,
        clock: IReactorTime,
        timeouts: Timeouts,
    ) -> None:
        """
        @param fail: called once with the error when a limit is reached.
        @param host: the peer, for errors.
        @param verb: what the peer does with bytes, for errors: C{sent} or
            C{took}.
        """
        self._fail: Callable[[TimedOut], object] | None = fail
        self._host = host
        self._verb = verb
        self._clock = clock
        self._timeouts = timeouts
        self._moved = 0
        self._excluded = 0.0
        self._suspended_at: float | None = None
        self._silence: IDelayedCall | None = None
        self._window: IDelayedCall | None = None

    def start(self) -> None:
        """
        Begin the first window.
        """
        self._window = self._clock.callLater(self._timeouts.window, self._measure)

    def count(self, moved: int) -> None:
        """
        Count bytes that moved.
        """
        self._moved += moved

    def arm(self) -> None:
        """
        Expect the peer to move bytes within C{silence} seconds from now.
        """
        if self._silence is None:
            self._silence = self._clock.callLater(self._timeouts.silence, self._silent)
        else:
            self._silence.reset(self._timeouts.silence)

    def disarm(self) -> None:
        """
        Expect nothing of the peer until L{arm}.
        """
        silence, self._silence = self._silence, None
        if silence is not None:
            silence.cancel()

    def suspend(self) -> None:
        """
        Leave the time from now until L{resume} out of the window: this side
        neither takes nor has bytes.
        """
        if self._suspended_at is None:
            self._suspended_at = self._clock.seconds()

    def resume(self) -> None:
        """
        Measure the rate again.
        """
        if self._suspended_at is not None:
            self._excluded += self._clock.seconds() - self._suspended_at
            self._suspended_at = None

    def stop(self) -> None:
        """
        Stop for good.
        """
        # It leads to the body, which leads here.
        self._fail = None
        self.disarm()
        window, self._window = self._window, None
        if window is not None:
            window.cancel()

    def _silent(self) -> None:
        self._silence = None
        self._end(f"{self._host} {self._verb} nothing for {self._timeouts.silence:g} s", "silence")

    def _measure(self) -> None:
        self._window = None
        if self._suspended_at is not None:
            self.resume()
            self.suspend()
        window, floor = self._timeouts.window, self._timeouts.floor
        seconds = window - self._excluded
        if seconds > window / 2 and self._moved < floor * seconds:
            rate = self._moved / seconds
            self._end(
                f"{self._host} {self._verb} {rate:.0f} bytes/s over {seconds:g} s; {floor:.0f} are the least",
                "rate",
            )
            return
        self._excluded = 0.0
        self._moved = 0
        self.start()

    def _end(self, text: str, phase: str) -> None:
        fail = self._fail
        self.stop()
        if fail is not None:
            fail(TimedOut(text, phase=phase, host=self._host))
