# -*- test-case-name: tests.unpack.test_tar -*-
"""
The fields of a tar's header block: names, numbers and the checksum, in the
forms of ustar (POSIX.1-2001, "ustar Interchange Format"), GNU tar and star.

Pure, and imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import Final

from xferd.errors import BadLayer
from xferd.unpack.limits import printable

POSIX_MAGIC: Final = b"ustar\0"
GNU_MAGIC: Final = b"ustar  \0"

HEADER: Final = Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
"""
The fields: name, mode, uid, gid, size, mtime, checksum, type, link, magic and
version, major, minor, prefix.
"""

Fields = tuple[
    bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes, bytes
]  # fmt: skip
"""What L{HEADER} unpacks."""

_STAR = b"tar\0"
_OCTAL = re.compile(rb"[0-7]*")


def verify_checksum(header: memoryview, field: bytes) -> None:
    """
    Verify a header's checksum: the sum of its bytes, where the checksum's own
    field counts as blanks.  Some old tars sum signed bytes.

    @param field: the field of the checksum.
    @raise BadLayer: the checksum is wrong.
    """
    stated = number_of(field, "checksum")
    blank = 8 * 0x20 - sum(field)
    if sum(header) + blank == stated:
        return
    signed = sum(header.cast("b")) + 8 * 0x20 - sum(b - 256 if b > 127 else b for b in field)
    if signed != stated:
        raise BadLayer("a header's checksum is wrong; this is no tar, or a damaged one")


def path_of(header: memoryview, fields: Fields) -> bytes:
    """
    The name in a header, with its prefix, if it has one.

    @param header: the whole block.
    """
    name, magic, prefix = text_of(fields[0]), fields[9], fields[12]
    if not prefix[0]:
        return name
    if magic.startswith(POSIX_MAGIC):
        prefix = text_of(prefix[:131] if header[508:] == _STAR else prefix)
    elif magic == GNU_MAGIC and not (_is_number(prefix[:12]) and _is_number(prefix[12:24])):
        prefix = text_of(prefix)
        if not prefix.isascii():
            return name
    else:
        return name
    return b"%b/%b" % (prefix, name)


def text_of(field: bytes) -> bytes:
    """
    The text in a field, which ends at the first NUL.
    """
    return field.partition(b"\0")[0]


def number_of(field: bytes, what: str, signed: bool = False) -> int:
    """
    The number in a field, in octal or in GNU's base 256.

    @param what: the field's name, for errors.
    @param signed: whether it may be negative.
    @raise BadLayer: the field is not a number, or is out of range.
    """
    if field[0] & 0x80:
        value = _base256(field)
        if not (-(1 << 63) if signed else 0) <= value < 1 << 63:
            raise BadLayer(f"a header has {value} for its {what}")
        return value
    text = field.strip(b" \0")
    if text.isdigit():
        try:
            return int(text, 8)
        except ValueError:
            pass
    elif not text:
        return 0
    # Some writers leave older bytes of the field after the NUL.
    text = text.partition(b"\0")[0].strip()
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise BadLayer(f"a header has {printable(field)} for its {what}; this is no tar, or a damaged one")
    return int(text, 8)


def _is_number(field: bytes) -> bool:
    """
    Whether a field is empty or holds a number as GNU tar writes it.
    """
    if field[0] & 0x80:
        value = _base256(field)
        return -(1 << 63) <= value < 1 << 63
    return not field[0] or _OCTAL.fullmatch(field.strip(b" \0").partition(b"\0")[0]) is not None


def _base256(field: bytes) -> int:
    """
    Decode GNU's form of large numbers: two's complement in all bits but the
    first, which marks the form.
    """
    value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
    return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
