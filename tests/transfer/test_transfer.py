"""
Tests for L{xferd.transfer.transfer}.
"""

from __future__ import annotations

import gc
from collections.abc import Hashable
from typing import Any
from weakref import ref

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.transfer.case import ONE, Attempt, EngineTests, Recorder, Source, Steered
from xferd.errors import BadLayer
from xferd.interfaces.transfer import IProgressSink
from xferd.transfer.fair_queue import Turn
from xferd.transfer.progress import PULSE, Mailbox
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.transfer import Transfer


class ReportTests(EngineTests):
    """
    Progress.
    """

    def test_snapshot(self) -> None:
        """
        A snapshot has exactly the promised fields.
        """
        attempt = Attempt()
        watcher = self.request(("v2", "a"), attempt.work(), ONE)
        watcher.transfer.report(bytes_done=1000, bytes_total=5000)
        self.clock.advance(2)
        watcher.transfer.report(bytes_done=2000, phase="unpacking")
        self.assertEqual(
            watcher.transfer.snapshot(),
            {
                "id": watcher.transfer.id,
                "key": "v2 a",
                "kind": "download",
                "digest": "sha256:('v2', 'a')",
                "state": "running",
                "watchers": 1,
                "bytes_done": 2000,
                "bytes_total": 5000,
                "rate": 500.0,
                "attempt": 1,
                "streams": 0,
                "source": "one.example/anonymous",
                "until": None,
            },
        )
        self.assertEqual(watcher.transfer.extra, {"phase": "unpacking"})

    def test_log(self) -> None:
        """
        Each end has one line: of one that failed with its error, of a cancelled one without the name
        of a class of Python.
        """
        lines = []
        for name, error in (("a", BadLayer("no tar")), ("b", None)):
            attempt = Attempt()
            watcher = self.request(("v2", name), attempt.work(), ONE)
            _ = watcher.result().addErrback(lambda _: None)
            with capturedLogs() as events:
                if error is None:
                    watcher.release()
                else:
                    attempt.ends[-1].errback(error)
                self.clock.advance(0)
            lines += [formatEvent(event) for event in events if event["log_namespace"].endswith("Transfer")]
        self.assertEqual(
            lines,
            [
                "download of sha256:('v2', 'a') failed: no tar",
                "download of sha256:('v2', 'b') cancelled",
            ],
        )

    def test_no_rate_when_nothing_moves(self) -> None:
        """
        A transfer that does not run has no rate.
        """
        work = Steered()
        watcher = self.request("a", work)
        watcher.transfer.report(bytes_done=0)
        self.clock.advance(1)
        watcher.transfer.report(bytes_done=10)
        self.assertEqual(watcher.transfer.snapshot()["rate"], 10)
        work.ends[0].callback(None)
        self.assertEqual(watcher.transfer.snapshot()["rate"], 0)

    def test_reports_are_gathered(self) -> None:
        """
        A thousand reports put one item, soon after the first.
        """
        sink = Recorder()
        watcher = self.request("a", Steered(), sink=sink)
        before = len(sink.items)
        for n in range(1000):
            watcher.transfer.report(bytes_done=n)
        self.assertEqual(len(sink.items), before)
        self.clock.advance(PULSE)
        self.assertEqual([i["bytes_done"] for i in sink.items[before:]], [999])

    def test_late_watcher(self) -> None:
        """
        A late watcher gets the present state at once.
        """
        watcher = self.request("a", Steered())
        watcher.transfer.report(bytes_done=77)
        sink = Recorder()
        self.manager.request("a", Steered(), digest="d", turn=Turn("c", 0, 0, 0), sink=sink)
        self.assertEqual([i["bytes_done"] for i in sink.items], [77])

    def test_watchers_are_reported(self) -> None:
        """
        Watchers are notified soon when others arrive and leave.
        """
        sink = Recorder()
        self.request("a", Steered(), sink=sink)
        others = [self.request("a", Steered()) for _ in range(3)]
        self.clock.advance(PULSE)
        self.assertEqual(sink.items[-1]["watchers"], 4)
        others[0].release()
        self.clock.advance(PULSE)
        self.assertEqual(sink.items[-1]["watchers"], 3)

    def test_late_report(self) -> None:
        """
        A report after the end changes nothing.
        """
        work = Steered()
        watcher = self.request("a", work)
        work.ends[0].callback(None)
        watcher.transfer.report(bytes_done=5, bytes_total=6, phase="late")
        self.assertEqual((watcher.transfer.bytes_done, watcher.transfer.extra), (0, {}))

    def test_final_once(self) -> None:
        """
        Each watcher gets the final item once, also one that arrives later; no
        item follows it, and no timer is left.
        """
        work = Steered()
        sinks = [Recorder() for _ in range(3)]
        watcher = self.request("a", work, sink=sinks[0])
        self.request("a", work, sink=sinks[1])
        watcher.transfer.report(bytes_done=5)
        work.ends[0].callback(None)
        watcher.transfer.report(bytes_done=5)
        watcher.transfer.enter("running")
        self.request("a", work, sink=sinks[2])
        self.clock.advance(1)
        self.assertEqual([s.finals() for s in sinks], [1, 1, 1])
        self.assertTrue(all(s.items[-1]["state"] == "done" for s in sinks))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_released_watcher_is_not_notified(self) -> None:
        """
        After its release the sink of a watcher gets nothing more.
        """
        work, sink = Steered(), Recorder()
        self.request("a", work)
        self.request("a", work, sink=sink).release()
        before = len(sink.items)
        work.ends[0].callback(None)
        self.turn()
        self.assertEqual(len(sink.items), before)

    def test_bad_sink(self) -> None:
        """
        A sink that raises is logged; the others get their items.
        """

        @implementer(IProgressSink)
        class Bad:
            def put(self, key: Hashable, item: Any) -> None:
                raise ZeroDivisionError

        sink = Recorder()
        verifyObject(IProgressSink, sink)
        self.request("a", Steered(), sink=Bad())
        self.request("a", Steered(), sink=sink)
        self.assertEqual(sink.states(), ["running"])
        self.assertGreaterEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_made_when_first_used(self) -> None:
        """
        A transfer that makes no attempts, holds no slot and reports no bytes,
        as a registration, has no objects for them.
        """
        watcher = self.request("a", Steered(), Source())
        transfer = watcher.transfer
        self.assertEqual((transfer._attempts, transfer._request, transfer._activity), (None, None, None))
        snapshot = transfer.snapshot()
        self.assertEqual(
            (snapshot["source"], snapshot["attempt"], snapshot["rate"]), ("one.example/anonymous", 0, 0.0)
        )
        self.assertEqual(transfer.sources, [Source()])

    def test_done(self) -> None:
        """
        A transfer that is done holds neither its work nor the objects of its
        attempts.  Its snapshot has the last attempt and its source; sources come
        and go.
        """
        attempt = Attempt()
        work = attempt.work()
        watcher = self.request("a", work, ONE)
        transfer = watcher.transfer
        transfer.report(bytes_done=7)
        before = transfer.snapshot()
        attempt.ends[0].callback("value")
        self.turn()
        self.assertEqual((transfer._attempts, transfer._request, transfer._activity), (None, None, None))
        self.assertNotIn(work, gc.get_referents(vars(transfer)))
        self.assertEqual(transfer.snapshot(), {**before, "state": "done", "rate": 0.0})
        late = self.request("a", Steered(), Source("two.example"))
        self.assertIs(late.transfer, transfer)
        watcher.release()
        self.assertEqual(self.successResultOf(late.result()), "value")
        snapshot = transfer.snapshot()
        self.assertEqual((snapshot["source"], snapshot["attempt"]), ("one.example/anonymous", 1))
        late.release()

    def test_no_cycle(self) -> None:
        """
        What a transfer drops when it is done is freed at once, and not by the garbage
        collector.
        """
        attempt = Attempt()
        watcher = self.request("a", attempt.work(), ONE)
        dropped: list[ref[Any]] = [ref(watcher.transfer._attempts), ref(watcher.transfer._request)]
        gc.disable()
        self.addCleanup(gc.enable)
        attempt.ends[0].callback("value")
        self.turn()
        self.assertEqual(watcher.transfer.state, "done")
        self.assertEqual([each() for each in dropped], [None, None])
        watcher.release()

    def test_mailbox(self) -> None:
        """
        The reader of a mailbox gets snapshots.
        """
        work, mailbox = Steered(), Mailbox(self.clock)
        watcher = self.request("a", work, sink=mailbox)
        self.assertEqual(self.successResultOf(mailbox.get()), [watcher.transfer.snapshot()])
        d = mailbox.get()
        work.ends[0].callback(None)
        self.turn()
        self.assertEqual([i["state"] for i in self.successResultOf(d)], ["done"])

    def test_wait(self) -> None:
        """
        Work that waits reports its reason, and is in its former state
        afterwards, however the wait ended.
        """
        parent: Deferred[None] = Deferred()

        async def work(transfer: Transfer) -> None:
            try:
                with transfer.wait(Obstacle.WORK, "waiting for the parent layer"):
                    await parent
            except BadLayer:
                await Deferred()

        watcher = self.request("a", work)
        self.assertEqual(watcher.transfer.state, "waiting")
        self.assertEqual(
            watcher.transfer.reason(), Reason(Obstacle.WORK, detail="waiting for the parent layer")
        )
        parent.errback(BadLayer("a bomb"))
        self.assertEqual((watcher.transfer.state, watcher.transfer.reason()), ("running", NO_REASON))
