"""
Tests for L{xferd.jobs.restarts}: jobs over a restart of the daemon.

The module is long because each state of a job meets a stop, a kill and a client that comes back.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.credentials import Credentials, Secret
from xferd.errors import NotFound, StoreError
from xferd.interfaces.jobs import ALWAYS, REJOIN, Event
from xferd.jobs.job import REQUEST
from xferd.jobs.kept_credentials import KeptCredentials
from xferd.jobs.restarts import MOST_CRASHES, WINDOW
from xferd.jobs.runner import MOMENT
from xferd.names import Digest
from xferd.testing.images import sample_image
from xferd.transfer.progress import WINDOW as WINDOW_OF_RATES

ANN = Credentials("ann", Secret("pass"))


class RestartsCase(JobsCase):
    """
    Jobs that outlive their daemon.
    """

    def killed(self) -> None:
        """
        Kill the daemon, and start the next one.
        """
        # What the journal has now; the rest only releases what is in memory.
        self.store.journal.restart()
        self.stop(self.jobs)
        self.begin_next()

    def stopped(self) -> None:
        """
        Stop the daemon, and start the next one.
        """
        self.stop(self.jobs)
        self.store.journal.restart()
        self.begin_next()

    def begin_next(self) -> None:
        """
        Start the next daemon.
        """
        self.jobs = self.make_jobs()
        self.start()

    def offsets(self, blob: Digest) -> list[int]:
        """
        The offsets from which a blob was requested.
        """
        requests = self.registry.requests
        return [each.offset for each in requests if (each.kind, each.wanted) == ("blob", str(blob))]

    def stalled_pull(self, restart: str = ALWAYS) -> tuple[str, Digest]:
        """
        Begin a pull that stops after 30,000 bytes of its only layer.

        @return: the job's id, and the layer.
        """
        blob = self.add(sample_image(1, size=100_000)).layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.pull()
        self.jobs.persist(job_id, restart, "user 1")
        self.settle()
        self.registry.feed(blob, 30_000)
        self.settle()
        return job_id, blob


class StoppedTests(RestartsCase):
    """
    A daemon that is stopped, and the next one.
    """

    def test_continues(self) -> None:
        """
        A pull in mid-work continues under its ID, from the byte that it had reached.
        """
        job_id, blob = self.stalled_pull()
        before = self.job(job_id)
        self.stopped()
        self.assertEqual(self.job(job_id)["state"], "running")
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        after = self.job(job_id)
        for name in ("created", "started", "client", "reference"):
            self.assertEqual(after[name], before[name])
        self.assertEqual(self.offsets(blob), [0, 30_000])
        self.assert_idle()

    def test_recorded_once(self) -> None:
        """
        The journal gets the beginning of a job once: at once for a client that needs it, otherwise a
        moment later.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        history = self.store.journal.history
        self.jobs.persist(self.pull(), ALWAYS, "user 1")
        flushed = self.jobs.flushed()
        self.settle()
        self.successResultOf(flushed)
        self.assertEqual([(record["restart"], record["state"]) for record in history], [(ALWAYS, "running")])
        job_id = self.pull(client="another")
        kept, left = self.jobs.kept(job_id), self.jobs.kept(job_id)
        left.cancel()
        self.failureResultOf(left, CancelledError)
        self.settle()
        self.assertNoResult(kept)
        self.assertEqual(len(history), 1)
        self.clock.advance(MOMENT)
        self.settle()
        self.successResultOf(kept)
        self.assertEqual([record["restart"] for record in history], [ALWAYS, None])
        kept = self.jobs.kept(job_id)
        self.settle()
        self.successResultOf(kept)
        self.clock.advance(MOMENT)
        self.assertEqual(len(history), 2)

    def test_short(self) -> None:
        """
        A job that ends soon is written to the journal once, at its end, well or not; one that fetches,
        when its layers are known.
        """
        image = self.add(sample_image(1))
        self.registry.stall(image.layers[0].blob.digest)
        history = self.store.journal.history
        for reference, states in (("app", ["running"]), ("none", ["failed"])):
            history.clear()
            job_id = self.pull(reference)
            self.jobs.persist(job_id, ALWAYS, "user 1")
            kept = self.jobs.kept(job_id)
            self.assertNoResult(kept)
            self.settle()
            self.successResultOf(kept)
            self.assertEqual([record["state"] for record in history], states)
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        history.clear()
        job_id = self.pull()
        self.jobs.persist(job_id, ALWAYS, "user 1")
        kept = self.jobs.kept(job_id)
        self.settle()
        self.successResultOf(kept)
        self.assertEqual([record["state"] for record in history], ["done"])
        self.assertEqual(self.jobs.get(job_id)["state"], "done")

    def test_soon(self) -> None:
        """
        A job that will end within the grace is left to end; one that will not is
        interrupted at once.
        """
        slow, blob = self.stalled_pull()
        self.add(sample_image(1, size=1000, seed=5), "soon")
        self.unpacker.gate.hold("unpack")
        job_id = self.pull("soon")
        self.settle()
        stopping = Deferred.fromCoroutine(self.jobs.stop(10.0))
        self.settle()
        self.assertEqual(self.job(slow)["state"], "queued")
        self.assertIn("stopping", self.job(slow)["why"])
        self.assertEqual(self.job(job_id)["state"], "running")
        self.assertNoResult(stopping)
        self.unpacker.gate.release("unpack")
        self.settle()
        self.successResultOf(stopping)
        self.assert_done(job_id)
        self.store.journal.restart()
        self.begin_next()
        self.registry.finish(blob)
        self.settle()
        self.assert_done(slow)

    def test_stalls(self) -> None:
        """
        A job that would have ended in time, but then stalls, is interrupted before the
        grace ends.
        """
        job_id, blob = self.stalled_pull()
        for _ in range(2):
            self.wait(1)
            self.registry.feed(blob, 30_000)
            self.settle()
        stopping = Deferred.fromCoroutine(self.jobs.stop(10.0))
        self.wait(0)
        self.assertEqual(self.job(job_id)["state"], "running")
        self.wait(WINDOW_OF_RATES + 1)
        self.successResultOf(stopping)
        self.assertEqual(self.job(job_id)["state"], "queued")

    def test_grace_ends(self) -> None:
        """
        A job that takes longer than expected is interrupted when the grace ends.
        """
        self.add(sample_image(1, size=1000))
        self.unpacker.gate.hold("unpack")
        job_id = self.pull()
        self.jobs.persist(job_id, ALWAYS, "")
        self.settle()
        stopping = Deferred.fromCoroutine(self.jobs.stop(10.0))
        self.wait(8)
        self.assertNoResult(stopping)
        self.assertEqual(self.job(job_id)["state"], "running")
        self.wait(1)
        self.successResultOf(stopping)
        self.assertEqual(self.job(job_id)["state"], "queued")

    def test_cancelled_after_it(self) -> None:
        """
        A job that was interrupted can be cancelled while the daemon stops; then it is not
        begun again.
        """
        job_id, _ = self.stalled_pull()
        self.stop(self.jobs)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.store.journal.restart()
        self.begin_next()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertEqual(self.jobs.unfinished, 0)

    def test_order(self) -> None:
        """
        Jobs begin again in their old order, before those that came while the daemon
        started.
        """
        self.downloads = 1
        self.stop(self.jobs)
        self.jobs = self.make_jobs()
        self.start()
        blobs = {}
        ids = []
        for seed, name in enumerate(("one", "two", "three"), 1):
            blobs[name] = self.add(sample_image(1, size=50_000, seed=seed), name).layers[0].blob.digest
            self.registry.stall(blobs[name])
            ids.append(self.pull(name))
            self.jobs.persist(ids[-1], ALWAYS, "")
            self.settle()
        self.stop(self.jobs)
        self.store.journal.restart()
        self.jobs = self.make_jobs()
        self.add(sample_image(1, size=50_000, seed=8), "late")
        late = self.pull("late")
        self.start()
        began = len(self.registry.requests)
        for digest in blobs.values():
            self.registry.finish(digest)
            self.settle()
        for job_id in (*ids, late):
            self.assert_done(job_id)
        self.assertGreater(len(self.registry.requests), began)
        finished = [self.job(job_id)["layers"][0]["transfer"] for job_id in (*ids, late)]
        attempts = [a["transfer"] for a in self.store.journal.recorded_attempts if a["code"] is None]
        self.assertEqual([each for each in attempts if each in finished], finished)

    def test_figures(self) -> None:
        """
        Jobs that continue are counted.
        """
        self.stalled_pull()
        self.stopped()
        figures = self.jobs.figures()
        self.assertEqual((figures.resumed, figures.interrupted), ({"pull": 1}, {}))


