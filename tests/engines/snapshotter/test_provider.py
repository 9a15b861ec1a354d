"""
Tests for L{xferd.engines.snapshotter.provider}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogPublisher
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.engines.snapshotter.test_service import SnapshotterCase
from tests.jobs.case import HOST
from xferd.credentials import Credentials, Secret
from xferd.engines.snapshotter.errors import SnapshotExists, SnapshotUnknown
from xferd.engines.snapshotter.labels import GID_MAP, IMAGE, MANIFEST, REF, UID_MAP
from xferd.errors import DiskFull, ManifestUnknown, StoreError
from xferd.interfaces.engines import ICredentialsOf
from xferd.interfaces.layer_source import ILayerSource, NotProvided, Promise
from xferd.interfaces.snapshots import Kind, Mount
from xferd.names import Digest
from xferd.testing.images import sample_image


@implementer(ICredentialsOf)
class Brought:
    """
    Credentials that a client has brought for one image.
    """

    def credentials_of(self, image: str) -> Mapping[str, Credentials]:
        """
        Those of user ann.
        """
        return {HOST: Credentials("ann", Secret("secret"))} if image == f"{HOST}/app:latest" else {}


@implementer(ILayerSource)
class NoSource:
    """
    A source without layers.
    """

    def __init__(self, away: bool = False) -> None:
        self.away = away

    def obtain(self, *_: Any) -> Deferred[Promise]:
        """
        There is none.
        """
        return fail(NotProvided("there is none"))


class LayerTests(SnapshotterCase):
    """
    Layers of the store.
    """

    def test_interfaces(self) -> None:
        """
        The sources provide their Interface.
        """
        verifyObject(ILayerSource, self.source)
        verifyObject(ILayerSource, NoSource())

    def labels(self, index: int, **more: str) -> dict[str, str]:
        """
        What containerd sends with a layer of the image.
        """
        return {
            REF: str(self.image.chain_ids[index]),
            IMAGE: f"{HOST}/app:latest",
            MANIFEST: str(self.image.digest),
            **more,
        }

    def name(self, index: int) -> str:
        """
        The name of a layer's snapshot, or that of the parent of the bottom one.
        """
        return str(self.image.chain_ids[index]) if index >= 0 else ""

    def ask(self, index: int, key: str = "", **more: str) -> Deferred[Sequence[Mount]]:
        """
        Prepare a layer as containerd does.
        """
        return self.snapshotter.prepare(
            key or f"default/{index}/extract-{index}", self.name(index - 1), self.labels(index, **more)
        )

    def declined(self, work: Deferred[Sequence[Mount]]) -> None:
        """
        The engine gets an ordinary snapshot.
        """
        (mount,) = self.do(work)
        self.assertTrue("rw" in mount.options or mount.type == "overlay", mount)

    def trees(self) -> None:
        """
        Make the directories of the trees that the store in memory has.
        """
        for chain_id in self.image.chain_ids:
            layer = self.store.layers.get(chain_id)
            assert layer is not None
            os.makedirs(layer.path, exist_ok=True)

    def counted(self) -> dict[str, int]:
        """
        The layers by result.
        """
        return dict(self.provider.prepares)

    def all_provided(self) -> None:
        """
        Have all layers provided.
        """
        for index in range(3):
            self.refuse(self.ask(index), SnapshotExists)
        self.trees()

    def test_pulled(self) -> None:
        """
        Each layer that the engine asks for becomes a committed snapshot by which
        containerd finds it: with the label and the parent.
        """
        self.all_provided()
        self.assertEqual(self.keys(), [self.name(n) for n in range(3)])
        for index in range(3):
            found = self.stat(self.name(index))
            self.assertEqual((found.kind, found.parent), (Kind.COMMITTED, self.name(index - 1)))
            self.assertEqual(found.labels, self.labels(index))
            text = f'labels."{REF}"=={self.name(index)},parent=="{self.name(index - 1)}"'
            self.assertEqual(self.do(self.snapshotter.all([text])), [found])
            layer = self.store.layers.get(self.image.chain_ids[index])
            assert layer is not None
            self.assertEqual(self.do(self.snapshotter.usage(found.key)).size, layer.size)
        self.assertEqual([self.gets(self.blob(n)) for n in range(3)], [1, 1, 1])
        self.assertEqual((self.counted(), self.directories()), ({"pulled": 1, "stored": 2}, []))
        self.assertEqual(self.store.images.all(), [])

    def test_container(self) -> None:
        """
        A container stands on the trees; they are kept as long as a snapshot needs them.
        """
        self.all_provided()
        (mount,) = self.prepare("container", self.name(2))
        paths = [self.store.layers.registered[chain].path for chain in reversed(self.image.chain_ids)]
        self.assertIn(f"lowerdir={':'.join(paths)}", mount.options)
        self.clock.advance(60)
        self.settle()
        collecting = self.store.gc.collect(False)
        self.assertEqual(self.do(collecting).layers, 0)
        for key in ("container", *(self.name(n) for n in (2, 1, 0))):
            self.do(self.snapshotter.remove(key))
        self.assertEqual(self.do(self.store.gc.collect(False)).layers, 3)

    def test_stored(self) -> None:
        """
        A layer that the store has is provided without a registry, also if the engine names
        no image.
        """
        self.pulled()
        before = len(self.registry.requests)
        for index in range(3):
            asked = self.snapshotter.prepare(f"k{index}", self.name(index - 1), {REF: self.name(index)})
            self.refuse(asked, SnapshotExists)
        self.assertEqual(len(self.registry.requests), before)
        self.assertEqual(self.counted(), {"stored": 3})

    def test_outdated(self) -> None:
        """
        Trees of an older xferd are unpacked again first; where that is not possible, the engine
        unpacks the layer.
        """
        self.pulled()
        self.store.trees.outdated.update(self.image.diff_ids)
        self.store.layers.outdated.update(self.image.chain_ids)
        self.declined(self.snapshotter.prepare("a", "", {REF: self.name(0)}))
        for index in range(3):
            self.refuse(self.ask(index), SnapshotExists)
        self.assertEqual(self.counted(), {"declined": 1, "pulled": 1, "stored": 2})
        self.assertEqual((self.store.trees.outdated, self.store.layers.outdated), (set(), set()))

    def test_again(self) -> None:
        """
        Another namespace gets the same snapshots.
        """
        self.all_provided()
        before = self.keys()
        for index in range(3):
            self.refuse(self.ask(index, key=f"other/{index}"), SnapshotExists)
        self.assertEqual(self.keys(), before)

    def test_at_once(self) -> None:
        """
        Concurrent calls for one layer record one snapshot.
        """
        asked = [self.ask(0, key=f"k{n}") for n in range(20)]
        for each in asked:
            self.refuse(each, SnapshotExists)
        self.assertEqual(self.keys(), [self.name(0)])
        self.assertEqual(len(self.jobs.all()), 1)

    def test_answered_when_recorded(self) -> None:
        """
        A snapshot is reported only once it is on the disk.
        """
        self.store.gate.hold("snapshots.write")
        asked = [self.ask(0, key=f"k{n}") for n in range(2)]
        self.settle()
        for each in asked:
            self.assertNoResult(each)
        self.store.gate.release("snapshots.write")
        for each in asked:
            self.refuse(each, SnapshotExists)

    def test_layer_is_lost(self) -> None:
        """
        A layer that the store has lost is pulled again when the engine asks for it.
        """
        self.all_provided()
        self.clock.advance(60)
        self.settle()
        del self.store.layers.registered[self.image.chain_ids[2]]
        self.refuse(self.ask(2), SnapshotExists)
        self.assertIsNotNone(self.store.layers.get(self.image.chain_ids[2]))

    def test_one_sentence(self) -> None:
        """
        The log says once for each image why the engine unpacks it.
        """
        messages = self.logged()
        self.declined(self.snapshotter.prepare("a", "", {REF: self.name(0)}))
        self.do(self.snapshotter.commit("own", "a", {}, ""))
        self.declined(self.snapshotter.prepare("b", "own", self.labels(1)))
        (message,) = messages
        self.assertEqual(
            message,
            f"containerd main fetches and unpacks {self.name(0)} of an image itself: the store has no such "
            "layer, and the engine names no image to pull it with",
        )

    def logged(self) -> list[str]:
        """
        What the snapshotter logs from now on, for people to see.
        """
        found: list[str] = []

        def observe(event: Any) -> None:
            if event["log_level"] >= LogLevel.info and "unpacks" in event["log_format"]:
                found.append(formatEvent(event))

        observer = cast("ILogObserver", observe)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return found

    def test_job_fails(self) -> None:
        """
        If the job fails, the engine unpacks by itself, this layer and those above.
        """
        self.registry.gate.fail("manifest", ManifestUnknown("there is none", host=HOST), times=9)
        self.declined(self.ask(0, key="extract"))
        self.do(self.snapshotter.commit("default/own", "extract", self.labels(0), ""))
        self.registry.gate.mend()
        above = self.snapshotter.prepare("above", "default/own", self.labels(1))
        self.declined(above)
        self.assertEqual(self.counted(), {"declined": 2})

    def test_middle_fails(self) -> None:
        """
        What is on top of provided layers can be unpacked by the engine.
        """
        self.refuse(self.ask(0), SnapshotExists)
        self.clock.advance(60)
        self.settle()
        self.trees()
        self.provider._source = NoSource()
        (mount,) = self.do(self.ask(1))
        self.assertIn(f"lowerdir={self.store.layers.registered[self.image.chain_ids[0]].path}", mount.options)

    def test_no_image(self) -> None:
        """
        A layer that the store lacks, and for which no image is named, is declined.
        """
        self.declined(self.snapshotter.prepare("a", "", {REF: self.name(0)}))
        self.declined(self.snapshotter.prepare("b", "", {REF: self.name(0), IMAGE: "A B", MANIFEST: "x"}))
        self.assertEqual(self.jobs.all(), [])

    def test_wrong_parent(self) -> None:
        """
        A layer of the store that stands on another one than the engine says is declined.
        """
        self.pulled()
        self.refuse(self.ask(0), SnapshotExists)
        self.trees()
        self.declined(self.snapshotter.prepare("a", "", self.labels(1)))
        self.declined(self.snapshotter.prepare("b", self.name(0), self.labels(2)))
        self.refuse(self.snapshotter.prepare("c", "x", self.labels(1)), SnapshotUnknown)

    def test_name_in_use(self) -> None:
        """
        The same if another snapshot has its name.
        """
        self.pulled()
        self.committed(self.name(0))
        self.declined(self.ask(0))

    def test_away(self) -> None:
        """
        While the daemon is away, a layer that is a snapshot already is provided, and no
        other one.
        """
        self.refuse(self.ask(0), SnapshotExists)
        self.trees()
        self.provider._source = NoSource(away=True)
        self.refuse(self.ask(0, key="other/0"), SnapshotExists)
        self.declined(self.ask(1))
        self.assertEqual(self.counted(), {"pulled": 1, "stored": 1, "declined": 1})

    def test_isolated_and_away(self) -> None:
        """
        Where clients have to prove that they may have a layer, not even that one is.
        """
        self.refuse(self.ask(0), SnapshotExists)
        self.snapshotter = self.make_snapshotter(isolated=True)
        self.provider._source = NoSource(away=True)
        self.declined(self.ask(0, key="other/0"))

    def test_cancelled(self) -> None:
        """
        Who does not wait any more ends the job, and gets no snapshot.
        """
        self.registry.gate.hold("open", self.blob(0))
        asked = self.ask(0)
        self.settle()
        asked.cancel()
        self.refuse(asked, CancelledError)
        self.assertEqual([job["state"] for job in self.jobs.all()], ["cancelled"])
        self.assertEqual(self.keys(), [])
        early = self.ask(0)
        early.cancel()
        self.refuse(early, CancelledError)
        self.assert_idle()

    def test_cancelled_late(self) -> None:
        """
        A layer that is being recorded is recorded.
        """
        self.store.gate.hold("snapshots.write")
        asked = self.ask(0)
        self.settle()
        asked.cancel()
        self.store.gate.release("snapshots.write")
        self.refuse(asked, CancelledError)
        self.assertEqual(self.keys(), [self.name(0)])

    def collecting(self, release: bool) -> Deferred[Sequence[Mount]]:
        """
        Ask for a layer, and collect garbage before it is recorded.

        @param release: whether the lease on the layer ends before.
        """
        self.store.gate.hold("snapshots.write")
        asked = self.ask(0)
        self.settle()
        if release:
            asked.cancel()
        self.clock.advance(60)
        self.settle()
        self.do(self.store.gc.collect(False))
        self.assertIsNotNone(self.store.layers.get(self.image.chain_ids[0]))
        self.store.gate.release("snapshots.write")
        return asked

    def test_collected_meanwhile(self) -> None:
        """
        A collection that begins before a layer is recorded spares the layer; as it has not
        seen the record, the layer is asked for again.
        """
        self.refuse(self.collecting(False), SnapshotExists)
        self.assertEqual(self.keys(), [self.name(0)])
        self.do(self.store.gc.collect(False))
        self.assertIsNotNone(self.store.layers.get(self.image.chain_ids[0]))

    def test_collected_and_cancelled(self) -> None:
        """
        A layer whose requests have all been cancelled is not recorded.
        """
        self.refuse(self.collecting(True), CancelledError)
        self.assertEqual(self.keys(), [])

    def test_not_recorded(self) -> None:
        """
        If the disk has no room for the record, the engine unpacks by itself.
        """
        self.store.gate.fail("snapshots.write", DiskFull("full"))
        self.declined(self.ask(0))
        self.assertEqual(self.counted(), {"declined": 1})

    def test_maps_of_images(self) -> None:
        """
        An image cannot choose the owners of its files by labels.
        """
        maps = {UID_MAP: "0:5:1", GID_MAP: "0:5:1"}
        self.refuse(self.ask(0, **maps), SnapshotExists)
        self.assertEqual(self.stat(self.name(0)).labels, self.labels(0))
        self.provider._source = NoSource()
        self.trees_of_first()
        self.declined(self.ask(1, key="own", **maps))
        self.assertEqual(self.stat("own").labels, self.labels(1))

    def trees_of_first(self) -> None:
        """
        Make the directory of the bottom layer.
        """
        os.makedirs(self.store.layers.registered[self.image.chain_ids[0]].path)

    def test_gone(self) -> None:
        """
        Without its layer, a snapshot's mounts are an error with a remedy.
        """
        self.all_provided()
        self.prepare("container", self.name(2))
        del self.store.layers.registered[self.image.chain_ids[1]]
        self.assertIn("pull it again", self.refuse(self.snapshotter.mounts("container"), StoreError))

    def test_isolated(self) -> None:
        """
        No layer is provided where clients have to prove that they may have it.
        """
        self.pulled()
        self.snapshotter = self.make_snapshotter(isolated=True)
        self.declined(self.ask(0))

    def test_credentials(self) -> None:
        """
        The credentials that a client has brought for the image are used.
        """
        private = self.registries.registry(HOST, "ann")
        self.image = sample_image(2, seed=5)
        private.add(self.image, "app")
        self.snapshotter = self.make_snapshotter(credentials=Brought())
        self.refuse(self.ask(0), SnapshotExists)
        self.assertEqual(private.count("blob", self.blob(0)), 1)

    def test_unknown_label(self) -> None:
        """
        A reference that is no chain ID makes an ordinary snapshot, which counts as none.
        """
        self.declined(self.snapshotter.prepare("a", "", {REF: "x"}))
        self.declined(self.snapshotter.prepare("b", "", {REF: str(Digest.of(b"x"))}))
        self.assertEqual(self.counted(), {"declined": 1})
