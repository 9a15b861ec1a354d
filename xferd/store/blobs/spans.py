# -*- test-case-name: tests.store.blobs.test_spans -*-
"""
The parts of a blob that have arrived out of order, and the note beside the blob's file.

A note stays true after it was written, because bytes are only added.  It is
written before the first byte after a gap, so that a file with gaps is never
mistaken for one without.  Its parts are valid until the machine restarts: unflushed
bytes survive the daemon, but not the machine.  The marks are valid for ever: each is a
hash of the bytes before it, so that the bytes that are on the disk can be checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

from attrs import define, evolve, field, frozen

_BOOT = "/proc/sys/kernel/random/boot_id"
_MOST = 64 * 1024
"""Bytes of a note, at most; an ordinary one has a page."""

_PAGE = 4096
"""Bytes of a page of memory: the kernel writes one as a whole, or not at all."""

MOST_MARKS: Final = 32
"""Marks of a note, at most: they fit into its page."""

Mark = tuple[int, str]
"""An offset, and the hash of all bytes before it, shortened to L{MARK_LENGTH} digits."""

MARK_LENGTH: Final = 32
"""Hexadecimal digits of a mark's hash: 128 bits, as the disk makes mistakes and no attacks."""


@define
class Spans:
    """
    Parts of a file in order, with a gap before each.
    """

    _spans: list[tuple[int, int]] = field(factory=list, init=False)

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Spans:
        """
        Make spans of parts, each given by its start and its stop.
        """
        made = cls()
        for start, stop in spans:
            made.add(start, stop)
        return made

    def __bool__(self) -> bool:
        return bool(self._spans)

    def all(self) -> tuple[tuple[int, int], ...]:
        """
        The parts.
        """
        return tuple(self._spans)

    @property
    def first(self) -> tuple[int, int]:
        """
        The part with the lowest offset.
        """
        return self._spans[0]

    def add(self, start: int, stop: int) -> None:
        """
        Add a part, and join it with those that it touches.
        """
        if start >= stop:
            return
        kept = []
        for span in self._spans:
            if span[1] < start or span[0] > stop:
                kept.append(span)
            else:
                start, stop = min(start, span[0]), max(stop, span[1])
        self._spans = sorted([*kept, (start, stop)])

    def drop_before(self, offset: int) -> None:
        """
        Remove all bytes before C{offset}.
        """
        self._spans = [(max(start, offset), stop) for start, stop in self._spans if stop > offset]

    def clear(self) -> None:
        """
        Remove all parts.
        """
        self._spans.clear()


@frozen
class Note:
    """
    The bytes that are in a blob's file.

    @ivar prefix: the number of bytes at its beginning.
    @ivar spans: further parts, each a start and a stop, in order.
    @ivar marks: see L{Mark}, in order.
    @ivar whole: whether the file has no gaps: all bytes up to its end are there.
    @ivar current: whether it was written since the machine started.  If not, only the
        marks count.
    """

    prefix: int
    spans: tuple[tuple[int, int], ...] = ()
    marks: tuple[Mark, ...] = ()
    whole: bool = False
    current: bool = True

    def within(self, length: int) -> Note:
        """
        The part of it that fits into a file of C{length} bytes.
        """
        if self.whole:
            return evolve(self, prefix=length, spans=())
        if self.prefix > length:
            return Note(0, marks=self.marks)
        return evolve(self, spans=tuple(span for span in self.spans if span[1] <= length))


def write_note(path: str, note: Note) -> None:
    """
    Write a note in place of an older one.  This takes some 10 microseconds, since
    nothing is flushed, and an older note is overwritten within its page: C{kill -9}
    never interrupts that.

    @raise OSError: the disk refuses.
    """
    values = {
        "boot": boot_id(),
        "prefix": note.prefix,
        "spans": note.spans,
        "marks": note.marks,
        "whole": note.whole,
    }
    text = json.dumps(values).encode().ljust(_PAGE)
    if len(text) > _PAGE or not _overwrite(path, text):
        temporary = path + ".new"
        with open(temporary, "wb", opener=_private) as file:
            file.write(text)
        os.rename(temporary, path)


def _overwrite(path: str, text: bytes) -> bool:
    """
    Write a page over a note.

    @return: whether there is a note, of one page.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return os.fstat(fd).st_size == _PAGE and os.pwrite(fd, text, 0) == _PAGE
    finally:
        os.close(fd)


def read_note(path: str) -> Note | None:
    """
    Read a note.

    @return: L{None} if there is no note; one that is not current if the note is of an
        earlier boot, or damaged.
    @raise OSError: the disk refuses.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST)
    except FileNotFoundError:
        return None
    try:
        values = json.loads(data)
        note = Note(
            int(values["prefix"]),
            tuple((int(start), int(stop)) for start, stop in values["spans"]),
            tuple((int(offset), str(text)) for offset, text in values.get("marks", ())),
            values.get("whole") is True,
        )
        known = values["boot"] == boot_id() != ""
    except (ValueError, TypeError, KeyError):
        return Note(0, current=False)
    bounds = [0, note.prefix, *(bound for span in note.spans for bound in span)]
    marks = [0, *(offset for offset, _ in note.marks)]
    if marks != sorted(marks):
        return Note(0, current=False)
    return note if known and bounds == sorted(bounds) else Note(0, marks=note.marks, current=False)


def thinned(marks: Sequence[Mark]) -> list[Mark]:
    """
    Every other mark, with the last one, if there are too many.
    """
    return list(marks) if len(marks) <= MOST_MARKS else [*marks[-1::-2]][::-1]


def remove_note(path: str) -> None:
    """
    Remove a note, if there is one.

    @raise OSError: the disk refuses.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)


def boot_id() -> str:
    """
    The ID of this boot of the machine, or the empty string if the kernel does
    not provide it.
    """
    try:
        with open(_BOOT) as file:
            return file.read(100).strip()
    except OSError:
        return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
