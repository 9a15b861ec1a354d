"""
Tests for L{xferd.webhooks.webhooks}.
"""

from __future__ import annotations

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.webhooks.case import URL, WebhookCase
from xferd.errors import ConfigError
from xferd.interfaces.webhooks import Delivery
from xferd.webhooks.settings import WebhookSettings


class MessageTests(WebhookCase):
    """
    The messages for the end of a job.
    """

    def test_body(self) -> None:
        """
        A message has the job without its layers.
        """
        self.make()
        self.end(state="failed", error={"code": "DENIED", "message": "no"})
        (body,) = self.bodies()
        self.assertEqual((body["type"], body["timestamp"]), ("job.failed", "2026-01-02T03:04:07Z"))
        job = body["data"]
        self.assertEqual((job["id"], job["error"]["code"], job["timing"]), ("j1", "DENIED", None))
        self.assertNotIn("layers", job)

    def test_once(self) -> None:
        """
        A job that is recorded again after its end has one message; one that has not ended
        has none.
        """
        self.make()
        self.end(state="running")
        self.assertEqual(self.receiver.messages, [])
        self.end(state="cancelled")
        self.end(state="cancelled")
        self.end(state="cancelled")
        self.assertEqual([body["type"] for body in self.bodies()], ["job.cancelled"])
        self.assertEqual(self.journal.recorded_deliveries, {})

    def test_filters(self) -> None:
        """
        Each receiver gets the jobs of its kinds that end in its states.
        """
        one = WebhookSettings(URL, self.secret_file, states=("failed",))
        two = WebhookSettings(f"{URL}/2", self.secret_file, kinds=("push", "copy"))
        webhooks = self.make(one, two)
        for number, (kind, state) in enumerate(
            (("pull", "done"), ("pull", "failed"), ("push", "done"), ("copy", "failed"), ("verify", "done"))
        ):
            self.end(id=f"j{number}", kind=kind, state=state)
        sent = sorted(headers["webhook-id"] for headers, _ in self.receiver.messages)
        self.assertEqual(sent, sorted([f"j1-{one.key}", f"j3-{one.key}", f"j2-{two.key}", f"j3-{two.key}"]))
        self.assertEqual(webhooks.figures.attempts, {("hooks.example.com", "delivered"): 4})

    def test_earlier(self) -> None:
        """
        The messages of an earlier daemon are sent; those for a receiver that is not in the
        settings any more are dropped.
        """
        settings = WebhookSettings(URL, self.secret_file)
        kept = Delivery("j0-x", settings.key, self.wall_clock(), 3, 0.0, '{"data": {}}')
        self.journal.recorded_deliveries = {"j0-x": kept, "j0-y": evolve(kept, id="j0-y", hook="other")}
        with capturedLogs() as events:
            self.make(settings)
        self.settle()
        self.assertEqual([headers["webhook-id"] for headers, _ in self.receiver.messages], ["j0-x"])
        self.assertEqual(self.journal.recorded_deliveries, {})
        self.assertEqual(
            [formatEvent(event) for event in events],
            ["1 messages for webhooks that the settings do not name any more are dropped"],
        )

    def test_stopped(self) -> None:
        """
        The end of a job after the stop is recorded with its message, which is not sent.
        """
        webhooks = self.make()
        stopping = Deferred.fromCoroutine(webhooks.stop())
        self.settle()
        self.successResultOf(stopping)
        self.end()
        self.assertEqual(self.receiver.messages, [])
        self.assertEqual(list(self.journal.recorded_deliveries), [f"j1-{WebhookSettings(URL).key}"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_files(self) -> None:
        """
        Files that cannot be read are errors in the settings.
        """
        missing = self.mktemp()
        for settings, message in (
            (
                WebhookSettings(URL, missing),
                f"cannot read the secret of the webhook of hooks.example.com in {missing}",
            ),
            (
                WebhookSettings(URL, self.secret_file, ca_file=missing),
                f"cannot read the certificates in {missing}",
            ),
        ):
            error = self.assertRaises(ConfigError, self.make, settings)
            self.assertIn(message, str(error))
