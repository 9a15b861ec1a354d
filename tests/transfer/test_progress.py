"""
Tests for L{xferd.transfer.progress}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.interfaces.transfer import IProgressSink
from xferd.transfer.eventual import SLICE
from xferd.transfer.progress import NOTIFICATIONS, PULSE, WINDOW, Mailbox, Pulse, Rate


class MailboxTests(SynchronousTestCase):
    """
    The last value under each key.
    """

    def setUp(self) -> None:
        """
        Make a mailbox.
        """
        self.clock = Clock()
        self.mailbox = Mailbox(self.clock)

    def test_interface(self) -> None:
        """
        A mailbox is a sink.
        """
        verifyObject(IProgressSink, self.mailbox)

    def test_last_value(self) -> None:
        """
        Of each key the newest item is kept, and the key that has waited longest
        is read first.
        """
        for key, item in [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("a", 3)]:
            self.mailbox.put(key, item)
        self.assertEqual(self.successResultOf(self.mailbox.get()), [3, 1, 1])

    def test_read_keys_wait_again(self) -> None:
        """
        A key that was read takes a new place among the others.
        """
        self.mailbox.put("a", 1)
        self.successResultOf(self.mailbox.get())
        self.mailbox.put("b", 2)
        self.mailbox.put("a", 3)
        self.assertEqual(self.successResultOf(self.mailbox.get()), [2, 3])

    def test_waits(self) -> None:
        """
        A reader waits for items and gets them from a clean turn, with those
        that arrived meanwhile.
        """
        d = self.mailbox.get()
        self.mailbox.put("a", 1)
        self.mailbox.put("b", 2)
        self.assertNoResult(d)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(d), [1, 2])

    def test_one_reader(self) -> None:
        """
        A second reader is refused.
        """
        d = self.mailbox.get()
        self.assertRaises(RuntimeError, self.mailbox.get)
        self.assertNoResult(d)

    def test_cancelled_early(self) -> None:
        """
        A cancelled read leaves the mailbox as it was.
        """
        d = self.mailbox.get()
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.mailbox.put("a", 1)
        self.assertEqual(self.successResultOf(self.mailbox.get()), [1])

    def test_cancelled_late(self) -> None:
        """
        Items on their way to a cancelled read stay for the next one.
        """
        d = self.mailbox.get()
        self.mailbox.put("a", 1)
        d.cancel()
        self.failureResultOf(d, CancelledError)
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(self.mailbox.get()), [1])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closed(self) -> None:
        """
        A closed mailbox returns what it has, then nothing, and accepts nothing.
        """
        self.mailbox.put("a", 1)
        self.mailbox.close()
        self.mailbox.put("b", 2)
        self.assertEqual(self.successResultOf(self.mailbox.get()), [1])
        self.assertEqual(self.successResultOf(self.mailbox.get()), [])
        self.mailbox.close()

    def test_closed_while_waiting(self) -> None:
        """
        A reader that waits gets the end.
        """
        d = self.mailbox.get()
        self.mailbox.close()
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(d), [])

    def test_lazy(self) -> None:
        """
        A function is called, and a snapshot made, when the item is read, and
        not before.
        """

        class Thing:
            seen = 0

            def snapshot(self) -> int:
                self.seen += 1
                return self.seen

        thing = Thing()
        for _ in range(3):
            self.mailbox.put("thing", thing)
            self.mailbox.put("function", lambda: "made")
        self.assertEqual(thing.seen, 0)
        self.assertEqual(self.successResultOf(self.mailbox.get()), [1, "made"])

    def test_lazy_failure(self) -> None:
        """
        An item that raises is logged and left out.
        """
        self.mailbox.put("a", lambda: 1 / 0)
        self.mailbox.put("b", 2)
        self.assertEqual(self.successResultOf(self.mailbox.get()), [2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class PulseTests(SynchronousTestCase):
    """
    The rate of notifications.
    """

    def setUp(self) -> None:
        """
        Make a pulse, with this test as the transfer.
        """
        self.clock = Clock()
        self.beat = Pulse(self.clock)
        self.pulses: list[float] = []
        self.looks: list[float] = []
        self.watchers = 1

    def pulse(self) -> int:
        """
        Record the time.
        """
        self.pulses.append(self.clock.seconds())
        return self.watchers

    def look(self) -> bool:
        """
        Record the time, and decline after the third look.
        """
        self.looks.append(self.clock.seconds())
        return len(self.looks) < 3

    def test_looks(self) -> None:
        """
        A transfer that is watched is looked at each second, until it declines or has ended;
        no timer is left.
        """
        self.beat.watch(self)
        self.beat.watch(self)
        self.clock.pump([0.5] * 10)
        self.assertEqual(self.looks, [1.0, 2.0, 3.0])
        self.beat.watch(self)
        self.beat.ended(self)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_rate(self) -> None:
        """
        However often a transfer moves, it notifies once for each pulse.
        """
        for _ in range(1000):
            self.beat.moved(self)
        self.assertEqual(self.pulses, [])
        self.clock.advance(PULSE)
        self.assertEqual(self.pulses, [PULSE])
        self.clock.advance(PULSE)
        self.assertEqual(self.pulses, [PULSE])

    def test_many_watchers(self) -> None:
        """
        A transfer with many watchers notifies less often, until there are
        fewer.
        """
        for self.watchers, pause in ((NOTIFICATIONS, PULSE), (1, 1.0), (1, PULSE)):
            before = self.clock.seconds()
            self.beat.moved(self)
            self.clock.advance(pause * 0.9)
            self.assertNotIn(self.clock.seconds(), self.pulses)
            self.clock.advance(pause * 0.1)
            self.assertAlmostEqual(self.pulses[-1] - before, pause)

    def test_long(self) -> None:
        """
        Notifications that take long are spread over several turns, each
        transfer once; one that ends in between does not notify.
        """
        notified: list[str] = []
        clock, beat = self.clock, self.beat

        class Slow:
            """
            A transfer with many watchers.
            """

            def __init__(self, name: str) -> None:
                self.name = name

            def pulse(self) -> int:
                """
                Take some time.
                """
                notified.append(self.name)
                clock.rightNow += SLICE
                beat.moved(self)
                return 1

            def look(self) -> bool:
                """
                Decline.
                """
                return False

        slow = [Slow(name) for name in "abcd"]
        for thing in slow:
            beat.moved(thing)
        clock.callLater(PULSE + SLICE / 2, lambda: beat.ended(slow[2]))
        clock.advance(PULSE)
        self.assertEqual(notified, ["a", "b", "d"])
        for thing in slow:
            beat.ended(thing)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_broken(self) -> None:
        """
        A transfer that cannot notify is logged, and keeps none of the others
        back.
        """

        class Broken:
            """
            A transfer.
            """

            def pulse(self) -> int:
                """
                Fail.
                """
                raise ValueError

            def look(self) -> bool:
                """
                Decline.
                """
                return False

        self.beat.moved(Broken())
        self.beat.moved(self)
        self.clock.advance(PULSE)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.pulses, [PULSE])

    def test_ended(self) -> None:
        """
        A transfer that has ended does not notify, and no timer is left.
        """
        self.beat.moved(self)
        self.beat.ended(self)
        self.beat.ended(self)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RateTests(SynchronousTestCase):
    """
    Bytes per second.
    """

    def test_nothing(self) -> None:
        """
        Without movement there is no rate.
        """
        self.assertEqual(Rate().value(5, 0), 0)

    def test_steady(self) -> None:
        """
        A steady flow has its rate.
        """
        rate = Rate()
        rate.begin(0, 1000)
        for second in range(1, 20):
            rate.sample(second, 1000 + second * 100)
        self.assertEqual(rate.value(19, 2900), 100)

    def test_resumed(self) -> None:
        """
        Bytes that were there before an attempt began do not count.
        """
        rate = Rate()
        rate.sample(0, 0)
        rate.begin(10, 5_000_000)
        self.assertEqual(rate.value(11, 5_000_010), 10)

    def test_stalled(self) -> None:
        """
        A flow that stops has no rate after the window.
        """
        rate = Rate()
        rate.begin(0, 0)
        rate.sample(1, 100)
        self.assertEqual(rate.value(2, 100), 50)
        self.assertEqual(rate.value(1 + WINDOW, 100), 0)

    def test_restarted(self) -> None:
        """
        When bytes are discarded, the rate begins again and is never negative.
        """
        rate = Rate()
        rate.begin(0, 0)
        rate.sample(1, 1000)
        self.assertEqual(rate.value(2, 10), 5)
        rate.sample(2, 10)
        self.assertEqual(rate.value(3, 110), 100)
        self.assertEqual(Rate().value(1, 5), 0)
