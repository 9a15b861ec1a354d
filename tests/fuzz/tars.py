"""
Harnesses for layers: tars, PAX headers, compression, and the tree that is made
of them.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from random import Random
from tempfile import mkdtemp
from typing import Any, Final

from hypothesis import strategies as st
from zstandard import ZstdCompressor

from tests.fuzz.harness import Broken, Harness, check_message, only, same
from tests.fuzz.inputs import EDGES, SIZES, cut, damaged
from tests.unpack.tars import END, Bytes, header, listing, make, padded, pax, read, record
from xferd.archive.inflate import Inflater
from xferd.errors import BadArchive, BadLayer
from xferd.interfaces.unpack import UnpackLimits
from xferd.unpack import pax as records
from xferd.unpack.inflate import Blocks

LIMITS: Final = UnpackLimits(entries=200, size=1 << 20, header=64 * 1024, depth=64, ratio=100)

_NAMES: Final = st.sampled_from(
    (
        b"a",
        b"a/b",
        b"a/b/c",
        b"b",
        b".",
        b"/a",
        b"./a/",
        b"../outside",
        b"../outside/secret",
        b"a/../../outside/secret",
        b"link",
        b"link/secret",
        b"link/new",
        b"..",
        b"",
        b"a/.wh.b",
        b".wh.a",
        b"a/.wh..wh..opq",
        b".wh..",
        b".wh.",
        b"\xff\xfe",
        b"x" * 100,
        b"\xe2\x82\xac",
    )
)
_TARGETS: Final = st.sampled_from(
    (b"a", b"a/b", b"/", b"..", b"../outside", b"../outside/secret", b"/etc/passwd", b"link", b"", b"x" * 99)
)
_KINDS: Final = st.sampled_from([bytes([k]) for k in b"00000111222345567xgLKSV\0"])
_NUMBERS: Final[st.SearchStrategy[int | bytes]] = st.sampled_from(
    (
        0,
        1,
        511,
        512,
        513,
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"9",
        b" 7 ",
        b"-1",
        b"\x80" + b"\0" * 10 + b"\1",
    )
)
_MODES: Final[st.SearchStrategy[int | bytes]] = st.sampled_from((0o644, 0o644, 0o4755, 0, b"x"))
_RECORDS: Final = st.dictionaries(
    st.sampled_from(
        (
            b"path",
            b"linkpath",
            b"size",
            b"mtime",
            b"uid",
            b"SCHILY.xattr.user.a",
            b"SCHILY.xattr.trusted.overlay.redirect",
            b"SCHILY.xattr.security.capability",
            b"LIBARCHIVE.xattr.user.b",
            b"GNU.sparse.map",
            b"GNU.sparse.major",
            b"GNU.sparse.minor",
            b"GNU.sparse.name",
            b"GNU.sparse.realsize",
            b"GNU.sparse.size",
            b"GNU.sparse.offset",
            b"GNU.sparse.numbytes",
            b"comment",
        )
    ),
    st.sampled_from((b"", b"0", b"1", b"512", b"0,1,2,3", b"1.5", b"-1.999999999", b"9" * 25, b"../outside"))
    | _NAMES
    | st.sampled_from(EDGES),
    max_size=4,
)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    """
    A few entries, with extended headers before some.
    """
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        if draw(st.integers(0, 2)) == 0:
            parts.append(pax(draw(_RECORDS), draw(st.sampled_from((b"x", b"x", b"g")))))
        data = draw(st.sampled_from((b"", b"hello", b"x" * 512, b"y" * 1500, b"1\n0\n5\n")))
        kind = draw(_KINDS)
        size = len(data) if draw(st.integers(0, 9)) else draw(_NUMBERS)
        parts.append(
            header(
                draw(_NAMES)[:100],
                kind,
                size,
                mode=draw(_MODES),
                mtime=draw(_NUMBERS) if draw(st.integers(0, 4)) == 0 else 1,
                link=draw(_TARGETS),
                magic=draw(st.sampled_from((b"ustar\x0000", b"ustar\x0000", b"ustar  \0", b"x"))),
            )
        )
        if (data and kind not in (b"1", b"2", b"5")) or draw(st.integers(0, 9)) == 0:
            parts.append(padded(data))
    return b"".join(parts) + END[: draw(st.sampled_from((1024, 1024, 512, 0)))]


# ----------------------------------------------------------------------- tar


def outcome_of(data: bytes, size: int) -> object:
    """
    The entries of a tar, or why it is refused.
    """
    try:
        return read(data, LIMITS, size)
    except BadLayer as e:
        check_message(str(e))
        return str(e)


def check_tar(data: bytes) -> None:
    """
    A tar is read or refused, and the same in buffers of any size.
    """
    same(outcome_of(data, 512), outcome_of(data, 64 * 1024), "a tar in small buffers and in large ones")


TAR: Final = Harness("tar", damaged(entries()), check_tar)

_MEMBERS: Final = st.lists(
    st.tuples(
        st.text(
            st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=200
        )
        .map(lambda name: name.strip("/"))
        .filter(bool),
        st.binary(max_size=1200),
        st.integers(0, 1 << 33),
        st.sampled_from((0, 1, 65534, 1 << 21, (1 << 32) - 2)),
    ),
    max_size=5,
)


def check_written(given: tuple[int, list[tuple[str, bytes, int, int]]]) -> None:
    """
    What Python's C{tarfile} writes, in any of its formats, is read as it was
    written.
    """
    form, members = given
    file = io.BytesIO()
    expected = []
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, data, mtime, owner in members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uid = len(data), mtime, owner
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                continue  # the format cannot hold it
            expected.append((name.encode(), data, mtime * 10**9, owner))
    found = [(entry.path, data, entry.mtime, entry.uid) for entry, data in read(file.getvalue(), LIMITS)]
    same(found, expected, "what tarfile wrote")


WRITTEN: Final = Harness(
    "tarfile",
    st.tuples(st.sampled_from((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)), _MEMBERS),
    check_written,
)

# ----------------------------------------------------------------------- pax

_PAX_DATA: Final = st.lists(
    st.tuples(
        st.sampled_from((b"path", b"mtime", b"SCHILY.xattr.user.a", b"comment", b"\xff")),
        st.binary(max_size=30),
    ),
    max_size=5,
).map(lambda pairs: b"".join(record(k, v) for k, v in pairs))


def check_pax(given: tuple[bytes, dict[bytes, bytes]]) -> None:
    """
    Records are read or refused; what is read is the same when it is written
    and read again.
    """
    data, own = given
    with only(BadLayer):
        found = records.parse(data)
        again = {k: v for k, v in found.items() if k != b"GNU.sparse.map"}
        same(records.parse(b"".join(record(k, v) for k, v in again.items())), again, "records")
        for read_value in (records.number, records.time):
            for key in found:
                with only(BadLayer):
                    value = read_value(found, key, -7)
                    assert abs(value) < 10**29
        with only(BadLayer):
            records.xattrs(found)
        for text in found.values():
            with only(BadLayer):
                numbers = records.sparse_numbers(text)
                same(records.sparse_numbers(b",".join(b"%d" % n for n in numbers)), numbers, "a sparse map")
    with only(BadLayer):
        records.check_global(data)
    own = {k: v for k, v in own.items() if not k.startswith(b"GNU.sparse.") and b"\0" not in v}
    same(records.parse(b"".join(record(k, v) for k, v in own.items())), own, "records that were written")


PAX: Final = Harness("pax", st.tuples(damaged(_PAX_DATA), _RECORDS), check_pax)

# ------------------------------------------------------------------ inflating

_PLAIN: Final = st.sampled_from((b"", b"hello", bytes(3000), Random(0).randbytes(700), b"ab" * 40000))


@st.composite
def packed(draw: st.DrawFn) -> bytes:
    """
    Members and frames, padding between and behind them.
    """
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        data = draw(_PLAIN)
        match draw(st.integers(0, 4)):
            case 0:
                parts.append(ZstdCompressor(write_checksum=draw(st.booleans())).compress(data))
            case 1:
                parts.append(b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data)
            case 2:
                parts.append(data)
            case _:
                parts.append(gzip.compress(data, draw(st.integers(0, 9)), mtime=0))
        if draw(st.integers(0, 5)) == 0:
            parts.append(bytes(draw(st.integers(1, 600))))
    return b"".join(parts)


def _as_layer(data: bytes, most: int) -> bytes | None:
    """
    The result of a layer's reader; C{None} if it refuses the bytes.
    """
    blocks = Blocks(Bytes(data, most), "gzip", LIMITS)
    try:
        return b"".join(bytes(block) for block in blocks)
    except BadLayer as e:
        check_message(str(e))
        return None
    finally:
        blocks.close()


def _as_archive(data: bytes, sizes: list[int]) -> bytes | None:
    """
    The result of an archive's reader; C{None} if it refuses the bytes.
    """
    inflater = Inflater()
    parts: list[bytes] = []
    try:
        for piece in cut(data, sizes):
            parts.extend(bytes(view) for view in inflater.feed(piece))
        parts.extend(bytes(view) for view in inflater.finish())
    except BadArchive as e:
        check_message(str(e))
        return None
    return b"".join(parts)


def check_inflating(given: tuple[bytes, list[int]]) -> None:
    """
    Bytes inflate or are refused; the same in pieces of any size, the same in
    layers as in archives, and for gzip the same as by Python's own reader.
    """
    data, sizes = given
    layer, archive = _as_layer(data, 1 << 20), _as_archive(data, [])
    same(_as_layer(data, sizes[0] if sizes else 1), layer, "a layer in pieces and as a whole")
    same(_as_archive(data, sizes), archive, "an archive in pieces and as a whole")
    if layer is not None and archive is not None:
        same(layer, archive, "a layer and an archive of the same bytes")
    if data.startswith(b"\x1f\x8b"):
        try:
            expected = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return
        if layer is not None:
            same(layer, expected, "a layer and Python's gzip")


INFLATING: Final = Harness("inflating", st.tuples(damaged(packed()), SIZES), check_inflating)

# ---------------------------------------------------------------------- trees


class _Place:
    """
    A directory for trees, with a neighbour that has to stay unchanged.
    """

    def __init__(self) -> None:
        self.path = mkdtemp(prefix="xferd-fuzz-")
        self.root = os.path.join(self.path, "root")
        self.outside = os.path.join(self.path, "outside")

    def __enter__(self) -> _Place:
        os.mkdir(self.outside)
        with open(os.path.join(self.outside, "secret"), "w") as file:
            file.write("secret")
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)


def _around(place: _Place) -> Any:
    """
    All files beside the tree.
    """
    return sorted(os.listdir(place.path)), listing(place.outside), os.lstat(place.outside).st_mode


def check_tree(data: bytes) -> None:
    """
    A tar becomes a tree or is refused.  Nothing beside the tree changes, and
    no file in it is one from beside it.
    """
    with _Place() as place:
        os.mkdir(place.root)
        before = _around(place)
        passwd = os.stat("/etc/passwd")
        with only(BadLayer):
            size, _ = make(place.root, data, LIMITS)
            if not 0 <= size <= LIMITS.size:
                raise Broken(f"a tree of {size} bytes is made")
        same(_around(place), before, "what is beside the tree")
        same(os.stat("/etc/passwd"), passwd, "/etc/passwd")
        foreign = {os.lstat(os.path.join(place.outside, "secret")).st_ino, passwd.st_ino}
        for path in _files(place.root):
            if os.lstat(path).st_ino in foreign:
                raise Broken(f"{path!r} is a file from beside the tree")


def _files(root: str) -> Iterator[str]:
    """
    Every file below a directory.
    """
    for above, _, files in os.walk(root):
        for name in files:
            yield os.path.join(above, name)


TREE: Final = Harness("tree", damaged(entries()), check_tree)
