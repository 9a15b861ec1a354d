# -*- test-case-name: tests.ctl.commands.test_archives -*-
"""
Sending an archive to the daemon, in a thread, while the job is being followed.
"""

from __future__ import annotations

import os
import stat
import sys
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from xferd.ctl.errors import ClientError
from xferd.ctl.image.layout import LayoutTar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xferd.ctl.client import Daemon

PIECE: Final = 4 * 1024 * 1024
"""Bytes of a piece, at most; the daemon takes no more."""

_PATIENCE = 2.0
"""Seconds after which what is there of a piece is sent: the daemon shall see that we live."""


class Source(Protocol):
    """
    An archive to be sent.
    """

    @property
    def size(self) -> int | None:
        """
        Its bytes, or L{None} if nobody knows.
        """

    def __iter__(self) -> Iterator[bytes]:
        """
        Its bytes in pieces of any size.
        """


class _File:
    """
    A file, or what comes through a pipe.
    """

    def __init__(self, file: BinaryIO) -> None:
        found = os.fstat(file.fileno())
        self.size: int | None = None
        if stat.S_ISREG(found.st_mode):
            self.size = max(0, found.st_size - file.tell())
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        fd = self._file.fileno()
        with self._file:
            while data := os.read(fd, PIECE):
                yield data


def open_source(path: str) -> Source:
    """
    Open what is to be imported: a file, a directory, or C{-} for stdin.

    @raise ClientError: it cannot be read.
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
    Pieces as large as they may be, as long as nobody has to wait for that.
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

    Life cycle: made; C{start}ed; it ends by itself, or soon after C{stop}.

    @ivar error: why it could not send all; then it has cancelled the job.
    """

    def __init__(self, daemon: Daemon, job_id: str, source: Source) -> None:
        self.error: Exception | None = None
        self._daemon = daemon
        self._job_id = job_id
        self._source = source
        self._stopped = Event()
        # Nobody waits for it: it may be reading from a pipe without an end.
        self._thread = Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """
        Begin.
        """
        self._thread.start()

    def stop(self) -> None:
        """
        Send nothing more.
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
                # Then the daemon gives up by itself, and the job's follower sees why.
                pass

    def _send(self) -> None:
        offset = 0
        for piece in joined(self._source):
            if self._stopped.is_set():
                return
            self._daemon.send_piece(self._job_id, offset, piece)
            offset += len(piece)
        self._daemon.end_content(self._job_id, offset)
