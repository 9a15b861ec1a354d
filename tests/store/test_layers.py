"""
Tests for L{xferd.store.layers}.

The module is long because layers have two forms, whose changes and repairs differ.
"""

from __future__ import annotations

import errno
import json
import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.store.conformance.base import DATA, DIGEST
from tests.store.conformance.trees import LayersConformance
from tests.store.support import LayerUser, StoreTestCase, layer_descriptor, plant
from xferd.errors import BadLayer, StoreError
from xferd.interfaces.store import Layer, Unpacked
from xferd.interfaces.unpack import UnpackLimits
from xferd.names import Digest
from xferd.store import layer_records
from xferd.store.layer_records import Record
from xferd.store.trees import hard_links, variants


class LayersTests(LayersConformance, StoreTestCase):
    """
    Records on disk.
    """

    def register(self, parent: Layer | None, blob: bytes) -> Layer:
        """
        Put a tree on a layer.
        """
        below = None if parent is None else parent.chain_id
        layer: Layer = self.successResultOf(
            self.store.layers.register(below, Digest.of(blob), layer_descriptor(blob))
        )
        return layer

    def chain(self, *blobs: bytes) -> list[Layer]:
        """
        Register a chain.
        """
        chain: list[Layer] = []
        for blob in blobs:
            self.run_now(plant(self.store, blob))
            chain.append(self.register(chain[-1] if chain else None, blob))
        return chain

    def record(self, layer: Layer) -> str:
        """
        The file of a layer.
        """
        return os.path.join(self.path, "layers", "sha256", layer.chain_id.hex)

    def test_over_a_restart(self) -> None:
        """
        Layers are there after a restart, and their trees too.
        """
        chain = self.chain(b"one", b"two")
        self.reopen()
        self.assertEqual([self.store.layers.get(layer.chain_id) for layer in chain], chain)
        self.assertTrue(os.path.exists(os.path.join(chain[1].path, "content")))

    def test_blobs_are_remembered(self) -> None:
        """
        A record names every blob that the layer is known by, once.
        """
        (layer,) = self.chain(DATA)
        for blob in (b"gzip", b"zstd", b"gzip"):
            self.successResultOf(self.store.layers.register(None, DIGEST, layer_descriptor(blob)))
        with open(self.record(layer), "rb") as file:
            record = Record.from_json(file.read())
        self.assertEqual(record.blobs, tuple(layer_descriptor(b) for b in (DATA, b"gzip", b"zstd")))

    def test_at_once(self) -> None:
        """
        A layer that is registered twice at the same time is one, known by
        both blobs.
        """
        self.run_now(plant(self.store, DATA, b"a"))
        self.pools.disk.held = True
        registering = [
            self.store.layers.register(None, DIGEST, layer_descriptor(blob)) for blob in (b"gzip", b"zstd")
        ]
        self.pools.disk.release()
        found = [self.successResultOf(each) for each in registering]
        self.assertEqual(found[0], found[1])
        with open(self.record(found[0]), "rb") as file:
            self.assertEqual(len(Record.from_json(file.read()).blobs), 2)

    def test_both_records_at_once(self) -> None:
        """
        The same while its record is being written.
        """
        self.run_now(plant(self.store, DATA))
        self.pools.disk.held = True
        registering = [
            self.store.layers.register(None, DIGEST, layer_descriptor(blob)) for blob in (b"gzip", b"zstd")
        ]
        self.pools.disk.release()
        found = [self.successResultOf(each) for each in registering]
        with open(self.record(found[0]), "rb") as file:
            self.assertEqual(len(Record.from_json(file.read()).blobs), 2)

    def test_cancel(self) -> None:
        """
        A registration that is cancelled is carried through.
        """
        self.run_now(plant(self.store, DATA))
        self.pools.disk.held = True
        registering = self.store.layers.register(None, DIGEST, layer_descriptor(DATA))
        registering.cancel()
        self.assertNoResult(registering)
        self.pools.disk.release()
        self.failureResultOf(registering, CancelledError)
        self.assertIsNotNone(self.store.layers.get(DIGEST))

    def test_disk_refuses(self) -> None:
        """
        A layer whose record cannot be written is not registered.
        """

        def refuse(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        self.run_now(plant(self.store, DATA))
        self.patch(layer_records, "write_file", refuse)
        waiting = self.store.layers.register(None, DIGEST, layer_descriptor(DATA))
        reason = self.failureResultOf(waiting, StoreError)
        self.assertEqual(str(reason.value), f"cannot register the layer {DIGEST}: Read-only file system")
        self.assertIsNone(self.store.layers.get(DIGEST))

    def test_broken(self) -> None:
        """
        Records that are damaged or misnamed, or whose tree or parent is
        missing, are removed at the start with all layers on top of them.
        """
        good = self.chain(b"one", b"two")
        treeless = self.chain(b"three", b"four", b"five")
        os.rename(os.path.dirname(treeless[1].path), os.path.join(self.path, "moved"))
        damaged = self.chain(b"six", b"seven")
        with open(self.record(damaged[0]), "r+b") as file:
            file.truncate(20)
        misnamed = self.record(good[0])[:-1] + "?"
        with open(misnamed, "wb") as file:
            file.write(b"{}")
        os.link(self.record(good[1]), self.record(good[0])[:-2] + "!!")
        self.reopen()
        kept = [layer for layer in (*good, *treeless, *damaged) if self.store.layers.get(layer.chain_id)]
        self.assertEqual(kept, [*good, treeless[0]])
        self.assertEqual(
            sorted(os.listdir(os.path.join(self.path, "layers", "sha256"))),
            sorted(layer.chain_id.hex for layer in kept),
        )

    def test_damage(self) -> None:
        """
        A record that does not fit together is damaged.
        """
        (layer,) = self.chain(DATA)
        with open(self.record(layer), "rb") as file:
            good = json.load(file)
        other = str(Digest.of(b"other"))
        for damage in (
            {"parent": other},
            {"chain_id": other},
            {"tree": "sha256/../../etc"},
            {"tree": f"sha256/{Digest.of(b'other').hex}"},
            {"blobs": [3]},
            {"size": "many"},
            {"diff_id": "x"},
        ):
            self.assertRaises(ValueError, Record.from_json, json.dumps({**good, **damage}).encode())


class SeparateTests(StoreTestCase):
    """
    Layers with a directory of their own.
    """

    def setUp(self) -> None:
        """
        Register a tree on two bottom layers.
        """
        super().setUp()
        for blob in (b"one", b"two"):
            self.run_now(plant(self.store, blob))
        self.run_now(plant(self.store, DATA, b"a/b"))
        self.one, self.two = self.top(b"one"), self.top(b"two")

    def top(self, below: bytes | None) -> Layer:
        """
        Register the tree on a bottom layer, or as one.
        """
        parent = None
        if below is not None:
            parent = self.successResultOf(
                self.store.layers.register(None, Digest.of(below), layer_descriptor(below))
            ).chain_id
        return self.successResultOf(self.store.layers.register(parent, DIGEST, layer_descriptor(DATA)))

    def separate(self, layer: Layer) -> Layer:
        """
        Give a layer a directory of its own.
        """
        separated = self.successResultOf(self.store.layers.separate(layer.chain_id))
        self.assertEqual(self.store.layers.get(layer.chain_id), separated)
        return separated

    def held(self, path: str) -> dict[str, int]:
        """
        The files below a directory with their inodes.
        """
        return {
            os.path.relpath(os.path.join(directory, name), path): os.stat(
                os.path.join(directory, name)
            ).st_ino
            for directory, _, names in os.walk(path)
            for name in names
        }

    def trees(self) -> list[str]:
        """
        The directories of the tree.
        """
        names = os.listdir(os.path.join(self.path, "trees", "sha256"))
        return sorted(name for name in names if name.startswith(DIGEST.hex))

    def test_copy(self) -> None:
        """
        The second layer gets another directory with the same files, whose
        directories have the same metadata; it keeps that over a restart.
        """
        self.assertEqual(self.one.path, self.two.path)
        inner = os.path.join(self.one.path, "a")
        os.chmod(inner, 0o2711)
        os.utime(inner, ns=(0, 7 * 10**9))
        os.setxattr(inner, "user.name", b"value")
        two = self.separate(self.two)
        self.assertNotEqual(two.path, self.one.path)
        self.assertEqual(self.held(two.path), self.held(self.one.path))
        found = os.stat(os.path.join(two.path, "a"))
        self.assertEqual((found.st_mode & 0o7777, found.st_mtime_ns), (0o2711, 7 * 10**9))
        self.assertEqual(os.getxattr(os.path.join(two.path, "a"), "user.name"), b"value")
        self.assertEqual(os.stat(two.path).st_mode, os.stat(self.one.path).st_mode)
        with open(os.path.join(os.path.dirname(two.path), "link"), "w") as file:
            file.write("ABC")
        self.reopen()
        self.assertEqual(self.separate(self.two), two)
        self.assertEqual(self.separate(self.one), self.one)
        self.assertTrue(os.path.exists(os.path.join(os.path.dirname(two.path), "link")))
        self.assertEqual(len(self.trees()), 2)

    def test_first(self) -> None:
        """
        The layer that was registered first has the directory, also if another
        one asks before, and writes nothing.
        """
        self.separate(self.two)
        self.pools.disk.held = True
        self.assertEqual(self.separate(self.one).path, self.one.path)
        self.pools.disk.release()

    def test_owner_gone(self) -> None:
        """
        When the first layer is removed, another one gets its directory.
        """
        self.store.layers.forget(self.one.chain_id)
        self.assertEqual(self.separate(self.two), self.two)
        three = self.separate(self.top(None))
        self.assertNotEqual(three.path, self.two.path)

    def test_older_records(self) -> None:
        """
        Layers that an older daemon has registered own nothing: the first that
        asks gets the directory.
        """
        for layer in (self.one, self.two):
            path = os.path.join(self.path, "layers", "sha256", layer.chain_id.hex)
            with open(path) as file:
                value = json.load(file)
            del value["owns"]
            with open(path, "w") as file:
                json.dump(value, file)
        self.reopen()
        self.assertEqual(self.separate(self.two), self.two)
        self.assertNotEqual(self.separate(self.one).path, self.one.path)

    def test_two_owners(self) -> None:
        """
        If two records claim a directory, one of them gets another.
        """
        path = os.path.join(self.path, "layers", "sha256", self.two.chain_id.hex)
        with open(path) as file:
            value = json.load(file)
        with open(path, "w") as file:
            json.dump({**value, "owns": True}, file)
        self.reopen()
        self.assertNotEqual(self.separate(self.one).path, self.separate(self.two).path)

    def test_collected(self) -> None:
        """
        A copy goes with its layer, and its directories count.
        """
        self.separate(self.two)
        total = self.successResultOf(self.store.usage())["trees"]
        self.store.layers.forget(self.two.chain_id)
        end = self.store.gc.lease()
        self.store.layers.get(self.one.chain_id)
        freed = self.successResultOf(self.store.gc.collect())
        # The root, a and a/b; and the bottom layer "two".
        self.assertEqual((freed.trees, freed.layers, freed.bytes), (2, 1, 3 * 4096 + 3))
        self.assertEqual(self.successResultOf(self.store.usage())["trees"], total - freed.bytes)
        self.assertEqual(len(self.trees()), 1)
        end()
        self.assertEqual(self.successResultOf(self.store.gc.collect()).trees, 2)
        self.assertEqual(self.trees(), [])

    def test_collected_beside_users(self) -> None:
        """
        A copy goes with its layer also while an engine needs another layer of the
        same tree.
        """
        self.separate(self.two)
        self.store.layers.forget(self.two.chain_id)
        self.store.gc.add_user(LayerUser(needs={self.one.chain_id: ["container 1"]}))
        freed = self.successResultOf(self.store.gc.collect())
        self.assertEqual((freed.trees, len(self.trees())), (2, 1))

    def test_collected_meanwhile(self) -> None:
        """
        A collection that runs before the layer is recorded with its copy spares
        the copy.
        """
        user = LayerUser(needs={self.one.chain_id: [], self.two.chain_id: []})
        self.store.gc.add_user(user)
        reading: Deferred[None] = Deferred()
        user.reading = lambda: reading
        self.refuse()
        collecting = self.store.gc.collect(False)
        self.pools.disk.held = True
        separating = self.store.layers.separate(self.two.chain_id)
        reading.callback(None)
        self.assertEqual(self.successResultOf(collecting).trees, 0)
        self.assertNoResult(separating)
        self.pools.disk.release()
        two = self.successResultOf(separating)
        self.assertTrue(os.path.exists(os.path.join(two.path, "content")))

    def refuse(self) -> None:
        """
        Fail to record that the second layer has a copy.
        """

        def refuse(*_: object) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        patched = self.patch(layer_records, "write_file", refuse)
        self.failureResultOf(self.store.layers.separate(self.two.chain_id), StoreError)
        patched.restore()
        self.assertEqual(self.store.layers.get(self.two.chain_id), self.two)
        self.assertEqual(len(self.trees()), 2)

    def test_at_once(self) -> None:
        """
        Two layers that ask at the same time get two directories.
        """
        three = self.top(None)
        self.pools.layers.held = True
        separating = [self.store.layers.separate(layer.chain_id) for layer in (self.two, three, self.two)]
        self.pools.layers.release()
        found = [self.successResultOf(each).path for each in separating]
        self.assertEqual(found[0], found[2])
        self.assertEqual(len({*found, self.one.path}), 3)

    def test_not_counted_as_variant(self) -> None:
        """
        Copies do not count towards the limit of an image's variants.
        """
        self.limits = UnpackLimits(entries=2)
        self.reopen()
        two = self.separate(self.two)
        self.run_now(plant(self.store, b"third", b"a"))
        for parent in (two, self.one):
            self.successResultOf(
                self.store.layers.register(parent.chain_id, Digest.of(b"third"), layer_descriptor(b"third"))
            )
            self.reopen()

    def test_cancelled(self) -> None:
        """
        A copy that is cancelled, early or late, leaves nothing behind.
        """
        self.pools.layers.held = True
        separating = self.store.layers.separate(self.two.chain_id)
        separating.cancel()
        self.assertNoResult(separating)
        self.pools.layers.release()
        self.failureResultOf(separating, CancelledError)
        waiting: list[Deferred[Layer]] = []
        original = hard_links.link_tree

        def link_tree(*args: Any) -> Any:
            waiting[0].cancel()
            return original(*args)

        patched = self.patch(variants, "link_tree", link_tree)
        self.pools.layers.held = True
        waiting.append(self.store.layers.separate(self.two.chain_id))
        self.pools.layers.release()
        self.failureResultOf(waiting[0], CancelledError)
        patched.restore()
        self.assertEqual(os.listdir(os.path.join(self.path, "staging")), [])
        self.assertEqual(len(self.trees()), 1)
        self.assertEqual(self.store.layers.get(self.two.chain_id), self.two)

    def test_disk_refuses(self) -> None:
        """
        If the record cannot be written, the layer keeps its path, and the copy is
        used when the layer asks again.
        """

        for _ in range(2):
            self.refuse()
        self.assertNotEqual(self.separate(self.two).path, self.two.path)
        self.assertEqual(len(self.trees()), 2)


class CopiedTests(StoreTestCase):
    """
    The size of variants is counted.
    """

    def setUp(self) -> None:
        """
        Plant the tree that implies directories.
        """
        super().setUp()
        self.run_now(plant(self.store, DATA, b"a", b"a/b"))

    def usage(self) -> int:
        """
        The bytes of all trees.
        """
        return self.successResultOf(self.store.usage())["trees"]

    async def alternate(self, times: int) -> list[Layer]:
        """
        Register a chain in which the tree is repeatedly on top of a layer with
        another mode for its implied directory.
        """
        chain: list[Layer] = []

        async def register(blob: bytes) -> None:
            parent = chain[-1].chain_id if chain else None
            chain.append(await self.store.layers.register(parent, Digest.of(blob), layer_descriptor(blob)))

        for number in range(times):
            blob = b"%d" % number
            staged = await self.store.trees.stage()
            os.mkdir(os.path.join(staged, "a"))
            os.chmod(os.path.join(staged, "a"), 0o700 + number)
            digest = Digest.of(blob)
            await self.store.trees.commit(staged, Unpacked(digest, 1, 0, 1), digest)
            await register(blob)
            await register(DATA)
        return chain

    def refused(self, times: int) -> str:
        """
        The error for a chain that needs too much.
        """
        registering = Deferred.fromCoroutine(self.alternate(times))
        return str(self.failureResultOf(registering, BadLayer).value)

    def test_counted(self) -> None:
        """
        They count for the store and for the chain, after a restart as well, and
        a collection subtracts the same amount.
        """
        before = self.usage()
        chain = self.run_now(self.alternate(3))
        copies = 2 * 3 * 4096
        self.assertEqual(self.usage(), before + copies)
        self.assertEqual(self.store.layers.chain_size(chain[-1].chain_id), 3 * len(DATA) + copies)
        used, size = self.usage(), self.store.layers.chain_size(chain[-1].chain_id)
        self.reopen()
        self.assertEqual((self.usage(), self.store.layers.chain_size(chain[-1].chain_id)), (used, size))
        freed = self.successResultOf(self.store.gc.collect())
        self.assertEqual((self.usage(), freed.bytes), (0, used))

    def test_not_counted_before(self) -> None:
        """
        A copy without a record is counted at the next start.
        """
        chain = self.run_now(self.alternate(2))
        used = self.usage()
        path = os.path.join(os.path.dirname(chain[-1].path), "tree.json")
        with open(path) as file:
            facts = json.load(file)
        del facts["copied"]
        with open(path, "w") as file:
            json.dump(facts, file)
        for _ in range(2):
            self.reopen()
            self.assertEqual(self.usage(), used)

    def test_too_many(self) -> None:
        """
        An image that makes the store copy a tree again and again may have as
        many entries in the copies as one layer may, and not one more.
        """
        # The first time it is no copy; a copy has the root, a, a/b and content.
        self.limits = UnpackLimits(entries=8)
        self.reopen()
        chain = self.run_now(self.alternate(3))
        self.assertIn("have more than 8 entries together; raise 'entries' in", self.refused(4))
        self.reopen()
        self.assertEqual(self.store.layers.get(chain[-1].chain_id), chain[-1])
        self.limits = UnpackLimits(entries=12)
        self.reopen()
        self.run_now(self.alternate(4))

    def test_too_large(self) -> None:
        """
        The same for the bytes of their directories.
        """
        self.limits = UnpackLimits(size=2 * 3 * 4096)
        self.reopen()
        self.run_now(self.alternate(3))
        self.assertIn("have more than 24576 bytes together; raise 'size' in", self.refused(4))
        self.assertEqual(os.listdir(os.path.join(self.path, "staging")), [])
