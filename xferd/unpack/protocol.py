# -*- test-case-name: tests.unpack.test_protocol -*-
"""
The messages between the reactor and its worker process: lines, each with the
layer's number, a verb and a JSON object.

From the reactor:

  - C{begin}: C{staged}, C{compression}, C{algorithm}, C{limits}.  Start the
    process of a layer.
  - C{grown}: C{path}, C{size}, C{sealed}.  The process may read the first
    C{size} bytes of the blob; if C{sealed}, these are all.
  - C{cancel}: kill the layer's process.

From the worker:

  - C{hungry}: C{consumed}.  The process has read all the bytes it may read.
  - C{progress}: C{consumed}, C{entries}.
  - C{implied}: C{paths}, a part of the result's implied directories.
  - C{result}: C{diff_id}, C{tar_size}, C{size}, C{entries}, C{owners}.
  - C{error}: C{code}, C{message}, as in L{xferd.errors}.
  - C{ended}: C{status}.  The layer's process has ended; always its last
    message.
  - C{sandbox}, with the number L{WORKER}, once: C{missing}, the measures that
    are not in force in the sandbox of layers' processes.

A layer's process has at most one unread C{grown}: the next follows its
C{hungry}.  Paths are bytes, encoded in JSON as Latin-1.

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
    A line without its number, as a layer's process reads and writes it.
    """
    return f"{verb} {json.dumps(body)}\n".encode("ascii")


def address(number: int, line: bytes) -> bytes:
    """
    Put the number of a layer in front of a line.
    """
    return b"%d %b" % (number, line)


def split(line: bytes) -> tuple[int, bytes]:
    """
    Separate the number from the rest of a line.
    """
    number, _, rest = line.partition(b" ")
    return int(number), rest


def decode(line: bytes) -> tuple[str, dict[str, Any]]:
    """
    Decode a line without its number.

    @return: its verb and its object.
    """
    verb, _, body = line.partition(b" ")
    return verb.decode("ascii"), json.loads(body)


class Lines:
    """
    Splits a stream of bytes into lines.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """
        Add received bytes.

        @return: the lines that are complete now, without their ends.

        @raise ValueError: a line has more than L{MAX_LINE} bytes.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            self._rest = b""
            raise ValueError("a line is too long")
        return lines
