"""
Tests for L{xferd.testing.layers}.
"""

from __future__ import annotations

import gzip
import tarfile
from io import BytesIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.media_types import LAYERS
from xferd.names import Digest
from xferd.testing.fake_unpacker import inflate
from xferd.testing.layers import DOCKER_LAYER, OCI_LAYER, Blob, LayerBuilder, SampleLayer, pack


def members(layer: SampleLayer) -> dict[str, tarfile.TarInfo]:
    """
    A layer's entries by name.
    """
    with tarfile.open(fileobj=BytesIO(inflate(layer.blob.read()))) as archive:
        return {entry.name: entry for entry in archive}


class LayerBuilderTests(SynchronousTestCase):
    """
    Layers of entries.
    """

    def test_kinds(self) -> None:
        """
        A layer can have all kinds of entries.
        """
        layer = (
            LayerBuilder()
            .directory("d", mode=0o700)
            .file("d/f", b"data", uid=5, gid=6, mode=0o4755, mtime=7)
            .symlink("s", "../d/f")
            .hardlink("h", "d/f")
            .fifo("p")
            .device("null", 1, 3)
            .device("loop", 7, 0, block=True)
            .whiteout("d/gone")
            .whiteout("gone")
            .opaque("d")
            .finish()
        )
        found = members(layer)
        self.assertEqual(
            ["d", "d/f", "s", "h", "p", "null", "loop", "d/.wh.gone", ".wh.gone", "d/.wh..wh..opq"],
            list(found),
        )
        file = found["d/f"]
        self.assertEqual((5, 6, 0o4755, 7, 4), (file.uid, file.gid, file.mode, file.mtime, file.size))
        self.assertEqual(("../d/f", "d/f"), (found["s"].linkname, found["h"].linkname))
        self.assertTrue(found["d"].isdir() and found["p"].isfifo() and found["loop"].isblk())
        self.assertEqual((1, 3), (found["null"].devmajor, found["null"].devminor))

    def test_extended(self) -> None:
        """
        Any name, xattr, fraction of a second and PAX record is kept.
        """
        layer = (
            LayerBuilder()
            .file(b"\xff" * 150, xattrs={"user.x": b"\x00\xff"}, mtime=1.25)
            .entry("other", tarfile.REGTYPE, pax={"comment": "hello"})
            .finish()
        )
        odd, other = members(layer).values()
        self.assertEqual("\udcff" * 150, odd.name)
        self.assertEqual("\x00\udcff", odd.pax_headers["SCHILY.xattr.user.x"])
        self.assertEqual(1.25, odd.mtime)
        self.assertEqual("hello", other.pax_headers["comment"])

    def test_digests(self) -> None:
        """
        Digest, size and diff ID match the bytes, for each compression.
        """
        for docker, types in ((False, OCI_LAYER), (True, DOCKER_LAYER)):
            for compression in ("tar", "gzip", "zstd"):
                layer = LayerBuilder(compression, docker=docker).file("a", b"x" * 100_000).finish()
                data = layer.blob.read()
                self.assertEqual(types[compression], layer.blob.descriptor.media_type)
                self.assertEqual(compression, LAYERS[layer.blob.descriptor.media_type])
                self.assertEqual(
                    (Digest.of(data), len(data)), (layer.blob.digest, layer.blob.descriptor.size)
                )
                tar = inflate(data)
                self.assertEqual((Digest.of(tar), len(tar)), (layer.diff_id, layer.tar_size))

    def test_same_again(self) -> None:
        """
        Equal entries give equal bytes.
        """
        one, two = (LayerBuilder().file("a", b"x").finish() for _ in range(2))
        self.assertEqual(one, two)

    def test_into_file(self) -> None:
        """
        A layer in a file equals one in memory.
        """
        path = Path(self.mktemp())
        written = LayerBuilder(into=path).file("a", b"x").finish()
        made = LayerBuilder().file("a", b"x").finish()
        self.assertEqual(made.blob.descriptor, written.blob.descriptor)
        self.assertEqual(made.blob.read(), written.blob.read())
        with made.blob.open() as left, written.blob.open() as right:
            self.assertEqual(left.read(), right.read())

    def test_formats(self) -> None:
        """
        Tars can have GNU's format.
        """
        layer = LayerBuilder(tar_format=tarfile.GNU_FORMAT).file("a" * 200).finish()
        self.assertEqual(["a" * 200], list(members(layer)))
        self.assertIn(b"././@LongLink", inflate(layer.blob.read()))

    def test_pack(self) -> None:
        """
        Bytes other than a tar can be a layer.
        """
        layer = pack(b"no tar")
        self.assertEqual(b"no tar", gzip.decompress(layer.blob.read()))
        self.assertEqual(Digest.of(b"no tar"), layer.diff_id)

    def test_unknown_compression(self) -> None:
        """
        Other compressions are refused.
        """
        self.assertRaises(KeyError, LayerBuilder, "bzip2")


class BlobTests(SynchronousTestCase):
    """
    Bytes and their descriptor.
    """

    def test_of(self) -> None:
        """
        A descriptor matches its bytes, which its repr omits.
        """
        blob = Blob.of("x/y", b"data")
        self.assertEqual((Digest.of(b"data"), 4), (blob.digest, blob.descriptor.size))
        self.assertNotIn("content", repr(blob))
