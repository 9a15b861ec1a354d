"""
Tests for L{xferd.fleet.followers}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.followers import Followers
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
        self.followers = Followers(2)
        self.leave = self.followers.add(DIGEST, peer("a"), lambda: 100)
        self.followers.add(DIGEST, peer("b"), lambda: 200)

    def choose(self, offset: int = 0, name: str = "z", avoided: tuple[str, ...] = ()) -> str | None:
        """
        The name of the chosen one.
        """
        chosen = self.followers.choose(DIGEST, name, offset, avoided)
        return None if chosen is None else chosen.name

    def test_full(self) -> None:
        """
        Each blob has places of its own, which become free again.
        """
        self.assertTrue(self.followers.is_full(DIGEST))
        self.assertFalse(self.followers.is_full(OTHER))
        self.leave()
        self.leave()
        self.assertFalse(self.followers.is_full(DIGEST))
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

    def test_empty(self) -> None:
        """
        Without followers there is none to choose.
        """
        self.assertIsNone(self.followers.choose(OTHER, "z", 0, ()))
