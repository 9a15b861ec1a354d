"""
Tests for L{xferd.jobs.verify.verify}.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from twisted.internet.defer import succeed

from tests.jobs.case import HOST, JobsCase
from xferd.errors import Denied, NotFound
from xferd.interfaces.integrity import Damage
from xferd.jobs.verify.verify import BUSY_RATE
from xferd.names import Digest
from xferd.testing.images import SampleImage, sample_image


class VerifyCase(JobsCase):
    """
    Verifications of a store with one image.
    """

    def setUp(self) -> None:
        """
        Pull it.
        """
        super().setUp()
        self.image: SampleImage = self.add(sample_image(2, 1000))
        self.pulled()
        self.layer = self.image.layers[0].blob.digest

    def damage(self, digest: Digest) -> None:
        """
        Flip a bit of a blob.
        """
        data = bytearray(self.store.blobs.contents[digest])
        data[-1] ^= 1
        self.store.blobs.contents[digest] = bytes(data)

    def verify(self, reference: str | None = f"{HOST}/app") -> str:
        """
        Begin to verify; returns the job's id.
        """
        return str(self.jobs.verify(reference, "ci", 0)["id"])

    def verified(self, reference: str | None = f"{HOST}/app") -> Mapping[str, Any]:
        """
        Verify, to the end.
        """
        job_id = self.verify(reference)
        self.wait(2)
        self.assert_idle()
        return self.job(job_id)

    def sole_finding(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        The one finding of a job.
        """
        (finding,) = job["findings"]
        return cast("Mapping[str, Any]", finding)


class BlobTests(VerifyCase):
    """
    Blobs, whole or damaged.
    """

    def test_whole(self) -> None:
        """
        All blobs of an image are checked, each once; nothing is fetched.
        """
        gets = self.gets(self.layer)
        job = self.verified()
        self.assertEqual((job["state"], job["findings"]), ("done", []))
        self.assertEqual(job["result"]["blobs"], "4")
        self.assertEqual({row["state"] for row in job["layers"]}, {"done"})
        self.assertEqual(job["bytes_done"], job["bytes_total"])
        self.assertEqual(self.gets(self.layer), gets)

    def test_healed(self) -> None:
        """
        A damaged or missing blob of any kind is fetched again; its damaged copy is removed.
        """
        digests = [self.layer, self.image.config.digest, self.image.digest]
        for reference in (f"{HOST}/app", None):
            for digest in digests:
                right = bytes(self.store.blobs.contents[digest])
                for damage in (self.damage, self.store.blobs.contents.pop):
                    damage(digest)
                    job = self.verified(reference)
                    finding = self.sole_finding(job)
                    self.assertEqual((job["state"], finding["state"]), ("done", "healed"), job)
                    self.assertEqual((finding["kind"], finding["digest"]), ("blob", str(digest)))
                    self.assertEqual(finding["needed_by"], [f"{HOST}/app:latest"])
                    self.assertEqual(bytes(self.store.blobs.contents[digest]), right)
                    self.assertEqual((job["result"]["damaged"], job["result"]["healed"]), ("1", "1"))

    def test_not_healed(self) -> None:
        """
        A damaged blob that cannot be fetched is moved aside and named with the reason; the
        others are checked all the same, and the job fails.
        """
        self.damage(self.layer)
        self.registry.gate.fail("open", Denied("registry.example wants credentials"), self.layer, times=9)
        job = self.verified()
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "STORE_DAMAGED"))
        finding = self.sole_finding(job)
        self.assertEqual(finding["state"], "quarantined")
        self.assertIn("wants credentials", finding["why"])
        self.assertEqual(finding["kept"], f"quarantine/blob-sha256-{self.layer.hex}")
        self.assertEqual(job["result"]["blobs"], "4")
        self.assertFalse(self.store.blobs.has(self.layer))

    def test_shared(self) -> None:
        """
        Verifications, and pulls of the same blob, share its download.
        """
        self.damage(self.layer)
        gets = self.gets(self.layer)
        self.registry.gate.hold("open", self.layer)
        first, second = self.verify(), self.verify()
        self.wait(1)
        self.registry.gate.release("open", self.layer)
        self.wait(1)
        for job_id in (first, second):
            self.assert_done(job_id)
        self.assertEqual(self.gets(self.layer), gets + 1)

    def test_unknown(self) -> None:
        """
        An image that the store does not have is refused.
        """
        with self.assertRaises(NotFound):
            self.verify(f"{HOST}/other")


class RemovalTests(VerifyCase):
    """
    Images that are removed while they are verified.
    """

    def test_removed(self) -> None:
        """
        What is still to be checked when its image is removed stays until it has been: nothing
        is found missing, and nothing is fetched.
        """
        gets = self.gets(self.layer)
        for reference in (f"{HOST}/app", None):
            self.pulled()
            self.store.gate.hold("integrity.check")
            job_id = self.verify(reference)
            self.wait(1)
            removing = self.jobs.image_admin.remove(f"{HOST}/app")
            self.settle()
            self.successResultOf(removing)
            self.store.gate.release("integrity.check")
            self.wait(2)
            self.assert_done(job_id)
            self.assertEqual(self.job(job_id)["findings"], [])
            self.assertEqual(self.gets(self.layer), gets)
            collecting = self.jobs.image_admin.collect(False)
            self.settle()
            self.successResultOf(collecting)
            self.assertFalse(self.store.blobs.has(self.layer))
            gets += 1


