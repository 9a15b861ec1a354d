"""
Tests for L{xferd.store.blobs.partials}: reports to followers.
"""

from __future__ import annotations

from tests.store.support import Follower, StoreTestCase
from xferd.interfaces.blobs import IFollower
from xferd.names import Digest


class FollowTests(StoreTestCase):
    """
    The reports to followers, and their frequency.
    """

    def setUp(self) -> None:
        """
        Follow a partial blob of a mebibyte.
        """
        super().setUp()
        self.data = bytes(1024 * 1024)
        self.partial = self.successResultOf(self.store.blobs.partial(Digest.of(self.data), len(self.data)))
        self.follower = Follower()
        self.partial.follow(self.follower)

    def sizes(self) -> list[int]:
        """
        The reported sizes.
        """
        return [what[2] for what in self.follower.told if what[0] == "grown"]

    def test_small_pieces(self) -> None:
        """
        Of small pieces it hears the first one at once, and the next ones together,
        soon.  After a while without any, the next one is a first one.
        """
        self.partial.write(bytes(1000))
        self.reactor.advance(0)
        self.assertEqual(self.sizes(), [1000])
        for _ in range(3):
            self.partial.write(bytes(1000))
        self.reactor.advance(0.04)
        self.assertEqual(self.sizes(), [1000])
        self.reactor.advance(0.01)
        self.assertEqual(self.sizes(), [1000, 4000])
        self.reactor.advance(1)
        self.partial.write(bytes(1000))
        self.reactor.advance(0)
        self.assertEqual(self.sizes(), [1000, 4000, 5000])

    def test_many_pieces(self) -> None:
        """
        Of many bytes it hears at the end of the turn, once.
        """
        for _ in range(8):
            self.partial.write(bytes(64 * 1024))
        self.assertEqual(self.sizes(), [])
        self.reactor.advance(0)
        self.assertEqual(self.sizes(), [512 * 1024])
        self.partial.write(bytes(256 * 1024))
        self.reactor.advance(0)
        self.assertEqual(self.sizes(), [512 * 1024, 768 * 1024])

    def test_end(self) -> None:
        """
        The end needs no message before it, and none comes after.
        """
        self.partial.write(self.data)
        self.successResultOf(self.partial.commit())
        self.assertEqual(len(self.follower.told), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_open_file_stays_valid(self) -> None:
        """
        A descriptor of the growing file reads the blob to its end.
        """
        self.partial.write(self.data[:-5])
        self.reactor.advance(1)
        with open(self.follower.told[0][1], "rb") as file:
            self.partial.write(self.data[-5:])
            self.successResultOf(self.partial.commit())
            self.assertEqual(len(file.read()), len(self.data))

    def test_restart(self) -> None:
        """
        After a restart there is another file, while who reads the old one
        reads on in peace.
        """
        self.partial.write(b"x" * 1000)
        self.reactor.advance(1)
        with open(self.follower.told[0][1], "rb") as file:
            self.partial.restart()
            self.partial.write(b"y" * 2000)
            self.reactor.advance(1)
            self.assertEqual(file.read(), b"x" * 1000)
        self.assertEqual([what[0] for what in self.follower.told], ["grown", "restarted", "grown"])
        with open(self.follower.told[2][1], "rb") as file:
            self.assertEqual(file.read(), b"y" * 2000)

    def test_close(self) -> None:
        """
        After the end of an attempt nothing more is reported.
        """
        self.partial.write(bytes(10))
        self.partial.close()
        self.assertEqual((self.follower.told, self.reactor.getDelayedCalls()), ([], []))

    def test_unfollow(self) -> None:
        """
        A follower that has been removed gets no further reports.
        """
        self.partial.write(bytes(10))
        self.partial.unfollow(self.follower)
        self.reactor.advance(1)
        self.assertEqual(self.follower.told, [])

    def test_broken_follower(self) -> None:
        """
        A follower that fails is logged, and keeps neither the blob nor the
        others.
        """

        class Broken(Follower):
            def grown(self, path: str, size: int) -> None:
                raise RuntimeError("broken")

            def sealed(self, path: str, size: int) -> None:
                raise RuntimeError("broken")

        broken, other = Broken(), Follower()
        followers: list[IFollower] = [broken, other]
        for follower in followers:
            self.partial.follow(follower)
        self.partial.write(self.data)
        self.reactor.advance(0)
        self.successResultOf(self.partial.commit())
        self.assertEqual([what[0] for what in other.told], ["grown", "sealed"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
