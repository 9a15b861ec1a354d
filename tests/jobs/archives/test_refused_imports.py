"""
Tests for L{xferd.jobs.archives.importing}: invalid archives, and isolated clients.
"""

from __future__ import annotations

import json

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import docker_save, layout, path, tar
from xferd.archive.contents import INDEX, LAYOUT
from xferd.errors import BadInput, BadReference, NotFound
from xferd.names import Digest
from xferd.testing.images import image_of, sample_image, sample_layer


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
            self.assertIn("is truncated", self.refused(data[:cut]))

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
        self.end_archive(job_id, len(data))
        self.settle()
        for ended in (pull, job_id):
            self.assert_done(ended)
        self.assert_idle()
