"""
Tests for L{xferd.jobs.isolation}: what clients share, with several sources and
different access.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from attrs import evolve

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.credentials import Credentials, Secret
from xferd.errors import BlobUnknown, ConnectionFailed, Denied, TooManyRequests
from xferd.jobs.blobs.possession import PART, PARTS
from xferd.jobs.isolation import SharingScope
from xferd.names import Reference, Repository
from xferd.testing.fake_registry import FakeRegistry
from xferd.testing.fake_unpacker import inflate
from xferd.testing.images import image_of, index_of, sample_image, sample_layer
from xferd.testing.layers import pack

ANN, BOB = (Credentials(name, Secret("hunter2")) for name in ("ann", "bob"))


class SourcesCase(JobsCase):
    """
    Two clients with a registry each.
    """

    def setUp(self) -> None:
        """
        Put one image into both, and hold the bytes of its layer.
        """
        super().setUp()
        self.image = self.add(sample_image(1, 100_000))
        self.other.add(self.image, "app")
        self.blob = self.image.layers[0].blob.digest
        self.registry.stall(self.blob)

    def both(self) -> tuple[str, str]:
        """
        Begin to pull from the one, then from the other.
        """
        first = self.pull()
        self.settle()
        second = str(self.jobs.pull(f"{OTHER}/app", None, "ci", 0)["id"])
        self.settle()
        return first, second


class SourcesTests(SourcesCase):
    """
    Each source that fails is followed by the next.
    """

    def test_mid_blob(self) -> None:
        """
        A source that breaks off is left in the middle of the blob, and the
        next one sends the rest.
        """
        jobs = self.both()
        self.registry.feed(self.blob, 40_000)
        self.registry.gate.fail("open", Denied("no more", host=HOST, status=401), self.blob, times=9)
        self.registry.fail(self.blob)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        (body,) = self.other.bodies
        size = self.image.layers[0].blob.descriptor.size
        self.assertEqual((body.start, body.sent), (40_000, size - 40_000))
        self.assertEqual(self.jobs.status()["hosts"][OTHER]["bytes"], size - 40_000)
        self.assert_idle()

    def test_wrong_bytes(self) -> None:
        """
        Nothing is kept of a source that sent wrong bytes: the next one sends
        all, before the first one is used again.
        """
        data = self.image.layers[0].blob.read()
        self.registry.corrupt(self.blob, data[:-1] + b"?", times=9)
        jobs = self.both()
        self.registry.finish(self.blob)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        (body,) = self.other.bodies
        self.assertEqual((body.start, body.sent), (0, len(data)))
        self.assertEqual(self.gets(self.blob), 1)

    def test_own_errors(self) -> None:
        """
        Where all sources fail, each client gets the error of its own.
        """
        first, second = self.both()
        self.other.gate.fail("open", BlobUnknown("not here", host=OTHER, status=404), self.blob, times=9)
        self.registry.gate.fail("open", Denied("no more", host=HOST, status=401), self.blob, times=9)
        self.registry.fail(self.blob, Denied("not yours", host=HOST, status=403))
        self.wait(5)
        self.assertEqual(self.assert_failed(first, "DENIED"), "not yours")
        self.assertEqual(self.assert_failed(second, "BLOB_UNKNOWN"), "not here")
        self.assert_idle()

    def test_source_leaves(self) -> None:
        """
        The source of a cancelled client is used for the present request, and
        not again.
        """
        first, second = self.both()
        self.jobs.cancel(first)
        self.settle()
        self.registry.feed(self.blob, 40_000)
        self.registry.fail(self.blob)
        self.settle()
        self.assert_done(second)
        self.assertEqual((self.gets(self.blob), self.other.count("blob", self.blob)), (1, 1))
        self.assert_idle()


class RightsCase(JobsCase):
    """
    Clients with different access.
    """

    def setUp(self) -> None:
        """
        Let Ann have an image of which Bob knows all but the layer's bytes.
        """
        super().setUp()
        self.image = sample_image(1, 100_000)
        self.blob = self.image.layers[0].blob.digest
        self.hers, self.his = self.of("ann"), self.of("bob")
        self.hers.add(self.image, "app")
        self.his.add(self.image, "app")

    def of(self, user: str) -> FakeRegistry:
        """
        The registry as one client sees it.
        """
        return self.registries.registry(HOST, user)

    def begin(self, who: Credentials, name: str = "app") -> str:
        """
        Begin to pull.
        """
        job_id = str(self.jobs.pull(f"{HOST}/{name}", None, "ci", 0, {HOST: who})["id"])
        self.settle()
        return job_id

    def deny(self, times: int = 9, points: Sequence[str] = ("confirm", "open")) -> None:
        """
        Let Bob have no byte of the layer, so many times.
        """
        error = Denied("not yours", host=HOST, status=401)
        for point in points:
            self.his.gate.fail(point, error, self.blob, times=times)

    def row(self, job_id: str) -> Mapping[str, Any]:
        """
        The layer of a job.
        """
        (row,) = self.job(job_id)["layers"]
        return dict(row)


class SharedTests(RightsCase):
    """
    Clients in shared mode: each shares the blobs whose digest it knows.
    """

    def test_shared(self) -> None:
        """
        A client that knows the digest shares a running transfer, and a blob in
        the store.
        """
        self.deny()
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.hers.finish(self.blob)
        self.settle()
        for job_id in (ann, bob, self.begin(BOB)):
            self.assert_done(job_id)
        self.assertEqual(self.his.count("blob", self.blob) + self.his.count("confirm", self.blob), 0)
        self.assert_idle()


class RateLimitTests(RightsCase):
    """
    One client's rate limit is no other client's.
    """

    def limit(self, point: str, seconds: float, times: int = 9) -> None:
        """
        Have Ann's registry refuse requests.
        """
        error = TooManyRequests("slow down", host=HOST, status=429, retry_after=seconds)
        self.hers.gate.fail(point, error, times=times)

    def test_before_the_others_came(self) -> None:
        """
        While Ann waits, Bob pulls another image of the same registry.
        """
        other = sample_image(1, 50_000)
        self.his.add(other, "tools")
        self.limit("manifest", 60, 1)
        ann, bob = self.begin(ANN), self.begin(BOB, "tools")
        self.assert_done(bob)
        self.assertEqual(self.job(ann)["state"], "running")
        self.wait(61)
        self.assert_done(ann)
        self.assert_idle()

    def test_impatience(self) -> None:
        """
        Where the registry asks Ann to wait for an hour, her pull fails and no
        other job waits.
        """
        self.limit("manifest", 3600)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.assert_failed(ann, "TOOMANYREQUESTS")
        self.assert_done(bob)
        self.assert_idle()

    def test_shared_transfer(self) -> None:
        """
        In a transfer that both watch, Bob's credentials are tried at once.
        """
        self.hers.stall(self.blob)
        ann, bob = self.begin(ANN), self.begin(BOB)
        self.hers.feed(self.blob, 40_000)
        self.limit("open", 300)
        self.hers.fail(self.blob, TooManyRequests("slow down", host=HOST, status=429, retry_after=300))
        self.settle()
        for job_id in (ann, bob):
            self.assert_done(job_id)
        (body,) = self.his.bodies
        self.assertEqual(body.start, 40_000)
        self.assert_idle()


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


class UploadsCase(RightsCase):
    """
    Clients that push one image of the store to one repository, each with its
    own credentials.
    """

    def setUp(self) -> None:
        """
        Have the image in the store, and hold the bytes of its layer.
        """
        super().setUp()
        self.assert_done(self.begin(ANN))
        self.targets = [self.registries.registry(OTHER, name) for name in ("ann", "bob", "")]
        for target in self.targets:
            target.uploads.stall(self.blob)

    def send(self, who: Credentials | None) -> str:
        """
        Begin to push.
        """
        brought = None if who is None else {OTHER: who}
        job = self.jobs.push(f"{HOST}/app", f"{OTHER}/app", (), None, "ci", 0, brought)
        self.settle()
        return str(job["id"])

    def broken(self, who: Credentials | None, target: FakeRegistry) -> None:
        """
        Push 40,000 bytes of the layer, and have the rest refused.
        """
        job_id = self.send(who)
        target.uploads.feed(self.blob, 40_000)
        self.settle()
        target.uploads.fail(self.blob, Denied("no more", host=OTHER))
        self.settle()
        self.assert_failed(job_id, "DENIED")

    def offsets(self, target: FakeRegistry) -> list[int]:
        """
        The offsets at which attempts to push the layer began.
        """
        return [r.offset for r in target.requests if r.kind == "push" and r.wanted == str(self.blob)]

    def restart(self, sharing: str) -> None:
        """
        Stop the daemon and start another one.
        """
        self.stop(self.jobs)
        self.sharing = sharing
        self.jobs = self.make_jobs()
        self.start()


class IsolatedUploadTests(UploadsCase):
    """
    Uploads in isolated mode.
    """

    sharing = "isolated"

    def test_credentials(self) -> None:
        """
        A client's bytes are sent with its own credentials, not with those of
        another client whose upload of the blob to the repository runs.
        """
        jobs = [self.send(ANN), self.send(BOB), self.send(BOB), self.send(None)]
        self.assertEqual([len(target.uploads.running(self.blob)) for target in self.targets], [1, 1, 1])
        keys = {str(t["key"]) for t in self.jobs.transfers()}
        self.assertIn(f"upload {OTHER}/app {self.blob} {OTHER}/app", keys)
        self.assertNotIn("ann", repr(keys))
        for target in self.targets:
            target.uploads.finish(self.blob)
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual([target.count("push", self.blob) for target in self.targets], [1, 1, 1])
        self.assert_idle()

    def test_others_end(self) -> None:
        """
        When a client is refused or cancelled, the upload of another client
        continues.
        """
        ann, bob, own = self.send(ANN), self.send(BOB), self.send(None)
        self.targets[0].uploads.fail(self.blob, Denied("not yours", host=OTHER))
        self.jobs.cancel(own)
        self.settle()
        self.assert_failed(ann, "DENIED")
        self.targets[1].uploads.finish(self.blob)
        self.settle()
        self.assert_done(bob)
        self.assertEqual(self.job(own)["state"], "cancelled")

    def test_sessions(self) -> None:
        """
        An upload session is continued with the credentials that began it, and
        with no others.
        """
        self.broken(ANN, self.targets[0])
        for who, target in ((BOB, self.targets[1]), (None, self.targets[2]), (ANN, self.targets[0])):
            target.uploads.finish(self.blob)
            self.assert_done(self.send(who))
        self.assertEqual([self.offsets(t) for t in self.targets], [[0, 40_000], [0], [0]])

    def test_restart(self) -> None:
        """
        After a restart, the upload sessions of the daemon's own credentials are
        kept; clients' credentials and their sessions are not stored.
        """
        for who, target in ((ANN, self.targets[0]), (None, self.targets[2])):
            self.broken(who, target)
        ((key, session),) = self.store.journal.sessions.items()
        self.assertEqual(key, (Repository(OTHER, "app"), self.blob))
        self.assertTrue(session.isolated)
        self.restart("isolated")
        for who, target in ((BOB, self.targets[1]), (ANN, self.targets[0]), (None, self.targets[2])):
            target.uploads.finish(self.blob)
            self.assert_done(self.send(who))
        self.assertEqual([self.offsets(t) for t in self.targets], [[0, 0], [0], [0, 40_000]])


class SharedUploadTests(UploadsCase):
    """
    Uploads where clients share.
    """

    def test_becomes_isolated(self) -> None:
        """
        A session from before the isolated mode belongs to no client.
        """
        self.broken(ANN, self.targets[0])
        self.assertEqual(len(self.store.journal.sessions), 1)
        self.restart("isolated")
        self.assertEqual(self.store.journal.sessions, {})
        self.targets[2].uploads.finish(self.blob)
        self.assert_done(self.send(None))
        self.assertEqual(self.offsets(self.targets[2]), [0])

    def test_becomes_shared(self) -> None:
        """
        A session of the daemon's own credentials is continued where clients
        share again.
        """
        self.restart("isolated")
        self.broken(None, self.targets[2])
        self.restart("shared")
        self.targets[2].uploads.finish(self.blob)
        self.assert_done(self.send(None))
        self.assertEqual(self.offsets(self.targets[2]), [0, 40_000])
