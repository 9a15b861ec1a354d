# -*- test-case-name: tests.unpack.test_layer_process -*-
"""
A layer's own process: it follows the blob's growing file and writes the tree.

Two threads inflate and hash (L{xferd.unpack.inflate}); the main thread reads
the tar and writes files.

Imports no Twisted.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from hashlib import sha256, sha512
from time import monotonic
from typing import Any, Final, Protocol

from xferd.errors import BadLayer, DiskFull, StoreError, WorkerLost, XferdError
from xferd.owners import OwnerSet
from xferd.tree_record import NAME, RecordWriter
from xferd.unpack import protocol, sandbox
from xferd.unpack.inflate import Blocks, Readable
from xferd.unpack.limits import PlainLimits
from xferd.unpack.metadata import metadata_writer
from xferd.unpack.rights import Rights, own_rights
from xferd.unpack.tar import TarReader
from xferd.unpack.tree_writer import FULL, TreeWriter
from xferd.unpack.writeback import Begin, Writeback, begin

_PROGRESS: Final = 0.1
"""Seconds between two reports of progress."""

_IMPLIED: Final = 32 * 1024
"""Bytes of implied directories' paths in one line; JSON encodes a byte in at most six."""

_RECORD: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC

_RECORD_SIZE: Final = 1024 * 1024 * 1024
"""Bytes that the record of a layer may have, however few bytes its files may have."""

_NO_MEMORY: Final = protocol.encode(
    "error",
    code=BadLayer.code,
    message=f"the layer takes more than {sandbox.MEMORY} bytes of memory to unpack",
)

Send = Callable[[bytes], None]


class Confined(Protocol):
    """
    The part of L{sandbox.Sandbox} that unpacking uses.
    """

    def seal(self) -> None:
        """
        Refuse all system calls that unpacking does not make.
        """


class Abandoned(Exception):
    """
    The reactor or the worker has ended.
    """


class GrowingBlob(Readable):
    """
    A blob's growing file, read as far as the reactor permits.
    """

    def __init__(self, lines: io.BufferedIOBase, send: Send, begin: Begin = begin) -> None:
        """
        @param lines: delivers C{grown}.
        @param send: sends C{hungry}.
        @param begin: begins to write a part of the file to the disk.
        """
        self._begin = begin
        self._lines, self._send = lines, send
        self._file: io.FileIO | None = None
        self._at = self._size = 0
        self._sealed = False

    def open(self) -> None:
        """
        Wait for the first C{grown}, and open the file.

        @raise Abandoned: the pipe ends first.
        @raise StoreError: there is no such file.
        """
        while self._file is None:
            path = self._receive()
            try:
                self._file = io.FileIO(path)
                self._writeback = Writeback(self._file.fileno(), self._begin)
            except FileNotFoundError as e:
                # A commit may have renamed the partial file; the sealing message has the new path.
                if self._sealed:
                    raise StoreError(f"the blob's file {path} is gone") from e
                self._send(protocol.encode("hungry", consumed=0))

    def readinto(self, buffer: memoryview, /) -> int:
        file = self._file
        assert file is not None
        while self._at == self._size:
            if self._sealed:
                return 0
            self._send(protocol.encode("hungry", consumed=self._at))
            self._receive()
        count = file.readinto(memoryview(buffer)[: self._size - self._at])
        if not count:
            raise StoreError(f"the blob's file ends at {self._at} bytes; it had {self._size}")
        self._at += count
        self._writeback.added(count)
        return count

    def _receive(self) -> str:
        """
        Wait for the next C{grown}.

        @return: the file's path.
        """
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise Abandoned
        _, body = protocol.decode(line)
        self._size, self._sealed = body["size"], body["sealed"]
        path: str = body["path"]
        return path


