"""
Tests for L{xferd.jobs.archives.exporting}.
"""

from __future__ import annotations

import io
import json
import tarfile
from itertools import pairwise

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.archive.contents import DOCKER, INDEX, NAME, RENDITION_OF
from xferd.errors import BadReference, Denied, NotFound, StoreError
from xferd.interfaces.jobs import IArchive
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Reference
from xferd.testing.images import SampleImage, image_of, sample_image, sample_layer
from xferd.testing.layers import pack


class ExportTests(JobsCase):
    """
    Images out of the store, as archives.
    """

    def have(self, image: SampleImage, name: str = "app") -> SampleImage:
        """
        Have an image in the store.
        """
        self.add(image, name)
        self.pulled(name)
        return image

    def opened(self, name: str = "app", form: str = "docker") -> Deferred[IArchive]:
        """
        Open an archive.
        """
        opening = self.jobs.export(f"{HOST}/{name}", form, "ci")
        self.settle()
        return opening

    def exported(self, name: str = "app", form: str = "docker", most: int = 5000) -> bytes:
        """
        Read an archive to its end.
        """
        archive = self.successResultOf(self.opened(name, form))
        self.assertTrue(verifyObject(IArchive, archive))
        pieces = []
        while piece := self.successResultOf(archive.read(most)):
            self.assertLessEqual(len(piece), most)
            pieces.append(piece)
        archive.close()
        data = b"".join(pieces)
        self.assertEqual(len(data), archive.size)
        self.assert_idle()
        return data

    def files(self, data: bytes) -> dict[str, bytes]:
        """
        The files of an archive.
        """
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {m.name: archive.extractfile(m) for m in archive.getmembers() if m.isfile()}
            return {name: file.read() for name, file in found.items() if file is not None}

    def test_export(self) -> None:
        """
        All blobs are in the archive, each under its digest.
        """
        image = self.have(sample_image(3))
        files = self.files(self.exported())
        for blob in (image.digest, *(b.digest for b in image.blobs)):
            self.assertEqual(Digest.of(files[f"blobs/sha256/{blob.hex}"]), blob)
        (entry,) = json.loads(files[INDEX])["manifests"]
        self.assertEqual(entry["annotations"][NAME], f"{HOST}/app:latest")
        self.assertIn(DOCKER, files)

    def test_same_bytes(self) -> None:
        """
        The archive has the same bytes each time, in pieces of any size.
        """
        self.have(sample_image(2))
        first = self.exported()
        for most in (1, 700, 10**6):
            self.assertEqual(self.exported(most=most), first)
        self.assertNotIn(DOCKER, self.files(self.exported(form="oci")))

    def test_docker_manifest(self) -> None:
        """
        An image in Docker's format is named by its OCI form, and the archive
        contains its own manifest as well.
        """
        image = self.have(sample_image(2, docker=True))
        files = self.files(self.exported())
        (entry,) = json.loads(files[INDEX])["manifests"]
        self.assertEqual(entry["mediaType"], OCI_MANIFEST)
        self.assertEqual(entry["annotations"][RENDITION_OF], str(image.digest))
        self.assertEqual(files[f"blobs/sha256/{image.digest.hex}"], image.manifest.data)

    def test_imported_again(self) -> None:
        """
        An exported archive can be imported, with the same digests.
        """
        for docker in (False, True):
            image = self.have(sample_image(2, seed=docker, docker=docker), f"app{docker}".lower())
            data = self.exported(f"app{docker}".lower())
            job = self.jobs.import_archive("again:1", None, len(data), "ci", 0)
            sent = self.jobs.upload_stream(job["id"]).put(0, data)
            self.settle()
            self.successResultOf(sent)
            self.end_archive(job["id"], len(data))
            self.settle()
            self.assert_done(job["id"])
            named = self.store.images.get(Reference.parse("again:1"))
            assert named is not None
            self.assertEqual(named.manifest.digest, image.digest)

    def zstd(self) -> Digest:
        """
        Have an image in the store whose layer's blob is not, as its tree came
        by another one.
        """
        tar = sample_layer(seed="one", compression="tar").blob.read()
        self.have(image_of([pack(tar, "gzip")]), "gzip")
        image = self.have(image_of([pack(tar, "zstd")]), "zstd")
        digest = image.layers[0].blob.digest
        self.store.blobs.contents.pop(digest, None)
        self.store.blobs.partials.clear()
        return digest

    def test_blob_is_not_here(self) -> None:
        """
        A layer whose tree came by another blob is fetched before the first
        byte.
        """
        digest = self.zstd()
        before = self.gets(digest)
        self.exported("zstd")
        self.assertEqual(self.gets(digest), before + 1)

    def test_second_name(self) -> None:
        """
        Under another name, that is fetched from where the image came, too.
        """
        digest = self.zstd()
        names = [f"{HOST}/zstd", f"{OTHER}/b", "c/d:1"]
        for name, second in pairwise(names):
            tagging = self.jobs.image_admin.tag(name, second)
            self.settle()
            self.successResultOf(tagging)
        for second in names[1:]:
            self.store.blobs.contents.pop(digest, None)
            self.store.blobs.partials.clear()
            before = self.gets(digest)
            opening = self.jobs.export(second, "oci", "ci")
            self.settle()
            self.successResultOf(opening).close()
            self.assertEqual(self.gets(digest), before + 1)
        self.assertEqual(self.other.gate.calls, [])
        self.assert_idle()

    def test_blob_is_nowhere(self) -> None:
        """
        Where a blob cannot be fetched, the export fails before the first byte.
        """
        self.zstd()
        self.registry.gate.fail("open", Denied("not any more", host=HOST), times=9)
        failure = self.failureResultOf(self.opened("zstd"), StoreError)
        self.assertIn("not any more", str(failure.value))
        self.assert_idle()

    def test_cancelled(self) -> None:
        """
        An export that is cancelled while a layer is fetched leaves nothing.
        """
        self.registry.stall(self.zstd())
        opening = self.opened("zstd")
        opening.cancel()
        self.failureResultOf(opening)
        self.assert_idle()

    def test_no_such_image(self) -> None:
        """
        An image that the store does not have, or a malformed name, fails the
        export.
        """
        self.failureResultOf(self.opened("nothing"), NotFound)
        self.failureResultOf(self.opened("A B"), BadReference)

    def test_damaged(self) -> None:
        """
        A blob that is too short is found before the first byte.
        """
        image = self.have(sample_image(1))
        self.store.blobs.contents[image.layers[0].blob.digest] = b"short"
        failure = self.failureResultOf(self.opened(), StoreError)
        self.assertIn("damaged", str(failure.value))

    def test_removed(self) -> None:
        """
        An image that is removed during its export is kept until it is sent, and
        no longer; if nothing is sent, it is not kept.
        """
        image = self.have(sample_image(2))
        self.failureResultOf(self.opened("nothing"))
        archive = self.successResultOf(self.opened())
        removing = self.jobs.image_admin.remove(f"{HOST}/app")
        self.settle()
        self.successResultOf(removing)
        pieces = []
        while piece := self.successResultOf(archive.read(5000)):
            pieces.append(piece)
        self.assertEqual(sum(map(len, pieces)), archive.size)
        self.assertIn(image.config.digest, self.store.blobs.contents)
        archive.close()
        collecting = self.jobs.image_admin.collect(False)
        self.settle()
        self.successResultOf(collecting)
        self.assertEqual(self.store.blobs.contents, {})

    def test_closed(self) -> None:
        """
        An archive that is closed in the middle closes its file.
        """
        self.have(sample_image(1))
        archive = self.successResultOf(self.opened())
        for _ in range(10):
            self.successResultOf(archive.read(1000))
        archive.close()
        archive.close()
        self.assertEqual(self.successResultOf(archive.read(1000)), b"")
        self.assert_idle()
