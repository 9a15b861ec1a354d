"""
Tests for L{xferd.web.event_response}: streams of events through the whole server.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.web.connection import Connection, unchunk
from tests.web.fakes import FakeStream, job
from tests.web.world import World
from xferd.interfaces.jobs import Event
from xferd.web.event_response import (
    GRACE,
    JSON_LINES,
    MAX_STREAMS,
    PIECE,
    SERVER_SENT,
    EventResponse,
    EventTimes,
)

ONE = Event("job", job(id="j1", state="running"))
LAST = Event("job", job(id="j1", state="done"), final=True)
TIMES = EventTimes()


class FeedTests(SynchronousTestCase):
    """
    Following events.
    """

    def setUp(self) -> None:
        """
        Make a server with one job.
        """
        self.world = World()
        self.addCleanup(self.world.close)
        self.world.jobs.known["j1"] = job(id="j1")

    def follow(self, path: str = "/api/v1/events", accept: str = "*/*") -> tuple[Connection, FakeStream]:
        """
        Start to follow.
        """
        connection = self.world.connect()
        connection.send("GET", path, {"Host": "localhost", "Accept": accept})
        return connection, self.world.jobs.streams[-1][1]

    def test_producer(self) -> None:
        """
        An event response has a push producer, which the transport pauses.
        """
        self.follow()
        (feed,) = self.world.web._events._open
        self.assertTrue(verifyObject(IPushProducer, feed._flow))
        self.assertIsInstance(feed, EventResponse)

    def test_server_sent_events(self) -> None:
        """
        Events are sent with kind and data, at once, and each batch as it
        arrives.
        """
        self.world.jobs.present = [ONE]
        connection, stream = self.follow()
        answer = connection.answer()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["content-type"], "text/event-stream; charset=utf-8")
        self.assertEqual(answer.headers["cache-control"], "no-store")
        opening, event, rest = answer.body.split(b"\n\n")
        self.assertEqual(opening, b"retry: 2000")
        kind, data = event.split(b"\n")
        self.assertEqual(kind, b"event: job")
        self.assertEqual(json.loads(data.removeprefix(b"data: ")), ONE.data)
        self.assertEqual(rest, b"")
        stream.tell(LAST)
        self.assertIn(b'"state":"done"', connection.received())

    def test_json_lines(self) -> None:
        """
        A client that accepts JSON lines receives them, with the mark of the
        last event.
        """
        self.world.jobs.present = [ONE, LAST]
        connection, _ = self.follow("/api/v1/jobs/j1/events", "application/x-ndjson")
        answer = connection.answer()
        self.assertEqual(answer.headers["content-type"], "application/x-ndjson")
        self.assertEqual(
            [json.loads(line) for line in answer.body.splitlines()],
            [{"kind": "job", "data": e.data, "final": e.final} for e in (ONE, LAST)],
        )
        self.assertEqual(self.world.jobs.streams[0][0], "j1")

    def test_ids(self) -> None:
        """
        Only the last event of a batch has the id after the batch; the id of an
        earlier one leads to the beginning of the batch.
        """
        self.world.jobs.present = [ONE, ONE, ONE]
        for accept in ("*/*", "application/x-ndjson"):
            connection = self.world.connect()
            connection.send(
                "GET", "/api/v1/events", {"Host": "localhost", "Accept": accept, "Last-Event-ID": "a-1"}
            )
            answer = connection.answer()
            self.assertEqual(answer.headers["xferd-resumed"], "true")
            stream = self.world.jobs.streams[-1][1]
            stream.reached = "a-2"
            stream.tell(ONE, ONE)
            received = unchunk(connection.received())
            if accept == "*/*":
                self.assertEqual(answer.body.count(b"id: a-1\nevent: job\n"), 3)
                self.assertEqual(received.count(b"id: a-1\nevent: job\n"), 1)
                self.assertEqual(received.count(b"id: a-2\nevent: job\n"), 1)
            else:
                self.assertEqual([json.loads(line)["id"] for line in received.splitlines()], ["a-1", "a-2"])

    def test_no_ids(self) -> None:
        """
        Before the present state is complete, no event has an id.
        """
        self.world.jobs.present = [ONE]
        connection, _ = self.follow()
        answer = connection.answer()
        self.assertEqual(answer.headers["xferd-resumed"], "false")
        self.assertNotIn(b"id:", answer.body.partition(b"data:")[0])

    def test_end(self) -> None:
        """
        When the stream ends, the response ends, and the connection stays open.
        """
        connection, stream = self.follow("/api/v1/jobs/j1/events")
        stream.tell(LAST)
        connection.received()
        stream.close()
        self.assertTrue(connection.received().endswith(b"0\r\n\r\n"))
        connection.send("GET", "/healthz", {"Host": "localhost"})
        self.assertEqual(connection.answer().status, 200)
        self.assertEqual(self.world.web._events._open, {})

    def test_http_10(self) -> None:
        """
        A client of HTTP/1.0 receives the same bytes without chunks, and then
        the connection is closed.
        """
        connection = self.world.connect()
        connection.protocol.dataReceived(b"GET /api/v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        stream = self.world.jobs.streams[-1][1]
        stream.tell(ONE)
        self.assertTrue(connection.received().endswith(b"}\n\n"))
        stream.close()
        self.assertTrue(connection.transport.disconnecting)

    def test_heartbeat(self) -> None:
        """
        A heartbeat is sent every 15 seconds without events: a comment, or an
        empty line.
        """
        for accept, sign in [("text/event-stream", b":\n\n"), ("application/x-ndjson", b"\n")]:
            connection, _ = self.follow(accept=accept)
            connection.received()
            for _ in range(3):
                self.world.clock.advance(TIMES.heartbeat)
                self.assertEqual(unchunk(connection.received()), sign)

    def test_left_while_waiting(self) -> None:
        """
        A client that disconnects while no events arrive closes its stream at
        once, and leaves no timer.
        """
        connection, stream = self.follow()
        connection.lose()
        self.assertEqual((stream.closed, stream.cancelled), (1, 1))
        self.assertEqual(self.world.web._events._open, {})
        self.assert_no_timers()

    def test_left_while_paused(self) -> None:
        """
        A client that disconnects without having read closes its stream as well.
        """
        connection, stream = self.follow()
        connection.pause()
        stream.tell(ONE)
        connection.lose()
        self.assertEqual(stream.closed, 1)
        self.assert_no_timers()

    def test_lost_without_word(self) -> None:
        """
        The same holds for a transport that does not stop its producers.
        """
        connection, stream = self.follow()
        connection.transport.producer = None
        connection.lose()
        self.assertEqual((stream.closed, stream.cancelled), (1, 1))
        self.assert_no_timers()

    def assert_no_timers(self) -> None:
        """
        Check that no event response has left a timer.
        """
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def test_slow_reader(self) -> None:
        """
        While a client reads slowly, no events are requested: the stream keeps
        them until the transport accepts more.
        """
        connection, stream = self.follow()
        connection.pause()
        stream.tell(ONE)
        connection.received()
        stream.tell(LAST)
        self.world.clock.advance(TIMES.heartbeat)
        self.assertEqual((stream.asked, connection.received()), (1, b""))
        connection.resume()
        self.assertEqual(unchunk(connection.received()).count(b"event: job"), 2)
        self.world.clock.advance(TIMES.stall)
        self.assertFalse(connection.cut)

    def test_large_state(self) -> None:
        """
        A large present state is written in pieces, as far as the transport
        accepts them.
        """
        events = [Event("transfer", {"id": f"t{i}", "why": "x" * 200}) for i in range(1000)]
        connection, stream = self.follow()
        written: list[int] = []
        write = connection.transport.write

        def count(data: bytes) -> None:
            written.append(len(data))
            write(data)
            connection.pause()

        self.patch(connection.transport, "write", count)
        self.patch(connection.transport, "writeSequence", lambda parts: count(b"".join(parts)))
        connection.received()
        stream.tell(*events)
        self.assertEqual(len(written), 1)
        self.assertLess(written[0], PIECE + 1000)
        while connection.transport.value().count(b"event: ") < 1000:
            connection.resume()
        self.assertLess(max(written), PIECE + 1000)
        self.assertGreater(len(written), 5)

    def test_stalled_reader(self) -> None:
        """
        A client that reads nothing for a minute is disconnected.
        """
        connection, _stream = self.follow()
        connection.pause()
        connection.pause()
        self.world.clock.advance(TIMES.stall - 1)
        self.assertFalse(connection.cut)
        self.world.clock.advance(1)
        self.assertTrue(connection.cut)
        connection.lose()
        self.assertEqual(self.world.web._events._open, {})

    def test_broken_stream(self) -> None:
        """
        An error of the stream cuts the connection, so that the client does not
        take the response for complete.
        """
        connection, stream = self.follow()
        stream.fail(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(connection.cut)
        self.assertEqual(stream.closed, 1)
        self.assertEqual(self.world.web._events._open, {})

    def test_too_many(self) -> None:
        """
        The streams of one client leave some to others, those over TCP leave
        some to the unix socket, and there is a limit for all.
        """

        def follow(**where: Any) -> int:
            """
            Open streams until one is refused.

            @return: the number of open streams.
            """
            for count in range(MAX_STREAMS + 1):
                connection = self.world.connect(**where)
                connection.send("GET", "/api/v1/events", {"Host": "localhost"})
                if b"503" in connection.received()[:20]:
                    return count
            raise AssertionError("none is refused")

        self.assertEqual(follow(peer="192.0.2.1"), MAX_STREAMS // 2)
        self.assertEqual(follow(peer="192.0.2.2"), MAX_STREAMS // 4)
        self.assertEqual(follow(peer="192.0.2.3"), 0)
        self.assertEqual(follow(unix=True), MAX_STREAMS // 4)
        answer = self.world.ask("GET", "/api/v1/events", unix=True)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (503, "SERVICE_UNAVAILABLE"))
        self.assertEqual(len(self.world.jobs.streams), MAX_STREAMS)
        self.world.connections[0].lose()
        self.assertEqual(follow(unix=True), 1)


class StopTests(SynchronousTestCase):
    """
    The end of the daemon.
    """

    def setUp(self) -> None:
        """
        Follow events.
        """
        self.world = World()
        self.addCleanup(self.world.close)
        self.connection = self.world.connect()
        self.connection.send("GET", "/api/v1/events", {"Host": "localhost"})
        self.stream = self.world.jobs.streams[0][1]

    def test_waiting(self) -> None:
        """
        Waiting event responses end at once, and completely.
        """
        self.successResultOf(self.world.web.stop())
        self.assertTrue(self.connection.received().endswith(b"0\r\n\r\n"))
        self.assertEqual(self.stream.closed, 2)

    def test_twice(self) -> None:
        """
        A second call of stop also waits.
        """
        self.connection.pause()
        self.stream.tell(ONE)
        first, second = self.world.web.stop(), self.world.web.stop()
        self.assertNoResult(first)
        self.connection.resume()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertNotIn(GRACE, [call.getTime() for call in self.world.clock.getDelayedCalls()])

    def test_last_news(self) -> None:
        """
        Events that are pending are sent before the end.
        """
        self.connection.pause()
        self.stream.tell(ONE)
        self.stream.tell(LAST)
        stopped = self.world.web.stop()
        self.assertNoResult(stopped)
        self.connection.resume()
        self.successResultOf(stopped)
        received = self.connection.received()
        self.assertIn(b'"state":"done"', received)
        self.assertTrue(received.endswith(b"0\r\n\r\n"))

    def test_stalled(self) -> None:
        """
        A client that does not read delays the end of the daemon only for a
        limited time.
        """
        self.connection.pause()
        self.stream.tell(ONE)
        stopped = self.world.web.stop()
        self.world.clock.advance(GRACE)
        self.assertTrue(self.connection.cut)
        self.assertNoResult(stopped)
        self.connection.lose()
        self.successResultOf(stopped)

    def test_refused(self) -> None:
        """
        No new client may follow events.
        """
        self.successResultOf(self.world.web.stop())
        self.assertEqual(self.world.ask("GET", "/api/v1/events").status, 503)


class FormTests(SynchronousTestCase):
    """
    The encoding of events.
    """

    @settings(max_examples=50)
    @given(st.text())
    def test_one_line(self, text: str) -> None:
        """
        No text of a registry can add a line.
        """
        event = Event("layer", {"why": text})
        sent = SERVER_SENT.encode(event, "")
        self.assertEqual(len(sent.splitlines()), 3)
        self.assertEqual(json.loads(sent.splitlines()[1].removeprefix(b"data: ")), {"why": text})
        line = JSON_LINES.encode(event, "")
        self.assertEqual(len(line.decode().splitlines()), 1)
        self.assertEqual(json.loads(line)["data"], {"why": text})
