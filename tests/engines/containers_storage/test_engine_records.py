"""
Tests for L{xferd.engines.containers_storage.engine_records}.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from threading import Event
from time import process_time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.containers_storage.engine_records import LayerUse, read_uses
from xferd.errors import StoreError

OURS = {"base", "top"}


class ReadUsesTests(SynchronousTestCase):
    """
    What an engine has recorded about layers of the view.
    """

    def setUp(self) -> None:
        """
        Choose the storage of an engine.
        """
        self.root = Path(self.mktemp()).absolute()

    def record(self, name: str, *entries: dict[str, Any], file: str = "") -> None:
        """
        Write records of the engine.
        """
        place = self.root / f"overlay-{name}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.lock").touch()
        (place / (file or f"{name}.json")).write_text(json.dumps(entries))

    def read(self) -> list[LayerUse]:
        """
        Read them.
        """
        return list(read_uses(str(self.root), OURS, stop=Event(), patience=0.02))

    def use(self, layer: str, kind: str, name: str, **more: Any) -> LayerUse:
        """
        A use by this engine.
        """
        return LayerUse(layer, kind, name, str(self.root), **more)

    def test_nothing(self) -> None:
        """
        An engine that has recorded nothing needs nothing.
        """
        self.assertEqual(self.read(), [])
        self.record("layers")
        self.assertEqual(self.read(), [])
        (self.root / "overlay-layers" / "layers.json").write_bytes(b"")
        self.assertEqual(self.read(), [])

    def test_pulled(self) -> None:
        """
        An image whose layers are all of the view was pulled.
        """
        self.record("images", {"id": "1" * 64, "names": ["x:1", "x:2"], "layer": "top"})
        self.record("images", {"id": "1" * 64, "layer": "base"}, file="volatile-images.json")
        self.assertEqual(
            self.read(),
            [
                self.use("top", "image", "x:1", is_pulled=True),
                self.use("base", "image", "1" * 12, is_pulled=True),
            ],
        )

    def test_built(self) -> None:
        """
        An image with own layers stands on the highest layer of the view below them.
        """
        self.record("layers", {"id": "one", "parent": "top"}, {"id": "two", "parent": "one"})
        self.record("images", {"id": "1", "names": ["x"], "layer": "two", "mapped-layers": ["base", "other"]})
        self.assertEqual(
            self.read(),
            [self.use("top", "image", "x"), self.use("base", "image", "x", is_pulled=True)],
        )

    def test_container(self) -> None:
        """
        A container needs its image only if the engine has none of that ID itself.
        """
        self.record("layers", {"id": "rw", "parent": "top"}, {"id": "rw2", "parent": "base"})
        self.record("images", {"id": "2", "names": None, "layer": "elsewhere"})
        self.record(
            "containers",
            {"id": "a" * 64, "names": ["web"], "image": "1", "layer": "rw"},
            {"id": "b" * 64, "image": "2", "layer": "rw2"},
            {"id": "c" * 64, "image": "2", "layer": "gone"},
        )
        found = self.read()
        self.assertEqual(
            found,
            [self.use("top", "container", "web", image="1"), self.use("base", "container", "b" * 12)],
        )
        self.assertEqual(str(found[0]), f"container web of {self.root}")

    def test_layer(self) -> None:
        """
        A layer that belongs to no image and no container counts, too: an image may be
        being pulled or built.
        """
        self.record("layers", {"id": "f" * 64, "parent": "top"}, {"id": "e" * 64, "parent": "top"})
        self.assertEqual(self.read(), [self.use("top", "layer", "f" * 12)])

    def test_volatile(self) -> None:
        """
        Records that do not outlive the machine count.
        """
        self.record("layers", {"id": "rw", "parent": "top"}, file="volatile-layers.json")
        self.record(
            "containers", {"id": "1", "names": ["web"], "layer": "rw"}, file="volatile-containers.json"
        )
        self.assertEqual(self.read(), [self.use("top", "container", "web")])

    def test_own_layers(self) -> None:
        """
        An engine uses a layer of its own where the view has the same.
        """
        self.record("layers", {"id": "base"}, {"id": "top", "parent": "base"})
        self.record("images", {"id": "1", "names": ["x"], "layer": "top"})
        self.assertEqual(self.read(), [])

    def test_circle(self) -> None:
        """
        Layers in a circle are no reason to hang.
        """
        self.record("layers", {"id": "one", "parent": "two"}, {"id": "two", "parent": "one"})
        self.record("containers", {"id": "1", "names": ["web"], "layer": "one"})
        self.assertEqual(self.read(), [])

    def test_damaged(self) -> None:
        """
        Damaged records are an error, which names them: it is not known what the engine
        needs.
        """
        for damage in ("{", "{}", "[1]", '[{"id": "1", "names": 5}]', "[" * 100_000):
            self.record("containers")
            (self.root / "overlay-containers" / "containers.json").write_text(damage)
            error = self.assertRaises(StoreError, self.read)
            self.assertIn(f"the engine of {self.root} needs: containers.json", str(error))

    def test_other_files(self) -> None:
        """
        A pipe, a device, a link or a huge file in place of records is an error at once: the
        storage may be an ordinary user's.
        """
        self.record("containers")
        place = self.root / "overlay-containers"
        huge = self.root / "huge"
        with open(huge, "wb") as file:
            file.truncate(2**40)
        for name in ("containers.json", "containers.lock"):
            for damage in (os.mkfifo, lambda path: os.symlink("/dev/zero", path), os.mkdir):
                path = place / name
                path.unlink()
                damage(path)
                self.assertRaises(StoreError, self.read)
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()
                path.touch()
        huge.rename(place / "containers.json")
        self.assertIn("has more than", str(self.assertRaises(StoreError, self.read)))

    def test_long_chains(self) -> None:
        """
        Records are read in a moment, however long the chains of layers are.
        """
        layers = [{"id": f"{n}", "parent": f"{n - 1}" if n else "top"} for n in range(20_000)]
        self.record("layers", *layers)
        began = process_time()
        self.assertEqual(self.read(), [self.use("top", "layer", "0")])
        self.assertLess(process_time() - began, 2)

    def test_locked(self) -> None:
        """
        Records that an engine is writing are waited for, but not for ever.
        """
        self.record("images")
        lock = self.root / "overlay-images" / "images.lock"
        receiver, sender = os.pipe()
        child = os.fork()
        if not child:
            fcntl.lockf(os.open(lock, os.O_RDWR), fcntl.LOCK_EX)
            os.write(sender, b"x")
            Event().wait(60)
            os._exit(0)
        os.read(receiver, 1)
        try:
            error = self.assertRaises(StoreError, self.read)
            self.assertIn(str(lock), str(error))
        finally:
            os.kill(child, 9)
            os.waitpid(child, 0)
        self.assertEqual(self.read(), [])
