"""
Tests for L{xferd.testing.images}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.testing.test_layers import members
from xferd.image_config import parse_config
from xferd.names import Digest, chain_id
from xferd.oci import Index, Manifest, parse_document
from xferd.platforms import Platform
from xferd.selection import choose
from xferd.testing.images import (
    AMD64,
    from_directories,
    image_of,
    index_of,
    own_directories,
    sample_image,
    sample_layer,
    write_layout,
)

ARM64 = Platform("linux", "arm64")


class SampleImageTests(SynchronousTestCase):
    """
    Sample images are valid and reproducible.
    """

    def test_valid(self) -> None:
        """
        xferd parses manifest and config in every form.
        """
        for docker in (False, True):
            for compression in ("tar", "gzip", "zstd"):
                image = sample_image(2, docker=docker, compression=compression, platform=ARM64)
                manifest = parse_document(image.manifest)
                assert isinstance(manifest, Manifest)
                manifest.check_runnable()
                config = parse_config(image.config.read(), manifest)
                self.assertEqual((image.diff_ids, ARM64), (config.diff_ids, config.platform))

    def test_deterministic(self) -> None:
        """
        Equal arguments give equal images, other seeds others.
        """
        self.assertEqual(sample_image(seed=1), sample_image(seed=1))
        self.assertNotEqual(sample_image(seed=1).digest, sample_image(seed=2).digest)
        self.assertEqual(3, len(set(sample_image().diff_ids)))

    def test_no_layers(self) -> None:
        """
        An image may have no layers.
        """
        image = image_of([])
        self.assertEqual(((), ()), (image.layers, image.chain_ids))
        self.assertEqual((image.config,), image.blobs)

    def test_repeated_layer(self) -> None:
        """
        The same layer twice is one blob and two chain IDs.
        """
        layer = sample_layer(0)
        image = image_of([layer, layer])
        self.assertEqual((image.config, layer.blob), image.blobs)
        self.assertEqual(
            (layer.diff_id, chain_id([layer.diff_id, layer.diff_id])),
            image.chain_ids,
        )
        sizes = len(image.manifest.data), image.config.descriptor.size, layer.blob.descriptor.size
        self.assertEqual(sum(sizes), image.size)

    def test_config(self) -> None:
        """
        The config can have more fields, and a variant.
        """
        image = image_of([], config={"Env": ["A=b"]}, platform=Platform("linux", "arm", "v7"))
        value = json.loads(image.config.read())
        self.assertEqual((["A=b"], "v7"), (value["config"]["Env"], value["variant"]))

    def test_index(self) -> None:
        """
        An index has the manifest of each platform.
        """
        for docker in (False, True):
            images = {p: sample_image(1, seed=str(p), docker=docker, platform=p) for p in (AMD64, ARM64)}
            made = index_of(images, docker=docker)
            index = parse_document(made.document)
            assert isinstance(index, Index)
            for platform, image in images.items():
                self.assertEqual(image.digest, choose(index, platform).digest)
            self.assertEqual(made.digest, made.documents[-1].digest)
            self.assertEqual((3, 4), (len(made.documents), len(made.blobs)))


class LayoutTests(SynchronousTestCase):
    """
    OCI image layouts of images.
    """

    def test_layout(self) -> None:
        """
        Each blob is at the path of its digest; tags are annotations.
        """
        path = Path(self.mktemp())
        image = sample_image(2)
        index = index_of({AMD64: image})
        write_layout(str(path), {"one": image, "all": index})
        self.assertEqual({"imageLayoutVersion": "1.0.0"}, json.loads((path / "oci-layout").read_bytes()))
        entries = json.loads((path / "index.json").read_bytes())["manifests"]
        self.assertEqual(
            {"one": str(image.digest), "all": str(index.digest)},
            {e["annotations"]["org.opencontainers.image.ref.name"]: e["digest"] for e in entries},
        )
        blobs = list((path / "blobs" / "sha256").iterdir())
        self.assertEqual(len(image.blobs) + 2, len(blobs))
        for blob in blobs:
            self.assertEqual(Digest.of(blob.read_bytes()).hex, blob.name)


class FromDirectoriesTests(SynchronousTestCase):
    """
    An image of a machine's files.
    """

    def setUp(self) -> None:
        """
        Make a small tree of files.
        """
        self.root = Path(self.mktemp()).absolute()
        (self.root / "a" / "sub").mkdir(parents=True)
        (self.root / "b").mkdir()
        (self.root / "a" / "file").write_bytes(b"data")
        (self.root / "a" / "sub" / "link").symlink_to("../file")
        (self.root / "b" / "small").write_bytes(b"x" * 100)
        (self.root / "b" / "large").write_bytes(b"x" * 600)
        os.mkfifo(self.root / "b" / "fifo")
        self.into = Path(self.mktemp())
        self.into.mkdir()

    def test_layers(self) -> None:
        """
        Each directory is a layer, with its parents, in files.
        """
        paths = [str(self.root / "a"), str(self.root / "b")]
        image = from_directories(paths, str(self.into), limit=1000)
        self.assertEqual(
            [self.into / "layer-0", self.into / "layer-1"], [layer.blob.content for layer in image.layers]
        )
        bottom, top = map(members, image.layers)
        prefix = str(self.root)[1:]
        self.assertIn(prefix, bottom)
        below = [name.removeprefix(prefix) for name in bottom if name.startswith(f"{prefix}/")]
        self.assertEqual(["/a", "/a/file", "/a/sub", "/a/sub/link"], below)
        self.assertEqual("../file", bottom[f"{prefix}/a/sub/link"].linkname)
        self.assertIn(f"{prefix}/b/small", top)
        self.assertNotIn(f"{prefix}/b/large", top, "that is above the limit")
        self.assertNotIn(f"{prefix}/b/fifo", top)
        self.assertEqual(Platform.local(), image.platform)

    def test_private(self) -> None:
        """
        Files that not all users can read are excluded, with all below them.
        """
        (self.root / "a" / "file").chmod(0o640)
        (self.root / "a" / "sub").chmod(0o750)
        image = from_directories([str(self.root / "a")], str(self.into))
        self.assertEqual(str(self.root / "a")[1:], list(members(image.layers[0]))[-1])

    def test_platform(self) -> None:
        """
        The image can be for another platform.
        """
        image = from_directories([str(self.root / "a")], str(self.into), platform=AMD64)
        self.assertEqual(AMD64, image.platform)

    def test_own_directories(self) -> None:
        """
        This machine has such directories, each once.
        """
        found = own_directories()
        self.assertEqual(len(set(found)), len(found))
        self.assertTrue(found)
        self.assertTrue(all(Path(path).is_dir() for path in found))
