# -*- test-case-name: tests.testing.test_fake_store -*-
"""
The blobs of a store in memory.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from xferd.errors import DigestMismatch, DiskFull, NotFound, SizeMismatch, StoreError
from xferd.interfaces.blobs import IAnonymousBlob, IBlobs, IFollower, IPartial
from xferd.jobs.deferreds import then_cancelled
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT
from xferd.testing.fake_leases import FakeLeases
from xferd.testing.gate import Gate


@implementer(IPartial)
class FakePartial:
    """
    A partial blob.
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
        return len(self._data)

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        spans: list[tuple[int, int]] = []
        for start, data in sorted(self._behind.items()):
            first = spans.pop()[0] if spans and spans[-1][1] == start else start
            spans.append((first, start + len(data)))
        return tuple(spans)

    def write(self, data: bytes) -> None:
        self._must_be_open()
        self._blobs.gate.check("partial.write", self.digest)
        if self.size is not None and len(self._data) + len(data) > self.size:
            raise SizeMismatch(f"{self.digest} has more than {self.size} bytes")
        if self._behind and len(self._data) + len(data) > min(self._behind):
            raise StoreError(f"bytes of {self.digest} came twice")
        self._blobs.spend(len(data))
        while data:
            self._blobs.mirror(self._path, data, len(self._data))
            self._data += data
            data = self._behind.pop(len(self._data), b"")
        for follower in list(self._followers):
            follower.grown(self._path, len(self._data))

    def write_at(self, offset: int, data: bytes) -> None:
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
        self._blobs.mirror(self._path, data, offset)

    def trim(self) -> None:
        self._must_be_open()
        self._behind.clear()

    def restart(self) -> None:
        self._must_be_open()
        self._data = bytearray()
        self._behind.clear()
        self._path = self._blobs.ingest(self.digest, self._data, restarted=True)
        for follower in list(self._followers):
            follower.restarted()

    def commit(self, verified: Callable[[], None] = lambda: None) -> Deferred[None]:
        return Deferred.fromCoroutine(then_cancelled(Deferred.fromCoroutine(self._commit(verified))))

    @property
    def has_file(self) -> bool:
        """
        Whether its file is open.
        """
        return self._state == "open"

    def suspend(self) -> None:
        if self._state == "open":
            self._state = "suspended"

    def resume(self) -> None:
        if self._state == "suspended":
            self._blobs.gate.check("partial.resume", self.digest)
            self._state = "open"

    def close(self) -> None:
        if self._state in ("open", "suspended"):
            self._state = "closed"
            self._blobs.put_back(self.digest, bytes(self._data), self._behind)

    def follow(self, follower: IFollower) -> None:
        self._followers.append(follower)
        if self._state == "committed":
            follower.sealed(self._path, len(self._data))
        elif self._data:
            follower.grown(self._path, len(self._data))

    def unfollow(self, follower: IFollower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)

    async def _commit(self, verified: Callable[[], None]) -> None:
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
        verified()
        self._blobs.gate.check("partial.publish", self.digest)
        self._state = "committed"
        self._path = self._blobs.keep(self.digest, data)
        for follower in list(self._followers):
            follower.sealed(self._path, len(data))

    def _must_be_open(self) -> None:
        if self._state != "open":
            raise StoreError(f"the partial file of {self.digest} is {self._state}")


@implementer(IAnonymousBlob)
class FakeAnonymousBlob:
    """
    A partial blob without a digest.
    """

    def __init__(self, blobs: FakeBlobs) -> None:
        self._blobs = blobs
        self._data = bytearray()

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, data: bytes | memoryview) -> None:
        self._must_be_open()
        self._blobs.gate.check("anonymous.write")
        self._blobs.spend(len(data))
        self._data += data

    def commit(self) -> Deferred[Digest]:
        return Deferred.fromCoroutine(self._commit())

    def close(self) -> None:
        if self in self._blobs.anonymous_open:
            self._blobs.anonymous_open.discard(self)
            self._blobs.free += len(self._data)

    async def _commit(self) -> Digest:
        self._must_be_open()
        await self._blobs.gate.enter("anonymous.commit")
        data = bytes(self._data)
        digest = Digest.of(data)
        self._blobs.touch(digest)
        self._blobs.contents[digest] = data
        self._blobs.mirror(self._blobs.path(digest), data)
        self._blobs.anonymous_open.discard(self)
        return digest

    def _must_be_open(self) -> None:
        if self not in self._blobs.anonymous_open:
            raise StoreError("the anonymous blob is closed")


