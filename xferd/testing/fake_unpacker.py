# -*- test-case-name: tests.testing.test_fake_unpacker -*-
"""
An unpacker without processes, for tests.

It inflates, hashes and counts a layer once the layer is sealed, and writes no
tree.  The names of its L{Gate} are C{unpack} (the work after C{sealed}) and C{end}
(the end of a process), with C{staged} as key.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Final

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer
from zstandard import ZstdDecompressor, ZstdError

from xferd.errors import BadLayer
from xferd.interfaces.store import Unpacked
from xferd.interfaces.unpack import ILayerTask, IUnpacker, UnpackProgress
from xferd.jobs.deferreds import then_cancelled
from xferd.names import Digest
from xferd.owners import OwnerSet
from xferd.testing.gate import Gate

_INTERVAL = 0.1
"""Seconds between two pieces of news of progress."""


def inflate(data: bytes) -> bytes:
    """
    Decompress bytes by their magic number.

    @raise BadLayer: they are damaged.
    """
    try:
        if data.startswith(b"\x1f\x8b"):
            return gzip.decompress(data)
        if data.startswith(b"\x28\xb5\x2f\xfd"):
            with ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
                return reader.read()
    except (OSError, EOFError, zlib.error, ZstdError) as e:
        raise BadLayer(f"the layer cannot be inflated: {e}") from e
    return data


def measure(packed: bytes, algorithm: str = "sha256") -> Unpacked:
    """
    The facts of a layer.

    @raise BadLayer: it is not a tar.
    """
    # Tests unpack few layers, each many times.
    key = sha256(packed).digest(), algorithm
    if key not in _MEASURED:
        _MEASURED[key] = _measure(packed, algorithm)
    return _MEASURED[key]


_MEASURED: Final[dict[tuple[bytes, str], Unpacked]] = {}
"""The facts of the layers so far, by their digest and the algorithm of the diff ID."""


def _measure(packed: bytes, algorithm: str) -> Unpacked:
    tar = inflate(packed)
    size = entries = 0
    owners = OwnerSet()
    listed: set[PurePosixPath] = set()
    needed: set[PurePosixPath] = set()
    try:
        with tarfile.open(fileobj=BytesIO(tar), mode="r:") as archive:
            for entry in archive:
                entries += 1
                size += entry.size if entry.isreg() else 0
                owners.add(entry.uid, entry.gid)
                path = PurePosixPath(entry.name)
                needed.update(path.parents)
                if entry.isdir():
                    listed.add(path)
    except tarfile.TarError as e:
        raise BadLayer(f"the layer is not a tar: {e}") from e
    implied = tuple(
        sorted(
            str(path).encode("utf-8", "surrogateescape") for path in needed - listed - {PurePosixPath(".")}
        )
    )
    return Unpacked(Digest.of(tar, algorithm), len(tar), size, entries, implied, owners.owners())


@implementer(ILayerTask)
class FakeUnpacking:
    """
    The unpacking of one layer.

    @ivar staged: the directory for its tree.
    @ivar compression: that of the media type.
    @ivar algorithm: the algorithm of the diff ID.
    @ivar path: the path of the blob's file.
    @ivar state: C{following}, C{sealed} or C{ended}.
    @ivar queued: whether it waits for a worker, as the test says.
    """

    def __init__(
        self,
        unpacker: FakeUnpacker,
        staged: str,
        compression: str,
        notify: Callable[[UnpackProgress], None],
        algorithm: str,
    ) -> None:
        self.staged = staged
        self.compression = compression
        self.algorithm = algorithm
        self.path = ""
        self.state = "following"
        self.queued = False
        self.progress = UnpackProgress()
        self._unpacker = unpacker
        self._notify = notify
        self._news: IDelayedCall | None = None
        self._outcome: Deferred[Unpacked] = Deferred()  # _work() awaits it, and cancels it.
        self.result: Deferred[Unpacked] = Deferred.fromCoroutine(self._work())

    def grown(self, path: str, size: int) -> None:
        if self.state == "following":
            self.path = path
            self._advance(evolve(self.progress, consumed=size))

    def restarted(self) -> None:
        self.fail(CancelledError())

    def sealed(self, path: str, size: int) -> None:
        if self.state == "following":
            self.state, self.path = "sealed", path
            self._advance(evolve(self.progress, consumed=size))
            self._unpacker.begin(self)

    def fail(self, error: Exception) -> None:
        """
        End the work with an error, at any time.
        """
        if not self._outcome.called:
            self._outcome.errback(error)

    def finish(self, packed: bytes) -> None:
        """
        Unpack these bytes; called by the unpacker.
        """
        if self._outcome.called:
            return
        try:
            unpacked = measure(packed, self.algorithm)
        except BadLayer as e:
            self.fail(e)
            return
        self._advance(UnpackProgress(len(packed), unpacked.entries))
        self._outcome.callback(unpacked)

    async def _work(self) -> Unpacked:
        try:
            return await self._outcome
        except Exception:
            await then_cancelled(self._unpacker.gate.enter("end", self.staged))
            raise
        finally:
            self.state = "ended"
            if self._news is not None and self._news.active():
                self._news.cancel()

    def _advance(self, progress: UnpackProgress) -> None:
        self.progress = progress
        if self._news is None or not self._news.active():
            self._news = self._unpacker.clock.callLater(_INTERVAL, self._tell)

    def _tell(self) -> None:
        self._notify(self.progress)


@implementer(IUnpacker)
class FakeUnpacker:
    """
    As many workers as there are layers.

    @ivar gate: the gate of its work.
    @ivar unpackings: all unpackings, the oldest first.
    @ivar running: whether C{start} was called, and C{stop} was not.
    @ivar workers: the setting, which has no effect.
    @ivar least: bytes with which the unpacking of a growing blob begins.
    @ivar sandbox: the measures of its sandbox.
    """

    def __init__(self, clock: IReactorTime, read: Callable[[str], bytes] | None = None) -> None:
        """
        @param read: how to read a blob's file: C{store.blobs.open_path} of a
            L{FakeStore<xferd.testing.fake_store.FakeStore>}; real files by
            default.
        """
        self.clock = clock
        self.gate = Gate(clock)
        self.unpackings: list[FakeUnpacking] = []
        self.running = False
        self.workers = 2
        self.least = 1
        self.sandbox: dict[str, str] | None = {"seccomp": ""}
        self._read = read or (lambda path: Path(path).read_bytes())

    def unpack(
        self,
        staged: str,
        compression: str,
        notify: Callable[[UnpackProgress], None],
        algorithm: str = "sha256",
        moving: Callable[[], bool] = lambda: True,  # noqa: ARG002 - it has room for all
    ) -> FakeUnpacking:
        unpacking = FakeUnpacking(self, staged, compression, notify, algorithm)
        self.unpackings.append(unpacking)
        return unpacking

    @property
    def busy(self) -> int:
        return sum(unpacking.state != "ended" for unpacking in self.unpackings)

    def begin(self, unpacking: FakeUnpacking) -> None:
        """
        Unpack a sealed blob in its turn; called by the unpacking.
        """
        turn = self.gate.enter("unpack", unpacking.staged)
        turn.addCallbacks(  # type: ignore[unused-awaitable]
            lambda _: unpacking.finish(self._read(unpacking.path)),
            lambda failure: unpacking.fail(failure.value),
        )

    def start(self) -> None:
        self.running = True

    def stop(self) -> Deferred[None]:
        self.running = False
        for unpacking in self.unpackings:
            unpacking.fail(CancelledError())
        return self.gate.enter("stop")
