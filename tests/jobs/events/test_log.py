"""
Tests for L{xferd.jobs.events.log}, and for streams that continue from a
position.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.jobs.case import HOST, JobsCase
from xferd.interfaces.jobs import Event, IEventStream
from xferd.jobs.events.log import MAX_REMOVED, MAX_TRANSFERS, ChangeLog
from xferd.testing.images import sample_image


class ResumeTests(JobsCase):
    """
    A client that returns.
    """

    def news(self, stream: IEventStream) -> list[Event]:
        """
        Read the present events.
        """
        getting: Deferred[list[Event]] = stream.get()
        self.settle()
        if getting.called:
            return self.successResultOf(getting)
        getting.cancel()
        self.failureResultOf(getting)
        return []

    def told(self, position: str | None, job_id: str | None = None) -> tuple[bool, set[str]]:
        """
        The events after a position: whether the stream continues, and the kinds
        of the events, with the ids of jobs.
        """
        stream = self.jobs.events(job_id, position)
        resumed, events = stream.resumed, self.news(stream)
        stream.close()
        kinds = {e.data["id"] if e.kind == "job" else e.kind for e in events}
        return resumed, kinds

    def here(self, job_id: str | None = None) -> str:
        """
        The position of a client that has seen everything.
        """
        stream = self.jobs.events(job_id)
        self.assertEqual((stream.position, stream.resumed), ("", False))
        self.news(stream)
        stream.close()
        return str(stream.position)

    def test_nothing(self) -> None:
        """
        Where nothing has changed, the stream has no event.
        """
        self.add(sample_image(1))
        self.pulled()
        self.assertEqual(self.told(self.here()), (True, set()))

    def test_changes(self) -> None:
        """
        The stream has what has changed: a new job, with its transfers and its
        image; and nothing else.
        """
        for name in ("one", "two"):
            self.add(sample_image(1, seed=name), name)
        first = self.pulled("one")["id"]
        position = self.here()
        second = self.pulled("two")["id"]
        resumed, told = self.told(position)
        self.assertTrue(resumed)
        self.assertEqual(told, {second, "layer", "transfer", "image"})
        self.assertNotIn(first, told)
        stream = self.jobs.events(None, position)
        events = self.news(stream)
        transfers = [e.data["state"] for e in events if e.kind == "transfer"]
        self.assertEqual(set(transfers), {"done"})
        self.assertEqual([e.data["reference"] for e in events if e.kind == "image"], [f"{HOST}/two:latest"])
        self.assertEqual(self.told(str(stream.position)), (True, set()))

    def removals(self, position: str) -> list[tuple[str, bool]]:
        """
        The events of images for a client that returns: their names, and whether
        they were removed.
        """
        stream = self.jobs.events(None, position)
        self.assertTrue(stream.resumed)
        events = [e for e in self.news(stream) if e.kind == "image"]
        stream.close()
        return [(e.data["reference"], "removed" in e.data) for e in events]

    def remove(self, name: str) -> None:
        """
        Remove an image.
        """
        removing = self.jobs.image_admin.remove(f"{HOST}/{name}")
        self.settle()
        self.successResultOf(removing)

    def test_removed(self) -> None:
        """
        An image that was removed meanwhile is reported as removed, once; a
        stream that starts over does not have it.
        """
        for name in ("one", "two"):
            self.add(sample_image(1, seed=name), name)
            self.pulled(name)
        before = self.here()
        self.remove("one")
        self.assertEqual(self.removals(before), [(f"{HOST}/one:latest", True)])
        after = self.here()
        self.assertEqual(self.removals(after), [])
        self.remove("two")
        self.assertEqual(self.removals(after), [(f"{HOST}/two:latest", True)])
        self.assertEqual(len(self.removals(before)), 2)
        self.assertNotIn("image", self.told(None)[1])

    def test_named_again(self) -> None:
        """
        An image that was removed and named again is reported in its present
        state.
        """
        self.add(sample_image(1))
        self.pulled()
        before = self.here()
        self.remove("app")
        between = self.here()
        self.pulled()
        for position in (before, between):
            self.assertEqual(self.removals(position), [(f"{HOST}/app:latest", False)])
        self.remove("app")
        self.assertEqual(self.removals(before), [(f"{HOST}/app:latest", True)])

    def test_running(self) -> None:
        """
        A stream that continues from a position gets all later changes.
        """
        self.add(sample_image(1))
        position = self.here()
        stream = self.jobs.events(None, position)
        job = self.pull()
        self.settle()
        self.assertIn(job, {e.data.get("id") for e in self.news(stream)})
        stream.close()

    def test_last_event(self) -> None:
        """
        No event of a cancelled job follows its final one, although its
        transfers end later, and their rows are not kept for the reader.
        """
        self.add(sample_image(2))
        self.registry.gate.hold("open")
        job_id = self.copy()
        self.settle()
        job = self.jobs._runner.get(job_id)
        assert job is not None
        stream = self.jobs.events(None)
        self.jobs.cancel(job_id)
        self.settle()
        self.jobs._broker.job_changed(job)
        self.jobs._broker.rows_changed(job, job.rows[:1])
        events = self.news(stream)
        last = [e.data["state"] for e in events if e.kind == "job"]
        self.assertEqual(last, ["cancelled"])
        self.assertEqual([e.data["jobs"] for e in events if e.kind == "transfer" and e.data["jobs"]], [])
        self.jobs._broker.job_changed(job)
        self.assertEqual(self.news(stream), [])
        stream.close()

    def test_one_job(self) -> None:
        """
        A job that has changed is reported with its layers, one that has not is
        not; one that has ended ends the stream in any case.
        """
        self.add(sample_image(2))
        self.registry.gate.hold("open")
        job = self.pull()
        self.settle()
        position = self.here(job)
        self.assertEqual(self.told(position, job), (True, set()))
        self.registry.gate.release("open")
        self.settle()
        self.assertEqual(self.told(position, job), (True, {job, "layer"}))
        position = self.here(job)
        stream = self.jobs.events(job, position)
        self.assertEqual(self.successResultOf(stream.get()), [])

    def test_anew(self) -> None:
        """
        A client with the position of another daemon, or with nonsense, gets
        everything.
        """
        self.add(sample_image(1))
        job = self.pulled()["id"]
        position = self.here()
        daemon, number = position.split("-")
        for other in (None, "", "x", f"{'0' * 8}-{number}", f"{daemon}-{int(number) + 1}", f"{daemon}-x"):
            resumed, told = self.told(other)
            self.assertEqual((resumed, job in told), (False, True), other)

    def test_too_old(self) -> None:
        """
        A client whose position is older than the kept changes gets everything.
        """
        self.add(sample_image(4))
        position = self.here()
        rounds = 0
        while self.told(position)[0]:
            self.pulled()
            rounds += 1
            self.assertLess(rounds, MAX_TRANSFERS)
        self.assertLessEqual(len(self.jobs._broker._changes._transfers), MAX_TRANSFERS)


class ChangeLogTests(SynchronousTestCase):
    """
    The changes that are kept, and for how long.
    """

    def test_many_removed(self) -> None:
        """
        The newest removals are kept; a client whose position is older than the
        first kept one starts over.
        """
        history = ChangeLog()
        positions = [history.now()]
        for number in range(MAX_REMOVED + 1):
            history.removed(f"image{number}")
            positions.append(history.now())
        self.assertEqual(history.read(positions[0]), None)
        self.assertEqual(history.read(positions[1]), 1)
        self.assertEqual(history.names_removed(1)[0], "image1")
        self.assertEqual(len(history.names_removed(1)), MAX_REMOVED)

    def test_over_restarts(self) -> None:
        """
        The positions of one journal rise over the restarts of its daemon; those of earlier
        daemons are known as such, those of other journals are not.
        """
        first, second, other = ChangeLog(), ChangeLog(), ChangeLog()
        first.begin("0123abcd", 1)
        first.changed("job")
        second.begin("0123abcd", 2)
        other.begin("ffffffff", 1)
        earlier = first.now()
        self.assertGreater(int(second.now().partition("-")[2]), int(earlier.partition("-")[2]))
        self.assertIsNone(second.read(earlier))
        self.assertTrue(second.is_earlier(earlier))
        self.assertFalse(second.is_earlier(second.now()))
        self.assertFalse(second.is_earlier(None))
        self.assertFalse(other.is_earlier(earlier))
        self.assertFalse(first.is_earlier(second.now()))

    def test_overflowed(self) -> None:
        """
        No stream continues from a position before more changes at once than
        are kept; all continue from behind them.
        """
        history = ChangeLog()
        before = history.now()
        history.overflowed()
        self.assertEqual((history.read(before), history.read(history.now())), (None, 1))

    def test_removed_again(self) -> None:
        """
        A name that is removed repeatedly is kept once, with its last removal;
        one that was given again is not kept.
        """
        history = ChangeLog()
        for _ in range(MAX_REMOVED):
            history.named("one")
            history.removed("one")
        since = history.read(history.now())
        assert since is not None
        self.assertEqual((history.names_removed(since - 1), history.names_removed(since)), (["one"], []))
        self.assertFalse(history.is_news(("image", "one"), 0))
        history.named("one")
        self.assertEqual(history.names_removed(0), [])
        self.assertTrue(history.is_news(("image", "one"), since))
