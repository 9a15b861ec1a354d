# -*- test-case-name: tests.jobs.archives.test_refused_imports -*-
"""
The stream of an archive is read into blobs of the store.

The work is done in the reactor, in steps of some hundred microseconds with a turn
of the reactor in between, as downloads are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from xferd.archive.contents import DOCUMENTS, Contents, StoredFile
from xferd.archive.inflate import Inflater
from xferd.archive.tar_splitter import Member, TarSplitter
from xferd.errors import BadArchive, BadDigest, ContentMismatch, Truncated
from xferd.interfaces.blobs import IAnonymousBlob
from xferd.interfaces.store import IStore
from xferd.jobs.archives.source import ArchiveSource
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.disk_space.full_disk import retry_while_full
from xferd.jobs.upload_stream import UploadStream
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT, Descriptor
from xferd.transfer.activity import SILENCE
from xferd.transfer.fair_queue import Turn
from xferd.transfer.watcher import Watcher
from xferd.waits import CLIENT, waiting_long

if TYPE_CHECKING:
    from hashlib import _Hash

STEP: Final = 256 * 1024
"""Bytes of work in one turn of the reactor."""

_ITEM: Final = 16 * 1024
"""The work of a tar entry, or of a member of the compression, in bytes."""

_BLOB = re.compile(r"blobs/([^/]+)/([^/]+)")
_NOISE = re.compile(r"repositories|[^/]+/(?:VERSION|json)")
"""Further files that C{docker save} writes, which are not needed."""

_HEAD = 4


class Ingestion:
    """
    One archive, read to its end.

    Entries that are named by a digest are verified, and shared with downloads of
    the same blob.  All others are stored under the digest of their bytes.

    Life cycle: made; C{run}; C{release}, when the images have their names.
    """

    def __init__(
        self,
        upload_stream: UploadStream,
        *,
        store: IStore,
        layers: DownloadManager,
        clock: IReactorTime,
        turn: Turn,
        label: str,
        client: str,
        changed: Callable[[], None],
        resumed: Callable[[], Deferred[None]] = lambda: succeed(None),
    ) -> None:
        """
        @param label: the name of the archive in errors.
        @param client: the name of the client that sends it.
        @param changed: called when more of it was received.
        @param resumed: waits until its job is not paused.
        """
        self._resumed = resumed
        self._upload_stream = upload_stream
        self._store = store
        self._layers = layers
        self._clock = clock
        self._turn = turn
        self._client = client
        self._label = label
        self._changed = changed
        self._contents = Contents()
        self._watchers: dict[Digest, Watcher[None]] = {}
        self._failure: Failure | None = None
        self._worked = 0
        # The file that is being read.
        self._member: Member | None = None
        self._head = b""
        self._source: ArchiveSource | None = None
        self._digest: Digest | None = None
        self._hash: _Hash | None = None
        self._unnamed: IAnonymousBlob | None = None
        self._document: bytearray | None = None

    async def run(self) -> Contents:
        """
        Read the archive to its end.

        @return: its contents, which are in the store now.
        @raise BadArchive: the stream is no archive, or is damaged.
        @raise StoreError: the disk refuses.
        """
        inflater, splitter = Inflater(), TarSplitter()
        try:
            while data := await self._next():
                self._changed()
                for piece in inflater.feed(data):
                    await self._take(splitter, piece)
            for piece in inflater.finish():
                await self._take(splitter, piece)
            splitter.finish()
            await self._end()
            for watcher in self._watchers.values():
                await watcher.result()
        except ContentMismatch as e:
            raise BadArchive(f"the archive is damaged: {e}") from e
        finally:
            if self._source is not None:
                self._source.fail(Truncated(f"{self._label} ended early"))
            if self._unnamed is not None:
                self._unnamed.close()
        return self._contents

    async def _next(self) -> bytes:
        """
        Read the next piece; the client waits for that, and so for the end of a pause.
        """
        await self._resumed()
        with waiting_long(self._clock, SILENCE, CLIENT, self._client):
            return await self._upload_stream.read()

    def release(self) -> None:
        """
        Release all blobs.
        """
        for watcher in self._watchers.values():
            watcher.release()
        self._watchers.clear()

    async def _take(self, splitter: TarSplitter, data: memoryview) -> None:
        for item in splitter.feed(data):
            if isinstance(item, Member):
                await self._end()
                await self._begin(item)
                await self._work(_ITEM)
            elif item:
                await retry_while_full(self._store.free_space, partial(self._written, item))
            else:
                await self._work(_ITEM)
            if self._failure is not None:
                self._failure.raiseException()
        await self._work(len(data) or _ITEM)

    async def _work(self, size: int) -> None:
        """
        Return to the reactor after each L{STEP} of work.
        """
        self._worked += size
        if self._worked >= STEP:
            self._worked = 0
            await deferLater(self._clock, 0)

    async def _begin(self, member: Member) -> None:
        """
        Begin a file.
        """
        name = member.name
        if member.link is not None:
            self._contents.links[name] = member.link
            return
        if name in DOCUMENTS and member.size > MAX_DOCUMENT:
            raise BadArchive(f"the archive's {name} is larger than {MAX_DOCUMENT} bytes")
        digest = _digest(name)
        if digest is not None:
            await self._begin_blob(digest, member.size)
        elif _NOISE.fullmatch(name):
            return
        elif member.size <= MAX_DOCUMENT:
            self._document = bytearray()
        else:
            self._unnamed = await retry_while_full(self._store.free_space, self._store.blobs.anonymous)
        self._member, self._head = member, b""

    async def _begin_blob(self, digest: Digest, size: int) -> None:
        """
        Begin a blob: wait until its download takes bytes from here, or has
        ended with bytes from another source.
        """
        self._digest = digest
        # In isolated mode a client proves with the bytes that it has the blob,
        # whether the store has it or not.
        self._hash = digest.hasher() if self._layers.isolated else None
        known = self._store.blobs.size(digest)
        if known is not None:
            # In isolated mode the hash alone decides: an archive must not reveal sizes of blobs.
            if known != size and self._hash is None:
                raise BadArchive(
                    f"the archive is damaged: it has {size} bytes for {digest}, which has {known}"
                )
            return
        if digest in self._watchers:
            return
        source = self._source = ArchiveSource(digest, size, self._label)
        blob = Descriptor("application/octet-stream", digest, size)
        watcher = self._layers.fetch(blob, source, self._turn)
        self._watchers[digest] = watcher

        def fetched(result: Any) -> None:
            if isinstance(result, Failure) and result.check(CancelledError) is None:
                self._failure = result
            source.settle()

        _ = watcher.result().addBoth(fetched)
        await self._wanted(source)

    async def _wanted(self, source: ArchiveSource) -> None:
        """
        Wait until the blob's download takes its bytes from here, or has ended.
        """
        while not source.ready.called:
            await source.ready
            # Not from within the call of the download.
            await deferLater(self._clock, 0)

    async def _written(self, data: memoryview) -> None:
        if self._source is not None:
            await self._wanted(self._source)
            if self._failure is not None:
                return
        self._write(data)

    def _write(self, data: memoryview) -> None:
        """
        Write bytes of a file.
        """
        if self._member is None:
            return
        # First, as it is repeated when the disk was full.
        if self._source is not None:
            self._source.write(data)
        elif self._unnamed is not None:
            self._unnamed.write(data)
        elif self._document is not None:
            self._document += data
        if len(self._head) < _HEAD:
            self._head += bytes(data[: _HEAD - len(self._head)])
        if self._hash is not None:
            self._hash.update(data)

    async def _end(self) -> None:
        """
        End the file.
        """
        member, self._member = self._member, None
        if member is None:
            return
        digest, self._digest = self._digest, None
        hasher, self._hash = self._hash, None
        if hasher is not None and digest is not None and hasher.hexdigest() != digest.hex:
            raise BadArchive(f"the archive is damaged: its bytes for {digest} have another digest")
        if self._source is not None:
            source, self._source = self._source, None
            source.finish()
        elif self._unnamed is not None:
            digest = await retry_while_full(self._store.free_space, self._unnamed.commit)
            self._unnamed = None
            self._layers.brought(digest)
        elif self._document is not None:
            data, self._document = bytes(self._document), None
            if member.name in DOCUMENTS:
                self._contents.documents[member.name] = data
                return
            digest = Digest.of(data)
            await retry_while_full(self._store.free_space, partial(self._store.blobs.put, digest, data))
            self._layers.brought(digest)
        assert digest is not None
        self._contents.files[member.name] = StoredFile(digest, member.size, self._head)


def _digest(name: str) -> Digest | None:
    """
    The digest in a file's name, if there is one.
    """
    blob = _BLOB.fullmatch(name)
    try:
        return None if blob is None else Digest(blob[1], blob[2])
    except BadDigest:
        return None
