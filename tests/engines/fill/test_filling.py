"""
Tests for L{xferd.engines.fill.filling} and C{containerd}.
"""

from __future__ import annotations

import json
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer

from tests.engines.fill.fake_containerd import FakeContainerd, Space
from tests.jobs.case import HOST, JobsCase
from xferd.engines.fill.filling import Filling
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.status import GrpcError, Status
from xferd.errors import BadDocument, EngineFailed, ManifestUnknown, NotFound, StoreError, XferdError
from xferd.interfaces.engines import EngineContext, FilledJSON
from xferd.interfaces.jobs import IJobs
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.reactor import IReactor
from xferd.jobs.blobs.reader import Restarted
from xferd.names import Reference
from xferd.oci import MAX_DOCUMENT, Document
from xferd.platforms import Platform
from xferd.testing.images import SampleImage, index_of, sample_image

NAME = f"{HOST}/app:latest"


@implementer(IBlobReader)
class Bytes:
    """
    A blob that a test makes.
    """

    path = None

    def __init__(self, reads: list[bytes | Exception]) -> None:
        self.size = 0
        self.reads = reads
        self.offsets: list[int] = []
        self.closed = False

    def read(self, offset: int, most: int) -> Deferred[bytes]:
        """
        The next piece.
        """
        self.offsets.append(offset)
        found = self.reads.pop(0)
        if isinstance(found, Exception):
            raise found
        return succeed(found)

    def close(self) -> None:
        """
        Remember it.
        """
        self.closed = True


