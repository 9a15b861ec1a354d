"""
Tests of L{xferd.jobs.disk_space.quota}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.case import HOST, JobsCase
from xferd.errors import StoreError
from xferd.interfaces.jobs import Event
from xferd.names import Digest, Reference
from xferd.testing.images import SampleImage, image_of, sample_image, sample_layer

SIZE = 100_000


class QuotaTests(JobsCase):
    """
    A store that may take so many bytes.
    """

    def image(self, name: str, size: int = SIZE) -> SampleImage:
        """
        Have an image in the registry.
        """
        return self.add(sample_image(1, size=size, seed=name), name)

    def have(self, *names: str) -> None:
        """
        Pull images.
        """
        for name in names:
            self.image(name)
            self.pulled(name)

    def names(self) -> list[str]:
        """
        The names of the images.
        """
        return [image.reference.repository.path for image in self.store.images.all()]

    def usage(self) -> int:
        """
        The bytes in the store.
        """
        return sum(self.successResultOf(self.store.usage()).values())

    def pin(self, name: str) -> None:
        """
        Pin an image.
        """
        pinning = self.jobs.image_admin.pin(f"{HOST}/{name}", True)
        self.settle()
        self.successResultOf(pinning)

    def test_off(self) -> None:
        """
        Without a quota nothing is removed.
        """
        self.assertEqual(self.jobs.quota, 0)
        self.have("one", "two", "three")
        self.assertEqual(len(self.names()), 3)

    def test_set(self) -> None:
        """
        Setting a quota frees what exceeds it, the least recently used image
        first; streams get the removals.
        """
        self.have("one", "two", "three")
        self.store.images.get(self.store.images.all()[0].reference)
        stream = self.jobs.events(None)
        self.settle()
        self.successResultOf(stream.get())
        self.jobs.quota = self.usage() - 1
        self.wait(1)
        self.assertEqual(self.names(), ["one", "three"])
        self.assertLessEqual(self.usage(), self.jobs.quota)
        (event,) = self.successResultOf(stream.get())
        self.assertEqual(event.data, {"reference": f"{HOST}/two:latest", "removed": True})
        self.assertEqual(self.jobs.status()["quota"], self.jobs.quota)

    def test_garbage_first(self) -> None:
        """
        Unused content, and the partial blobs of interrupted jobs, are removed
        before any image.
        """
        self.have("one")
        limit = self.usage()
        self.store.blobs.contents[Digest.of(b"stray")] = b"stray"
        self.store.blobs.partials[Digest.of(b"some blob")] = b"some"
        self.jobs.quota = limit
        self.wait(1)
        self.assertEqual((self.names(), self.usage()), (["one"], limit))

    def test_pull(self) -> None:
        """
        A pull frees the space that it needs, and no more; its own image stays.
        """
        self.have("one", "two")
        self.jobs.quota = self.usage() + SIZE
        self.have("three")
        self.wait(1)
        self.assertEqual(self.names(), ["three", "two"])
        self.assertLessEqual(self.usage(), self.jobs.quota)

    def test_cancelled(self) -> None:
        """
        Where the pull is cancelled meanwhile, streams get all removed images,
        and nothing is fetched.
        """
        self.have("one", "two")
        self.jobs.quota = self.usage()
        stream = self.jobs.events(None)
        self.successResultOf(stream.get())
        self.store.gate.hold("images.remove", Reference.parse(f"{HOST}/two"))
        image = self.image("three", 3 * SIZE)
        job_id = self.pull("three")
        self.settle()
        self.jobs.cancel(job_id)
        self.settle()
        self.store.gate.release("images.remove", Reference.parse(f"{HOST}/two"))
        self.settle()
        self.assertEqual(self.job(job_id)["state"], "cancelled")
        self.assertEqual((self.names(), self.gets(image.layers[0].blob.digest)), ([], 0))
        getting: Deferred[list[Event]] = stream.get()
        self.wait(1)
        told = [e.data["reference"] for e in self.successResultOf(getting) if "removed" in e.data]
        self.assertEqual(told, [f"{HOST}/one:latest", f"{HOST}/two:latest"])

    def test_pinned(self) -> None:
        """
        A pinned image stays; a pull that does not fit beside it is refused
        before its first byte.
        """
        self.have("one", "two")
        self.pin("one")
        self.jobs.quota = self.usage() + 10_000
        self.have("three")
        self.assertEqual(self.names(), ["one", "three"])
        self.pin("three")
        image = self.image("four")
        job_id = self.pull("four")
        self.settle()
        error = self.assert_failed(job_id, "DISK_FULL")
        self.assertRegex(error, r"four:latest needs 10\d\.\d kB, and the quota of the store is .* kB; remove")
        self.assertEqual(self.gets(image.layers[0].blob.digest), 0)

    def test_too_large(self) -> None:
        """
        An image that is larger than the quota is refused, and nothing is
        removed for it.
        """
        self.have("one")
        self.jobs.quota = self.usage()
        self.image("large", 10 * SIZE)
        job_id = self.pull("large")
        self.settle()
        self.assert_failed(job_id, "DISK_FULL")
        self.assertEqual(self.names(), ["one"])

    def test_larger_unpacked(self) -> None:
        """
        An image that only turned out to be too large when it was unpacked
        stays until the next job.
        """
        self.image("one")
        self.jobs.quota = SIZE + 10_000
        self.pulled("one")
        self.wait(1)
        self.assertGreater(self.usage(), self.jobs.quota)
        self.assertEqual(self.names(), ["one"])
        self.have("two")
        self.assertEqual(self.names(), ["two"])

    def test_shared(self) -> None:
        """
        Where images share layers, as many as necessary are removed.
        """
        base = sample_layer(SIZE, "base")
        for name in ("one", "two", "three"):
            self.add(image_of([base, sample_layer(1000, name)]), name)
            self.pulled(name)
        self.jobs.quota = 10_000
        self.wait(1)
        self.assertEqual(self.names(), [])

    def test_running(self) -> None:
        """
        Content that running jobs use stays.
        """
        self.have("one")
        self.other.uploads.stall(self.store.images.all()[0].layers[0].digest)
        job_id = self.push("one")
        self.settle()
        self.jobs.quota = 1
        self.wait(1)
        self.assertEqual(self.names(), ["one"])
        self.jobs.cancel(job_id)
        self.settle()
        self.jobs.quota = 1
        self.wait(1)
        self.assertEqual(self.names(), [])

    def test_at_the_start(self) -> None:
        """
        A daemon begins with its quota.
        """
        self.have("one", "two")
        limit = self.usage() - 1
        self.jobs = self.make_jobs()
        self.jobs.quota = limit
        self.start()
        self.wait(1)
        self.assertEqual(self.names(), ["two"])

    def test_trouble(self) -> None:
        """
        A store that cannot be collected is an error in the log, and no more.
        """
        self.have("one")
        self.store.gate.fail("gc.collect", StoreError("damaged"))
        self.jobs.quota = 1
        self.wait(1)
        self.assertEqual(self.names(), ["one"])
