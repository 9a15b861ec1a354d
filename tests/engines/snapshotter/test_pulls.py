"""
Tests for L{xferd.engines.snapshotter.pulls}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.credentials import Credentials, Secret
from xferd.engines.snapshotter.pulls import ANSWERED_WITHIN, PATIENCE, LayerPulls, NotPulled
from xferd.errors import ManifestUnknown
from xferd.interfaces.store import Layer
from xferd.names import Digest, Reference
from xferd.testing.images import sample_image

OWNER = "containerd main"


class PullsCase(JobsCase):
    """
    Layers of an image in the first registry.
    """

    def setUp(self) -> None:
        """
        Make them.
        """
        super().setUp()
        self.pulls = LayerPulls(self.jobs, self.store, self.clock)
        self.image = self.add(sample_image(3))
        self.reference = Reference.parse(f"{HOST}/app@{self.image.digest}")

    def want(self, index: int, client: str = OWNER) -> Deferred[Layer]:
        """
        Ask for a layer.
        """
        return self.pulls.layer(self.reference, self.image.chain_ids[index], client)

    def blob(self, index: int) -> Digest:
        """
        The blob of a layer.
        """
        return self.image.layers[index].blob.digest

    def only_job(self) -> str:
        """
        The id of the only job.
        """
        (job,) = self.jobs.all()
        return job["id"]

    def end(self) -> None:
        """
        Let the layers go that were kept for the next request.
        """
        self.clock.advance(PATIENCE)
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.pulls._flights, {})
        self.assert_idle()


class LayerPullsTests(PullsCase):
    """
    Pulls for engines.
    """

    def test_one_job(self) -> None:
        """
        One job fetches all layers for all requests; each gets its layer as soon as that is
        registered, and the job ends with the image.
        """
        self.registry.gate.hold("open", self.blob(1))
        wanted = [self.want(0), self.want(0, "containerd other"), self.want(2)]
        self.settle()
        for each in wanted[:2]:
            self.assertEqual(self.successResultOf(each).chain_id, self.image.chain_ids[0])
        self.assertNoResult(wanted[2])
        job = self.job(self.only_job())
        self.assertEqual(
            (job["client"], job["reference"], job["state"]), (OWNER, str(self.reference), "running")
        )
        self.registry.gate.release("open", self.blob(1))
        self.settle()
        self.assertEqual(self.successResultOf(wanted[2]).chain_id, self.image.chain_ids[2])
        self.assertEqual([self.gets(self.blob(n)) for n in range(3)], [1, 1, 1])
        self.assert_done(self.only_job())
        self.end()

    def test_kept_between_requests(self) -> None:
        """
        What a pull has brought is kept for the next request, and not for ever.
        """
        wanted = self.want(0)
        self.settle()
        self.successResultOf(wanted)
        collecting = self.store.gc.collect(False)
        self.settle()
        self.assertEqual(self.successResultOf(collecting).layers, 0)
        self.clock.advance(PATIENCE - 1)
        self.successResultOf(self.want(1))
        self.clock.advance(PATIENCE - 1)
        self.successResultOf(self.want(2))
        self.end()
        collecting = self.store.gc.collect(False)
        self.settle()
        self.assertEqual(self.successResultOf(collecting).layers, 3)

    def test_nobody_waits(self) -> None:
        """
        A pull goes on for a while after an answer, and is cancelled without a further request.
        """
        self.registry.gate.hold("open", self.blob(1))
        wanted = self.want(0)
        self.settle()
        self.successResultOf(wanted)
        self.clock.advance(PATIENCE - 1)
        wanted = self.want(1)
        self.clock.advance(PATIENCE)
        self.settle()
        self.assertEqual(self.job(self.only_job())["state"], "running")
        self.registry.gate.release("open", self.blob(1))
        self.settle()
        self.successResultOf(wanted)
        self.end()

    def test_abandoned(self) -> None:
        """
        The same for one that is in the middle of its work.
        """
        self.registry.gate.hold("open", self.blob(1))
        wanted = self.want(0)
        self.settle()
        self.successResultOf(wanted)
        self.end()
        self.assertEqual(self.job(self.only_job())["state"], "cancelled")

    def test_cancelled(self) -> None:
        """
        The end of one wait leaves the others; the end of the last one cancels the job, also
        while it is queued; the next request begins another.
        """
        self.registry.gate.hold("open", self.blob(2))
        first, second = self.want(2), self.want(2)
        self.settle()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.settle()
        self.assertEqual(self.job(self.only_job())["state"], "running")
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.settle()
        self.assertEqual(self.job(self.only_job())["state"], "cancelled")
        early = self.want(2)
        early.cancel()
        self.failureResultOf(early, CancelledError)
        self.settle()
        self.registry.gate.release("open", self.blob(2))
        again = self.want(2)
        self.settle()
        self.successResultOf(again)
        self.assertEqual([job["state"] for job in self.jobs.all()].count("cancelled"), 2)
        self.end()

    def test_failed(self) -> None:
        """
        If the job fails, all who wait get the reason, and the next request begins another
        job.
        """
        self.registry.gate.fail("manifest", ManifestUnknown("there is none", host=HOST))
        wanted = [self.want(0), self.want(2)]
        self.settle()
        for each in wanted:
            self.assertIn("there is none", str(self.failureResultOf(each, NotPulled).value))
        again = self.want(0)
        self.settle()
        self.successResultOf(again)
        self.end()

    def test_cancelled_by_another(self) -> None:
        """
        The same if a client cancels the job.
        """
        self.registry.gate.hold("open", self.blob(0))
        wanted = self.want(0)
        self.settle()
        job_id = self.only_job()
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(str(self.failureResultOf(wanted, NotPulled).value), f"job {job_id} was cancelled")
        self.registry.gate.release("open", self.blob(0))
        self.end()

    def test_no_such_layer(self) -> None:
        """
        A layer that the image does not have is refused when the job is done, and from then
        on at once.
        """
        other = Digest.of(b"other")
        wanted = self.pulls.layer(self.reference, other, OWNER)
        self.settle()
        self.assertIn("no such layer", str(self.failureResultOf(wanted, NotPulled).value))
        again = self.pulls.layer(self.reference, other, OWNER)
        self.assertIn(f"no layer {other}", str(self.failureResultOf(again, NotPulled).value))
        self.end()

    def test_collected_meanwhile(self) -> None:
        """
        A pull that is done does not begin again for a layer that is here.
        """
        wanted = self.want(2)
        self.settle()
        self.successResultOf(wanted)
        self.successResultOf(self.want(0))
        self.assertEqual(len(self.jobs.all()), 1)
        self.end()

    def test_credentials(self) -> None:
        """
        A client that brings credentials has a job of its own, with them.
        """
        private = self.registries.registry(HOST, "ann")
        image = sample_image(2, seed=1)
        private.add(image, "app")
        self.reference = Reference.parse(f"{HOST}/app@{image.digest}")
        brought = {HOST: Credentials("ann", Secret("secret"))}
        without = self.pulls.layer(self.reference, image.chain_ids[0], OWNER, {})
        wanted = self.pulls.layer(self.reference, image.chain_ids[0], OWNER, brought)
        self.settle()
        self.failureResultOf(without, NotPulled)
        self.successResultOf(wanted)
        self.assertEqual(private.count("blob", image.layers[0].blob.digest), 1)
        self.end()

    def test_registry_does_not_answer(self) -> None:
        """
        If the registry does not answer xferd in time, nobody waits for its further attempts.
        """
        self.registry.gate.hold("manifest")
        wanted = self.want(0)
        self.settle()
        self.clock.advance(ANSWERED_WITHIN - 1)
        self.assertNoResult(wanted)
        self.clock.advance(1)
        self.assertIn(
            "has not answered xferd within 15 s", str(self.failureResultOf(wanted, NotPulled).value)
        )
        self.settle()
        self.assertEqual(self.job(self.only_job())["state"], "cancelled")
        self.registry.gate.release("manifest")
        again = self.want(0)
        self.settle()
        self.successResultOf(again)
        self.end()

    def test_slow_layers(self) -> None:
        """
        Layers may take as long as they do.
        """
        self.registry.gate.hold("open", self.blob(0))
        wanted = self.want(0)
        self.settle()
        self.clock.advance(10 * ANSWERED_WITHIN)
        self.assertNoResult(wanted)
        self.registry.gate.release("open", self.blob(0))
        self.settle()
        self.successResultOf(wanted)
        self.end()

    def test_full_disk(self) -> None:
        """
        Nobody waits for space on a full disk, from the beginning or later.
        """
        self.registry.gate.hold("open", self.blob(0))
        wanted = self.want(0)
        self.settle()
        self.store.free_space.ran_out()
        self.failureResultOf(wanted, NotPulled)
        self.settle()
        self.assertEqual(self.job(self.only_job())["state"], "cancelled")
        refused = self.assertRaises(NotPulled, self.want, 0)
        self.assertEqual(str(refused), self.store.free_space.why)
        self.assertNotEqual(str(refused), "")
        stopping = Deferred.fromCoroutine(self.store.free_space.stop())
        self.settle()
        self.successResultOf(stopping)

    def test_stop(self) -> None:
        """
        When xferd stops, waits end, jobs are cancelled, and none begins.
        """
        self.registry.gate.hold("open", self.blob(0))
        wanted = self.want(0)
        self.settle()
        self.pulls.stop()
        self.assertEqual(str(self.failureResultOf(wanted, NotPulled).value), "xferd is stopping")
        self.settle()
        self.assertEqual(self.job(self.only_job())["state"], "cancelled")
        self.stop(self.jobs)
        refused = self.assertRaises(NotPulled, self.want, 0)
        self.assertIn("stopping", str(refused))
        self.assertEqual(self.clock.getDelayedCalls(), [])