def unpack(
    source: GrowingBlob,
    root: int,
    record: int,
    compression: str,
    algorithm: str,
    limits: PlainLimits,
    rights: Rights,
    send: Send,
    seal: Callable[[], None],
) -> None:
    """
    Unpack one layer, and send the result.

    @param root: a descriptor of the empty directory that becomes the tree.
    @param record: an empty file for the tree's record.
    @param algorithm: the algorithm of the diff ID.
    @param seal: called after all threads have started and before a byte is
        read.
    """
    blocks = Blocks(source, compression, limits, algorithm, seal)
    try:
        entries = 0
        owners = OwnerSet()
        last = monotonic()

        def report() -> None:
            nonlocal last
            now = monotonic()
            if now - last >= _PROGRESS:
                last = now
                send(protocol.encode("progress", consumed=blocks.consumed, entries=entries))

        def reporting() -> Iterator[memoryview]:
            for block in blocks:
                report()
                tree.check_memory()
                yield block

        stream = reporting()
        reader = TarReader(stream, limits)
        writer = RecordWriter(record)
        tree = TreeWriter(root, limits, metadata_writer(rights), writer, lambda: blocks.memory)
        for entry in reader:
            tree.add(entry, reader.read)
            owners.add(entry.uid, entry.gid)
            entries += 1
        # The unpacker kills a process that reports nothing for long.
        implied = tree.finish(report)
        writer.finish()
        # Bytes after the tar's end are part of its digest.
        for _ in stream:
            pass
    finally:
        blocks.close()
    for paths in _batches(implied):
        send(protocol.encode("implied", paths=[path.decode("latin-1") for path in paths]))
    send(
        protocol.encode(
            "result",
            diff_id=blocks.diff_id,
            tar_size=blocks.size,
            size=tree.size,
            entries=entries,
            owners=owners.owners().to_json(),
        )
    )


def _batches(paths: tuple[bytes, ...]) -> Iterator[list[bytes]]:
    """
    Split paths into lists that fit into one line each.
    """
    batch: list[bytes] = []
    size = 0
    for path in paths:
        if batch and size + len(path) > _IMPLIED:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += len(path) + 8
    if batch:
        yield batch


def run(
    task: dict[str, Any],
    lines: io.BufferedIOBase,
    send: Send,
    confine: Callable[[int, Rights, int], Confined],
) -> None:
    """
    Run a layer's process: confine it, unpack the layer, and send the result or
    the error.

    @param task: the body of C{begin}.
    @param confine: L{sandbox.enter}.
    """
    try:
        source = GrowingBlob(lines, send)
        source.open()
        root = os.open(task["staged"], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        record = os.open(os.path.join(os.path.dirname(task["staged"]), NAME), _RECORD, 0o600)
        rights = own_rights()
        # The tree's directories would inherit its group and its setgid bit.
        if rights is not Rights.NONE:
            os.fchown(root, 0, 0)
        os.fchmod(root, 0o755)
        limits = PlainLimits(**task["limits"])
        confined = confine(root, rights, max(limits.size, _RECORD_SIZE))
        unpack(
            source, root, record, task["compression"], task["algorithm"], limits, rights, send, confined.seal
        )
    except Abandoned:
        pass
    except MemoryError:
        send(_NO_MEMORY)
    except XferdError as e:
        send(protocol.encode("error", code=e.code, message=str(e)))
    except OSError as e:
        code = DiskFull.code if e.errno in FULL else StoreError.code
        send(protocol.encode("error", code=code, message=f"a layer cannot be unpacked: {e.strerror or e}"))
    except Exception as e:
        message = f"unpacking ended in {type(e).__name__}: {e} {_frames(e)}\n"
        os.write(2, message.encode("utf-8", "backslashreplace"))
        text = "a layer cannot be unpacked: internal error; see the daemon's log"
        send(protocol.encode("error", code=WorkerLost.code, message=text))


def warm_up() -> None:
    """
    Load what Python imports on first use: the sandbox prevents it later.
    """
    sha256(b"").hexdigest()
    sha512(b"").hexdigest()
    protocol.decode(protocol.encode("warm", up=["\xff"]))
    "\udcff".encode("utf-8", "backslashreplace")
    b"\xff".decode("utf-8", "backslashreplace")


def _frames(error: BaseException) -> str:
    """
    The frames of an error.  The C{traceback} module would read the source
    files, whose paths may exist in the layer.
    """
    frames, at = [], error.__traceback__
    while at is not None:
        frames.append(f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}")
        at = at.tb_next
    return " > ".join(frames)
