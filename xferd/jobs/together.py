# -*- test-case-name: tests.jobs.test_together -*-
"""
Waiting for several things, and for one that must not be interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.python.failure import Failure

T = TypeVar("T")


async def together(works: Iterable[Deferred[T]]) -> list[T]:
    """
    Wait for all of C{works}, or for the first failure.

    Cancelling cancels all of them.

    @return: their results, in order.
    @raise Exception: what the first to fail failed with, as it is.
    """
    try:
        return await gatherResults(list(works), consumeErrors=True)
    except FirstError as e:
        e.subFailure.raiseException()


async def to_its_end(work: Deferred[T]) -> T:
    """
    Wait for C{work}, also when cancelled: for a step that is either done or
    not, and of which the outcome has to be known.

    @return: its result; a cancellation meanwhile has no effect.
    @raise Exception: what C{work} failed with.
    """
    outcome: list[T | Failure] = []
    waiter: Deferred[None] | None = None

    def over(result: T | Failure) -> None:
        outcome.append(result)
        if waiter is not None:
            waiter.callback(None)

    _ = work.addBoth(over)
    while not outcome:
        # No canceller: a cancelled wait begins anew.
        waiter = Deferred()
        try:
            await waiter
        except CancelledError:
            continue
    result = outcome[0]
    if isinstance(result, Failure):
        result.raiseException()
    return result
