"""
Tests for L{xferd.webhooks.sender}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.webhooks.case import SECRET, URL, WebhookCase
from tests.webhooks.test_signature import verifier
from xferd.errors import StoreError
from xferd.interfaces.webhooks import Delivery
from xferd.webhooks.sender import BASE, CAP, KEPT, MOST
from xferd.webhooks.settings import WebhookSettings

KEY = WebhookSettings(URL).key


class SenderTests(WebhookCase):
    """
    Messages that are accepted or not.
    """

    def test_accepted(self) -> None:
        """
        A message is sent when the job has ended, with a signature that its receiver can
        verify, and leaves the journal.
        """
        webhooks = self.make()
        self.end()
        ((headers, body),) = self.receiver.messages
        self.assertEqual(headers["content-type"], "application/json")
        self.assertEqual(headers["webhook-id"], f"j1-{KEY}")
        named = {name.title(): value for name, value in headers.items()}
        self.assertTrue(verifier()(SECRET, named, body, self.wall_clock()))
        self.settle()
        self.assertEqual(self.journal.recorded_deliveries, {})
        self.assertEqual(webhooks.figures.attempts, {("hooks.example.com", "delivered"): 1})
        self.assertEqual(webhooks.figures.waiting, {"hooks.example.com": 0})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_repeated(self) -> None:
        """
        A message that is not accepted is sent again with the same ID, after longer delays.
        """
        webhooks = self.make()
        self.receiver.answers = [500, 404, 302]
        with capturedLogs() as events:
            self.end()
        (line,) = [formatEvent(event) for event in events if event.get("event") == "webhook-failed"]
        self.assertIn("webhook of hooks.example.com: message j1-", line)
        self.assertIn("was not accepted: hooks.example.com answers 500; attempt 1, the next in", line)
        self.assertNotIn("s3cr3t", line)
        (kept,) = self.journal.recorded_deliveries.values()
        self.assertEqual(kept.attempts, 1)
        for number, delay in enumerate((BASE, 2 * BASE, 4 * BASE), 1):
            self.settle(delay / 2 - 0.1)
            self.assertEqual(len(self.receiver.messages), number)
            self.settle(delay / 2 + 0.1)
            self.assertEqual(len(self.receiver.messages), number + 1)
        self.assertEqual(len({headers["webhook-id"] for headers, _ in self.receiver.messages}), 1)
        self.settle()
        self.assertEqual(self.journal.recorded_deliveries, {})
        counts = {result: n for (_, result), n in webhooks.figures.attempts.items()}
        self.assertEqual(counts, {"failed": 3, "delivered": 1})

    def test_no_answer(self) -> None:
        """
        A receiver that does not answer is late.
        """
        webhooks = self.make()
        self.receiver.answers = [0]
        self.end()
        self.settle(20.0)
        self.assertEqual(webhooks.figures.attempts, {("hooks.example.com", "failed"): 1})
        self.settle(BASE)
        self.assertEqual(len(self.receiver.messages), 2)
        self.assertEqual(self.journal.recorded_deliveries, {})

    def test_wanted(self) -> None:
        """
        C{Retry-After} is obeyed, up to an hour.
        """
        self.make()
        self.receiver.answers, self.receiver.retry_after = [503], "100"
        self.end()
        self.settle(99.0)
        self.assertEqual(len(self.receiver.messages), 1)
        self.settle(1.0)
        self.assertEqual(len(self.receiver.messages), 2)
        self.receiver.answers, self.receiver.retry_after = [503], "999999"
        self.end(id="j2")
        self.settle(CAP)
        self.assertEqual(len(self.receiver.messages), 4)

    def test_others_first(self) -> None:
        """
        After a failure all wait; then others are sent before a message that is refused
        again and again.
        """
        self.make()
        self.receiver.answers = [400]
        self.end()
        self.end(id="j2")
        self.assertEqual(len(self.receiver.messages), 1)
        self.settle(BASE)
        self.assertEqual([body["data"]["id"] for body in self.bodies()], ["j1", "j2", "j1"])

    def test_given_up(self) -> None:
        """
        After three days, a message is dropped.
        """
        webhooks = self.make()
        self.receiver.answers = [500] * 1000
        self.end()
        with capturedLogs() as events:
            for _ in range(int(KEPT / CAP) + 2):
                self.settle(CAP)
        (line,) = [formatEvent(event) for event in events if event.get("event") == "webhook-dropped"]
        self.assertIn(" is dropped after ", line)
        self.assertEqual(webhooks.figures.attempts["hooks.example.com", "dropped"], 1)
        self.assertEqual(self.journal.recorded_deliveries, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """
        Beyond a number of messages that wait, further ones are dropped at once.
        """
        webhooks = self.make()
        self.receiver.answers = [500]
        (sender,) = webhooks._senders.values()
        sender.add([Delivery(f"m{n}", KEY, 0.0, 0, 1e12) for n in range(MOST)])
        with capturedLogs() as events:
            self.end()
            self.end(id="j2")
        lines = [formatEvent(event) for event in events]
        self.assertEqual(
            lines, ["10000 messages wait for the webhook of hooks.example.com: the end of a job is not sent"]
        )
        self.assertEqual(self.journal.recorded_deliveries, {})
        self.assertEqual(webhooks.figures.attempts["hooks.example.com", "dropped"], 2)

    def test_stop_early(self) -> None:
        """
        A message that waits when the daemon stops is sent by the next one.
        """
        webhooks = self.make()
        self.receiver.answers = [500]
        self.end()
        stopping = Deferred.fromCoroutine(webhooks.stop())
        self.settle()
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.make()
        self.settle(BASE)
        self.assertEqual(len(self.receiver.messages), 2)
        self.assertEqual(self.journal.recorded_deliveries, {})

    def test_stop_late(self) -> None:
        """
        A message that is being sent when the daemon stops stays in the journal.
        """
        webhooks = self.make()
        self.receiver.answers = [0]
        self.end()
        self.assertEqual(len(self.receiver.messages), 1)
        stopping = Deferred.fromCoroutine(webhooks.stop())
        self.settle()
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        (kept,) = self.journal.recorded_deliveries.values()
        self.assertEqual(kept.attempts, 0)
        self.make()
        self.settle()
        ids = [headers["webhook-id"] for headers, _ in self.receiver.messages]
        self.assertEqual(ids, [f"j1-{KEY}"] * 2)

    def test_unreadable(self) -> None:
        """
        If the journal cannot be read, the message waits; if it cannot be written, the next
        daemon sends it again.
        """
        webhooks = self.make()
        self.gate.fail("journal.delivery_body", StoreError("the disk refuses"))
        self.end()
        self.assertEqual(self.receiver.messages, [])
        self.assertEqual(webhooks.figures.attempts, {("hooks.example.com", "failed"): 1})
        self.gate.fail("journal.forget_delivery", StoreError("the disk refuses"))
        self.settle(BASE)
        self.assertEqual(len(self.receiver.messages), 1)
