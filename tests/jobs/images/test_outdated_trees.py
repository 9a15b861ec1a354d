"""
Tests for L{xferd.jobs.images.outdated_trees}, alone and in pulls.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import BadReference, BlobUnknown, ConnectionFailed, NotFound, StoreError
from xferd.testing.images import SampleImage, sample_image


class RenewalTests(JobsCase):
    """
    An image of two layers whose trees older rules have made.
    """

    def setUp(self) -> None:
        """
        Pull it.
        """
        super().setUp()
        self.image = self.add(sample_image(2))
        self.pulled()
        self.outdate(self.image)

    def outdate(self, image: SampleImage) -> None:
        """
        From now on an image's trees are outdated.
        """
        self.store.trees.outdated.update(image.diff_ids)
        self.store.layers.outdated.update(image.chain_ids)

    def lose_blobs(self) -> None:
        """
        The layers' blobs are not in the store any more.
        """
        for layer in self.image.layers:
            del self.store.blobs.contents[layer.blob.digest]

    def requests(self) -> int:
        """
        The number of requests for layers.
        """
        return sum(self.registry.count("blob", layer.blob.digest) for layer in self.image.layers)

    def renew(self) -> Deferred[Sequence[str]]:
        """
        Have the image's trees unpacked again.
        """
        renewing = self.jobs.renew(f"{HOST}/app", "ci")
        self.settle()
        return renewing

    def assert_renewed(self) -> None:
        """
        Nothing of the image is outdated.
        """
        self.assertEqual((self.store.trees.outdated, self.store.layers.outdated), (set(), set()))
        self.assert_idle()

    def test_pull(self) -> None:
        """
        A pull unpacks the layers again, from the blobs that are here.
        """
        before = self.requests()
        job = self.pulled()
        self.assertEqual((job["warnings"], self.requests()), ([], before))
        self.assertEqual(len(self.unpacker.unpackings), 4)
        self.assert_renewed()
        self.pulled()
        self.assertEqual(len(self.unpacker.unpackings), 4)

    def test_pull_without_blobs(self) -> None:
        """
        Blobs that are not here are fetched.
        """
        self.lose_blobs()
        before = self.requests()
        job = self.pulled()
        self.assertEqual((job["warnings"], self.requests()), ([], before + 2))
        self.assert_renewed()

    def test_pull_fails_to_renew(self) -> None:
        """
        Where a layer cannot be fetched, the pull succeeds with the older tree,
        and a warning.
        """
        self.lose_blobs()
        lost, other = (layer.blob.digest for layer in self.image.layers)
        self.registry.gate.fail("open", BlobUnknown("it is gone", host=HOST), lost, times=9)
        job = self.pulled()
        (warning,) = job["warnings"]
        self.assertIn(f"layer {lost} was unpacked by an older xferd", warning)
        self.assertIn("it is gone", warning)
        self.assertEqual([row["state"] for row in job["layers"]], ["exists", "done"])
        self.assertEqual(self.store.trees.outdated, {self.image.diff_ids[0]})
        self.assertTrue(self.store.blobs.has(other))
        self.assert_idle()

    def test_cancelled(self) -> None:
        """
        A pull that is cancelled meanwhile leaves the older trees.
        """
        self.lose_blobs()
        self.registry.stall(self.image.layers[0].blob.digest)
        job_id = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertIn(self.image.diff_ids[0], self.store.trees.outdated)
        self.assert_idle()

    def test_isolated(self) -> None:
        """
        In isolated mode they are unpacked again, too.
        """
        self.stop(self.jobs)
        self.sharing = "isolated"
        self.jobs = self.make_jobs()
        self.start()
        self.pulled()
        self.assert_renewed()

    def test_isolated_without_blobs(self) -> None:
        """
        In isolated mode, an image that is used is unpacked again from blobs
        that are fetched for it.
        """
        self.stop(self.jobs)
        self.sharing = "isolated"
        self.jobs = self.make_jobs()
        self.start()
        self.lose_blobs()
        self.assertEqual(self.successResultOf(self.renew()), [])
        self.assert_renewed()

    def test_use(self) -> None:
        """
        A client that is about to use the trees has them unpacked again,
        without a pull.
        """
        before = len(self.registry.requests)
        self.assertEqual(self.successResultOf(self.renew()), [])
        self.assert_renewed()
        self.assertEqual(len(self.registry.requests), before)
        self.assertEqual(self.successResultOf(self.renew()), [])
        self.assertEqual(len(self.unpacker.unpackings), 4)

    def test_use_offline(self) -> None:
        """
        Offline the older trees are used, and named.
        """
        self.lose_blobs()
        self.registry.gate.fail("open", ConnectionFailed("no route", host=HOST), times=99)
        renewing = self.renew()
        self.wait(20)
        warnings = self.successResultOf(renewing)
        self.assertEqual(len(warnings), 2)
        for layer, warning in zip(self.image.layers, warnings, strict=True):
            self.assertIn(str(layer.blob.digest), warning)
            self.assertIn("no route", warning)
        self.assertEqual(self.store.layers.outdated, set(self.image.chain_ids))
        self.assert_idle()

    def test_use_is_cancelled(self) -> None:
        """
        A request that is cancelled ends what was begun for it.
        """
        self.lose_blobs()
        self.registry.stall(self.image.layers[0].blob.digest)
        renewing = self.renew()
        renewing.cancel()
        self.settle()
        self.failureResultOf(renewing, CancelledError)
        self.assert_idle()

    def test_registered_later(self) -> None:
        """
        A layer whose tree was unpacked again meanwhile is registered with it,
        and nothing is unpacked.
        """
        self.store.trees.outdated.clear()
        self.assertEqual(self.successResultOf(self.renew()), [])
        self.assert_renewed()
        self.assertEqual(len(self.unpacker.unpackings), 2)

    def test_refused(self) -> None:
        """
        A name that the store does not have is refused, and so is an image that
        lost a layer.
        """
        self.failureResultOf(self.jobs.renew("//", "ci"), BadReference)
        self.failureResultOf(self.jobs.renew(f"{HOST}/other", "ci"), NotFound)
        del self.store.layers.registered[self.image.chain_ids[0]]
        reason = self.failureResultOf(self.renew(), StoreError)
        self.assertIn("has lost layer", str(reason.value))
