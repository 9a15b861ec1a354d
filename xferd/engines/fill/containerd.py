# -*- test-case-name: tests.engines.fill.test_filling -*-
"""
A containerd's namespaces, images and content, by its API.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.empty_pb2 import Empty

from xferd.engines.grpc.client import GrpcClient, Options
from xferd.engines.grpc.client_stream import ClientStream
from xferd.engines.grpc.messages import decode
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto.content_pb2 import (
    InfoRequest,
    InfoResponse,
    ReadContentRequest,
    ReadContentResponse,
    WriteContentRequest,
    WriteContentResponse,
)
from xferd.engines.proto.engine_images_pb2 import GetImageRequest, GetImageResponse
from xferd.engines.proto.leases_pb2 import CreateRequest, CreateResponse, DeleteRequest
from xferd.engines.proto.namespaces_pb2 import ListNamespacesRequest, ListNamespacesResponse
from xferd.errors import BadDocument, StoreError
from xferd.interfaces.mirror import IBlobReader
from xferd.interfaces.reactor import WallClock
from xferd.jobs.blobs.reader import Restarted
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT, Descriptor, Document

_TIMEOUT: Final = 30.0
"""Seconds for a call that moves no blob."""

_LEASE_TIME: Final = 24 * 3600
"""Seconds after which containerd ends a lease that xferd could not."""

_PIECE: Final = 512 * 1024
"""Bytes of a blob in one message."""

_SERVICES: Final = "/containerd.services"


class Namespace:
    """
    One namespace of a containerd.

    @ivar name: its name: C{default}, C{k8s.io}, C{moby}.
    """

    def __init__(self, client: GrpcClient, name: str) -> None:
        self.name = name
        self._client = client

    async def image(self, name: str) -> Descriptor | None:
        """
        The manifest or the index of an image, or L{None} if it has no such image.

        @param name: the full name.
        """
        try:
            answer = await self._client.unary(
                f"{_SERVICES}.images.v1.Images/Get",
                GetImageRequest(name=name),
                GetImageResponse,
                self._options(),
            )
        except GrpcError as e:
            if e.code == Status.NOT_FOUND:
                return None
            raise
        target = answer.image.target
        return Descriptor(target.media_type, Digest.parse(target.digest), target.size)

    async def has(self, digest: Digest) -> bool:
        """
        Whether it has a blob.
        """
        request = InfoRequest(digest=str(digest))
        try:
            await self._client.unary(
                f"{_SERVICES}.content.v1.Content/Info", request, InfoResponse, self._options()
            )
        except GrpcError as e:
            if e.code == Status.NOT_FOUND:
                return False
            raise
        return True

    async def document(self, descriptor: Descriptor) -> Document:
        """
        Read a manifest or an index.

        @raise BadDocument: it is too large, or differs from its digest.
        """
        data = b""
        request = ReadContentRequest(digest=str(descriptor.digest))
        answers = self._client.streaming(
            f"{_SERVICES}.content.v1.Content/Read", request, ReadContentResponse, self._options()
        )
        async with aclosing(answers):
            async for answer in answers:
                data += answer.data
                if len(data) > MAX_DOCUMENT:
                    raise BadDocument(
                        f"{descriptor.digest} of containerd is larger than {MAX_DOCUMENT} bytes"
                    )
        return Document.verified(descriptor.media_type, data, descriptor.digest)

    @asynccontextmanager
    async def lease(self, now: WallClock) -> AsyncGenerator[str, None]:
        """
        Keep what is written from containerd's collection.

        @return: the lease's name, for L{write}.
        """
        end = datetime.fromtimestamp(now(), UTC) + timedelta(seconds=_LEASE_TIME)
        request = CreateRequest(labels={"containerd.io/gc.expire": end.strftime("%Y-%m-%dT%H:%M:%SZ")})
        path = f"{_SERVICES}.leases.v1.Leases"
        answer = await self._client.unary(f"{path}/Create", request, CreateResponse, self._options())
        try:
            yield answer.lease.id
        finally:
            await self._client.unary(
                f"{path}/Delete", DeleteRequest(id=answer.lease.id), Empty, self._options()
            )

    async def write(
        self,
        blob: Descriptor,
        content: IBlobReader,
        lease: str,
        source: str,
        progress: Callable[[int], object] = lambda _: None,
    ) -> int:
        """
        Write a blob.  One that was begun before continues; containerd verifies it.

        @param lease: a lease that keeps it.
        @param source: the repository that it is from, C{host/path}.
        @param progress: called with the bytes that containerd has by now.
        @return: the bytes that were written: none, if it has the blob by now.
        """
        host, _, path = source.partition("/")
        metadata = {"containerd-namespace": self.name, "containerd-lease": lease}
        call = await self._client.begin(f"{_SERVICES}.content.v1.Content/Write", Options(metadata))
        try:
            answer = await _step(
                call,
                WriteContentRequest(
                    action=WriteContentRequest.STAT,
                    ref=f"xferd-{blob.digest}",
                    total=blob.size,
                    expected=str(blob.digest),
                ),
            )
            began = at = answer.offset
            while at < blob.size:
                try:
                    data = await content.read(at, _PIECE)
                except Restarted:
                    # containerd discards what it has when a piece has the offset 0.
                    began = at = 0
                    continue
                if not data:
                    raise StoreError(f"blob {blob.digest} ends after {at} of {blob.size} bytes")
                request = WriteContentRequest(action=WriteContentRequest.WRITE, offset=at, data=data)
                at = (await _step(call, request)).offset
                progress(at)
            await _step(
                call,
                WriteContentRequest(
                    action=WriteContentRequest.COMMIT,
                    total=blob.size,
                    expected=str(blob.digest),
                    offset=at,
                    # containerd knows by it where to fetch, or to mount, the blob from.
                    labels={f"containerd.io/distribution.source.{host}": path},
                ),
            )
            call.finish()
            return at - began
        except GrpcError as e:
            if e.code == Status.ALREADY_EXISTS:
                return 0
            raise
        finally:
            call.cancel()

    def _options(self) -> Options:
        return Options({"containerd-namespace": self.name}, _TIMEOUT)


async def namespaces(client: GrpcClient) -> Sequence[Namespace]:
    """
    All namespaces of a containerd.
    """
    answer = await client.unary(
        f"{_SERVICES}.namespaces.v1.Namespaces/List",
        ListNamespacesRequest(),
        ListNamespacesResponse,
        Options(timeout=_TIMEOUT),
    )
    return [Namespace(client, namespace.name) for namespace in answer.namespaces]


async def _step(call: ClientStream, request: WriteContentRequest) -> WriteContentResponse:
    """
    Send one step of a write, and wait for its answer.
    """
    call.send(request)
    answer = await call.receive()
    if answer is None:
        raise GrpcError(Status.INTERNAL, "containerd ended the write without an answer")
    return decode(WriteContentResponse, answer)
