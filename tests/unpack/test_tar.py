"""
Tests for L{xferd.unpack.tar} and L{xferd.unpack.tar_header}.
"""

from __future__ import annotations

import io
import tarfile

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import (
    END,
    LIMITS,
    blocks,
    file,
    folder,
    hard_link,
    header,
    padded,
    pax,
    read,
    resum,
    symlink,
)
from xferd.errors import BadLayer
from xferd.unpack import tar
from xferd.unpack.tar import TarReader

_names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..")
)


class OracleTests(SynchronousTestCase):
    """
    Tars of Python's own C{tarfile} are read correctly.
    """

    @settings(max_examples=60, deadline=None)
    @given(
        format=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
        path=st.lists(_names, min_size=1, max_size=8),
        mode=st.integers(0, 0o7777),
        uid=st.integers(0, 2**32 - 2),
        gid=st.integers(0, 2**32 - 2),
        mtime=st.one_of(st.integers(-(2**33), 2**33), st.floats(1, 2**32)),
        data=st.binary(max_size=1500),
        size=st.sampled_from([512, 1024, 65536]),
    )
    def test_round_trip(
        self,
        format: int,  # noqa: A002
        path: list[str],
        mode: int,
        uid: int,
        gid: int,
        mtime: float,
        data: bytes,
        size: int,
    ) -> None:
        """
        A file of any name, owner, mode and time is read unchanged, in all
        three formats and in buffers of any size.
        """
        name = "/".join(path)
        info = tarfile.TarInfo(name)
        info.mode, info.uid, info.gid, info.mtime, info.size = mode, uid, gid, mtime, len(data)
        out = io.BytesIO()
        try:
            with tarfile.open(fileobj=out, mode="w", format=format, encoding="utf-8") as archive:
                archive.addfile(info, io.BytesIO(data))
        except ValueError:
            return  # ustar cannot say it
        [(entry, found)] = read(out.getvalue(), size=size)
        self.assertEqual(entry.path, name.encode())
        self.assertEqual((entry.kind, entry.mode, entry.uid, entry.gid), (tar.REGULAR, mode, uid, gid))
        self.assertEqual(found, data)
        seconds = mtime if format == tarfile.PAX_FORMAT else int(mtime)
        self.assertAlmostEqual(entry.mtime / 1e9, seconds, places=4)

    @settings(max_examples=30, deadline=None)
    @given(
        kind=st.sampled_from([tarfile.LNKTYPE, tarfile.SYMTYPE]),
        name=_names,
        target=st.lists(_names, min_size=1, max_size=6),
        format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    )
    def test_links(self, kind: bytes, name: str, target: list[str], format: int) -> None:  # noqa: A002
        """
        The targets of links are read, also long and unusual ones.
        """
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/".join(target)
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format, encoding="utf-8") as archive:
            archive.addfile(info)
        [(entry, _)] = read(out.getvalue())
        self.assertEqual((entry.path, entry.link), (name.encode(), info.linkname.encode()))

    @settings(max_examples=80, deadline=None)
    @given(st.data())
    def test_damage(self, data: st.DataObject) -> None:
        """
        With any bytes changed, the reader ends, with L{BadLayer} if it does
        not understand.
        """
        whole = bytearray(
            pax({b"size": b"5", b"mtime": b"1.5", b"SCHILY.xattr.user.a": b"b"})
            + file(b"a", b"hello")
            + symlink(b"l", b"a")
            + header(b"././@LongLink", b"L", 4)
            + padded(b"abc\0")
            + file(b"b", b"x" * 600)
            + file(b"c", magic=b"ustar  \0", prefix=b"some/dir")
            + pax({b"comment": b"c0ffee", b"LIBARCHIVE.xattr.user.b": b"YQ", b"a": b"\0"}, b"g")
            + file(b"d", magic=b"", prefix=b"some/dir")
            + file(b"e", prefix=b"d".ljust(131, b"\0") + b"00000000001 00000000002 " + bytes(8) + b"tar\0")
            + data.draw(st.sampled_from([END, b"", file(b"f", b"x" * 100)[:-412]]))
        )
        for _ in range(data.draw(st.integers(1, 8))):
            at = data.draw(st.integers(0, len(whole) - 1))
            whole[at] = data.draw(st.integers(0, 255))
        fixed = data.draw(st.booleans())
        for at in range(0, len(whole), 512):
            if fixed and any(whole[at : at + 512]):
                whole[at : at + 512] = resum(bytes(whole[at : at + 512]))
        try:
            found = read(bytes(whole))
        except BadLayer as e:
            self.assertTrue(str(e))
        else:
            self.assertLessEqual(len(found), 20)


