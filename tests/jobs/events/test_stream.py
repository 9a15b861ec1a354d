"""
Tests for L{xferd.jobs.events.stream}, and for how often L{xferd.jobs.events.broker} has
streams read.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.interfaces.jobs import Event, IEventStream
from xferd.jobs.events.broker import READINGS, Broker
from xferd.jobs.events.stream import BATCH, INTERVAL, EventStream
from xferd.jobs.job import Job
from xferd.transfer.eventual import Eventual


def make(kind: str, number: int, *, final: bool = False) -> Event:
    """
    An event.
    """
    return Event(kind, {"n": number}, final)


class EventStreamTests(SynchronousTestCase):
    """
    Tests for L{EventStream}.
    """

    def setUp(self) -> None:
        """
        Open a stream.
        """
        self.clock = Clock()
        self.closed: list[EventStream] = []
        self.stream = EventStream(self.clock, Eventual(self.clock), self.closed.append)

    def read(self, seconds: float = 0.0) -> list[int]:
        """
        Read what must be there after so long, as numbers.
        """
        reading = self.stream.get()
        self.clock.advance(seconds)
        return [event.data["n"] for event in self.successResultOf(reading)]

    def test_interface(self) -> None:
        """
        It provides L{IEventStream}.
        """
        verifyObject(IEventStream, self.stream)

    def test_newest(self) -> None:
        """
        A reader gets the newest item of each subject, the subject that waited
        longest first.
        """
        for subject, number in (("a", 1), ("b", 2), ("a", 3)):
            self.stream.put(subject, lambda number=number: make("job", number))  # type: ignore[misc]
        self.assertEqual(self.read(), [3, 2])

    def test_made_when_read(self) -> None:
        """
        An item takes shape when it is read, not when it is put.
        """
        made = []
        for number in range(3):
            self.stream.put("a", lambda number=number: made.append(number) or make("job", number))  # type: ignore[misc,func-returns-value]
        self.assertEqual(made, [])
        self.assertEqual((self.read(), made), ([2], [2]))

    def test_pause(self) -> None:
        """
        The next reading comes an interval after the last one, and not before.
        """
        self.stream.put("a", lambda: make("job", 1))
        self.read()
        self.stream.put("a", lambda: make("job", 2))
        reading = self.stream.get()
        self.clock.advance(INTERVAL * 0.9)
        self.assertNoResult(reading)
        self.clock.advance(INTERVAL * 0.2)
        self.assertEqual(len(self.successResultOf(reading)), 1)

    def test_last_word(self) -> None:
        """
        A final event is read at once, and a job's after those of its layers.
        """
        self.stream.put("job", lambda: make("job", 1))
        self.read()
        reading = self.stream.get()
        self.clock.advance(0)
        self.stream.put("job", lambda: make("job", 1))
        self.stream.put("layer", lambda: make("layer", 3, final=True))
        self.stream.put("job", lambda: make("job", 2, final=True), final=True)
        self.clock.advance(0)
        self.assertEqual([event.data["n"] for event in self.successResultOf(reading)], [3, 2])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_batches(self) -> None:
        """
        Many items are read in several batches, each in a turn of its own and
        without a pause; the last event of a job is in the last one.
        """
        self.stream.put("job", lambda: make("job", -1))
        for number in range(2 * BATCH):
            self.stream.put(number, lambda number=number: make("layer", number))  # type: ignore[misc]
        self.stream.put("job", lambda: make("job", -2, final=True), final=True)
        first = self.read()
        reading = self.stream.get()
        self.assertNoResult(reading)
        self.clock.advance(0)
        second = [event.data["n"] for event in self.successResultOf(reading)]
        self.assertEqual((len(first), len(second)), (BATCH, BATCH))
        self.assertEqual([*first, *second, *self.read()], [*range(2 * BATCH), -2])

    def test_position(self) -> None:
        """
        The position moves with the last batch, not before.
        """
        stream = EventStream(self.clock, Eventual(self.clock), self.closed.append, now=lambda: "here")
        for number in range(BATCH + 1):
            stream.put(number, lambda number=number: make("layer", number))  # type: ignore[misc]
        self.successResultOf(stream.get())
        self.assertEqual(stream.position, "")
        reading = stream.get()
        self.clock.advance(0)
        self.assertEqual((len(self.successResultOf(reading)), stream.position), (1, "here"))

    def test_broken_item(self) -> None:
        """
        An item that cannot be made is logged and keeps none of the others back.
        """
        self.stream.put("a", lambda: make("job", 1 // 0))
        self.stream.put("b", lambda: make("job", 2))
        self.assertEqual(self.read(), [2])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_one_reader(self) -> None:
        """
        A second reader is refused while one waits.
        """
        reading = self.stream.get()
        self.assertRaises(RuntimeError, self.stream.get)
        self.assertNoResult(reading)

    def test_end(self) -> None:
        """
        After the end, a reader receives the remaining events, then nothing.
        """
        self.stream.put("a", lambda: make("job", 1))
        self.stream.end()
        self.stream.put("a", lambda: make("job", 2))
        self.assertEqual([self.read(), self.read(INTERVAL), self.read(INTERVAL)], [[1], [], []])

    def test_close(self) -> None:
        """
        Closing ends the wait of a reader, and is reported to the broker.
        """
        reading = self.stream.get()
        self.stream.close()
        self.clock.advance(0)
        self.assertEqual((self.successResultOf(reading), self.closed), ([], [self.stream]))

    def test_cancelled(self) -> None:
        """
        A reader that is cancelled, in the pause or behind it, leaves no timer,
        and the next one gets everything.
        """
        self.stream.put("a", lambda: make("job", 1))
        self.read()
        for seconds in (0.0, INTERVAL * 2):
            reading = self.stream.get()
            self.clock.advance(seconds)
            reading.cancel()
            self.failureResultOf(reading, CancelledError)
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.stream.put("a", lambda: make("job", 2))
        self.assertEqual(self.read(), [2])


class IntervalTests(SynchronousTestCase):
    """
    Tests for L{Broker}.
    """

    def follow(self, number: int) -> tuple[Clock, Broker, Job, list[IEventStream]]:
        """
        Have a job followed by many streams, which have all been read.
        """
        clock = Clock()
        news = Broker(clock, Eventual(clock))
        job = Job(
            id="j1",
            number=1,
            kind="pull",
            reference="registry.example/app:latest",
            target=None,
            platform=None,
            client="ci",
            created=0.0,
        )
        streams: list[IEventStream] = [news.follow(job) for _ in range(number)]
        for stream in streams:
            self.successResultOf(stream.get())
        return clock, news, job, streams

    def pause(self, number: int) -> float:
        """
        Seconds until the streams get the next change.
        """
        clock, news, job, streams = self.follow(number)
        news.job_changed(job)
        readings = [stream.get() for stream in streams]
        while not readings[0].called:
            clock.advance(0.01)
        for reading in readings:
            self.successResultOf(reading)
        return clock.seconds()

    def test_few(self) -> None:
        """
        A few streams are read as often as their changes can be drawn.
        """
        self.assertLess(abs(self.pause(3) - INTERVAL), 0.02)

    def test_many(self) -> None:
        """
        Each of many streams is read less often, so that the total cost stays
        the same.
        """
        self.assertLess(abs(self.pause(2 * READINGS) - 2.0), 0.02)

    def test_state_of_many(self) -> None:
        """
        However many streams there are, those on everything report soon that a job has changed,
        also when they wait to report less.
        """
        clock, news, job, _ = self.follow(2 * READINGS)
        pages = [news.follow_all([job], [], []) for _ in range(100)]
        for page in pages:
            self.successResultOf(page.get())
        for page in pages:
            page.put("bytes", lambda: make("job", 1))
        readings = [page.get() for page in pages]
        clock.advance(0.05)
        news.job_changed(job)
        clock.advance(INTERVAL - 0.05)
        for reading in readings:
            self.assertEqual([event.kind for event in self.successResultOf(reading)], ["job", "job"])

    def test_bytes_of_many(self) -> None:
        """
        Bytes that move wait until all streams together were read as often as they may be.
        """
        clock, news, job, _ = self.follow(2 * READINGS)
        page = news.follow_all([job], [], [])
        self.successResultOf(page.get())
        page.put("bytes", lambda: make("job", 1))
        reading = page.get()
        clock.advance(1.9)
        self.assertNoResult(reading)
        clock.advance(0.2)
        self.successResultOf(reading)

    def test_many_left(self) -> None:
        """
        Closed streams do not count.
        """
        clock, news, job, streams = self.follow(2 * READINGS)
        for stream in streams[1:]:
            stream.close()
        news.job_changed(job)
        reading = streams[0].get()
        clock.advance(INTERVAL * 1.1)
        self.successResultOf(reading)
