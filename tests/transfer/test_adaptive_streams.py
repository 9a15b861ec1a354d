"""
Tests for L{xferd.transfer.adaptive_streams}.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.transfer.adaptive_streams import AdaptiveStreams, Advice, RangePolicy, StreamTrials

HOST = "registry.example"
MB = 1_000_000
POLICY = RangePolicy()


class StreamTrialsTests(SynchronousTestCase):
    """
    The trials at hosts are remembered for a while.
    """

    def test_forgotten(self) -> None:
        """
        Hosts are forgotten in time, whichever host is asked for.
        """
        lessons = StreamTrials()
        for n in range(100):
            lessons.avoid(f"r{n}.example", n)
        self.assertTrue(lessons.may_try("other.example", 98))
        self.assertEqual(list(lessons._until), ["r99.example"])


class AdaptiveStreamsTests(SynchronousTestCase):
    """
    A transfer of a gigabyte, measured each second.
    """

    def setUp(self) -> None:
        """
        Begin with one stream.
        """
        self.clock = Clock()
        self.lessons = StreamTrials()
        self.moved = 0
        self.total = 1000 * MB
        self.streams = 1
        self.widening = self.begin()

    def begin(self, policy: RangePolicy = POLICY) -> AdaptiveStreams:
        """
        Begin to measure.
        """
        widening = AdaptiveStreams(policy, self.lessons, HOST)
        widening.begin(self.clock.seconds(), self.moved)
        return widening

    def second(self, rate: float) -> Advice:
        """
        Advance the clock by a second in which so many bytes move, and measure.
        """
        self.clock.advance(1)
        self.moved += int(rate)
        return self.widening.look(self.clock.seconds(), self.moved, self.total - self.moved, self.streams)

    def seconds(self, *rates: float) -> list[Advice]:
        """
        Advance by some seconds; returns the advice other than C{STAY}.
        """
        return [advice for rate in rates if (advice := self.second(rate)) is not Advice.STAY]

    def open(self) -> None:
        """
        Open a further stream, whose first byte arrives at once.
        """
        self.streams += 1
        self.widening.opening()
        self.widening.flowing(self.clock.seconds(), self.moved)

    def grow(self, rate: Callable[[int], float], seconds: int) -> None:
        """
        Follow the advice for a while, with a rate that depends on the number of
        streams.
        """
        for _ in range(seconds):
            match self.second(rate(self.streams)):
                case Advice.WIDEN:
                    self.open()
                case Advice.NARROW:
                    self.streams -= 1

    def test_steady(self) -> None:
        """
        A further stream is tried after two windows, if the second one was no
        faster.
        """
        self.assertEqual(self.second(10 * MB), Advice.STAY)
        self.assertEqual(self.second(10 * MB), Advice.WIDEN)

    def test_growing_by_itself(self) -> None:
        """
        While the rate still grows, none is tried; a falling rate counts as
        steady.
        """
        self.assertEqual(self.seconds(2 * MB, 4 * MB, 8 * MB, 16 * MB), [])
        self.assertEqual(self.second(12 * MB), Advice.WIDEN)

    def test_nothing_yet(self) -> None:
        """
        Before the first byte none is tried.
        """
        self.assertEqual(self.seconds(0, 0, 0, 10 * MB), [])
        self.assertEqual(self.second(10 * MB), Advice.WIDEN)

    def test_before_the_window_ends(self) -> None:
        """
        A measurement within a window gives no advice, and does not begin
        another window.
        """
        self.second(10 * MB)
        self.clock.advance(0.5)
        self.moved += 5 * MB
        self.assertEqual(self.widening.look(self.clock.seconds(), self.moved, self.total, 1), Advice.STAY)
        self.clock.advance(0.5)
        self.moved += 5 * MB
        self.assertEqual(self.widening.look(self.clock.seconds(), self.moved, self.total, 1), Advice.WIDEN)

    def test_capped_streams(self) -> None:
        """
        Where each stream has a rate of its own, the number grows up to the
        maximum.
        """
        self.grow(lambda streams: streams * 8 * MB, 10)
        self.assertEqual(self.streams, POLICY.most)
        self.grow(lambda streams: streams * 8 * MB, 10)
        self.assertEqual(self.streams, POLICY.most)

    def test_capped_line(self) -> None:
        """
        Where the line is full, the further stream is closed, and none is tried
        for a while.
        """
        self.grow(lambda _: 10 * MB, 5)
        self.assertEqual(self.streams, 1)
        self.assertFalse(self.lessons.may_try(HOST, self.clock.seconds()))
        self.assertEqual(self.seconds(*[MB] * 20), [])
        self.clock.advance(POLICY.memory)
        self.widening = self.begin()
        self.assertEqual(self.seconds(10 * MB, 10 * MB), [Advice.WIDEN])

    def test_trial_for_all(self) -> None:
        """
        The outcome of a trial at a host holds for the next transfer there, and
        for no other host.
        """
        self.grow(lambda _: 10 * MB, 5)
        self.widening = self.begin()
        self.assertEqual(self.seconds(*[10 * MB] * 5), [])
        self.assertTrue(self.lessons.may_try("other.example", self.clock.seconds()))

    def test_partly(self) -> None:
        """
        Two streams may gain where three do not.
        """
        self.grow(lambda streams: min(streams, 2) * 10 * MB, 12)
        self.assertEqual(self.streams, 2)

    def test_many_streams(self) -> None:
        """
        The tenth stream need not gain a fifth of the whole rate.
        """
        self.widening = self.begin(RangePolicy(most=12))
        self.grow(lambda streams: streams * MB, 60)
        self.assertEqual(self.streams, 12)

    def test_fast(self) -> None:
        """
        On a fast line none is tried.
        """
        self.total *= 100
        self.assertEqual(self.seconds(*[POLICY.fast] * 10), [])

    def test_little_left(self) -> None:
        """
        None is tried if few bytes, or few seconds, are left.
        """
        self.total = POLICY.least + MB
        self.assertEqual(self.seconds(MB, MB, MB), [])
        self.total = self.moved + 150 * MB
        self.assertEqual(self.seconds(50 * MB, 50 * MB, 50 * MB), [])

    def test_one_stream_only(self) -> None:
        """
        With a maximum of one, none is tried.
        """
        self.widening = self.begin(RangePolicy(most=1))
        self.assertEqual(self.seconds(*[MB] * 10), [])

    def test_slow_to_open(self) -> None:
        """
        A stream is measured from its first byte on.
        """
        self.seconds(10 * MB, 10 * MB)
        self.streams = 2
        self.widening.opening()
        self.assertEqual(self.seconds(*[10 * MB] * 9), [])
        self.widening.flowing(self.clock.seconds(), self.moved)
        self.widening.flowing(self.clock.seconds(), self.moved)
        self.assertEqual(self.seconds(12 * MB, 10 * MB), [Advice.NARROW])

    def test_refused(self) -> None:
        """
        At a host that refuses a further stream, none is tried for a while.
        """
        self.seconds(10 * MB, 10 * MB)
        self.widening.opening()
        self.widening.refused(self.clock.seconds(), self.moved)
        self.assertEqual(self.seconds(*[10 * MB] * 9), [])

    def test_one_trial_at_a_time(self) -> None:
        """
        While one transfer tries a host, another does not; when it has ended,
        even during the trial, another may.
        """
        self.seconds(10 * MB, 10 * MB)
        first = self.widening
        first.opening()
        self.widening = self.begin()
        self.assertEqual(self.seconds(*[10 * MB] * 4), [])
        first.end()
        first.end()
        self.assertEqual(self.second(10 * MB), Advice.WIDEN)

    def test_no_slot(self) -> None:
        """
        Advice that could not be followed is repeated.
        """
        self.assertEqual(self.seconds(*[10 * MB] * 4), [Advice.WIDEN] * 3)

    def test_begun_again(self) -> None:
        """
        When the streams have changed, earlier measurements do not count.
        """
        self.second(10 * MB)
        self.widening.begin(self.clock.seconds(), self.moved)
        self.assertEqual(self.second(10 * MB), Advice.STAY)
        self.assertEqual(self.second(10 * MB), Advice.WIDEN)