class FillingTests(JobsCase):
    """
    L{Filling}.
    """

    def setUp(self) -> None:
        """
        Have a containerd with an image whose layers it lacks.
        """
        super().setUp()
        self.containerd = FakeContainerd()
        self.filling: Filling | None = None
        self.image = self.add(sample_image(2))
        self.space = self.containerd.spaces["default"]
        self.give(self.space, self.image)

    def give(self, space: Space, image: SampleImage) -> None:
        """
        Put what a pull brings into a namespace.
        """
        space.images[NAME] = image.manifest.descriptor
        space.content[str(image.digest)] = image.manifest.data
        assert isinstance(image.config.content, bytes)
        space.content[str(image.config.digest)] = image.config.content

    def begin(
        self, name: str = NAME, namespace: str | None = None, jobs: object = None
    ) -> Deferred[FilledJSON]:
        """
        Fill an image.
        """
        context = EngineContext(
            cast(IReactor, self.clock),
            self.wall_clock,
            cast(IJobs, jobs or self.jobs),
            self.store,
            self.store.path,
        )
        if self.filling is None or jobs is not None:
            self.filling = Filling(cast(GrpcClient, self.containerd), "main", context)
        self.seen: list[tuple[int, int]] = []
        filling = self.filling.fill(
            Reference.parse(name), namespace, "ann", None, lambda done, size: self.seen.append((done, size))
        )
        filled = Deferred.fromCoroutine(filling)
        self.settle()
        return filled

    def fill(self, **how: Any) -> FilledJSON:
        """
        Fill an image to the end.
        """
        filled = self.successResultOf(self.begin(**how))
        self.assertEqual((self.containerd.leases, self.store.gc._leases.open), (set(), []))
        self.assertFalse(any(write.open for write in self.containerd.writing))
        return filled

    def error(self, kind: type[XferdError], **how: Any) -> str:
        """
        Why an image cannot be filled.
        """
        found = str(self.failureResultOf(self.begin(**how), kind).value)
        self.assertEqual((self.containerd.leases, self.store.gc._leases.open), (set(), []))
        return found

    def expect_layers(self, space: Space, image: SampleImage) -> None:
        """
        Check that a namespace has the layers.
        """
        for layer in image.layers:
            self.assertEqual(space.content[str(layer.blob.digest)], layer.blob.content)

    def test_stored(self) -> None:
        """
        Blobs of the store are written, and not fetched.  They are labelled with their
        repository, and a lease that ends by itself keeps them meanwhile.
        """
        self.pulled()
        size = sum(layer.blob.descriptor.size for layer in self.image.layers)
        self.assertEqual(
            self.fill(), {"image": NAME, "namespaces": ["default"], "blobs": 3, "written": 2, "bytes": size}
        )
        self.expect_layers(self.space, self.image)
        self.assertEqual(self.seen, sorted(self.seen))
        self.assertEqual((self.seen[0], self.seen[-1]), ((0, size), (size, size)))
        self.assertGreater(len(set(self.seen)), 2)
        self.assertEqual([self.gets(layer.blob.digest) for layer in self.image.layers], [1, 1])
        labels = {f"containerd.io/distribution.source.{HOST}": "app"}
        self.assertEqual(list(self.space.labels.values()), [labels, labels])
        self.assertEqual(self.containerd.leased, [{"containerd.io/gc.expire": "2026-01-03T03:04:05Z"}])
        self.assertTrue(all(write.finished for write in self.containerd.writing))
        self.assertEqual(self.fill()["written"], 0)

    def test_fetched(self) -> None:
        """
        Blobs that the store lacks are fetched.
        """
        self.assertEqual(self.fill()["written"], 2)
        self.expect_layers(self.space, self.image)
        self.assertEqual([self.gets(layer.blob.digest) for layer in self.image.layers], [1, 1])
        self.assert_idle()

    def test_at_once(self) -> None:
        """
        Two clients that fill an image at once write each blob once.
        """
        self.registry.gate.hold("open", self.image.layers[0].blob.digest)
        first, second = self.begin(), self.begin()
        third = self.begin()
        third.cancel()
        self.failureResultOf(third, CancelledError)
        self.registry.gate.release("open", self.image.layers[0].blob.digest)
        self.settle()
        written = [self.successResultOf(filled)["written"] for filled in (first, second)]
        self.assertEqual(written, [2, 0])

    def test_not_fetched(self) -> None:
        """
        The registry's error is the fill's.
        """
        digest = self.image.layers[0].blob.digest
        self.registry.gate.fail("open", ManifestUnknown("gone", host=HOST), digest)
        self.assertIn("gone", self.error(XferdError))
        self.assert_idle()

    def test_index(self) -> None:
        """
        Of an index the platforms count whose manifests containerd has.
        """
        amd64, arm64 = Platform.parse("linux/amd64"), Platform.parse("linux/arm64")
        other = sample_image(1, seed=1, platform=arm64)
        index = index_of({amd64: self.image, arm64: other})
        self.space.images[NAME] = index.document.descriptor
        self.space.content[str(index.document.digest)] = index.document.data
        self.assertEqual(self.fill()["blobs"], 3)
        self.expect_layers(self.space, self.image)
        del self.space.content[str(self.image.digest)]
        self.assertIn("no manifest of index", self.error(BadDocument))

    def test_namespaces(self) -> None:
        """
        All namespaces that have the image are filled, or the one that is named.
        """
        self.containerd.spaces |= {"k8s.io": Space(), "empty": Space()}
        self.give(self.containerd.spaces["k8s.io"], self.image)
        self.assertEqual(self.fill(namespace="k8s.io")["namespaces"], ["k8s.io"])
        self.assertNotIn(str(self.image.layers[0].blob.digest), self.space.content)
        filled = self.fill()
        self.assertEqual(
            (filled["namespaces"], filled["blobs"], filled["written"]), (["default", "k8s.io"], 6, 2)
        )
        self.expect_layers(self.space, self.image)

    def test_unknown(self) -> None:
        """
        An image that containerd does not have.
        """
        self.assertEqual(
            self.error(NotFound, name="app"),
            "containerd main has no image docker.io/library/app:latest",
        )
        self.assertIn("in namespace 'x'", self.error(NotFound, namespace="x"))

    def test_containerd_fails(self) -> None:
        """
        The engine that failed is named.
        """
        for self.containerd.failing in ("", "Images", "Content", "Leases"):
            self.containerd.failure = GrpcError(Status.UNAVAILABLE, "cannot connect")
            self.assertEqual(self.error(EngineFailed), "containerd main: cannot connect")

    def test_large_document(self) -> None:
        """
        A manifest over the limit is not read.
        """
        self.space.content[str(self.image.digest)] = bytes(MAX_DOCUMENT + 1)
        self.assertIn("is larger than", self.error(BadDocument))

    def test_no_answer(self) -> None:
        """
        A write that containerd ends without an answer.
        """
        self.pulled()

        def stop(_: object) -> None:
            self.containerd.writing[-1].ended = True

        self.containerd.written = stop
        self.assertIn("without an answer", self.error(EngineFailed))

    def test_wrong_document(self) -> None:
        """
        A manifest that differs from its digest, and a malformed one.
        """
        self.space.content[str(self.image.digest)] += b" "
        self.error(XferdError)
        document = Document.verified("application/vnd.oci.image.manifest.v1+json", b"{}")
        self.space.content[str(document.digest)] = b"{}"
        self.space.images[NAME] = document.descriptor
        self.error(BadDocument)

    def test_foreign(self) -> None:
        """
        Layers that are elsewhere by their manifest are not containerd's to have.
        """
        self.pulled()
        manifest = json.loads(self.image.manifest.data)
        manifest["layers"][0]["urls"] = ["https://a/b"]
        data = json.dumps(manifest).encode()
        document = Document.verified(self.image.manifest.media_type, data)
        self.space.content[str(document.digest)] = data
        self.space.images[NAME] = document.descriptor
        self.assertEqual(self.fill()["blobs"], 2)

    def test_cancelled(self) -> None:
        """
        Cancelled while a blob arrives: the download ends, and the next time continues
        behind what containerd has.
        """
        layer = self.image.layers[0].blob
        self.registry.gate.hold("open", layer.digest)
        filling = self.begin()
        filling.cancel()
        self.settle()
        self.failureResultOf(filling, CancelledError)
        self.assertEqual((self.containerd.leases, self.store.gc._leases.open), (set(), []))
        self.registry.gate.release("open", layer.digest)
        self.assert_idle()
        assert isinstance(layer.content, bytes)
        self.space.unfinished[f"xferd-{layer.digest}"] = bytearray(layer.content[:100])
        offsets: list[int] = []
        self.containerd.written = lambda request: offsets.append(request.offset)
        size = sum(each.blob.descriptor.size for each in self.image.layers)
        self.assertEqual(self.fill()["bytes"], size - 100)
        self.assertEqual(offsets[0], 100)

    def reading(self, *reads: bytes | Exception) -> tuple[Bytes, object]:
        """
        Jobs whose blobs have these bytes.
        """
        content = Bytes(list(reads))

        class OneBlob:
            """
            Opens the same blob each time.
            """

            def content(self, *_: object) -> Bytes:
                """
                Open it.
                """
                return content

        return content, OneBlob()

    def one_layer(self) -> bytes:
        """
        Leave one layer missing, and return its bytes.
        """
        for layer in self.image.layers[1:]:
            assert isinstance(layer.blob.content, bytes)
            self.space.content[str(layer.blob.digest)] = layer.blob.content
        data = self.image.layers[0].blob.content
        assert isinstance(data, bytes)
        return data

    def test_restarted(self) -> None:
        """
        Bytes that turn out to be wrong while they arrive are written again.
        """
        data = self.one_layer()
        content, jobs = self.reading(b"wrong", Restarted(), data[:50], data[50:])
        self.assertEqual(self.fill(jobs=jobs)["bytes"], len(data))
        self.assertEqual(content.offsets, [0, 5, 0, 50])
        self.assertTrue(content.closed)
        self.expect_layers(self.space, self.image)

    def test_short(self) -> None:
        """
        A blob that ends early is an error.
        """
        self.one_layer()
        content, jobs = self.reading(b"short", b"")
        self.assertIn("ends after 5 of", self.error(StoreError, jobs=jobs))
        self.assertTrue(content.closed)

    def test_wrong_content(self) -> None:
        """
        containerd refuses what differs from its digest.
        """
        data = self.one_layer()
        _, jobs = self.reading(bytes(len(data)))
        self.assertIn("unexpected digest", self.error(EngineFailed, jobs=jobs))

    def test_meanwhile(self) -> None:
        """
        A blob that containerd gets meanwhile is no error.
        """
        data = self.one_layer()
        digest = str(self.image.layers[0].blob.digest)
        _, jobs = self.reading(data)

        def arrive(_: object) -> None:
            self.space.content[digest] = data

        self.containerd.written = arrive
        self.assertEqual(self.fill(jobs=jobs)["bytes"], 0)
