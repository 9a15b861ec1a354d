# -*- test-case-name: tests.ctl.commands.test_archives -*-
"""
Sending an archive to the daemon, in a thread, while its job is followed.
"""

from __future__ import annotations

import os
import stat
import sys
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from xferd.ctl.errors import ArchiveLost, ClientError
from xferd.ctl.image.layout import LayoutTar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xferd.ctl.client import Daemon

PIECE: Final = 4 * 1024 * 1024
"""The largest piece in bytes that the daemon accepts."""

_PATIENCE = 2.0
"""Seconds after which an incomplete piece is sent, so that the daemon sees a living client."""


class Source(Protocol):
    """
    An archive to send.
    """

    @property
    def size(self) -> int | None:
        """
        Its bytes; L{None} if unknown.
        """

    def __iter__(self) -> Iterator[bytes]:
        """
        Yield its bytes, in pieces of any size.
        """

    def rewind(self) -> bool:
        """
        Begin again.

        @return: whether that is possible.
        """


class _File:
    """
    A file or a pipe.
    """

    def __init__(self, file: BinaryIO) -> None:
        found = os.fstat(file.fileno())
        self.size: int | None = None
        self._start = 0
        if stat.S_ISREG(found.st_mode):
            self._start = file.tell()
            self.size = max(0, found.st_size - self._start)
        # Closed with the process.
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        while data := os.read(self._file.fileno(), PIECE):
            yield data

    def rewind(self) -> bool:
        if self.size is None:
            return False
        os.lseek(self._file.fileno(), self._start, os.SEEK_SET)
        return True


def open_source(path: str) -> Source:
    """
    Open the source of an import: a file, a directory, or C{-} for stdin.

    @raise ClientError: it cannot be opened.
    """
    if path == "-":
        return _File(open(os.dup(sys.stdin.fileno()), "rb", buffering=0))
    try:
        if os.path.isdir(path):
            return LayoutTar(path)
        return _File(open(path, "rb", buffering=0))
    except OSError as e:
        raise ClientError(f"cannot read {path!r}: {e.strerror}") from e


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """
    Join pieces to the largest size, but wait at most 2 seconds for one.
    """
    held: list[bytes] = []
    size, since = 0, 0.0
    for piece in pieces:
        if not piece:
            continue
        view = piece
        while size + len(view) >= PIECE:
            held.append(view[: PIECE - size])
            view = view[PIECE - size :]
            yield b"".join(held)
            held, size = [], 0
        if view:
            if not held:
                since = monotonic()
            held.append(view)
            size += len(view)
            if monotonic() - since >= _PATIENCE:
                yield b"".join(held)
                held, size = [], 0
    if held:
        yield b"".join(held)


class Sender:
    """
    Sends an archive to a job.

    Life cycle: L{start}ed; ends by itself, or soon after L{stop}.

    @ivar error: why the archive could not be sent; the job was then cancelled.
    """

    def __init__(self, daemon: Daemon, job_id: str, source: Source) -> None:
        self.error: Exception | None = None
        self._daemon = daemon
        self._job_id = job_id
        self._source = source
        self._stopped = Event()
        # A daemon thread: it may be blocked on a pipe without an end.
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """
        Start sending.
        """
        self._thread.start()

    def stop(self) -> None:
        """
        Stop sending.
        """
        self._stopped.set()

    def _run(self) -> None:
        try:
            self._send()
        except Exception as e:
            if self._stopped.is_set():
                return
            self.error = e
            try:
                self._daemon.cancel(self._job_id)
            except ClientError:
                # The daemon ends the job by itself when no more pieces arrive.
                pass

    def _send(self) -> None:
        while True:
            try:
                self._send_once()
            except ArchiveLost:
                if self._source.rewind():
                    continue
                raise ClientError(
                    "the daemon was restarted, and this archive cannot be read a second time; "
                    "import it again, from a file"
                ) from None
            return

    def _send_once(self) -> None:
        offset = 0
        for piece in joined(self._source):
            if self._stopped.is_set():
                return
            self._daemon.send_piece(self._job_id, offset, piece)
            offset += len(piece)
        self._daemon.end_content(self._job_id, offset)
