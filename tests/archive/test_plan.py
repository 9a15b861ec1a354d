"""
Tests for L{xferd.archive.plan}.
"""

from __future__ import annotations

import io
import json
import tarfile

from twisted.trial.unittest import SynchronousTestCase

from xferd.archive.contents import DOCKER, FULL_NAME, INDEX, LAYOUT, NAME, RENDITION_OF
from xferd.archive.plan import Plan, plan, tar_header
from xferd.media_types import DOCKER_MANIFEST
from xferd.names import Digest, Reference
from xferd.oci import Document, Manifest, parse_document
from xferd.testing.images import SampleImage, image_of, sample_image, sample_layer


def manifest_of(image: SampleImage) -> Manifest:
    """
    An image's manifest, read.
    """
    manifest = parse_document(image.manifest)
    assert isinstance(manifest, Manifest)
    return manifest


def write(image: SampleImage, planned: Plan) -> bytes:
    """
    An archive as it would be sent.
    """
    blobs = {blob.digest: blob.read() for blob in image.blobs}
    data = b"".join(part if isinstance(part, bytes) else blobs[part.digest] for part in planned.parts)
    assert len(data) == planned.size
    return data


class PlanTests(SynchronousTestCase):
    """
    Archives, read by another reader.
    """

    NAME = Reference.parse("registry.lan:5000/me/app:1")

    def build(
        self, image: SampleImage, form: str = "docker", reference: Reference = NAME
    ) -> dict[str, bytes]:
        """
        The files of an image's archive.
        """
        data = write(image, plan(reference, manifest_of(image), image.manifest, form))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = archive.getmembers()
            self.assertEqual({(m.mtime, m.uid, m.gid) for m in members}, {(0, 0, 0)})
            found = {m.name: archive.extractfile(m) for m in members if m.isfile()}
            return {name: file.read() for name, file in found.items() if file is not None}

    def test_layout(self) -> None:
        """
        It is an image layout whose blobs are what their names say, the
        documents first.
        """
        image = sample_image(3)
        files = self.build(image)
        self.assertEqual(list(files)[:3], [LAYOUT, INDEX, DOCKER])
        (entry,) = json.loads(files[INDEX])["manifests"]
        self.assertEqual(entry["digest"], str(image.digest))
        self.assertEqual(entry["annotations"], {NAME: str(self.NAME), FULL_NAME: str(self.NAME)})
        blobs = {name: data for name, data in files.items() if name.startswith("blobs/")}
        self.assertEqual(len(blobs), 5)
        for name, data in blobs.items():
            self.assertEqual(name, f"blobs/sha256/{Digest.of(data).hex}")

    def test_docker(self) -> None:
        """
        Docker's list names the same files, with the name as docker writes it.
        """
        image = sample_image(2)
        for name, tags in (("alpine:3", ["alpine:3"]), (f"alpine@{image.digest}", [])):
            files = self.build(image, reference=Reference.parse(name))
            (listed,) = json.loads(files[DOCKER])
            self.assertEqual(listed["RepoTags"], tags)
            self.assertEqual(files[listed["Config"]], image.config.read())
            self.assertEqual(
                [files[path] for path in listed["Layers"]], [layer.blob.read() for layer in image.layers]
            )

    def test_oci(self) -> None:
        """
        OCI's form has no list of docker's.
        """
        self.assertNotIn(DOCKER, self.build(sample_image(1), "oci"))

    def test_layer_twice(self) -> None:
        """
        A blob that stands twice in an image stands once in the archive.
        """
        twice = sample_layer()
        self.assertEqual(len(self.build(image_of([twice, twice]))), 3 + 3)

    def test_original(self) -> None:
        """
        A manifest of Docker's goes along with its rendition, which says so.
        """
        image = sample_image(1)
        original = Document.verified(DOCKER_MANIFEST, b"{}")
        data = write(image, plan(self.NAME, manifest_of(image), image.manifest, "oci", original))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = archive.extractfile(f"blobs/sha256/{original.digest.hex}")
            index = archive.extractfile(INDEX)
            assert found is not None
            assert index is not None
            self.assertEqual(found.read(), b"{}")
            (entry,) = json.loads(index.read())["manifests"]
            self.assertEqual(entry["annotations"][RENDITION_OF], str(original.digest))

    def test_same_bytes(self) -> None:
        """
        Equal images give equal archives.
        """
        one, two = (
            write(i, plan(self.NAME, manifest_of(i), i.manifest, "docker")) for i in [sample_image(2)] * 2
        )
        self.assertEqual(one, two)


class HeaderTests(SynchronousTestCase):
    """
    Single headers.
    """

    def test_large(self) -> None:
        """
        Long names and sizes that octal digits cannot hold are read again.
        """
        for name, size in (("blobs/sha512/" + "f" * 128, 5), ("x", 8**11), ("x", 8**11 - 1)):
            header = tar_header(name, size)
            with tarfile.open(fileobj=io.BytesIO(header + bytes(1024)), mode="r|") as archive:
                member = archive.next()
                assert member is not None
                self.assertEqual((member.name, member.size), (name, size))
