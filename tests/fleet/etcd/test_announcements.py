"""
Tests for L{xferd.fleet.etcd.announcements}.
"""

from __future__ import annotations

from tests.fleet.etcd.cases import BLOB, COLLECT_SECONDS, OTHER, CoordinationCase
from xferd.names import Digest


class AnnouncementTests(CoordinationCase):
    """
    What a node makes known of its blobs.
    """

    def requests(self) -> int:
        """
        The transactions since the last time.
        """
        return self.etcd.paths().count("/v3/kv/txn")

    def test_together(self) -> None:
        """
        A blob that was looked up before is announced, and its claim released, by one
        request; another one is counted first.
        """
        self.result(self.one.look([BLOB]))
        claim = self.result(self.one.claim(BLOB, 1, "a"))
        self.requests()
        self.one.announce([BLOB])
        self.one.release(claim)
        self.passes(COLLECT_SECONDS + 0.1)
        self.assertEqual(1, self.requests())
        self.assertEqual((1, None), (len(self.look().holders), self.look().claim))
        self.requests()
        self.one.announce([OTHER])
        self.passes(COLLECT_SECONDS + 0.1)
        self.assertEqual(2, self.requests())
        self.one.announce([BLOB, OTHER])
        self.passes(COLLECT_SECONDS + 0.1)
        self.assertEqual(0, self.requests())

    def test_joined(self) -> None:
        """
        Announcements go along with another request, if the number of holders is known.
        """
        self.result(self.one.look([BLOB]))
        self.one.announce([BLOB])
        self.requests()
        self.result(self.one.look([OTHER]))
        self.passes(COLLECT_SECONDS + 0.1)
        self.assertEqual(1, self.requests())
        self.assertEqual(1, len(self.look().holders))

    def test_taken_back(self) -> None:
        """
        A blob that is withdrawn before it was announced is not made known at all.
        """
        self.one.announce([BLOB])
        self.one.withdraw([BLOB])
        self.passes(COLLECT_SECONDS + 0.1)
        self.assertEqual(0, self.requests())

    def test_claimed_again(self) -> None:
        """
        A claim that is released and made again at once stays.
        """
        claim = self.result(self.one.claim(BLOB, 1, "a"))
        self.one.release(claim)
        self.assertTrue(self.result(self.one.claim(BLOB, 1, "a")).mine)
        self.passes(COLLECT_SECONDS + 0.1)
        self.assertIsNotNone(self.look().claim)

    def test_failed(self) -> None:
        """
        What could not be sent is sent when etcd is available again, whether it has taken
        effect or not.
        """
        claim = self.result(self.one.claim(OTHER, 1, "a"))
        self.one.announce([BLOB])
        self.passes(COLLECT_SECONDS + 0.1)
        self.etcd.problem = "away"
        self.one.withdraw([BLOB])
        self.one.announce([OTHER])
        self.one.release(claim)
        self.passes(COLLECT_SECONDS + 0.1)
        self.assertFalse(self.one.available)
        self.etcd.problem = ""
        self.passes(3)
        self.assertEqual(((), None), (self.look().holders, self.look().claim))
        found = self.look(OTHER)
        self.assertEqual((1, None), (len(found.holders), found.claim))

    def test_again(self) -> None:
        """
        Under a new lease everything is announced again, little by little.
        """
        digests = [Digest.of(b"%d" % n) for n in range(350)]
        self.one.announce(digests)
        self.passes(2)
        self.assertEqual(352, len(self.etcd.keys))
        for lease in list(self.etcd.leases):
            self.etcd.end_lease(lease)
        self.assertEqual({}, self.etcd.keys)
        self.passes(5.45)
        known = [0]
        for _ in range(20):
            self.passes(0.05)
            known.append(len([key for key in self.etcd.keys if "/blobs/" in key]))
        self.assertLess(known[8], 300)
        self.assertGreater(known[12], 0)
        self.passes(3)
        self.assertEqual(352, len(self.etcd.keys))

    def test_stopped(self) -> None:
        """
        A node that stops sends nothing more.
        """
        self.one.announce([BLOB])
        self.successResultOf(self.one.stop())
        self.successResultOf(self.two.stop())
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_stopped_while_sending(self) -> None:
        """
        A node that stops while it sends ends that.
        """
        self.one.announce([BLOB])
        self.etcd.held = []
        self.passes(COLLECT_SECONDS + 0.1)
        self.etcd.held = None
        self.successResultOf(self.one.stop())
        self.assertEqual([], self.flushLoggedErrors())
