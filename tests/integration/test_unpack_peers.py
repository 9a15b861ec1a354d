"""
Trees of xferd equal those of GNU tar and umoci, and are valid for overlayfs.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.integration.umoci import shape, umoci_unpack
from tests.unpack.stack import fitted_trees, root_file_system
from tests.unpack.tars import (
    END,
    IS_ROOT,
    LIMITS,
    file,
    folder,
    hard_link,
    header,
    listing,
    padded,
    pax,
    symlink,
)
from xferd.ctl.image.overlay import CannotMount, mount, unmount
from xferd.errors import BadLayer
from xferd.interfaces.store import Unpacked
from xferd.unpack.unpacker import Unpacker

SOURCES = (
    "/usr/share/zoneinfo/Europe",
    "/usr/share/perl5",
    "/etc/ssl",
    "/usr/share/terminfo",
    "/bin",
    "/etc/skel",
)
"""Programs that every machine has."""

FOLDERS = {
    "./": 0o755,
    "etc": 0o755,
    "usr": 0o755,
    "usr/share": 0o751,
    "usr/share/zoneinfo": 0o755,
    "var": 0o755,
    "var/mail": 0o2775,
    "tmp": 0o1777,
    "dev": 0o755,
}

CAPABILITY = b"\x01\0\0\x02\0\x20\0\0" + bytes(12)


LOWER = (
    folder(b"d", mode=0o711),
    file(b"d/x", b"x"),
    file(b"d/e/y", b"y"),
    file(b"f", b"f"),
    symlink(b"l", b"f"),
)
"""A layer with entries that the next one removes or replaces."""

_GNU = b"ustar  \0"
_TIMES = b"00000000001\x0000000000002\0"
_STAR = b"star".ljust(131, b"\0") + b"00000000001 00000000002 " + bytes(8)
_LEAST = b"\xff\xff\xff\xff\x80" + bytes(7)


def long_name(kind: bytes, name: bytes) -> bytes:
    """
    GNU's header for a long name.
    """
    return header(b"././@LongLink", kind, len(name) + 1, magic=_GNU) + padded(name + b"\0")


ONE_LAYER = {
    "a slash behind a file": file(b"a/b/", b"1") + file(b"a/c", b"2") + file(b"d", b"3"),
    "a dot behind a file": file(b"a/b/.", b"1") + file(b"a/c", b"2"),
    "a slash behind a link": symlink(b"a/b/", b"c") + file(b"a/c", b"2"),
    "a slash behind a hard link": file(b"a/c", b"2") + hard_link(b"a/b/", b"a/c/") + file(b"a/d"),
    "a slash behind a FIFO": header(b"a/b/", b"6") + file(b"a/c", b"2"),
    "no type": header(b"a/", b"\0") + header(b"b", b"\0", 1) + padded(b"x"),
    "no type, and a name in PAX": pax({b"path": b"a"}) + header(b"b/", b"\0", 1) + padded(b"x"),
    "no type, and a directory in PAX": pax({b"path": b"a/"}) + header(b"b", b"\0") + file(b"a/c"),
    "a prefix": file(b"name", b"x", prefix=b"some/dir"),
    "a prefix of any version": b"".join(
        file(b"name%d" % n, prefix=b"some/dir", magic=b"ustar\0" + version)
        for n, version in enumerate((b"", b"  ", b"01", b"\xff\xff"))
    ),
    "star's prefix": file(b"name", prefix=_STAR + b"tar\0"),
    "star's prefix, full": file(b"n", prefix=b"s" * 131 + _STAR[131:] + b"tar\0"),
    "star's fields without its mark": file(b"name", prefix=_STAR),
    "a long prefix": file(b"n", prefix=b"p" * 155),
    "GNU's times": file(b"name", magic=_GNU, prefix=_TIMES),
    "GNU's times in base 256": file(b"name", magic=_GNU, prefix=(b"\x80" + bytes(11)) * 2),
    "GNU's magic with a prefix": file(
        b"com.sun.star",
        b"data",
        uid=b"\x80" + bytes(3) + b"\x7d\x2b\x75\0",
        magic=_GNU,
        prefix=b"home/support/3",
    ),
    "GNU's magic with digits for a prefix": b"".join(
        file(b"name", magic=_GNU, prefix=prefix)
        for prefix in (b"8", b"7", b"1234567012345", b"123456789012/3", _TIMES + b"x", b"00000000001\0x")
    ),
    "GNU's magic with a prefix that is not ASCII": file(b"name", magic=_GNU, prefix=b"x\xc3\xa9"),
    "other magic": b"".join(
        file(b"name%d" % n, prefix=b"some/dir", magic=magic)
        for n, magic in enumerate((b"", b"ustar 00", b"USTAR\x0000", b"ustar00\0", b"tar\0"))
    ),
    "GNU's names above PAX's": pax({b"path": b"pax", b"linkpath": b"x"})
    + long_name(b"L", b"long")
    + long_name(b"K", b"target")
    + symlink(b"header", b"y"),
    "PAX's names above the header's": pax({b"path": b"pax/a"}) + file(b"header", prefix=b"prefix"),
    "sparse, by PAX": pax(
        {
            b"GNU.sparse.map": b"3,2",
            b"GNU.sparse.numblocks": b"1",
            b"GNU.sparse.size": b"9",
            b"GNU.sparse.name": b"s",
        }
    )
    + file(b"header", b"ab"),
    "not sparse, by PAX": pax({b"GNU.sparse.name": b"other", b"GNU.sparse.size": b"9"}) + file(b"f", b"abc"),
    "libarchive's xattrs": pax(
        {
            b"LIBARCHIVE.xattr.user.note": b"AQIAANaKEPkf5W8",
            b"SCHILY.xattr.user.note": b"\1\2\0\0\xd6\x8a\x10\xf9",
        }
    )
    + file(b"file", b"hi"),
    "NUL in a record": pax({b"RHT.security.selinux": b"unconfined_u\0", b"mtime": b"3"}) + file(b"file"),
    "dots": file(b"./../a/b", b"1")
    + file(b"c/../d/e", b"2")
    + file(b"/../../f", b"3")
    + hard_link(b"g", b"../c/../f"),
    "dots behind a link": folder(b"a/b") + symlink(b"l", b"a/b") + file(b"l/../f") + file(b"l/g"),
    "the least time": file(b"file", mtime=_LEAST),
    "no end": file(b"a", b"x"),
    "no padding": (folder(b"a") + file(b"a/b", b"x" * 700))[:-324],
    "a part of the padding": (folder(b"a") + file(b"a/b", b"x" * 700))[:-100],
    "whiteouts alone": file(b".wh.a") + file(b"b/.wh.c") + file(b"d/.wh..wh..opq"),
    "a directory over a file": file(b"a", b"x") + folder(b"a") + file(b"a/b"),
    "a file over a directory": file(b"a/b", b"x") + file(b"a", b"y"),
}
"""Layers that umoci accepts, without their end, by their peculiarity."""

UPPER = {
    "a whiteout": (b"d/.wh.x",),
    "a directory and what was in it": (b".wh.d", b"d/.wh.x"),
    "a directory, deeply": (b".wh.d", b"d/.wh.e", b"d/e/.wh.y"),
    "an inner directory": (b"d/.wh.e", b"d/e/.wh.y"),
    "opaque, and what was in it": (b"d/.wh..wh..opq", b"d/.wh.x"),
    "opaque, and removed": (b".wh.d", b"d/.wh..wh..opq", b"d/.wh.x"),
    "below a file": (b"f/.wh.x",),
    "opaque below a file": (b"f/.wh..wh..opq", b"f/g/.wh.h"),
    "below a link to a file": (b"l/.wh.x",),
    "below nothing": (b"n/.wh.x", b"n/o/p/.wh.q"),
    "opaque below nothing": (b"n/.wh..wh..opq", b"n/o/.wh.p"),
    "beside something": (b"d/n/.wh.x", b"d/.wh.x", b"d/new"),
    "beside a new directory": (b".wh.d", b"d/.wh.x", b"d/n/new"),
    "everything": (b".wh..wh..opq", b"d/.wh.x"),
}
"""The files of a layer on top of L{LOWER}."""


def require(*tools: str) -> str | None:
    """
    The reason to skip a test; with C{XFERD_REQUIRE_PEERS}, the test runs and
    fails.
    """
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if os.environ.get("XFERD_REQUIRE_PEERS") == "1":
        return None
    if not IS_ROOT:
        return "only root unpacks trees as they are"
    return f"{', '.join(missing)}: not installed" if missing else None


def debian_like() -> bytes:
    """
    A tar like a base image's: some of this machine's files, and one entry of
    each kind that a file system supports.
    """
    out = io.BytesIO()

    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if info.size > 200_000 or out.tell() > 12_000_000:
            return None
        digest = int(hashlib.sha256(info.name.encode("utf-8", "surrogateescape")).hexdigest(), 16)
        info.uid, info.gid = digest % 3 * 1000, digest % 5 * 100
        info.mtime = 1_600_000_000 + digest % 10**8 + digest % 1000 / 1000
        return info

    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for directory, mode in FOLDERS.items():
            info = tarfile.TarInfo(directory)
            info.type, info.mode, info.gid, info.mtime = tarfile.DIRTYPE, mode, 8, 1_400_000_000
            archive.addfile(info)
        for source in SOURCES:
            if os.path.isdir(source):
                archive.add(source, filter=owned)
        for name, mode in (("var/mail/suid", 0o4755), ("var/mail/sgid", 0o2755), ("var/mail/none", 0)):
            info = tarfile.TarInfo(name)
            info.mode, info.size, info.uid, info.mtime = mode, 5, 33, -86_400.5
            archive.addfile(info, io.BytesIO(b"hello"))
        for name, target in (("var/run", "/run"), ("var/dangling", "no/where"), ("var/up", "../../..")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.uid, info.mtime = tarfile.SYMTYPE, target, 7, 5
            archive.addfile(info)
        long = "var/"
        for _ in range(30):
            long += "long-name/"
            info = tarfile.TarInfo(long)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(info)
        long += "f"
        info = tarfile.TarInfo(long)
        archive.addfile(info)
        info = tarfile.TarInfo("var/hard")
        info.type, info.linkname = tarfile.LNKTYPE, long
        archive.addfile(info)
        for name, kind, device in (
            ("dev/null", tarfile.CHRTYPE, (1, 3)),
            ("dev/sda", tarfile.BLKTYPE, (8, 0)),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.gid = kind, 0o660, 6
            info.devmajor, info.devminor = device
            archive.addfile(info)
        info = tarfile.TarInfo("dev/fifo")
        info.type, info.mode = tarfile.FIFOTYPE, 0o622
        archive.addfile(info)
    whole = out.getvalue().rstrip(b"\0")
    whole += bytes(-len(whole) % 512)
    xattrs = {b"SCHILY.xattr.security.capability": CAPABILITY, b"SCHILY.xattr.user.colour": b"red\n"}
    whole += pax(xattrs) + header(b"var/capable", mode=0o755, uid=9)
    whole += header(b"var/caf\xe9-\xff")
    return whole + bytes(1024)


class PeerTests(TestCase):
    """
    Comparisons of trees.
    """

    def setUp(self) -> None:
        """
        Make a layer.
        """
        why = require("tar", "umoci")
        if why is not None:
            self.skipTest(why)
        self.folder = tempfile.mkdtemp(prefix="xferd-peers-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.tar = debian_like()
        self.blob = gzip.compress(self.tar, 1, mtime=0)
        self.path = os.path.join(self.folder, "layer.tar.gz")
        with open(self.path, "wb") as f:
            f.write(self.blob)

    async def unpack(self, path: str) -> tuple[str, Unpacked]:
        """
        The tree that xferd makes of a blob.
        """
        staged = tempfile.mkdtemp(dir=self.folder)
        unpacker = Unpacker(reactor, workers=1, limits=LIMITS)  # type: ignore[arg-type]
        unpacker.start()
        try:
            layer = unpacker.unpack(staged, "gzip", lambda _: None)
            layer.sealed(path, os.path.getsize(path))
            return staged, await layer.result
        finally:
            await unpacker.stop()

    def equal(self, ours: str, theirs: str) -> None:
        """
        Compare two trees, entry by entry.
        """
        mine, other = listing(ours), listing(theirs)
        self.assertEqual(sorted(mine), sorted(other))
        for name, found in mine.items():
            self.assertEqual((name, found), (name, other[name]))

    async def test_gnu_tar(self) -> None:
        """
        GNU tar makes the same tree of a base image's layer.
        """
        theirs = os.path.join(self.folder, "gnu")
        os.mkdir(theirs)
        options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "--delay-directory-restore"]
        subprocess.run(
            ["tar", *options, "-xpzf", self.path, "-C", theirs],
            check=True,
            capture_output=True,
        )
        ours, unpacked = await self.unpack(self.path)
        self.equal(ours, theirs)
        self.assertEqual(str(unpacked.diff_id), f"sha256:{hashlib.sha256(self.tar).hexdigest()}")
        self.assertGreater(unpacked.entries, 50)

    async def test_gnu_formats(self) -> None:
        """
        Tars in each format of GNU tar, with sparse files, are unpacked
        unchanged.
        """
        source = os.path.join(self.folder, "source")
        os.makedirs(os.path.join(source, "deep/" * 40))
        with open(os.path.join(source, "sparse"), "wb") as f:
            for part in range(30):
                f.seek(part * 1_000_000)
                f.write(b"data%d" % part)
            f.truncate(40_000_000)
        with open(os.path.join(source, "deep/" * 40, "n" * 200), "w") as f2:
            f2.write("x")
        os.link(f2.name, os.path.join(source, "hard"))
        os.symlink("t" * 300, os.path.join(source, "soft"))
        os.utime(source, (1, 1))
        for options in (
            ["--format=gnu"],
            ["--format=gnu", "--sparse"],
            ["--format=posix"],
            ["--format=posix", "--sparse", "--sparse-version=0.0"],
            ["--format=posix", "--sparse", "--sparse-version=0.1"],
            ["--format=posix", "--sparse", "--sparse-version=1.0"],
        ):
            path = os.path.join(self.folder, "formats.tar.gz")
            subprocess.run(["tar", *options, "-czf", path, "-C", source, "."], check=True)
            ours, _ = await self.unpack(path)
            mine, other = listing(ours), listing(source)
            if "--format=gnu" in options:  # The format has whole seconds.
                mine, other = ({n: (*e[:4], 0, *e[5:]) for n, e in t.items()} for t in (mine, other))
            self.assertEqual(mine, other)
            if "--sparse" in options:
                self.assertLess(os.stat(os.path.join(ours, "sparse")).st_blocks * 512, 10_000_000)

    async def test_umoci(self) -> None:
        """
        umoci makes the same tree.
        """
        theirs, said = umoci_unpack(os.path.join(self.folder, "theirs"), [self.tar])
        assert theirs is not None, said
        ours, _ = await self.unpack(self.path)
        self.equal(ours, theirs)

    async def test_overlayfs(self) -> None:
        """
        Linux, which stacks two trees, interprets the whiteouts as intended, in
        every order of the entries.
        """
        lower, _ = await self.unpack_tar(
            file(b"gone", b"1"),
            file(b"d/gone", b"2"),
            file(b"d/stays", b"3"),
            file(b"o/gone"),
            file(b"r/gone"),
        )
        upper, unpacked = await self.unpack_tar(
            file(b".wh.gone"),
            file(b"d/.wh.gone"),
            file(b"d/new", b"4"),
            file(b"o/new"),
            file(b"o/.wh..wh..opq"),
            file(b"r/new"),
            file(b".wh.r"),
            file(b".wh.never"),
        )
        self.assertEqual(sorted(unpacked.implied), [b".", b"d", b"o"])
        merged = os.path.join(self.folder, "merged")
        os.mkdir(merged)
        mount = ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={upper}:{lower}", merged]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            self.skipTest("no overlayfs can be mounted here")
        try:
            self.assertEqual(sorted(listing(merged)), ["d", "d/new", "d/stays", "o", "o/new", "r", "r/new"])
        finally:
            subprocess.run(["umount", merged], check=True)

    async def unpack_tar(self, *parts: bytes) -> tuple[str, Unpacked]:
        """
        The tree that xferd makes of some entries.
        """
        path = os.path.join(self.folder, "small.tar")
        with open(path, "wb") as f:
            f.write(b"".join(parts) + END)
        return await self.unpack(path)

    def compare(self, name: str, *tars: bytes) -> None:
        """
        Unpack layers here and with umoci, and compare.
        """
        place = tempfile.mkdtemp(dir=self.folder)
        theirs, said = umoci_unpack(os.path.join(place, "theirs"), tars)
        assert theirs is not None, (name, said)
        ours = os.path.join(place, "ours")
        os.mkdir(ours)
        mine, other = shape(root_file_system(ours, tars)), shape(theirs)
        if name == "the least time":  # umoci's system call wraps around at this value.
            mine, other = ({n: (*e[:3], *e[4:]) for n, e in tree.items()} for tree in (mine, other))
        self.assertEqual((name, mine), (name, other))

    def test_odd_headers(self) -> None:
        """
        umoci makes the same trees of layers with unusual headers.
        """
        for name, entries in ONE_LAYER.items():
            self.compare(name, entries + (b"" if name.startswith(("no ", "a part")) else END))

    def test_whiteouts(self) -> None:
        """
        umoci and Linux show the same names where a layer removes entries of the
        one below, in each order.
        """
        lower = b"".join(LOWER) + END
        for name, files in UPPER.items():
            for order in (files, files[::-1]):
                upper = b"".join(map(file, order)) + END
                # In umoci, attributes depend on the order.
                if name != "beside a new directory":
                    self.compare(name, lower, upper)
                    self.compare(name, lower, upper, upper)
                self.mounted(name, lower, upper)

    def mounted(self, name: str, *tars: bytes) -> None:
        """
        Compare the names in a mounted stack with those in the copied one.
        """
        place = tempfile.mkdtemp(dir=self.folder)
        copied = sorted(listing(root_file_system(place, tars)))
        target = os.path.join(place, "mounted")
        os.mkdir(target)
        trees = [os.path.join(place, f"fitted{number}", "diff") for number in range(len(tars))]
        try:
            mount(trees, target, None)
        except CannotMount as e:
            self.skipTest(str(e))
        try:
            self.assertEqual((name, sorted(listing(target))), (name, copied))
        finally:
            unmount(target)

    def test_aufs(self) -> None:
        """
        Hard links to files that AUFS stored separately are the same as in
        umoci; umoci leaves some of AUFS's own files in the tree, xferd leaves
        none.
        """
        entries = (
            folder(b".wh..wh.aufs"),
            folder(b".wh..wh.plnk"),
            file(b".wh..wh.plnk/241.1301", b"content", mode=0o755),
            folder(b"bin"),
            hard_link(b"bin/a", b".wh..wh.plnk/241.1301"),
            hard_link(b"bin/b", b".wh..wh.plnk/241.1301"),
        )
        tar = b"".join(entries) + END
        theirs, said = umoci_unpack(os.path.join(self.folder, "theirs"), [tar])
        assert theirs is not None, said
        mine, other = shape(root_file_system(tempfile.mkdtemp(dir=self.folder), [tar])), shape(theirs)
        self.assertEqual(sorted(mine), [b"bin", b"bin/a", b"bin/b"])
        for name, facts in mine.items():
            self.assertEqual(facts[:4] + facts[5:], other[name][:4] + other[name][5:])
        self.assertEqual(mine[b"bin/a"][4], 2)

    def test_both_refuse(self) -> None:
        """
        Ambiguous layers are refused by both.
        """
        for name, entries in {
            "a NUL in a name": pax({b"path": b"a\0b"}) + file(b"f"),
            "a file for a root": file(b"a/.."),
            "a time that does not fit": file(b"f", mtime=b"\xff\xff\xff\xff\x7f" + b"\xff" * 7),
            "a byte too few": (folder(b"a") + file(b"a/b", b"x" * 700))[:-325],
            "sparse without GNU's magic": header(b"s", b"S"),
            "a lone block of zeros": bytes(512) + file(b"f"),
        }.items():
            place = tempfile.mkdtemp(dir=self.folder)
            theirs, _ = umoci_unpack(os.path.join(place, "theirs"), [entries])
            self.assertEqual((name, theirs), (name, None))
            self.assertRaises(BadLayer, fitted_trees, place, [entries])
