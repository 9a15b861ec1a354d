"""
Tests for L{xferd.engines.grpc.messages}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis.strategies import binary, integers, lists
from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.grpc.messages import MAX_MESSAGE, MessageReader, decode, encode
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto.snapshots_pb2 import Info


class MessageReaderTests(SynchronousTestCase):
    """
    Messages in a stream.
    """

    @given(lists(binary(max_size=50)), integers(1, 60))
    def test_any_pieces(self, messages: list[bytes], size: int) -> None:
        """
        Messages come out as they went in, however the stream is cut.
        """
        stream = b"".join(map(encode, messages))
        reader = MessageReader()
        found = []
        for at in range(0, len(stream), size):
            found += reader.feed(stream[at : at + size])
        self.assertEqual(found, messages)
        self.assertEqual(reader.held, 0)
        reader.finish()

    def _refused(self, data: bytes) -> Status:
        error: GrpcError = self.assertRaises(GrpcError, MessageReader().feed, data)
        return error.code

    def test_refused(self) -> None:
        """
        A compressed message, one that is too large, and a malformed head.
        """
        self.assertEqual(self._refused(b"\1\0\0\0\0"), Status.UNIMPLEMENTED)
        self.assertEqual(self._refused(b"\2\0\0\0\0"), Status.INTERNAL)
        self.assertEqual(
            self._refused(b"\0" + (MAX_MESSAGE + 1).to_bytes(4, "big")), Status.RESOURCE_EXHAUSTED
        )
        self.assertEqual(MessageReader().feed(b"\0" + MAX_MESSAGE.to_bytes(4, "big")), [])

    def test_cut(self) -> None:
        """
        A stream that ends within a message is an error.
        """
        reader = MessageReader()
        reader.feed(b"\0\0\0\0\2a")
        self.assertEqual(reader.held, 6)
        self.assertRaises(GrpcError, reader.finish)


class DecodeTests(SynchronousTestCase):
    """
    Messages of protobuf.
    """

    def test_round_trip(self) -> None:
        """
        A message is read as it was written.
        """
        info = Info(name="a", kind=Info.ACTIVE, labels={"k": "v"})
        self.assertEqual(decode(Info, encode(info)[5:]), info)

    def test_malformed(self) -> None:
        """
        Bytes that are no message are an error that names the class.
        """
        with self.assertRaises(GrpcError) as caught:
            decode(Info, b"\x0a\xff")
        self.assertEqual((caught.exception.code, caught.exception.message), (13, "the message is no Info"))
