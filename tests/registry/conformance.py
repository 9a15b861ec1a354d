"""
What every implementation of L{IRepository} and L{IRegistries} does.  A test
case mixes L{RepositoryConformance} in, makes registries and waits for results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from xferd.errors import BlobUnknown, DigestMismatch, ManifestUnknown, SizeMismatch
from xferd.interfaces.registry import (
    IBlobBody,
    IRegistries,
    IRepository,
    Pushed,
    UploadSession,
)
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Descriptor, Document
from xferd.testing.fakes import FakeContent
from xferd.testing.images import SampleImage, sample_image

T = TypeVar("T")

if TYPE_CHECKING:
    _Base = SynchronousTestCase
else:
    _Base = object

HOST = "hub.example"
HERE = Repository(HOST, "team/a")
DATA = bytes(range(256)) * 40
DIGEST = Digest.of(DATA)


class RepositoryConformance(_Base):
    """
    A repository that has one image, under the tag C{1}.
    """

    def make(self, image: SampleImage) -> IRegistries:
        """
        Make registries, one of which has an image.
        """
        raise NotImplementedError

    def wait(self, work: Deferred[T]) -> T:
        """
        Wait for a result.
        """
        raise NotImplementedError

    def setUp(self) -> None:
        """
        Make them.
        """
        self.image = sample_image(1, size=10_000)
        self.registries = self.make(self.image)
        self.here = self.registries.repository(HERE)
        self.blob = self.image.layers[0].blob
        self.remembered: list[UploadSession | None] = []
        self.reported: list[int] = []

    def fails(self, kind: type[Exception], work: Deferred[T]) -> None:
        """
        Expect an error.
        """
        with self.assertRaises(kind):
            self.wait(work)

    def read(self, offset: int, end: int | None = None) -> tuple[IBlobBody, bytes]:
        """
        Read a part of the image's layer.
        """
        body = self.wait(self.here.open(self.blob.digest, offset, end))
        data = bytearray()
        self.wait(body.deliver(data.extend))
        return body, bytes(data)

    def push(
        self,
        digest: Digest = DIGEST,
        candidates: Sequence[Repository] = (),
        session: UploadSession | None = None,
        into: IRepository | None = None,
    ) -> Deferred[Pushed]:
        """
        Push some bytes.
        """
        return (into or self.here).push(
            digest, FakeContent(DATA), candidates, session, self.remembered.append, self.reported.append
        )

    def test_interfaces(self) -> None:
        """
        Each object provides its Interface.
        """
        verifyObject(IRegistries, self.registries)
        verifyObject(IRegistries, self.registries.seen_by({}))
        verifyObject(IRegistries, self.registries.anonymous())
        verifyObject(IRegistries, self.registries.public_only())
        verifyObject(IRepository, self.here)
        verifyObject(IBlobBody, self.wait(self.here.open(self.blob.digest, 0)))

    def test_names(self) -> None:
        """
        A repository is called by its host and path.  Repositories are alike
        if their names and credentials are.
        """
        self.assertEqual((self.here.name, self.here.host, self.here.label), (HERE, HOST, str(HERE)))
        self.assertIsNone(self.here.account)
        same, other = (self.registries.repository(Repository(HOST, path)) for path in ("team/a", "team/b"))
        self.assertEqual(self.here.identity, same.identity)
        self.assertNotEqual(self.here.identity, other.identity)

    def test_public_only(self) -> None:
        """
        A registry with a public address is reached where no others are, with the
        same credentials or with a client's.
        """
        for limited in (self.registries.public_only(), self.registries.seen_by({}).public_only()):
            self.assertEqual(self.wait(limited.repository(HERE).manifest("1")), self.image.manifest)
            self.assertEqual(
                self.wait(limited.seen_by({}).repository(HERE).manifest("1")), self.image.manifest
            )
            self.assertIsNone(self.wait(limited.check(HOST)))

    def test_check(self) -> None:
        """
        A registry that accepts the credentials passes the check.
        """
        self.assertIsNone(self.wait(self.registries.check(HOST)))

    def test_manifest(self) -> None:
        """
        A manifest is found by tag and by digest.
        """
        for wanted in ("1", str(self.image.digest)):
            self.assertEqual(self.wait(self.here.manifest(wanted)), self.image.manifest)
        self.fails(ManifestUnknown, self.here.manifest("2"))
        self.fails(ManifestUnknown, self.here.manifest(str(DIGEST)))

    def test_resolve(self) -> None:
        """
        The digest of a manifest is found without the manifest.
        """
        for wanted in ("1", str(self.image.digest)):
            for confirm in (False, True):
                found = self.wait(self.here.resolve(wanted, confirm=confirm))
                self.assertEqual(found, self.image.digest)
        self.fails(ManifestUnknown, self.here.resolve("2"))
        self.fails(ManifestUnknown, self.here.resolve(str(DIGEST), confirm=True))

    def test_config(self) -> None:
        """
        A config is read whole, and verified against its descriptor.
        """
        config = self.image.config
        self.assertEqual(self.wait(self.here.config(config.descriptor)), config.content)
        other = Descriptor(config.descriptor.media_type, DIGEST, len(DATA))
        self.fails(BlobUnknown, self.here.config(other))

    def test_open(self) -> None:
        """
        A blob is read whole, from an offset on, and between two offsets.
        """
        content = self.blob.read()
        body, data = self.read(0)
        self.assertEqual((body.start, body.total, data), (0, len(content), content))
        body, data = self.read(100)
        self.assertEqual((body.start, data), (100, content[100:]))
        body, data = self.read(100, 200)
        self.assertEqual((body.start, body.total, data), (100, len(content), content[100:200]))
        self.fails(SizeMismatch, self.here.open(self.blob.digest, len(content)))
        self.fails(BlobUnknown, self.here.open(DIGEST, 0))

    def test_confirm(self) -> None:
        """
        A blob that the repository has is confirmed with its size, no other.
        """
        self.assertEqual(self.wait(self.here.confirm(self.blob.digest)), len(self.blob.read()))
        self.fails(BlobUnknown, self.here.confirm(DIGEST))

    def test_distrust(self) -> None:
        """
        A blob whose bytes were wrong can be read again.
        """
        self.here.distrust(self.blob.digest)
        self.assertEqual(self.read(0)[1], self.blob.read())

    def test_push(self) -> None:
        """
        A blob is uploaded, exists then, and is mounted into another repository.
        """
        self.assertEqual(self.wait(self.push()), Pushed("uploaded"))
        self.assertEqual(self.reported[-1], len(DATA))
        # The session, if there was one, is forgotten.
        self.assertIsNone(next(reversed(self.remembered), None))
        self.assertEqual(self.wait(self.here.confirm(DIGEST)), len(DATA))
        self.assertEqual(self.wait(self.push()), Pushed("exists"))
        other = self.registries.repository(Repository(HOST, "team/b"))
        self.assertEqual(self.wait(self.push(candidates=[HERE], into=other)), Pushed("mounted", HERE))

    def test_push_other_bytes(self) -> None:
        """
        A registry refuses a blob with another digest.
        """
        self.fails(DigestMismatch, self.push(Digest.of(b"else")))

    def test_unknown_session(self) -> None:
        """
        An upload session that the registry does not know is replaced.
        """
        session = UploadSession(f"https://{HOST}/v2/team/a/blobs/uploads/none", 5)
        self.assertEqual(self.wait(self.push(session=session)), Pushed("uploaded"))
        self.assertIsNone(self.remembered[0])

    def test_abort(self) -> None:
        """
        Deleting an upload session that is not known does not fail.
        """
        session = UploadSession(f"https://{HOST}/v2/team/a/blobs/uploads/none", 5)
        self.assertIsNone(self.wait(self.here.abort(session)))

    def test_put_manifest(self) -> None:
        """
        A manifest is put once all blobs that it names exist.
        """
        other = self.registries.repository(Repository(HOST, "team/b"))
        self.fails(BlobUnknown, other.put_manifest("2", self.image.manifest))
        self.wait(self.here.put_manifest("2", self.image.manifest))
        self.assertEqual(self.wait(self.here.manifest("2")), self.image.manifest)

    def test_tags(self) -> None:
        """
        The tags of a repository are listed, also those that were put just now.
        """
        before: tuple[str, ...] = self.wait(self.here.tags())
        self.wait(self.here.put_manifest("another", self.image.manifest))
        after: tuple[str, ...] = self.wait(self.here.tags())
        self.assertEqual(set(after), {*before, "another"})

    def test_referrers(self) -> None:
        """
        A manifest with a subject is among the subject's referrers.
        """
        self.assertEqual(self.wait(self.here.referrers(self.image.digest)), ())
        value = json.loads(self.image.manifest.data)
        value["subject"] = self.image.manifest.descriptor.to_json()
        about = Document.verified(OCI_MANIFEST, json.dumps(value).encode())
        self.wait(self.here.put_manifest(str(about.digest), about))
        (entry,) = self.wait(self.here.referrers(self.image.digest))
        self.assertEqual(entry.digest, about.digest)
