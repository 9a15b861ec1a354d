"""
Tests for L{xferd.fleet.followers}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.followers import STALLED, Followers
from xferd.interfaces.fleet import Peer
from xferd.names import Digest

DIGEST = Digest.of(b"a blob")
OTHER = Digest.of(b"another")


def peer(name: str) -> Peer:
    """
    A peer.
    """
    return Peer(name, f"http://{name}.example")


class FollowersTests(SynchronousTestCase):
    """
    Tests for L{Followers}, of which two may follow one blob.
    """

    def setUp(self) -> None:
        """
        Have two of them.
        """
        self.clock = Clock()
        self.followers = Followers(2, self.clock.seconds)
        self.one = self.followers.add(DIGEST, peer("a"), 100)
        self.two = self.followers.add(DIGEST, peer("b"), 200)

    def choose(self, offset: int = 0, name: str = "z", avoided: tuple[str, ...] = ()) -> str | None:
        """
        The name of the chosen one.
        """
        chosen = self.followers.choose(DIGEST, 1000, name, offset, avoided)
        return None if chosen is None else chosen.name

    def test_full(self) -> None:
        """
        Each blob has places of its own, which become free again.
        """
        self.assertTrue(self.followers.is_full(DIGEST, 1000))
        self.assertFalse(self.followers.is_full(OTHER, 1000))
        self.followers.remove(DIGEST, self.one)
        self.followers.remove(DIGEST, self.one)
        self.assertFalse(self.followers.is_full(DIGEST, 1000))
        self.assertEqual(self.followers.counts(), {DIGEST: 1})

    def test_farthest(self) -> None:
        """
        The farthest one is chosen first, then in turn.
        """
        self.assertEqual([self.choose() for _ in range(4)], ["b", "a", "b", "a"])

    def test_behind(self) -> None:
        """
        One that does not have the wanted byte is not chosen.
        """
        self.assertEqual([self.choose(150), self.choose(150), self.choose(201)], ["b", "b", None])

    def test_not_wanted(self) -> None:
        """
        None is sent on to itself, or to one that it avoids.
        """
        self.assertEqual(self.choose(name="b"), "a")
        self.assertEqual(self.choose(avoided=("b",)), "a")
        self.assertIsNone(self.choose(name="b", avoided=("a",)))

    def test_moved(self) -> None:
        """
        Followers move.
        """
        self.followers.moved(self.one, 150)
        self.assertEqual(self.choose(), "a")

    def test_stalled(self) -> None:
        """
        One that takes nothing for some seconds holds no place and is not chosen, unless
        it has all that is here.
        """
        self.clock.advance(STALLED)
        self.followers.moved(self.two, 10)
        self.assertFalse(self.followers.is_full(DIGEST, 1000))
        self.assertEqual([self.choose(), self.choose()], ["b", "b"])
        self.assertTrue(self.followers.is_full(DIGEST, 100))
        self.followers.moved(self.one, 10)
        self.assertTrue(self.followers.is_full(DIGEST, 1000))

    def test_empty(self) -> None:
        """
        Without followers there is none to choose.
        """
        self.assertIsNone(self.followers.choose(OTHER, 1000, "z", 0, ()))
