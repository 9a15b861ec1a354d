"""
Tests for L{xferd.store.images.index_file}, by the names that are given.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from attrs import evolve

from tests.store.support import StoreTestCase, docker_sample, pull, sample
from xferd.errors import StoreError
from xferd.interfaces.store import Image
from xferd.names import Digest, Reference
from xferd.store.images import index_file
from xferd.store.images.index_file import NAME, RENDITION_OF

STRANGER = {"mediaType": "x/y", "digest": "sha256:" + "0" * 64, "size": 1, "annotations": {NAME: "theirs"}}


class IndexFileTests(StoreTestCase):
    """
    The file beside other tools, and its copy in memory.
    """

    def setUp(self) -> None:
        """
        Have one image.
        """
        super().setUp()
        self.run_now(pull(self.store, sample("first", b"one")))
        (self.image,) = self.store.images.all()
        self.file = os.path.join(self.path, "content", "index.json")
        self.days = 0

    def put(self, name: str) -> Image:
        """
        Set one more name of the image, a day after the last one.
        """
        self.days += 1
        created = (datetime(2026, 1, 2, tzinfo=UTC) + timedelta(days=self.days)).isoformat()
        image: Image = evolve(self.image, reference=Reference.parse(name), created=created)
        self.successResultOf(self.store.images.put(image))
        return image

    def index(self) -> dict[str, Any]:
        """
        The index on the disk.
        """
        with open(self.file, "rb") as file:
            index: dict[str, Any] = json.load(file)
        return index

    def names(self) -> list[str]:
        """
        The short names of all entries, in their order.
        """
        return [
            entry["annotations"][NAME].removeprefix("docker.io/library/")
            for entry in self.index()["manifests"]
        ]

    def rewrite(self, *entries: object) -> None:
        """
        Write the file in place, as another tool does.
        """
        text = json.dumps({**self.index(), "manifests": entries, "extra": {"a": 1}})
        with open(self.file, "w") as file:
            file.write(text)

    def test_read_once(self) -> None:
        """
        The file is not read again for each name.
        """
        reads: list[object] = []
        read = index_file.read_index

        def counted(paths: Any) -> dict[str, Any]:
            reads.append(paths)
            return read(paths)

        self.patch(index_file, "read_index", counted)
        for n in range(5):
            self.put(f"name{n}")
        self.assertEqual(reads, [])
        self.assertEqual(self.names(), ["first:latest", *(f"name{n}:latest" for n in range(5))])
        self.rewrite(*self.index()["manifests"], STRANGER)
        self.put("last")
        self.put("very-last")
        self.assertEqual(len(reads), 1)

    def test_other_tools(self) -> None:
        """
        Entries that another tool adds or removes between two changes are
        respected; names of xferd that it removes are written again.
        """
        self.put("second")
        self.rewrite(*self.index()["manifests"], STRANGER)
        self.put("third")
        self.assertEqual(self.names(), ["theirs", "first:latest", "second:latest", "third:latest"])
        self.assertEqual(self.index()["extra"], {"a": 1})
        self.rewrite()
        self.put("fourth")
        self.assertEqual(self.names(), ["first:latest", "second:latest", "third:latest", "fourth:latest"])

    def test_given_anew(self) -> None:
        """
        A name that is set again has one entry, and a removed one has none.
        """
        for _ in range(2):
            self.put("second")
        self.put("first")
        self.assertEqual(self.names(), ["second:latest", "first:latest"])
        self.successResultOf(self.store.images.remove(Reference.parse("second")))
        self.assertEqual(self.names(), ["first:latest"])
        self.successResultOf(self.store.images.remove(Reference.parse("first")))
        self.assertEqual(self.names(), [])
        self.assertEqual(self.reopen().images.all(), [])

    def test_disk_refuses(self) -> None:
        """
        A name that could not be written is not in the file that a later name
        writes.
        """

        def refuse(*_: object) -> None:
            raise PermissionError(13, "no")

        refusing = self.patch(index_file, "write_file", refuse)
        image = evolve(self.image, reference=Reference.parse("second"))
        self.failureResultOf(self.store.images.put(image), StoreError)
        removing = self.store.images.remove(Reference.parse("first"))
        self.failureResultOf(removing, StoreError)
        refusing.restore()
        self.put("third")
        self.assertEqual(self.names(), ["first:latest", "third:latest"])

    def test_rendition_again(self) -> None:
        """
        The OCI form of a Docker image is written again, where it was collected
        after the last name of the image had gone.
        """
        wanted = docker_sample("docker", b"two")
        for _ in range(2):
            self.run_now(pull(self.store, wanted))
            (entry,) = [e for e in self.index()["manifests"] if RENDITION_OF in e["annotations"]]
            self.assertTrue(os.path.exists(self.store.blobs.path(Digest.parse(entry["digest"]))))
            self.successResultOf(self.store.images.remove(wanted.image.reference))
            self.successResultOf(self.store.gc.collect(dry_run=False))
            self.assertFalse(os.path.exists(self.store.blobs.path(Digest.parse(entry["digest"]))))

    def test_rendition_kept(self) -> None:
        """
        It is kept as long as one name needs it, over a restart too.
        """
        wanted = docker_sample("docker", b"two")
        self.run_now(pull(self.store, wanted))
        again = evolve(wanted.image, reference=Reference.parse("again"))
        self.successResultOf(self.store.images.put(again))
        self.successResultOf(self.store.images.remove(wanted.image.reference))
        for _ in range(2):
            self.successResultOf(self.store.gc.collect(dry_run=False))
            (entry,) = [e for e in self.index()["manifests"] if RENDITION_OF in e["annotations"]]
            self.assertTrue(os.path.exists(self.store.blobs.path(Digest.parse(entry["digest"]))))
            self.reopen()

    def test_order(self) -> None:
        """
        Images are listed by name, in whatever order names are set and removed.
        """
        self.patch(index_file, "_BLOCK", 4)
        random = Random(1)
        names = {"first"}
        for _ in range(400):
            name = f"n{random.randrange(30)}"
            if name in names and random.random() < 0.5:
                names.discard(name)
                self.successResultOf(self.store.images.remove(Reference.parse(name)))
            else:
                names.add(name)
                self.put(name)
            listed = [image.reference for image in self.store.images.all()]
            self.assertEqual(listed, [Reference.parse(name) for name in _sorted(names)])
            self.assertEqual(sorted(self.names()), sorted(f"{name}:latest" for name in names))
        blocks = self.store.images._index._ours._blocks
        self.assertLess(len(blocks), 40)
        before = self.store.images.all()
        self.assertEqual(self.reopen().images.all(), before)


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: f"{name}:latest")
