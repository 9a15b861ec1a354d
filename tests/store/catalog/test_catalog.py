"""
Tests for L{xferd.store.catalog.catalog} and L{xferd.store.catalog.records}.
"""

from __future__ import annotations

from zope.interface.verify import verifyObject

from tests.store.support import StoreTestCase
from xferd.errors import BadInput, NotFound
from xferd.interfaces.catalog import ABANDONED_AFTER, LOCAL_HOST, CatalogManifest, ICatalog
from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest, Reference, Repository
from xferd.oci import Descriptor

APP = Repository("registry.example", "app")
OTHER = Repository("registry.example", "other")
LOCAL = Repository(LOCAL_HOST, "local/app")
CONFIG = Descriptor(OCI_CONFIG, Digest.of(b"config"), 6)
LAYER = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(b"layer", "sha512"), 5)


def manifest(name: str, *blobs: Descriptor, subject: Digest | None = None) -> CatalogManifest:
    """
    A manifest with an artifact type of its own.
    """
    data = name.encode()
    descriptor = Descriptor(
        OCI_MANIFEST, Digest.of(data), len(data), artifact_type=f"x/{name}", annotations={"name": name}
    )
    return CatalogManifest(descriptor, blobs, (), subject)


class CatalogTests(StoreTestCase):
    """
    The catalog of a real store.  Each test also looks at what the next daemon
    finds.
    """

    def setUp(self) -> None:
        """
        Open a store.
        """
        super().setUp()
        self.one, self.two = manifest("one", CONFIG, LAYER), manifest("two", CONFIG)

    def after_restart(self) -> ICatalog:
        """
        The catalog of the next daemon.
        """
        return self.reopen().catalog

    def put(
        self, what: CatalogManifest, *tags: str, repository: Repository = APP, checked: float = 7.0
    ) -> None:
        """
        Put a manifest, durably.
        """
        self.successResultOf(self.store.catalog.put_manifest(repository, what, tags, checked))

    def test_provided(self) -> None:
        """
        It provides its Interface.
        """
        self.assertTrue(verifyObject(ICatalog, self.store.catalog))

    def test_manifest(self) -> None:
        """
        A manifest is listed with its tags and blobs, now and after a restart.
        """
        self.put(self.one, "b", "a")
        for catalog in (self.store.catalog, self.after_restart()):
            digest = self.one.descriptor.digest
            found = catalog.manifest(APP, digest)
            assert found is not None
            self.assertEqual(found, self.one)
            self.assertEqual(found.descriptor.annotations, {"name": "one"})
            self.assertEqual(found.descriptor.artifact_type, "x/one")
            self.assertEqual(catalog.tags(APP), ["a", "b"])
            tag = catalog.tag(APP, "a")
            assert tag is not None
            self.assertEqual((tag.digest, tag.checked), (digest, 7.0))
            self.assertEqual(catalog.blob(APP, LAYER.digest), LAYER)
            self.assertEqual(catalog.repositories(), [APP])
            self.assertEqual(catalog.holders(CONFIG.digest), [APP])
            self.assertTrue(all(map(catalog.lists, (digest, CONFIG.digest, LAYER.digest))))
            self.assertEqual(catalog.last_used(APP, digest), 500.0)
            self.assertEqual([m.descriptor for m in catalog.manifests(APP)], [self.one.descriptor])

    def test_unknown(self) -> None:
        """
        A repository that is not listed has nothing.
        """
        catalog, digest = self.store.catalog, Digest.of(b"")
        self.assertIsNone(catalog.manifest(APP, digest))
        self.assertIsNone(catalog.tag(APP, "a"))
        self.assertIsNone(catalog.blob(APP, digest))
        self.assertEqual(catalog.tags(APP), [])
        self.assertEqual(catalog.manifests(APP), [])
        self.assertEqual(catalog.referrers(APP, digest), [])
        self.assertEqual(catalog.holders(digest), [])
        self.assertEqual(catalog.repositories(), [])

    def test_tag_moves(self) -> None:
        """
        A tag stands for the manifest that was put last; the other one stays.
        """
        self.put(self.one, "a")
        self.put(self.two, "a")
        for catalog in (self.store.catalog, self.after_restart()):
            tag = catalog.tag(APP, "a")
            assert tag is not None
            self.assertEqual(tag.digest, self.two.descriptor.digest)
            self.assertIsNotNone(catalog.manifest(APP, self.one.descriptor.digest))

    def test_put_twice(self) -> None:
        """
        A manifest that is put again counts once.
        """
        self.put(self.one, "a")
        self.put(self.one, "b")
        self.successResultOf(self.store.catalog.remove_manifest(APP, self.one.descriptor.digest))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertEqual((catalog.tags(APP), catalog.repositories()), ([], []))
            self.assertFalse(any(map(catalog.lists, (self.one.descriptor.digest, CONFIG.digest))))

    def test_shared_blobs(self) -> None:
        """
        A blob belongs to a repository while one of its manifests names it.
        """
        self.put(self.one)
        self.put(self.two)
        self.put(self.two, repository=OTHER)
        self.successResultOf(self.store.catalog.remove_manifest(APP, self.one.descriptor.digest))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertIsNone(catalog.blob(APP, LAYER.digest))
            self.assertEqual(catalog.blob(APP, CONFIG.digest), CONFIG)
            self.assertEqual(catalog.holders(CONFIG.digest), [APP, OTHER])
            self.assertEqual(catalog.holders(LAYER.digest), [])

    def test_pushed_blob(self) -> None:
        """
        A pushed blob is listed without a manifest, until it is removed; one that a
        manifest names cannot be removed, and goes with the last one.
        """
        self.successResultOf(self.store.catalog.put_blob(APP, LAYER))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertEqual(catalog.blob(APP, LAYER.digest), LAYER)
            self.assertEqual(catalog.repositories(), [])
        self.put(self.one)
        self.failureResultOf(self.store.catalog.remove_blob(APP, LAYER.digest), BadInput)
        self.put(manifest("three", LAYER))
        self.successResultOf(self.store.catalog.remove_manifest(APP, self.one.descriptor.digest))
        self.assertIsNotNone(self.store.catalog.blob(APP, LAYER.digest))
        self.successResultOf(self.store.catalog.remove_manifest(APP, manifest("three").descriptor.digest))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertIsNone(catalog.blob(APP, LAYER.digest))
            self.assertEqual(catalog.holders(LAYER.digest), [])

    def test_removed_blob(self) -> None:
        """
        A pushed blob that no manifest names can be removed.
        """
        self.successResultOf(self.store.catalog.put_blob(APP, LAYER))
        self.successResultOf(self.store.catalog.remove_blob(APP, LAYER.digest))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertIsNone(catalog.blob(APP, LAYER.digest))

    def test_tag_removed(self) -> None:
        """
        A tag goes without its manifest.
        """
        self.put(self.one, "a", "b")
        self.successResultOf(self.store.catalog.remove_tag(APP, "a"))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertEqual(catalog.tags(APP), ["b"])
            self.assertIsNotNone(catalog.manifest(APP, self.one.descriptor.digest))

    def test_confirmed(self) -> None:
        """
        A check of a tag counts at once, and is recorded if the recorded one is old.
        """
        self.put(self.one, "a", checked=7.0)
        catalog = self.store.catalog
        for checked, recorded in (
            (100.0, 7.0),
            (606.0, 7.0),
            (607.0, 607.0),
            (700.0, 607.0),
            (1207.0, 1207.0),
        ):
            catalog.confirm_tag(APP, "a", checked)
            found = catalog.tag(APP, "a")
            assert found is not None
            self.assertEqual((found.digest, found.checked), (self.one.descriptor.digest, checked))
            self.successResultOf(catalog.put_blob(APP, LAYER))
            (kept,) = self.successResultOf(self.store.journal.read("SELECT checked FROM catalog_tag"))
            self.assertEqual(kept, (recorded,))

    def test_nothing_to_confirm(self) -> None:
        """
        A tag that is not listed is not confirmed.
        """
        self.put(self.one, "a")
        for repository, tag in ((APP, "b"), (OTHER, "a")):
            self.store.catalog.confirm_tag(repository, tag, 5.0)
            self.assertIsNone(self.store.catalog.tag(repository, tag))

    def test_nothing_to_remove(self) -> None:
        """
        What is not listed cannot be removed.
        """
        catalog, digest = self.store.catalog, Digest.of(b"")
        self.failureResultOf(catalog.remove_tag(APP, "a"), NotFound)
        self.failureResultOf(catalog.remove_manifest(APP, digest), NotFound)
        self.failureResultOf(catalog.remove_blob(APP, digest), NotFound)

    def test_origins(self) -> None:
        """
        The origins of a blob are remembered until its bytes are removed.
        """
        self.store.catalog.add_origin(LAYER.digest, "public")
        for _ in range(2):
            self.store.catalog.add_origin(LAYER.digest, "account@registry.example/app")
        self.store.catalog.add_origin(CONFIG.digest, "public")
        self.store.catalog.forget_origins(CONFIG.digest)
        self.store.catalog.forget_origins(Digest.of(b"none"))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertEqual(catalog.origins(LAYER.digest), {"public", "account@registry.example/app"})
            self.assertEqual(catalog.origins(CONFIG.digest), frozenset())

    def test_referrers(self) -> None:
        """
        The manifests with a subject are listed for it, until they are removed.
        """
        subject = self.one.descriptor.digest
        signature = manifest("signature", subject=subject)
        self.put(signature)
        for catalog in (self.store.catalog, self.after_restart()):
            (found,) = catalog.referrers(APP, subject)
            self.assertEqual(
                (found.digest, found.artifact_type), (signature.descriptor.digest, "x/signature")
            )
        self.successResultOf(self.store.catalog.remove_manifest(APP, signature.descriptor.digest))
        for catalog in (self.store.catalog, self.after_restart()):
            self.assertEqual(catalog.referrers(APP, subject), [])


