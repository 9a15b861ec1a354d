"""
Tests for L{xferd.jobs.local.repository} and L{xferd.jobs.local.registries}: jobs
with own repositories, on fakes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.jobs.case import HOST, JobsCase
from xferd.errors import BlobUnknown, DigestMismatch, ManifestUnknown, SizeMismatch, StoreError
from xferd.interfaces.registry import IBlobBody, IContent, IRegistries, IRepository
from xferd.jobs.local.manifests import LocalManifests
from xferd.jobs.local.registries import LocalRegistries
from xferd.jobs.local.repository import LocalRepository
from xferd.names import Digest, Reference, Repository
from xferd.oci import Descriptor, Document
from xferd.testing.images import SampleImage, sample_image

APP = Repository("localhost", "local/app")
DATA = bytes(range(256)) * 600


@implementer(IContent)
class Content:
    """
    Bytes that are in no store.
    """

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._data = data

    def ready(self, offset: int, size: int, least: int = 1) -> Deferred[int]:
        """
        All bytes are here.
        """
        return succeed(min(size, self.size - offset))

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        Return some.
        """
        return succeed(self._data[offset : offset + most])


class LocalCase(JobsCase):
    """
    Jobs that know own repositories.
    """

    def all_registries(self) -> IRegistries:
        """
        Those of the network, and the own ones.
        """
        self.manifests = LocalManifests(self.store, self.wall_clock)
        self.local = LocalRegistries(
            self.registries, self.store, self.manifests, lambda: ("local/",), self.clock
        )
        return self.local

    def own(self, name: Repository = APP) -> LocalRepository:
        """
        An own repository.
        """
        repository = self.local.repository(name)
        assert isinstance(repository, LocalRepository)
        return repository

    def result(self, work: Deferred[Any]) -> Any:
        """
        Wait for a result.
        """
        self.settle()
        return self.successResultOf(work)

    def failure(self, work: Deferred[Any], *errors: type[Exception]) -> Exception:
        """
        Wait for a failure.
        """
        self.settle()
        error: Exception = self.failureResultOf(work, *errors).value
        return error

    def add_blob(self, data: bytes = DATA) -> Digest:
        """
        Put a blob into the own repository.
        """
        digest = Digest.of(data)
        self.result(self.store.blobs.put(digest, data))
        self.result(self.store.catalog.put_blob(APP, Descriptor("", digest, len(data))))
        return digest


