"""
Tests for L{xferd.unpack.tar}: sparse files.
"""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import (
    END,
    LIMITS,
    file,
    header,
    padded,
    pax,
    read,
    record,
    resum,
)
from xferd.errors import BadLayer


class SparseTests(SynchronousTestCase):
    """
    Sparse files, in all the forms that GNU tar has used.
    """

    def check(self, whole: bytes, parts: list[tuple[int, int]], size: int, data: bytes) -> None:
        """
        The tar has one sparse file as described, and another file behind it.
        """
        (entry, found), (after, _) = read(whole + file(b"after") + END)
        self.assertEqual((entry.path, entry.sparse, entry.size, found), (b"sp", parts, size, data))
        self.assertEqual(after.path, b"after")

    def old(self, parts: list[tuple[int, int]], real: int, stored: int, extended: bytes = b"") -> bytes:
        """
        A header of type S.
        """
        block = bytearray(header(b"sp", b"S", stored, magic=b"ustar  \0"))
        for i, (offset, length) in enumerate(parts):
            block[386 + 24 * i : 410 + 24 * i] = b"%011o\0%011o\0" % (offset, length)
        block[482] = 1 if extended else 0
        block[483:495] = b"%011o\0" % real
        return resum(bytes(block)) + extended

    def test_old(self) -> None:
        """
        GNU's type S.
        """
        whole = self.old([(1000, 3), (5000, 2), (9000, 0)], 9000, 5) + padded(b"abcde")
        self.check(whole, [(1000, 3), (5000, 2)], 9000, b"abcde")

    def test_old_extended(self) -> None:
        """
        The map continues in blocks of its own.
        """
        parts = [(i * 100, 1) for i in range(6)]
        extension = b"".join(b"%011o\0%011o\0" % part for part in parts[4:]).ljust(512, b"\0")
        whole = self.old(parts[:4], 600, 6, extension) + padded(b"abcdef")
        self.check(whole, parts, 600, b"abcdef")

    def test_pax(self) -> None:
        """
        Formats 0.0, 0.1 and 1.0.
        """
        zero = b"".join(
            record(key, value)
            for key, value in [
                (b"GNU.sparse.size", b"900"),
                (b"GNU.sparse.numblocks", b"2"),
                (b"GNU.sparse.offset", b"10"),
                (b"GNU.sparse.numbytes", b"3"),
                (b"GNU.sparse.offset", b"500"),
                (b"GNU.sparse.numbytes", b"2"),
            ]
        )
        body = file(b"sp", b"abcde")
        self.check(header(b"pax", b"x", len(zero)) + padded(zero) + body, [(10, 3), (500, 2)], 900, b"abcde")
        one = {b"GNU.sparse.size": b"900", b"GNU.sparse.name": b"sp", b"GNU.sparse.map": b"10,3,500,2"}
        self.check(pax(one) + file(b"GNUSparseFile.0/sp", b"abcde"), [(10, 3), (500, 2)], 900, b"abcde")
        two = {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": b"sp",
            b"GNU.sparse.realsize": b"900",
        }
        leading = padded(b"2\n10\n3\n500\n2\n")
        self.check(pax(two) + file(b"x", leading + b"abcde"), [(10, 3), (500, 2)], 900, b"abcde")
        self.check(pax(two) + file(b"x", padded(b"0\n")), [], 900, b"")

    def test_long_leading_map(self) -> None:
        """
        The map of format 1.0 may have many blocks, its numbers cut by them.
        """
        parts = [(i * 1_000_000, 1) for i in range(200)]
        leading = padded(b"200\n" + b"".join(b"%d\n%d\n" % part for part in parts))
        records = {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.realsize": b"200000000",
        }
        self.check(pax(records) + file(b"sp", leading + b"x" * 200), parts, 200_000_000, b"x" * 200)

    def test_not_sparse(self) -> None:
        """
        Without a map or a version there is no sparse file, and its name and
        sizes count for nothing.
        """
        records = {b"GNU.sparse.name": b"other", b"GNU.sparse.size": b"9", b"GNU.sparse.map": b""}
        [(entry, data)] = read(pax(records) + file(b"f", b"abc") + END)
        self.assertEqual((entry.path, entry.size, entry.sparse, data), (b"f", 3, None, b"abc"))

    def test_bad_maps(self) -> None:
        """
        Maps that overlap, lead behind the end, do not fit the data, have no
        end or are of a future format are refused (CVE-2025-58183).
        """
        one = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.realsize": b"900"}
        data = file(b"sp", b"abcde")

        def mapped(text: bytes) -> bytes:
            return pax({b"GNU.sparse.size": b"900", b"GNU.sparse.map": text}) + data

        for whole in (
            mapped(b"500,2,10,3"),
            mapped(b"10,3,12,2"),
            mapped(b"10,3,899,2"),
            mapped(b"10,3"),
            mapped(b"10,3,500"),
            mapped(b"10,3,500,-2"),
            mapped(b"10,3,x,2"),
            pax({b"GNU.sparse.numbytes": b"1"}) + data,
            pax({**one, b"GNU.sparse.minor": b"1"}) + data,
            pax({**one, b"GNU.sparse.major": b"2"}) + data,
            pax(one) + data,
            pax(one) + file(b"sp", padded(b"x\n")),
            pax(one) + file(b"sp", padded(b"1\n1\n99999999999999999999\n")),
            pax(one) + file(b"sp", b"1\n" * 512),
            pax({**one, b"GNU.sparse.realsize": b"9" * 19}) + file(b"sp", padded(b"0\n")),
            self.old([(0, 5)], 5, 5, b"\xff" * 504 + b"\1" + bytes(7)),
            self.old([(0, 5)], 4, 5) + padded(b"abcde"),
            pax({b"GNU.sparse.major": b"0", b"GNU.sparse.minor": b"7"}) + mapped(b"10,3,500,2")[1024:],
            pax({b"GNU.sparse.minor": b"0", b"GNU.sparse.map": b"0,5", b"GNU.sparse.size": b"5"}) + data,
            resum(self.old([(0, 5)], 5, 5).replace(b"ustar  \0", b"ustar\x0000")) + padded(b"abcde"),
        ):
            self.assertRaises(BadLayer, read, whole + END)

    def test_endless_map(self) -> None:
        """
        A map is of no more bytes than any extended header may be.
        """
        small = evolve(LIMITS, header=2048)
        records = {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
        endless = pax(records) + file(b"sp", b"9999999\n" + b"1\n" * 4000)
        self.assertIn("without an end", str(self.assertRaises(BadLayer, read, endless, small)))
        more = bytes(504) + b"\1" + bytes(7)
        self.assertRaises(BadLayer, read, self.old([], 0, 0, more * 10), small)
