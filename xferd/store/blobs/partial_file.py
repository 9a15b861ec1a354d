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
from xferd.store.blobs.spans import MARK_LENGTH, Mark, Note, Spans, read_note, remove_note, write_note
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
    @ivar marks: the marks of the bytes up to the first gap.
    @ivar noted: whether there is a note.
    """

    fd: int
    offset: int
    hasher: _Hash
    spans: Spans
    marks: tuple[Mark, ...] = ()
    noted: bool = False


class Stopped(Exception):
    """
    Hashing the bytes of an earlier attempt was cancelled.
    """


def open_partial(path: str, note_path: str, digest: Digest, size: int | None, stop: Event) -> Opened:
    """
    Open a partial blob's file and hash its bytes.  Blocking, for a thread.

    If the machine has restarted since, only those bytes are kept whose hash the note
    has: a power cut may have left a file with its size and without its data.

    @param note_path: the note of the bytes that are there; a file without a
        note has no gaps, and is of this boot.
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
            found = read_note(note_path)
            note = Note(length, whole=True) if found is None else found.within(length)
            if not note.current:
                note, hasher = _checked(fd, note, length, digest, stop)
            else:
                hasher = digest.hasher()
            spans = Spans.of([(0, note.prefix), *note.spans])
            here = spans.all()
            # Bytes that the note does not list may be wrong.
            os.ftruncate(fd, here[-1][1] if here else 0)
            offset = 0
            if here and here[0][0] == 0:
                begin = note.prefix if not note.current else 0
                offset = hash_part(fd, begin, here[0][1], hasher, stop)
                spans.drop_before(offset)
            marks = tuple(mark for mark in note.marks if mark[0] <= offset)
            noted = found is not None
            if noted and not spans:
                noted = bool(marks)
                if noted:
                    write_note(note_path, Note(offset, marks=marks, whole=True))
                else:
                    remove_note(note_path)
        except BaseException:
            os.close(fd)
            raise
        return Opened(fd, offset, hasher, spans, marks, noted)


def _checked(fd: int, note: Note, length: int, digest: Digest, stop: Event) -> tuple[Note, _Hash]:
    """
    Find the bytes of a note's marks that are still there.

    @param length: the bytes of the file.
    @return: a note of these alone, and their hash.
    """
    hasher, offset, right = digest.hasher(), 0, list[Mark]()
    for mark in note.marks:
        trial = hasher.copy()
        if mark[0] > length or hash_part(fd, offset, mark[0], trial, stop) != mark[0]:
            break
        if trial.hexdigest()[:MARK_LENGTH] != mark[1]:
            break
        hasher, offset = trial, mark[0]
        right.append(mark)
    return Note(offset, marks=tuple(right), current=False), hasher


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
