"""
Tests for L{xferd.testing.fake_gc}.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.store.conformance.base import DIGEST
from tests.store.conformance.gc import GarbageCollectorConformance
from xferd.errors import StoreError
from xferd.interfaces.collection import Freed, IGarbageCollector
from xferd.testing.fake_store import FakeStore

T = TypeVar("T")


class FakeGarbageCollectorTests(GarbageCollectorConformance, SynchronousTestCase):
    """
    The garbage collector of a store in memory conforms to its Interface.
    """

    def setUp(self) -> None:
        """
        Make an empty store.
        """
        self.clock = Clock()
        path = self.mktemp()
        os.mkdir(path)
        self.store = FakeStore(self.clock, path)

    def result(self, waiting: Deferred[T]) -> T:
        """
        Advance the clock until there is a result.
        """
        self._wind(waiting)
        return self.successResultOf(waiting)

    def failure(self, waiting: Deferred[Any], *expected: type[Exception]) -> Any:
        """
        Advance the clock until there is a failure.
        """
        self._wind(waiting)
        return self.failureResultOf(waiting, *expected)

    def _wind(self, waiting: Deferred[Any]) -> None:
        for _ in range(100):
            if not waiting.called:
                self.clock.advance(0)

    def test_interface(self) -> None:
        """
        It provides its Interface.
        """
        verifyObject(IGarbageCollector, self.store.gc)

    def test_kept(self) -> None:
        """
        The digests that a test keeps are not freed.
        """
        self.result(self.store.blobs.put(DIGEST, b"some bytes of a blob"))
        self.store.gc.kept.add(DIGEST)
        self.assertEqual(self.collect(), Freed())

    def test_gate(self) -> None:
        """
        The gate can make it fail.
        """
        self.store.gate.fail("gc.collect", StoreError("no"))
        self.failure(self.store.gc.collect(False), StoreError)
