"""
Tests for L{xferd.jobs.copy}.

The module is long because a copy meets the troubles of a source and of a target.
"""

from __future__ import annotations

import json
from typing import Any

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.errors import (
    BadReference,
    ConnectionFailed,
    Denied,
    DiskFull,
    NoSuchPlatform,
    RegistryUnavailable,
    TooManyRequests,
)
from xferd.jobs.images.document_memory import DocumentMemory
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.fake_registry import FakeRegistry
from xferd.testing.images import image_of, index_of, sample_image, sample_layer
from xferd.testing.layers import Blob


class CopyTests(JobsCase):
    """
    From one registry into another.
    """

    def put(self) -> list[str]:
        """
        The names under which documents were put, in order.
        """
        return [r.wanted for r in self.other.requests if r.kind == "put"]

    def test_image(self) -> None:
        """
        Each blob is fetched once and sent once, and nothing is unpacked.
        """
        image = self.add(sample_image(3))
        job_id = self.copy()
        self.settle()
        self.assert_done(job_id)
        for layer in image.layers:
            self.assertEqual(self.gets(layer.blob.digest), 1)
            self.assertEqual(self.other.blob(Repository(OTHER, "app"), layer.blob.digest), layer.blob.read())
        self.assertEqual(self.unpacker.unpackings, [])
        self.assertFalse(self.has_image())
        self.assertEqual(self.put(), ["latest"])
        self.assert_idle()

    def test_nothing_is_fetched_for_what_exists(self) -> None:
        """
        A second copy requests the manifest of the source, and nothing else.
        """
        image = self.add(sample_image(2))
        self.copy()
        self.settle()
        for layer in image.layers:
            self.store.blobs.contents.pop(layer.blob.digest)
        job_id = self.copy()
        self.settle()
        self.assertEqual(self.states(job_id), ["exists"] * 3)
        self.assertEqual([self.gets(layer.blob.digest) for layer in image.layers], [1, 1])

    def test_streams(self) -> None:
        """
        Bytes go out while they come in.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.copy()
        self.settle()
        self.registry.feed(blob, 30_000)
        self.wait(0.5)
        self.assertEqual(self.job(job_id)["layers"][1]["bytes_done"], 30_000)
        self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)

    def test_download_is_shown(self) -> None:
        """
        The download behind an upload belongs to the job as well, in the list
        and in the events; the row has its state and its reason.
        """
        image = self.add(sample_image(5, size=100_000))
        blobs = [layer.blob.digest for layer in image.layers]
        for blob in blobs:
            self.registry.stall(blob)
        job_id = self.copy()
        self.settle()
        stream = self.jobs.events(None)
        self.registry.feed(blobs[0], 30_000)
        self.wait(0.5)
        self.assertEqual(self.transfer("download", blobs[0])["jobs"], [job_id])
        events = [e.data for e in self.successResultOf(stream.get()) if e.kind == "transfer"]
        shown = {(e["kind"], e["digest"]): e["jobs"] for e in events}
        self.assertEqual(shown["download", str(blobs[0])], [job_id])
        self.assertEqual(shown["upload", str(blobs[0])], [job_id])
        # The config is there already; the first layer is on its way; the last one has no slot yet.
        self.assertEqual(self.states(job_id)[:3], ["done", "uploading", "waiting"])
        self.assertIn("slot", self.job(job_id)["layers"][4]["why"])
        for blob in blobs:
            self.registry.finish(blob)
        self.settle()
        self.assert_done(job_id)
        ended = [e.data for e in self.successResultOf(stream.get()) if e.kind == "transfer"]
        self.assertEqual({e["state"] for e in ended} & {"queued", "running"}, set())
        self.assert_idle()

    def test_delivered(self) -> None:
        """
        The bytes of a copy count as delivered once for each client, as those
        of a pull do, also where they were in the store.
        """
        self.add(sample_image(2))
        for _ in range(2):
            self.copy()
            self.settle()
        status = self.jobs.status()
        (first, second) = self.jobs.all()
        self.assertEqual(status["bytes_fetched"], first["bytes_total"])
        self.assertEqual(status["bytes_sent"], first["bytes_total"])
        self.assertEqual(status["bytes_delivered"], first["bytes_total"] + second["bytes_total"])

    def test_shared_with_a_pull(self) -> None:
        """
        A pull and a copy of one image fetch each blob once; when one is
        cancelled, the other continues.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        copying, pulling = self.copy(), self.pull()
        self.settle()
        self.registry.feed(blob, 10_000)
        self.settle()
        self.jobs.cancel(copying)
        self.settle()
        self.registry.finish(blob)
        self.settle()
        self.assert_done(pulling)
        self.assertEqual(self.gets(blob), 1)
        self.assertEqual(len(self.other.uploads.aborted), 1)
        self.assert_idle()

    def test_after_a_pull(self) -> None:
        """
        A blob that came by a pull between the copy's first look and its first
        byte is sent from the store.
        """
        image = self.add(sample_image(1))
        self.other.gate.hold("push")
        copying = self.copy()
        self.settle()
        self.pulled()
        self.other.gate.release("push")
        self.settle()
        self.assert_done(copying)
        self.assertEqual(self.gets(image.layers[0].blob.digest), 1)
        self.assert_idle()

    def test_source_breaks(self) -> None:
        """
        A download from a source that breaks resumes, and so does the upload:
        no byte is sent twice.
        """
        image = self.add(sample_image(1, size=100_000))
        blob = image.layers[0].blob.digest
        self.registry.stall(blob)
        job_id = self.copy()
        self.settle()
        self.registry.feed(blob, 30_000)
        self.registry.fail(blob)
        self.registry.finish(blob)
        self.wait(3)
        self.assert_done(job_id)
        sent = [a.sent for a in self.other.uploads.attempts if a.digest == blob]
        self.assertEqual(sum(sent), image.layers[0].blob.descriptor.size)
        attempts = [a for a in self.store.journal.recorded_attempts if a["kind"] == "upload"]
        self.assertEqual({a["code"] for a in attempts}, {None})

    def test_source_is_wrong(self) -> None:
        """
        Wrong bytes that were sent already void the upload, whose session is
        deleted; then the right ones are sent.
        """
        image = self.add(sample_image(1, size=50_000))
        blob = image.layers[0].blob
        self.registry.corrupt(blob.digest, b"\0" * blob.descriptor.size)
        job_id = self.copy()
        self.wait(5)
        self.assert_done(job_id)
        self.assertEqual(self.other.blob(Repository(OTHER, "app"), blob.digest), blob.read())
        self.assert_idle()

    def test_source_fails(self) -> None:
        """
        A source that cannot be reached fails the copy, with its own words.
        """
        self.add(sample_image(1))
        self.registry.gate.fail("open", ConnectionFailed("no route", host=HOST), times=99)
        job_id = self.copy()
        self.wait(60)
        self.assertEqual(self.assert_failed(job_id, "CONNECTION_FAILED"), "no route")
        self.assertEqual(self.put(), [])
        self.assert_idle()

    def test_source_pauses(self) -> None:
        """
        While its source is paused, a copy holds no upload slot, and the target
        is not paused.
        """
        image = self.add(sample_image(8, size=50_000))
        self.add(sample_image(2, seed="local"), "local")
        self.pulled("local")
        wait = TooManyRequests("slow down", host=HOST, status=429, retry_after=40)
        self.registry.gate.fail("open", wait, times=3)
        copying = self.copy()
        self.wait(3)
        self.assertEqual(self.jobs.status()["slots"]["upload"], {"limit": 5, "in_use": 0, "queued": 0})
        row = self.transfer("upload", image.layers[0].blob.digest)
        self.assertEqual((row["state"], row["why"]), ("waiting", "waiting for the bytes of its download"))
        pushing = self.push("local", f"{OTHER}/local")
        self.wait(1)
        self.assert_done(pushing)
        self.wait(45)
        self.assert_done(copying)
        self.assert_idle()

    def test_source_is_queued(self) -> None:
        """
        Nor does it hold one while its downloads are queued.
        """
        image = self.add(sample_image(8, size=50_000))
        for layer in image.layers:
            self.registry.stall(layer.blob.digest)
        copying = self.copy()
        self.wait(3)
        self.assertEqual(self.jobs.status()["slots"]["upload"]["in_use"], 0)
        for layer in image.layers:
            self.registry.finish(layer.blob.digest)
        self.wait(3)
        self.assert_done(copying)
        self.assert_idle()

    def test_memory(self) -> None:
        """
        Copies whose documents do not fit into memory together go one after
        another; one that waits can be cancelled.
        """
        self.jobs._work.memory = DocumentMemory(0, 0)
        images = [self.add(sample_image(1, seed=name), name) for name in ("one", "two", "three")]
        self.registry.stall(images[0].layers[0].blob.digest)
        first, second, third = (self.copy(name) for name in ("one", "two", "three"))
        self.wait(1)
        self.assertEqual([len(self.states(job_id)) for job_id in (first, second, third)], [2, 0, 0])
        words = "waiting for memory for manifests: other copies use it"
        for job_id in (second, third):
            job = self.job(job_id)
            self.assertEqual((job["why"], job["reason"]["what"]), (words, "memory"))
        self.assertNotEqual(self.job(first)["why"], words)
        self.jobs.cancel(second)
        self.wait(1)
        self.assertEqual(self.job(second)["state"], "cancelled")
        self.registry.finish(images[0].layers[0].blob.digest)
        self.wait(2)
        self.assert_done(first)
        self.assert_done(third)
        self.assertEqual(self.jobs._work.memory.used, 0)
        self.assert_idle()

    def test_own_limit(self) -> None:
        """
        Where the daemon's own limit slows its source, it keeps the slot.
        """
        self.add(sample_image(1, size=50_000))
        self.jobs.change_limits({"download_rate": 2_000})
        copying = self.copy()
        self.wait(2)
        for _ in range(5):
            self.wait(1)
            self.assertEqual(self.jobs.status()["slots"]["upload"]["in_use"], 1)
        self.jobs.change_limits({"download_rate": 0})
        self.wait(2)
        self.assert_done(copying)

    def test_index(self) -> None:
        """
        An index is copied whole: children first, each byte for byte.
        """
        images = {
            p: sample_image(1, seed=str(p), platform=p)
            for p in (Platform("linux", "amd64"), Platform("linux", "arm64"))
        }
        index = index_of(images)
        self.registry.add(index, "app")
        job_id = self.copy()
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.put(), [*(str(i.digest) for i in images.values()), "latest"])

    def test_platform(self) -> None:
        """
        One platform's image is copied alone.
        """
        arm = sample_image(1, seed="arm", platform=Platform("linux", "arm64"))
        amd = sample_image(1)
        self.registry.add(index_of({amd.platform: amd, arm.platform: arm}), "app")
        job_id = self.copy(platform="linux/arm64")
        self.settle()
        self.assertEqual(self.job(job_id)["result"]["digest"], str(arm.digest))
        self.assertEqual(self.gets(amd.layers[0].blob.digest), 0)

    def test_platform_of_one_image(self) -> None:
        """
        A name that stands for one image, without an index, is copied for the
        platform that its config names, and for no other.
        """
        arm = sample_image(1, seed="arm", platform=Platform("linux", "arm64"))
        self.registry.add(arm, "app")
        job_id = self.copy(platform="linux/amd64")
        self.settle()
        self.assertIn("linux/arm64 only", self.assert_failed(job_id, NoSuchPlatform.code))
        self.assertEqual(self.put(), [])
        job_id = self.copy(platform="linux/arm64")
        self.settle()
        self.assertEqual(self.job(job_id)["result"]["digest"], str(arm.digest))

    def test_unknown_kinds(self) -> None:
        """
        An index with entries of unknown kinds, attestations and indexes is
        copied byte for byte.
        """
        image = sample_image(1)
        inner = index_of({image.platform: image})
        odd = Document.verified("application/x.odd+json", b'{"what": "ever"}')
        bundle = b"a bundle"
        entries = [
            inner.document.descriptor.to_json(),
            odd.descriptor.to_json(),
            {"mediaType": "application/x.bundle", "digest": str(Digest.of(bundle)), "size": len(bundle)},
        ]
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        index = Document.verified(OCI_INDEX, data)
        self.registry.add(inner, "app", None)
        self.registry.add_document(odd, "app", "odd")
        self.registry.put_blob("app", Digest.of(bundle), bundle)
        self.registry.add_document(index, "app", "latest")
        job_id = self.copy()
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.other.document_of("app", "latest"), index)
        self.assertEqual(self.other.document_of("app", str(odd.digest)), odd)
        self.assertEqual(self.other.blob(Repository(OTHER, "app"), Digest.of(bundle)), bundle)
        self.assert_idle()

    def test_artifacts(self) -> None:
        """
        Artifacts of any types are copied: with an empty, embedded config, a
        Helm chart, files as ORAS pushes them.
        """
        empty = {**Blob.of("application/vnd.oci.empty.v1+json", b"{}").descriptor.to_json(), "data": "e30="}
        for config, layer, kind in (
            (empty, "text/x-poem", "application/x.poem"),
            (b"{}", "application/vnd.cncf.helm.chart.content.v1.tar+gzip", ""),
            (b"[]", "application/vnd.oci.image.layer.v1.tar", ""),
        ):
            written: dict[str, Any] = {"schemaVersion": 2, "mediaType": OCI_MANIFEST}
            written |= {"artifactType": kind} if kind else {}
            if isinstance(config, bytes):
                blob = Blob.of("application/vnd.cncf.helm.config.v1+json", config)
                self.registry.put_blob("app", blob.digest, config)
                config = blob.descriptor.to_json()
            chart = Blob.of(layer, layer.encode())
            self.registry.put_blob("app", chart.digest, chart.read())
            data = json.dumps({**written, "config": config, "layers": [chart.descriptor.to_json()]}).encode()
            artifact = Document.verified(OCI_MANIFEST, data)
            self.registry.add_document(artifact, "app", "latest")
            job_id = self.copy()
            self.settle()
            self.assert_done(job_id)
            self.assertEqual(self.other.document_of("app", "latest"), artifact)
            self.assertEqual(self.other.blob(Repository(OTHER, "app"), chart.digest), chart.read())
        # The source was never asked for what came with a manifest.
        self.assertEqual(self.gets(Digest.of(b"{}")), 0)
        self.assert_idle()

    def test_sha512(self) -> None:
        """
        A document with a sha512 digest is put by its digest, and then by its
        tag.
        """
        image = self.add(image_of([sample_layer().by("sha512")], algorithm="sha512"))
        job_id = self.copy(f"app@{image.digest}", f"{OTHER}/app:1")
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.put(), [str(image.digest), "1"])

    def test_same_registry(self) -> None:
        """
        Within one registry nothing is moved: every blob is mounted.
        """
        image = self.add(sample_image(2))
        job_id = self.copy(target=f"{HOST}/other/place")
        self.settle()
        self.assertEqual(self.states(job_id), ["mounted"] * 3)
        self.assertEqual([self.gets(layer.blob.digest) for layer in image.layers], [0, 0])

    def test_same_registry_without_a_disk(self) -> None:
        """
        What the journal knows of blobs elsewhere is a hint, and manifests are
        kept for others: a copy within one registry mounts every blob where
        nothing can be written.
        """
        self.add(sample_image(2))
        full = DiskFull("no space is left")
        for call in ("journal.holder", "journal.holders", "blobs.put"):
            self.store.gate.fail(call, full, times=99)
        job_id = self.copy(target=f"{HOST}/other/place")
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.states(job_id), ["mounted"] * 3)
        self.flushLoggedErrors(DiskFull)

    def test_pull_with_a_copy(self) -> None:
        """
        A pull that shares the manifest with a copy has it in the store.
        """
        self.add(sample_image(1))
        self.registry.gate.hold("manifest")
        self.store.gate.fail("blobs.put", DiskFull("no space is left"))
        jobs = [self.copy(), self.pull()]
        self.settle()
        self.registry.gate.release("manifest")
        self.settle()
        for job_id in jobs:
            self.assert_done(job_id)
        self.assert_idle()

    def test_cancelled(self) -> None:
        """
        A copy that is cancelled is cancelled, wherever it waits: for the
        journal, for the source, or for the target.
        """
        image = self.add(sample_image(2))
        blob = image.layers[0].blob.digest
        self.registry.uploads.mounts = False
        for gate, what in (
            (self.store.gate, "journal.holders"),
            (self.registry.gate, "open"),
            (self.registry.gate, "push"),
        ):
            gate.hold(what)
            job_id = self.copy(target=f"{HOST}/other/place")
            self.settle()
            self.jobs.cancel(job_id)
            gate.release(what)
            self.settle()
            self.assertEqual(self.job(job_id)["state"], "cancelled", what)
            self.assertFalse(self.registry.has_blob("other/place", blob))
        self.assert_idle()

    def test_slow_journal(self) -> None:
        """
        Nothing waits until it is noted where blobs are.
        """
        self.add(sample_image(2))
        self.store.gate.hold("journal.holder")
        job_id = self.copy(target=f"{HOST}/other/place")
        self.settle()
        self.assertEqual(self.states(job_id), ["mounted"] * 3)
        self.assert_done(job_id)
        self.store.gate.release("journal.holder")

    def artifact(self, subject: Document, text: bytes = b"signed") -> Document:
        """
        Put an artifact into the registry that refers to a document.
        """
        layer = sample_layer(seed=text.decode())
        made = image_of([layer])
        self.registry.add(made, "app", None)
        value = json.loads(made.manifest.data)
        value["subject"] = subject.descriptor.to_json()
        value["artifactType"] = "application/x-signature"
        document = Document.verified(OCI_MANIFEST, json.dumps(value).encode())
        putting = self.registry.repository("app").put_manifest(str(document.digest), document)
        self.settle()
        self.successResultOf(putting)
        return document

    def test_referrers(self) -> None:
        """
        Referrers of an image are copied, if requested, and referrers of these;
        cosign's tags as well.
        """
        image = self.add(sample_image(1))
        signature = self.artifact(image.manifest)
        countersigned = self.artifact(signature, b"countersigned")
        tag = f"sha256-{image.digest.hex}.sig"
        self.registry.add(sample_image(1, seed="cosign"), "app", tag)
        job_id = self.copy()
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(self.put(), ["latest"])
        job_id = self.copy(referrers=True)
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(
            set(self.put()[1:]), {"latest", str(signature.digest), str(countersigned.digest), tag}
        )

    def test_refused(self) -> None:
        """
        A malformed target is refused at once.
        """
        digest = Digest.of(b"x")
        for target in ("A B", f"{OTHER}/app@{digest}"):
            self.assertRaises(BadReference, self.jobs.copy, f"{HOST}/app", target, None, False, "ci", 0)
        self.assertEqual(self.jobs.all(), [])

    def test_missing(self) -> None:
        """
        A missing source is named.
        """
        job_id = self.copy("nothing")
        self.settle()
        self.assert_failed(job_id, "MANIFEST_UNKNOWN")