@implementer(IBlobs)
class FakeBlobs:
    """
    The blobs.

    @ivar contents: the blobs by digest, for tests to read and to change.
    @ivar partials: the first bytes of partial blobs, likewise.
    @ivar behind: their bytes behind a gap, by offset.
    @ivar opened: the partial files that are open now.
    @ivar anonymous_open: the anonymous blobs that are open now.
    @ivar free: the bytes that are free on the disk.
    """

    def __init__(self, path: str, gate: Gate, leases: FakeLeases) -> None:
        self.gate = gate
        self._leases = leases
        self.contents: dict[Digest, bytes] = {}
        self.partials: dict[Digest, bytes] = {}
        self.behind: dict[Digest, dict[int, bytes]] = {}
        self.opened: dict[Digest, FakePartial] = {}
        self._waiting: list[Deferred[None]] = []
        self.anonymous_open: set[FakeAnonymousBlob] = set()
        self._root = path
        self._ingested: dict[str, bytearray] = {}
        self._files: set[str] = set()
        self._restarts: Counter[Digest] = Counter()
        self.free = 1 << 50

    def spend(self, size: int) -> None:
        """
        Use space on the disk.

        @raise DiskFull: there is too little.
        """
        if size > self.free:
            raise DiskFull("no space is left")
        self.free -= size

    def has(self, digest: Digest) -> bool:
        self._leases.touch(digest)
        return digest in self.contents

    def partial_size(self, digest: Digest) -> int:
        partial = self.opened.get(digest)
        if partial is not None:
            return partial.offset + sum(stop - start for start, stop in partial.spans)
        return len(self.partials.get(digest, b"")) + sum(map(len, self.behind.get(digest, {}).values()))

    def size(self, digest: Digest) -> int | None:
        self._leases.touch(digest)
        data = self.contents.get(digest)
        return None if data is None else len(data)

    def path(self, digest: Digest) -> str:
        """
        The path of the blob.  The file exists only if the store has a real
        directory; L{open_path} reads it in any case.
        """
        return f"{self._root}/content/blobs/{digest.algorithm}/{digest.hex}"

    def open_path(self, path: str) -> bytes:
        """
        The bytes of a path, for followers.
        """
        if path in self._ingested:
            return bytes(self._ingested[path])
        for digest, data in self.contents.items():
            if self.path(digest) == path:
                return data
        raise FileNotFoundError(path)

    def read(self, digest: Digest) -> Deferred[bytes]:
        self._leases.touch(digest)
        return Deferred.fromCoroutine(self._read(digest))

    def preload(self, digest: Digest, offset: int, size: int) -> Deferred[None]:  # noqa: ARG002
        return Deferred.fromCoroutine(self._preload(digest))

    def put(self, digest: Digest, data: bytes) -> Deferred[None]:
        self._leases.touch(digest)
        return Deferred.fromCoroutine(self._put(digest, data))

    def partial(self, digest: Digest, size: int | None) -> Deferred[IPartial]:
        self._leases.touch(digest)
        return Deferred.fromCoroutine(self._partial(digest, size))

    def anonymous(self) -> Deferred[IAnonymousBlob]:
        anonymous = FakeAnonymousBlob(self)
        self.anonymous_open.add(anonymous)
        return succeed(anonymous)

    def touch(self, digest: Digest) -> None:
        """
        Note a use of a blob, for the leases.
        """
        self._leases.touch(digest)

    def ingest(self, digest: Digest, data: bytearray, *, restarted: bool = False) -> str:
        """
        Make a path for a partial blob; it stays the same until the blob is restarted.
        """
        self._restarts[digest] += restarted
        path = f"{self._root}/ingest/{digest}.{self._restarts[digest]}"
        self._ingested[path] = data
        self.mirror(path, data)
        return path

    def mirror(self, path: str, data: bytes | bytearray, at: int | None = None) -> None:
        """
        Write to a real file as well, if the store has a directory.

        @param at: the offset in the file; L{None} for a new one.
        """
        if at is not None and path in self._files:
            with open(path, "r+b", buffering=0) as file:
                os.pwrite(file.fileno(), data, at)
        elif at is None and os.path.isdir(self._root):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb", buffering=0) as file:
                file.write(data)
            self._files.add(path)

    def keep(self, digest: Digest, data: bytes) -> str:
        """
        Make the verified bytes of a partial blob a blob.
        """
        del self.opened[digest]
        self._wake()
        self.contents[digest] = data
        self.mirror(self.path(digest), data)
        return self.path(digest)

    def put_back(self, digest: Digest, data: bytes, behind: dict[int, bytes]) -> None:
        """
        Keep the bytes of a partial blob for the next attempt.
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

    async def _preload(self, digest: Digest) -> None:
        await self.gate.enter("blobs.preload", digest)
        if digest not in self.contents and not self.partial_size(digest):
            raise NotFound(f"blob {digest} is not in the store")

    async def _put(self, digest: Digest, data: bytes) -> None:
        await self.gate.enter("blobs.put", digest)
        if Digest.of(data, digest.algorithm) != digest:
            raise DigestMismatch(f"the bytes are not {digest}")
        self.spend(len(data))
        self.contents[digest] = data
        self.mirror(self.path(digest), data)

    def _wake(self) -> None:
        """
        Wake the waiters for a partial blob.
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
