# -*- test-case-name: tests.ctl.image.test_layout -*-
"""
OCI layouts on the client's disk: a directory is sent as a tar, and a received
tar is written to a directory, both as a stream.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

from xferd.archive.contents import DOCUMENTS
from xferd.archive.plan import END, padding, tar_header
from xferd.archive.tar_splitter import Member, TarSplitter
from xferd.ctl.errors import ClientError
from xferd.errors import BadDigest, XferdError
from xferd.names import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_BLOB = re.compile(r"blobs/([a-z0-9]+)/([a-f0-9]+)")
_PIECE = 1024 * 1024


class BadLayout(ClientError):
    """
    A directory is not an OCI layout, or cannot be read.
    """


class LayoutTar:
    """
    A layout's directory as a tar.

    Only the files of a layout are read, and no symbolic link is followed: the
    directory may come from elsewhere and must not cause other files to be sent.

    @ivar size: the tar's bytes.
    """

    def __init__(self, path: str) -> None:
        """
        @raise BadLayout: the directory is not a layout.
        """
        self._path = path
        self._files = sorted(_files(path))
        if not any(name in DOCUMENTS for name, _ in self._files):
            raise BadLayout(f"{path!r} is not an OCI layout: it has no index.json")
        self.size = len(END) + sum(
            len(tar_header(name, size)) + size + len(padding(size)) for name, size in self._files
        )

    def __iter__(self) -> Iterator[bytes]:
        """
        Yield the tar in pieces.

        @raise BadLayout: a file changed while it was read.
        """
        for name, size in self._files:
            yield tar_header(name, size)
            left = size
            with open(_open(self._path, name), "rb", buffering=0) as file:
                while left and (data := file.read(min(left, _PIECE))):
                    left -= len(data)
                    yield data
            if left:
                raise BadLayout(f"{name!r} in {self._path!r} was truncated while it was read")
            yield padding(size)
        yield END

    def rewind(self) -> bool:
        """
        Begin again.

        @return: that this is possible.
        """
        return True


def _files(path: str) -> Iterator[tuple[str, int]]:
    """
    The files of a layout, with their sizes.
    """
    with os.scandir(path) as listing:
        names = [entry.name for entry in listing if entry.name in DOCUMENTS]
    blobs = os.path.join(path, "blobs")
    for algorithm in os.listdir(blobs) if os.path.isdir(blobs) else ():
        folder = os.path.join(blobs, algorithm)
        if os.path.islink(blobs) or os.path.islink(folder):
            raise BadLayout(f"{folder!r} is behind a symbolic link, which a layout must not contain")
        found = os.listdir(folder) if os.path.isdir(folder) else ()
        paths = (f"blobs/{algorithm}/{name}" for name in found)
        names += [name for name in paths if _BLOB.fullmatch(name)]
    for name in names:
        fd = _open(path, name)
        try:
            yield name, os.fstat(fd).st_size
        finally:
            os.close(fd)


def _open(path: str, name: str) -> int:
    """
    Open a file of a layout.

    @raise BadLayout: it is a link, or not a regular file.
    """
    try:
        fd = os.open(os.path.join(path, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as e:
        raise BadLayout(f"{name!r} in {path!r} cannot be read: {e.strerror}") from e
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadLayout(f"{name!r} in {path!r} is not a regular file")
    return fd


def write_layout(path: str, pieces: Iterable[bytes]) -> None:
    """
    Write the layout in a tar to an empty directory.

    @raise BadLayout: the tar has a file that does not belong to a layout, or
        whose digest differs from its name.
    """
    with closing(_Writer(path)) as writer:
        splitter = TarSplitter()
        try:
            for piece in pieces:
                for item in splitter.feed(memoryview(piece)):
                    if isinstance(item, Member):
                        writer.begin(item)
                    else:
                        writer.write(item)
            splitter.finish()
        except XferdError as e:
            raise BadLayout(f"the daemon did not send an OCI layout: {e}") from e
        writer.end()


class _Writer:
    """
    Writes the files of a layout one after the other.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd: int | None = None
        self._hasher: Any = None
        self._digest: Digest | None = None

    def begin(self, member: Member) -> None:
        """
        Begin the next file.
        """
        self.end()
        blob = _BLOB.fullmatch(member.name)
        if member.link is not None or (blob is None and member.name not in DOCUMENTS):
            raise BadLayout(f"the daemon sent {member.name!r}, which does not belong to an OCI layout")
        if blob is not None:
            try:
                self._digest = Digest(blob[1], blob[2])
            except BadDigest as e:
                raise BadLayout(f"the daemon sent {member.name!r}: {e}") from e
            self._hasher = self._digest.hasher()
            os.makedirs(os.path.join(self._path, "blobs", blob[1]), exist_ok=True)
        self._fd = os.open(
            os.path.join(self._path, member.name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
        )

    def write(self, data: memoryview) -> None:
        """
        Write bytes to the file.
        """
        assert self._fd is not None
        if self._hasher is not None:
            self._hasher.update(data)
        while data:
            data = data[os.write(self._fd, data) :]

    def end(self) -> None:
        """
        Complete the file and check its digest.
        """
        if self._fd is not None:
            os.fsync(self._fd)
        self.close()
        digest, self._digest = self._digest, None
        if digest is not None and self._hasher.hexdigest() != digest.hex:
            raise BadLayout(f"the daemon sent other content for {digest}; its store may be damaged")
        self._hasher = None

    def close(self) -> None:
        """
        Close the file.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
