# -*- test-case-name: tests.store.blobs.partials -*-
"""
Opens the files of partial blobs, and hashes their bytes.  Blocking, for threads.
"""

from __future__ import annotations

import os
from threading import Event
from typing import TYPE_CHECKING

from attrs import frozen

from xferd.names import Digest
from xferd.store.blobs.spans import Note, Spans, read_note, remove_note
from xferd.store.disk.file_system import trying_to

if TYPE_CHECKING:
    from hashlib import _Hash

_PIECE = 1024 * 1024


@frozen
class Opened:
    """
    A partial blob's open file.

    @ivar fd: a descriptor, for reading and writing.
    @ivar offset: the bytes in it up to the first gap.
    @ivar hasher: the hash of these bytes.
    @ivar spans: the parts after the first gap.
    """

    fd: int
    offset: int
    hasher: _Hash
    spans: Spans


class Stopped(Exception):
    """
    Hashing the bytes of an earlier attempt was cancelled.
    """


def open_partial(path: str, note_path: str, digest: Digest, size: int | None, stop: Event) -> Opened:
    """
    Open a partial blob's file and hash its bytes.  Blocking, for a thread.

    @param note_path: the note of the bytes that are there; a file without a
        note has no gaps.
    @param size: the bytes of the blob; a larger file is emptied.
    @raise Stopped: C{stop} was set.
    @raise StoreError: the disk refuses.
    """
    with trying_to(f"open {path}"):
        fd = create(path)
        try:
            length = os.fstat(fd).st_size
            if size is not None and length > size:
                length = 0
            note = read_note(note_path) if length else None
            note = Note(length) if note is None else note.within(length)
            spans = Spans.of([(0, note.prefix), *note.spans])
            here = spans.all()
            # Bytes that the note does not list may be wrong.
            os.ftruncate(fd, here[-1][1] if here else 0)
            hasher = digest.hasher()
            offset = 0
            if here and here[0][0] == 0:
                offset = hash_part(fd, 0, here[0][1], hasher, stop)
                spans.drop_before(offset)
            if not spans:
                remove_note(note_path)
        except BaseException:
            os.close(fd)
            raise
        return Opened(fd, offset, hasher, spans)


def hash_part(fd: int, offset: int, end: int, hasher: _Hash, stop: Event) -> int:
    """
    Hash a part of a file.  Blocking: a large part is for a thread.

    @return: the offset up to which bytes were hashed.
    @raise Stopped: C{stop} was set.
    """
    while offset < end and (piece := os.pread(fd, min(_PIECE, end - offset), offset)):
        if stop.is_set():
            raise Stopped
        hasher.update(piece)
        offset += len(piece)
    return offset


def create(path: str) -> int:
    """
    Open a file, and create it if it does not exist.  Links are not followed.

    @return: a descriptor.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