class HeaderTests(SynchronousTestCase):
    """
    Headers by hand.
    """

    def test_types(self) -> None:
        """
        Each type of entry is known, and only files have data, whatever size
        the others state.
        """
        whole = b"".join(
            [
                header(b"old", b"\0", 2) + padded(b"hi"),
                header(b"olddir/", b"\0"),
                header(b"contiguous", b"7", 2) + padded(b"ho"),
                header(b"hard", b"1", 77, link=b"old"),
                header(b"soft", b"2", 77, link=b"/x"),
                header(b"null", b"3", device=(1, 3)),
                header(b"disk", b"4", device=(8, 1)),
                header(b"dir", b"5", 77),
                header(b"fifo", b"6"),
            ]
        )
        found = read(whole + END)
        self.assertEqual(
            [(e.path, e.kind, data) for e, data in found],
            [
                (b"old", tar.REGULAR, b"hi"),
                (b"olddir/", tar.DIRECTORY, b""),
                (b"contiguous", tar.REGULAR, b"ho"),
                (b"hard", tar.HARD_LINK, b""),
                (b"soft", tar.SYMLINK, b""),
                (b"null", tar.CHARACTER, b""),
                (b"disk", tar.BLOCK_DEVICE, b""),
                (b"dir", tar.DIRECTORY, b""),
                (b"fifo", tar.FIFO, b""),
            ],
        )
        self.assertEqual([e.device for e, _ in found[5:7]], [(1, 3), (8, 1)])

    def test_unknown_type(self) -> None:
        """
        A type that images do not have, such as a volume label or a socket,
        is refused by name.
        """
        for kind in (b"V", b"D", b"M", b"s", b"\xff"):
            error = self.assertRaises(BadLayer, read, header(b"odd", kind) + END)
            self.assertIn("'odd' is of a type", str(error))

    def test_prefix(self) -> None:
        """
        POSIX's prefix is used in any version, and star's shorter one, too; the
        bytes of GNU's and older tars in its place are not, unless they cannot
        be GNU's fields.
        """
        octal, binary = b"00000000001\0", b"\x80" + bytes(10) + b"\1"
        star = b"d" * 131 + b"00000000001 00000000002 " + bytes(8) + b"tar\0"
        sparse = b"\0".ljust(41, b"\0") + b"00000000001\x0000000000002\0"
        posix, gnu = b"ustar\0", b"ustar  \0"
        directory = b"home/support/.openoffice.org/3/user"
        for magic, prefix, path in (
            (posix + b"00", b"some/dir", b"some/dir/name"),
            (posix + b"00", b"p" * 155, b"p" * 155 + b"/name"),
            (posix, b"some/dir", b"some/dir/name"),
            (posix + b"  ", b"some/dir", b"some/dir/name"),
            (posix + b"\xff1", b"caf\xe9\0rest", b"caf\xe9/name"),
            (posix + b"00", star, b"d" * 131 + b"/name"),
            (posix + b"\0\0", star, b"d" * 131 + b"/name"),
            (posix + b"00", star[:163] + b"tar ", b"d" * 131 + b"00000000001 00000000002 /name"),
            (posix + b"00", b"dir".ljust(131, b"\0") + star[131:], b"dir/name"),
            (posix + b"00", b"dir".ljust(131, b"\0") + star[131:163], b"dir/name"),
            (posix + b"00", b"\0dir", b"name"),
            (gnu, octal, b"name"),
            (gnu, octal + octal, b"name"),
            (gnu, binary + binary, b"name"),
            (gnu, b"\xff" * 24, b"name"),
            (gnu, b" 1234567 \0 \0", b"name"),
            (gnu, sparse, b"name"),
            (gnu, directory, directory + b"/name"),
            (gnu, b"12345678/1", b"12345678/1/name"),
            (gnu, b"1234567012345", b"name"),
            (gnu, b"12345678901234567890123x", b"12345678901234567890123x/name"),
            (gnu, b"8", b"8/name"),
            (gnu, octal + b"x", b"00000000001/name"),
            (gnu, b"\0" * 12 + b"x", b"name"),
            (gnu, b"caf\xe9/caf\xe9/x", b"name"),
            (gnu, b"\x80\1" + b"x" * 10, b"name"),
            (b"ustar 00", b"some/dir", b"name"),
            (b"ustar\x20\x20 ", b"some/dir", b"name"),
            (b"ustar", b"some/dir", b"some/dir/name"),
            (b"ustar00\0", b"some/dir", b"name"),
            (b"USTAR\x0000", b"some/dir", b"name"),
            (b"tar\0", b"some/dir", b"name"),
            (b"", b"some/dir", b"name"),
        ):
            [(entry, _)] = read(header(b"name", magic=magic, prefix=prefix) + END)
            self.assertEqual((magic, prefix, entry.path), (magic, prefix, path))

    def test_which_name(self) -> None:
        """
        GNU's long names stand above PAX's, and these above the header's,
        wherever they stand.
        """
        long = header(b"L", b"L", 5) + padded(b"long\0") + header(b"K", b"K", 7) + padded(b"target\0")
        records = pax({b"path": b"pax", b"linkpath": b"other"})
        link = header(b"name", b"2", link=b"x", prefix=b"prefix")
        for parts, path, target in (
            (long + records + link, b"long", b"target"),
            (records + long + link, b"long", b"target"),
            (records + link, b"pax", b"other"),
            (pax({b"path": b""}) + link, b"prefix/name", b"x"),
        ):
            [(entry, _)] = read(parts + END)
            self.assertEqual((entry.path, entry.link), (path, target))

    def test_slash(self) -> None:
        """
        Of a name without a type, a slash at its end makes a directory; of
        several names, the one that counts.
        """
        long = header(b"L", b"L", 6) + padded(b"long/\0")
        for parts, kind in (
            (header(b"name/", b"\0"), tar.DIRECTORY),
            (pax({b"path": b"name"}) + header(b"name/", b"\0"), tar.REGULAR),
            (pax({b"path": b"other/"}) + header(b"name", b"\0"), tar.DIRECTORY),
            (long + header(b"name", b"\0"), tar.DIRECTORY),
            (header(b"name/"), tar.REGULAR),
            (pax({b"path": b"other/"}) + header(b"name"), tar.REGULAR),
        ):
            self.assertEqual([e.kind for e, _ in read(parts + END)], [kind])

    def test_old_devices(self) -> None:
        """
        A device in a tar that has no place for its number is refused.
        """
        for magic in (b"", b"ustar 00"):
            for kind in (b"3", b"4"):
                whole = header(b"n", kind, device=(1, 3), magic=magic)
                self.assertIn("device numbers", str(self.assertRaises(BadLayer, read, whole)))
        [(entry, _)] = read(header(b"n", b"3", device=(1, 3), magic=b"ustar  \0"))
        self.assertEqual(entry.device, (1, 3))

    def test_numbers(self) -> None:
        """
        Octal with blanks or leftovers, and base 256 of either sign.
        """
        big = b"\x80" + (3_000_000_000).to_bytes(7, "big")
        past = (-5).to_bytes(12, "big", signed=True)
        found = read(
            header(b"a", mode=b"   755 ", uid=big, gid=b"17\0zz", mtime=past)
            + header(b"b", mode=b"", mtime=b"\x80" + (2**40).to_bytes(11, "big"))
            + END
        )
        first, second = (e for e, _ in found)
        self.assertEqual((first.mode, first.uid, first.gid), (0o755, 3_000_000_000, 0o17))
        self.assertEqual(first.mtime, -5 * 10**9)
        self.assertEqual((second.mode, second.mtime), (0, 2**40 * 10**9))

    def test_bad_numbers(self) -> None:
        """
        Python's idea of a number is not a tar's; negative sizes, owners that
        no file can have and numbers beyond 63 bits are refused.
        """
        for fields in (
            {"size": b"0o17"},
            {"size": b"-1"},
            {"size": b"1_0"},
            {"size": b"19"},
            {"size": b"1x"},
            {"size": b"\xff" * 12},
            {"size": b"\x80" + b"\x7f" * 11},
            {"uid": b"\xff" * 8},
            {"uid": b"\x80\0\0\0\xff\xff\xff\xff"},
            {"gid": b"\x80\0\0\0\xff\xff\xff\xff"},
            {"mtime": b"soon"},
        ):
            self.assertRaises(BadLayer, read, header(b"a", **fields) + END)  # type: ignore[arg-type]

    def test_far_times(self) -> None:
        """
        A time beyond the supported range is moved to its edge.
        """
        for text, sign in ((b"9" * 18, 1), (b"-" + b"9" * 18, -1)):
            [(entry, _)] = read(pax({b"mtime": text}) + file(b"a") + END)
            self.assertEqual(entry.mtime, sign * (1 << 46) * 10**9)
        for seconds in (-(1 << 63), -(1 << 63) + 1, (1 << 63) - 1):
            field = bytearray((seconds % (1 << 96)).to_bytes(12, "big"))
            field[0] |= 0x80
            [(entry, _)] = read(file(b"a", mtime=bytes(field)) + END)
            self.assertEqual(entry.mtime, (1 if seconds > 0 else -1) * (1 << 46) * 10**9)
        for seconds in (-(1 << 63) - 1, 1 << 63):
            field = bytearray((seconds % (1 << 96)).to_bytes(12, "big"))
            field[0] |= 0x80
            self.assertRaises(BadLayer, read, file(b"a", mtime=bytes(field)) + END)

    def test_checksum(self) -> None:
        """
        A checksum of signed bytes passes, a wrong one does not.
        """
        block = header(b"\xe9t\xe9", checksum=0)
        signed = sum(b - 256 if b > 127 else b for b in block[:148] + b" " * 8 + block[156:])
        [(entry, _)] = read(header(b"\xe9t\xe9", checksum=signed) + END)
        self.assertEqual(entry.path, b"\xe9t\xe9")
        error = self.assertRaises(BadLayer, read, header(b"a", checksum=17) + END)
        self.assertIn("checksum is wrong", str(error))

    def test_long_names(self) -> None:
        """
        GNU's long name and link end at their NUL.
        """
        name, target = b"n" * 300, b"t" * 200
        whole = (
            header(b"././@LongLink", b"L", 301)
            + padded(name + b"\0")
            + header(b"././@LongLink", b"K", 201)
            + padded(target + b"\0")
            + header(b"n" * 100, b"2", link=b"t" * 100)
            + END
        )
        [(entry, _)] = read(whole)
        self.assertEqual((entry.path, entry.link), (name, target))

    def test_ends(self) -> None:
        """
        A tar may end with two blocks of zeros, with one, or with none; what
        follows the two is not looked at.
        """
        one = file(b"a", b"x")
        for end in (b"", bytes(512), END, END + b"\xff" * 512):
            self.assertEqual(len(read(one + end)), 1)
        self.assertEqual(read(b""), [])

    def test_bad_ends(self) -> None:
        """
        A lone block of zeros with more behind it is refused, because tools
        differ on it, and so is every truncated tar.
        """
        one = file(b"a", b"x" * 600)
        for whole in (
            bytes(512) + one,
            one[:100],
            one[:512],
            one[:700],
            one[: 512 + 599],
            pax({b"path": b"b"}),
            pax({b"path": b"b"}) + END,
            pax({b"path": b"b"})[:700],
        ):
            self.assertRaises(BadLayer, read, whole)

    def test_without_padding(self) -> None:
        """
        A tar may end where its last file does, or anywhere in the padding
        behind, whether the data is read or not; not before, nor in a header.
        """
        whole = folder(b"d") + file(b"d/f", b"x" * 700)
        for missing in (0, 1, 323, 324):
            for size in (512, 1024, 4096):
                cut = whole[: len(whole) - missing]
                self.assertEqual(
                    [(e.path, len(data)) for e, data in read(cut, size=size)][1:], [(b"d/f", 700)]
                )
                reader = TarReader(blocks(cut, size), LIMITS)
                self.assertEqual([e.path for e in reader], [b"d", b"d/f"])
        for missing in (325, 600, 1024 + 1):
            self.assertRaises(BadLayer, read, whole[:-missing])
        self.assertRaises(BadLayer, read, (pax({b"path": b"b"}) + file(b"a"))[: 512 + 20])

    def test_unread_data(self) -> None:
        """
        Data that are not read are skipped, over several buffers.
        """
        whole = file(b"a", b"x" * 10_000) + file(b"b", b"y") + END
        reader = TarReader(blocks(whole, 1024), LIMITS)
        self.assertEqual([e.path for e in reader], [b"a", b"b"])
        self.assertEqual(reader.entries, 2)

    def test_nested(self) -> None:
        """
        A tar within a tar is data: if PAX sets the size and the header has 0,
        the inner entries do not appear (CVE-2025-62518).
        """
        inner = file(b"inner", b"evil") + END
        whole = pax({b"size": b"%d" % len(inner)}) + header(b"nested.tar") + inner + file(b"after") + END
        self.assertEqual([e.path for e, _ in read(whole)], [b"nested.tar", b"after"])

    def test_limits(self) -> None:
        """
        Too many entries, too large files and too many bytes of extended
        headers are refused, before anything is made of them.
        """
        many = evolve(LIMITS, entries=3)
        self.assertEqual(len(read((file(b"a")) * 3, many)), 3)
        error = self.assertRaises(BadLayer, read, file(b"a") * 4, many)
        self.assertIn("more than 3 entries", str(error))
        self.assertRaises(BadLayer, read, pax({b"a": b"b"}) * 4, many)
        small = evolve(LIMITS, header=100, size=1000)
        self.assertRaises(BadLayer, read, pax({b"comment": b"x" * 100}) + file(b"a"), small)
        self.assertRaises(BadLayer, read, header(b"", b"L", 2**32), small)
        half = pax({b"comment": b"x" * 40})
        self.assertRaises(BadLayer, read, half * 3 + file(b"a"), small)
        self.assertRaises(BadLayer, read, header(b"a", size=1001), small)


class LinkTests(SynchronousTestCase):
    """
    Other fields of headers.
    """

    def test_hard_link(self) -> None:
        """
        A hard link has its target out of the header, to its full length.
        """
        found = read(file(b"a") + hard_link(b"b", b"t" * 100) + folder(b"d/") + END)
        self.assertEqual([e.link for e, _ in found], [b"", b"t" * 100, b""])