class JobTests(LocalCase):
    """
    Jobs from and to own repositories.
    """

    def copied(self, source: str, target: str, **how: Any) -> Mapping[str, Any]:
        """
        Copy an image to the end.
        """
        options = {"platform": None, "referrers": False, "client": "ci", "priority": 0, **how}
        job_id = str(self.jobs.copy(source, target, **options)["id"])
        self.settle()
        self.assert_done(job_id)
        return self.job(job_id)

    def assert_here(self, image: SampleImage, tag: str) -> None:
        """
        The own repository has an image with all its blobs.
        """
        document = self.result(self.own().manifest(tag))
        self.assertEqual(self.result(self.own().resolve(tag)), image.digest)
        self.assertEqual(document, Document(image.manifest.media_type, image.manifest.data, image.digest))
        for layer in image.layers:
            self.assertIsNotNone(self.store.catalog.blob(APP, layer.blob.digest))
            self.assertTrue(self.store.blobs.has(layer.blob.digest))

    def test_copy_in(self) -> None:
        """
        A copy from a registry fetches each blob once, and keeps it.
        """
        image = self.add(sample_image(2))
        self.copied(f"{HOST}/app", "localhost/local/app:1")
        self.assert_here(image, "1")
        self.assertEqual([self.gets(layer.blob.digest) for layer in image.layers], [1, 1])
        self.copied(f"{HOST}/app", "localhost/local/app:2")
        self.assertEqual([self.gets(layer.blob.digest) for layer in image.layers], [1, 1])
        self.assert_idle()

    def test_push(self) -> None:
        """
        A push of an image of the store copies no byte and asks no registry.
        """
        image = self.add(sample_image(2))
        self.pulled()
        before = len(self.registry.requests)
        job_id = str(self.jobs.push(f"{HOST}/app", "localhost/local/app:1", (), None, "ci", 0)["id"])
        self.settle()
        self.assert_done(job_id)
        self.assert_here(image, "1")
        self.assertEqual(len(self.registry.requests), before)
        self.assertEqual({row["state"] for row in self.job(job_id)["layers"]}, {"done"})
        self.assert_idle()

    def test_pull(self) -> None:
        """
        A pull unpacks a pushed image without network.
        """
        self.add(sample_image(2))
        self.copied(f"{HOST}/app", "localhost/local/app:1")
        before = len(self.registry.requests)
        job_id = str(self.jobs.pull("localhost/local/app:1", None, "ci", 0)["id"])
        self.settle()
        self.assert_done(job_id)
        self.assertEqual(len(self.registry.requests), before)
        self.assertIsNotNone(self.store.images.get(Reference.parse("localhost/local/app:1")))
        self.assert_idle()

    def test_copy_out(self) -> None:
        """
        A copy to a registry sends what was pushed.
        """
        image = self.add(sample_image(2))
        self.copied(f"{HOST}/app", "localhost/local/app:1")
        self.copied("localhost/local/app:1", "other.example/app:3")
        document = self.other.document_of("app", "3")
        assert document is not None
        self.assertEqual(document.data, image.manifest.data)
        self.assert_idle()

    def test_copy_within(self) -> None:
        """
        A copy between own repositories mounts the blobs.
        """
        image = self.add(sample_image(2))
        self.copied(f"{HOST}/app", "localhost/local/app:1")
        job = self.copied("localhost/local/app:1", "localhost/local/other:1")
        self.assertEqual({row["state"] for row in job["layers"]}, {"mounted"})
        other = Repository("localhost", "local/other")
        for layer in image.layers:
            self.assertIsNotNone(self.store.catalog.blob(other, layer.blob.digest))

    def test_unknown(self) -> None:
        """
        What was not pushed cannot be pulled.
        """
        job_id = str(self.jobs.pull("localhost/local/app:1", None, "ci", 0)["id"])
        self.settle()
        self.assert_failed(job_id, "MANIFEST_UNKNOWN")


