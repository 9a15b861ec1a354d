"""
Tests for imports under the names of own repositories, on fakes.
"""

from __future__ import annotations

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.archives.samples import docker_save, layout, tar
from tests.jobs.local.test_repository import APP, LocalCase
from xferd.errors import StoreError
from xferd.names import Reference, Repository
from xferd.testing.images import sample_image


class ImportTests(ImportCase, LocalCase):
    """
    Archives under own names.
    """

    def test_served(self) -> None:
        """
        The own repository has the image, byte for byte, with all its blobs, and keeps it
        without the name in the store.
        """
        for number in range(2):
            image = sample_image(2, seed=number)
            files = docker_save({"other:1": image}) if number else layout({"other:1": image})
            reference = f"localhost/local/app:{number}"
            job = self.imported(tar(files), reference)
            self.assertEqual(job["warnings"], [])
            digest = self.image(reference).manifest.digest
            self.assertEqual(self.result(self.own().resolve(str(number))), digest)
            self.assertEqual(self.result(self.own().manifest(str(number))).digest, digest)
            for blob in (image.config, *(layer.blob for layer in image.layers)):
                self.assertEqual(self.result(self.own().confirm(blob.digest)), len(blob.read()))
            self.result(self.store.images.remove(Reference.parse(reference)))
            self.result(self.store.gc.collect(False))
            self.assertEqual(self.result(self.own().manifest(str(number))).digest, digest)

    def test_others(self) -> None:
        """
        An image under another name is in no repository.
        """
        self.imported(tar(layout({"localhost/other/app:1": sample_image(1)})))
        self.imported(tar(layout({"app:1": sample_image(1)})))
        self.assertEqual(self.store.catalog.repositories(), [])

    def test_several(self) -> None:
        """
        Each image of an archive is where its name is.
        """
        names = ("localhost/local/app:1", "localhost/local/b:1", "app:1")
        self.imported(tar(layout({name: sample_image(1, seed=name) for name in names})))
        self.assertEqual(self.store.catalog.repositories(), [APP, Repository("localhost", "local/b")])

    def test_disk_refuses(self) -> None:
        """
        A disk that refuses is the error of the job.
        """
        self.store.gate.fail("catalog.write", StoreError("the disk refuses"))
        job_id = self.send(tar(layout({"localhost/local/app:1": sample_image(1)})))
        self.assertIn("the disk refuses", self.assert_failed(job_id, "STORE_FAILED"))
