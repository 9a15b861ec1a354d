"""
Tests for L{xferd.jobs.archives.importing}, L{xferd.jobs.archives.ingest} and
L{xferd.jobs.archives.source}.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tests.jobs.archives.samples import docker_save, layout, path, tar
from tests.jobs.case import HOST, JobsCase
from xferd.archive.contents import FULL_NAME, INDEX, LAYOUT, NAME, RENDITION_OF
from xferd.archive.plan import tar_header
from xferd.docker_manifest import to_oci_manifest
from xferd.errors import BadInput, BadReference, Denied, NotFound
from xferd.interfaces.store import Image
from xferd.jobs.upload_stream import SILENCE
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, image_of, index_of, sample_image, sample_layer

PIECE = 10_000


class ImportCase(JobsCase):
    """
    A client that imports.
    """

    def begin(
        self, reference: str | None = None, platform: str | None = None, size: int | None = None
    ) -> str:
        """
        Begin to import; returns the job's id.
        """
        return str(self.jobs.import_archive(reference, platform, size, "ci", 0)["id"])

    def give(self, job_id: str, data: bytes, offset: int = 0) -> int:
        """
        Send some bytes of an archive, as far as the job wants them.
        """
        end = offset + len(data)
        while offset < end:
            piece = data[: PIECE if end - offset > PIECE else end - offset]
            sending = self.jobs.upload_stream(job_id).put(offset, piece)
            results: list[Any] = []
            _ = sending.addBoth(results.append)
            self.settle()
            if self.job(job_id)["state"] != "running":
                return offset
            self.assertEqual(results, [offset + len(piece)])
            data, offset = data[len(piece) :], offset + len(piece)
        return offset

    def send(self, data: bytes, reference: str | None = None, platform: str | None = None) -> str:
        """
        Send an archive to an import until it ends.
        """
        job_id = self.begin(reference, platform, len(data))
        self.give(job_id, data)
        if self.job(job_id)["state"] == "running":
            self.jobs.upload_stream(job_id).finish(len(data))
            self.settle()
        return job_id

    def imported(self, data: bytes, reference: str | None = None, **how: Any) -> Mapping[str, Any]:
        """
        Import an archive, and see that it was no failure.
        """
        job_id = self.send(data, reference, **how)
        self.assert_done(job_id)
        self.assert_idle()
        return self.job(job_id)

    def refused(
        self, data: bytes, code: str = "ARCHIVE_INVALID", reference: str | None = None, **how: Any
    ) -> str:
        """
        Import an archive that is refused; returns the message.
        """
        job_id = self.send(data, reference, **how)
        message = self.assert_failed(job_id, code)
        self.assertEqual(self.store.images.all(), [])
        self.assert_idle()
        return message

    def image(self, name: str) -> Image:
        """
        An image of the store.
        """
        image = self.store.images.get(Reference.parse(name))
        assert image is not None, [str(i.reference) for i in self.store.images.all()]
        return image

    def assert_idle(self) -> None:
        """
        The import has released everything as well.
        """
        super().assert_idle()
        self.assertEqual(self.store.blobs.anonymous_open, set())


class FormTests(ImportCase):
    """
    All forms of archives.
    """

    def test_logged(self) -> None:
        """
        The log names the images of an archive, or the archive while they are
        unknown.
        """
        with capturedLogs() as events:
            why = self.refused(b"x" * 1024)
            self.imported(tar(docker_save({"a:1": sample_image(1)})))
        lines = [formatEvent(event) for event in events]
        self.assertIn(f"import of an archive for ci: failed: {why}", lines)
        self.assertIn("import of docker.io/library/a:1 for ci: done", lines)

    def test_layout(self) -> None:
        """
        A layout's image comes with its manifest, byte for byte, unpacked.
        """
        image = sample_image(3)
        job = self.imported(tar(layout({"quay.io/me/app:1": image})))
        named = self.image("quay.io/me/app:1")
        self.assertEqual(named.manifest.digest, image.digest)
        self.assertEqual((named.chain_id, named.size), (image.chain_ids[-1], image.size))
        self.assertEqual(job["result"], {"digest": str(image.digest), "image_id": str(image.config.digest)})
        self.assertEqual((job["kind"], job["reference"]), ("import", "quay.io/me/app:1"))
        self.assertEqual([row["state"] for row in job["layers"]], ["done"] * 3)
        self.assertEqual(job["archive"]["received"], job["archive"]["size"])
        self.assertEqual(self.registry.requests, [])
        self.assertEqual(self.jobs.status()["hosts"], {})

    def test_packings(self) -> None:
        """
        An archive may be packed as a whole.
        """
        for packing in ("gzip", "zstd"):
            image = sample_image(2, seed=packing)
            self.imported(tar(layout({f"{packing}:1": image}), packing=packing))
            self.assertEqual(self.image(f"{packing}:1").manifest.digest, image.digest)

    def test_many_members(self) -> None:
        """
        Empty members of a packed archive, and entries without bytes, return to
        the reactor as often as bytes do.
        """
        turns: list[object] = []
        later = self.clock.callLater

        def counted(when: float, *call: Any, **more: Any) -> Any:
            if not when:
                turns.append(call)
            return later(when, *call, **more)

        self.patch(self.clock, "callLater", counted)
        for item in (gzip.compress(b""), tar_header("d/", 0), tar_header("VERSION/json", 0)):
            job_id = self.begin()
            turns.clear()
            taken: list[Any] = []
            _ = self.jobs.upload_stream(job_id).put(0, item * 8_000).addBoth(taken.append)
            self.settle()
            self.assertEqual(taken, [len(item) * 8_000])
            self.assertGreaterEqual(len(turns), 500)
            self.jobs.cancel(job_id)
            self.settle()
            self.assert_idle()

    def test_any_order(self) -> None:
        """
        The order in the archive does not matter.
        """
        for old in (True, False):
            image = sample_image(2, seed=old, compression="tar")
            files = docker_save({f"app:{old}": image}, old=old)
            self.imported(tar(dict(reversed(files.items()))))
            self.assertEqual(self.image(f"app:{old}").config.digest, image.config.digest)

    def test_old_docker(self) -> None:
        """
        An archive of docker before version 25 gets a manifest; links to layers
        stand for the layers.
        """
        layer = sample_layer(compression="tar", seed="large", size=5_000_000)
        image = image_of([layer, sample_layer(compression="tar"), layer])
        files = docker_save({"busybox:1": image})
        name = f"{image.digest.hex[:8]}2/layer.tar"
        del files[name]
        self.imported(tar(files, links=[(name, f"../{image.digest.hex[:8]}0/layer.tar")]))
        named = self.image("busybox:1")
        self.assertEqual(named.config.digest, image.config.digest)
        self.assertEqual([blob.digest for blob in named.layers], [one.blob.digest for one in image.layers])
        self.assertEqual(named.chain_id, image.chain_ids[-1])
        self.assertIn(named.manifest.digest, self.store.blobs.contents)

    def test_links_that_lead_out(self) -> None:
        """
        A link to another layer is resolved within the archive's root, also
        where it leads out.
        """
        for number, target in enumerate(
            ("../../{}/layer.tar", "/{}/layer.tar", "../../../x/../{}/layer.tar")
        ):
            layer = sample_layer(compression="tar", seed=number)
            image = image_of([layer, layer])
            files = docker_save({f"busybox:{number}": image})
            prefix = image.digest.hex[:8]
            del files[f"{prefix}1/layer.tar"]
            self.imported(tar(files, links=[(f"{prefix}1/layer.tar", target.format(f"{prefix}0"))]))
            self.assertEqual(self.image(f"busybox:{number}").chain_id, image.chain_ids[-1])

    def test_absolute_names(self) -> None:
        """
        Names may begin with a slash, in the tar and in C{manifest.json}.
        """
        image = sample_image(2, compression="tar")
        files = docker_save({"pack:1": image})
        [listed] = json.loads(files["manifest.json"])
        listed["Layers"] = [f"/{name}" for name in listed["Layers"]]
        moved = {f"/{name}" if name.endswith(".tar") else name: data for name, data in files.items()}
        moved["manifest.json"] = json.dumps([listed]).encode()
        self.imported(tar(moved))
        self.assertEqual(self.image("pack:1").config.digest, image.config.digest)

    def test_names_that_are_no_digests(self) -> None:
        """
        A file in C{blobs/} whose name is no digest is a file like others, as
        Bazel's rules_oci names layers.
        """
        image = sample_image(2)
        config = path(image.config.digest)
        names = [f"{path(layer.blob.digest)}.tar.gz" for layer in image.layers]
        listed = [{"Config": config, "RepoTags": ["bazel:1"], "Layers": names}]
        files = {"manifest.json": json.dumps(listed).encode(), config: image.config.read()}
        files |= {name: layer.blob.read() for name, layer in zip(names, image.layers, strict=True)}
        self.imported(
            tar({**files, "blobs/md5/abc": b"x", "blobs/sha256/x": b"", "blobs/sha256/y": b"y" * 5_000_000})
        )
        named = self.image("bazel:1")
        self.assertEqual(named.config.digest, image.config.digest)
        self.assertEqual([b.digest for b in named.layers], [one.blob.digest for one in image.layers])
        self.assertEqual(
            {b.media_type for b in named.layers}, {one.blob.descriptor.media_type for one in image.layers}
        )

    def test_skippable_frames(self) -> None:
        """
        A zstd archive may begin with a frame to be skipped.
        """
        image = sample_image(1)
        skip = b"\x5a\x2a\x4d\x18\x04\0\0\0skip"
        self.imported(skip + tar(docker_save({"z:1": image}), packing="zstd"))
        self.assertEqual(self.image("z:1").config.digest, image.config.digest)

    def test_without_padding(self) -> None:
        """
        An archive may end where its last file does.
        """
        image = sample_image(1)
        data = tar(docker_save({"short:1": image}))
        self.imported(data.rstrip(b"\0"))
        self.assertEqual(self.image("short:1").config.digest, image.config.digest)

    def test_new_docker(self) -> None:
        """
        An archive of docker since version 25 keeps its manifest.
        """
        image = sample_image(2, compression="tar")
        self.imported(tar(docker_save({"busybox:1": image}, old=False)))
        self.assertEqual(self.image("busybox:1").manifest.digest, image.digest)

    def test_packed_layers(self) -> None:
        """
        Layers in a C{docker save} archive may be packed, as crane writes them.
        """
        for compression in ("gzip", "zstd"):
            image = sample_image(1, seed=compression, compression=compression)
            self.imported(tar(docker_save({f"{compression}:1": image})))
            (layer,) = self.image(f"{compression}:1").layers
            self.assertTrue(layer.media_type.endswith(f"+{compression}"), layer)

    def test_several_images(self) -> None:
        """
        All images that have names are imported, each once, under all names.
        """
        one, two = sample_image(2, seed=1), sample_image(2, seed=2)
        files = layout({"a:1": one, "b:1": two, "": sample_image(1, seed=3)})
        index = json.loads(files[INDEX])
        index["manifests"].append({**index["manifests"][0], "annotations": {NAME: "a:2"}})
        job = self.imported(tar({**files, INDEX: json.dumps(index).encode()}))
        self.assertEqual([i.reference.familiar() for i in self.store.images.all()], ["a:1", "a:2", "b:1"])
        self.assertEqual(len(job["layers"]), 4)
        self.assertEqual([row["index"] for row in job["layers"]], [0, 1, 2, 3])
        self.assertEqual(self.image("b:1").size, two.size)

    def test_named(self) -> None:
        """
        A name can be given, for the only image or one of several.
        """
        files = layout({"a:1": sample_image(1, seed=1), "b:1": sample_image(1, seed=2)})
        self.imported(tar(files), "b:1")
        self.assertEqual([i.reference.familiar() for i in self.store.images.all()], ["b:1"])
        self.imported(tar(layout({"": sample_image(1)})), "c:1")
        self.image("c:1")

    def test_no_name(self) -> None:
        """
        An archive without a name, or with an ambiguous one, fails with an
        error that says so.
        """
        self.assertIn("REF", self.refused(tar(layout({"": sample_image(1)})), "BAD_INPUT"))
        files = layout({"a:1": sample_image(1, seed=1), "b:1": sample_image(1, seed=2)})
        self.assertIn("a:1, b:1", self.refused(tar(files), "BAD_INPUT", "c:1"))

    def test_platforms(self) -> None:
        """
        The image for the wanted platform is imported from an index.
        """
        platforms = [Platform("linux", "amd64"), Platform("linux", "riscv64")]
        images = {p: sample_image(1, seed=str(p), platform=p) for p in platforms}
        index = index_of(images)
        data = tar(layout({"a:1": index}))
        self.imported(data, platform="linux/riscv64")
        self.assertEqual(self.image("a:1").manifest.digest, images[platforms[1]].digest)
        self.assertEqual(self.image("a:1").resolved, index.digest)
        job_id = self.send(data, platform="linux/s390x")
        self.assertIn("linux/riscv64", self.assert_failed(job_id, "PLATFORM_UNKNOWN"))

    def test_listed_platform(self) -> None:
        """
        The platform that C{index.json} names for an image counts, not what
        its config names.
        """
        image = sample_image(1)
        files = layout({"a:1": image})
        index = json.loads(files[INDEX])
        index["manifests"][0]["platform"] = {"os": "linux", "architecture": "riscv64"}
        data = tar({**files, INDEX: json.dumps(index).encode()})
        self.imported(data, platform="linux/riscv64")
        self.assertEqual(self.image("a:1").manifest.platform, Platform("linux", "riscv64"))
        self.assert_failed(self.send(data, platform="linux/amd64"), "PLATFORM_UNKNOWN")

    def test_other_platforms_absent(self) -> None:
        """
        Images of other platforms in an index may be missing.
        """
        platforms = [Platform("linux", "amd64"), Platform("linux", "riscv64")]
        images = {p: sample_image(1, seed=str(p), platform=p) for p in platforms}
        files = layout({"a:1": index_of(images)})
        for blob in (images[platforms[0]].digest, images[platforms[0]].config.digest):
            del files[path(blob)]
        self.imported(tar(files), platform="linux/riscv64")

    def test_docker_manifest(self) -> None:
        """
        A manifest of Docker's that comes with its rendition is the image's
        again; one that does not belong to it is not.
        """
        image = sample_image(1, docker=True)
        rendition = Document.verified(OCI_MANIFEST, to_oci_manifest(image.manifest.data))
        for other in (False, True):
            files = layout({f"a:{other}": image})
            original = sample_image(1, docker=True, seed="other").manifest if other else image.manifest
            entry = {
                **rendition.descriptor.to_json(),
                "annotations": {NAME: f"a:{other}", RENDITION_OF: str(original.digest)},
            }
            files[INDEX] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
            files[path(rendition.digest)] = rendition.data
            files[path(original.digest)] = original.data
            self.imported(tar(files))
            wanted = rendition.digest if other else image.digest
            self.assertEqual(self.image(f"a:{other}").manifest.digest, wanted)


class RefusedTests(ImportCase):
    """
    Archives that are refused: with one sentence, and without a name.
    """

    def test_not_an_archive(self) -> None:
        """
        A stream that is no tar, or a tar without images, fails the import.
        """
        self.assertIn("no archive of images", self.refused(b"#!/bin/sh\n" * 1000))
        self.assertIn("neither", self.refused(tar({"README": b"hello", "src/large": bytes(5_000_000)})))
        self.refused(b"\x1f\x8b" + b"x" * 5000)

    def test_breaks_off(self) -> None:
        """
        An archive that ends in the middle, also in the middle of a blob.
        """
        data = tar(layout({"a:1": sample_image(2, size=100_000)}))
        for cut in (520, 50_000, 150_000):
            self.assertIn("breaks off", self.refused(data[:cut]))

    def test_corrupt_blob(self) -> None:
        """
        A blob that does not match its digest fails the import, in a layout and
        in docker's form.
        """
        image = sample_image(2)
        files = layout({"a:1": image})
        name = path(image.layers[1].blob.digest)
        files[name] = files[name][:-1] + b"?"
        self.assertIn(image.layers[1].blob.digest.hex, self.refused(tar(files)))
        self.assertNotIn(image.layers[1].blob.digest, self.store.blobs.contents)
        image = sample_image(2, compression="tar", seed="tar")
        files = docker_save({"a:1": image})
        name = f"{image.digest.hex[:8]}1/layer.tar"
        files[name] = sample_layer(seed="other", compression="tar").blob.read()
        self.refused(tar(files), "DIFFID_MISMATCH")

    def test_missing_blob(self) -> None:
        """
        A manifest, config or layer that is named and not there.
        """
        for which in range(3):
            image = sample_image(1, seed=which)
            digest = (image.digest, image.config.digest, image.layers[0].blob.digest)[which]
            files = layout({"a:1": image})
            del files[path(digest)]
            code = "BLOB_UNKNOWN" if which == 2 else "ARCHIVE_INVALID"
            self.assertIn(str(digest), self.refused(tar(files), code))

    def test_blob_in_the_store(self) -> None:
        """
        A blob that the store has may be missing in the archive, and is not
        read again; an entry of another size is refused.
        """
        image = self.add(sample_image(2))
        self.pulled()
        files = layout({"a:1": image})
        self.imported(tar(files))
        del files[path(image.layers[0].blob.digest)]
        self.imported(tar(files), "b:1")
        files[path(image.layers[0].blob.digest)] = b"short"
        job_id = self.send(tar(files))
        self.assertIn("damaged", self.assert_failed(job_id, "ARCHIVE_INVALID"))

    def test_escapes(self) -> None:
        """
        Names that lead out of the archive.
        """
        files = layout({"a:1": sample_image(1)})
        self.assertIn("out of the archive", self.refused(tar({**files, "../../etc/passwd": b"root"})))
        self.refused(tar({"blobs/sha256/../..": b"", **files}))
        self.refused(tar({"blobs/sha256/../../../x": b"", **files}))

    def test_confusing_documents(self) -> None:
        """
        Documents that could be read in two ways, or are too large.
        """
        files = layout({"a:1": sample_image(1)})
        index = json.loads(files[INDEX])
        both = {**index, "layers": [], "config": {}}
        self.refused(tar({**files, INDEX: json.dumps(both).encode()}), "MANIFEST_INVALID")
        del files[LAYOUT]
        self.refused(tar(files), "MANIFEST_INVALID")
        self.assertIn("larger", self.refused(tar({INDEX: bytes(5_000_000)})))

    def test_wrong_sizes(self) -> None:
        """
        A descriptor whose size is not the blob's.
        """
        image = sample_image(1)
        files = layout({"a:1": image})
        index = json.loads(files[INDEX])
        index["manifests"][0]["size"] += 1
        self.assertIn("bytes", self.refused(tar({**files, INDEX: json.dumps(index).encode()})))

    def test_all_or_none(self) -> None:
        """
        Where one image of two is damaged, the other gets no name either.
        """
        good, bad = sample_image(1, seed=1), sample_image(1, seed=2)
        files = layout({"a:1": good, "b:1": bad})
        del files[path(bad.config.digest)]
        self.refused(tar(files))

    def test_asked_wrongly(self) -> None:
        """
        A malformed name, or one with a digest, is refused at once.
        """
        for name in ("A B", f"a@{Digest.of(b'')}"):
            self.assertRaises(BadReference, self.jobs.import_archive, name, None, None, "ci", 0)

    def test_no_upload_stream(self) -> None:
        """
        Only an import that runs takes bytes.
        """
        self.assertRaises(NotFound, self.jobs.upload_stream, "nothing")
        self.add(sample_image(1))
        job_id = self.pull()
        self.assertIn("pull", str(self.assertRaises(BadInput, self.jobs.upload_stream, job_id)))
        self.settle()
        self.assertRaises(BadInput, self.jobs.upload_stream, job_id)
        job_id = self.send(b"x" * 1000)
        self.assertIn("failed", str(self.assertRaises(BadInput, self.jobs.upload_stream, job_id)))


class LeavingTests(ImportCase):
    """
    Clients that leave, and others that want the same.
    """

    def setUp(self) -> None:
        """
        Make an archive of which a good part is one blob.
        """
        super().setUp()
        self.sample: SampleImage = sample_image(1, size=200_000)
        self.blob = self.sample.layers[0].blob.digest
        self.data = tar(layout({"a:1": self.sample}, key=FULL_NAME))

    def test_cancelled_before_a_byte(self) -> None:
        """
        An import that is cancelled before the first byte leaves nothing.
        """
        job_id = self.begin()
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertRaises(BadInput, self.jobs.upload_stream, job_id)
        self.assert_idle()

    def test_cancelled_in_the_middle(self) -> None:
        """
        An import that is cancelled in the middle of a blob releases the blob.
        """
        job_id = self.begin()
        self.give(job_id, self.data[:100_000])
        self.assertEqual(self.job(job_id)["archive"], {"received": 100_000, "size": None})
        stream = self.jobs.upload_stream(job_id)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        failed: Deferred[int] = stream.put(100_000, b"x")
        self.failureResultOf(failed, BadInput)
        self.assert_idle()
        self.imported(self.data)

    def test_progress(self) -> None:
        """
        The job's events show how much of the archive was received.
        """
        job_id = self.begin(size=len(self.data))
        stream = self.jobs.events(job_id)
        seen = []
        for at in range(0, 100_000, PIECE):
            self.give(job_id, self.data[at : at + PIECE], at)
            self.clock.advance(1)
            news = self.successResultOf(stream.get())
            seen += [event.data["archive"]["received"] for event in news if event.kind == "job"]
        self.assertEqual(seen, list(range(PIECE, 100_000 + 1, PIECE)))
        stream.close()
        self.jobs.cancel(job_id)

    def test_silence(self) -> None:
        """
        An import fails when its client stays silent.
        """
        job_id = self.begin()
        self.give(job_id, self.data[:100_000])
        self.clock.advance(SILENCE)
        self.settle()
        self.assertIn("sent nothing", self.assert_failed(job_id, "TIMED_OUT"))
        self.assert_idle()

    def test_stopped(self) -> None:
        """
        A daemon that stops ends its imports.
        """
        job_id = self.begin()
        self.give(job_id, self.data[:100_000])
        self.stop(self.jobs)
        self.assert_failed(job_id, "INTERRUPTED")

    def test_collection(self) -> None:
        """
        A collection during an import deletes none of its blobs, with or without
        their digests.
        """
        layer = sample_layer(compression="tar", seed="large", size=5_000_000)
        one, two = image_of([layer]), sample_image(2, seed="two")
        for data in (tar(docker_save({"a:1": one})), tar(layout({"a:1": two}))):
            job_id = self.begin()
            stream = self.jobs.upload_stream(job_id)
            half = len(data) - 3000
            for offset, piece in ((0, data[:half]), (half, data[half:])):
                sent = stream.put(offset, piece)
                self.settle()
                self.successResultOf(sent)
                collecting = self.jobs.image_admin.collect(False)
                self.settle()
                self.successResultOf(collecting)
            stream.finish(len(data))
            self.settle()
            self.assert_done(job_id)

    def test_pull_joins(self) -> None:
        """
        A pull of a blob that is just being imported joins in.
        """
        self.add(self.sample)
        job_id = self.begin("b:1")
        self.give(job_id, self.data[:100_000])
        pull = self.pull()
        self.settle()
        self.give(job_id, self.data[100_000:], 100_000)
        self.assert_done(pull)
        self.assertEqual(self.gets(self.blob), 0)
        self.jobs.cancel(job_id)
        self.assert_idle()

    def test_pull_goes_on(self) -> None:
        """
        A pull that has joined an import continues where the import was
        cancelled.
        """
        self.add(self.sample)
        job_id = self.begin("b:1")
        self.give(job_id, self.data[:100_000])
        pull = self.pull()
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        self.assert_done(pull)
        (request,) = [r for r in self.registry.requests if r.wanted == str(self.blob)]
        self.assertGreater(request.offset, 0)
        self.assert_idle()

    def test_joins_a_download(self) -> None:
        """
        An import of a blob that is being downloaded waits for the download,
        and supplies the bytes itself when it fails.
        """
        self.add(self.sample)
        self.registry.stall(self.blob)
        pull = self.pull()
        self.settle()
        job_id = self.begin("b:1", size=len(self.data))
        sending = self.jobs.upload_stream(job_id).put(0, self.data)
        self.settle()
        self.assertNoResult(sending)
        self.assertEqual(self.transfer("download", self.blob)["watchers"], 2)
        self.registry.fail(self.blob, Denied("not any more", host=HOST))
        self.settle()
        self.assertEqual(self.successResultOf(sending), len(self.data))
        self.jobs.upload_stream(job_id).finish(len(self.data))
        self.settle()
        self.assert_done(job_id)
        self.assert_done(pull)
        self.assert_idle()

    def test_download_ends_first(self) -> None:
        """
        Where the download succeeds, the bytes in the archive are skipped.
        """
        self.add(self.sample)
        self.registry.stall(self.blob)
        self.pull()
        self.settle()
        job_id = self.begin("b:1", size=len(self.data))
        sending = self.jobs.upload_stream(job_id).put(0, self.data)
        self.settle()
        self.registry.finish(self.blob)
        self.settle()
        self.successResultOf(sending)
        self.jobs.upload_stream(job_id).finish(len(self.data))
        self.settle()
        self.assert_done(job_id)
        self.assert_idle()


class IsolatedTests(ImportCase):
    """
    Imports in isolated mode.
    """

    sharing = "isolated"

    def setUp(self) -> None:
        """
        Have an image in the store that another client pulled.
        """
        super().setUp()
        self.sample = self.add(sample_image(2))
        self.pulled()
        self.files = layout({"mine:1": self.sample})

    def test_brought(self) -> None:
        """
        A client that sends all bytes of an image can import it.
        """
        self.imported(tar(self.files))
        self.assertEqual(self.image("mine:1").manifest.digest, self.sample.digest)
        self.imported(tar(docker_save({"mine:2": image_of([sample_layer(compression="tar")])})))

    def test_not_brought(self) -> None:
        """
        A blob that an archive only names is not taken from the store.
        """
        for missing in (self.sample.digest, self.sample.config.digest, self.sample.layers[0].blob.digest):
            files = {name: data for name, data in self.files.items() if name != path(missing)}
            job_id = self.send(tar(files))
            job = self.job(job_id)
            self.assertEqual(job["state"], "failed")
            self.assertIn("the archive lacks", job["error"]["message"])
        self.assert_idle()

    def test_pretended(self) -> None:
        """
        Other bytes of the right size do not pass for a blob of the store.
        """
        name = path(self.sample.layers[0].blob.digest)
        job_id = self.send(tar({**self.files, name: bytes(len(self.files[name]))}))
        self.assertIn("have another digest", self.assert_failed(job_id, "ARCHIVE_INVALID"))
        self.assert_idle()

    def test_other_size(self) -> None:
        """
        An archive that guesses at the size of a blob of others does not find
        it out: the error is the same as for a blob that is not there.
        """
        messages = []
        for digest in (self.sample.layers[0].blob.digest, Digest.of(b"not there")):
            job_id = self.send(tar({**self.files, path(digest): b"short"}))
            messages.append(self.assert_failed(job_id, "ARCHIVE_INVALID").replace(str(digest), "it"))
        self.assertNotIn("which has", messages[0])
        self.assertEqual(len(set(messages)), 1, messages)
        self.assert_idle()

    def test_on_its_way(self) -> None:
        """
        An import waits for a blob that another client fetches, and needs all
        its bytes to use it.
        """
        other = self.add(sample_image(1, seed="other"), "other")
        blob = other.layers[0].blob.digest
        self.registry.stall(blob)
        pull = self.pull("other")
        self.settle()
        data = tar(layout({"mine:1": other}))
        job_id = self.begin(None, None, len(data))
        sending = self.jobs.upload_stream(job_id).put(0, data)
        self.settle()
        self.registry.finish(blob)
        self.settle()
        self.successResultOf(sending)
        self.jobs.upload_stream(job_id).finish(len(data))
        self.settle()
        for ended in (pull, job_id):
            self.assert_done(ended)
        self.assert_idle()
