"""
Tests for L{xferd.web.status_events}, and for the streams that have them.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.web.connection import Connection, unchunk
from tests.web.world import World
from xferd.interfaces.jobs import Event
from xferd.web.status_events import INTERVAL, StatusEvents


class Reader:
    """
    A follower.

    @ivar events: what it was shown, each once.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def show(self, event: Event) -> None:
        """
        Keep an event.
        """
        if not self.events or event is not self.events[-1]:
            self.events.append(event)


class StatusEventsTests(SynchronousTestCase):
    """
    The state as events.
    """

    def setUp(self) -> None:
        """
        Make a state.
        """
        self.clock = Clock()
        self.state: dict[str, Any] = {"jobs": 0, "disk": {"free": 400_000, "total": 1_000_000}}
        self.others: list[int] = []
        self.looks = 0
        self.status = StatusEvents(self.clock, self.look, lambda: tuple(self.others))

    def look(self) -> dict[str, Any]:
        """
        Make the state.
        """
        self.looks += 1
        return dict(self.state)

    def test_changes(self) -> None:
        """
        A follower gets the state at once, and again when it has changed, or something beside it.
        """
        reader = Reader()
        self.status.add(reader)
        self.assertEqual([event.data["jobs"] for event in reader.events], [0])
        for _ in range(3):
            self.clock.advance(INTERVAL)
        self.assertEqual(len(reader.events), 1)
        self.state["jobs"] = 1
        self.clock.advance(INTERVAL)
        self.others.append(1)
        self.clock.advance(INTERVAL)
        self.assertEqual(
            [(event.kind, event.data["jobs"]) for event in reader.events[1:]], [("status", 1)] * 2
        )

    def test_disk(self) -> None:
        """
        A few bytes of the disk are no change; a thousandth of it is one.
        """
        reader = Reader()
        self.status.add(reader)
        for free, count in ((400_900, 1), (401_000, 2), (None, 3)):
            self.state["disk"] = {"free": free, "total": 1_000_000}
            self.clock.advance(INTERVAL)
            self.assertEqual(len(reader.events), count)

    def test_shared(self) -> None:
        """
        However many follow, the state is made once a second, and one event is for all.
        """
        readers = [Reader() for _ in range(100)]
        for reader in readers:
            self.status.add(reader)
        self.assertEqual(self.looks, 1)
        self.state["jobs"] = 1
        self.clock.advance(INTERVAL)
        self.assertEqual(self.looks, 2)
        self.assertEqual(len({id(event) for reader in readers for event in reader.events}), 2)

    def test_nobody(self) -> None:
        """
        When the last follower has left, nothing is made any more; the next one gets the state of
        that time.
        """
        first, second = Reader(), Reader()
        self.status.add(first)
        self.status.remove(first)
        self.status.remove(first)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.state["jobs"] = 5
        self.status.add(second)
        self.assertEqual([event.data["jobs"] for event in second.events], [5])


class StreamTests(SynchronousTestCase):
    """
    The stream of all subjects, with the state.
    """

    def setUp(self) -> None:
        """
        Make a server.
        """
        self.world = World()
        self.addCleanup(self.world.close)

    def follow(self, query: str) -> Connection:
        """
        Open a stream.
        """
        connection = self.world.connect()
        headers = {"Host": "localhost", "Accept": "application/x-ndjson"}
        connection.send("GET", f"/api/v1/events{query}", headers)
        return connection

    @staticmethod
    def events(body: bytes) -> list[Any]:
        """
        The events of a body.
        """
        return [json.loads(line) for line in body.splitlines() if line]

    def test_status(self) -> None:
        """
        The state comes at first, and when it has changed, without an id.
        """
        connection = self.follow("?events=status")
        (event,) = self.events(connection.answer().body)
        status = self.world.ask("GET", "/api/v1/status").json()
        # Other programs use the disk, too.
        status["disk"]["free"] = event["data"]["disk"]["free"]
        self.assertEqual(event, {"kind": "status", "data": status, "final": False})
        self.world.clock.advance(INTERVAL)
        self.assertEqual(connection.received(), b"")
        self.world.jobs.more = {"bytes_fetched": 77}
        self.world.clock.advance(INTERVAL)
        (event,) = self.events(unchunk(connection.received()))
        self.assertEqual(event["data"]["bytes_fetched"], 77)
        self.world.memory.answered("ghcr.io", None, None)
        self.world.clock.advance(INTERVAL)
        (event,) = self.events(unchunk(connection.received()))
        self.assertEqual(event["data"]["bytes_fetched"], 77)

    def test_unasked(self) -> None:
        """
        A client that did not ask gets no state, and nothing is made for it.
        """
        connection = self.follow("")
        self.world.jobs.more = {"bytes_fetched": 77}
        self.world.clock.advance(INTERVAL)
        self.assertEqual(self.events(unchunk(connection.received().partition(b"\r\n\r\n")[2])), [])

    def test_slow(self) -> None:
        """
        A client that does not keep up gets the newest state alone, when it does again.
        """
        connection = self.follow("?events=status")
        connection.answer()
        (response,) = self.world.web._events._open
        response._flow.pauseProducing()
        for number in (77, 78):
            self.world.jobs.more = {"bytes_fetched": number}
            self.world.clock.advance(INTERVAL)
        self.assertEqual(connection.received(), b"")
        response._flow.resumeProducing()
        self.world.clock.advance(INTERVAL)
        (event,) = self.events(unchunk(connection.received()))
        self.assertEqual(event["data"]["bytes_fetched"], 78)

    def test_left(self) -> None:
        """
        When the client has left, nothing is made any more.
        """
        self.follow("?events=status").lose()
        self.assertEqual([call for call in self.world.clock.getDelayedCalls() if call.getTime() <= 2], [])

    def test_refused(self) -> None:
        """
        Another value is refused.
        """
        answer = self.world.ask("GET", "/api/v1/events?events=all")
        self.assertEqual(answer.status, 400)
        self.assertIn("'events' must be 'status'", answer.json()["error"]["message"])

    def test_history(self) -> None:
        """
        The bytes of the last hour are those that the jobs report.
        """
        shown = self.world.ask("GET", "/api/v1/history").json()
        self.assertEqual((shown["received"], shown["clients"]), ([0, 400_000_000], {"ci": 5}))
