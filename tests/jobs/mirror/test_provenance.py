"""
Tests for L{xferd.jobs.mirror.provenance} and L{xferd.jobs.mirror.arriving_blob}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from tests.jobs.case import OTHER
from tests.jobs.mirror.test_blobs import BlobCase
from xferd.errors import BlobUnknown, ConnectionFailed, DigestMismatch, SourceError, StoreError
from xferd.interfaces.mirror import IBlobReader
from xferd.jobs.blobs.possession import PARTS
from xferd.names import Repository
from xferd.realms import PUBLIC
from xferd.testing.fake_registry import FakeRepository


class ProvenanceCase(BlobCase):
    """
    A blob that came with credentials, and an upstream that names its digest.
    """

    def setUp(self) -> None:
        """
        Add the same manifest to the upstream, of which anybody gets all that it has.
        """
        super().setUp()
        self.other.add(self.image, "app", "latest")
        self.naming = self.registries.anonymous().repository(Repository(OTHER, "app"))
        asking = self.mirror.manifest(self.naming, "latest", "ci")
        self.settle()
        self.successResultOf(asking)
        self.other.requests.clear()

    def bring(self) -> None:
        """
        Have the blob in the store.
        """
        self.successResultOf(self.open()).close()
        self.settle()
        self.registry.requests.clear()

    def lack(self) -> None:
        """
        Let the upstream not have the blob.
        """
        self.other.remove_blob("app", self.digest)

    def pretend(self) -> None:
        """
        Let the upstream have other bytes.
        """
        self.other.put_blob("app", self.digest, bytes(len(self.data)))

    def ask_other(self, start: int = 0, images: bool = False) -> Deferred[IBlobReader]:
        """
        Open the blob as a client of the upstream.
        """
        opening = self.mirror.blob(self.naming, self.digest, "guest", start, images=images)
        self.settle()
        return opening

    def asks(self) -> tuple[int, int]:
        """
        The numbers of confirmations and of GETs that the upstream has seen.
        """
        return self.other.count("confirm", self.digest), self.gets_of(self.other)

    def gets_of(self, registry: object) -> int:
        """
        The number of GETs of the blob.
        """
        return sum(1 for each in getattr(registry, "requests", ()) if each.kind == "blob")

    def assert_whole(self, opening: Deferred[IBlobReader]) -> None:
        """
        The client gets the blob.
        """
        reader = self.successResultOf(opening)
        self.assertEqual(self.read(reader), self.data)
        reader.close()


class StoredTests(ProvenanceCase):
    """
    The blob is in the store.
    """

    def test_lacks(self) -> None:
        """
        An upstream that names a digest and does not have the blob gets nothing.
        """
        self.bring()
        self.lack()
        self.failureResultOf(self.ask_other(), BlobUnknown)

    def test_pretends(self) -> None:
        """
        One that confirms it and sends other bytes gets nothing, however often it tries.
        """
        self.bring()
        self.pretend()
        for _ in range(3):
            self.failureResultOf(self.ask_other(), DigestMismatch)
        self.assertEqual(self.store.catalog.origins(self.digest), {self.source.origin})

    def test_proves(self) -> None:
        """
        One that has the bytes proves it, once for all clients and all time.
        """
        self.bring()
        opening = [self.ask_other() for _ in range(3)]
        for each in opening:
            self.assert_whole(each)
        self.assertEqual(self.asks(), (1, PARTS))
        self.assertEqual(self.store.catalog.origins(self.digest), {self.source.origin, PUBLIC})
        self.assert_whole(self.open())
        self.assertEqual(self.gets(self.digest), 0)

    def test_ignores_ranges(self) -> None:
        """
        One that sends whole blobs only sends this one past the store, and has proved
        thereby that it has it.
        """
        self.bring()
        self.other.ignore_range(self.digest, times=9)
        self.assert_whole(self.ask_other())
        self.settle()
        self.assertEqual(self.asks(), (1, 2))
        self.assertLess(self.other.bodies[0].sent, len(self.data))
        self.assert_whole(self.ask_other())
        self.assertEqual(self.asks(), (1, 2))

    def test_ignores_ranges_and_pretends(self) -> None:
        """
        If it then sends other bytes, its clients get these, and not those of the store.
        """
        self.bring()
        self.pretend()
        self.other.ignore_range(self.digest, times=9)
        reader = self.successResultOf(self.ask_other())
        self.assertEqual(self.read(reader, 0, 1000), bytes(1000))
        reader.close()
        self.settle()
        self.assertEqual(self.store.catalog.origins(self.digest), {self.source.origin})

    def test_down(self) -> None:
        """
        Without an answer there is no proof.
        """
        self.bring()
        self.other.gate.fail("confirm", ConnectionFailed("down", host=OTHER), times=9)
        opening = self.ask_other()
        self.wait(10)
        self.failureResultOf(opening, SourceError)

    def test_public(self) -> None:
        """
        What one upstream sends to anybody is sent to clients of all others without a
        question.
        """
        self.assert_whole(self.ask_other())
        self.lack()
        asked = self.asks()
        self.assert_whole(self.ask_other())
        self.assert_whole(self.open())
        self.assertEqual(self.asks(), asked)
        self.assertEqual(self.registry.count("confirm", self.digest), 0)
        self.assertEqual(self.gets(self.digest), 0)

    def test_same_host(self) -> None:
        """
        The registry that sent the bytes only has to confirm that it sends them to
        another client, too.
        """
        self.bring()
        same = self.registries.anonymous().repository(self.source.name)
        opening = self.open(source=same)
        self.assert_whole(opening)
        self.assertEqual([each.kind for each in self.registry.requests], ["confirm"])

    def test_unknown(self) -> None:
        """
        Bytes of which it is not known where they came from are sent after a proof.
        """
        self.bring()
        self.store.catalog.forget_origins(self.digest)
        self.assert_whole(self.open())
        self.assertEqual((self.registry.count("confirm", self.digest), self.gets(self.digest)), (1, PARTS))

    def test_just_now(self) -> None:
        """
        A client that comes at the moment when the blob is complete needs no proof.
        """
        self.registry.stall(self.digest)
        opening = self.open()
        self.registry.feed(self.digest, 100_000)
        self.settle()
        reader = self.successResultOf(opening)
        later: list[Deferred[IBlobReader]] = []
        last = reader.read(len(self.data) - 1, 1)
        _ = last.addCallback(lambda _: later.append(self.mirror.blob(self.source, self.digest, "next")))
        self.registry.finish(self.digest)
        self.settle()
        self.assert_whole(later[0])
        reader.close()
        self.assertEqual((self.registry.count("confirm", self.digest), self.gets(self.digest)), (0, 1))

    def test_not_recorded(self) -> None:
        """
        An origin that cannot be recorded counts until the daemon ends.
        """
        self.store.gate.fail("catalog.write", StoreError("the disk refuses"))
        self.bring()
        self.assert_whole(self.open())
        self.assertEqual(self.registry.requests, [])

    def test_image(self) -> None:
        """
        A client that may have the images of a name gets its blobs without a question.
        """
        self.other.add(self.image, "app", "latest")
        self.jobs.pull(f"{OTHER}/app", None, "ci", 0)
        self.settle()
        self.lack()
        self.other.requests.clear()
        self.assert_whole(self.ask_other(images=True))
        self.assertEqual(self.asks(), (0, 0))
        self.failureResultOf(self.ask_other(), BlobUnknown)


class ArrivingTests(ProvenanceCase):
    """
    The blob arrives.
    """

    def arriving(self, size: int = 100_000) -> IBlobReader:
        """
        Let some bytes arrive with credentials.
        """
        self.registry.stall(self.digest)
        opening = self.open()
        self.registry.feed(self.digest, size)
        self.settle()
        return self.successResultOf(opening)

    def test_apart(self) -> None:
        """
        A client of another upstream gets what that upstream sends, past the store.
        """
        reader = self.arriving()
        self.pretend()
        opening = self.ask_other()
        other = self.successResultOf(opening)
        self.assertEqual(self.read(other, 0, 1000), bytes(1000))
        other.close()
        self.registry.finish(self.digest)
        self.settle()
        self.assertEqual(self.read(reader), self.data)
        reader.close()
        self.settle()
        self.assert_idle()

    def test_same_host(self) -> None:
        """
        A client of the same registry shares the download, once the registry has
        confirmed its right.
        """
        reader = self.arriving()
        same: FakeRepository = self.registries.anonymous().repository(self.source.name)
        other = self.successResultOf(self.open(source=same))
        self.assertEqual(self.registry.count("confirm", self.digest), 1)
        self.registry.finish(self.digest)
        self.settle()
        for each in (reader, other):
            self.assertEqual(self.read(each), self.data)
            each.close()
        self.assertEqual(self.gets(self.digest), 1)

    def test_refused(self) -> None:
        """
        It does not without a right.
        """
        self.arriving().close()
        self.registry.private.add("app")
        same = self.registries.anonymous().repository(self.source.name)
        self.failureResultOf(self.open(source=same), SourceError)

    def test_both_public(self) -> None:
        """
        Clients of two upstreams that send the blob to anybody share the download.
        """
        self.registry.stall(self.digest)
        self.other.stall(self.digest)
        public = self.registries.anonymous().repository(self.source.name)
        first, second = self.open(source=public), self.ask_other()
        self.registry.feed(self.digest, 100_000)
        self.settle()
        self.registry.finish(self.digest)
        self.settle()
        self.assert_whole(first)
        self.assert_whole(second)
        self.assertEqual((self.gets(self.digest), self.asks()), (1, (0, 0)))

    def test_continued(self) -> None:
        """
        Where a source with credentials continues what a public one began, the clients
        of that one are cut, and those of the other one need no proof.
        """
        self.other.stall(self.digest)
        opening = self.ask_other()
        self.other.feed(self.digest, 50_000)
        self.settle()
        reader = self.successResultOf(opening)
        self.assertEqual(self.read(reader, 0, 1000), self.data[:1000])
        mine = self.successResultOf(self.open())
        self.assertEqual(self.read(mine, 0, 1000), self.data[:1000])
        self.lack()
        self.other.fail(self.digest)
        self.settle()
        self.wait(3)
        reading = reader.read(50_000, 10)
        self.settle()
        self.failureResultOf(reading, SourceError)
        self.assertIsNone(reader.path)
        reader.close()
        self.assertEqual(self.read(mine), self.data)
        mine.close()
        self.settle()
        self.assertEqual(self.store.catalog.origins(self.digest), {self.source.origin})
        self.assert_whole(self.open())
        self.assertEqual((self.registry.count("confirm", self.digest), self.gets(self.digest)), (0, 1))

    def test_earlier(self) -> None:
        """
        What an earlier download left is not sent to clients of an upstream that does not
        prove to have it.
        """
        self.store.blobs.partials[self.digest] = self.data[:200_000]
        self.pretend()
        self.other.stall(self.digest)
        opening = self.ask_other()
        self.other.feed(self.digest, 100_000)
        self.settle()
        self.other.feed(self.digest, 100_000)
        self.settle()
        for _ in range(10):
            self.other.feed(self.digest, 2000)
            self.settle()
        reader = self.successResultOf(opening)
        self.assertEqual(self.read(reader, 0, 1000), bytes(1000))
        reader.close()

    def test_earlier_of_another(self) -> None:
        """
        An upstream that proves to have what a cancelled download left of another one, and
        sends the rest, proves nothing more.
        """
        self.registry.stall(self.digest)
        job = self.pull()
        self.settle()
        self.registry.feed(self.digest, 200_000)
        self.settle()
        growth = self.jobs._layers.growth(self.blob.descriptor, self.source)
        self.jobs.cancel(job)
        self.settle()
        self.assertEqual(growth.origins, {self.source.origin})
        self.assert_whole(self.ask_other())
        self.assertEqual(growth.origins, {PUBLIC})
        self.assertEqual(self.asks(), (1, PARTS + 1))
        self.assertEqual(self.store.catalog.origins(self.digest), {PUBLIC})

    def test_proof_again(self) -> None:
        """
        If a proof breaks off, the next attempt needs one, too.
        """
        self.store.blobs.partials[self.digest] = self.data[:200_000]
        self.registry.gate.fail("confirm", ConnectionFailed("broke", host=self.source.host))
        opening = self.open()
        self.wait(2)
        self.assert_whole(opening)
        self.assertEqual(self.gets(self.digest), PARTS + 1)

    def test_job_on_earlier(self) -> None:
        """
        If a job continues what an earlier download left, it is not known where the
        bytes come from: a client gets those of its own upstream.
        """
        self.store.blobs.partials[self.digest] = self.data[:200_000]
        self.registry.stall(self.digest)
        job = self.pull()
        self.settle()
        self.registry.feed(self.digest, 10)
        self.settle()
        opening = self.ask_other()
        self.assert_whole(opening)
        self.assertEqual(self.asks(), (0, 1))
        self.registry.finish(self.digest)
        self.settle()
        self.assert_done(job)
        self.assertEqual(self.store.catalog.origins(self.digest), frozenset())