class KilledTests(RestartsCase):
    """
    A daemon that is killed, and the next one.
    """

    def test_continues(self) -> None:
        """
        A pull in mid-work continues, with the attempts made before.
        """
        job_id, blob = self.stalled_pull()
        before = self.job(job_id)["layers"][0]["transfer"]
        self.killed()
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.assertNotEqual(self.job(job_id)["layers"][0]["transfer"], before)
        self.assertIn(before, self.job(job_id)["transfers"])

    def test_push_and_copy(self) -> None:
        """
        So do a push with its tags, a copy, and a prefetch.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.pulled()
        self.other.uploads.stall(blob)
        push = self.push(target=f"{OTHER}/pushed:1", tags=["2"])
        copied = self.add(sample_image(1, size=90_000, seed=6), "copied").layers[0].blob.digest
        self.registry.stall(copied)
        copy = self.copy("copied", f"{OTHER}/copied:1")
        fetched = self.add(sample_image(1, size=80_000, seed=7), "fetched").layers[0].blob.digest
        self.registry.stall(fetched)
        prefetch = str(self.jobs.prefetch(f"{HOST}/fetched", None, "ci", 0)["id"])
        for job_id in (push, copy, prefetch):
            self.jobs.persist(job_id, ALWAYS, "")
        self.settle()
        self.killed()
        for job_id in (push, copy, prefetch):
            self.assertEqual(self.job(job_id)["state"], "running")
        self.other.uploads.finish(blob)
        for digest in (copied, fetched):
            self.registry.finish(digest)
        self.settle()
        for job_id in (push, copy, prefetch):
            self.assert_done(job_id)
        for tag in ("1", "2"):
            self.assertIsNotNone(self.other.document_of("pushed", tag))

    def test_done(self) -> None:
        """
        A job whose end was reported is not begun again; one whose end could not be
        recorded before the daemon died is.
        """
        self.add(sample_image(1))
        job_id = self.pull()
        self.jobs.persist(job_id, ALWAYS, "")
        self.store.gate.hold("journal.job", job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "running")
        self.store.gate.release("journal.job", job_id)
        self.settle()
        self.assert_done(job_id)
        self.killed()
        self.assertEqual(self.jobs.unfinished, 0)
        self.assert_done(job_id)

    def assert_reported(self, job_id: str, state: str) -> None:
        """
        The end of a job is reported when the journal has it, and not before; and the next
        daemon does not begin it again.
        """
        stream = self.jobs.events(job_id)
        self.successResultOf(stream.get())
        getting = stream.get()
        self.settle()
        self.assertIn(self.job(job_id)["state"], ("queued", "running"))
        self.assertNoResult(getting)
        self.store.gate.release("journal.job", job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], state)
        self.assertEqual(self.successResultOf(getting)[-1].data["state"], state)
        self.assertEqual(self.store.journal.recorded[job_id]["state"], state)
        self.killed()
        self.assertEqual(self.job(job_id)["state"], state)
        self.assertEqual(self.jobs.unfinished, 0)

    def test_cancellation_reported(self) -> None:
        """
        The end of a job that is cancelled; it holds nothing but its place until then.
        """
        job_id, _ = self.stalled_pull()
        self.store.gate.hold("journal.job", job_id)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.registry.open_bodies(), [])
        self.assertEqual(self.jobs.transfers(), [])
        self.assert_reported(job_id, "cancelled")

    def test_failure_reported(self) -> None:
        """
        The end of a job that fails, which can be retried.
        """
        job_id, blob = self.stalled_pull()
        self.store.gate.hold("journal.job", job_id)
        self.registry.remove_blob("app", blob)
        self.registry.fail(blob)
        self.wait(10)
        self.assert_reported(job_id, "failed")
        retried = self.jobs.steering.retry(job_id, "ci", {})
        self.settle()
        self.assertEqual(self.successResultOf(retried)["retry_of"], job_id)

    def test_end_of_waiting_reported(self) -> None:
        """
        The end of a job that waits for its client, who comes back too late, or cancels it.
        """
        cancelled, _ = self.stalled_pull(REJOIN)
        self.killed()
        self.store.gate.hold("journal.job", cancelled)
        self.jobs.cancel(cancelled)
        self.jobs.rejoin(cancelled, "ci", "user 1")
        self.assert_reported(cancelled, "cancelled")
        late, _ = self.stalled_pull(REJOIN)
        self.killed()
        self.store.gate.hold("journal.job", late)
        self.wait(WINDOW + 1)
        self.jobs.rejoin(late, "ci", "user 1")
        self.jobs.cancel(late)
        self.assert_reported(late, "failed")

    def test_cancelled_before_it_continues(self) -> None:
        """
        A job that is cancelled while the journal writes that it continues does not.
        """
        for held in (False, True):
            job_id, _ = self.stalled_pull()
            self.stop(self.jobs)
            self.store.journal.restart()
            self.jobs = self.make_jobs()
            self.store.gate.hold("journal.begun")
            starting = Deferred.fromCoroutine(self.jobs.start())
            self.settle()
            self.assertNoResult(starting)
            if held:
                self.store.gate.hold("journal.job", job_id)
            self.jobs.cancel(job_id)
            self.settle()
            self.store.gate.release("journal.begun")
            self.settle()
            self.successResultOf(starting)
            self.assertEqual(self.jobs.transfers(), [])
            self.store.gate.release("journal.job", job_id)
            self.settle()
            self.assertEqual((self.job(job_id)["state"], self.jobs.unfinished), ("cancelled", 0))

    def test_cancelled_at_its_end(self) -> None:
        """
        A job that is cancelled while the journal writes its end keeps that end.
        """
        self.add(sample_image(1))
        job_id = self.pull()
        self.jobs.persist(job_id, ALWAYS, "")
        self.store.gate.hold("journal.job", job_id)
        self.settle()
        self.jobs.cancel(job_id)
        self.assert_reported(job_id, "done")

    def test_not_persisted(self) -> None:
        """
        A job that ends with its daemon has failed.
        """
        self.registry.stall(self.add(sample_image(1)).layers[0].blob.digest)
        job_id = self.pull()
        self.settle()
        self.killed()
        self.assertIn("pull it again", self.assert_failed(job_id, "INTERRUPTED"))
        self.assertEqual(self.jobs.figures().interrupted, {"pull": 1})

    def test_cancelled_while_it_waits(self) -> None:
        """
        A job that is cancelled before its client comes back leaves its partial blobs to
        the removal of its image.
        """
        job_id, blob = self.stalled_pull(REJOIN)
        self.killed()
        self.jobs.cancel(job_id)
        self.settle()
        (layer,) = self.job(job_id)["layers"]
        self.assertEqual((layer["digest"], layer["state"]), (str(blob), "cancelled"))
        freed = self.jobs.image_admin.remove(f"{HOST}/app")
        self.settle()
        self.assertEqual(self.successResultOf(freed).partials, 1)

    def test_ended_at_once(self) -> None:
        """
        A job that has failed before its client's request is answered stays as it is.
        """
        job_id = self.push("missing")
        self.assert_failed(job_id, "NOT_FOUND")
        self.jobs.persist(job_id, ALWAYS, "user 1")
        self.killed()
        self.assert_failed(job_id, "NOT_FOUND")
        self.assertEqual(self.jobs.figures().resumed, {})

    def test_unknown(self) -> None:
        """
        A job that does not exist cannot continue.
        """
        self.assertRaises(NotFound, self.jobs.persist, "000000000000", ALWAYS, "user 1")

    def test_crash_loop(self) -> None:
        """
        A job with which the daemon died too often in a row is not begun again.
        """
        job_id, _ = self.stalled_pull()
        for _ in range(MOST_CRASHES - 1):
            self.killed()
            self.assertEqual(self.job(job_id)["state"], "running")
        self.killed()
        self.assertIn(f"died {MOST_CRASHES} times", self.assert_failed(job_id, "INTERRUPTED"))

    def retry(self, job_id: str) -> str:
        """
        Retry a job; returns the new one's ID.
        """
        retried = self.jobs.steering.retry(job_id, "ci")
        self.settle()
        return str(self.successResultOf(retried)["id"])

    def test_crash_loop_retried(self) -> None:
        """
        It can be retried as it was.
        """
        blob = self.add(sample_image(1, size=100_000)).layers[0].blob.digest
        self.pulled()
        self.other.uploads.stall(blob)
        push = self.push(target=f"{OTHER}/pushed:1", tags=["2"])
        self.jobs.persist(push, ALWAYS, "")
        self.settle()
        for _ in range(MOST_CRASHES):
            self.killed()
        self.assert_failed(push, "INTERRUPTED")
        self.other.uploads.finish(blob)
        again = self.retry(push)
        self.settle()
        self.assert_done(again)
        for tag in ("1", "2"):
            self.assertIsNotNone(self.other.document_of("pushed", tag))

    def test_cancelled_retried(self) -> None:
        """
        So can one that was cancelled, even if the daemon dies before its work has ended.
        """
        self.add(sample_image(1))
        self.store.gate.hold("images.put")
        job_id = str(self.jobs.pull(f"{HOST}/app", None, "ci", 3)["id"])
        self.jobs.persist(job_id, ALWAYS, "")
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "running")
        record = self.store.journal.recorded[job_id]
        self.assertEqual((record["state"], record[REQUEST]["priority"]), ("cancelled", 3))
        self.store.gate.release("images.put")
        self.settle()
        self.assert_done(job_id)

    def test_stop_resets(self) -> None:
        """
        A stop in between resets the count.
        """
        job_id, _ = self.stalled_pull()
        for _ in range(MOST_CRASHES - 1):
            self.killed()
        self.stopped()
        for _ in range(MOST_CRASHES - 1):
            self.killed()
        self.assertEqual(self.job(job_id)["state"], "running")

    def test_journal_refuses(self) -> None:
        """
        Jobs continue although the disk refuses that they do.
        """
        job_id, blob = self.stalled_pull()
        self.store.gate.fail("journal.begun", StoreError("the disk is gone"))
        self.killed()
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)

    def test_kept_from_collections(self) -> None:
        """
        What a job has brought into the store is not collected before it continues.
        """
        image = self.add(sample_image(2, size=50_000))
        first, second = (layer.blob.digest for layer in image.layers)
        self.registry.stall(second)
        job_id = self.pull()
        self.jobs.persist(job_id, REJOIN, "user 1")
        self.settle()
        self.killed()
        self.assertEqual(self.job(job_id)["state"], "queued")
        collecting = self.jobs.image_admin.collect(False)
        self.settle()
        self.successResultOf(collecting)
        self.jobs.rejoin(job_id, "ci", "user 1")
        self.registry.finish(second)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.gets(first), 1)


class RejoinTests(RestartsCase):
    """
    Jobs that wait for their clients.
    """

    def test_comes_back(self) -> None:
        """
        The job waits, and continues when its client comes back; another client, or another
        user with its name, changes nothing.
        """
        job_id, blob = self.stalled_pull(REJOIN)
        self.killed()
        for client, owner in (("other", "user 1"), ("ci", "user 2"), ("ci", "")):
            self.jobs.rejoin(job_id, client, owner)
            self.settle()
            job = self.job(job_id)
            self.assertEqual((job["state"], job["why"]), ("queued", "waits up to 60 s for its client"))
            self.assertIsNotNone(job["until"])
        self.jobs.rejoin(job_id, "ci", "user 1")
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual((self.job(job_id)["why"], self.job(job_id)["until"]), ("", None))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stays_away(self) -> None:
        """
        The job ends as interrupted when the time is over, and its bytes stay.
        """
        job_id, blob = self.stalled_pull(REJOIN)
        self.killed()
        self.wait(WINDOW - 1)
        self.assertEqual(self.job(job_id)["state"], "queued")
        self.wait(2)
        self.assertIn("did not come back within 60 s", self.assert_failed(job_id, "INTERRUPTED"))
        self.assertEqual(len(self.store.blobs.partials[blob]), 30_000)
        self.assertEqual(self.jobs.figures().interrupted, {"pull": 1})

    def test_cancelled(self) -> None:
        """
        A job that waits can be cancelled.
        """
        job_id, _ = self.stalled_pull(REJOIN)
        self.killed()
        self.jobs.cancel(job_id)
        self.jobs.rejoin(job_id, "ci", "user 1")
        self.wait(WINDOW + 1)
        self.assertEqual(self.job(job_id)["state"], "cancelled")

    def test_stopped_again(self) -> None:
        """
        A job that waits does so with the next daemon, too.
        """
        job_id, _ = self.stalled_pull(REJOIN)
        self.killed()
        self.stopped()
        self.assertEqual(self.job(job_id)["why"], "waits up to 60 s for its client")
        self.jobs.rejoin(job_id, "ci", "user 1")
        self.assertEqual(self.job(job_id)["state"], "running")

    def test_events(self) -> None:
        """
        Followers see that it waits, and that it continues.
        """
        job_id, _ = self.stalled_pull(REJOIN)
        self.killed()
        stream = self.jobs.events(job_id)
        self.wait(1)
        (event,) = [e for e in self.successResultOf(stream.get()) if e.kind == "job"]
        self.assertEqual(event.data["why"], "waits up to 60 s for its client")
        self.jobs.rejoin(job_id, "ci", "user 1")
        self.wait(1)
        event = [e for e in self.successResultOf(stream.get()) if e.kind == "job"][-1]
        self.assertEqual((event.data["state"], event.data["why"]), ("running", ""))
        stream.close()


class PositionTests(RestartsCase):
    """
    Followers of one job, before and after a restart.
    """

    def follow(self, job_id: str, since: str = "") -> tuple[list[Event], str, bool]:
        """
        Read the present events of a job.

        @return: the events, the position behind them, and whether the stream continues from
            C{since}.
        """
        stream = self.jobs.events(job_id, since)
        self.wait(1)
        events = self.successResultOf(stream.get())
        stream.close()
        return events, stream.position, stream.resumed

    def test_running(self) -> None:
        """
        The stream of a job continues from a position before the restart, with its present
        state.
        """
        job_id, blob = self.stalled_pull()
        _, before, _ = self.follow(job_id)
        self.killed()
        events, after, resumed = self.follow(job_id, before)
        self.assertTrue(resumed)
        self.assertIn("job", {event.kind for event in events})
        self.assertGreater(int(after.partition("-")[2]), int(before.partition("-")[2]))
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)

    def test_ended(self) -> None:
        """
        That of a job that has ended reports its end.
        """
        job_id, blob = self.stalled_pull()
        _, before, _ = self.follow(job_id)
        self.registry.finish(blob)
        self.settle()
        self.killed()
        events, _, resumed = self.follow(job_id, before)
        self.assertEqual((resumed, events[-1].data["state"], events[-1].final), (True, "done", True))

    def test_everything(self) -> None:
        """
        The stream of everything starts over: names may have been removed.
        """
        stream = self.jobs.events(None)
        self.stalled_pull()
        self.wait(1)
        self.successResultOf(stream.get())
        stream.close()
        self.killed()
        again = self.jobs.events(None, stream.position)
        self.assertFalse(again.resumed)
        again.close()


class CredentialsTests(RestartsCase):
    """
    Jobs with their clients' own credentials.
    """

    def setUp(self) -> None:
        """
        Choose where to keep credentials.
        """
        self.secrets = Path(self.mktemp())
        self.secrets.parent.mkdir(parents=True, exist_ok=True)
        super().setUp()

    def kept(self) -> KeptCredentials:
        """
        Where they are kept.
        """
        return KeptCredentials(str(self.secrets))

    def begin(self, restart: str = ALWAYS, owner: str = "user 1") -> tuple[str, Digest]:
        """
        Begin a pull with credentials, which stops in mid-work.
        """
        mine = self.registries.registry(HOST, "ann")
        image = sample_image(1, size=100_000)
        mine.add(image, "app")
        blob = image.layers[0].blob.digest
        mine.stall(blob)
        job_id = str(self.jobs.pull(f"{HOST}/app", None, "ci", 0, {HOST: ANN})["id"])
        self.jobs.persist(job_id, restart, owner)
        self.settle()
        return job_id, blob

    def assert_waits(self, job_id: str) -> None:
        """
        The job waits for credentials.
        """
        job = self.job(job_id)
        self.assertEqual(job["state"], "queued")
        self.assertIn(f"waits for the credentials for {HOST}", job["why"])
        self.assertIn(f"xferctl login {HOST}", job["why"])

    def finish(self, job_id: str, blob: Digest) -> None:
        """
        The job ends done, with its own credentials.
        """
        self.registries.registry(HOST, "ann").finish(blob)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(list(self.secrets.iterdir()), [])
        self.assertNotIn(
            "pass", json.dumps(self.store.journal.history + list(self.store.journal.requests.values()))
        )

    def test_kept(self) -> None:
        """
        The job continues with them, and they are removed when it ends; the journal never
        has them.
        """
        job_id, blob = self.begin()
        self.assertEqual([file.name for file in self.secrets.iterdir()], [job_id])
        self.killed()
        self.assertEqual(self.job(job_id)["state"], "running")
        self.finish(job_id, blob)

    def test_reboot(self) -> None:
        """
        After a reboot the job waits until its client comes back with credentials.
        """
        job_id, blob = self.begin()
        shutil.rmtree(self.secrets)
        self.killed()
        self.assert_waits(job_id)
        self.wait(10 * WINDOW)
        self.jobs.rejoin(job_id, "ci", "user 1")
        self.jobs.rejoin(job_id, "ci", "user 1", {OTHER: ANN})
        self.jobs.rejoin(job_id, "ci", "user 2", {HOST: ANN})
        self.assert_waits(job_id)
        self.jobs.rejoin(job_id, "ci", "user 1", {HOST: ANN})
        self.finish(job_id, blob)

    def test_login(self) -> None:
        """
        Or until its user logs in; another user's login changes nothing.
        """
        job_id, blob = self.begin()
        shutil.rmtree(self.secrets)
        self.killed()
        self.jobs.supply("user 2", {HOST: ANN})
        self.jobs.supply("user 1", {OTHER: ANN})
        self.assert_waits(job_id)
        self.jobs.supply("user 1", {HOST: ANN})
        self.finish(job_id, blob)

    def test_unknown_owner(self) -> None:
        """
        A job whose user is unknown gets no credentials of an unknown user.
        """
        job_id, _ = self.begin(owner="")
        shutil.rmtree(self.secrets)
        self.killed()
        self.jobs.supply("", {HOST: ANN})
        self.jobs.rejoin(job_id, "ci", "", {HOST: ANN})
        self.assert_waits(job_id)

    def test_rejoin(self) -> None:
        """
        A job that waits for its client ends if that does not come; one whose client came
        without credentials waits for these.
        """
        job_id, _ = self.begin(REJOIN)
        shutil.rmtree(self.secrets)
        self.killed()
        self.assertEqual(self.job(job_id)["why"], "waits up to 60 s for its client")
        self.jobs.rejoin(job_id, "ci", "user 1")
        self.assert_waits(job_id)
        self.wait(WINDOW + 1)
        self.assert_waits(job_id)
