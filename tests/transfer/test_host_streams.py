"""
Tests for L{xferd.transfer.host_streams}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.host_streams import FORGOTTEN, HostStreams, StreamPolicy

HOST = "registry.example"


class HostStreamsTests(SynchronousTestCase):
    """
    The streams of a host.
    """

    def setUp(self) -> None:
        """
        Let nothing be limited.
        """
        self.policy = StreamPolicy(thin=1000, least=3, cut=0.5, wait=30, window=10, gain=0.5)
        self.streams = HostStreams(self.policy)

    def fail(self, streams: int, began: float, now: float, rate: float = 500.0) -> bool:  # type: ignore[override]
        """
        Have a stream of a rate break off.
        """
        return self.streams.failed(HOST, streams, began, now, int(rate * (now - began)))

    def test_cut(self) -> None:
        """
        A slow stream that breaks off beside others halves them; of other hosts nothing is
        known.
        """
        self.assertFalse(self.streams)
        self.assertEqual(self.streams.most(HOST), 0)
        self.assertTrue(self.fail(5, 0, 10))
        self.assertEqual((self.streams.most(HOST), self.streams.most("other.example")), (2, 0))

    def test_once(self) -> None:
        """
        Streams that began among as many as that one change nothing when they break off, too.
        """
        self.assertTrue(self.fail(5, 0, 10))
        for now in (10, 11, 12):
            self.assertFalse(self.fail(4, 1, now))
        self.assertEqual(self.streams.most(HOST), 2)
        self.assertTrue(self.fail(2, 12, 20))
        self.assertEqual(self.streams.most(HOST), 1)

    def test_not_starved(self) -> None:
        """
        A stream alone, one that was fast, and one that lasted for a moment did not starve.
        """
        self.assertFalse(self.fail(1, 0, 10))
        self.assertFalse(self.fail(5, 0, 10, 1000))
        self.assertFalse(self.fail(5, 0, 2))
        self.assertEqual(self.streams.most(HOST), 0)

    def look(self, now: float, rate: float, streams: int | None = None) -> bool:
        """
        Look at the host, with all streams that it may have.
        """
        held = self.streams.most(HOST) if streams is None else streams
        return self.streams.look(HOST, now, held, rate, 5)

    def test_pays(self) -> None:
        """
        One more stream is kept where it makes all of them faster.  A host that may have all
        slots again is forgotten.
        """
        self.fail(4, 0, 10)
        self.assertFalse(self.look(39, 100))
        self.assertTrue(self.look(40, 100))
        self.assertEqual(self.streams.most(HOST), 3)
        self.assertFalse(self.look(49, 130))
        self.assertFalse(self.look(50, 130))
        self.assertEqual(self.streams.most(HOST), 3)
        now = 50.0
        for most in (4, 5):
            self.assertTrue(self.look(now + 30, 100 * most))
            self.assertEqual(self.streams.most(HOST), most)
            now += 40
            self.look(now, 150 * most)
        self.assertEqual((self.streams.most(HOST), len(self.streams)), (0, 0))

    def test_does_not_pay(self) -> None:
        """
        One more stream that makes all of them no faster is given up, and the next one is
        tried later.
        """
        self.fail(4, 0, 10)
        self.assertTrue(self.look(40, 100))
        self.assertFalse(self.look(50, 110))
        self.assertEqual(self.streams.most(HOST), 2)
        self.assertFalse(self.look(109, 100))
        self.assertTrue(self.look(110, 100))

    def test_unused(self) -> None:
        """
        No further stream is tried while the host has fewer than it may have.
        """
        self.fail(4, 0, 10)
        self.assertFalse(self.look(100, 100, 1))
        self.assertFalse(self.look(101, 100))
        self.assertTrue(self.look(130, 100))

    def test_breaks_again(self) -> None:
        """
        A stream that breaks off in a trial ends it, and doubles the wait.
        """
        self.fail(4, 0, 10)
        self.assertTrue(self.look(40, 100))
        self.assertTrue(self.fail(3, 40, 45))
        self.assertEqual(self.streams.most(HOST), 1)
        self.assertFalse(self.look(104, 100))
        self.assertTrue(self.look(105, 100))

    def test_unknown(self) -> None:
        """
        A host that is not limited stays so.
        """
        self.assertFalse(self.look(0, 100, 5))
        self.assertEqual(self.streams.most(HOST), 0)

    def test_forgotten(self) -> None:
        """
        A host that was not used for long has no limit; one that still has streams, or for
        which requests wait, keeps it.
        """
        self.fail(5, 0, 10)
        now = 10.0
        for _ in range(3):
            now += FORGOTTEN - 1
            self.assertFalse(self.streams.look(HOST, now, 1, 100.0, 5))
        now += FORGOTTEN
        self.assertFalse(self.streams.look(HOST, now, 1, 100.0, 5))
        self.assertEqual(self.streams.most(HOST), 2)
        self.assertTrue(self.streams.look(HOST, now + FORGOTTEN, 0, 0.0, 5))
        self.assertEqual(self.streams.most(HOST), 0)

    def test_bounded(self) -> None:
        """
        Hosts that are not used any more are dropped when another one is limited.
        """
        self.fail(5, 0, 10)
        self.streams.failed("other.example", 5, FORGOTTEN, FORGOTTEN + 10, 100)
        self.assertEqual(len(self.streams), 1)
        self.assertIn("other.example", self.streams)
