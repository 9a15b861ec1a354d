# -*- test-case-name: tests.unpack.test_inflate -*-
"""
What the reading side of unpacking asks of its limits, and how it shows names
in errors.  Imports no Twisted.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Limits(Protocol):
    """
    L{xferd.interfaces.unpack.UnpackLimits} as this side of the pipe sees it.
    """

    @property
    def entries(self) -> int:
        """
        Headers in the tar, and directories that it implies.
        """

    @property
    def size(self) -> int:
        """
        Bytes of the uncompressed tar, and of one file.
        """

    @property
    def header(self) -> int:
        """
        Bytes of one entry's extended headers.
        """

    @property
    def depth(self) -> int:
        """
        Components in one path.
        """

    @property
    def ratio(self) -> int:
        """
        Uncompressed bytes for each compressed byte.
        """


class PlainLimits(NamedTuple):
    """
    Limits as they come out of a message.
    """

    entries: int
    size: int
    header: int
    depth: int
    ratio: int


def printable(name: bytes) -> str:
    """
    A name from a tar, fit to stand in an error: no control characters, no
    surrogates, not endless.
    """
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"