class RepositoryTests(LocalCase):
    """
    An own repository as L{IRepository}.
    """

    def push_content(self, content: IContent, digest: Digest | None = None) -> Deferred[Any]:
        """
        Push a blob.
        """
        self.reported: list[int] = []
        remembered: list[object] = []
        return self.own().push(
            Digest.of(DATA) if digest is None else digest,
            content,
            (),
            None,
            remembered.append,
            self.reported.append,
        )

    def body(self, offset: int = 0, end: int | None = None) -> IBlobBody:
        """
        Open a blob.
        """
        opened: IBlobBody = self.result(self.own().open(Digest.of(DATA), offset, end))
        return opened

    def test_provided(self) -> None:
        """
        The Interfaces are provided.
        """
        self.add_blob()
        self.assertTrue(verifyObject(IRepository, self.own()))
        self.assertTrue(verifyObject(IRegistries, self.local))
        body = self.body()
        self.assertTrue(verifyObject(IBlobBody, body))
        body.abandon()

    def test_others(self) -> None:
        """
        Other repositories are those of the registries, also of this host with
        another prefix, and with a client's credentials, and anonymously.
        """
        local = self.local
        for registries in (local, local.seen_by({}), local.anonymous(), local.public_only()):
            self.assertIsInstance(registries.repository(APP), LocalRepository)
            other = registries.repository(Repository(HOST, "local/app"))
            self.assertNotIsInstance(other, LocalRepository)
        self.assertNotIsInstance(self.local.repository(Repository("localhost", "else")), LocalRepository)
        self.result(self.local.check(HOST))

    def test_push_elsewhere(self) -> None:
        """
        Bytes that are in no store are written.
        """
        self.assertEqual(self.result(self.push_content(Content(DATA))).how, "uploaded")
        self.assertEqual(self.store.blobs.contents[Digest.of(DATA)], DATA)
        self.assertEqual(self.reported, [len(DATA)])
        self.assertEqual(self.store.incoming.sessions, {})
        self.assertEqual(self.result(self.push_content(Content(DATA))).how, "exists")

    def test_push_wrong(self) -> None:
        """
        Wrong bytes become no blob.
        """
        self.failure(self.push_content(Content(DATA), Digest.of(b"x")), DigestMismatch)
        self.assertIsNone(self.store.catalog.blob(APP, Digest.of(b"x")))
        self.assertEqual(self.store.incoming.sessions, {})

    def test_push_empty(self) -> None:
        """
        A blob may be empty.
        """
        self.result(self.push_content(Content(b""), Digest.of(b"")))
        self.assertIsNotNone(self.store.catalog.blob(APP, Digest.of(b"")))

    def test_push_cancelled(self) -> None:
        """
        A cancelled push leaves no session, and no lease.
        """
        self.store.gate.hold("incoming.begin")
        pushing = self.push_content(Content(DATA))
        self.settle()
        pushing.cancel()
        self.failure(pushing, CancelledError)
        self.assertEqual(self.store.incoming.sessions, {})

    def test_body(self) -> None:
        """
        A blob is delivered from any offset to any end, at the pace of its sink.
        """
        self.add_blob()
        for offset, end in ((0, None), (10, None), (10, 20), (1000, 100_000), (0, 1 << 40)):
            body = self.body(offset, end)
            pieces: list[bytes] = []
            self.assertEqual((body.start, body.total), (offset, len(DATA)))
            self.result(body.deliver(pieces.append))
            self.assertEqual(b"".join(pieces), DATA[offset:end])

    def test_body_waits(self) -> None:
        """
        Nothing more is read while the sink is busy; cancelling closes the file.
        """
        self.add_blob()
        pieces: list[bytes] = []
        busy: Deferred[None] = Deferred()

        def sink(data: bytes) -> Deferred[None]:
            pieces.append(data)
            return busy

        delivering = self.body().deliver(sink)
        self.settle()
        self.assertEqual(len(pieces), 1)
        delivering.cancel()
        self.failure(delivering, CancelledError)

    def test_body_cut_off(self) -> None:
        """
        A file that is shorter than it was fails.
        """
        self.add_blob()
        body = self.body()
        os.truncate(self.store.blobs.path(Digest.of(DATA)), 100)
        self.failure(body.deliver(lambda _: None), StoreError)

    def test_unknown(self) -> None:
        """
        A blob of the store that is not the repository's cannot be had.
        """
        digest = Digest.of(DATA)
        self.result(self.store.blobs.put(digest, DATA))
        self.failure(self.own().open(digest, 0), BlobUnknown)
        self.failure(self.own().confirm(digest), BlobUnknown)
        self.failure(self.own().config(Descriptor("", digest, len(DATA))), BlobUnknown)
        self.failure(self.own().manifest("1"), ManifestUnknown)
        self.failure(self.own().resolve("1"), ManifestUnknown)

    def test_known(self) -> None:
        """
        A blob of the repository is confirmed, and read as a config of the right
        size.
        """
        digest = self.add_blob()
        self.assertEqual(self.result(self.own().confirm(digest)), len(DATA))
        self.assertEqual(self.result(self.own().config(Descriptor("", digest, len(DATA)))), DATA)
        self.failure(self.own().config(Descriptor("", digest, 3)), SizeMismatch)
        self.failure(self.own().open(digest, len(DATA)), SizeMismatch)
