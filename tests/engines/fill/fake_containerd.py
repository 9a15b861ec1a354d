"""
A containerd's content, images, leases and namespaces in memory, at the end of a client.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from hashlib import sha256
from typing import Any

from attrs import define, field
from google.protobuf.empty_pb2 import Empty
from twisted.internet.defer import Deferred, fail, succeed

from xferd.engines.grpc.client import Options
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto.content_pb2 import (
    Info,
    InfoResponse,
    ReadContentResponse,
    WriteContentRequest,
    WriteContentResponse,
)
from xferd.engines.proto.engine_images_pb2 import Descriptor as TargetMessage
from xferd.engines.proto.engine_images_pb2 import GetImageResponse, Image
from xferd.engines.proto.leases_pb2 import CreateResponse, Lease
from xferd.engines.proto.namespaces_pb2 import ListNamespacesResponse, Namespace
from xferd.oci import Descriptor

NO_OPTIONS = Options()


@define
class Space:
    """
    One namespace.

    @ivar images: the targets, by name.
    @ivar content: the blobs, by digest.
    @ivar labels: the labels of what was written.
    @ivar unfinished: the bytes of writes that were not committed, by C{ref}.
    """

    images: dict[str, Descriptor] = field(factory=dict)
    content: dict[str, bytes] = field(factory=dict)
    labels: dict[str, dict[str, str]] = field(factory=dict)
    unfinished: dict[str, bytearray] = field(factory=dict)


class FakeContainerd:
    """
    What L{xferd.engines.grpc.client.GrpcClient} is towards a containerd.

    @ivar spaces: its namespaces.
    @ivar leases: the leases that exist.
    @ivar leased: the labels of all leases that were made.
    @ivar written: called with each piece that was written.
    @ivar failure: what every call of the service C{failing} fails with.
    @ivar writing: the calls that write.
    """

    def __init__(self) -> None:
        self.spaces: dict[str, Space] = {"default": Space()}
        self.leases: set[str] = set()
        self.leased: list[dict[str, str]] = []
        self.written: Callable[[WriteContentRequest], object] = lambda _: None
        self.failure: GrpcError | None = None
        self.failing = ""
        self.writing: list[Write] = []

    async def unary(self, path: str, request: Any, answer: Any, options: Options = NO_OPTIONS) -> Any:
        """
        A call with one answer.
        """
        service, _, method = path.rpartition("/")
        if self.failure is not None and service.endswith(self.failing):
            raise self.failure
        if service.endswith("Namespaces"):
            return ListNamespacesResponse(namespaces=[Namespace(name=name) for name in self.spaces])
        space = self.spaces[options.metadata["containerd-namespace"]]
        if service.endswith("Images"):
            target = space.images.get(request.name)
            if target is None:
                raise GrpcError(Status.NOT_FOUND, "no image")
            found = TargetMessage(media_type=target.media_type, digest=str(target.digest), size=target.size)
            return GetImageResponse(image=Image(name=request.name, target=found))
        if service.endswith("Leases"):
            return self._lease(method, request)
        if request.digest not in space.content:
            raise GrpcError(Status.NOT_FOUND, "no content")
        return InfoResponse(info=Info(digest=request.digest))

    def _lease(self, method: str, request: Any) -> Any:
        if method == "Delete":
            self.leases.remove(request.id)
            return Empty()
        self.leased.append(dict(request.labels))
        name = f"lease-{len(self.leased)}"
        self.leases.add(name)
        return CreateResponse(lease=Lease(id=name))

    async def streaming(
        self, path: str, request: Any, answer: Any, options: Options = NO_OPTIONS
    ) -> AsyncGenerator[Any, None]:
        """
        C{Content/Read}, in two parts.
        """
        data = self.spaces[options.metadata["containerd-namespace"]].content[request.digest]
        yield ReadContentResponse(data=data[:10])
        yield ReadContentResponse(offset=10, data=data[10:])

    async def begin(self, path: str, options: Options) -> Write:
        """
        C{Content/Write}.
        """
        assert options.metadata["containerd-lease"] in self.leases
        write = Write(self, self.spaces[options.metadata["containerd-namespace"]])
        self.writing.append(write)
        return write


class Write:
    """
    One C{Content/Write}.
    """

    def __init__(self, containerd: FakeContainerd, space: Space) -> None:
        self._containerd = containerd
        self._space = space
        self._request: WriteContentRequest | None = None
        self._ref = ""
        self.open = True
        self.finished = False
        self.ended = False

    def send(self, request: WriteContentRequest) -> None:
        """
        Take one step.
        """
        self._request = request

    def receive(self) -> Deferred[bytes | None]:
        """
        Answer it.
        """
        request, self._request = self._request, None
        assert request is not None
        if self.ended:
            return succeed(None)
        try:
            return succeed(self._answer(request).SerializeToString())
        except GrpcError:
            return fail()

    def _answer(self, request: WriteContentRequest) -> WriteContentResponse:
        space = self._space
        if request.expected in space.content:
            raise GrpcError(Status.ALREADY_EXISTS, "it is there")
        self._ref = self._ref or request.ref
        held = space.unfinished.setdefault(self._ref, bytearray())
        if request.action == WriteContentRequest.WRITE:
            if request.offset == 0:
                held.clear()
            assert request.offset == len(held)
            held += request.data
            self._containerd.written(request)
        elif request.action == WriteContentRequest.COMMIT:
            data = bytes(space.unfinished.pop(self._ref))
            if f"sha256:{sha256(data).hexdigest()}" != request.expected:
                raise GrpcError(Status.FAILED_PRECONDITION, "unexpected digest")
            space.content[request.expected] = data
            space.labels[request.expected] = dict(request.labels)
        return WriteContentResponse(offset=len(held))

    def finish(self) -> None:
        """
        No step follows.
        """
        self.finished = True

    def cancel(self) -> None:
        """
        End the call.
        """
        self.open = False
