"""
The base of the tests of the store's Interfaces.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from xferd.names import Digest

T = TypeVar("T")

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

DATA = b"some bytes of a blob"
DIGEST = Digest.of(DATA)


class Conformance(_Base):
    """
    The parameters and helpers of the tests.
    """

    store: Any
    """The L{IStore}; a test case of its own may know it better."""

    def result(self, waiting: Deferred[T]) -> T:
        """
        Wait for a result.
        """
        return self.successResultOf(waiting)

    def failure(self, waiting: Deferred[Any], *expected: type[Exception]) -> Any:
        """
        Wait for a failure, as a L{twisted.python.failure.Failure}.
        """
        return self.failureResultOf(waiting, *expected)

    def do(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """
        Wait for a coroutine.
        """
        return self.result(Deferred.fromCoroutine(work))
