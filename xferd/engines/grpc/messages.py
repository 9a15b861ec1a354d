# -*- test-case-name: tests.engines.grpc.test_messages -*-
"""
Messages on a stream of bytes: each has one byte, which is 1 if it is compressed, its
length as four bytes, big-endian, and its content.
"""

from __future__ import annotations

import struct
from typing import Final, Protocol, TypeVar

from xferd.engines.grpc.status import GrpcError, Status

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of one message: the limit of gRPC's own servers and clients."""

_HEAD: Final = struct.Struct(">BI")


class Message(Protocol):
    """
    What is needed of a message of C{protobuf}'s.
    """

    def SerializeToString(self) -> bytes:
        """
        Its content.
        """


class Parsed(Message, Protocol):
    """
    A message that can be read: the class is called without arguments, the instance
    reads.
    """

    def ParseFromString(self, serialized: bytes, /) -> int:
        """
        Read the content.

        @raise google.protobuf.message.DecodeError: it is not such a message.
        """


P = TypeVar("P", bound=Parsed)


class MessageReader:
    """
    Joins what arrives on a stream into messages.

    @ivar held: bytes of an incomplete message.
    """

    def __init__(self, limit: int = MAX_MESSAGE) -> None:
        self._limit = limit
        self._buffer = bytearray()

    @property
    def held(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """
        Add what arrived.

        @return: the messages that are complete now.
        @raise GrpcError: a message is compressed, malformed or too large.
        """
        buffer = self._buffer
        buffer += data
        messages = []
        at = 0
        while len(buffer) - at >= _HEAD.size:
            compressed, length = _HEAD.unpack_from(buffer, at)
            if compressed == 1:
                raise GrpcError(Status.UNIMPLEMENTED, "compressed messages are not supported")
            if compressed:
                raise GrpcError(Status.INTERNAL, "a message's first byte is neither 0 nor 1")
            if length > self._limit:
                raise GrpcError(
                    Status.RESOURCE_EXHAUSTED,
                    f"a message of {length} bytes is larger than the limit of {self._limit}",
                )
            end = at + _HEAD.size + length
            if end > len(buffer):
                break
            messages.append(bytes(buffer[at + _HEAD.size : end]))
            at = end
        if at:
            del buffer[:at]
        return messages

    def finish(self) -> None:
        """
        The stream has ended.

        @raise GrpcError: in the middle of a message.
        """
        if self._buffer:
            raise GrpcError(Status.INTERNAL, "the stream ended in the middle of a message")


def encode(message: Message | bytes) -> bytes:
    """
    A message as it is sent, head and content.
    """
    content = message if isinstance(message, bytes) else message.SerializeToString()
    return _HEAD.pack(0, len(content)) + content


def decode(kind: type[P], content: bytes) -> P:
    """
    Read a message.

    @raise GrpcError: it is not one of that class.
    """
    message = kind()
    try:
        message.ParseFromString(content)
    except Exception as e:
        # google.protobuf.message.DecodeError; some runtimes raise others.
        raise GrpcError(Status.INTERNAL, f"the message is no {kind.__name__}") from e
    return message
