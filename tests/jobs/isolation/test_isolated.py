"""
Tests for L{xferd.jobs.isolation}: pulls in isolated mode.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from tests.jobs.case import HOST, OTHER
from tests.jobs.isolation.case import ANN, BOB, RightsCase
from xferd.errors import ConnectionFailed, Denied
from xferd.jobs.blobs.possession import PART, PARTS
from xferd.jobs.isolation import SharingScope
from xferd.names import Reference
from xferd.testing.fake_unpacker import inflate
from xferd.testing.images import image_of, index_of, sample_image, sample_layer
from xferd.testing.layers import pack


class IsolatedTests(RightsCase):
    """
    Clients in isolated mode: each gets what its own registry would send, and
    no more.
    """

    sharing = "isolated"

    def test_running_transfer(self) -> None:
        """
        A client without access does not share a running transfer: neither its
        bytes nor the tree made of them.
        """
        self.deny()
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.hers.feed(self.blob, 50_000)
        self.settle()
        self.assertEqual((self.row(ann)["bytes_done"], self.row(bob)["bytes_done"]), (50_000, 0))
        self.assertIn("another client's download", self.row(bob)["why"])
        self.hers.finish(self.blob)
        self.settle()
        self.assert_done(ann)
        self.assertEqual(self.assert_failed(bob, "DENIED"), "not yours")
        self.assertEqual(self.his.count("blob", self.blob), 0)
        self.assert_idle()

    def test_local_blob(self) -> None:
        """
        A client without access does not get a blob or tree of the store; for
        one with access it is not fetched again.
        """
        self.assert_done(self.begin(ANN))
        self.deny(1, ["confirm"])
        bob = self.begin(BOB)
        self.assertEqual(self.assert_failed(bob, "DENIED"), "not yours")
        self.assert_done(self.begin(BOB))
        self.assertEqual([body.sent for body in self.his.bodies], [PART] * PARTS)
        self.assertEqual(self.hers.count("blob", self.blob), 1)
        self.assert_idle()

    def test_unknown_blob(self) -> None:
        """
        A known digest does not help where the client's repository has no such
        blob.
        """
        self.assert_done(self.begin(ANN))
        self.his.remove_blob("app", self.blob)
        self.assert_failed(self.begin(BOB), "BLOB_UNKNOWN")

    def test_same_identity(self) -> None:
        """
        Two clients with the same credentials for one repository share as in
        shared mode.
        """
        self.hers.stall(self.blob)
        jobs = [self.begin(ANN), self.begin(ANN)]
        self.assertEqual(self.transfer("download", self.blob)["watchers"], 2)
        self.hers.finish(self.blob)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual(self.hers.count("blob", self.blob), 1)
        self.assertEqual(self.hers.count("confirm", self.blob), 0)
        self.assertEqual(len(self.unpacker.unpackings), 1)
        self.assert_idle()

    def test_other_repository(self) -> None:
        """
        Access to one repository is no access to another one.
        """
        self.hers.add(self.image, "else")
        self.assert_done(self.begin(ANN))
        self.hers.remove_blob("else", self.blob)
        self.assert_failed(self.begin(ANN, "else"), "BLOB_UNKNOWN")

    def test_takes_over(self) -> None:
        """
        Where the first client's download fails, that of the next one continues
        where it ended, with its own source, once that has proved access.
        """
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.hers.feed(self.blob, 50_000)
        self.hers.gate.fail("open", ConnectionFailed("gone", host=HOST), self.blob, times=9)
        self.hers.fail(self.blob, Denied("no more", host=HOST, status=401))
        self.settle()
        self.assert_failed(ann, "DENIED")
        self.assert_done(bob)
        *parts, body = self.his.bodies
        self.assertEqual([part.sent for part in parts], [PART] * PARTS)
        self.assertEqual(body.start, 50_000)
        kinds = [r.kind for r in self.his.requests if r.wanted == str(self.blob)]
        self.assertEqual(kinds, ["confirm", *["blob"] * (PARTS + 1)])
        self.assert_idle()

    def test_left_bytes(self) -> None:
        """
        A client without access does not continue the partial file of another
        client.
        """
        self.hers.stall(self.blob)
        ann = self.begin(ANN)
        self.hers.feed(self.blob, 50_000)
        self.jobs.cancel(ann)
        self.settle()
        self.deny()
        self.assert_failed(self.begin(BOB), "DENIED")
        self.assertEqual(self.his.count("blob", self.blob), 0)
        self.assertEqual(len(self.unpacker.unpackings), 1)
        self.assert_idle()

    def test_cancelled_while_waiting(self) -> None:
        """
        A wait for another client's download can be cancelled.
        """
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.jobs.cancel(bob)
        self.settle()
        self.assertEqual(self.job(bob)["state"], "cancelled")
        self.hers.finish(self.blob)
        self.settle()
        self.assert_done(ann)
        self.assert_idle()

    def test_documents(self) -> None:
        """
        Each client requests documents itself, also those in the store.
        """
        index = index_of({self.image.platform: self.image})
        for registry in (self.hers, self.his):
            registry.add(index, "app")
        self.assert_done(self.begin(ANN))
        config = self.image.config.digest
        self.his.gate.fail("document", Denied("not yours", host=HOST, status=401), config)
        self.assert_failed(self.begin(BOB), "DENIED")
        self.his.gate.fail("manifest", Denied("not yours", host=HOST, status=401), str(self.image.digest))
        self.assert_failed(self.begin(BOB), "DENIED")
        self.assert_done(self.begin(BOB))

    def test_copy_during_pull(self) -> None:
        """
        A copy completes that begins while a pull of the same client fetches one layer,
        and has another, which was in the store.
        """
        image = sample_image(2, seed="two")
        self.his.add(image_of(image.layers[:1]), "one")
        self.hers.add(image, "two")
        top = image.layers[1].blob.digest
        self.hers.stall(top)
        self.assert_done(self.begin(BOB, "one"))
        pull = self.begin(ANN, "two")
        copy = self.copy("two", credentials={HOST: ANN})
        self.settle()
        self.hers.finish(top)
        self.wait(2)
        self.assert_done(pull)
        self.assert_done(copy)
        self.assert_idle()

    def test_copy(self) -> None:
        """
        A client without access cannot copy a blob elsewhere, neither one in
        transit nor one in the store.
        """
        self.deny(2, ["confirm"])
        self.hers.stall(self.blob)
        ann = self.begin(ANN)
        copy = self.copy(credentials={HOST: BOB})
        self.settle()
        self.hers.feed(self.blob, 50_000)
        self.settle()
        self.hers.finish(self.blob)
        self.settle()
        self.assert_done(ann)
        self.assert_failed(copy, "DENIED")
        self.assertFalse(self.other.has_blob("app", self.blob))
        again = self.copy(credentials={HOST: BOB})
        self.settle()
        self.assert_failed(again, "DENIED")
        allowed = self.copy(credentials={HOST: BOB})
        self.settle()
        self.assert_done(allowed)
        self.assertEqual(self.his.count("blob", self.blob), PARTS)
        self.assert_idle()

    def test_push(self) -> None:
        """
        All clients of the daemon have access to an image of the store.
        """
        self.assert_done(self.begin(ANN))
        asked = len(self.hers.requests)
        push = self.push()
        self.settle()
        self.assert_done(push)
        self.assertEqual(len(self.hers.requests), asked)

    def test_confirms_anything(self) -> None:
        """
        A registry that confirms every digest, like one that a client runs,
        gives its client no access to blobs of others.
        """
        self.assert_done(self.begin(ANN))
        data = self.image.layers[0].blob.read()
        for other in (bytes(len(data)), b"", data[:2000]):
            self.his.put_blob("app", self.blob, other)
            self.assert_failed_for_content(self.begin(BOB))
        self.his.put_blob("app", self.blob, data)
        self.assert_done(self.begin(BOB))
        self.assert_idle()

    def test_knows_the_beginning(self) -> None:
        """
        A client that has only the first bytes of a blob does not get the rest,
        neither when it is complete nor after a shared beginning.
        """
        data = self.image.layers[0].blob.read()
        self.his.put_blob("app", self.blob, data[:500] + bytes(len(data) - 500))
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.hers.feed(self.blob, 500)
        self.hers.fail(self.blob)
        self.settle()
        self.wait(3)
        self.hers.finish(self.blob)
        self.wait(30)
        self.assert_done(ann)
        self.assert_failed_for_content(bob)
        self.assert_failed_for_content(self.begin(BOB))
        self.assert_idle()

    def test_wrong_bytes_are_left(self) -> None:
        """
        Wrong bytes of another client's registry do no harm: they differ from
        those of the client's own registry, and are discarded.
        """
        data = self.image.layers[0].blob.read()
        self.hers.put_blob("app", self.blob, bytes(len(data)))
        self.hers.stall(self.blob)
        ann = self.begin(ANN)
        self.hers.feed(self.blob, 50_000)
        self.settle()
        self.jobs.cancel(ann)
        self.settle()
        bob = self.begin(BOB)
        self.assert_done(bob)
        self.assertEqual((self.his.bodies[-1].start, self.his.bodies[-1].sent), (0, len(data)))
        self.assert_idle()

    def test_no_ranges(self) -> None:
        """
        A registry that sends no parts sends all, once.
        """
        self.assert_done(self.begin(ANN))
        data = self.image.layers[0].blob.read()
        self.his.ignore_range(self.blob, times=9)
        self.assert_done(self.begin(BOB))
        self.assertEqual([body.sent for body in self.his.bodies], [len(data)])

    def test_cancelled_while_proving(self) -> None:
        """
        A pull can be cancelled while its registry sends parts, and leaves
        nothing open.
        """
        self.assert_done(self.begin(ANN))
        self.his.stall(self.blob)
        bob = self.begin(BOB)
        self.assertEqual(len(self.his.open_bodies()), 1)
        self.jobs.cancel(bob)
        self.settle()
        self.assertEqual(self.job(bob)["state"], "cancelled")
        self.assertEqual(self.his.open_bodies(), [])
        self.assert_idle()

    def assert_failed_for_content(self, job_id: str) -> None:
        """
        The job fails, as what its registry sends is not the blob.
        """
        self.wait(30)
        job = self.job(job_id)
        self.assertEqual(job["state"], "failed", job)
        self.assertIn(job["error"]["code"], ("DIGEST_MISMATCH", "SIZE_MISMATCH", "TRUNCATED"), job["error"])

    def test_borrowed_diff_id(self) -> None:
        """
        An image whose config names the diff ID of another client's layer does
        not get that layer's tree: its own blob unpacks to something else.
        """
        self.assert_done(self.begin(ANN))
        (hers,) = self.image.layers
        own = sample_layer(1000, "bob")
        self.his.add(image_of([evolve(own, diff_id=hers.diff_id)]), "forged")
        forged = self.begin(BOB, "forged")
        said = self.assert_failed(forged, "DIFFID_MISMATCH")
        self.assertIn(f"unpacks to {own.diff_id}", said)
        self.assertIsNone(self.store.images.get(Reference.parse(f"{HOST}/forged")))
        self.assert_idle()

    def test_own_diff_id(self) -> None:
        """
        A client whose own blob unpacks to a tree of the store uses that tree.
        """
        self.assert_done(self.begin(ANN))
        (hers,) = self.image.layers
        own = pack(inflate(hers.blob.read()), "tar")
        self.assertEqual(own.diff_id, hers.diff_id)
        self.his.add(image_of([own]), "own")
        self.assert_done(self.begin(BOB, "own"))
        self.assertEqual(len(self.store.layers.registered), 1)
        self.assert_idle()

    def test_cancelled_while_unpacking(self) -> None:
        """
        A pull can be cancelled while its own blob is unpacked, although the
        store has the tree that its config names.
        """
        self.assert_done(self.begin(ANN))
        (hers,) = self.image.layers
        own = sample_layer(1000, "bob")
        self.his.stall(own.blob.digest)
        self.his.add(image_of([evolve(own, diff_id=hers.diff_id)]), "forged")
        forged = self.begin(BOB, "forged")
        self.assertEqual(self.job(forged)["state"], "running")
        self.jobs.cancel(forged)
        self.settle()
        self.assertEqual(self.job(forged)["state"], "cancelled")
        self.assert_idle()

    def test_push_of_other_platforms(self) -> None:
        """
        An index that names another client's blobs for a further platform does
        not get them pushed: only the image that was pulled is in the store
        for all.
        """
        self.assert_done(self.begin(ANN))
        own = sample_image(1, 1000, "bob")
        arm = evolve(self.image.platform, architecture="arm64")
        stolen = image_of(self.image.layers, platform=arm)
        self.his.add(index_of({own.platform: own, arm: stolen}), "both")
        self.his.remove_blob("both", self.blob)
        self.assert_done(self.begin(BOB, "both"))
        options: dict[str, Any] = {"credentials": {HOST: BOB}}
        job = self.jobs.push(f"{HOST}/both", f"{OTHER}/both", (), "all", "ci", 0, **options)
        self.settle()
        self.assert_failed(str(job["id"]), "BLOB_UNKNOWN")
        self.assertFalse(self.other.has_blob("both", self.blob))
        self.assert_idle()

    def test_shown(self) -> None:
        """
        Keys are shown with the repository, and without the client's identity.
        """
        self.hers.stall(self.blob)
        self.begin(ANN)
        keys = {str(t["key"]) for t in self.jobs.transfers()}
        self.assertIn(f"blob {self.blob} {HOST}/app", keys)
        self.assertNotIn("ann", repr(keys))
        self.hers.finish(self.blob)
        self.settle()

    def test_scopes(self) -> None:
        """
        Scopes are equal where sources would behave alike, and show no secret:
        they are called by the repository.
        """
        blobs = [r.repository("app") for r in (self.hers, self.hers, self.his, self.registry)]
        one, same, *others = map(SharingScope.of, [*blobs, self.hers.repository("b")])
        self.assertEqual((one, hash(one), str(one)), (same, hash(same), f"{HOST}/app"))
        for other in others:
            self.assertNotEqual(one, other)
        self.assertNotIn("ann", f"{one!r} {one}")
