# -*- test-case-name: tests.jobs.test_deferreds -*-
"""
Waits for several Deferreds, and for work that must not be interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

from xferd.delayed import Delayed

T = TypeVar("T")


async def gather(works: Iterable[Deferred[T]]) -> list[T]:
    """
    Wait for all of C{works}, or for the first failure.

    Cancelling cancels all of them.

    @return: their results, in order.
    @raise Exception: the error of the first one that failed.
    """
    try:
        return await gatherResults(list(works), consumeErrors=True)
    except FirstError as e:
        e.subFailure.raiseException()


async def unless_failed(hazards: Iterable[Deferred[Any]], wanted: Deferred[T]) -> T:
    """
    Wait for C{wanted}, unless one of C{hazards} fails before: then fail with its
    error at once.  A hazard that was cancelled has not failed.

    All of them are cancelled in the end.
    """
    # No canceller: the waits end below.
    outcome: Deferred[T] = Deferred()

    def settle(result: Any) -> None:
        if not outcome.called:
            outcome.callback(result)

    def failed(failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            settle(failure)

    waits = [wanted.addBoth(settle), *(hazard.addErrback(failed) for hazard in hazards)]
    try:
        return await outcome
    finally:
        for wait in waits:
            wait.cancel()


async def uninterrupted(work: Deferred[T]) -> T:
    """
    Wait for C{work} without cancelling it: for an atomic step whose outcome has
    to be known.

    @return: its result; a cancellation meanwhile has no effect.
    @raise Exception: the error of C{work}.
    """
    result, _ = await _outcome(work)
    return result


async def then_cancelled(work: Deferred[T]) -> T:
    """
    Wait for C{work} without cancelling it, and end cancelled after it: for an
    atomic step that is the last one after a cancellation.

    @return: its result.
    @raise CancelledError: this was cancelled; C{work} has succeeded.
    @raise Exception: the error of C{work}.
    """
    result, cancelled = await _outcome(work)
    if cancelled:
        raise CancelledError
    return result


async def _outcome(work: Deferred[T]) -> tuple[T, bool]:
    """
    @return: the result, and whether the wait was cancelled.
    """
    waiter: Delayed[T] = Delayed()
    _ = work.addBoth(waiter.callback)
    result = await waiter
    return result, waiter.cancelled
