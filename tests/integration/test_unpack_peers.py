"""
What xferd unpacks is what GNU tar and umoci unpack, and what overlayfs takes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from tests.unpack.tars import END, IS_ROOT, LIMITS, file, header, listing, pax
from xferd.interfaces import Unpacked
from xferd.unpack.unpacker import Unpacker

SOURCES = (
    "/usr/share/zoneinfo/Europe",
    "/usr/share/perl5",
    "/etc/ssl",
    "/usr/share/terminfo",
    "/bin",
    "/etc/skel",
)
"""Some of these are on every machine."""

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


def require(*tools: str) -> str | None:
    """
    Why a test cannot run here; with C{XFERD_REQUIRE_PEERS}, it runs and fails.
    """
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if os.environ.get("XFERD_REQUIRE_PEERS") == "1":
        return None
    if not IS_ROOT:
        return "only root unpacks trees as they are"
    return f"{', '.join(missing)}: not installed" if missing else None


def debian_like() -> bytes:
    """
    A tar as a base image has it: some of this machine's files, and one of
    everything that a file system knows.
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
    Trees beside trees.
    """

    timeout = 120

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
        What we make of a blob.
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
        GNU tar makes the same of a base image's layer.
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
        What GNU tar writes in each of its formats, sparse files among it,
        comes out as it went in.
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
            if "--format=gnu" in options:  # which has whole seconds
                mine, other = ({n: (*e[:4], 0, *e[5:]) for n, e in t.items()} for t in (mine, other))
            self.assertEqual(mine, other)
            if "--sparse" in options:
                self.assertLess(os.stat(os.path.join(ours, "sparse")).st_blocks * 512, 10_000_000)

    async def test_umoci(self) -> None:
        """
        umoci makes the same of it.
        """
        image = os.path.join(self.folder, "image")
        self.image(image)
        theirs = os.path.join(self.folder, "bundle")
        subprocess.run(
            ["umoci", "unpack", "--image", f"{image}:test", theirs], check=True, capture_output=True
        )
        ours, _ = await self.unpack(self.path)
        self.equal(ours, os.path.join(theirs, "rootfs"))

    async def test_overlayfs(self) -> None:
        """
        Linux itself, which stacks two trees, sees the whiteouts as they were
        meant, in whatever order they stood.
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
        What we make of some entries.
        """
        path = os.path.join(self.folder, "small.tar")
        with open(path, "wb") as f:
            f.write(b"".join(parts) + END)
        return await self.unpack(path)

    def image(self, path: str) -> None:
        """
        Make an OCI image layout of the one layer.
        """
        blobs = os.path.join(path, "blobs/sha256")
        os.makedirs(blobs)

        def put(data: bytes, media_type: str) -> dict[str, Any]:
            name = hashlib.sha256(data).hexdigest()
            with open(os.path.join(blobs, name), "wb") as f:
                f.write(data)
            return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}

        oci = "application/vnd.oci.image"
        diff_id = f"sha256:{hashlib.sha256(self.tar).hexdigest()}"
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{oci}.manifest.v1+json",
            "config": put(json.dumps(config).encode(), f"{oci}.config.v1+json"),
            "layers": [put(self.blob, f"{oci}.layer.v1.tar+gzip")],
        }
        entry = put(json.dumps(manifest).encode(), f"{oci}.manifest.v1+json")
        entry["annotations"] = {"org.opencontainers.image.ref.name": "test"}
        for name, document in (
            ("index.json", {"schemaVersion": 2, "manifests": [entry]}),
            ("oci-layout", {"imageLayoutVersion": "1.0.0"}),
        ):
            with open(os.path.join(path, name), "w") as f:
                json.dump(document, f)
