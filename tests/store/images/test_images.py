"""
Tests for L{xferd.store.images.images}.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from tests.store.conformance.images import ImagesConformance
from tests.store.support import Sample, StoreTestCase, docker_sample, pull, sample
from xferd.errors import NotFound, StoreError
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest, Reference, Repository
from xferd.oci import Document, Manifest, parse_document
from xferd.platforms import Platform
from xferd.store.images import images, index_file

NAME = "org.opencontainers.image.ref.name"


class ImagesTests(ImagesConformance, StoreTestCase):
    """
    Names on disk.
    """

    @property
    def file(self) -> str:
        """
        Where the names are.
        """
        return os.path.join(self.path, "content", "index.json")

    def index(self) -> dict[str, Any]:
        """
        The entries of the index.
        """
        with open(self.file, "rb") as file:
            index: dict[str, Any] = json.load(file)
        return index

    def pulled(self, name: str, *blobs: bytes) -> Sample:
        """
        Put a whole image into the store.
        """
        wanted = sample(name, *blobs)
        self.run_now(pull(self.store, wanted))
        return wanted

    def listed(self) -> list[str]:
        """
        The names of all images.
        """
        return [image.reference.familiar() for image in self.store.images.all()]

    def test_empty_index(self) -> None:
        """
        A new store is a valid, empty image layout.
        """
        self.assertEqual(self.index(), {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []})
        with open(os.path.join(self.path, "content", "oci-layout"), "rb") as file:
            self.assertEqual(json.load(file), {"imageLayoutVersion": "1.0.0"})

    def test_pins_over_a_restart(self) -> None:
        """
        A pin is kept for the next daemon, also of an image in Docker's format,
        and unpinning it removes it.
        """
        for wanted in (sample("one", b"one"), docker_sample("two", b"two")):
            self.run_now(pull(self.store, wanted))
            before = self.index()
            self.successResultOf(self.store.images.pin(wanted.image.reference, True))
            self.store = self.reopen()
            image = self.store.images.get(wanted.image.reference)
            self.assertEqual(image, evolve(wanted.image, pinned=True))
            self.successResultOf(self.store.images.pin(wanted.image.reference, False))
            self.assertEqual(self.index(), before)

    def test_pin_and_put_together(self) -> None:
        """
        Concurrent changes while the disk is busy are all applied, in their
        order.
        """
        one, two = sample("alpine", b"one"), sample("alpine", b"two")
        for wanted in (one, two):
            self.run_now(pull(self.store, wanted))
        self.pools.disk.held = True
        images, name = self.store.images, one.image.reference
        changes = [images.put(one.image), images.pin(name, True), images.put(two.image)]
        gone = sample("gone", b"gone").image.reference
        changes += [images.pin(name, False), images.pin(name, True)]
        missing = images.pin(gone, True)
        self.pools.disk.release()
        for change in changes:
            self.successResultOf(change)
        self.failureResultOf(missing, NotFound)
        self.assertEqual(list(images.all()), [evolve(two.image, pinned=True)])

    def test_over_a_restart(self) -> None:
        """
        Every image exists after a restart, with all its facts.
        """
        pulled = [
            self.pulled("alpine", b"one", b"two", b"one").image,
            self.pulled("scratch").image,
            self.pulled("localhost:5000/a/b:v1@" + str(Digest.of(b"index")), b"one").image,
        ]
        notes = {"com.example.note": "kept"}
        manifest = evolve(pulled[0].manifest, platform=Platform("linux", "arm", "v7"), annotations=notes)
        pulled[0] = evolve(pulled[0], manifest=manifest, resolved=Digest.of(b"index"))
        self.successResultOf(self.store.images.put(pulled[0]))
        self.reopen()
        self.assertEqual(list(self.store.images.all()), pulled)
        found = self.store.images.get(pulled[0].reference)
        assert found is not None
        self.assertEqual(found.manifest.annotations, notes)

    def test_origin(self) -> None:
        """
        Where an image of another name came from, and when it was pulled, is known after a restart,
        and other tools find it under either name.
        """
        image = self.pulled("alpine", b"one").image
        origin = Repository("r.example", "team/alpine")
        tagged = evolve(
            image, reference=Reference.parse("mine:1"), origin=origin, pulled="2026-01-02T03:04:05Z"
        )
        self.successResultOf(self.store.images.put(tagged))
        self.assertEqual(self.reopen().images.all(), [image, tagged])
        self.assertEqual((image.source.path, tagged.source), ("library/alpine", origin))

    def test_two_names(self) -> None:
        """
        Two names for one image are two entries.
        """
        for name in ("one", "two"):
            self.pulled(name, b"same")
        entries = self.index()["manifests"]
        self.assertEqual(len({entry["digest"] for entry in entries}), 1)
        self.assertEqual(
            [entry["annotations"][NAME] for entry in entries],
            ["docker.io/library/one:latest", "docker.io/library/two:latest"],
        )
        self.reopen()
        self.assertEqual(self.listed(), ["one:latest", "two:latest"])

    def test_docker_image(self) -> None:
        """
        An image in Docker's format is stored unchanged, and has its name on a
        second entry of OCI's types, written once and shared by its names.
        """
        names = ("alpine", "again", "alpine")
        for name in names:
            self.run_now(pull(self.store, docker_sample(name, b"one")))
        wanted = [docker_sample(name, b"one").image for name in sorted(set(names))]
        self.reopen()
        self.assertEqual(list(self.store.images.all()), wanted)
        entries = self.index()["manifests"]
        named = [entry for entry in entries if NAME in entry["annotations"]]
        self.assertEqual((len(entries), len(named)), (4, 2))
        self.assertEqual({entry["mediaType"] for entry in named}, {OCI_MANIFEST})
        (digest,) = {entry["digest"] for entry in named}
        data = self.successResultOf(self.store.blobs.read(Digest.parse(digest)))
        manifest = parse_document(Document(OCI_MANIFEST, data, Digest.of(data)))
        assert isinstance(manifest, Manifest)
        self.assertEqual([layer.digest for layer in manifest.layers], [Digest.of(b"one")])

    def test_form_changes(self) -> None:
        """
        A name that goes from one form to the other leaves nothing behind.
        """
        for made, entries in ((docker_sample, 2), (sample, 1), (docker_sample, 2)):
            wanted = made("alpine", b"one")
            self.run_now(pull(self.store, wanted))
            self.assertEqual(len(self.index()["manifests"]), entries)
            self.assertEqual(list(self.reopen().images.all()), [wanted.image])

    def test_strangers_stay(self) -> None:
        """
        Entries of other tools survive, also while the daemon runs, and are not
        listed.
        """
        stranger = {
            "mediaType": "x/y",
            "digest": "sha256:" + "0" * 64,
            "size": 1,
            "annotations": {NAME: "theirs"},
        }
        nameless = {"mediaType": "x/y", "digest": "sha256:" + "1" * 64, "size": 1}
        index = {**self.index(), "manifests": [stranger, nameless], "annotations": {"a": "b"}}
        with open(self.file, "w") as file:
            json.dump(index, file)
        self.pulled("alpine", b"one")
        self.reopen()
        self.assertEqual(self.index()["manifests"][:2], [stranger, nameless])
        self.assertEqual(self.index()["annotations"], {"a": "b"})
        self.assertEqual(self.listed(), ["alpine:latest"])

    def test_name_taken_from_a_stranger(self) -> None:
        """
        A name refers to one image, whichever program set it before.
        """
        stranger = {"annotations": {NAME: "docker.io/library/alpine:latest"}}
        index = {**self.index(), "manifests": [stranger]}
        with open(self.file, "w") as file:
            json.dump(index, file)
        self.pulled("alpine", b"one")
        self.assertEqual(len(self.index()["manifests"]), 1)

    def test_many_at_once(self) -> None:
        """
        Names that are set while the disk is busy are written together, and each
        is on the disk when its Deferred fires.
        """
        wanted = [self.pulled(f"image{number}", b"one").image for number in range(5)]
        written = []

        def write(path: str, data: bytes, staging: str) -> None:
            written.append(len(json.loads(data)["manifests"]))

        self.patch(index_file, "write_file", write)
        self.pools.disk.held = True
        fresh = [evolve(image, reference=Reference.parse(f"fresh{n}")) for n, image in enumerate(wanted)]
        waiting = [self.store.images.put(image) for image in fresh]
        self.assertIsNone(self.store.images.get(fresh[0].reference))
        self.pools.disk.step()
        self.successResultOf(waiting[0])
        self.assertNoResult(waiting[1])
        self.pools.disk.step()
        for each in waiting[1:]:
            self.successResultOf(each)
        self.assertEqual(written, [6, 10])
        self.assertEqual(len(self.store.images.all()), 10)

    def test_again_at_once(self) -> None:
        """
        An image that is given its name again within a second keeps it, with its time, and the
        index is not written; after a second, or with other content, it is.
        """
        image = self.pulled("alpine", b"one").image
        other = evolve(self.pulled("other", b"two").image, reference=image.reference)
        images = self.store.images
        before = os.stat(self.file)
        for created in ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.999Z"):
            self.assertEqual(self.successResultOf(images.put(evolve(image, created=created))), image)
        self.assertEqual(os.stat(self.file), before)
        for later in (
            evolve(image, created="2026-01-02T03:04:06Z"),
            image,
            other,
            evolve(other, pinned=True),
            evolve(other, created="some day", pinned=True),
            evolve(other, created="some day", pinned=True),
        ):
            before = os.stat(self.file)
            self.assertEqual(self.successResultOf(images.put(later)), later)
            self.assertEqual(images.peek(image.reference), later)
            self.assertNotEqual(os.stat(self.file), before)

    def test_again_after_change_of_layers(self) -> None:
        """
        Where layers have changed since, the name is set again, and who follows the names is
        told: an engine's view that has dropped the image shows it again.
        """
        image = self.pulled("alpine", b"one").image
        changed: list[str] = []
        self.store.images.follow(lambda: changed.append("changed"), lambda: succeed(None))
        self.successResultOf(self.store.images.layers_changed())
        self.successResultOf(self.store.images.put(image))
        self.assertEqual(len(changed), 2)
        self.successResultOf(self.store.images.put(image))
        self.assertEqual(len(changed), 2)

    def test_again_while_removed(self) -> None:
        """
        A name that is being removed, or given to another image, is set again after that.
        """
        image = self.pulled("alpine", b"one").image
        other = evolve(self.pulled("other", b"two").image, reference=image.reference)
        images = self.store.images
        self.pools.disk.held = True
        for change in (images.remove(image.reference), images.put(other)):
            again = images.put(image)
            self.pools.disk.release()
            self.successResultOf(change)
            self.assertEqual(self.successResultOf(again), image)
            self.assertEqual(images.peek(image.reference), image)
            self.pools.disk.held = True

    def test_cancel(self) -> None:
        """
        A name that is being written is given, though who asked is cancelled.
        """
        image = self.pulled("alpine", b"one").image
        again = evolve(image, reference=Reference.parse("again"))
        self.pools.disk.held = True
        waiting = self.store.images.put(again)
        waiting.cancel()
        self.assertNoResult(waiting)
        self.pools.disk.release()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.store.images.get(again.reference), again)

    def test_disk_refuses(self) -> None:
        """
        A name that could not be written is not given, and can be given later.
        """
        image = self.pulled("alpine", b"one").image
        again = evolve(image, reference=Reference.parse("again"))
        shutil.move(self.file, self.file + "2")
        os.mkdir(self.file)
        self.failureResultOf(self.store.images.put(again), StoreError)
        self.assertEqual(self.listed(), ["alpine:latest"])
        os.rmdir(self.file)
        shutil.move(self.file + "2", self.file)
        self.successResultOf(self.store.images.put(again))
        self.assertEqual(self.listed(), ["again:latest", "alpine:latest"])

    def lost(self) -> list[dict[str, Any]]:
        """
        Open the store again and catch its log messages on images.
        """
        events: list[dict[str, Any]] = []
        self.patch(images.Images, "_log", Logger(observer=cast(ILogObserver, events.append)))
        self.reopen()
        return events

    def test_layer_gone(self) -> None:
        """
        An image with a missing layer is reported and not listed, and its entry
        is kept until the name is set again.
        """
        wanted = self.pulled("alpine", b"one")
        self.pulled("busybox", b"two")
        digest = Digest.of(b"one")
        shutil.rmtree(os.path.join(self.path, "trees", "sha256", digest.hex))
        self.reopen()
        self.assertEqual(self.listed(), ["alpine:latest", "busybox:latest"])
        os.unlink(self.store.blobs.path(digest))
        (event,) = self.lost()
        self.assertEqual(event["name"], "docker.io/library/alpine:latest")
        self.assertIn(str(digest), event["why"])
        self.assertEqual(self.listed(), ["busybox:latest"])
        self.pulled("other", b"three")
        self.assertEqual(len(self.index()["manifests"]), 3)
        self.run_now(pull(self.store, wanted))
        self.assertEqual(len(self.index()["manifests"]), 3)
        self.assertEqual(self.listed(), ["alpine:latest", "busybox:latest", "other:latest"])

    def test_manifest_gone(self) -> None:
        """
        The same for a manifest that is missing, damaged or of another kind.
        """
        wanted = self.pulled("alpine", b"one")
        path = self.store.blobs.path(wanted.image.manifest.digest)
        os.unlink(path)
        self.assertEqual(len(self.lost()), 1)
        with open(path, "wb") as file:
            file.write(b"damaged")
        self.assertEqual(len(self.lost()), 1)
        self.assertEqual(self.listed(), [])

    def test_entry_of_an_index(self) -> None:
        """
        An entry of ours that leads to an index is no image.
        """
        wanted = self.pulled("alpine", b"one")
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
        self.successResultOf(self.store.blobs.put(Digest.of(data), data))
        index = self.index()
        index["manifests"][0].update(digest=str(Digest.of(data)), mediaType=OCI_INDEX)
        with open(self.file, "w") as file:
            json.dump(index, file)
        (event,) = self.lost()
        self.assertIn("is an index", event["why"])
        self.assertIsNone(self.store.images.get(wanted.image.reference))

    def test_damaged_entry(self) -> None:
        """
        An entry of ours that is damaged is reported.
        """
        self.pulled("alpine", b"one")
        good = self.index()
        for name, value in (("digest", "x"), ("size", -1)):
            entry = {**good["manifests"][0], name: value}
            with open(self.file, "w") as file:
                json.dump({**good, "manifests": [entry]}, file)
            self.assertEqual(len(self.lost()), 1)

    def damaged(self, text: bytes) -> Failure:
        """
        Try to open the store with some index.
        """
        self.close(self.store)
        with open(self.file, "wb") as file:
            file.write(text)
        error = self.assertRaises(StoreError, self.make().open)
        return Failure(error)

    def test_damaged_index(self) -> None:
        """
        A damaged index stops the start with one sentence that names a remedy,
        and the remedy works.
        """
        for text in (b"", b"{", b"[]", b"{}", b'{"manifests": 3}', b'{"manifests": [3]}', b"\xff"):
            reason = self.damaged(text)
            self.assertIn(f"{os.path.abspath(self.file)} is damaged", str(reason.value))
            self.assertIn("remove it to start without names", str(reason.value))
        os.unlink(self.file)
        self.store = self.open()
        self.assertEqual(self.listed(), [])

    def test_unreadable_index(self) -> None:
        """
        An unreadable index is reported differently from a damaged one.
        """
        self.close(self.store)
        os.unlink(self.file)
        os.mkdir(self.file)
        error = self.assertRaises(StoreError, self.make().open)
        self.assertIn("cannot read", str(error))

    def test_put_late(self) -> None:
        """
        A name that comes after the end is not given.
        """
        image = self.pulled("alpine", b"one").image
        self.close(self.store)
        waiting: Deferred[None] = self.store.images.put(evolve(image, reference=Reference.parse("late")))
        self.failureResultOf(waiting, StoreError)
