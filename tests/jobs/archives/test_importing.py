"""
Tests for L{xferd.jobs.archives.importing}: archives of all forms.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

from twisted.logger import capturedLogs, formatEvent

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import docker_save, layout, path, tar
from xferd.archive.contents import INDEX, NAME, RENDITION_OF
from xferd.archive.plan import tar_header
from xferd.docker_manifest import to_oci_manifest
from xferd.json_encoding import rfc3339
from xferd.media_types import OCI_MANIFEST
from xferd.oci import Document
from xferd.platforms import Platform
from xferd.testing.images import image_of, index_of, sample_image, sample_layer


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
        for begin in (
            f"import of an archive for ci: failed: {why} (",
            "import of docker.io/library/a:1 for ci: done; ",
        ):
            self.assertEqual(len([line for line in lines if line.startswith(begin)]), 1, begin)

    def test_silent_client(self) -> None:
        """
        An import whose client sends nothing for three seconds has that as its reason, since the
        last bytes; the next bytes end it, and so does the end of the job.
        """
        data = tar(layout({"a:1": sample_image(1)}))
        job_id = self.begin(size=len(data))
        offset = self.give(job_id, data[:1000])
        self.wait(1)
        self.assertEqual(self.job(job_id)["why"], "")
        self.wait(3)
        job, words = self.job(job_id), "waiting for its client to send more of the archive"
        self.assertEqual((job["why"], job["reason"]["what"], job["reason"]["whom"]), (words, "client", "ci"))
        self.assertEqual(job["reason"]["since"], rfc3339(self.wall_clock() - 4))
        offset = self.give(job_id, data[offset:2000], offset)
        self.assertEqual(self.job(job_id)["why"], "")
        self.wait(4)
        self.assertEqual(self.job(job_id)["why"], words)
        self.jobs.cancel(job_id)
        self.settle()
        self.assertEqual((self.job(job_id)["state"], self.job(job_id)["why"]), ("cancelled", ""))
        self.assert_idle()

    def test_layout(self) -> None:
        """
        A layout's image comes with its manifest, byte for byte, unpacked.
        """
        image = sample_image(3)
        job = self.imported(tar(layout({"quay.io/me/app:1": image})))
        named = self.image("quay.io/me/app:1")
        self.assertEqual(named.manifest.digest, image.digest)
        self.assertEqual(named.pulled, "")
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
