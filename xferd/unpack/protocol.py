# -*- test-case-name: tests.unpack.test_unpacker -*-
"""
What the reactor and its worker process say to each other: lines, each with the
layer's number, a verb and a JSON object.

From the reactor:

  - C{begin}: C{staged}, C{compression}, C{algorithm}, C{limits}.  Take on a
    layer.
  - C{grown}: C{path}, C{size}, C{sealed}.  The first C{size} bytes of the blob
    may be read, and if it is sealed, there are no more.
  - C{cancel}: end the layer's process, at once.

From the worker:

  - C{hungry}: C{consumed}.  All that it may read is read.
  - C{progress}: C{consumed}, C{entries}.
  - C{implied}: C{paths}, some of the result's implied directories.
  - C{result}: C{diff_id}, C{tar_size}, C{size}, C{entries}.
  - C{error}: C{code}, C{message}, as in L{xferd.errors}.
  - C{ended}: C{status}.  The layer's process is gone; always the last word.
  - C{sandbox}, with the number L{WORKER}, once: C{missing}, what the sandbox of
    layers' processes lacks.

A layer's process has at most one unread C{grown}: it gets the next when it is
hungry.  Paths are bytes, and stand in JSON as Latin-1.

Imports no Twisted: both sides use it.
"""

from __future__ import annotations

import json
from typing import Any, Final

WORKER: Final = -1
"""The number of the worker's own messages."""

MAX_LINE: Final = 1024 * 1024
"""Bytes of the longest line."""


def encode(verb: str, **body: Any) -> bytes:
    """
    A line without its number, as a layer's own process sees it.
    """
    return f"{verb} {json.dumps(body)}\n".encode("ascii")


def address(number: int, line: bytes) -> bytes:
    """
    A line for or from a layer's process.
    """
    return b"%d %b" % (number, line)


def split(line: bytes) -> tuple[int, bytes]:
    """
    Part the number from the rest of a line.
    """
    number, _, rest = line.partition(b" ")
    return int(number), rest


def decode(line: bytes) -> tuple[str, dict[str, Any]]:
    """
    Read a line without its number.
    """
    verb, _, body = line.partition(b" ")
    return verb.decode("ascii"), json.loads(body)


class Lines:
    """
    Parts a stream of bytes into lines.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """
        Take some bytes and give the lines that are whole now, without their ends.

        @raise ValueError: a line has more than L{MAX_LINE} bytes.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = b""
            raise ValueError("a line is too long")
        return lines
