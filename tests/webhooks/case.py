"""
A receiver of webhooks in memory, and a journal.
"""

from __future__ import annotations

import json
import os
from typing import Any

from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from xferd.testing.fake_journal import FakeJournal
from xferd.testing.fakes import FakeWallClock
from xferd.testing.gate import Gate
from xferd.webhooks.settings import WebhookSettings
from xferd.webhooks.webhooks import Webhooks

SECRET = b"0123456789abcdef0123456789abcdef"
URL = "https://hooks.example.com/T0/s3cr3t"

RECORD: dict[str, Any] = {
    "id": "j1",
    "kind": "pull",
    "state": "done",
    "reference": "docker.io/library/alpine:latest",
    "created": "2026-01-02T03:04:05Z",
    "finished": "2026-01-02T03:04:07Z",
    "layers": [{"digest": "sha256:1"}],
    "transfers": ["t1"],
}


class Receiver(Resource):
    """
    Takes messages.

    @ivar answers: the statuses of the next answers; 200 when there are no more, and 0 for
        no answer.
    @ivar messages: the headers and the body of each message, in order.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[int] = []
        self.retry_after: str | None = None
        self.messages: list[tuple[dict[str, str], bytes]] = []

    def render_POST(self, request: Request) -> int | bytes:
        """
        Take a message.
        """
        assert request.content is not None
        raw = request.requestHeaders.getAllRawHeaders()
        headers = {name.decode().lower(): values[0].decode() for name, values in raw}
        self.messages.append((headers, request.content.read()))
        status = self.answers.pop(0) if self.answers else 200
        if not status:
            return NOT_DONE_YET
        request.setResponseCode(status)
        if self.retry_after is not None:
            request.setHeader("Retry-After", self.retry_after)
        if status == 302:
            request.setHeader("Location", "https://elsewhere.example/")
        return b""


class WebhookCase(SynchronousTestCase):
    """
    A receiver, and what sends to it.
    """

    def setUp(self) -> None:
        """
        Make both.
        """
        self.clock = Clock()
        self.wall_clock = FakeWallClock(self.clock)
        self.gate = Gate(self.clock)
        self.journal = FakeJournal(self.gate)
        self.receiver = Receiver()
        self.secret_file = self.mktemp()
        with open(self.secret_file, "wb", opener=_private) as file:
            file.write(SECRET + b"\n")

    def make(self, *settings: WebhookSettings) -> Webhooks:
        """
        Make webhooks and start them.
        """
        self.agent = RequestTraversalAgent(self.receiver)
        webhooks = Webhooks(
            settings or (WebhookSettings(URL, self.secret_file),),
            self.journal,
            clock=self.clock,
            wall_clock=self.wall_clock,
            agent=self.agent,
        )
        starting = Deferred.fromCoroutine(webhooks.start())
        self.settle()
        self.successResultOf(starting)
        return webhooks

    def settle(self, seconds: float = 0.0) -> None:
        """
        Let time pass, and requests be answered.
        """
        self.clock.advance(seconds)
        for _ in range(10):
            self.clock.advance(0)
            self.agent.flush()

    def end(self, **members: Any) -> None:
        """
        Record the end of a job.
        """
        recording = self.journal.record_job({**RECORD, **members})
        self.settle()
        self.successResultOf(recording)

    def bodies(self) -> list[dict[str, Any]]:
        """
        The messages that have arrived.
        """
        return [json.loads(body) for _, body in self.receiver.messages]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
