"""
Tests for L{xferd.jobs.events.broker}: the events of jobs.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.interfaces.jobs import Event, IEventStream
from xferd.testing.images import sample_image


class EventsTests(JobsCase):
    """
    The events that clients get.
    """

    def read(self, stream: IEventStream) -> list[Event]:
        """
        Read the new events.
        """
        got: Deferred[list[Event]] = stream.get()
        self.wait(0.5)
        return self.successResultOf(got)

    def subjects(self, events: list[Event]) -> dict[tuple[Any, ...], Event]:
        """
        Events by their subject.
        """
        found = {}
        for event in events:
            data = event.data
            key = {"layer": ("job", "index"), "image": ("reference",)}.get(event.kind, ("id",))
            found[(event.kind, *(data[k] for k in key))] = event
        self.assertEqual(len(found), len(events), "a subject stands in one reading once")
        return found

    def test_one_job(self) -> None:
        """
        A job's stream has the job, its layers and their transfers, and ends
        with the job's last event.
        """
        image = self.add(sample_image(2))
        self.registry.stall(image.layers[0].blob.digest)
        job_id = self.pull()
        stream = self.jobs.events(job_id)
        self.settle()
        news = self.subjects(self.read(stream))
        self.assertEqual(news["job", job_id].data["layers_total"], 2)
        self.assertEqual(news["layer", job_id, 0].data["state"], "downloading")
        self.assertEqual(sum(kind == "transfer" for kind, *_ in news), 6)
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        events = self.read(stream)
        self.assertEqual((events[-1].kind, events[-1].data["state"]), ("job", "done"))
        self.assertEqual([e.final for e in events if e.kind == "layer"], [True, True])
        self.assertTrue(events[-1].final)
        self.assertEqual(self.read(stream), [])
        stream.close()

    def test_ended_job(self) -> None:
        """
        The stream of a job that has ended has its last state, and ends.
        """
        self.add(sample_image(2))
        stream = self.jobs.events(self.pulled()["id"])
        events = self.read(stream)
        self.assertEqual([e.kind for e in events], ["layer", "layer", "job"])
        self.assertEqual(self.read(stream), [])

    def test_everything(self) -> None:
        """
        The stream of everything begins with the present state, and continues
        with changes: jobs of all clients, and images.
        """
        self.add(sample_image(1, seed=1), "one")
        self.add(sample_image(1, seed=2), "two")
        one = self.pulled("one")
        stream = self.jobs.events(None)
        news = self.subjects(self.read(stream))
        self.assertTrue(news["job", one["id"]].final)
        self.assertIn(("image", f"{HOST}/one:latest"), news)
        two = self.pulled("two")
        news = self.subjects(self.read(stream))
        self.assertEqual(news["job", two["id"]].data["state"], "done")
        image = news["image", f"{HOST}/two:latest"].data
        self.assertEqual(image["digest"], two["result"]["digest"])
        self.assertEqual([layer["digest"] for layer in image["layers"]], [two["layers"][0]["digest"]])
        waiting = stream.get()
        self.settle()
        self.assertNoResult(waiting)
        stream.close()
        self.settle()
        self.assertEqual(self.successResultOf(waiting), [])

    def test_unread(self) -> None:
        """
        An event that one stream has read and another one has not is made again when
        its subject changes: both get the newest state.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull()
        quick, slow = self.jobs.events(job_id), self.jobs.events(job_id)
        self.wait(1)
        layer = "layer", job_id, 0
        self.assertEqual(self.subjects(self.read(quick))[layer].data["bytes_done"], 0)
        self.registry.feed(blob, 1000)
        self.wait(1)
        self.assertEqual(self.subjects(self.read(quick))[layer].data["bytes_done"], 1000)
        self.registry.feed(blob, 1000)
        self.registry.feed(blob, 1000)
        self.wait(1)
        for stream in (slow, quick):
            self.assertEqual(self.subjects(self.read(stream))[layer].data["bytes_done"], 3000)
        self.registry.finish(blob)
        self.settle()
        for stream in (slow, quick):
            self.assertEqual(self.subjects(self.read(stream))[layer].data["state"], "done")

    def test_only_jobs(self) -> None:
        """
        A stream may have the job alone: its state, its sums and its end.  Another
        stream has everything.
        """
        image = self.add(sample_image(2, size=100_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull()
        brief, whole = self.jobs.events(job_id), self.jobs.events(job_id)
        brief.only_jobs()
        self.settle()
        (event,) = self.read(brief)
        self.assertEqual((event.kind, event.data["layers_total"]), ("job", 2))
        self.assertIn(("layer", job_id, 0), self.subjects(self.read(whole)))
        self.registry.feed(blob, 1000)
        self.wait(1)
        (event,) = self.read(brief)
        self.assertIn(("layer", job_id, 0), self.subjects(self.read(whole)))
        self.registry.finish(blob)
        self.settle()
        (event,) = self.read(brief)
        self.assertEqual((event.kind, event.data["state"], event.final), ("job", "done", True))
        self.assertEqual(self.read(brief), [])

    def test_nothing_left(self) -> None:
        """
        Of a job that has ended no event is kept for streams that were closed before
        they read it.
        """
        image = self.add(sample_image(2))
        self.registry.stall(image.layers[0].blob.digest)
        stream = self.jobs.events(self.pull())
        self.settle()
        self.assertTrue(self.jobs._broker._unread)
        stream.close()
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        self.assertEqual(self.jobs._broker._unread, {})

    def test_other_jobs(self) -> None:
        """
        A job's stream is silent about others.
        """
        image = self.add(sample_image(1, seed=1), "one")
        self.add(sample_image(1, seed=2), "two")
        self.registry.stall(image.layers[0].blob.digest)
        stream = self.jobs.events(self.pull("one"))
        self.wait(1)
        self.read(stream)
        self.pulled("two")
        waiting = stream.get()
        self.wait(1)
        self.assertNoResult(waiting)

    def test_reader_leaves_while_it_pauses(self) -> None:
        """
        A reader may also go while it is kept from reading too often.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        stream = self.jobs.events(self.pull())
        self.settle()
        self.successResultOf(stream.get())
        waiting = stream.get()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.registry.gate.release("manifest")
        self.settle()
        self.assertTrue(self.read(stream)[-1].final)

    def test_pace(self) -> None:
        """
        A stream is read at intervals, but a final event is delivered at once.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        stream = self.jobs.events(self.pull())
        self.settle()
        self.read(stream)
        self.registry.feed(blob, 1000)
        self.clock.advance(0.11)
        self.settle()
        self.successResultOf(stream.get())
        waiting = stream.get()
        self.registry.feed(blob, 1000)
        self.settle()
        self.assertNoResult(waiting)
        self.registry.finish(blob)
        self.settle()
        self.assertTrue(self.successResultOf(waiting)[-1].final)

    def test_reader_leaves(self) -> None:
        """
        A reader that is cancelled while it waits loses nothing: the next one
        gets the events.
        """
        image = self.add(sample_image(1))
        self.registry.stall(image.layers[0].blob.digest)
        stream = self.jobs.events(self.pull())
        self.wait(1)
        self.read(stream)
        waiting = stream.get()
        waiting.cancel()
        self.settle()
        self.failureResultOf(waiting, CancelledError)
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        self.assertTrue(self.read(stream)[-1].final)
        stream.close()
        stream.close()
