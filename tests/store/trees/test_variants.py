"""
Tests for L{xferd.store.trees.variants}: the variants of a tree, for the layers
below it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import CancelledError, Deferred

from tests.store.conformance.base import DATA, DIGEST
from tests.store.support import StoreTestCase, layer_descriptor, plant
from xferd.errors import StoreError
from xferd.interfaces.store import Layer, Unpacked
from xferd.names import Digest
from xferd.store.trees import hard_links, variants


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
        self.assertEqual(layer.path, os.path.join(self.store.path, "trees", "sha256", DIGEST.hex, "diff"))

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
        A directory that contains only whiteouts appears if the layer below has
        it, and nowhere else; the tree itself keeps it for others.
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
        self.assertTrue(again.path.endswith(f"{DIGEST.hex}/diff"))

    def test_died_while_linking(self) -> None:
        """
        An incomplete second tree is removed.
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
        A registration that is cancelled before its thread reads the trees reads
        none of them; the next one finds all trees unchanged.
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
        A registration that is cancelled while a second tree is linked removes
        it.
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
        Record each call of a step, after another function.
        """
        calls: list[str] = []
        original = getattr(module, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            before()
            return original(*args, **kwargs)

        self.patch(module, name, step)
        return calls
