"""
Tests for L{xferd.unpack.pax}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import (
    END,
    file,
    header,
    padded,
    pax,
    read,
    record,
    symlink,
)
from xferd.errors import BadLayer
from xferd.unpack import tar


class PaxTests(SynchronousTestCase):
    """
    Extended headers.
    """

    def one(self, records: dict[bytes, bytes], rest: bytes = b"") -> tar.Entry:
        """
        The entry that the records make of a plain file.
        """
        [(entry, _)] = read(pax(records) + (rest or file(b"plain")) + END)
        return entry

    def test_attributes(self) -> None:
        """
        PAX records replace the header's values; empty ones do not, and
        irrelevant ones are skipped.
        """
        entry = self.one(
            {
                b"path": b"n\xc3\xa9/x",
                b"uid": b"4000000000",
                b"gid": b"",
                b"mtime": b"1700000000.25",
                b"atime": b"junk",
                b"comment": b"",
                b"LIBARCHIVE.creationtime": b"1",
            },
            file(b"plain", uid=7, gid=8),
        )
        self.assertEqual((entry.path, entry.uid, entry.gid), (b"n\xc3\xa9/x", 4_000_000_000, 8))
        self.assertEqual(entry.mtime, 1_700_000_000_250_000_000)

    def test_negative_time(self) -> None:
        """
        Times before 1970 are kept to the nanosecond, and digits beyond that dropped.
        """
        self.assertEqual(self.one({b"mtime": b"-1.0000000019"}).mtime, -1_000_000_001)

    def test_link(self) -> None:
        """
        A link's target may be as long as it likes; a file has none.
        """
        entry = self.one({b"linkpath": b"t" * 500}, symlink(b"l", b"short"))
        self.assertEqual(entry.link, b"t" * 500)
        self.assertEqual(self.one({b"linkpath": b"t"}).link, b"")

    def test_xattrs(self) -> None:
        """
        star's xattrs are raw, empty ones too; libarchive's are base64 under a
        quoted name, and stand back.
        """
        entry = self.one(
            {
                b"SCHILY.xattr.security.capability": b"\x01\0\0\x02=\n",
                b"SCHILY.xattr.user.empty": b"",
                b"LIBARCHIVE.xattr.user.a%3Db": b"aGVsbG8=",
                b"LIBARCHIVE.xattr.user.empty": b"aGVsbG8=",
                b"LIBARCHIVE.xattr.user.short": b"aGVsbG8",
                b"LIBARCHIVE.xattr.user.shorter": b"aGVsbA",
                b"LIBARCHIVE.xattr.user.wrong": b"x",
            }
        )
        self.assertEqual(
            entry.xattrs,
            {b"security.capability": b"\x01\0\0\x02=\n", b"user.empty": b"", b"user.a=b": b"hello"}
            | {b"user.short": b"hello", b"user.shorter": b"hell"},
        )

    def test_nul(self) -> None:
        """
        A NUL is permitted in fields that are not text of the header.
        """
        entry = self.one({b"RHT.security.selinux": b"a:b\0", b"SCHILY.acl.access": b"\0", b"comment": b"\0"})
        self.assertEqual((entry.path, entry.xattrs), (b"plain", None))
        for key in (b"path", b"linkpath", b"uname", b"gname", b"GNU.sparse.name"):
            records = {b"GNU.sparse.map": b"0,0", b"GNU.sparse.size": b"0", key: b"a\0b"}
            self.assertIn("NUL", str(self.assertRaises(BadLayer, self.one, records)))

    def test_global(self) -> None:
        """
        A global header changes no later entry; one at the end is no entry.
        """
        records = {b"mtime": b"5", b"uid": b"9", b"gid": b"9", b"comment": b"c0ffee"}
        records |= {b"SCHILY.xattr.user.x": b"1", b"LIBARCHIVE.xattr.user.y": b"eA"}
        whole = pax(records, b"g") + file(b"a") + pax({b"mtime": b"6"}) + file(b"b") + pax(records, b"g")
        for end in (b"", END):
            found = [(e.path, e.mtime, e.uid, e.gid, e.xattrs) for e, _ in read(whole + end)]
            self.assertEqual(found, [(b"a", 0, 0, 0, None), (b"b", 6 * 10**9, 0, 0, None)])

    def test_global_names(self) -> None:
        """
        A global header that sets names or sizes is refused: some tools would
        see other files than others.
        """
        for key in (b"path", b"linkpath", b"size", b"GNU.sparse.name"):
            error = self.assertRaises(BadLayer, read, pax({key: b"1"}, b"g") + file(b"a"))
            self.assertIn(key.decode(), str(error))

    def test_misplaced_global(self) -> None:
        """
        A global header between an entry and its own is refused.
        """
        whole = pax({b"path": b"x"}) + pax({b"comment": b"y"}, b"g") + file(b"a")
        self.assertRaises(BadLayer, read, whole)

    def test_grammar(self) -> None:
        """
        Records with a wrong length, without a key or with a NUL, and invalid
        numbers, are refused.
        """
        for data in (
            b"nonsense",
            b"9999 path=x\n",
            b"5 path=x\n",
            b"0 path=x\n",
            b"-1 path=x\n",
            b" path=x\n",
            b"99999999999999999999999999 path=x\n",
            b"9 path=xx",
            b"7 =abc\n",
            b"7 abcd\n",
            b"3 \n",
            record(b"path", b"a\0b"),
            record(b"a\0b", b"c"),
            record(b"uid", b"-1"),
            record(b"uid", b"0x1"),
            record(b"size", b"1" * 20),
            record(b"size", b"\xd9\xa3"),
            record(b"mtime", b"1e5"),
            record(b"mtime", b"1" * 5000),
            record(b"SCHILY.xattr.", b"x"),
            record(b"SCHILY.xattr.a\0b", b"x"),
            record(b"LIBARCHIVE.xattr.a%00b", b"eA=="),
        ):
            whole = header(b"pax", b"x", len(data)) + padded(data) + file(b"a") + END
            self.assertRaises(BadLayer, read, whole)

    def test_nul_in_long_name(self) -> None:
        """
        Nothing comes through that has a NUL in its name.
        """
        whole = header(b"L", b"L", 4) + padded(b"a\0b\0") + file(b"x") + END
        [(entry, _)] = read(whole)
        self.assertEqual(entry.path, b"a")
