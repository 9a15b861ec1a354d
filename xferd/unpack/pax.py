# -*- test-case-name: tests.unpack.test_pax -*-
"""
The records of PAX extended headers (POSIX.1-2001 C{pax}, "pax Extended Header")
and what vendors put there: xattrs and the maps of sparse files.

Pure, and imports no Twisted: this runs in the worker.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Final
from urllib.parse import unquote_to_bytes

from xferd.errors import BadLayer
from xferd.unpack.limits import printable

Records = dict[bytes, bytes]

MAX_XATTR: Final = 65_536
"""Bytes of an extended attribute, as in Linux (C{XATTR_SIZE_MAX})."""

_SCHILY: Final = b"SCHILY.xattr."
_LIBARCHIVE: Final = b"LIBARCHIVE.xattr."

_DECIMAL = re.compile(rb"(-?)([0-9]{1,19})(?:\.([0-9]*))?")
_NOT_GLOBAL = frozenset({b"path", b"linkpath", b"size"})
_TEXTS = frozenset({b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"})
"""Records whose values must not contain NUL; other values may have any bytes."""


def parse(data: bytes) -> Records:
    """
    Parse the records of one extended header.

    @raise BadLayer: they violate the grammar C{"%d %s=%s\\n"}.
    """
    records: Records = {}
    sparse: list[bytes] = []
    at, end = 0, len(data)
    while at < end:
        space = data.find(b" ", at, at + 20)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            raise BadLayer("a PAX header has a record without a length")
        stop = at + int(digits)
        key, equals, value = data[space + 1 : stop - 1].partition(b"=")
        if stop > end or stop <= space or data[stop - 1] != 0x0A or not equals or not key:
            raise BadLayer("a PAX header has a record that is not of its length")
        if b"\0" in key or (b"\0" in value and key in _TEXTS):
            raise BadLayer(f"a PAX header has a NUL in its record {printable(key)}")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            # Format 0.0 repeats these for each part; 0.1 has them in one list.
            if len(sparse) % 2 != (key == b"GNU.sparse.numbytes"):
                raise BadLayer("a PAX header has a sparse map out of order")
            sparse.append(value)
        else:
            records[key] = value
        at = stop
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def check_global(data: bytes) -> None:
    """
    Check a global header.  Its records have no effect, as in Go's tools.  Other
    tools apply them, and would see different files if it set names or sizes.

    @raise BadLayer: it sets a name or a size, or violates the grammar.
    """
    for key in parse(data):
        if key in _NOT_GLOBAL or key.startswith(b"GNU.sparse."):
            raise BadLayer(f"a global PAX header sets {printable(key)} for all entries; tools differ on that")


def number(records: Records, key: bytes, default: int) -> int:
    """
    The integer of a record.

    @param default: the header's value, for a record that is absent or empty.
    """
    text = records.get(key)
    if not text:
        return default
    if not text.isdigit() or len(text) > 19:
        raise BadLayer(f"a PAX header has {printable(text)} for {printable(key)}, which is no number")
    return int(text)


def time(records: Records, key: bytes, default: int) -> int:
    """
    The time of a record, in nanoseconds since 1970.

    @param default: the header's value, for a record that is absent or empty.
    """
    text = records.get(key)
    if not text:
        return default
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise BadLayer(f"a PAX header has {printable(text)} for {printable(key)}, which is no time")
    sign, seconds, fraction = found.groups()
    nanoseconds = int(seconds) * 10**9 + int((fraction or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if sign else nanoseconds


def xattrs(records: Records) -> dict[bytes, bytes] | None:
    """
    The extended attributes in the records, star's in preference to libarchive's.

    libarchive writes each in both forms, its own in base64 without padding.  A
    value that is not base64 is skipped: no other tool reads that form.
    """
    found: dict[bytes, bytes] = {}
    for key, value in records.items():
        if key.startswith(_SCHILY):
            found[key[len(_SCHILY) :]] = value
        elif key.startswith(_LIBARCHIVE):
            name = unquote_to_bytes(key[len(_LIBARCHIVE) :])
            if _SCHILY + name not in records:
                try:
                    found[name] = a2b_base64(value + b"==")
                except Base64Error:
                    continue
    if any(not name or b"\0" in name for name in found):
        raise BadLayer("a PAX header has an xattr without a name")
    for name, value in found.items():
        if len(value) > MAX_XATTR:
            raise BadLayer(
                f"a PAX header has the extended attribute {printable(name)} of {len(value)} bytes; "
                f"Linux takes at most {MAX_XATTR}"
            )
    return found or None


def sparse_numbers(text: bytes) -> list[int]:
    """
    Parse the numbers of a sparse map in format 0.0 or 0.1.
    """
    parts = text.split(b",") if text else []
    if len(parts) % 2 or not all(p.isdigit() and len(p) <= 19 for p in parts):
        raise BadLayer("a sparse file has a map that is no list of numbers")
    return [int(p) for p in parts]
