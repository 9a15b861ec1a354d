# -*- test-case-name: tests.registry.transport.test_ranges -*-
"""
Range requests (RFC 9110, section 14), and the ranges of upload sessions.

Pure.  A 206 with another range than the requested one would put foreign bytes
into a blob.  It is refused at once, and not by the digest at the end.
"""

from __future__ import annotations

import re

from attrs import frozen

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(?:([0-9]{1,19})-([0-9]{1,19})|\*)/([0-9]{1,19}|\*)", re.IGNORECASE)
_SESSION_RANGE = re.compile(r"(?:bytes[ =])?0-(-1|[0-9]{1,19})", re.IGNORECASE)


@frozen
class ContentRange:
    """
    The C{Content-Range} of a 206: which bytes of the whole are in the body.

    @ivar first: the offset of the first byte.
    @ivar last: the offset of the last byte, inclusive.
    @ivar total: the bytes of the whole, or L{None} if the server does not state it.
    """

    first: int
    last: int
    total: int | None

    @property
    def length(self) -> int:
        """
        The bytes in the body.
        """
        return self.last - self.first + 1


def range_from(offset: int, end: int | None = None) -> str:
    """
    The C{Range} header for all bytes from C{offset} on, or for those before
    C{end}.
    """
    return f"bytes={offset}-" if end is None else f"bytes={offset}-{end - 1}"


def parse_content_range(text: str) -> ContentRange:
    """
    Read the C{Content-Range} of a 206.

    @raise ValueError: it breaks the grammar, or names no bytes.
    """
    matched = _CONTENT_RANGE.fullmatch(text.strip())
    if matched is None or matched.group(1) is None:
        raise ValueError(f"{text[:80]!r} is not a range of bytes")
    first, last = int(matched.group(1)), int(matched.group(2))
    total = None if matched.group(3) == "*" else int(matched.group(3))
    if last < first or (total is not None and last >= total):
        raise ValueError(f"{text[:80]!r} is not a possible range")
    return ContentRange(first, last, total)


def parse_unsatisfied(text: str) -> int | None:
    """
    Read the whole's size from the C{Content-Range} of a 416, C{bytes * / 1234}
    without the blanks.

    @return: bytes, or L{None} if the header does not have it.
    """
    matched = _CONTENT_RANGE.fullmatch(text.strip())
    if matched is None or matched.group(1) is not None or matched.group(3) == "*":
        return None
    return int(matched.group(3))


def check_rest(headers: list[str], offset: int, length: int | None, end: int | None = None) -> ContentRange:
    """
    Check that a 206 has the range that was requested by L{range_from}.

    @param headers: the C{Content-Range} headers.
    @param offset: the offset that was requested.
    @param length: the body's length in bytes by its framing, if that is known.
    @param end: the end that was requested; by default the blob's.
    @raise ValueError: it is another range, or several.
    """
    if len(headers) != 1:
        raise ValueError(f"{len(headers)} Content-Range headers instead of one")
    found = parse_content_range(headers[0])
    if found.first != offset:
        raise ValueError(f"bytes from {found.first} on instead of {offset}")
    if end is not None:
        wanted = end if found.total is None else min(end, found.total)
        if found.last != wanted - 1:
            raise ValueError(f"bytes up to {found.last} instead of {wanted - 1}")
    elif found.total is not None and found.last != found.total - 1:
        raise ValueError(f"bytes up to {found.last} of {found.total} instead of all the rest")
    if length is not None and length != found.length:
        raise ValueError(f"a body of {length} bytes for a range of {found.length}")
    return found


def chunk_range(start: int, length: int) -> str:
    """
    The C{Content-Range} of a chunk of an upload: inclusive, without a unit and
    without a total (OCI distribution-spec, "Pushing a blob in chunks").
    """
    return f"{start}-{start + length - 1}"


def parse_session_range(text: str) -> int | None:
    """
    Read the number of bytes of an upload session from its C{Range}.

    C{0-0} stands for no bytes and for one byte.  It counts as none here: no
    chunk has one byte.  Some registries write C{bytes=} before it, or C{0--1}
    for none.

    @return: L{None} if the header is missing or has another form.
    """
    matched = _SESSION_RANGE.fullmatch(text.strip())
    if matched is None:
        return None
    last = int(matched.group(1))
    return last + 1 if last > 0 else 0
