"""
Tests for L{xferd.jobs.local.manifests} and L{xferd.jobs.local.entries}.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadDocument, ContentMissing, ManifestUnknown, StoreError
from xferd.jobs.local.entries import pushed_entry
from xferd.jobs.local.manifests import LocalManifests
from xferd.media_types import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OCTET_STREAM
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document
from xferd.testing.fakes import FakeStore, FakeWallClock

T = TypeVar("T")

APP = Repository("localhost", "local/app")
OTHER = Repository("localhost", "local/other")
LAYER = "application/vnd.oci.image.layer.v1.tar"
FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def descriptor(data: bytes, media_type: str = LAYER, **others: object) -> dict[str, object]:
    """
    The JSON of a descriptor.
    """
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data), **others}


def document(media_type: str, **fields: object) -> Document:
    """
    A manifest with some fields.
    """
    data = json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()
    return Document.verified(media_type, data)


def image(*layers: dict[str, object], **fields: object) -> Document:
    """
    A manifest with some layers.
    """
    return document(OCI_MANIFEST, config=descriptor(b"{}", OCI_CONFIG), layers=list(layers), **fields)


class EntryTests(SynchronousTestCase):
    """
    What a pushed manifest names.
    """

    def test_image(self) -> None:
        """
        An image names its config and its layers.
        """
        entry = pushed_entry(image(descriptor(b"layer"), subject=descriptor(b"s")))
        self.assertEqual([blob.digest for blob in entry.blobs], [Digest.of(b"{}"), Digest.of(b"layer")])
        self.assertEqual(entry.subject, Digest.of(b"s"))

    def test_index(self) -> None:
        """
        An index names its manifests.
        """
        entry = pushed_entry(document(OCI_INDEX, manifests=[descriptor(b"m", OCI_MANIFEST)]))
        self.assertEqual([child.digest for child in entry.manifests], [Digest.of(b"m")])

    def test_other_kind(self) -> None:
        """
        A manifest of an unknown type names the descriptors in the usual fields; it
        needs no schemaVersion.
        """
        data = json.dumps(
            {
                "mediaType": "application/vnd.example+json",
                "artifactType": "x/y",
                "config": descriptor(b"c"),
                "blobs": [descriptor(b"b")],
                "manifests": [descriptor(b"m")],
                "subject": descriptor(b"s"),
                "more": {"layers": 3},
            }
        ).encode()
        entry = pushed_entry(Document.verified("application/vnd.example+json", data))
        self.assertEqual({blob.digest for blob in entry.blobs}, {Digest.of(b"c"), Digest.of(b"b")})
        self.assertEqual([child.digest for child in entry.manifests], [Digest.of(b"m")])
        self.assertEqual((entry.descriptor.artifact_type, entry.subject), ("x/y", Digest.of(b"s")))

    def test_refused(self) -> None:
        """
        Hostile, contradictory and obsolete manifests are refused with a sentence.
        """
        schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
        for media_type, data in (
            (OCI_MANIFEST, b"no JSON"),
            (OCI_MANIFEST, b"[]"),
            (OCI_MANIFEST, b'{"schemaVersion":2}'),
            (OCI_MANIFEST, b'{"schemaVersion":1,"config":{},"layers":[]}'),
            (OCI_MANIFEST, b'{"a":1,"a":2}'),
            (OCI_MANIFEST, b'{"schemaVersion":2,"mediaType":"x/y"}'),
            (OCI_MANIFEST, b'{"schemaVersion":2,"manifests":[],"layers":[]}'),
            ("x/y", b'{"mediaType":"x/z"}'),
            ("x/y", b'{"layers":[{"mediaType":"x"}]}'),
            ("x/y", b'{"layers":' + b"[" * 5000 + b"]" * 5000 + b"}"),
            ("x/y", json.dumps({"layers": [descriptor(b"x")] * 1001}).encode()),
            (schema1, b'{"schemaVersion":1,"fsLayers":[]}'),
        ):
            self.assertRaises(BadDocument, pushed_entry, Document.verified(media_type, data))


class ManifestsTests(SynchronousTestCase):
    """
    Manifests of own repositories.
    """

    def setUp(self) -> None:
        """
        Make a store whose repository has a config and a layer.
        """
        self.clock = Clock()
        self.store = FakeStore(self.clock)
        self.manifests = LocalManifests(self.store, FakeWallClock(self.clock))
        for data in (b"{}", b"layer"):
            self.add_blob(data)

    def do(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """
        Wait for a coroutine.
        """
        return self.successResultOf(self.begin(work))

    def begin(self, work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
        """
        Begin a coroutine, and let it do what needs no time.
        """
        running = Deferred.fromCoroutine(work)
        self.clock.pump([0] * 20)
        return running

    def fails(self, work: Coroutine[Deferred[Any], Any, Any], *errors: type[Exception]) -> str:
        """
        Wait for the failure of a coroutine; returns its message.
        """
        return str(self.failureResultOf(self.begin(work), *errors).value)

    def add_blob(self, data: bytes, repository: Repository = APP) -> None:
        """
        Push a blob.
        """
        self.store.blobs.contents[Digest.of(data)] = data
        blob = Descriptor(OCTET_STREAM, Digest.of(data), len(data))
        putting = self.store.catalog.put_blob(repository, blob)
        self.clock.advance(0)
        self.successResultOf(putting)

    def test_put(self) -> None:
        """
        A manifest is found by its tags and its digest, with its own bytes.
        """
        pushed = image(descriptor(b"layer"))
        self.do(self.manifests.put(APP, pushed, ("1", "latest")))
        for wanted in ("1", "latest", str(pushed.digest)):
            self.assertEqual(self.do(self.manifests.read(APP, wanted)), pushed)
        self.assertEqual(self.store.catalog.tags(APP), ["1", "latest"])
        self.fails(self.manifests.read(OTHER, "1"), ManifestUnknown)

    def test_missing_blob(self) -> None:
        """
        A manifest is taken only when the repository has its blobs; those of another
        repository do not count.
        """
        self.add_blob(b"elsewhere", OTHER)
        for data in (b"none", b"elsewhere"):
            why = self.fails(self.manifests.put(APP, image(descriptor(data)), ("1",)), ContentMissing)
            self.assertIn(str(Digest.of(data)), why)
        self.assertIsNone(self.store.catalog.tag(APP, "1"))

    def test_missing_child(self) -> None:
        """
        An index is taken only when the repository has its manifests.
        """
        child = image()
        entry = {"mediaType": OCI_MANIFEST, "digest": str(child.digest), "size": len(child.data)}
        index = document(OCI_INDEX, manifests=[entry])
        self.fails(self.manifests.put(APP, index), ContentMissing)
        self.do(self.manifests.put(APP, child))
        self.do(self.manifests.put(APP, index))

    def test_foreign_layer(self) -> None:
        """
        A layer that need not be distributed may be missing, and is not listed then.
        """
        pushed = image(descriptor(b"foreign", FOREIGN_LAYER))
        self.do(self.manifests.put(APP, pushed, ("1",)))
        self.assertIsNone(self.store.catalog.blob(APP, Digest.of(b"foreign")))

    def test_wrong_size(self) -> None:
        """
        A manifest that names a wrong size is refused: clients would fail.
        """
        wrong = descriptor(b"layer")
        wrong["size"] = 6
        self.fails(self.manifests.put(APP, image(wrong)), BadDocument)

    def test_deleted_meanwhile(self) -> None:
        """
        A blob that is deleted while the manifest is written makes it fail.
        """
        self.store.gate.hold("blobs.put")
        putting = self.begin(self.manifests.put(APP, image(descriptor(b"layer")), ("1",)))
        removing = self.store.catalog.remove_blob(APP, Digest.of(b"layer"))
        self.store.gate.release("blobs.put")
        self.clock.pump([0] * 10)
        self.successResultOf(removing)
        self.failureResultOf(putting, ContentMissing)
        self.assertIsNone(self.store.catalog.tag(APP, "1"))

    def test_collected_meanwhile(self) -> None:
        """
        A lease keeps the blobs while the manifest is written.
        """
        self.store.gate.hold("blobs.put")
        putting = self.begin(self.manifests.put(APP, image(descriptor(b"layer"))))
        self.assertIn(Digest.of(b"layer"), self.store.gc._leases)
        self.store.gate.release("blobs.put")
        self.clock.pump([0] * 10)
        self.successResultOf(putting)
        self.assertNotIn(Digest.of(b"layer"), self.store.gc._leases)

    def test_put_fails(self) -> None:
        """
        If the disk refuses the manifest, nothing is listed.
        """
        self.store.gate.fail("blobs.put", StoreError("the disk refuses"))
        self.fails(self.manifests.put(APP, image(), ("1",)), StoreError)
        self.assertEqual(self.store.catalog.tags(APP), [])
        self.assertEqual(self.store.gc._leases.open, [])

    def test_put_cancelled(self) -> None:
        """
        A cancelled push lists nothing, and releases its lease.
        """
        self.store.gate.hold("blobs.put")
        putting = self.begin(self.manifests.put(APP, image(), ("1",)))
        putting.cancel()
        self.failureResultOf(putting, CancelledError)
        self.assertEqual(self.store.catalog.tags(APP), [])
        self.assertEqual(self.store.gc._leases.open, [])

    def test_tag_moves(self) -> None:
        """
        Of two pushes of one tag, one remains whole; the other manifest stays, too.
        """
        one, two = image(annotations={"n": "1"}), image(annotations={"n": "2"})
        self.store.gate.hold("blobs.put")
        first = self.begin(self.manifests.put(APP, one, ("1",)))
        second = self.begin(self.manifests.put(APP, two, ("1",)))
        self.store.gate.release("blobs.put")
        self.clock.pump([0] * 10)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.do(self.manifests.read(APP, "1")), two)
        self.assertEqual(self.do(self.manifests.read(APP, str(one.digest))), one)

    def test_remove_tag(self) -> None:
        """
        A deleted tag is gone; its manifest stays.
        """
        pushed = image()
        self.do(self.manifests.put(APP, pushed, ("1", "2")))
        self.do(self.manifests.remove(APP, "1"))
        self.fails(self.manifests.remove(APP, "1"), ManifestUnknown)
        self.assertEqual(self.do(self.manifests.read(APP, "2")), pushed)

    def test_remove(self) -> None:
        """
        A deleted manifest is gone with its tags.
        """
        pushed = image()
        self.do(self.manifests.put(APP, pushed, ("1", "2")))
        self.do(self.manifests.remove(APP, str(pushed.digest)))
        self.assertEqual(self.store.catalog.tags(APP), [])
        self.fails(self.manifests.read(APP, str(pushed.digest)), ManifestUnknown)
        self.fails(self.manifests.remove(APP, str(pushed.digest)), ManifestUnknown)
