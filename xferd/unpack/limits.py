# -*- test-case-name: tests.unpack.test_inflate -*-
"""
The limits of one layer as the worker has them, and names as its errors show
them.  Imports no Twisted.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Limits(Protocol):
    """
    The attributes of L{xferd.interfaces.unpack.UnpackLimits}, which imports
    Twisted.
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
    Limits that were read from a message of the L{xferd.unpack.protocol}.
    """

    entries: int
    size: int
    header: int
    depth: int
    ratio: int


def printable(name: bytes) -> str:
    """
    A name from a tar for an error message: without control characters and
    surrogates, and at most 200 characters.
    """
    text = repr(name.decode("utf-8", "backslashreplace"))
    return text if len(text) <= 200 else f"{text[:150]}...{text[-40:]}"
