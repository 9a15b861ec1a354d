"""
Tests for L{xferd.store.gc.users}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.store.support import LayerUser
from xferd.interfaces.collection import ILayerUser
from xferd.names import Digest
from xferd.store.gc.users import LayerUsers

A, B, C = (Digest.of(text) for text in (b"a", b"b", b"c"))


class LayerUsersTests(SynchronousTestCase):
    """
    Two users of layers.
    """

    def setUp(self) -> None:
        """
        Add the users.
        """
        self.one = LayerUser("engine one", {A: ["container 1"], B: []})
        self.two = LayerUser("engine two", {A: ["container 2"]})
        self.users = LayerUsers()
        for user in (self.one, self.two, self.one):
            self.users.add(user)

    def test_need(self) -> None:
        """
        What one of them needs is needed, as of now.
        """
        verifyObject(ILayerUser, self.one)
        self.assertEqual(list(self.users), [self.one, self.two])
        self.assertEqual([self.users.need(digest) for digest in (A, B, C)], [True, True, False])
        self.assertEqual(self.users.needed(), {A, B})
        self.one.needs.clear()
        self.assertEqual(self.users.needed(), {A})

    def test_texts(self) -> None:
        """
        What needs a layer is said with the name of its engine, as far as the
        engine says it, and up to a limit.
        """
        self.assertEqual(self.users.texts(A), ["engine one: container 1", "engine two: container 2"])
        self.assertEqual([self.users.texts(each) for each in (B, C, None)], [["engine one"], [], []])
        self.one.needs[C] = [str(number) for number in range(9)]
        self.two.needs[C] = ["9", "10", "11"]
        texts = self.users.texts(C)
        self.assertEqual((texts[0], texts[9:]), ("engine one: 0", ["engine two: 9", "and 2 more"]))

    def test_refresh(self) -> None:
        """
        They read in turn; a refresh that is cancelled ends.
        """
        ended: list[str] = []
        readings: list[Deferred[None]] = [Deferred(lambda _: ended.append("one")), Deferred()]
        self.one.reading, self.two.reading = (lambda: readings[0]), (lambda: readings[1])
        work = Deferred.fromCoroutine(self.users.refresh())
        readings[0].callback(None)
        self.assertNoResult(work)
        readings[1].callback(None)
        self.successResultOf(work)
        readings[0] = Deferred(lambda _: ended.append("one"))
        work = Deferred.fromCoroutine(self.users.refresh())
        work.cancel()
        self.failureResultOf(work, CancelledError)
        self.assertEqual(ended, ["one"])
