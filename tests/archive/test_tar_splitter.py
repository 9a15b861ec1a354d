"""
Tests for L{xferd.archive.tar_splitter}.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.archive import tar_splitter as module
from xferd.archive.tar_splitter import MAX_NAME, Member, TarSplitter, clean_name
from xferd.errors import BadArchive


def tar(*entries: tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """
    A tar of files.
    """
    return raw(*(lambda t, n=name, d=data: add(t, n, d) for name, data in entries), form=form)


def add(archive: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = b"0", link: str = "") -> None:
    """
    Add one entry.
    """
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    archive.addfile(info, io.BytesIO(data))


def raw(*steps: Callable[[tarfile.TarFile], None], form: int = tarfile.PAX_FORMAT) -> bytes:
    """
    A tar of what C{steps} add.
    """
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for step in steps:
            step(archive)
    return out.getvalue()


def split(data: bytes, step: int = 10**9) -> list[tuple[Member, bytes]]:
    """
    Push a tar through in steps.
    """
    splitter = TarSplitter()
    found: list[tuple[Member, bytes]] = []
    for at in range(0, len(data), step):
        for item in splitter.feed(memoryview(data[at : at + step])):
            if isinstance(item, Member):
                found.append((item, b""))
            elif item:
                member, before = found[-1]
                found[-1] = member, before + bytes(item)
    splitter.finish()
    for member, content in found:
        assert member.size == len(content)
    return found


class SplitterTests(SynchronousTestCase):
    """
    Tars, whole and broken.
    """

    FILES = (
        ("oci-layout", b"{}"),
        ("./blobs/sha256/" + "a" * 64, b"x" * 1000),
        ("empty", b""),
        ("z", b"z" * 512),
    )

    def test_files(self) -> None:
        """
        Files are returned with their bytes, in pieces of any size and in each
        format; directories are not.
        """
        names = ["oci-layout", "blobs/sha256/" + "a" * 64, "empty", "z"]
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
            data = tar(*self.FILES, form=form)
            for step in (1, 511, 512, 1000, 10**9):
                found = split(data, step)
                self.assertEqual([member.name for member, _ in found], names)
                self.assertEqual([content for _, content in found], [content for _, content in self.FILES])

    @given(
        st.lists(st.tuples(st.text("abc", min_size=1), st.binary(max_size=1500)), min_size=1),
        st.integers(1, 3000),
    )
    def test_any(self, files: list[tuple[str, bytes]], step: int) -> None:
        """
        Any files are returned unchanged.
        """
        self.assertEqual([(m.name, c) for m, c in split(tar(*files), step)], files)

    def test_long_names(self) -> None:
        """
        Names that need headers of their own are read.
        """
        name = "blobs/sha512/" + "f" * 128
        for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
            self.assertEqual(split(tar((name, b"1"), form=form), 100)[0], (Member(name, 1), b"1"))

    def test_links(self) -> None:
        """
        Links are further names: of a symbolic one the target is found from
        where it stands, as in what docker saved before version 25.
        """
        data = raw(
            lambda t: add(t, "a/layer.tar", b"1"),
            lambda t: t.addfile(directory("b/")),
            lambda t: add(t, "b/layer.tar", kind=b"2", link="../a/layer.tar"),
            lambda t: add(t, "c", kind=b"1", link="a/layer.tar"),
        )
        self.assertEqual(
            [member for member, _ in split(data)],
            [
                Member("a/layer.tar", 1),
                Member("b/layer.tar", 0, "a/layer.tar"),
                Member("c", 0, "a/layer.tar"),
            ],
        )

    def test_escapes(self) -> None:
        """
        Names that lead out of the archive are refused.
        """
        for name in ("../x", "a/../../x", "/../x"):
            error = self.assertRaises(BadArchive, split, tar((name, b"")))
            self.assertIn("out of the archive", str(error), name)

    def test_odd_names(self) -> None:
        """
        A slash in front means nothing, and C{..} takes a component away; in
        the target of a link it means nothing in the root.
        """
        for name, clean in (("/a/b", "a/b"), ("a/../b", "b"), ("./a/./../b/c/..//d", "b/d"), ("//x", "x")):
            self.assertEqual(split(tar((name, b"1"))), [(Member(clean, 1), b"1")])
        for link, clean in (
            ("/aaa/layer.tar", "aaa/layer.tar"),
            ("../../aaa/layer.tar", "aaa/layer.tar"),
            ("../../../../etc/passwd", "etc/passwd"),
            ("layer", "ccc/layer"),
            ("..", ""),
        ):
            data = raw(partial(add, name="ccc/layer.tar", kind=b"2", link=link))
            self.assertEqual(split(data), [(Member("ccc/layer.tar", 0, clean), b"")])
        data = raw(lambda t: add(t, "a", kind=b"1", link="/../b"))
        self.assertEqual(split(data), [(Member("a", 0, "b"), b"")])

    def test_other_kinds(self) -> None:
        """
        Entries that no archive of images has are refused.
        """
        for kind in (b"3", b"4", b"6"):
            error = self.assertRaises(BadArchive, split, raw(partial(add, name="x", kind=kind)))
            self.assertIn("device", str(error))
        sparse = raw(lambda t: add(t, "x", b"1" * 512, kind=b"S"), form=tarfile.GNU_FORMAT)
        self.assertRaises(BadArchive, split, sparse)

    def test_names(self) -> None:
        """
        Names are kept within bounds, and are text.
        """
        self.assertEqual(clean_name(b"./a//b/"), "a/b")
        for name in (b"x" * (MAX_NAME + 1), b"a/" * 20, b"\xff"):
            self.assertRaises(BadArchive, clean_name, name)
        self.assertRaises(BadArchive, split, tar(("x" * 2000, b"")))
        nameless = self.assertRaises(BadArchive, split, tar((".", b"1")))
        self.assertIn("no name", str(nameless))

    def test_large_headers(self) -> None:
        """
        Headers without end are refused before they are here.
        """
        data = bytearray(tar(("n" * 70_000, b"")))
        self.assertRaises(BadArchive, split, bytes(data[:512]))

    def test_quoted_name(self) -> None:
        """
        A name in an error cannot write to a terminal or fill a log.
        """
        data = tar(("\x1b[2J\n" + "x" * 900, b"data" * 1000))[:4000]
        message = str(self.assertRaises(BadArchive, split, data))
        self.assertIn("is truncated in", message)
        self.assertTrue(message.isprintable(), message)
        self.assertLessEqual(len(message), 500)

    def test_many_names(self) -> None:
        """
        The names of all entries have a bound together.
        """
        self.patch(module, "MAX_NAMES", 10)
        steps = [
            partial(add, name="a", kind=b"1", link="bcd"),
            partial(add, name="ef"),
            partial(add, name="gh/i"),
        ]
        self.assertEqual(len(split(raw(*steps))), 3)
        steps.append(partial(add, name="j"))
        self.assertIn("10 bytes together", str(self.assertRaises(BadArchive, split, raw(*steps))))

    def test_breaks_off(self) -> None:
        """
        A tar that breaks off is refused, except for its blocks of zeros.
        """
        data = tar(*self.FILES)
        end = len(data.rstrip(b"\0")) + -len(data.rstrip(b"\0")) % 512
        self.assertEqual(len(split(data[:end])), 4)
        self.assertEqual(len(split(data[: end + 512])), 4)
        for cut in (100, 513, 512 + 512 + 512 + 700, end - 1):
            error = self.assertRaises(BadArchive, split, data[:cut])
            self.assertIn("is truncated", str(error))
        self.assertRaises(BadArchive, split, b"")
        self.assertRaises(BadArchive, split, bytes(1024))

    def test_without_padding(self) -> None:
        """
        The padding of the last file may be missing, or a part of it.
        """
        data = tar(("a", b"1"), ("b", b"x" * 700))
        end = 512 * 3 + 700
        for cut in (end, end + 1, end + 323, end + 324):
            for step in (100, 10**9):
                self.assertEqual(split(data[:cut], step)[-1], (Member("b", 700), b"x" * 700))
        self.assertRaises(BadArchive, split, data[: end - 1])

    def test_no_tar(self) -> None:
        """
        Bytes that are not a tar are refused.
        """
        error = self.assertRaises(BadArchive, split, b"#!/bin/sh\n" * 200)
        self.assertIn("no archive of images", str(error))

    def test_goes_on(self) -> None:
        """
        Bytes after the end are refused.
        """
        error = self.assertRaises(BadArchive, split, tar(*self.FILES) * 2)
        self.assertIn("continues after its end", str(error))

    def test_global_header(self) -> None:
        """
        A global header is passed over.
        """
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "hello"}) as archive:
            add(archive, "a", b"1")
        self.assertEqual(split(out.getvalue(), 100), [(Member("a", 1), b"1")])


def directory(name: str) -> tarfile.TarInfo:
    """
    A directory's entry.
    """
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info
