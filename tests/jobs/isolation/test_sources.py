"""
Tests for the sources of several clients: failures, shared blobs and rate limits.
"""

from __future__ import annotations

from tests.jobs.case import HOST, OTHER
from tests.jobs.isolation.case import ANN, BOB, RightsCase, SourcesCase
from xferd.errors import BlobUnknown, Denied, TooManyRequests
from xferd.testing.images import sample_image


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
