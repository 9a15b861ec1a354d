"""
Tests for L{xferd.unpack.tree_writer}: errors of the disk.
"""

from __future__ import annotations

import errno
import os

from tests.unpack.tars import (
    IS_ROOT,
    file,
    pax,
)
from tests.unpack.tree_writer.case import TreeCase
from xferd.errors import BadLayer, DiskFull, StoreError
from xferd.unpack import tree_writer
from xferd.unpack.tree_writer import TreeWriter


class ErrorTests(TreeCase):
    """
    Errors of the disk.
    """

    def failing(self, code: int) -> None:
        """
        Let all files fail.
        """

        def fail(*_: object, **__: object) -> None:
            raise OSError(code, os.strerror(code))

        self.patch(tree_writer, "_write", fail)

    def test_full(self) -> None:
        """
        A full disk is one, and a used-up quota too.
        """
        for code in (errno.ENOSPC, errno.EDQUOT):
            self.failing(code)
            error = self.assertRaises(DiskFull, self.make, file(b"f%d" % code, b"x"))
            self.assertIn("no space is left", str(error))

    def test_disk(self) -> None:
        """
        Any other refusal is the store's trouble, unless it is the layer's.
        """
        self.failing(errno.EIO)
        self.assertIn("refuses 'f'", str(self.assertRaises(StoreError, self.make, file(b"f", b"x"))))
        self.failing(errno.EFBIG)
        self.assertRaises(BadLayer, self.make, file(b"g", b"x"))

    def test_finish(self) -> None:
        """
        The same at the end.
        """
        self.patch(TreeWriter, "_finish", lambda *_: os.mkdir(self.outside))
        self.assertIn("the directories", str(self.assertRaises(StoreError, self.make)))

    def test_short_writes(self) -> None:
        """
        A kernel that takes a little at a time gets the rest again.
        """
        real = os.write
        self.patch(os, "write", lambda fd, data: real(fd, data[:7]))
        records = {b"GNU.sparse.size": b"50", b"GNU.sparse.map": b"20,30"}
        self.make(file(b"f", b"hello world, hello world"), pax(records), file(b"s", b"123456789 " * 3))
        self.assertEqual(self.text("f"), "hello world, hello world")
        self.assertEqual(self.text("s"), "\0" * 20 + "123456789 " * 3)

    def test_no_xattrs(self) -> None:
        """
        A file system without xattrs cannot hold what must be kept there; an
        image's own xattrs are left out.
        """

        def none(*_: object, **__: object) -> None:
            raise OSError(errno.ENOTSUP, "no")

        self.patch(os, "setxattr", none)
        error = self.assertRaises(StoreError, self.make, file(b"d/.wh..wh..opq"))
        self.assertIn("use one that can", str(error))
        if IS_ROOT:
            self.make(pax({b"SCHILY.xattr.user.a": b"b"}), file(b"f"))

    def test_xattr_errors(self) -> None:
        """
        Any other trouble with them is the disk's.
        """

        def fail(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, "no")

        self.patch(os, "setxattr", fail)
        self.assertRaises(StoreError, self.make, pax({b"SCHILY.xattr.user.a": b"b"}), file(b"f"))
        self.assertRaises(StoreError, self.make, file(b"d/.wh..wh..opq"))
