"""
Tests for L{xferd.ctl.image.layout}.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from xferd.archive.plan import END, padding, tar_header
from xferd.ctl.image.layout import BadLayout, LayoutTar, write_layout
from xferd.testing.images import sample_image
from xferd.testing.images import write_layout as make_layout


def content(path: Path) -> dict[str, bytes]:
    """
    All files below a directory.
    """
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


class LayoutTarTests(SynchronousTestCase):
    """
    A directory as a tar.
    """

    def setUp(self) -> None:
        """
        Make a layout.
        """
        self.path = Path(self.mktemp())
        make_layout(str(self.path), {"a:1": sample_image(2)})

    def test_whole(self) -> None:
        """
        The tar has the layout's files and no others, and its announced size.
        """
        expected = content(self.path)
        (self.path / "secret").write_text("x")
        (self.path / "blobs" / "sha256" / "notes.txt").write_text("x")
        (self.path / "blobs" / "README").write_text("x")
        made = LayoutTar(str(self.path))
        data = b"".join(made)
        self.assertEqual(len(data), made.size)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {m.name: archive.extractfile(m) for m in archive.getmembers()}
            self.assertEqual({name: file.read() for name, file in found.items() if file}, expected)

    def test_links(self) -> None:
        """
        No symbolic link is followed.
        """
        index = self.path / "index.json"
        index.rename(self.path / "real")
        index.symlink_to("/etc/passwd")
        self.assertRaises(BadLayout, LayoutTar, str(self.path))
        index.unlink()
        (self.path / "real").rename(index)
        blobs = self.path / "blobs"
        (blobs / "sha256").rename(self.path / "elsewhere")
        (blobs / "sha256").symlink_to(self.path / "elsewhere")
        error = self.assertRaises(BadLayout, LayoutTar, str(self.path))
        self.assertIn("symbolic link", str(error))

    def test_other_kinds(self) -> None:
        """
        A pipe in place of a file does not block.
        """
        (self.path / "oci-layout").unlink()
        os.mkfifo(self.path / "oci-layout")
        self.assertRaises(BadLayout, LayoutTar, str(self.path))

    def test_no_layout(self) -> None:
        """
        A directory that is not a layout is refused.
        """
        path = self.mktemp()
        os.mkdir(path)
        error = self.assertRaises(BadLayout, LayoutTar, path)
        self.assertIn("not an OCI layout", str(error))

    def test_changed(self) -> None:
        """
        A file that is truncated during the read is an error, not a damaged tar.
        """
        made = LayoutTar(str(self.path))
        (self.path / "oci-layout").write_text("{}")
        self.assertRaises(BadLayout, list, made)


class WriteTests(SynchronousTestCase):
    """
    A tar as a directory.
    """

    def setUp(self) -> None:
        """
        Make a layout, and an empty directory.
        """
        self.source = Path(self.mktemp())
        make_layout(str(self.source), {"a:1": sample_image(2)})
        self.path = Path(self.mktemp())
        self.path.mkdir()

    def test_whole(self) -> None:
        """
        A layout survives a round trip.
        """
        write_layout(str(self.path), LayoutTar(str(self.source)))
        self.assertEqual(content(self.path), content(self.source))

    def write(self, name: str, data: bytes = b"x") -> None:
        """
        Write a tar of one file.
        """
        write_layout(str(self.path), [tar_header(name, len(data)) + data + padding(len(data)) + END])

    def test_refused(self) -> None:
        """
        Files that do not belong to a layout are refused, and nothing is written elsewhere.
        """
        for name in ("../x", "/tmp/x", "x", "blobs/sha256/..", "blobs/md5/" + "a" * 32, "blobs/sha256/abc"):
            self.assertRaises(BadLayout, self.write, name)
        self.assertEqual(content(self.path), {})

    def test_wrong_bytes(self) -> None:
        """
        A blob whose digest differs from its name is refused.
        """
        error = self.assertRaises(BadLayout, self.write, "blobs/sha256/" + "a" * 64)
        self.assertIn("other content", str(error))

    def test_breaks_off(self) -> None:
        """
        An incomplete tar is refused.
        """
        data = b"".join(LayoutTar(str(self.source)))
        self.assertRaises(BadLayout, write_layout, str(self.path), [data[:2000]])
