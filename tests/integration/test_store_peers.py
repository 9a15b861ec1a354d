"""
The store and the programs that read it: skopeo, umoci and the kernel's
overlayfs.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile

from twisted.trial.unittest import SkipTest

from tests.store.support import Sample, StoreTestCase, docker_sample, layer_descriptor, plant, pull, sample
from xferd.interfaces.store import Layer, Unpacked
from xferd.names import Digest


def run(program: str, *arguments: str) -> str:
    """
    Run a program to its end.

    @return: its stdout.
    """
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed"
        if os.environ.get("XFERD_REQUIRE_PEERS") == "1":
            raise AssertionError(reason)
        raise SkipTest(reason)
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=90)
    if done.returncode != 0:
        raise AssertionError(f"{program} {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def archive(**files: bytes) -> bytes:
    """
    A tar of some files.
    """
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return data.getvalue()


class LayoutTests(StoreTestCase):
    """
    C{content/} is a valid image layout for other programs.
    """

    def setUp(self) -> None:
        """
        Store an image under two names.
        """
        super().setUp()
        self.path = os.path.abspath(self.path)
        self.content = os.path.join(self.path, "content")
        self.wanted = [
            sample(name, archive(one=b"first"), archive(two=b"second"))
            for name in ("alpine", "localhost:5000/some/thing:v1.2")
        ]
        for each in self.wanted:
            self.run_now(pull(self.store, each))

    def names(self) -> list[str]:
        """
        The names of the images, as other programs spell them.
        """
        return [str(each.image.reference) for each in self.wanted]

    def test_skopeo_inspects(self) -> None:
        """
        skopeo inspects an image in place, by each of its names.
        """
        for name, each in zip(self.names(), self.wanted, strict=True):
            found = json.loads(run("skopeo", "inspect", f"oci:{self.content}:{name}"))
            self.assertEqual(found["Digest"], str(each.image.manifest.digest))
            self.assertEqual(found["Layers"], [str(layer.digest) for layer in each.image.layers])

    def test_skopeo_copies_out(self) -> None:
        """
        skopeo copies an image out, bytes and digests as they are.
        """
        target = self.mktemp()
        run("skopeo", "copy", "--preserve-digests", f"oci:{self.content}:{self.names()[0]}", f"dir:{target}")
        with open(os.path.join(target, "manifest.json"), "rb") as file:
            self.assertEqual(Digest.of(file.read()), self.wanted[0].image.manifest.digest)

    def test_skopeo_copies_in(self) -> None:
        """
        Images that skopeo copies into the layout of a running daemon, and the
        daemon's own images, do not affect each other.
        """
        source = f"oci:{self.content}:{self.names()[0]}"
        run("skopeo", "copy", source, f"oci:{self.content}:theirs")
        self.run_now(pull(self.store, sample("another", archive(one=b"first"))))
        listed = run("umoci", "list", "--layout", self.content).split()
        self.assertEqual(
            sorted(listed), sorted([*self.names(), "theirs", "docker.io/library/another:latest"])
        )
        self.reopen()
        self.assertEqual(len(self.store.images.all()), 3)
        run("skopeo", "inspect", f"oci:{self.content}:theirs")

    def test_docker_manifest(self) -> None:
        """
        An image in Docker's format is readable by other programs, and its bytes
        are unchanged.
        """
        wanted = docker_sample("alpine", archive(one=b"first"), archive(two=b"second"))
        self.run_now(pull(self.store, wanted))
        image = wanted.image
        self.reopen()
        self.assertEqual(self.store.images.get(image.reference), image)
        name = f"{self.content}:{image.reference}"
        found = json.loads(run("skopeo", "inspect", f"oci:{name}"))
        self.assertEqual(found["Layers"], [str(layer.digest) for layer in image.layers])
        target = self.mktemp()
        run("umoci", "raw", "unpack", "--rootless", "--image", name, target)
        with open(os.path.join(target, "one"), "rb") as file:
            self.assertEqual(file.read(), b"first")
        # Nothing that umoci collects as garbage belongs to this image.
        run("umoci", "gc", "--layout", self.content)
        self.reopen()
        self.assertEqual(self.store.images.get(image.reference), image)

    def test_umoci_lists_and_unpacks(self) -> None:
        """
        umoci lists the names and unpacks an image in place.
        """
        self.assertEqual(sorted(run("umoci", "list", "--layout", self.content).split()), sorted(self.names()))
        target = self.mktemp()
        image = f"{self.content}:{self.names()[0]}"
        run("umoci", "raw", "unpack", "--rootless", "--image", image, target)
        for name, content in (("one", b"first"), ("two", b"second")):
            with open(os.path.join(target, name), "rb") as file:
                self.assertEqual(file.read(), content)


class OverlayTests(StoreTestCase):
    """
    The trees of a chain are valid lower directories of overlayfs.
    """

    def mounted(self, *layers: Layer) -> str:
        """
        Mount layers, the bottom one first, until the test ends.
        """
        target: str = self.mktemp()
        os.mkdir(target)
        lower = ":".join(layer.path for layer in reversed(layers))
        mount = ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower}", target]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            raise SkipTest("mounting takes the rights of root and a kernel with overlayfs")
        self.addCleanup(subprocess.run, ["umount", "-l", target], check=True)
        return target

    def base(self, mode: int) -> Layer:
        """
        Register a bottom layer that has C{etc} with a mode, a time and an
        owner.
        """
        staged = self.successResultOf(self.store.trees.stage())
        etc = os.path.join(staged, "etc")
        os.mkdir(etc)
        if os.geteuid() == 0:
            os.chown(etc, 12, 34)
        os.chmod(etc, mode)
        os.utime(etc, (5, 5))
        digest = Digest.of(b"%d" % mode)
        self.successResultOf(self.store.trees.commit(staged, Unpacked(digest, 1, 0, 1), digest))
        layer: Layer = self.successResultOf(
            self.store.layers.register(None, digest, layer_descriptor(b"base"))
        )
        return layer

    def test_implied(self) -> None:
        """
        A layer whose tar only implies a directory leaves its metadata
        unchanged, on each of the chains that share the layer.
        """
        wanted: Sample = sample("top", b"top")
        self.run_now(plant(self.store, b"top", b"etc", b"."))
        for mode in (0o2711, 0o750):
            base = self.base(mode)
            top = self.successResultOf(
                self.store.layers.register(base.chain_id, wanted.diff_ids[0], wanted.image.layers[0])
            )
            merged = self.mounted(base, top)
            found = os.stat(os.path.join(merged, "etc"))
            self.assertEqual((found.st_mode & 0o7777, found.st_uid, found.st_gid), (mode, 12, 34))
            self.assertEqual(found.st_mtime, 5)
            self.assertEqual(sorted(os.listdir(merged)), ["content", "etc"])