class TreeTests(VerifyCase):
    """
    Trees, whole or damaged.
    """

    def setUp(self) -> None:
        """
        Damage the lower one.
        """
        super().setUp()
        self.diff_id = self.image.diff_ids[0]
        self.store.integrity.damage[self.diff_id] = [
            Damage("etc/passwd", "has other content"),
            Damage("etc/new", "is not part of the layer"),
        ]
        self.seen: list[bool] = []
        outdated = self.store.trees.is_outdated
        self.store.images.follow(lambda: self.seen.append(outdated(self.diff_id)), lambda: succeed(None))

    def test_healed(self) -> None:
        """
        A damaged tree is unpacked again from its blob, without a request; each damaged entry
        is named.
        """
        gets = self.gets(self.layer)
        job = self.verified()
        self.assertEqual(job["state"], "done", job)
        self.assertEqual(
            [(each["kind"], each["digest"], each["path"], each["state"]) for each in job["findings"]],
            [("tree", str(self.diff_id), path, "healed") for path in ("etc/passwd", "etc/new")],
        )
        self.assertEqual((job["result"]["trees"], job["result"]["healed"]), ("2", "2"))
        self.assertEqual(self.gets(self.layer), gets)
        self.assertFalse(self.store.trees.is_outdated(self.diff_id))
        self.assertEqual(self.seen, [False])

    def test_without_blob(self) -> None:
        """
        Without its blob, the blob is fetched first.
        """
        del self.store.blobs.contents[self.layer]
        job = self.verified(None)
        self.assertEqual(job["state"], "done", job)
        self.assertEqual({each["state"] for each in job["findings"]}, {"healed"})

    def test_not_healed(self) -> None:
        """
        If no blob can be had, the tree is moved aside with its layers, and named with the
        reason.
        """
        del self.store.blobs.contents[self.layer]
        self.registry.gate.fail("open", Denied("registry.example wants credentials"), self.layer, times=99)
        job = self.verified()
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "STORE_DAMAGED"))
        blob, first, second = job["findings"]
        self.assertEqual((blob["kind"], blob["state"]), ("blob", "missing"))
        for finding in (first, second):
            self.assertEqual(finding["state"], "quarantined")
            self.assertIn("wants credentials", finding["why"])
            self.assertEqual(finding["kept"], f"quarantine/tree-sha256-{self.diff_id.hex}")
        self.assertEqual(self.store.layers.registered, {})
        self.assertEqual(len(self.seen), 1)

    def test_no_record(self) -> None:
        """
        A tree without a record gets one from its blob; without the blob, a warning says
        that it was not checked.
        """
        self.store.integrity.damage = {self.diff_id: None}
        job = self.verified()
        self.assertEqual((job["state"], job["warnings"], job["findings"]), ("done", [], []))
        self.assertEqual(self.store.integrity.damage, {})
        self.store.integrity.damage = {self.diff_id: None}
        del self.store.blobs.contents[self.layer]
        self.registry.gate.fail("open", Denied("no"), self.layer, times=99)
        (warning,) = self.verified()["warnings"]
        self.assertIn("cannot be checked", warning)

    def test_cancelled(self) -> None:
        """
        A cancelled verification leaves a damaged tree outdated: its next use replaces it.
        """
        self.store.gate.hold("trees.commit", self.diff_id)
        job_id = self.verify()
        self.wait(1)
        self.jobs.cancel(job_id)
        self.store.gate.release("trees.commit", self.diff_id)
        self.wait(1)
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assert_idle()
        self.assertTrue(self.store.trees.is_outdated(self.diff_id))
        self.pulled()
        self.assertFalse(self.store.trees.is_outdated(self.diff_id))


class PaceTests(VerifyCase):
    """
    Verifications beside transfers.
    """

    def test_transfers_first(self) -> None:
        """
        While a download runs, content is read slowly; after it at full speed.
        """
        other = self.add(sample_image(1, 1000, seed="other"), "other")
        self.registry.gate.hold("open", other.layers[0].blob.digest)
        self.store.gate.hold("integrity.check")
        pulling, verifying = self.pull("other"), self.verify()
        self.wait(1)
        (pace,) = self.store.integrity.paces
        self.assertEqual(pace.rate, BUSY_RATE)
        self.registry.gate.release("open", other.layers[0].blob.digest)
        self.wait(1)
        self.assert_done(pulling)
        self.assertEqual(pace.rate, 0)
        self.store.gate.release("integrity.check")
        self.wait(1)
        self.assert_done(verifying)

    def test_cancelled(self) -> None:
        """
        A cancelled verification ends at once, while it checks and while it heals.
        """
        self.damage(self.layer)
        for gate, name in ((self.store.gate, "integrity.check"), (self.registry.gate, "open")):
            gate.hold(name, self.layer)
            job_id = self.verify()
            self.wait(1)
            self.jobs.cancel(job_id)
            self.settle()
            self.assertEqual(self.job(job_id)["state"], "cancelled")
            gate.release(name, self.layer)
            self.assert_idle()
