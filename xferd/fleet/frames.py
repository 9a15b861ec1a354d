# -*- test-case-name: tests.fleet.test_frames -*-
"""
Frames: the bytes of a blob that its sender has not verified yet, each piece with a proof.

Without them, wrong bytes would show only with the last one, by the digest.  A frame is the
length of its bytes (4 bytes, the highest first), the bytes, and the proof: 64 hexadecimal
digits, see L{frame_facts}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final

from xferd.errors import RegistryError
from xferd.names import Digest

MOST: Final = 128 * 1024
"""Bytes of a blob in one frame, at most: so many are held until they are proved."""

_LENGTH: Final = 4

_PROOF: Final = 64


class Damaged(RegistryError):
    """
    Bytes of a peer were changed in transit.
    """


def frame_facts(digest: Digest, offset: int, data: bytes) -> list[str]:
    """
    What the proof of a frame proves.

    @param offset: the offset of its first byte in the blob.
    """
    return ["frame", str(digest), str(offset), sha256(data).hexdigest()]


def make_frame(data: bytes, proof: str) -> bytes:
    """
    Make a frame.

    @param data: at most L{MOST} bytes.
    """
    return len(data).to_bytes(_LENGTH) + data + proof.encode("ascii")


class FrameReader:
    """
    Reads frames.
    """

    def __init__(self, offset: int, check: Callable[[int, bytes, str], bool], host: str) -> None:
        """
        @param offset: the offset in the blob of the first byte of the first frame.
        @param check: whether a proof is that of some bytes at an offset.
        @param host: the sender, for errors.
        """
        self._offset = offset
        self._check = check
        self._host = host
        self._buffer = bytearray()

    def read(self, data: bytes) -> Iterator[bytes]:
        """
        Receive some bytes, and return those of the blob that are complete.

        @raise Damaged: a proof is wrong.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._buffer[:_LENGTH])
            if not _LENGTH < end <= _LENGTH + MOST:
                raise self._damaged()
            if len(self._buffer) < end + _PROOF:
                return
            piece = bytes(self._buffer[_LENGTH:end])
            proof = self._buffer[end : end + _PROOF].decode("latin-1")
            del self._buffer[: end + _PROOF]
            if not self._check(self._offset, piece, proof):
                raise self._damaged()
            self._offset += len(piece)
            yield piece

    def _damaged(self) -> Damaged:
        return Damaged(
            f"{self._host} sent bytes from {self._offset} on that were changed in transit", host=self._host
        )
