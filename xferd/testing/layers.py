# -*- test-case-name: tests.testing.test_layers -*-
"""
Sample layers: a tar written entry by entry, compressed and hashed, in memory or
in a file.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from attrs import field, frozen
from isal import isal_zlib
from zstandard import ZstdCompressor

from xferd.names import Digest
from xferd.oci import Descriptor
from xferd.testing.fake_unpacker import inflate

OCI_LAYER: Final = {
    "tar": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
DOCKER_LAYER: Final = {
    "tar": "application/vnd.docker.image.rootfs.diff.tar",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
}

MTIME: Final = 1_600_000_000
"""When everything in a made layer was changed last, unless it is said."""


@frozen
class Blob:
    """
    Some bytes and their descriptor.

    @ivar descriptor: the descriptor, which may be wrong in a test.
    @ivar content: the bytes, or the file with them.
    """

    descriptor: Descriptor
    content: bytes | Path = field(repr=False)

    @classmethod
    def of(cls, media_type: str, data: bytes, algorithm: str = "sha256") -> Blob:
        """
        Make a blob of some bytes.

        @param algorithm: that of the digest.
        """
        return cls(Descriptor(media_type, Digest.of(data, algorithm), len(data)), data)

    @property
    def digest(self) -> Digest:
        """
        The digest of the descriptor.
        """
        return self.descriptor.digest

    def open(self) -> BinaryIO:
        """
        Open the bytes for reading.
        """
        return BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")

    def read(self) -> bytes:
        """
        All bytes.
        """
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@frozen
class SampleLayer:
    """
    One layer.

    @ivar blob: the compressed tar.
    @ivar diff_id: the digest of the tar.
    @ivar tar_size: the tar's bytes.
    """

    blob: Blob
    diff_id: Digest
    tar_size: int

    def by(self, algorithm: str, diff_id: str = "") -> SampleLayer:
        """
        The same layer, in memory, with digests of other algorithms.

        @param algorithm: the blob's algorithm.
        @param diff_id: the diff ID's algorithm, if it differs.
        """
        data = self.blob.read()
        blob = Blob.of(self.blob.descriptor.media_type, data, algorithm)
        return SampleLayer(blob, Digest.of(inflate(data), diff_id or algorithm), self.tar_size)


class _Compressor(Protocol):
    """
    A compressor of zlib or zstandard.
    """

    def compress(self, data: bytes, /) -> bytes:
        """
        Compress some bytes, and return those that are ready.
        """

    def flush(self) -> bytes:
        """
        Return the rest.
        """


class _Plain:
    """
    No compression.
    """

    def compress(self, data: bytes, /) -> bytes:
        """
        Give the bytes as they are.
        """
        return data

    def flush(self) -> bytes:
        """
        There is no rest.
        """
        return b""


def _compressor(compression: str, level: int) -> _Compressor:
    """
    The compressor for C{tar}, C{gzip} or C{zstd}.  The output is reproducible: the
    gzip header has no time and no name.
    """
    if compression == "tar":
        return _Plain()
    if compression == "gzip":
        # ISA-L takes a fifteenth of the time of zlib for bytes that cannot be compressed.
        library: Any = isal_zlib if level == 1 else zlib
        return cast("_Compressor", library.compressobj(level, zlib.DEFLATED, 31))
    return ZstdCompressor(level=level).compressobj()


class _Packer:
    """
    Hash a tar, compress it, and hash the result, in pieces.
    """

    def __init__(self, output: BinaryIO, compression: str, level: int) -> None:
        self._output = output
        self._compressor = _compressor(compression, level)
        self._diff, self._packed = sha256(), sha256()
        self.tar_size = self.size = 0

    def write(self, data: bytes) -> int:
        """
        Add bytes of the tar.
        """
        self._diff.update(data)
        self.tar_size += len(data)
        self._put(self._compressor.compress(data))
        return len(data)

    def finish(self, media_type: str) -> tuple[Descriptor, Digest]:
        """
        Write out the rest.

        @return: the descriptor of the compressed bytes, and the diff ID.
        """
        self._put(self._compressor.flush())
        descriptor = Descriptor(media_type, Digest("sha256", self._packed.hexdigest()), self.size)
        return descriptor, Digest("sha256", self._diff.hexdigest())

    def _put(self, packed: bytes) -> None:
        self._output.write(packed)
        self._packed.update(packed)
        self.size += len(packed)


class LayerBuilder:
    """
    One layer, written entry by entry.

    Each method that adds an entry returns the builder, so that calls can be
    chained.  Paths are relative to the root.  Nothing is checked, so that tests can
    make hostile layers.

    Life cycle: entries are added, then C{finish} is called once.
    """

    def __init__(
        self,
        compression: str = "gzip",
        *,
        docker: bool = False,
        into: Path | None = None,
        level: int = 6,
        tar_format: int = tarfile.PAX_FORMAT,
    ) -> None:
        """
        @param compression: C{tar}, C{gzip} or C{zstd}.
        @param docker: whether the media type is Docker's instead of OCI's.
        @param into: the file to write to; in memory by default.
        @param level: the compressor's level.
        @param tar_format: C{tarfile.PAX_FORMAT}, C{GNU_FORMAT} or
            C{USTAR_FORMAT}.
        """
        self._media_type = (DOCKER_LAYER if docker else OCI_LAYER)[compression]
        self._into = into
        self._output: BinaryIO = BytesIO() if into is None else into.open("wb")
        self._packer = _Packer(self._output, compression, level)
        self._tar = tarfile.open(  # noqa: SIM115 - finish() closes it
            fileobj=cast("BinaryIO", self._packer),
            mode="w|",
            format=tar_format,
            encoding="utf-8",
            errors="surrogateescape",
            bufsize=65536,
        )

    def raw(self, entry: tarfile.TarInfo, data: bytes = b"") -> LayerBuilder:
        """
        Add an entry unchanged.
        """
        self._tar.addfile(entry, BytesIO(data))
        return self

    def entry(
        self,
        path: str | bytes,
        kind: bytes,
        data: bytes = b"",
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        mtime: float = MTIME,
        target: str | bytes = "",
        device: tuple[int, int] = (0, 0),
        xattrs: Mapping[str, bytes] | None = None,
        pax: Mapping[str, str] | None = None,
    ) -> LayerBuilder:
        """
        Add an entry of any kind.

        @param kind: a type of C{tarfile}, such as C{REGTYPE}.
        @param mtime: seconds; a fraction needs the PAX format.
        @param target: the target of a symbolic or hard link.
        @param device: major and minor number.
        @param xattrs: extended attributes, as C{SCHILY.xattr.} records.
        @param pax: further PAX records.
        """
        entry = tarfile.TarInfo(os.fsdecode(path))
        entry.type, entry.size, entry.mode = kind, len(data), mode
        # A whole number goes into the header itself, not into a PAX record.
        entry.mtime = int(mtime) if mtime == int(mtime) else mtime
        entry.uid, entry.gid = uid, gid
        entry.linkname = os.fsdecode(target)
        entry.devmajor, entry.devminor = device
        entry.pax_headers = {
            **{f"SCHILY.xattr.{name}": os.fsdecode(value) for name, value in (xattrs or {}).items()},
            **(pax or {}),
        }
        return self.raw(entry, data)

    def directory(
        self,
        path: str | bytes,
        *,
        mode: int = 0o755,
        uid: int = 0,
        gid: int = 0,
        mtime: float = MTIME,
        xattrs: Mapping[str, bytes] | None = None,
    ) -> LayerBuilder:
        """
        Add a directory.
        """
        return self.entry(path, tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid, mtime=mtime, xattrs=xattrs)

    def file(
        self,
        path: str | bytes,
        data: bytes = b"",
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        mtime: float = MTIME,
        xattrs: Mapping[str, bytes] | None = None,
    ) -> LayerBuilder:
        """
        Add a regular file.
        """
        return self.entry(
            path, tarfile.REGTYPE, data, mode=mode, uid=uid, gid=gid, mtime=mtime, xattrs=xattrs
        )

    def symlink(self, path: str | bytes, target: str | bytes) -> LayerBuilder:
        """
        Add a symbolic link.
        """
        return self.entry(path, tarfile.SYMTYPE, mode=0o777, target=target)

    def hardlink(self, path: str | bytes, target: str | bytes) -> LayerBuilder:
        """
        Add a hard link to an entry added before.
        """
        return self.entry(path, tarfile.LNKTYPE, target=target)

    def fifo(self, path: str | bytes) -> LayerBuilder:
        """
        Add a named pipe.
        """
        return self.entry(path, tarfile.FIFOTYPE)

    def device(self, path: str | bytes, major: int, minor: int, *, block: bool = False) -> LayerBuilder:
        """
        Add a character or block device.
        """
        return self.entry(path, tarfile.BLKTYPE if block else tarfile.CHRTYPE, device=(major, minor))

    def whiteout(self, path: str) -> LayerBuilder:
        """
        Hide a path of the layers below (OCI image-spec, "Whiteouts").
        """
        folder, slash, name = path.rpartition("/")
        return self.file(f"{folder}{slash}.wh.{name}")

    def opaque(self, directory: str) -> LayerBuilder:
        """
        Hide the content that lower layers have in a directory ("Opaque Whiteout").
        """
        return self.file(f"{directory}/.wh..wh..opq")

    def finish(self) -> SampleLayer:
        """
        End the tar and close the file.
        """
        self._tar.close()
        descriptor, diff_id = self._packer.finish(self._media_type)
        content: bytes | Path
        if self._into is None:
            assert isinstance(self._output, BytesIO)
            content = self._output.getvalue()
        else:
            content = self._into
        self._output.close()
        return SampleLayer(Blob(descriptor, content), diff_id, self._packer.tar_size)


def pack(tar: bytes, compression: str = "gzip", *, docker: bool = False) -> SampleLayer:
    """
    Make a layer of a tar, or of any bytes.
    """
    output = BytesIO()
    packer = _Packer(output, compression, 6)
    packer.write(tar)
    descriptor, diff_id = packer.finish((DOCKER_LAYER if docker else OCI_LAYER)[compression])
    return SampleLayer(Blob(descriptor, output.getvalue()), diff_id, len(tar))
