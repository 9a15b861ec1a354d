"""
Tests of L{xferd.jobs.disk_space.reservations}.
"""

from __future__ import annotations

from tests.jobs.case import HOST, OTHER, JobsCase
from xferd.jobs.disk_space.sizes import in_words
from xferd.names import Digest
from xferd.testing.images import SampleImage, image_of, sample_image, sample_layer

ROOM = 20_000
"""Bytes for documents."""


def size_of(image: SampleImage) -> int:
    """
    The bytes of an image's layers.
    """
    return sum(layer.blob.descriptor.size for layer in image.layers)


class WordsTests(JobsCase):
    """
    Sizes in errors.
    """

    def test_words(self) -> None:
        """
        They are short.
        """
        for size, words in ((0, "0 B"), (1500, "1.5 kB"), (90_000_000, "90.0 MB"), (2 * 10**15, "2000.0 TB")):
            self.assertEqual(in_words(size), words)


class ReservationTests(JobsCase):
    """
    Jobs on a disk that is small.
    """

    def reserved(self) -> int:
        """
        The reserved bytes.
        """
        return self.jobs._layers.reservations.total

    def stalled(self, name: str, size: int = 100_000) -> SampleImage:
        """
        Have an image that does not arrive.
        """
        image = self.add(sample_image(1, size=size, seed=name), name)
        self.registry.stall(image.layers[0].blob.digest)
        return image

    def test_refused(self) -> None:
        """
        A pull that does not fit is refused before the first byte of a layer;
        the error names the needed and the free bytes.
        """
        image = self.add(sample_image(3, size=100_000))
        self.store.blobs.free = 200_000
        job_id = self.pull()
        self.settle()
        error = self.assert_failed(job_id, "DISK_FULL")
        self.assertRegex(error, f"^{HOST}/app:latest needs 30[0-9].[0-9] kB, and the disk of .* has ")
        self.assertIn("kB free; remove images with 'xferctl rm'", error)
        self.assertEqual(sum(self.gets(layer.blob.digest) for layer in image.layers), 0)
        self.assert_idle()
        self.assertEqual(self.reserved(), 0)

    def test_fits(self) -> None:
        """
        An image that fits is pulled, and nothing stays reserved; a blob that
        is in an image twice counts once.
        """
        layer = sample_layer(100_000)
        image = self.add(image_of([layer, layer]))
        self.store.blobs.free = size_of(image) // 2 + ROOM
        self.pulled()
        self.assertEqual(self.reserved(), 0)

    def test_beside_others(self) -> None:
        """
        The missing bytes of other jobs stay reserved; when these jobs have
        ended, the space is free.
        """
        first = self.stalled("first")
        self.store.blobs.free = 150_000
        job_id = self.pull("first")
        self.settle()
        self.registry.feed(first.layers[0].blob.digest, 30_000)
        self.settle()
        self.assertEqual(self.reserved(), size_of(first) - 30_000)
        self.add(sample_image(1, size=60_000, seed="x"), "second")
        second = self.pull("second")
        self.settle()
        self.assertRegex(
            self.assert_failed(second, "DISK_FULL"), r"of which 7[0-9.]+ kB are reserved for other jobs;"
        )
        self.jobs.cancel(job_id)
        self.settle()
        self.pulled("second")

    def test_shared(self) -> None:
        """
        A blob that another job fetches already is reserved once; it stays
        reserved for the second when the first is cancelled.
        """
        image = self.stalled("app")
        self.store.blobs.free = size_of(image) + ROOM
        first, second = self.pull(client="a"), self.pull(client="b")
        self.settle()
        self.assertEqual(self.reserved(), size_of(image))
        self.jobs.cancel(first)
        self.settle()
        self.assertEqual(self.reserved(), size_of(image))
        self.registry.finish(image.layers[0].blob.digest)
        self.settle()
        self.assert_done(second)
        self.assertEqual(self.reserved(), 0)

    def test_partial(self) -> None:
        """
        Only what is missing is needed.
        """
        image = self.stalled("app")
        job_id = self.pull()
        self.settle()
        self.registry.feed(image.layers[0].blob.digest, 80_000)
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        self.store.blobs.free = size_of(image) - 80_000 + ROOM
        self.registry.finish(image.layers[0].blob.digest)
        self.pulled()

    def test_here(self) -> None:
        """
        A blob or tree in the store needs no space.
        """
        image = self.add(sample_image(2, size=100_000))
        self.pulled()
        self.store.blobs.free = ROOM
        self.pulled()
        for layer in image.layers:
            del self.store.blobs.contents[layer.blob.digest]
        self.pulled()

    def test_freed(self) -> None:
        """
        Unused content is freed for a job, if that suffices; partial blobs only
        if the rest does not.
        """
        stray = b"x" * 50_000
        self.store.blobs.contents[Digest.of(stray)] = stray
        self.store.blobs.partials[Digest.of(b"some blob")] = b"x" * 50_000
        image = self.add(sample_image(1, size=100_000))
        self.store.blobs.free = 60_000
        self.pulled()
        self.assertEqual(len(self.store.blobs.partials), 1)
        self.add(sample_image(1, size=40_000, seed="x"), "second")
        self.store.blobs.free = 20_000
        self.pulled("second")
        self.assertEqual(len(self.store.blobs.partials), 0)
        del image

    def test_nothing_freed_in_vain(self) -> None:
        """
        Where that does not suffice, nothing is freed.
        """
        self.store.blobs.partials[Digest.of(b"some blob")] = b"x" * 50_000
        self.add(sample_image(1, size=200_000))
        self.store.blobs.free = 60_000
        job_id = self.pull()
        self.settle()
        self.assert_failed(job_id, "DISK_FULL")
        self.assertEqual(len(self.store.blobs.partials), 1)

    def test_counted_once(self) -> None:
        """
        Many jobs that do not fit count what may be freed once.
        """
        self.add(sample_image(1, size=200_000))
        self.store.blobs.free = 60_000
        jobs = [self.pull() for _ in range(20)]
        self.settle()
        for job_id in jobs:
            self.assert_failed(job_id, "DISK_FULL")
        self.assertEqual(self.store.gate.count("gc.collect"), 2)
        self.wait(2)
        self.pull()
        self.settle()
        self.assertEqual(self.store.gate.count("gc.collect"), 4)

    def test_copy(self) -> None:
        """
        A copy reserves what has to pass through the store, and nothing where
        its target has all.
        """
        image = self.add(sample_image(1, size=100_000))
        self.store.blobs.free = 60_000
        job_id = str(self.jobs.copy(f"{HOST}/app:latest", f"{OTHER}/app:1", None, False, "ci", 0)["id"])
        self.settle()
        self.assertIn("needs 10", self.assert_failed(job_id, "DISK_FULL"))
        self.assertEqual(self.gets(image.layers[0].blob.digest), 0)
        job_id = str(self.jobs.copy(f"{HOST}/app:latest", f"{HOST}/other:1", None, False, "ci", 0)["id"])
        self.settle()
        self.assert_done(job_id)

    def test_unpacked(self) -> None:
        """
        Where the layers will probably not fit unpacked, the job gets a warning
        and continues.
        """
        image = self.add(sample_image(1, size=100_000))
        self.store.blobs.free = 2 * size_of(image)
        (warning,) = self.pulled()["warnings"]
        self.assertIn("the layers take about 25", warning)
        self.assertIn("probably lacks", warning)
