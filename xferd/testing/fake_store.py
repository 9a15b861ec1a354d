# -*- test-case-name: tests.testing.test_fake_store -*-
"""
A store in memory, behind the Interfaces, for tests of what stands on them.

What the Interfaces return at once is answered at once, all else in the next
turn of the clock.  The store's L{Gate} can hold it or make it fail; its names
are C{blobs.read}, C{blobs.put}, C{blobs.partial}, C{partial.write},
C{partial.commit} (keys: the digest), C{anonymous.write}, C{anonymous.commit},
C{trees.stage}, C{trees.weigh}, C{trees.commit} (key: the diff ID), C{trees.discard},
C{layers.register} (key: the diff ID), C{images.put}, C{images.pin} and C{images.remove} (key:
the reference), C{gc.collect}, C{journal.job}, C{journal.attempt},
C{journal.jobs} and C{journal.interrupted}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import count

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from xferd.errors import DigestMismatch, DiskFull, NotFound, SizeMismatch, StoreError
from xferd.interfaces.blobs import IAnonymousBlob, IBlobs, IFollower, IPartial
from xferd.interfaces.store import IImages, ILayers, Image, IStore, ITrees, Layer, Unpacked
from xferd.names import Digest, Reference, chain_id
from xferd.oci import MAX_DOCUMENT, Descriptor
from xferd.store.disk.free_space import FreeSpace
from xferd.testing.fake_collection import FakeCollection, FakeUses
from xferd.testing.fake_journal import FakeJournal
from xferd.testing.gate import Gate, settle


@implementer(IPartial)
class FakePartial:
    """
    A blob while it arrives.
    """

    def __init__(
        self, blobs: FakeBlobs, digest: Digest, size: int | None, data: bytearray, behind: dict[int, bytes]
    ) -> None:
        self._behind = behind
        self.digest = digest
        self.size = size
        self._blobs = blobs
        self._data = data
        self._followers: list[IFollower] = []
        self._state = "open"
        self._path = blobs.ingest(digest, data)

    @property
    def offset(self) -> int:
        """
        How many bytes are here.
        """
        return len(self._data)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """
        What is here behind a gap.
        """
        spans: list[tuple[int, int]] = []
        for start, data in sorted(self._behind.items()):
            first = spans.pop()[0] if spans and spans[-1][1] == start else start
            spans.append((first, start + len(data)))
        return tuple(spans)

    def write(self, data: bytes) -> None:
        """
        Append some bytes and tell the followers.
        """
        self._must_be_open()
        self._blobs.gate.check("partial.write", self.digest)
        if self.size is not None and len(self._data) + len(data) > self.size:
            raise SizeMismatch(f"{self.digest} has more than {self.size} bytes")
        if self._behind and len(self._data) + len(data) > min(self._behind):
            raise StoreError(f"bytes of {self.digest} came twice")
        self._blobs.spend(len(data))
        while data:
            self._data += data
            self._blobs.mirror(self._path, data, append=True)
            data = self._behind.pop(len(self._data), b"")
        for follower in list(self._followers):
            follower.grown(self._path, len(self._data))

    def write_at(self, offset: int, data: bytes) -> None:
        """
        Write some bytes behind a gap, or fill it.
        """
        if offset == len(self._data):
            self.write(data)
            return
        self._must_be_open()
        self._blobs.gate.check("partial.write", self.digest)
        if self.size is not None and offset + len(data) > self.size:
            raise SizeMismatch(f"{self.digest} has more than {self.size} bytes")
        if any(
            start < offset + len(data) and stop > offset for start, stop in ((0, self.offset), *self.spans)
        ):
            raise StoreError(f"bytes of {self.digest} came twice")
        self._blobs.spend(len(data))
        self._behind[offset] = data

    def trim(self) -> None:
        """
        Forget what is behind a gap.
        """
        self._must_be_open()
        self._behind.clear()

    def restart(self) -> None:
        """
        Begin with another, empty file.
        """
        self._must_be_open()
        self._data = bytearray()
        self._behind.clear()
        self._path = self._blobs.ingest(self.digest, self._data)
        for follower in list(self._followers):
            follower.restarted()

    def commit(self) -> Deferred[None]:
        """
        Make the bytes a blob, if they are the right ones.
        """
        return Deferred.fromCoroutine(settle(Deferred.fromCoroutine(self._commit())))

    @property
    def has_file(self) -> bool:
        """
        Whether its file is open.
        """
        return self._state == "open"

    def suspend(self) -> None:
        """
        Close the file for now.
        """
        if self._state == "open":
            self._state = "suspended"

    def resume(self) -> None:
        """
        Open the file again.
        """
        if self._state == "suspended":
            self._blobs.gate.check("partial.resume", self.digest)
            self._state = "open"

    def close(self) -> None:
        """
        Let go; what is here is found by the next who opens it.
        """
        if self._state in ("open", "suspended"):
            self._state = "closed"
            self._blobs.let_go(self.digest, bytes(self._data), self._behind)

    def follow(self, follower: IFollower) -> None:
        """
        Tell of what is here and of what comes.
        """
        self._followers.append(follower)
        if self._state == "committed":
            follower.sealed(self._path, len(self._data))
        elif self._data:
            follower.grown(self._path, len(self._data))

    def unfollow(self, follower: IFollower) -> None:
        """
        Tell it nothing more.
        """
        if follower in self._followers:
            self._followers.remove(follower)

    async def _commit(self) -> None:
        self._must_be_open()
        self._state = "committing"
        try:
            await self._blobs.gate.enter("partial.commit", self.digest)
        finally:
            self._state = "open"
        data = bytes(self._data)
        if self.size is not None and len(data) != self.size:
            self.restart()
            raise SizeMismatch(f"{self.digest} has {len(data)} bytes, not {self.size}")
        if Digest.of(data, self.digest.algorithm) != self.digest:
            self.restart()
            raise DigestMismatch(f"bytes arrived that are not {self.digest}")
        self._state = "committed"
        self._path = self._blobs.keep(self.digest, data)
        for follower in list(self._followers):
            follower.sealed(self._path, len(data))

    def _must_be_open(self) -> None:
        if self._state != "open":
            raise StoreError(f"the partial file of {self.digest} is {self._state}")


@implementer(IAnonymousBlob)
class FakeUnnamed:
    """
    A blob while it arrives, without a digest.
    """

    def __init__(self, blobs: FakeBlobs) -> None:
        self._blobs = blobs
        self._data = bytearray()

    @property
    def size(self) -> int:
        """
        How many bytes are here.
        """
        return len(self._data)

    def write(self, data: bytes | memoryview) -> None:
        """
        Append some bytes.
        """
        self._must_be_open()
        self._blobs.gate.check("anonymous.write")
        self._blobs.spend(len(data))
        self._data += data

    def commit(self) -> Deferred[Digest]:
        """
        Make the bytes a blob.
        """
        return Deferred.fromCoroutine(self._commit())

    def close(self) -> None:
        """
        Throw the bytes away.
        """
        if self in self._blobs.unnamed_open:
            self._blobs.unnamed_open.discard(self)
            self._blobs.free += len(self._data)

    async def _commit(self) -> Digest:
        self._must_be_open()
        await self._blobs.gate.enter("anonymous.commit")
        data = bytes(self._data)
        digest = Digest.of(data)
        self._blobs.touch(digest)
        self._blobs.contents[digest] = data
        self._blobs.mirror(self._blobs.path(digest), data)
        self._blobs.unnamed_open.discard(self)
        return digest

    def _must_be_open(self) -> None:
        if self not in self._blobs.unnamed_open:
            raise StoreError("the blob without a name is closed")


@implementer(IBlobs)
class FakeBlobs:
    """
    The blobs.

    @ivar contents: what is here, for a test to look at or to fill.
    @ivar partials: the bytes of tries that ended early, likewise.
    @ivar behind: what they have behind a gap, by its offset.
    @ivar opened: the partial files that are open now.
    @ivar unnamed_open: the blobs without a name that are open now.
    @ivar free: the bytes that are free on the disk.
    """

    def __init__(self, path: str, gate: Gate, uses: FakeUses) -> None:
        self.gate = gate
        self._uses = uses
        self.contents: dict[Digest, bytes] = {}
        self.partials: dict[Digest, bytes] = {}
        self.behind: dict[Digest, dict[int, bytes]] = {}
        self.opened: dict[Digest, FakePartial] = {}
        self._waiting: list[Deferred[None]] = []
        self.unnamed_open: set[FakeUnnamed] = set()
        self._root = path
        self._ingested: dict[str, bytearray] = {}
        self.free = 1 << 50

    def spend(self, size: int) -> None:
        """
        Use some of the disk; called by what writes.

        @raise DiskFull: there is too little.
        """
        if size > self.free:
            raise DiskFull("no space is left")
        self.free -= size

    def has(self, digest: Digest) -> bool:
        """
        Whether the blob is here.
        """
        self._uses.touch(digest)
        return digest in self.contents

    def partial_size(self, digest: Digest) -> int:
        """
        The bytes of a partial blob.
        """
        partial = self.opened.get(digest)
        if partial is not None:
            return partial.offset + sum(stop - start for start, stop in partial.spans)
        return len(self.partials.get(digest, b"")) + sum(map(len, self.behind.get(digest, {}).values()))

    def size(self, digest: Digest) -> int | None:
        """
        The blob's bytes, or None.
        """
        data = self.contents.get(digest)
        return None if data is None else len(data)

    def path(self, digest: Digest) -> str:
        """
        Where the blob would be.  There is such a file only where the store
        has a real directory: L{open_path} it.
        """
        return f"{self._root}/content/blobs/{digest.algorithm}/{digest.hex}"

    def open_path(self, path: str) -> bytes:
        """
        The bytes of what would be a file: a follower's way to read.
        """
        if path in self._ingested:
            return bytes(self._ingested[path])
        for digest, data in self.contents.items():
            if self.path(digest) == path:
                return data
        raise FileNotFoundError(path)

    def read(self, digest: Digest) -> Deferred[bytes]:
        """
        A document's bytes.
        """
        self._uses.touch(digest)
        return Deferred.fromCoroutine(self._read(digest))

    def put(self, digest: Digest, data: bytes) -> Deferred[None]:
        """
        Keep a document.
        """
        self._uses.touch(digest)
        return Deferred.fromCoroutine(self._put(digest, data))

    def partial(self, digest: Digest, size: int | None) -> Deferred[IPartial]:
        """
        Open a partial file.
        """
        self._uses.touch(digest)
        return Deferred.fromCoroutine(self._partial(digest, size))

    def anonymous(self) -> Deferred[IAnonymousBlob]:
        """
        Begin a blob without a name.
        """
        unnamed = FakeUnnamed(self)
        self.unnamed_open.add(unnamed)
        return succeed(unnamed)

    def touch(self, digest: Digest) -> None:
        """
        Somebody relies on a blob; called by one without a name.
        """
        self._uses.touch(digest)

    def ingest(self, digest: Digest, data: bytearray) -> str:
        """
        Name the file that a partial writes; called by it.
        """
        path = f"{self._root}/ingest/{digest}.{len(self._ingested)}"
        self._ingested[path] = data
        self.mirror(path, data)
        return path

    def mirror(self, path: str, data: bytes | bytearray, *, append: bool = False) -> None:
        """
        Write to a real file as well, where the store has a directory.
        """
        if os.path.isdir(self._root):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "ab" if append else "wb") as file:
                file.write(data)

    def keep(self, digest: Digest, data: bytes) -> str:
        """
        Make verified bytes a blob; called by a partial.
        """
        del self.opened[digest]
        self._wake()
        self.contents[digest] = data
        self.mirror(self.path(digest), data)
        return self.path(digest)

    def let_go(self, digest: Digest, data: bytes, behind: dict[int, bytes]) -> None:
        """
        Keep unfinished bytes for the next try; called by a partial.
        """
        del self.opened[digest]
        self._wake()
        self.partials[digest] = data
        self.behind[digest] = dict(behind)

    async def _read(self, digest: Digest) -> bytes:
        await self.gate.enter("blobs.read", digest)
        if digest not in self.contents:
            raise NotFound(f"the store has no blob {digest}")
        data = self.contents[digest]
        if Digest.of(data, digest.algorithm) != digest:
            raise StoreError(f"blob {digest} is damaged")
        if len(data) > MAX_DOCUMENT:
            raise StoreError(f"blob {digest} is no document: it has {len(data)} bytes")
        return data

    async def _put(self, digest: Digest, data: bytes) -> None:
        await self.gate.enter("blobs.put", digest)
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestMismatch(f"the bytes are not {digest}")
        self.spend(len(data))
        self.contents[digest] = data
        self.mirror(self.path(digest), data)

    def _wake(self) -> None:
        """
        Let those look again who wait for a partial file.
        """
        for waiting in tuple(self._waiting):
            waiting.callback(None)

    async def _partial(self, digest: Digest, size: int | None) -> IPartial:
        await self.gate.enter("blobs.partial", digest)
        while digest in self.opened:
            # Cancelling it needs no canceller: it is taken out below.
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                self._waiting.remove(waiting)
        data = bytearray(self.partials.pop(digest, b""))
        self.opened[digest] = FakePartial(self, digest, size, data, self.behind.pop(digest, {}))
        return self.opened[digest]


@implementer(ITrees)
class FakeTrees:
    """
    The trees, of which only the facts are kept.

    @ivar unpacked: the facts by diff ID.
    @ivar blobs: what each blob unpacks to.
    @ivar outdated: the diff IDs of trees that older rules have made.
    @ivar staged: the directories in C{staging/}.
    """

    def __init__(self, path: str, gate: Gate, uses: FakeUses) -> None:
        self._uses = uses
        self.unpacked: dict[Digest, Unpacked] = {}
        self.blobs: dict[Digest, Digest] = {}
        self.outdated: set[Digest] = set()
        self.staged: set[str] = set()
        self._root = path
        self._gate = gate
        self._number = 0

    def has(self, diff_id: Digest) -> bool:
        """
        Whether the tree is here.
        """
        self._uses.touch(diff_id)
        return diff_id in self.unpacked

    def diff_id_of(self, blob: Digest) -> Digest | None:
        """
        What the blob unpacks to, if the tree is here.
        """
        diff_id = self.blobs.get(blob)
        if diff_id is None or diff_id not in self.unpacked:
            return None
        self._uses.touch(diff_id, blob)
        return diff_id

    def is_outdated(self, diff_id: Digest) -> bool:
        """
        Whether the tree is here, made by older rules.
        """
        return diff_id in self.unpacked and diff_id in self.outdated

    def path(self, diff_id: Digest) -> str:
        """
        Where the tree would be.
        """
        return f"{self._root}/trees/{diff_id}"

    def stage(self) -> Deferred[str]:
        """
        Name a new directory.
        """
        return Deferred.fromCoroutine(self._stage())

    def commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> Deferred[None]:
        """
        Make a staged tree the tree of its diff ID.
        """
        self._uses.touch(unpacked.diff_id)
        return Deferred.fromCoroutine(self._commit(staged, unpacked, blob))

    def staged_size(self, staged: str) -> Deferred[int]:
        """
        The bytes of a staged tree: none.
        """
        return self._gate.enter("trees.weigh", staged).addCallback(lambda _: 0)

    def discard(self, staged: str) -> Deferred[None]:
        """
        Remove a staged tree.
        """
        return Deferred.fromCoroutine(self._discard(staged))

    async def _stage(self) -> str:
        await self._gate.enter("trees.stage")
        self._number += 1
        staged = f"{self._root}/staging/{self._number}"
        self.staged.add(staged)
        return staged

    async def _commit(self, staged: str, unpacked: Unpacked, blob: Digest) -> None:
        if staged not in self.staged:
            raise StoreError(f"{staged} is not in staging/")
        try:
            await self._gate.enter("trees.commit", unpacked.diff_id)
        finally:
            self.staged.discard(staged)
        self.unpacked.setdefault(unpacked.diff_id, unpacked)
        self.outdated.discard(unpacked.diff_id)
        self.blobs[blob] = unpacked.diff_id

    async def _discard(self, staged: str) -> None:
        await self._gate.enter("trees.discard", staged)
        self.staged.discard(staged)


@implementer(ILayers)
class FakeLayers:
    """
    The layers.

    @ivar registered: the layers by chain ID, in the order of registration.
    @ivar blobs: the blobs that each chain ID's layer is known by.
    @ivar outdated: the chain IDs of layers whose trees older rules have made.
    """

    def __init__(self, trees: FakeTrees, gate: Gate, uses: FakeUses) -> None:
        self._uses = uses
        self.registered: dict[Digest, Layer] = {}
        self.blobs: dict[Digest, set[Digest]] = {}
        self.outdated: set[Digest] = set()
        self._trees = trees
        self._gate = gate

    def get(self, chain_id: Digest) -> Layer | None:
        """
        The layer, or None.
        """
        self._uses.touch(chain_id)
        layer = self.registered.get(chain_id)
        return None if layer is None else evolve(layer, outdated=chain_id in self.outdated)

    def register(self, parent: Digest | None, diff_id: Digest, blob: Descriptor) -> Deferred[Layer]:
        """
        Put a tree on top of a parent chain.
        """
        return Deferred.fromCoroutine(self._register(parent, diff_id, blob))

    async def _register(self, parent: Digest | None, diff_id: Digest, blob: Descriptor) -> Layer:
        await self._gate.enter("layers.register", diff_id)
        if parent is not None and parent not in self.registered:
            raise StoreError(f"the parent {parent} is not registered")
        if not self._trees.has(diff_id):
            raise StoreError(f"there is no tree {diff_id}")
        chain = chain_id([diff_id], parent)
        assert chain is not None
        self._uses.touch(chain)
        size = self._trees.unpacked[diff_id].size
        layer = self.registered.setdefault(
            chain, Layer(chain, parent, diff_id, self._trees.path(diff_id), size)
        )
        self.blobs.setdefault(chain, set()).add(blob.digest)
        if not self._trees.is_outdated(diff_id):
            self.outdated.discard(chain)
        return layer


@implementer(IImages)
class FakeImages:
    """
    The named images.

    @ivar used: the order in which they were used last.
    """

    def __init__(self, blobs: FakeBlobs, layers: FakeLayers, gate: Gate, uses: FakeUses) -> None:
        self._uses = uses
        self._named: dict[Reference, Image] = {}
        self.used: dict[Reference, int] = {}
        self._numbers = count()
        self._blobs = blobs
        self._layers = layers
        self._gate = gate

    def all(self) -> Sequence[Image]:
        """
        Every named image, by name.
        """
        return sorted(self._named.values(), key=lambda image: str(image.reference))

    def get(self, reference: Reference) -> Image | None:
        """
        The image of this name, or None.
        """
        image = self._named.get(reference)
        if image is not None:
            self._uses.touch(*image.parts)
            self.used[reference] = next(self._numbers)
        return image

    def put(self, image: Image) -> Deferred[None]:
        """
        Give an image its name.
        """
        return Deferred.fromCoroutine(self._put(image))

    def remove(self, reference: Reference) -> Deferred[None]:
        """
        Take a name away.
        """
        return Deferred.fromCoroutine(self._remove(reference))

    def pin(self, reference: Reference, pinned: bool) -> Deferred[Image]:
        """
        Pin a name, or unpin it.
        """
        return Deferred.fromCoroutine(self._pin(reference, pinned))

    async def _pin(self, reference: Reference, pinned: bool) -> Image:
        await self._gate.enter("images.pin", reference)
        if reference not in self._named:
            raise NotFound(f"there is no image {reference}")
        self._named[reference] = evolve(self._named[reference], pinned=pinned)
        return self._named[reference]

    async def _remove(self, reference: Reference) -> None:
        await self._gate.enter("images.remove", reference)
        if reference not in self._named:
            raise NotFound(f"there is no image {reference}")
        del self._named[reference]

    async def _put(self, image: Image) -> None:
        await self._gate.enter("images.put", image.reference)
        for document in (image.manifest, image.config):
            if not self._blobs.has(document.digest):
                raise StoreError(f"{image.reference} needs {document.digest}, which is not here")
        if (image.chain_id is None) != (not image.layers):
            raise StoreError(f"{image.reference} has {len(image.layers)} layers and chain {image.chain_id}")
        if image.chain_id is not None and self._layers.get(image.chain_id) is None:
            raise StoreError(f"{image.reference} needs layer {image.chain_id}, which is not registered")
        present = self._named.get(image.reference)
        pinned = image.pinned or (present is not None and present.pinned)
        self._named[image.reference] = evolve(image, pinned=pinned)
        self.used[image.reference] = next(self._numbers)


@implementer(IStore)
class FakeStore:
    """
    A data directory in memory.  Where C{path} is a real directory, blobs and
    partial files are written there as well, for who reads files.

    @ivar gate: where its calls pass.
    """

    def __init__(self, clock: IReactorTime, path: str = "/memory") -> None:
        self.path = path
        self.gate = Gate(clock)
        uses = FakeUses()
        self.blobs = FakeBlobs(path, self.gate, uses)
        self.trees = FakeTrees(path, self.gate, uses)
        self.layers = FakeLayers(self.trees, self.gate, uses)
        self.images = FakeImages(self.blobs, self.layers, self.gate, uses)
        self.gc = FakeCollection(self, uses)
        self.journal = FakeJournal(self.gate)
        self.free_space = FreeSpace(path, clock, free=lambda: self.blobs.free)

    def usage(self) -> Deferred[Mapping[str, int]]:
        """
        The bytes that are kept in memory.
        """
        return succeed(
            {
                "blobs": sum(map(len, self.blobs.contents.values())),
                "arriving": sum(map(len, self.blobs.partials.values())),
                "trees": sum(tree.size for tree in self.trees.unpacked.values()),
            }
        )
