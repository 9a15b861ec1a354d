"""
Shared by the tests of the tree writer.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from tests.unpack.tars import (
    END,
    IS_ROOT,
    LIMITS,
    listing,
    make,
)
from xferd.errors import BadLayer
from xferd.interfaces.unpack import UnpackLimits


class TreeCase(SynchronousTestCase):
    """
    A directory for the tree, inside another one that has to stay unchanged.
    """

    def setUp(self) -> None:
        """
        Put a secret beside the tree.
        """
        # Not below trial's own folder: that one may be on a file system without xattrs.
        self.outside = os.path.realpath(tempfile.mkdtemp(prefix="xferd-tree-"))
        self.addCleanup(shutil.rmtree, self.outside)
        os.chmod(self.outside, 0o755)
        self.secret = os.path.join(self.outside, "secret")
        with open(self.secret, "w") as f:
            f.write("secret")
        os.utime(self.secret, (1, 1))
        self.path = os.path.join(self.outside, "tree")
        os.mkdir(self.path)

        self.addCleanup(self.check)

    def check(self) -> None:
        """
        Nothing was done outside.
        """
        self.assertEqual(sorted(os.listdir(self.outside)), ["secret", "tree"])
        info = os.stat(self.secret)
        self.assertEqual((info.st_mtime, info.st_nlink, stat.S_IMODE(info.st_mode) & 0o7022), (1, 1, 0))
        with open(self.secret) as f:
            self.assertEqual(f.read(), "secret")

    def make(self, *parts: bytes, limits: UnpackLimits = LIMITS) -> tuple[int, tuple[bytes, ...]]:
        """
        Make the tree.
        """
        size, implied = make(self.path, b"".join(parts) + END, limits)
        return size, implied

    def refused(self, *parts: bytes, limits: UnpackLimits = LIMITS) -> str:
        """
        The error for an invalid tar, in an empty directory.
        """
        self.empty()
        return str(self.assertRaises(BadLayer, self.make, *parts, limits=limits))

    def empty(self) -> None:
        """
        Empty the tree.
        """
        info = os.stat(self.path)
        shutil.rmtree(self.path)
        os.mkdir(self.path)
        if IS_ROOT:
            os.chown(self.path, info.st_uid, info.st_gid)

    def at(self, name: str) -> str:
        """
        A path in the tree.
        """
        return os.path.join(self.path, name)

    def text(self, name: str) -> str:
        """
        A file's contents.
        """
        with open(self.at(name)) as f:
            return f.read()

    def names(self) -> list[str]:
        """
        All paths in the tree.
        """
        return sorted(listing(self.path))
