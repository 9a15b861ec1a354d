# -*- test-case-name: tests.registry.transport.test_response_head -*-
"""
The limits on the head of a response: bytes, lines, the length of a line and
the number of interim (1xx) responses.

L{twisted.web}'s client keeps all header lines in memory, without a bound.
"""

from __future__ import annotations

from typing import Final

from xferd.registry.transport.errors import NotHTTP

MAX_HEAD_BYTES: Final = 256 * 1024
"""Bytes of a response's head at most, those of interim responses included."""

MAX_HEAD_LINES: Final = 256
"""Lines of a response's head at most, those of interim responses included."""

MAX_LINE: Final = 16 * 1024
"""Bytes of one line of a head at most: the longest that L{twisted.web} accepts."""

MAX_INTERIM: Final = 10
"""Interim (1xx) responses before the final one at most (RFC 9110, section 15.2,
has no limit)."""


class HeadTooLong(NotHTTP):
    """
    The head of a response is over a limit.
    """


class HeadLimit:
    """
    Counts the head of one response as its bytes arrive, and drops interim
    responses, each of which L{twisted.web} would log.

    States: reading a status line; reading header fields; over, once the head
    of the final response is complete.  What follows is not counted.
    """

    def __init__(self, name: str) -> None:
        """
        @param name: the server, for errors.
        """
        self._name = name
        self._bytes = self._lines = self._interim = 0
        self._line = b""
        self._has_status = self._is_final = False
        self.over = False

    def feed(self, data: bytes) -> bytes:
        """
        Count the next bytes of the connection.

        @return: these bytes without interim responses.  A status line is
            kept until it is complete.
        @raise HeadTooLong: the head is over one of the limits.
        """
        if not self._bytes and _is_usual(data):
            self.over = True
        kept: list[bytes] = []
        start = 0
        while not self.over:
            # Lines end as the parser of twisted.web ends them: by a line feed.
            end = data.find(b"\n", start)
            piece = data[start:] if end < 0 else data[start : end + 1]
            self._count(len(piece))
            self._line += piece
            if len(self._line) > MAX_LINE:
                raise self._error(f"has a line of more than {MAX_LINE} bytes")
            if self._is_final:
                kept.append(piece)
            if end < 0:
                return b"".join(kept)
            line, self._line = self._line, b""
            start = end + 1
            self._lines += 1
            if self._lines > MAX_HEAD_LINES:
                raise self._error(f"has more than {MAX_HEAD_LINES} lines")
            if not self._has_status:
                self._has_status, self._is_final = True, not _is_interim(line)
                if self._is_final:
                    kept.append(line)
            elif not line[:-1].removesuffix(b"\r"):
                self._end()
        kept.append(data[start:])
        return b"".join(kept)

    def _end(self) -> None:
        """
        A head is complete.
        """
        if self._is_final:
            self.over = True
            return
        self._has_status = False
        self._interim += 1
        if self._interim > MAX_INTERIM:
            raise self._error(f"follows more than {MAX_INTERIM} interim (1xx) responses")

    def _count(self, length: int) -> None:
        self._bytes += length
        if self._bytes > MAX_HEAD_BYTES:
            raise self._error(f"has more than {MAX_HEAD_BYTES} bytes")

    def _error(self, why: str) -> HeadTooLong:
        return HeadTooLong(f"{self._name} sent a response that is refused: its head {why}")


def _is_usual(data: bytes) -> bool:
    """
    Whether the first bytes of a response have the whole head of the final one, which
    is shorter than a line may be and has few lines: it need not be read line by line.
    """
    end = data.find(b"\r\n\r\n", 0, MAX_LINE)
    if end < 0 or data.count(b"\n", 0, end) + 2 > MAX_HEAD_LINES:
        return False
    return not _is_interim(data[: data.index(b"\n")])


def _is_interim(status: bytes) -> bool:
    """
    Whether a status line begins an interim response, read as L{twisted.web}
    reads it.
    """
    parts = status.split(b" ", 2)
    try:
        return 100 <= int(parts[1]) < 200
    except (IndexError, ValueError):
        return False
