"""
Tests for L{xferd.store.layers}.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import CancelledError, Deferred

from tests.store.conformance.base import DATA, DIGEST
from tests.store.conformance.trees import LayersConformance
from tests.store.support import StoreTestCase, layer_descriptor, plant
from xferd.errors import BadLayer, StoreError
from xferd.interfaces.store import Layer, Unpacked
from xferd.interfaces.unpack import UnpackLimits
from xferd.names import Digest
from xferd.store import layers
from xferd.store.layers import Record
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
        self.patch(layers, "write_file", refuse)
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


class ImpliedTests(StoreTestCase):
    """
    Directories that a tar only implies have the attributes of those below.
    """

    def base(self, blob: bytes, mode: int) -> Layer:
        """
        Register a bottom layer with a directory C{a} of some mode.
        """
        staged = self.successResultOf(self.store.trees.stage())
        os.mkdir(os.path.join(staged, "a"))
        os.chmod(os.path.join(staged, "a"), mode)
        os.utime(os.path.join(staged, "a"), ns=(0, 5 * 10**9))
        digest = Digest.of(blob)
        self.successResultOf(self.store.trees.commit(staged, Unpacked(digest, 1, 0, 1), digest))
        return self.successResultOf(self.store.layers.register(None, digest, layer_descriptor(blob)))

    def top(self, parent: Layer | None) -> Layer:
        """
        Register the layer that implies C{a} and C{a/b}.
        """
        below = None if parent is None else parent.chain_id
        return self.successResultOf(self.store.layers.register(below, DIGEST, layer_descriptor(DATA)))

    def mode(self, layer: Layer, path: str = "a") -> int:
        """
        The mode of a layer's directory.
        """
        return os.stat(os.path.join(layer.path, path)).st_mode & 0o7777

    def setUp(self) -> None:
        """
        Plant the tree that implies directories.
        """
        super().setUp()
        self.addCleanup(os.umask, os.umask(0o022))
        self.run_now(plant(self.store, DATA, b"a", b"a/b"))

    def test_mended(self) -> None:
        """
        The first chain has its attributes in the tree itself.
        """
        layer = self.top(self.base(b"one", 0o711))
        self.assertEqual((self.mode(layer), self.mode(layer, "a/b")), (0o711, 0o755))
        self.assertEqual(os.stat(os.path.join(layer.path, "a")).st_mtime_ns, 5 * 10**9)
        self.assertEqual(layer.path, os.path.join(self.store.path, "trees", "sha256", DIGEST.hex, "fs"))

    def test_nothing_below(self) -> None:
        """
        At the bottom, an implied directory keeps its default.
        """
        self.assertEqual(self.mode(self.top(None)), 0o755)

    def test_two_chains(self) -> None:
        """
        A second chain that needs it otherwise gets a tree of the same files;
        a third that needs what one of them has shares it.
        """
        bases = [self.base(b"one", 0o711), self.base(b"two", 0o700), self.base(b"three", 0o700)]
        tops = [self.top(base) for base in bases]
        bottom = self.top(None)
        self.assertEqual([self.mode(layer) for layer in tops], [0o711, 0o700, 0o700])
        self.assertEqual(self.mode(bottom), 0o755)
        self.assertEqual(tops[1].path, tops[2].path)
        self.assertEqual(len({layer.path for layer in (*tops, bottom)}), 3)
        self.assertEqual(len({os.stat(os.path.join(layer.path, "content")).st_ino for layer in tops}), 1)
        self.reopen()
        self.assertEqual(
            [self.store.layers.get(layer.chain_id) for layer in (*tops, bottom)], [*tops, bottom]
        )

    def test_through_the_chain(self) -> None:
        """
        The metadata that a layer got are those that the next one finds.
        """
        middle = self.top(self.base(b"one", 0o711))
        self.run_now(plant(self.store, b"third", b"a"))
        top = self.successResultOf(
            self.store.layers.register(middle.chain_id, Digest.of(b"third"), layer_descriptor(b"third"))
        )
        self.assertEqual(self.mode(top), 0o711)

    def test_only_whiteouts(self) -> None:
        """
        A directory that holds nothing but whiteouts appears where the layer
        below has it, and nowhere else; the tree itself keeps it for others.
        """
        staged = self.successResultOf(self.store.trees.stage())
        inner = os.path.join(staged, "a", "b")
        os.makedirs(inner)
        try:
            os.mknod(os.path.join(inner, "gone"), stat.S_IFCHR, os.makedev(0, 0))
        except PermissionError:
            raise SkipTest("devices take the rights of root") from None
        digest = Digest.of(b"whiteouts")
        unpacked = Unpacked(digest, 1, 0, 1, (b"a", b"a/b"))
        self.successResultOf(self.store.trees.commit(staged, unpacked, digest))

        def register(parent: Layer | None) -> Layer:
            below = None if parent is None else parent.chain_id
            return self.successResultOf(
                self.store.layers.register(below, digest, layer_descriptor(b"whiteouts"))
            )

        bottom, one = register(None), register(self.base(b"one", 0o711))
        self.assertEqual(os.listdir(bottom.path), [])
        self.assertEqual((os.listdir(one.path), self.mode(one)), (["a"], 0o711))
        self.assertEqual(os.listdir(os.path.join(one.path, "a")), [])
        whole = register(self.top(None))
        self.assertEqual(os.listdir(os.path.join(whole.path, "a", "b")), ["gone"])
        self.reopen()
        for layer in (bottom, one, whole):
            self.assertEqual(self.store.layers.get(layer.chain_id), layer)
        self.assertEqual(os.listdir(bottom.path), [])
        self.assertEqual(register(self.base(b"two", 0o711)).path, one.path)

    def stop_at(self, module: Any, name: str) -> Any:
        """
        Let the daemon die at some step.
        """

        def die(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        return self.patch(module, name, die)

    def test_died_while_mending(self) -> None:
        """
        A tree whose metadata were being applied gets them again, for the same
        chain or for another.
        """
        one, two = self.base(b"one", 0o711), self.base(b"two", 0o700)
        patched = self.stop_at(variants, "apply_metadata")
        waiting = self.store.layers.register(one.chain_id, DIGEST, layer_descriptor(DATA))
        self.failureResultOf(waiting, StoreError)
        patched.restore()
        self.reopen()
        other = self.top(two)
        again = self.top(one)
        self.assertEqual([self.mode(again), self.mode(other)], [0o711, 0o700])
        self.assertTrue(again.path.endswith(f"{DIGEST.hex}/fs"))

    def test_died_while_linking(self) -> None:
        """
        Of a second tree that was not finished nothing is left.
        """
        one, two = self.base(b"one", 0o711), self.base(b"two", 0o700)
        self.top(one)
        for module, name in ((variants, "apply_metadata"), (hard_links._Linking, "link"), (variants, "move")):
            patched = self.stop_at(module, name)
            waiting = self.store.layers.register(two.chain_id, DIGEST, layer_descriptor(DATA))
            self.failureResultOf(waiting, StoreError)
            patched.restore()
            self.assertEqual(os.listdir(os.path.join(self.path, "staging")), [])
        self.assertEqual(self.mode(self.top(two)), 0o700)

    def test_at_once(self) -> None:
        """
        Two chains that use a tree at the same time do not spoil it for one
        another.
        """
        bases = [self.base(b"one", 0o711), self.base(b"two", 0o700)]
        self.pools.layers.held = True
        waiting: list[Deferred[Layer]] = [
            self.store.layers.register(base.chain_id, DIGEST, layer_descriptor(DATA)) for base in bases
        ]
        self.pools.layers.release()
        self.assertEqual([self.mode(self.successResultOf(each)) for each in waiting], [0o711, 0o700])

    def test_cancelled_early(self) -> None:
        """
        A registration that is cancelled before its thread looks at the trees
        looks at none of them; the next one finds all as it was.
        """
        base = self.base(b"one", 0o711)
        self.pools.layers.held = True
        looked = self.count(variants, "find_empty")
        registering = self.store.layers.register(base.chain_id, DIGEST, layer_descriptor(DATA))
        registering.cancel()
        self.assertNoResult(registering)
        self.pools.layers.release()
        self.failureResultOf(registering, CancelledError)
        self.assertEqual(looked, [])
        self.assertEqual(self.mode(self.top(base)), 0o711)

    def test_cancelled_late(self) -> None:
        """
        A registration that is cancelled while a second tree is linked leaves
        nothing of it.
        """
        one, two = self.base(b"one", 0o711), self.base(b"two", 0o700)
        self.top(one)
        waiting: list[Deferred[Layer]] = []
        self.count(variants, "link_tree", lambda: waiting[0].cancel())
        self.pools.layers.held = True
        waiting.append(self.store.layers.register(two.chain_id, DIGEST, layer_descriptor(DATA)))
        self.pools.layers.release()
        self.failureResultOf(waiting[0], CancelledError)
        self.assertEqual(os.listdir(os.path.join(self.path, "staging")), [])
        self.assertEqual(len(os.listdir(os.path.join(self.path, "trees", "sha256"))), 3)
        self.assertEqual(self.mode(self.top(two)), 0o700)

    def test_cancelled_in_the_queue(self) -> None:
        """
        A registration that waits for another one of the same tree, and is
        cancelled, does nothing when its turn comes.
        """
        bases = [self.base(b"one", 0o711), self.base(b"two", 0o700)]
        self.pools.layers.held = True
        waiting = [
            self.store.layers.register(base.chain_id, DIGEST, layer_descriptor(DATA)) for base in bases
        ]
        waiting[1].cancel()
        self.pools.layers.release()
        self.assertEqual(self.mode(self.successResultOf(waiting[0])), 0o711)
        self.failureResultOf(waiting[1], CancelledError)
        self.assertEqual(len(os.listdir(os.path.join(self.path, "trees", "sha256"))), 3)

    def test_threads_of_their_own(self) -> None:
        """
        While layers with implied directories are being registered, one of
        another image is, and a document is read.
        """
        base = self.base(b"one", 0o711)
        self.pools.layers.held = True
        registering = self.store.layers.register(base.chain_id, DIGEST, layer_descriptor(DATA))
        self.base(b"two", 0o700)
        self.successResultOf(self.store.blobs.put(Digest.of(b"{}"), b"{}"))
        self.assertEqual(self.successResultOf(self.store.blobs.read(Digest.of(b"{}"))), b"{}")
        self.pools.layers.release()
        self.successResultOf(registering)

    def count(self, module: Any, name: str, before: Callable[[], object] = lambda: None) -> list[str]:
        """
        Note each call of a step, and do something before it.
        """
        calls: list[str] = []
        original = getattr(module, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            before()
            return original(*args, **kwargs)

        self.patch(module, name, step)
        return calls


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
        They count for the store and for the chain, after a restart as well,
        and what is collected of them is what they had.
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
        One of which nothing is written down is counted at the next start.
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
