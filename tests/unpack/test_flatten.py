# -*- test-case-name: tests.unpack.test_flatten -*-
"""
Tests for L{xferd.unpack.flatten} and L{xferd.unpack.overlay_merge}, on trees that
the unpacker's own L{TreeWriter} makes of entries.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.trees import differences, listing
from xferd.errors import DiskFull, StoreError
from xferd.tree_record import RecordWriter
from xferd.unpack import flatten as module
from xferd.unpack import tar
from xferd.unpack.flatten import Progress, flatten
from xferd.unpack.limits import PlainLimits
from xferd.unpack.metadata import MetadataWriter, NativeMetadata, OverrideMetadata
from xferd.unpack.overlay_merge import OpenDirectories, merge
from xferd.unpack.rights import Rights, own_rights
from xferd.unpack.tar import Entry
from xferd.unpack.tree_writer import TreeWriter

LIMITS = PlainLimits(10_000, 1 << 30, 1 << 20, 300, 400)
OVERRIDE = "user.containers.override_stat"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")


def entry(path: str, kind: bytes = tar.DIRECTORY, mode: int = 0o755, **more: object) -> Entry:
    """
    An entry with the owner 0:0 and a time of its own.
    """
    facts = {"uid": 0, "gid": 0, "size": 0, "mtime": 10**18 + len(path) * 10**9 + 7, **more}
    return Entry(os.fsencode(path), kind, mode, **facts)  # type: ignore[arg-type]


def file(path: str, data: bytes = b"", mode: int = 0o644, **more: object) -> tuple[Entry, bytes]:
    """
    A regular file.
    """
    return entry(path, tar.REGULAR, mode, size=len(data), **more), data


def reader(data: bytes) -> Callable[[int], memoryview]:
    """
    Return some data at once, then none.
    """
    pieces = [memoryview(data)] if data else []
    return lambda _: pieces.pop() if pieces else memoryview(b"")


class FlattenCase(SynchronousTestCase):
    """
    A place for trees.
    """

    def setUp(self) -> None:
        """
        Make it, short enough for sockets and clear of this file's own.
        """
        self.place = Path(self.mktemp()).absolute()
        self.place.mkdir(parents=True)
        self.trees: list[str] = []
        self.addCleanup(os.umask, os.umask(0o022))

    def layer(self, *entries: Entry | tuple[Entry, bytes], form: MetadataWriter | None = None) -> str:
        """
        Unpack a layer on top of those before.

        @param form: how owners are kept; as this process can by default.
        """
        number = len(self.trees)
        path = self.place / f"layer{number}" / "diff"
        path.mkdir(parents=True)
        umask = os.umask(0)
        root = os.open(path, os.O_RDONLY)
        written = os.open(path.parent / "entries", os.O_WRONLY | os.O_CREAT)
        usual = NativeMetadata() if own_rights() is Rights.ROOT else OverrideMetadata()
        tree = TreeWriter(root, LIMITS, form or usual, RecordWriter(written))
        try:
            for item in entries:
                made, data = item if isinstance(item, tuple) else (item, b"")
                tree.add(made, reader(data))
            tree.finish()
        finally:
            os.close(written)
            os.close(root)
            os.umask(umask)
        self.trees.append(str(path))
        return str(path)

    def flatten(self, *, privileged: bool | None = None, name: str = "out") -> str:
        """
        Flatten the layers.
        """
        target = self.place / name
        target.mkdir()
        self.news: list[Progress] = []
        flatten(
            self.trees,
            str(target),
            self.news.append,
            privileged=(own_rights() is Rights.ROOT) if privileged is None else privileged,
        )
        return str(target)

    def names(self, target: str) -> set[str]:
        """
        All paths of a tree.
        """
        return {os.fsdecode(path) for path in listing(target)}


class MergeTests(FlattenCase):
    """
    The merge of a stack of layers.
    """

    def shown(self) -> set[str]:
        """
        Flatten, and see that the numbers add up.
        """
        target = self.flatten()
        names = self.names(target)
        shutil.rmtree(target)
        last = self.news[-1]
        self.assertEqual((last.entries, last.entries_total), (len(names), len(names)))
        self.assertEqual(last.size, last.size_total)
        return names

    def test_nothing(self) -> None:
        """
        Without layers there is an empty root, of the mode and owner that a
        root has.
        """
        self.assertEqual(self.shown(), set())
        (self.place / "empty").mkdir(mode=0o700)
        flatten([], str(self.place / "empty"), self.news.append, privileged=(own_rights() is Rights.ROOT))
        found = os.stat(self.place / "empty")
        self.assertEqual((stat.S_IMODE(found.st_mode), found.st_mtime), (0o755, 0))
        self.assertEqual((found.st_uid, found.st_gid), (os.geteuid(), os.getegid()))

    def test_top_wins(self) -> None:
        """
        The topmost layer decides on a name: file over directory, directory
        over file, file over file.
        """
        self.layer(entry("a"), file("a/x", b"1"), file("b", b"1"), file("c", b"1"))
        self.layer(file("a", b"2"), entry("b"), file("b/y", b"2"), file("c", b"22"))
        target = self.flatten()
        self.assertEqual(self.names(target), {"a", "b", "b/y", "c"})
        self.assertEqual(Path(target, "c").read_bytes(), b"22")

    def test_directory_over_file_over_directory(self) -> None:
        """
        A directory that a file has hidden does not reappear in a directory
        above it.
        """
        self.layer(entry("a"), file("a/old"))
        self.layer(file("a"))
        self.layer(entry("a"), file("a/new"))
        self.assertEqual(self.shown(), {"a", "a/new"})

    def test_whiteout(self) -> None:
        """
        A whiteout hides entries below it, and leaves those above.
        """
        self.layer(entry("a"), file("a/x"), file("a/y"), file("b"), entry("c"), file("c/old"))
        self.layer(file("a/.wh.x"), file(".wh.b"), file(".wh.c"), file(".wh.absent"))
        self.assertEqual(self.shown(), {"a", "a/y"})
        self.layer(file("b", b"again"), entry("c"), file("c/new"))
        self.assertEqual(self.shown(), {"a", "a/y", "b", "c", "c/new"})

    def test_opaque(self) -> None:
        """
        An opaque directory hides its entries in the layers below, at any depth,
        and is merged with the layers above.
        """
        self.layer(entry("a"), entry("a/d"), file("a/d/old"), file("a/old"))
        self.layer(entry("a"), file("a/.wh..wh..opq"), entry("a/d"), file("a/d/new"))
        self.layer(entry("a"), file("a/top"))
        self.assertEqual(self.shown(), {"a", "a/d", "a/d/new", "a/top"})

    def test_opaque_root(self) -> None:
        """
        The root can be opaque too.
        """
        self.layer(file("old"))
        self.layer(file(".wh..wh..opq"), file("new"))
        self.assertEqual(self.shown(), {"new"})

    def test_whiteout_by_xattr(self) -> None:
        """
        Whiteouts in the form without devices count in marked directories only.
        """
        self.layer(file("a", b"1"), file("b", b"1"))
        top = self.layer(entry("."))
        for name in ("a", "b"):
            Path(top, name).touch()
            os.setxattr(os.path.join(top, name), "user.overlay.whiteout", b"y")
        self.assertEqual(self.shown(), {"a", "b"})
        os.setxattr(top, "user.overlay.opaque", b"x")
        Path(top, "b").write_bytes(b"not empty")
        Path(top, "c").touch()
        self.assertEqual(self.shown(), {"b", "c"})

    def test_many(self) -> None:
        """
        More layers and directories than descriptors are kept.
        """
        for number in range(20):
            self.layer(*(entry(f"{n}/" * 9 + str(number)) for n in range(5)))
        roots = OpenDirectories(self.trees, most=3)
        self.addCleanup(roots.close)
        merged = merge(roots, 20, lambda: None)
        self.assertEqual(merged.entries, 5 * (9 + 20))

    def test_unreadable(self) -> None:
        """
        A tree that is not there is a plain error.
        """
        self.trees.append(self.layer(file("a")))
        shutil.rmtree(self.trees[0])
        error = self.assertRaises(StoreError, self.flatten)
        self.assertIn("cannot read '/' in the store: No such file or directory", str(error))


class CopyTests(FlattenCase):
    """
    The copy of each kind of file.
    """

    def test_deep_links(self) -> None:
        """
        Two names of one file, in directories that are each deeper than the
        number of descriptors that are kept, stay names of that file.
        """
        for depth in (255, 256, 257):
            first, second = f"a{depth}" + "/d" * (depth - 1), f"b{depth}" + "/d" * (depth - 1)
            others = (f"b{depth}" + "/d" * n for n in range(depth))
            self.layer(
                file(f"{first}/f", b"right"),
                *(file(f"{other}/f", b"wrong") for other in others),
                entry(f"{second}/g", tar.HARD_LINK, link=os.fsencode(f"{first}/f")),
            )
            target = Path(self.flatten(name=str(depth)))
            self.assertEqual((target / second / "g").read_bytes(), b"right")
            self.assertEqual((target / first / "f").stat().st_nlink, 2)

    def test_links(self) -> None:
        """
        Names of one file stay names of one file, in other directories too;
        a name that is hidden is not missed; layers' inodes are their own.
        """
        self.layer(
            entry("d"),
            file("d/a", b"one"),
            entry("d/b", tar.HARD_LINK, link=b"d/a"),
            entry("e"),
            entry("e/c", tar.HARD_LINK, link=b"d/a"),
            entry("e/d", tar.HARD_LINK, link=b"d/a"),
        )
        self.layer(file("d/.wh.a"), file("e/d", b"mine"))
        target = self.flatten()
        facts = [os.stat(os.path.join(target, name)) for name in ("d/b", "e/c", "e/d")]
        self.assertEqual([s.st_nlink for s in facts], [2, 2, 1])
        self.assertEqual(facts[0].st_ino, facts[1].st_ino)
        self.assertEqual(self.news[-1].size_total, len(b"onemine"))

    def test_names(self) -> None:
        """
        Names are bytes, and links lead where they led, nowhere or out.
        """
        odd = os.fsdecode(b"caf\xe9\n\xff")
        self.layer(
            file(odd, b"x"), entry("out", tar.SYMLINK, link=b"/etc/../.."), entry("d"), file("d/" + odd)
        )
        target = self.flatten()
        self.assertEqual(self.names(target), {odd, "out", "d", "d/" + odd})
        self.assertEqual(os.readlink(os.path.join(target, "out")), "/etc/../..")

    def test_link_below(self) -> None:
        """
        A directory over a link of a lower layer is a directory: nothing is
        written to the link's target.
        """
        elsewhere = self.place / "elsewhere"
        elsewhere.mkdir()
        self.layer(entry("d", tar.SYMLINK, link=os.fsencode(elsewhere)))
        self.layer(entry("d"), file("d/x", b"x"))
        target = self.flatten()
        self.assertEqual(self.names(target), {"d", "d/x"})
        self.assertEqual(list(elsewhere.iterdir()), [])

    def sparse(self) -> tuple[Entry, bytes]:
        """
        Data between holes, and a hole at the end.
        """
        return entry("s", tar.REGULAR, 0o644, size=50_000_000, sparse=[(20_000_000, 4)]), b"data"

    def check_data(self) -> None:
        """
        Copy data of several shapes.
        """
        big = bytes(range(256)) * 1000
        self.layer(self.sparse(), file("big", big), file("empty"))
        target = self.flatten()
        self.assertEqual(differences(listing(target), listing(self.trees[0])), [])
        self.assertLess(os.stat(os.path.join(target, "s")).st_blocks * 512, 1_000_000)
        self.assertEqual(self.news[-1].size, 50_000_000 + len(big))

    def test_data(self) -> None:
        """
        Data arrives whole, and holes stay holes.
        """
        self.check_data()

    def test_other_ways(self) -> None:
        """
        Where the kernel cannot copy ranges between two files, it is done by
        sendfile; in pieces, with news of each.
        """

        def refuse(*_: object) -> int:
            raise OSError(errno.EXDEV, "no")

        self.patch(module, "_PIECE", 4096)
        self.patch(os, "copy_file_range", refuse)
        self.check_data()
        self.assertGreater(len(self.news), 50)

    def test_clone(self) -> None:
        """
        Blocks are shared if the file system supports it; an error with another
        meaning is reported.
        """
        calls: list[tuple[int, int]] = []

        def clone(out: int, request: int, source: int) -> int:
            calls.append((out, source))
            if len(calls) > 2:
                raise OSError(errno.EIO, "broken")
            os.write(out, os.read(source, 100))
            return request

        self.patch(module, "ioctl", clone)
        self.layer(file("a", b"1"), file("b", b"2"))
        self.assertEqual(Path(self.flatten(), "b").read_bytes(), b"2")
        error = self.assertRaises(StoreError, self.flatten, name="again")
        self.assertIn(": broken", str(error))

    def test_full(self) -> None:
        """
        A full disk is called that, with the file that did not fit.
        """

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "full")

        self.patch(os, "copy_file_range", full)
        self.layer(entry("d"), file("d/big", b"x"))
        error = self.assertRaises(DiskFull, self.flatten)
        self.assertEqual(str(error), "no space is left for 'd/big'")

    def test_shorter(self) -> None:
        """
        A file that shrinks while it is copied is an error, not an endless wait.
        """
        self.patch(os, "copy_file_range", lambda *_: 0)
        self.layer(file("f", b"x"))
        self.assertIn("become shorter", str(self.assertRaises(StoreError, self.flatten)))

    def test_stopped(self) -> None:
        """
        An error of C{notify} ends the work, and the umask is restored.
        """

        def stop(_: Progress) -> None:
            raise KeyboardInterrupt

        self.layer(file("f", b"x"))
        (self.place / "out").mkdir()
        self.assertRaises(
            KeyboardInterrupt,
            flatten,
            self.trees,
            str(self.place / "out"),
            stop,
            privileged=(own_rights() is Rights.ROOT),
        )
        self.assertEqual(os.umask(0o022), 0o022)


def everything() -> Iterable[Entry | tuple[Entry, bytes]]:
    """
    A layer with every kind of file and attribute.
    """
    return [
        entry(".", mode=0o711, uid=1, gid=2),
        entry("d", mode=0o2750, uid=12, gid=3456),
        file("d/su", b"#!", 0o4755, uid=7, gid=8, xattrs={b"user.colour": b"red"}),
        file("d/locked", b"x", 0o000, uid=7),
        file("d/capable", b"#!", 0o755, xattrs={b"security.capability": CAPABILITY}),
        entry("tmp", mode=0o1777),
        entry("l", tar.SYMLINK, 0o777, link=b"d", uid=5, gid=6),
        entry("fifo", tar.FIFO, 0o622, uid=3),
        entry("null", tar.CHARACTER, 0o666, device=(1, 3)),
        entry("loop", tar.BLOCK_DEVICE, 0o660, device=(7, 300), gid=6),
    ]


class AttributeTests(FlattenCase):
    """
    Owners, modes, times and xattrs, of either kind of tree.
    """

    def test_root(self) -> None:
        """
        As root, all metadata are those of the layer.
        """
        if own_rights() is not Rights.ROOT:
            raise SkipTest("needs root")
        tree = self.layer(*everything())
        target = self.flatten()
        self.assertEqual(differences(listing(target), listing(tree)), [])
        top, other = os.stat(target), os.stat(tree)
        for fact in ("st_mode", "st_uid", "st_gid", "st_mtime_ns"):
            self.assertEqual(getattr(top, fact), getattr(other, fact), fact)

    def test_overlay_marks_gone(self) -> None:
        """
        The marks of overlayfs are not part of the result.
        """
        self.layer(entry("a"))
        self.layer(entry("a"), file("a/.wh..wh..opq"))
        target = self.flatten()
        self.assertEqual([x for x in os.listxattr(os.path.join(target, "a")) if "overlay" in x], [])

    def test_unprivileged(self) -> None:
        """
        Without root, modes are as safe and owners as kept as in the tree.
        """
        tree = self.layer(*everything(), form=OverrideMetadata())
        target = self.flatten(privileged=False)
        self.assertEqual(differences(listing(target), listing(tree)), [])
        self.assertEqual(os.getxattr(target, OVERRIDE), os.getxattr(tree, OVERRIDE))
        self.assertEqual(os.stat(os.path.join(target, "d/su")).st_mode, stat.S_IFREG | 0o755)

    def test_kept_becomes_real(self) -> None:
        """
        As root, the tree of another user gets the metadata of the layer;
        metadata that it could not keep is root's.
        """
        if own_rights() is not Rights.ROOT:
            raise SkipTest("needs root")
        real = self.layer(*everything())
        kept = self.layer(*everything(), form=OverrideMetadata())
        for folder, folders, files in os.walk(os.path.dirname(kept)):
            for name in [".", *folders, *files]:
                os.chown(os.path.join(folder, name), 1000, 1000, follow_symlinks=False)
        self.trees = [kept]
        ours, theirs = listing(self.flatten()), listing(real)
        for lost in (b"l", b"fifo"):
            self.assertEqual(ours[lost]["owner"], (0, 0))
            del ours[lost], theirs[lost]
        # Only root could have kept a capability; the chown above has dropped it.
        del theirs[b"d/capable"]["xattrs"]["security.capability"]
        self.assertEqual(differences(ours, theirs), [])

    def test_real_becomes_kept(self) -> None:
        """
        Without root, owners of a tree that root made are kept beside the files.
        """
        if own_rights() is not Rights.ROOT:
            raise SkipTest("needs root to make the tree")
        self.layer(*everything())
        target = self.flatten(privileged=False)
        self.assertEqual(os.getxattr(os.path.join(target, "d/su"), OVERRIDE), b"7:8:04755:file")
        self.assertEqual(os.getxattr(os.path.join(target, "loop"), OVERRIDE), b"0:6:0660:block-7-300")

    def test_bad_xattr(self) -> None:
        """
        An xattr that should keep an owner and does not is passed over.
        """
        tree = self.layer(file("f", b"x", 0o600), form=OverrideMetadata())
        for value in (b"", b"1:2", b"a:b:c", b"\xff"):
            os.setxattr(os.path.join(tree, "f"), OVERRIDE, value)
            target = self.flatten(privileged=False)
            kept = os.getxattr(os.path.join(target, "f"), OVERRIDE)
            self.assertEqual(kept, b"%d:%d:0600:file" % (os.getuid(), os.getgid()))
            shutil.rmtree(target)