class TwoSourcesTests(JobsCase):
    """
    Two copies of one image to one target, each from its own registry.
    """

    def setUp(self) -> None:
        """
        Put the image into both registries.
        """
        super().setUp()
        self.target = self.registries.registry("target.example")
        self.image = self.add(sample_image(1, size=100_000))
        self.other.add(self.image, "app")
        self.blob = self.image.layers[0].blob.digest

    def both(self) -> tuple[str, str]:
        """
        Begin to copy from the one, then from the other.
        """
        jobs = []
        for host in (HOST, OTHER):
            jobs.append(str(self.jobs.copy(f"{host}/app", "target.example/app", None, False, "ci", 0)["id"]))
            self.settle()
        return jobs[0], jobs[1]

    def refuse(self, error: Exception, registry: FakeRegistry, times: int = 99) -> None:
        """
        Have a registry refuse the layer.
        """
        registry.gate.fail("open", error, self.blob, times=times)

    def test_one_is_refused(self) -> None:
        """
        Where the first copy's source refuses, the upload takes its bytes from
        the second one's, and both copies succeed.
        """
        self.registry.stall(self.blob)
        jobs = self.both()
        self.registry.feed(self.blob, 30_000)
        self.refuse(Denied("no more", host=HOST, status=403), self.registry)
        self.refuse(Denied("not yet", host=OTHER, status=403), self.other, 0)
        self.registry.fail(self.blob, Denied("no more", host=HOST, status=403))
        self.wait(3)
        for job_id in jobs:
            self.assert_done(job_id)
        self.assertEqual(
            sum(a.sent for a in self.target.uploads.attempts if a.digest == self.blob), 100_000 + self.extra()
        )

    def extra(self) -> int:
        """
        Further members of the layer.
        """
        return self.image.layers[0].blob.descriptor.size - 100_000

    def test_own_errors(self) -> None:
        """
        Where both refuse, each copy fails with the error of its own source.
        """
        self.target.gate.hold("push", self.blob)
        first, second = self.both()
        self.refuse(Denied("no more", host=HOST, status=403), self.registry)
        self.refuse(Denied("not yours", host=OTHER, status=403), self.other)
        self.target.gate.release("push", self.blob)
        self.wait(5)
        self.assertEqual(self.assert_failed(first, "DENIED"), "no more")
        self.assertEqual(self.assert_failed(second, "DENIED"), "not yours")
        self.assertEqual(self.target.count("push", self.blob), 2)

    def test_retries(self) -> None:
        """
        A source that fails is tried as often as the policy allows; neither its
        failure nor its pause counts for the target.
        """
        error = RegistryUnavailable("down", host=HOST, status=503, retry_after=2)
        self.refuse(error, self.registry)
        job_id = str(self.jobs.copy(f"{HOST}/app", "target.example/app", None, False, "ci", 0)["id"])
        self.wait(60)
        self.assert_failed(job_id, "REGISTRY_UNAVAILABLE")
        self.assertEqual(self.gets(self.blob), 3)
        uploads = [a for a in self.store.journal.recorded_attempts if a["kind"] == "upload"]
        self.assertEqual(
            [a["code"] for a in uploads if a["digest"] == str(self.blob)], ["REGISTRY_UNAVAILABLE"]
        )
        self.assertEqual(self.target.uploads.attempts[0].digest, self.image.config.digest)

    def test_a_content_leaves(self) -> None:
        """
        When a client is cancelled, its content is closed: its download does
        not continue.
        """
        self.registry.stall(self.blob)
        self.other.stall(self.blob)
        first, second = self.both()
        self.registry.feed(self.blob, 30_000)
        self.jobs.cancel(first)
        self.wait(3)
        self.assertEqual(self.registry.open_bodies(), [])
        self.other.finish(self.blob)
        self.wait(3)
        self.assert_done(second)
        self.assertEqual(self.job(first)["state"], "cancelled")
