"""
Tests for every provider of L{IJobs}.  A test case mixes L{JobsConformance} in,
and has C{jobs}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.web.conformance import valid
from xferd.errors import (
    BadInput,
    BadPlatform,
    BadReference,
    Draining,
    JobEnded,
    JobRunning,
    NotFound,
    WrongOffset,
)
from xferd.interfaces.jobs import Figures, IEventStream, IImageAdmin, IJobs, IUploadStream
from xferd.interfaces.steering import ISteering
from xferd.names import Digest
from xferd.web.schemas import array, ref

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

NAME = "registry.example/app"
PINNED = f"{NAME}@{Digest.of(b'x')}"


class JobsConformance(_Base):
    """
    Jobs, as the API uses them.
    """

    jobs: Any

    if TYPE_CHECKING:

        def settle(self) -> None:
            """
            Let everything happen that needs no time.
            """

    def begin(self) -> list[Mapping[str, Any]]:
        """
        Begin a job of each kind.
        """
        return [
            self.jobs.pull(NAME, "linux/arm64", "ann", 0),
            self.jobs.push(NAME, "other.example/app:1", ["2"], None, "ann", 1),
            self.jobs.copy(NAME, "other.example/app", None, True, "bob", 0),
            self.jobs.import_archive(None, None, 100, "bob", 0),
            self.jobs.prefetch(NAME, "all", "bob", 0),
            self.jobs.verify(None, "bob", 0),
        ]

    def result(self, work: Deferred[Any]) -> Any:
        """
        Wait for a result.
        """
        self.settle()
        return self.successResultOf(work)

    def fails(self, kind: type[Exception], ask: Callable[..., Any], *arguments: Any) -> None:
        """
        Expect that a call raises an error, or that its Deferred fails with it.
        """
        try:
            found = ask(*arguments)
        except kind:
            return
        assert isinstance(found, Deferred), f"{ask} did not fail"
        self.settle()
        self.failureResultOf(found, kind)

    def test_interfaces(self) -> None:
        """
        Each object provides its Interface.
        """
        verifyObject(IJobs, self.jobs)
        verifyObject(IImageAdmin, self.jobs.image_admin)
        job = self.jobs.import_archive(None, None, None, "ann", 0)
        verifyObject(IUploadStream, self.jobs.upload_stream(job["id"]))
        verifyObject(IEventStream, self.jobs.events(None))

    def test_begun(self) -> None:
        """
        A job is as the API documents it from its beginning, and counts until
        it ends.
        """
        begun = self.begin()
        self.assertEqual(
            [job["kind"] for job in begun], ["pull", "push", "copy", "import", "prefetch", "verify"]
        )
        self.assertEqual([job["client"] for job in begun], ["ann", "ann", "bob", "bob", "bob", "bob"])
        for job in begun:
            valid(ref("JobInFull"), job)
            self.assertIn(job["state"], ("queued", "running"))
            self.assertEqual(self.jobs.get(job["id"])["id"], job["id"])
        self.assertEqual(len({job["id"] for job in begun}), 6)
        self.assertEqual(self.jobs.unfinished, 6)

    def test_lists(self) -> None:
        """
        Lists have all jobs, the newest first, without their layers.
        """
        ids = {job["id"] for job in self.begin()}
        self.settle()
        for jobs in (self.jobs.all(), self.result(self.jobs.recorded(10))):
            valid(array(ref("Job")), list(jobs))
            self.assertEqual({job["id"] for job in jobs}, ids)
            created = [job["created"] for job in jobs]
            self.assertEqual(created, sorted(created, reverse=True))
        self.assertEqual(len(self.result(self.jobs.recorded(3))), 3)
        valid(array(ref("Transfer")), list(self.jobs.transfers()))

    def test_found(self) -> None:
        """
        A job is found by its id, with its attempts.
        """
        job_id = self.begin()[0]["id"]
        found = self.result(self.jobs.find(job_id))
        valid(ref("JobInFull"), found)
        self.assertEqual(found["id"], job_id)
        self.assertEqual(self.result(self.jobs.named(job_id)), job_id)
        valid(array(ref("Attempt")), self.result(self.jobs.attempts(job_id)))

    def test_unknown(self) -> None:
        """
        A job that does not exist is not found, by any method.
        """
        for ask in (
            self.jobs.get,
            self.jobs.find,
            self.jobs.named,
            self.jobs.attempts,
            self.jobs.cancel,
            self.jobs.upload_stream,
            self.jobs.events,
            self.jobs.follow,
        ):
            self.fails(NotFound, ask, "nothing")

    def test_bad_reference(self) -> None:
        """
        Text that is no reference, or a target with a digest, makes no job.
        """
        for ask, arguments in (
            (self.jobs.pull, ("A B", None, "ann", 0)),
            (self.jobs.push, ("A B", None, (), None, "ann", 0)),
            (self.jobs.push, (NAME, "A B", (), None, "ann", 0)),
            (self.jobs.push, (NAME, PINNED, (), None, "ann", 0)),
            (self.jobs.push, (NAME, None, ("a b",), None, "ann", 0)),
            (self.jobs.copy, ("A B", NAME, None, False, "ann", 0)),
            (self.jobs.copy, (NAME, PINNED, None, False, "ann", 0)),
            (self.jobs.import_archive, (PINNED, None, None, "ann", 0)),
            (self.jobs.renew, ("A B", "ann")),
            (self.jobs.export, ("A B", "oci", "ann")),
        ):
            self.fails(BadReference, ask, *arguments)
        self.assertEqual((self.jobs.unfinished, list(self.jobs.all())), (0, []))

    def test_bad_platform(self) -> None:
        """
        Text that is no platform makes no job.
        """
        for ask, arguments in (
            (self.jobs.pull, (NAME, "linux", "ann", 0)),
            (self.jobs.pull, (NAME, "all", "ann", 0)),
            (self.jobs.push, (NAME, None, (), "linux", "ann", 0)),
            (self.jobs.copy, (NAME, NAME, "all", False, "ann", 0)),
            (self.jobs.import_archive, (None, "linux", None, "ann", 0)),
        ):
            self.fails(BadPlatform, ask, *arguments)
        self.assertEqual(self.jobs.unfinished, 0)
        self.assertEqual(self.jobs.push(NAME, None, (), "all", "ann", 0)["platform"], "all")

    def test_cancel(self) -> None:
        """
        A job is cancelled at once; one that has ended stays as it is.
        """
        for job in self.begin():
            for _ in range(2):
                cancelled = self.jobs.cancel(job["id"])
                valid(ref("JobInFull"), cancelled)
                self.assertEqual(cancelled["state"], "cancelled")
        self.assertEqual(self.jobs.unfinished, 0)
        self.assertEqual({job["state"] for job in self.jobs.all()}, {"cancelled"})

    def test_steered(self) -> None:
        """
        Jobs that have not ended are paused, continue, and get other priorities.
        """
        steering = self.jobs.steering
        verifyObject(ISteering, steering)
        for job in self.begin():
            for changes in ({"paused": True}, {"priority": -7}, {"paused": False, "priority": 3}):
                changed = steering.change(job["id"], by="ann", **changes)
                valid(ref("JobInFull"), changed)
                self.assertLessEqual(changes.items(), changed.items())
                self.assertLessEqual(changes.items(), self.jobs.get(job["id"]).items())
            self.jobs.cancel(job["id"])
            again = steering.change
            self.assertRaises(JobEnded, again, job["id"], paused=True, by="ann")
        self.assertRaises(NotFound, steering.change, "none", paused=True, by="ann")

    def test_pauses(self) -> None:
        """
        Everything, directions and hosts are paused until they continue.
        """
        steering = self.jobs.steering
        for name in ("all", "downloads", "uploads", "hosts/r.example"):
            pause = self.result(steering.pause(name, keep=False, by="ann"))
            valid(ref("Pause"), pause)
            self.assertEqual((pause["by"], pause["keep"]), ("ann", False))
        self.assertEqual([p["what"] for p in steering.pauses()], ["all", "downloads", "uploads", "host"])
        valid(ref("Pause"), self.result(steering.resume("hosts/r.example")))
        self.fails(NotFound, lambda: steering.resume("hosts/r.example"))
        self.assertEqual(len(self.jobs.status()["pauses"]), 3)

    def test_drain(self) -> None:
        """
        While the daemon drains, nothing begins, not again either; what was begun goes on.
        """
        steering = self.jobs.steering
        (job, other, *_) = self.begin()
        self.jobs.cancel(other["id"])
        self.assertEqual(steering.draining, "")
        valid(ref("Drain"), self.result(steering.drain(keep=True, by="ann")))
        self.assertIn("ann", steering.draining)
        drain = self.jobs.status()["drain"]
        self.assertEqual((drain["draining"], drain["keep"]), (True, True))
        self.assertGreaterEqual(drain["jobs"], 4)
        self.fails(Draining, lambda: steering.retry(other["id"], "ann"))
        self.assertIn(self.jobs.get(job["id"])["state"], ("queued", "running"))
        valid(ref("Drain"), self.result(steering.end_drain()))
        self.assertEqual(steering.draining, "")

    def test_retried(self) -> None:
        """
        A job that did not succeed is retried as a new one; an import is not, and none
        that has not ended.
        """
        steering = self.jobs.steering
        # The others end at once: the store is empty.
        for job in [job for job in self.begin() if job["kind"] not in ("push", "verify")]:
            self.fails(JobRunning, steering.retry, job["id"], "bob")
            self.jobs.cancel(job["id"])
            if job["kind"] == "import":
                self.fails(BadInput, steering.retry, job["id"], "bob")
            else:
                again = self.result(steering.retry(job["id"], "bob"))
                valid(ref("JobInFull"), again)
                shown = (again["kind"], again["reference"], again["retry_of"], again["client"])
                self.assertEqual(shown, (job["kind"], job["reference"], job["id"], "bob"))
        self.fails(NotFound, steering.retry, "none", "bob")

    def test_upload_stream(self) -> None:
        """
        An import takes the pieces of its archive in their order; no other job
        takes any.
        """
        job_id = self.jobs.import_archive(None, None, None, "ann", 0)["id"]
        self.settle()
        stream = self.jobs.upload_stream(job_id)
        self.assertEqual(stream.offset, 0)
        _ = stream.put(0, b"abc")
        self.settle()
        self.assertEqual(self.jobs.upload_stream(job_id).offset, 3)
        self.fails(WrongOffset, stream.put, 1, b"abc")
        self.fails(WrongOffset, stream.finish, 2)
        other = self.jobs.pull(NAME, None, "ann", 0)
        self.fails(BadInput, self.jobs.upload_stream, other["id"])
        self.jobs.cancel(job_id)
        self.fails(BadInput, self.jobs.upload_stream, job_id)

    def test_limits(self) -> None:
        """
        Limits change together, or not at all.
        """
        before = self.jobs.limits()
        valid(ref("Limits"), before)
        after = self.jobs.change_limits({"downloads": 7, "upload_rate": 1000})
        self.assertEqual(after, {**before, "downloads": 7, "upload_rate": 1000})
        for changes in ({"downloads": 8, "nothing": 1}, {"uploads": 8, "downloads": 0}):
            self.fails(BadInput, self.jobs.change_limits, changes)
        self.assertEqual(self.jobs.limits(), after)

    def test_status(self) -> None:
        """
        The status and the figures have their members.
        """
        self.begin()
        status = self.jobs.status()
        self.assertEqual(
            set(status),
            {
                "jobs",
                "pauses",
                "drain",
                "slots",
                "hosts",
                "sandbox",
                "binding",
                "quota",
                "bytes_fetched",
                "bytes_sent",
                "bytes_delivered",
            },
        )
        self.assertEqual(sum(status["jobs"].values()), 6)
        self.assertIsInstance(self.jobs.figures(), Figures)

    def test_events(self) -> None:
        """
        A stream that is closed ends after the events that wait to be read: of
        everything, or of one job.
        """
        job_id = self.begin()[0]["id"]
        self.settle()
        for stream in (
            self.jobs.events(None),
            self.jobs.events(job_id),
            self.result(self.jobs.follow(job_id)),
        ):
            self.assertFalse(stream.resumed)
            stream.close()
            while self.result(stream.get()):
                pass
            stream.close()
