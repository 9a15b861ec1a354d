# -*- test-case-name: tests.web.test_static_files -*-
"""
The files of the status page, held in memory: they are small and few.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from attrs import field, frozen
from werkzeug.exceptions import NotFound

if TYPE_CHECKING:
    from twisted.web.server import Request

_TYPES: Final = {
    "html": b"text/html; charset=utf-8",
    "css": b"text/css; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}


@frozen
class StaticFile:
    """
    One file.

    @ivar media_type: its Content-Type.
    @ivar data: its bytes.
    @ivar etag: a tag of exactly these bytes.
    """

    media_type: bytes
    data: bytes = field(repr=False)
    etag: bytes

    def answer(self, request: Request) -> bytes:
        """
        Respond with the file, or with 304 if the client has it.

        Browsers ask each time, so files of two versions are never mixed.
        """
        request.setHeader(b"content-type", self.media_type)
        request.setHeader(b"cache-control", b"no-cache")
        if request.setETag(self.etag):
            return b""
        request.setHeader(b"content-length", b"%d" % len(self.data))
        return self.data


class StaticFiles:
    """
    All files of the page, by name.
    """

    def __init__(self) -> None:
        self._files: Mapping[str, StaticFile] = {
            file.name: _load(file.name, file.read_bytes())
            for file in (files("xferd.web") / "static").iterdir()
        }

    def get(self, name: str) -> StaticFile:
        """
        The file C{name}.

        @raise NotFound: there is no such file.
        """
        file = self._files.get(name)
        if file is None:
            raise NotFound
        return file


def _load(name: str, data: bytes) -> StaticFile:
    """
    Make a file of its bytes.
    """
    etag = b'"%s"' % sha256(data).hexdigest()[:32].encode("ascii")
    return StaticFile(_TYPES[name.rpartition(".")[2]], data, etag)
