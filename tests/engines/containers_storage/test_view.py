"""
Tests for L{xferd.engines.containers_storage.view}.

The module is long because each kind of change of the store is followed to the files that
engines read.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from tests.engines.containers_storage.samples import layer_ids
from tests.store.support import Sample, StoreTestCase, pull, sample
from xferd.engines.containers_storage.needs import HELD
from xferd.engines.containers_storage.view import FRESH, RETRY, SHOWN, StorageView, ViewUser
from xferd.engines.engines import Engines, make_engines
from xferd.engines.settings import ContainersStorageSettings, EnginesSettings
from xferd.errors import StoreError
from xferd.interfaces.collection import Freed, ILayerUser
from xferd.interfaces.engines import EngineContext, EngineFigures, EngineJSON, IEngine, ILateAnswers
from xferd.interfaces.jobs import IJobs
from xferd.interfaces.reactor import IReactor
from xferd.names import Digest, Reference, Repository
from xferd.oci import Document
from xferd.testing.inline_threads import InlinePool
from xferd.unpack.rights import Rights


class ViewTests(StoreTestCase):
    """
    The view of a store.
    """

    def setUp(self) -> None:
        """
        Make a view, with an engine that has recorded nothing.
        """
        super().setUp()
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir()
        self.root = self.place / "root"
        self.one, self.two = sample("one", b"base", b"1"), sample("two", b"base", b"2")
        self.view = self.make_view()

    def make_view(self) -> StorageView:
        """
        Make a view.
        """
        self.pool = InlinePool()
        settings = ContainersStorageSettings(str(self.place / "view"), (str(self.root),))
        return StorageView(settings, self.context(), self.pool, Rights.ROOT)

    def context(self) -> EngineContext:
        """
        The parts of the daemon that it uses.
        """
        path = os.path.abspath(self.path)
        return EngineContext(
            cast(IReactor, self.reactor), self.wall_clock, cast(IJobs, None), self.store, path
        )

    def start(self) -> None:
        """
        Start the view, and stop it at the end.
        """
        self.successResultOf(self.view.start())
        self.addCleanup(self.view.stop)

    def wait(self, result: Deferred[Any]) -> Any:
        """
        Let the reactor turn, and return a result.
        """
        for _ in range(20):
            self.reactor.advance(0)
        return self.successResultOf(result)

    def pull(self, *samples: Sample) -> None:
        """
        Pull images.
        """
        for each in samples:
            self.run_now(pull(self.store, each))

    def records(self, name: str) -> list[dict[str, Any]]:
        """
        The records of layers or images in the view.
        """
        path = self.place / "view" / f"overlay-{name}" / f"{name}.json"
        found: list[dict[str, Any]] = json.loads(path.read_bytes())
        return found

    def names(self) -> list[str]:
        """
        The names in the view.
        """
        return sorted(name for image in self.records("images") for name in image["names"])

    def shown(self) -> set[Digest]:
        """
        The diff IDs of the layers in the view.
        """
        return {Digest.parse(layer["diff-digest"]) for layer in self.records("layers")}

    def engine(self, name: str, *entries: dict[str, Any]) -> None:
        """
        Record something as an engine does.
        """
        place = self.root / f"overlay-{name}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.lock").touch()
        (place / f"{name}.json").write_text(json.dumps(entries))

    def run_container(self, wanted: Sample, own_image: bool = False) -> None:
        """
        Have an engine run a container.
        """
        top, image = layer_ids(wanted.diff_ids)[-1], wanted.image.config.digest.hex
        self.engine("images", *([{"id": image, "names": ["own"], "layer": top}] if own_image else []))
        self.engine("layers", {"id": "rw", "parent": top})
        self.engine("containers", {"id": "1", "names": ["web"], "image": image, "layer": "rw"})

    def remove(self, wanted: Sample) -> Freed:
        """
        Remove an image as a client does.
        """
        self.wait(self.store.images.remove(wanted.image.reference))
        freed: Freed = self.wait(self.store.gc.collect(False))
        return freed

    def describe(self) -> EngineJSON:
        """
        The view, as the API shows it.
        """
        found: EngineJSON = self.successResultOf(self.view.describe())
        return found

    def test_interfaces(self) -> None:
        """
        It is an engine, has manifests wait, and keeps layers.
        """
        verifyObject(ILateAnswers, self.view)
        verifyObject(IEngine, self.view)
        verifyObject(ILayerUser, ViewUser(self.view))

    def test_setting(self) -> None:
        """
        A path in the settings is what makes a view.
        """
        settings = ContainersStorageSettings(str(self.place / "view"))
        for given, paths in ((ContainersStorageSettings(), []), (settings, [settings.path])):
            engines = make_engines(EnginesSettings(containers_storage=given), self.context(), "")
            self.assertEqual([engine.path for engine in engines], paths)
            self.assertEqual(Engines(engines).late_answers, engines[0] if engines else None)

    def test_start(self) -> None:
        """
        The images of the store are shown at start, and later ones as they come.
        """
        self.pull(self.one)
        self.start()
        self.assertEqual(self.names(), ["docker.io/library/one:latest"])
        self.assertEqual(self.shown(), {*self.one.diff_ids})
        self.pull(self.two)
        self.assertEqual(self.names(), [f"docker.io/library/{each}:latest" for each in ("one", "two")])
        self.assertEqual(self.shown(), {*self.one.diff_ids, *self.two.diff_ids})
        self.assertEqual(self.view.figures(), EngineFigures(layers=3))
        self.assertTrue(self.view.shows(cast(Digest, self.two.image.chain_id)))

    def test_busy(self) -> None:
        """
        The end of a pull waits until the view has the image, for a short time.
        """
        self.start()
        self.pull(self.one)
        again = [evolve(self.one.image, reference=Reference.parse(f"x:{n}")) for n in (1, 2)]
        self.pool.held = True
        puts = [self.store.images.put(each) for each in again]
        self.reactor.advance(SHOWN / 2)
        for put in puts:
            self.assertNoResult(put)
        self.reactor.advance(SHOWN / 2)
        for put in puts:
            self.successResultOf(put)
        self.assertEqual(self.names(), ["docker.io/library/one:latest"])
        late = self.store.images.put(evolve(self.one.image, reference=Reference.parse("x:3")))
        self.pool.release()
        self.wait(late)
        self.assertEqual(len(self.names()), 4)

    def test_busy_with_others(self) -> None:
        """
        The end of a pull does not wait for the images of later ones.
        """
        self.start()
        self.pull(self.one)
        again = [evolve(self.one.image, reference=Reference.parse(f"x:{n}")) for n in (1, 2)]
        self.pool.held = True
        first = self.store.images.put(again[0])
        self.reactor.advance(0)
        second = self.store.images.put(again[1])
        while not first.called:
            self.assertTrue(self.pool.waiting)
            self.pool.step()
            self.reactor.advance(0)
        self.successResultOf(first)
        self.assertNoResult(second)
        self.pool.release()
        self.wait(second)

    def test_names(self) -> None:
        """
        A further name joins the record, and leaves it.
        """
        self.start()
        self.pull(self.one)
        again = evolve(self.one.image, reference=Reference.parse("x:2"))
        self.wait(self.store.images.put(again))
        self.assertEqual(self.names(), ["docker.io/library/one:latest", "docker.io/library/x:2"])
        self.wait(self.store.images.remove(self.one.image.reference))
        self.assertEqual(self.names(), ["docker.io/library/x:2"])

    def test_removed(self) -> None:
        """
        An image that no engine needs goes with its layers.
        """
        self.start()
        self.pull(self.one, self.two)
        freed = self.remove(self.one)
        self.assertEqual((freed.layers, freed.trees, freed.blobs), (1, 1, 3))
        self.assertEqual(self.names(), ["docker.io/library/two:latest"])
        self.assertEqual(self.shown(), {*self.two.diff_ids})

    def test_container(self) -> None:
        """
        The layers of a container stay, and the image without its name.  They go with the
        container.
        """
        self.start()
        self.pull(self.one)
        self.run_container(self.one)
        self.assertEqual(self.remove(self.one), Freed())
        self.assertEqual(self.shown(), {*self.one.diff_ids})
        self.assertEqual([image["names"] for image in self.records("images")], [[]])
        (described,) = self.describe()["images"]
        self.assertEqual((described["image"], described["containers"]), ("", 1))
        self.assertEqual(
            self.view.needs.used()[cast(Digest, self.one.image.chain_id)], [f"container web of {self.root}"]
        )
        self.engine("containers")
        self.engine("layers")
        freed = self.wait(self.store.gc.collect(False))
        self.assertEqual((freed.layers, freed.trees, freed.blobs), (2, 2, 4))
        self.assertEqual((self.records("images"), self.records("layers")), ([], []))

    def test_own_image(self) -> None:
        """
        An image that the engine has a record of itself is not shown without a name; its
        layers stay.
        """
        self.start()
        self.pull(self.one)
        self.run_container(self.one, own_image=True)
        self.assertEqual(self.remove(self.one).layers, 0)
        self.assertEqual(self.shown(), {*self.one.diff_ids})
        self.assertEqual(self.records("images"), [])

    def test_moved_name(self) -> None:
        """
        A name that moves to another image leaves the layers of containers in the view.
        """
        self.start()
        self.pull(self.one)
        self.run_container(self.one)
        moved = evolve(self.two.image, reference=self.one.image.reference)
        self.pull(self.two)
        self.wait(self.store.images.put(moved))
        self.assertEqual(self.shown(), {*self.one.diff_ids, *self.two.diff_ids})

    def test_restart(self) -> None:
        """
        After a restart, all is as it was, also what has no name.
        """
        self.start()
        self.pull(self.one, self.two)
        self.run_container(self.one)
        self.remove(self.one)
        before = self.records("layers"), self.records("images")
        self.successResultOf(self.view.stop())
        self.reopen()
        self.view = self.make_view()
        self.start()
        self.assertEqual((self.records("layers"), self.records("images")), before)
        self.assertEqual(self.wait(self.store.gc.collect(False)), Freed())

    def test_before_the_start(self) -> None:
        """
        What engines need stays while the daemon is starting, and if the view is never
        started; after its end nothing is collected.
        """
        self.start()
        self.pull(self.one)
        self.run_container(self.one)
        self.remove(self.one)
        self.successResultOf(self.view.stop())
        self.reopen()
        self.view = self.make_view()
        self.assertEqual(self.wait(self.store.gc.collect(False)), Freed())
        self.engine("containers")
        self.engine("layers")
        self.assertEqual(self.wait(self.store.gc.collect(True)).layers, 2)
        self.successResultOf(self.view.stop())
        error = self.failureResultOf(self.store.gc.collect(False), StoreError)
        self.assertIn("is not served", str(error.value))

    def test_while_leaving(self) -> None:
        """
        A collection that runs while a name goes spares what the view still shows.
        """
        self.start()
        self.pull(self.one)
        self.pool.held = True
        removed = self.store.images.remove(self.one.image.reference)
        self.successResultOf(removed)
        image = self.one.image
        self.assertTrue({image.chain_id, image.config.digest} <= self.view.needs.used().keys())
        self.pool.release()
        self.assertEqual(self.view.needs.used(), {})

    def test_held(self) -> None:
        """
        Layers that an engine is about to use stay for a while, and are shown.
        """
        self.start()
        self.pull(self.one)
        self.view.needs.hold(cast(Digest, self.one.image.chain_id), "a pull of one")
        self.assertEqual(self.remove(self.one).layers, 0)
        self.assertEqual(self.shown(), {*self.one.diff_ids})
        self.reactor.advance(HELD)
        self.assertEqual(self.wait(self.store.gc.collect(False)).layers, 2)
        self.assertEqual(self.shown(), set())

    def test_shared_tree(self) -> None:
        """
        A tree in two chains has a directory for each.
        """
        self.pull(sample("a", b"x", b"same"), sample("b", b"y", b"same"))
        self.start()
        trees = [layer for layer in self.shown() if layer == Digest.of(b"same")]
        self.assertEqual(trees, [Digest.of(b"same")])
        overlay = self.place / "view" / "overlay"
        places = {os.path.realpath(overlay / layer["id"]) for layer in self.records("layers")}
        self.assertEqual(len(places), 4)

    def test_unreadable_engine(self) -> None:
        """
        While it is not known what an engine needs, all that the view has shown stays, with
        the reason, and the rest goes on: new images are shown, and others are collected.
        """
        self.start()
        self.pull(self.one)
        self.run_container(self.one)
        records = self.root / "overlay-containers" / "containers.json"
        intact = records.read_text()
        records.write_text("{")
        freed = self.remove(self.one)
        self.assertEqual((freed.layers, freed.trees), (0, 0))
        self.assertEqual(self.names(), [])
        self.assertEqual(self.shown(), {*self.one.diff_ids})
        reason = f"the engine of {self.root}, whose records cannot be read"
        self.assertIn(reason, self.view.needs.used()[cast(Digest, self.one.image.chain_id)])
        described = self.describe()
        self.assertEqual(described["state"], "serving")
        self.assertIn("containers.json", cast(str, described["problem"]))
        self.pull(self.two)
        self.assertEqual(self.names(), ["docker.io/library/two:latest"])
        self.remove(self.two)
        self.assertEqual(self.shown(), {*self.one.diff_ids, *self.two.diff_ids})
        records.write_text(intact)
        self.reactor.advance(RETRY)
        self.assertEqual(self.shown(), {*self.one.diff_ids})
        self.assertEqual([image["names"] for image in self.records("images")], [[]])
        self.assertIsNone(self.describe()["problem"])
        self.assertEqual(self.wait(self.store.gc.collect(False)).layers, 1)

    def test_unreadable_at_start(self) -> None:
        """
        The same for what an earlier daemon has shown.
        """
        self.start()
        self.pull(self.one, self.two)
        self.run_container(self.one)
        self.remove(self.one)
        self.successResultOf(self.view.stop())
        self.reopen()
        records = self.root / "overlay-containers" / "containers.json"
        intact = records.read_text()
        records.write_text("{")
        self.view = self.make_view()
        self.start()
        self.assertEqual(self.wait(self.store.gc.collect(False)), Freed())
        self.assertEqual(self.shown(), {*self.one.diff_ids, *self.two.diff_ids})
        self.assertEqual(sorted(map(len, (each["names"] for each in self.records("images")))), [0, 1])
        records.write_text(intact)
        self.assertEqual(self.wait(self.store.gc.collect(False)), Freed())

    def test_unwritable(self) -> None:
        """
        While the view cannot be written, collections go on, and spare what it has shown.
        """
        self.start()
        self.pull(self.one, self.two)
        lock = self.place / "view" / "overlay-images" / "images.lock"
        lock.unlink()
        lock.mkdir()
        freed = self.remove(self.one)
        self.assertEqual((freed.layers, freed.trees), (0, 0))
        self.assertEqual(self.describe()["state"], "failed")
        top = self.view.needs.used()[cast(Digest, self.one.image.chain_id)]
        self.assertIn("the view, which cannot be written", top)
        lock.rmdir()
        self.reactor.advance(RETRY)
        self.assertEqual(self.wait(self.store.gc.collect(False)).layers, 1)
        self.assertIsNone(self.describe()["problem"])

    def test_bad_path(self) -> None:
        """
        A path that is an engine's storage is refused, until it is mended.
        """
        other = self.place / "view" / "overlay-containers"
        other.mkdir(parents=True)
        self.start()
        self.assertIn("is the storage of an engine", cast(str, self.describe()["problem"]))
        self.failureResultOf(self.store.gc.collect(False), StoreError)
        other.rmdir()
        self.reactor.advance(RETRY)
        self.assertIsNone(self.describe()["problem"])
        self.assertEqual(self.names(), [])

    def test_missing_documents(self) -> None:
        """
        An image whose manifest is gone is left out, with the remedy; others are shown.
        """
        self.start()
        self.pull(self.one)
        os.unlink(self.store.blobs.path(self.one.image.manifest.digest))
        self.pull(self.two)
        self.assertEqual(self.names(), ["docker.io/library/two:latest"])
        (left_out,) = self.describe()["left_out"]
        self.assertIn("'xferctl pull one:latest' fetches it", left_out["reason"])

    def test_describe(self) -> None:
        """
        The description has the images and containers of engines.
        """
        self.assertEqual(self.describe()["state"], "stopped")
        self.start()
        self.pull(self.one)
        self.run_container(self.one)
        artifact = evolve(
            self.one.image,
            reference=Reference.parse("chart"),
            config=evolve(self.one.image.config, media_type="a/chart"),
        )
        self.wait(self.store.images.put(artifact))
        self.assertEqual(
            self.describe(),
            {
                "name": "",
                "kind": "containers-storage",
                "state": "serving",
                "problem": None,
                "path": str(self.place / "view"),
                "snapshots": 0,
                "layers": 2,
                "size": 5,
                "images": [
                    {
                        "image": "docker.io/library/one:latest",
                        "layers": 2,
                        "containers": 1,
                        "by": str(self.root),
                    }
                ],
                "left_out": [
                    {"image": "docker.io/library/chart:latest", "reason": "it is an artifact, not an image"}
                ],
            },
        )

    def test_fresh_description(self) -> None:
        """
        The description has what engines have recorded since, also when that cannot be read
        now.  What is not recorded any more stays in the view until that is written.
        """
        self.start()
        self.pull(self.one)
        self.run_container(self.one)
        self.assertEqual(self.describe()["images"], [])
        self.reactor.advance(FRESH)
        self.assertEqual(self.describe()["layers"], 2)
        (self.root / "overlay-images" / "images.json").write_text("{")
        self.reactor.advance(FRESH)
        self.assertEqual((self.describe()["layers"], self.describe()["state"]), (2, "serving"))
        self.run_container(self.one)
        self.remove(self.one)
        self.engine("containers")
        self.engine("layers")
        self.reactor.advance(FRESH)
        self.assertEqual(self.describe()["layers"], 0)
        self.assertIn(cast(Digest, self.one.image.chain_id), self.view.needs.used())
        self.assertEqual(self.wait(self.store.gc.collect(False)).layers, 2)

    def test_late_answers(self) -> None:
        """
        Engines of named users wait while the view is served and up to date, for what is not
        in the view yet.
        """
        self.pull(self.one)
        self.reopen()
        settings = ContainersStorageSettings(str(self.place / "view"), (str(self.root),), ("0",))
        self.view = StorageView(settings, self.context(), InlinePool(), Rights.ROOT)
        self.assertFalse(self.view.waits(0, "libpod/4.3.1"))
        self.start()
        self.assertTrue(self.view.waits(0, "libpod/4.3.1"))
        data = self.one.documents[self.one.image.manifest.digest]
        document = Document(self.one.image.manifest.media_type, data, self.one.image.manifest.digest)
        self.wait(self.view.ready(Repository("docker.io", "library/one"), document, "podman"))
        self.assertEqual(self.view.figures(), EngineFigures(layers=2, prepares={"stored": 2}))
        self.assertEqual(self.remove(self.one).layers, 0)
        self.assertEqual(self.shown(), {*self.one.diff_ids})
        self.engine("images")
        (self.root / "overlay-images" / "images.json").write_text("{")
        self.wait(self.view.refresh())
        self.assertTrue(self.view.waits(0, "libpod/4.3.1"))
        (self.place / "view" / "overlay-layers" / "layers.lock").unlink()
        (self.place / "view" / "overlay-layers" / "layers.lock").mkdir()
        self.pull(self.two)
        self.assertFalse(self.view.waits(0, "libpod/4.3.1"))

    def test_stop(self) -> None:
        """
        After the stop, names change and nothing is written; stopping twice is nothing.
        """
        self.start()
        for _ in range(2):
            self.successResultOf(self.view.stop())
        self.pull(self.one)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.describe()["state"], "stopped")