class CollectionTests(StoreTestCase):
    """
    The garbage collector and the catalog.
    """

    def test_kept(self) -> None:
        """
        What a repository has stays; the rest is removed.
        """
        blobs = {name: Digest.of(name.encode()) for name in ("config", "layer", "one", "rest")}
        for name, digest in blobs.items():
            self.successResultOf(self.store.blobs.put(digest, name.encode()))
        listed = manifest("one", Descriptor(OCI_CONFIG, blobs["config"], 6))
        self.successResultOf(self.store.catalog.put_manifest(APP, listed, [], 0.0))
        self.successResultOf(self.store.catalog.put_blob(APP, Descriptor("", blobs["layer"], 5)))
        for digest in blobs.values():
            self.store.catalog.add_origin(digest, "public")
        self.successResultOf(self.store.gc.collect(dry_run=False))
        self.assertEqual(self.store.catalog.origins(blobs["rest"]), frozenset())
        self.assertEqual(self.store.catalog.origins(blobs["layer"]), {"public"})
        here = {name for name, digest in blobs.items() if self.store.blobs.has(digest)}
        self.assertEqual(here, {"config", "layer", "one"})

    def push(self, data: bytes, repository: Repository = LOCAL) -> Descriptor:
        """
        Push a blob.
        """
        blob = Descriptor("", Digest.of(data), len(data))
        self.successResultOf(self.store.blobs.put(blob.digest, data))
        self.successResultOf(self.store.catalog.put_blob(repository, blob))
        return blob

    def collect(self, dry_run: bool = False) -> int:
        """
        Collect, and return the number of blobs that were removed.
        """
        return self.successResultOf(self.store.gc.collect(dry_run)).blobs

    def test_abandoned(self) -> None:
        """
        Pushed blobs that no manifest names are removed after a day without use.
        """
        blob = self.push(b"abandoned")
        named = self.push(b"named")
        one = manifest("one", named)
        self.successResultOf(self.store.blobs.put(one.descriptor.digest, b"one"))
        self.successResultOf(self.store.catalog.put_manifest(LOCAL, one, [], 0.0))
        self.reactor.advance(ABANDONED_AFTER)
        self.assertEqual(self.collect(), 0)
        self.reactor.advance(1)
        self.assertEqual(self.collect(dry_run=True), 1)
        self.assertIsNotNone(self.reopen().catalog.blob(LOCAL, named.digest))
        self.assertEqual(self.collect(), 1)
        self.assertFalse(self.store.blobs.has(blob.digest))
        self.assertTrue(self.store.blobs.has(named.digest))
        self.assertIsNone(self.store.catalog.blob(LOCAL, blob.digest))
        self.assertIsNone(self.reopen().catalog.blob(LOCAL, blob.digest))

    def test_running_push(self) -> None:
        """
        A blob that a client has found, or has mounted elsewhere, is in use.
        """
        blob = self.push(b"found")
        self.reactor.advance(ABANDONED_AFTER)
        self.assertEqual(self.store.catalog.blob(LOCAL, blob.digest), blob)
        self.reactor.advance(ABANDONED_AFTER)
        self.push(b"found", Repository(LOCAL.host, "local/other"))
        self.reactor.advance(1)
        self.assertEqual((self.collect(dry_run=True), self.collect()), (0, 0))
        self.assertIsNone(self.store.catalog.blob(LOCAL, blob.digest))
        self.assertTrue(self.store.blobs.has(blob.digest))

    def test_unknown_use(self) -> None:
        """
        A blob whose last use is not known counts as used when the collector sees it
        first.
        """
        blob = self.push(b"old")
        self.store.catalog._uses.forget(Reference(LOCAL, None, blob.digest))
        self.reactor.advance(ABANDONED_AFTER + 1)
        self.assertEqual(self.collect(), 0)
        self.reactor.advance(ABANDONED_AFTER + 1)
        self.assertEqual(self.collect(), 1)
