# -*- test-case-name: tests.store.blobs.test_spans -*-
"""
Which bytes of a blob are here before those in front of them, and the note of
it beside the blob's file.

A note is true at any time after it was written, because bytes only become
more.  It is written before the first byte goes behind a gap, so that a file
with gaps is never taken for one without; and it counts for this boot of the
machine alone: what the kernel was given survives the daemon, not the machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress

from attrs import define, field, frozen

_BOOT = "/proc/sys/kernel/random/boot_id"
_MOST = 64 * 1024
"""A note has some hundred bytes."""


@define
class Spans:
    """
    Parts of a file, none of which touches another, in order.
    """

    _spans: list[tuple[int, int]] = field(factory=list, init=False)

    @classmethod
    def of(cls, spans: Iterable[tuple[int, int]]) -> Spans:
        """
        Some parts, each given by its start and its stop.
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
        The part in front of all others.
        """
        return self._spans[0]

    def add(self, start: int, stop: int) -> None:
        """
        Bytes have come.
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
        Forget what is before C{offset}.
        """
        self._spans = [(max(start, offset), stop) for start, stop in self._spans if stop > offset]

    def clear(self) -> None:
        """
        Forget all.
        """
        self._spans.clear()


@frozen
class Note:
    """
    What is in a blob's file.

    @ivar prefix: so many bytes at its beginning.
    @ivar spans: and these parts, each a start and a stop, in order.
    """

    prefix: int
    spans: tuple[tuple[int, int], ...] = ()

    def within(self, length: int) -> Note:
        """
        What of it can be in a file of so many bytes.
        """
        if self.prefix > length:
            return Note(0)
        return Note(self.prefix, tuple(span for span in self.spans if span[1] <= length))


def write_note(path: str, note: Note) -> None:
    """
    Put a note in place of an older one.  It takes some 100 microseconds, as
    nothing waits for the disk.

    @raise OSError: the disk refuses.
    """
    temporary = path + ".new"
    text = json.dumps({"boot": boot_id(), "prefix": note.prefix, "spans": note.spans})
    with open(temporary, "w", opener=_private) as file:
        file.write(text)
    os.rename(temporary, path)


def read_note(path: str) -> Note | None:
    """
    Read a note.

    @return: L{None} if there is none; one of nothing if what is there is of
        another boot, or damaged.
    @raise OSError: the disk refuses.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MOST)
    except FileNotFoundError:
        return None
    try:
        told = json.loads(data)
        note = Note(int(told["prefix"]), tuple((int(start), int(stop)) for start, stop in told["spans"]))
        known = told["boot"] == boot_id() != ""
    except (ValueError, TypeError, KeyError):
        return Note(0)
    bounds = [0, note.prefix, *(bound for span in note.spans for bound in span)]
    return note if known and bounds == sorted(bounds) else Note(0)


def remove_note(path: str) -> None:
    """
    Remove a note, if there is one.

    @raise OSError: the disk refuses.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)


def boot_id() -> str:
    """
    What tells this boot of the machine from all others, or nothing where the
    kernel does not tell.
    """
    try:
        with open(_BOOT) as file:
            return file.read(100).strip()
    except OSError:
        return ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
