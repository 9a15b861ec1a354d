# -*- test-case-name: tests.fleet.etcd.test_client -*-
"""
A request to one of several members.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from xferd.fleet.etcd.answers import Answer, MemberFailed

NEXT_SECONDS: Final = 0.5
"""Seconds after which a member that has not answered is no longer waited for alone:
the next one is asked, too."""

Attempt: TypeAlias = "Callable[[], Coroutine[Any, Any, Answer]]"
"""Makes a request to one member."""


class Race:
    """
    Makes attempts one after the other, each when the one before has failed or has not
    ended soon, until one succeeds.
    """

    def __init__(
        self,
        clock: IReactorTime,
        attempts: Sequence[Callable[[], Coroutine[Any, Any, Answer]]],
        patience: float = NEXT_SECONDS,
    ) -> None:
        """
        @param attempts: the attempts; the last one is made only when all others have failed.
        @param patience: seconds after which the next one is made, too.
        """
        self._patience = patience
        self._clock = clock
        self._attempts = list(attempts)
        self._running: list[Deferred[Answer]] = []
        self._timer: IDelayedCall | None = None
        self._outcome: Deferred[Answer] = Deferred(lambda _: self._end())
        self._error: Failure | None = None
        self._over = False

    def run(self) -> Deferred[Answer]:
        """
        Make the attempts.

        @return: fires with the first success; fails with the error of the first failure
            after all have failed, or at once if no other member can do better.
        """
        self._next()
        return self._outcome

    def _next(self) -> None:
        self._stop_timer()
        attempt = Deferred.fromCoroutine(self._attempts.pop(0)())
        self._running.append(attempt)
        _ = attempt.addCallbacks(self._succeeded, self._failed, (attempt,), errbackArgs=(attempt,))
        if len(self._attempts) > 1 and not self._over:
            self._timer = self._clock.callLater(self._patience, self._next)

    def _succeeded(self, answer: Answer, attempt: Deferred[Answer]) -> None:
        self._running.remove(attempt)
        if not self._over:
            self._end()
            self._outcome.callback(answer)

    def _failed(self, failure: Failure, attempt: Deferred[Answer]) -> None:
        self._running.remove(attempt)
        if self._over:
            return
        if self._error is None or not failure.check(MemberFailed):
            self._error = failure
        if not failure.check(MemberFailed):
            self._end()
            self._outcome.errback(failure)
        elif self._attempts and (len(self._attempts) > 1 or not self._running):
            self._next()
        elif not self._running:
            self._end()
            self._outcome.errback(self._error)

    def _end(self) -> None:
        self._over = True
        self._attempts.clear()
        self._stop_timer()
        for attempt in list(self._running):
            attempt.cancel()

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
