"""
Tests for L{xferd.engines.containers_storage.writer}.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from threading import Event
from time import process_time
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.engines.containers_storage.samples import Sample, layer_ids, sample, write
from xferd.engines.containers_storage.contents import Contents, Selection
from xferd.engines.containers_storage.identity import big_data_file, link_of
from xferd.engines.containers_storage.writer import Writer
from xferd.errors import StoreError

NOW = "2024-05-06T07:08:09Z"
LATER = "2025-05-06T07:08:09Z"


class WriterTests(SynchronousTestCase):
    """
    The files of a view.
    """

    def setUp(self) -> None:
        """
        Make two images with a common layer, and a writer.
        """
        self.place = Path(self.mktemp()).absolute()
        self.trees = self.place / "trees"
        self.trees.mkdir(parents=True)
        self.path = self.place / "view"
        self.one = self.make("one", b"1", b"2", b"3")
        self.two = self.make("two", b"1", b"4", config="2023-01-01T00:00:00Z")
        self.writer = self.make_writer()

    def make(self, name: str, *layers: bytes, **more: str) -> Sample:
        """
        Make an image with its files.
        """
        made = sample(name, *layers, trees=str(self.trees), **more)
        write(self.place, made, layers)
        return made

    def make_writer(self, patience: float = 10) -> Writer:
        """
        Make a writer, as another daemon would.
        """
        return Writer(
            str(self.path),
            str(self.trees),
            lambda digest: str(self.place / "blobs" / digest.hex),
            stop=Event(),
            patience=patience,
        )

    def contents(self, *samples: Sample) -> Contents:
        """
        The contents with some images.
        """
        selection = Selection(str(self.trees))
        for each in samples:
            selection.add_image(each.image, each.chain)
        return selection.contents()

    def ids(self, each: Sample) -> Sequence[str]:
        """
        The IDs of an image's layers.
        """
        return layer_ids([layer.diff_id for layer in each.chain])

    def records(self, name: str) -> list[dict[str, Any]]:
        """
        The records of layers or images.
        """
        found: list[dict[str, Any]] = json.loads(
            (self.path / f"overlay-{name}" / f"{name}.json").read_bytes()
        )
        return found

    def entries(self) -> dict[str, str]:
        """
        All files and links of the view and of what is beside the trees, with hashes and
        targets.
        """
        found = {}
        for top in (self.path, self.trees):
            for directory, names, files in os.walk(top):
                for name in (*names, *files):
                    path = os.path.join(directory, name)
                    if os.path.islink(path):
                        found[os.path.relpath(path, self.place)] = os.readlink(path)
                    elif os.path.isfile(path) and not name.endswith(".lock"):
                        with open(path, "rb") as file:
                            found[os.path.relpath(path, self.place)] = sha256(file.read()).hexdigest()
        return found

    def test_layers(self) -> None:
        """
        Each layer is found by its ID and by its link, and names those below it.
        """
        self.assertTrue(self.writer.write(self.contents(self.one), NOW))
        ids = self.ids(self.one)
        self.assertEqual([each["id"] for each in self.records("layers")], list(ids))
        self.assertEqual({each["created"] for each in self.records("layers")}, {NOW})
        overlay = self.path / "overlay"
        for number, identity in enumerate(ids):
            link = (overlay / identity / "link").read_text()
            self.assertEqual(link, link_of(identity))
            self.assertEqual(os.readlink(overlay / "l" / link), f"../{identity}/diff")
            self.assertEqual(os.readlink(overlay / identity), f"sha256/{self.one.chain[number].chain_id.hex}")
            self.assertEqual((overlay / "l" / link / "file").read_bytes(), b"%d" % (number + 1))
        self.assertFalse((overlay / ids[0] / "lower").exists())
        lower = (overlay / ids[2] / "lower").read_text()
        self.assertEqual(lower, f"l/{link_of(ids[1])}:l/{link_of(ids[0])}")

    def test_images(self) -> None:
        """
        Each image has its documents, with the time of its config.
        """
        self.writer.write(self.contents(self.one, self.two), NOW)
        found = {image["names"][0]: image for image in self.records("images")}
        image = found["docker.io/library/one:latest"]
        self.assertEqual(image["created"], "2024-01-01T00:00:00.000000Z")
        self.assertEqual(image["layer"], self.ids(self.one)[-1])
        place = self.path / "overlay-images" / image["id"]
        for key, digest in image["big-data-digests"].items():
            data = (place / big_data_file(key)).read_bytes()
            self.assertEqual(
                (f"sha256:{sha256(data).hexdigest()}", len(data)), (digest, image["big-data-sizes"][key])
            )
        self.assertEqual((place / "manifest").read_bytes(), self.one.documents[1])

    def test_additional(self) -> None:
        """
        A layer whose blob is in the store can be read from the blob.  What engines make
        there fails, and the path to remove does not exist.
        """
        bare = evolve(
            self.one, chain=tuple(evolve(each, blobs=()) for each in self.one.chain[:2]) + self.one.chain[2:]
        )
        self.writer.write(self.contents(bare), NOW)
        ids = self.ids(self.one)
        overlay = self.path / "overlay"
        self.assertFalse((overlay / ids[0] / "additionallayer").exists())
        path = (overlay / ids[2] / "additionallayer").read_text()
        self.assertRaises(FileNotFoundError, os.rmdir, path)
        clean = Path(os.path.normpath(path))
        self.assertEqual((clean / "blob").read_bytes(), b"packed 3")
        self.assertEqual((clean / "diff" / "file").read_bytes(), b"3")
        self.assertEqual(json.loads((clean / "info").read_bytes())["id"], ids[2])
        self.assertRaises(FileNotFoundError, (clean / "use").write_bytes, b"")
        self.writer.write(self.contents(self.one), NOW)
        self.assertTrue((overlay / ids[0] / "additionallayer").exists())
        self.writer.write(self.contents(bare), NOW)
        self.assertFalse((overlay / ids[0] / "additionallayer").exists())
        self.assertFalse((self.path / "additional" / ids[0]).exists())

    def test_unchanged(self) -> None:
        """
        Nothing is written if nothing has changed, also by another daemon: engines need not
        read the files again.
        """
        contents = self.contents(self.one, self.two)
        self.assertTrue(self.writer.write(contents, NOW))
        before, marks = self.entries(), self.marks()
        for writer in (self.writer, self.make_writer()):
            self.assertFalse(writer.write(contents, LATER))
            self.assertEqual((self.entries(), self.marks()), (before, marks))

    def marks(self) -> list[bytes]:
        """
        The contents of the lock files.
        """
        return [
            (self.path / f"overlay-{name}" / f"{name}.lock").read_bytes() for name in ("layers", "images")
        ]

    def test_marks(self) -> None:
        """
        Engines are told to read again what has changed, and nothing else.
        """
        self.writer.write(self.contents(self.one), NOW)
        layers, images = self.marks()
        again = evolve(self.one.image, reference=self.two.image.reference)
        self.writer.write(self.contents(self.one, evolve(self.one, image=again)), NOW)
        self.assertEqual(self.marks()[0], layers)
        self.assertNotEqual(self.marks()[1], images)

    def test_removed(self) -> None:
        """
        What only a removed image had goes; a layer keeps the time at which it was made.
        """
        self.writer.write(self.contents(self.two), NOW)
        alone = self.entries()
        self.writer.write(self.contents(self.one, self.two), LATER)
        self.assertTrue(self.writer.write(self.contents(self.two), LATER))
        ours = {layer.chain_id.hex for layer in self.one.chain} - {
            layer.chain_id.hex for layer in self.two.chain
        }
        # What is in a tree's directory goes with the tree.
        left = {path: value for path, value in self.entries().items() if not ours & {*path.split("/")}}
        expected = {path: value for path, value in alone.items() if not ours & {*path.split("/")}}
        self.assertEqual(left, expected)

    def test_order(self) -> None:
        """
        At each moment, all that the records name is there.
        """
        seen: list[str] = []
        test = self

        class Watched(Writer):
            """
            A writer that checks the view whenever a file of records is replaced.
            """

            def _replace(self, directory: str, name: str, entries: dict[str, dict[str, Any]]) -> None:
                super()._replace(directory, name, entries)
                seen.append(name)
                test.check_complete()

        writer = Watched(
            str(self.path),
            str(self.trees),
            lambda digest: str(self.place / "blobs" / digest.hex),
            stop=Event(),
        )
        writer.write(Contents(), NOW)
        seen.clear()
        writer.write(self.contents(self.one), NOW)
        self.assertEqual(seen, ["layers", "images"])
        writer.write(self.contents(self.two), NOW)
        self.assertEqual(seen[2:], ["layers", "images", "layers"])

    def check_complete(self) -> None:
        """
        Check that all that the records name is there.
        """
        layers = {layer["id"] for layer in self.records("layers")}
        for layer in self.records("layers"):
            self.assertIn(layer.get("parent", layer["id"]), layers)
            link = (self.path / "overlay" / layer["id"] / "link").read_text()
            self.assertTrue((self.path / "overlay" / "l" / link / "file").exists())
        try:
            images = self.records("images")
        except FileNotFoundError:
            return
        for image in images:
            self.assertIn(image["layer"], layers)
            for key in image["big-data-names"]:
                self.assertTrue((self.path / "overlay-images" / image["id"] / big_data_file(key)).exists())

    def test_many(self) -> None:
        """
        One more image beside a hundred is written in a tenth of a second.
        """
        common = [b"a", b"b", b"c"]
        samples = [self.make(f"many{n}", *common, b"d%d" % n, b"e%d" % n, b"f%d" % n) for n in range(100)]
        self.writer.write(self.contents(*samples[:-1]), NOW)
        contents = self.contents(*samples)
        began = process_time()
        self.assertTrue(self.writer.write(contents, NOW))
        self.assertLess(process_time() - began, 0.1)
        self.assertEqual(len(self.records("layers")), 303)

    def test_killed(self) -> None:
        """
        A daemon that is killed at any file leaves a view from which the next one makes the
        right one, without a trace.
        """
        old, new = self.contents(self.one), self.contents(self.two)
        self.writer.write(new, NOW)
        expected = self.entries()
        for after in range(1000):
            self.make_writer().write(old, NOW)
            if self.write_killed(new, after):
                break
            self.check_complete()
            self.make_writer().write(new, NOW)
            left = {
                path: value
                for path, value in self.entries().items()
                if path in expected or "sha256/" not in path
            }
            self.assertEqual(left, expected)
        else:
            self.fail("it never ended")

    def write_killed(self, contents: Contents, after: int) -> bool:
        """
        Write in another process that is killed at a number of changes.

        @return: whether it ended before.
        """
        child = os.fork()
        if not child:
            left = [after]

            def audit(event: str, _: object) -> None:
                if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink"):
                    left[0] -= 1
                    if left[0] < 0:
                        os._exit(9)

            import sys  # noqa: PLC0415 - of the child alone

            sys.addaudithook(audit)
            try:
                self.make_writer().write(contents, NOW)
            finally:
                os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_cut_short(self) -> None:
        """
        Files that a killed daemon has left empty are written again.
        """
        contents = self.contents(self.one)
        self.writer.write(contents, NOW)
        expected, emptied = self.entries(), 0
        for layer in contents.layers:
            places = (self.path / "overlay" / layer, self.path / "additional" / layer)
            names = ("link", "lower", "additionallayer", "info")
            for file in (place / name for place in places for name in names):
                if file.exists():
                    file.write_bytes(b"")
                    emptied += 1
        self.assertGreater(emptied, 3)
        self.make_writer().write(contents, NOW)
        self.assertEqual(self.entries(), expected)

    def test_damaged(self) -> None:
        """
        Damaged records are written again.
        """
        contents = self.contents(self.one)
        self.writer.write(contents, NOW)
        expected = self.entries()
        for name in ("layers", "images"):
            for damage in (b"", b"{", b"{}", b"[1]", b"[{}]"):
                (self.path / f"overlay-{name}" / f"{name}.json").write_bytes(damage)
                self.make_writer().write(contents, NOW)
                self.assertEqual(self.entries(), expected)

    def test_changed_by_others(self) -> None:
        """
        A view that was removed or changed from outside is written again with the next change.
        """
        both, one = self.contents(self.one, self.two), self.contents(self.one)
        self.writer.write(both, NOW)
        expected = self.entries()
        for damage in (
            lambda: shutil.rmtree(self.path),
            lambda: (self.path / "overlay-images" / "images.json").write_text("[]"),
            lambda: shutil.rmtree(self.path / "overlay-layers"),
        ):
            self.writer.write(one, NOW)
            damage()
            self.writer.write(both, NOW)
            self.assertEqual(self.entries(), expected)

    def test_after_an_error(self) -> None:
        """
        After an error, everything that was not written is written.
        """
        both = self.contents(self.one, self.two)
        self.writer.write(both, NOW)
        expected = self.entries()
        self.writer.write(self.contents(self.one), NOW)
        shutil.rmtree(self.path / "additional")
        self.assertRaises(OSError, self.writer.write, both, NOW)
        self.writer.write(both, NOW)
        self.assertEqual(self.entries(), expected)

    def test_view_of_another_store(self) -> None:
        """
        The view of another store is refused, unless that store is gone; so is a directory with
        an engine's layers.
        """
        self.writer.write(self.contents(self.one), NOW)
        before = self.entries()
        other = self.place / "other" / "trees"
        other.mkdir(parents=True)
        second = Writer(str(self.path), str(other), lambda _: "", stop=Event())
        error = self.assertRaises(StoreError, second.write, Contents(), NOW)
        self.assertIn(f"is the view of another store, {self.place};", str(error))
        self.assertEqual(self.entries(), before)
        self.trees.rename(self.place / "gone")
        second.write(Contents(), NOW)
        self.assertEqual(self.records("layers"), [])
        (self.path / "overlay").unlink()
        (self.path / "overlay").mkdir()
        error = self.assertRaises(StoreError, self.make_writer().write, Contents(), NOW)
        self.assertIn("is the storage of an engine", str(error))

    def test_images_on_disk(self) -> None:
        """
        The images of an earlier daemon are known; damaged ones are not.
        """
        contents = self.contents(self.one, self.two)
        self.assertEqual(self.make_writer().on_disk()[0], {})
        self.writer.write(contents, NOW)
        images, layers = self.make_writer().on_disk()
        self.assertEqual((images, set(layers)), (contents.images, set(contents.layers)))
        path = self.path / "overlay-images" / "images.json"
        path.write_text(json.dumps([{**each, "digest": "x"} for each in self.records("images")]))
        self.assertEqual(self.make_writer().on_disk()[0], {})

    def test_locked(self) -> None:
        """
        While an engine reads for too long, nothing changes; the next attempt writes it.
        """
        self.writer = self.make_writer(patience=0.02)
        self.writer.write(self.contents(self.one), NOW)
        before = self.records("layers"), self.records("images")
        child, ready = os.pipe()
        other = os.fork()
        if not other:
            fd = os.open(self.path / "overlay-images" / "images.lock", os.O_RDONLY)
            fcntl.lockf(fd, fcntl.LOCK_SH)
            os.write(ready, b"x")
            Event().wait(60)
            os._exit(0)
        os.read(child, 1)
        try:
            self.assertRaises(StoreError, self.writer.write, self.contents(self.two), NOW)
            self.assertEqual(self.records("images"), before[1])
            self.check_complete()
        finally:
            os.kill(other, 9)
            os.waitpid(other, 0)
        self.assertTrue(self.writer.write(self.contents(self.two), NOW))
        self.assertEqual([each["id"] for each in self.records("layers")], list(self.ids(self.two)))
        self.check_complete()

    def test_storage(self) -> None:
        """
        The storage of an engine is never written to.
        """
        (self.path / "overlay-containers").mkdir(parents=True)
        error = self.assertRaises(StoreError, self.writer.write, self.contents(self.one), NOW)
        self.assertIn("is the storage of an engine", str(error))
        self.assertEqual(os.listdir(self.path), ["overlay-containers"])

    def test_moved(self) -> None:
        """
        A layer with another tree leads there, with all that belongs to it.
        """
        self.writer.write(self.contents(self.one), NOW)
        top = self.one.chain[2]
        moved = evolve(top, path=f"{self.trees}/sha256/{'0' * 64}/diff")
        os.makedirs(moved.path)
        (Path(moved.path) / "file").write_bytes(b"new")
        again = evolve(self.one, chain=(*self.one.chain[:2], moved))
        self.writer.write(self.contents(again), NOW)
        identity = self.ids(self.one)[2]
        link = (self.path / "overlay" / identity / "link").read_text()
        self.assertEqual((self.path / "overlay" / "l" / link / "file").read_bytes(), b"new")
        self.check_complete()
