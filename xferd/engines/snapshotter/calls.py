# -*- test-case-name: tests.engines.snapshotter.test_calls -*-
"""
A snapshotter as the gRPC service C{containerd.services.snapshots.v1.Snapshots}.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Final, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from xferd.engines.grpc.service import Call, GrpcService, streaming, unary
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto import snapshots_pb2 as messages
from xferd.engines.snapshotter.errors import SnapshotError
from xferd.errors import DiskFull, Interrupted, XferdError
from xferd.interfaces.snapshots import ISnapshotter, Mount, Snapshot

T = TypeVar("T")

SERVICE: Final = "containerd.services.snapshots.v1.Snapshots"

PAGE: Final = 100
"""The most snapshots in one message of a list, as in containerd."""

PAGE_SIZE: Final = 1024 * 1024
"""The bytes of a message of a list, about: images can have megabytes of labels, and a
client refuses a message that is too long, and the list with it."""


def snapshots_service(snapshotter: ISnapshotter) -> GrpcService:
    """
    Make the service of an engine.  The name of the snapshotter in requests is the
    engine's own business: each socket has one.
    """
    calls = _Calls(snapshotter)
    return GrpcService(
        SERVICE,
        {
            "Prepare": unary(messages.PrepareSnapshotRequest, calls.prepare),
            "View": unary(messages.ViewSnapshotRequest, calls.view),
            "Mounts": unary(messages.MountsRequest, calls.mounts),
            "Commit": unary(messages.CommitSnapshotRequest, calls.commit),
            "Remove": unary(messages.RemoveSnapshotRequest, calls.remove),
            "Stat": unary(messages.StatSnapshotRequest, calls.stat),
            "Update": unary(messages.UpdateSnapshotRequest, calls.update),
            "List": streaming(messages.ListSnapshotsRequest, calls.list_all),
            "Usage": unary(messages.UsageRequest, calls.usage),
            "Cleanup": unary(messages.CleanupRequest, calls.cleanup),
        },
    )


class _Calls:
    """
    The methods: messages to arguments, and results to messages.
    """

    def __init__(self, snapshotter: ISnapshotter) -> None:
        self._snapshotter = snapshotter

    async def prepare(
        self, request: messages.PrepareSnapshotRequest, _: Call
    ) -> messages.PrepareSnapshotResponse:
        mounts = await _result(self._snapshotter.prepare(request.key, request.parent, dict(request.labels)))
        return messages.PrepareSnapshotResponse(mounts=_mounts(mounts))

    async def view(self, request: messages.ViewSnapshotRequest, _: Call) -> messages.ViewSnapshotResponse:
        mounts = await _result(self._snapshotter.view(request.key, request.parent, dict(request.labels)))
        return messages.ViewSnapshotResponse(mounts=_mounts(mounts))

    async def mounts(self, request: messages.MountsRequest, _: Call) -> messages.MountsResponse:
        return messages.MountsResponse(mounts=_mounts(await _result(self._snapshotter.mounts(request.key))))

    async def commit(self, request: messages.CommitSnapshotRequest, _: Call) -> Empty:
        labels = dict(request.labels)
        await _result(self._snapshotter.commit(request.name, request.key, labels, request.parent))
        return Empty()

    async def remove(self, request: messages.RemoveSnapshotRequest, _: Call) -> Empty:
        await _result(self._snapshotter.remove(request.key))
        return Empty()

    async def stat(self, request: messages.StatSnapshotRequest, _: Call) -> messages.StatSnapshotResponse:
        return messages.StatSnapshotResponse(info=_info(await _result(self._snapshotter.stat(request.key))))

    async def update(
        self, request: messages.UpdateSnapshotRequest, _: Call
    ) -> messages.UpdateSnapshotResponse:
        info, paths = request.info, list(request.update_mask.paths)
        changed = await _result(self._snapshotter.update(info.name, dict(info.labels), paths))
        return messages.UpdateSnapshotResponse(info=_info(changed))

    async def list_all(
        self, request: messages.ListSnapshotsRequest, _: Call
    ) -> AsyncGenerator[messages.ListSnapshotsResponse, None]:
        found = await _result(self._snapshotter.all(list(request.filters)))
        page, size = messages.ListSnapshotsResponse(), 0
        for info in map(_info, found):
            if size and (len(page.info) == PAGE or size + info.ByteSize() > PAGE_SIZE):
                yield page
                page, size = messages.ListSnapshotsResponse(), 0
            page.info.append(info)
            size += info.ByteSize()
        if size:
            yield page

    async def usage(self, request: messages.UsageRequest, _: Call) -> messages.UsageResponse:
        usage = await _result(self._snapshotter.usage(request.key))
        return messages.UsageResponse(size=usage.size, inodes=usage.inodes)

    async def cleanup(self, _: messages.CleanupRequest, __: Call) -> Empty:
        await _result(self._snapshotter.cleanup())
        return Empty()


async def _result(work: Awaitable[T]) -> T:
    """
    Wait for a call, and turn its error into one of gRPC.
    """
    try:
        return await work
    except SnapshotError as e:
        raise GrpcError(Status(e.code), str(e)) from e
    except DiskFull as e:
        raise GrpcError(Status.RESOURCE_EXHAUSTED, str(e)) from e
    except Interrupted as e:
        raise GrpcError(Status.UNAVAILABLE, str(e)) from e
    except XferdError as e:
        raise GrpcError(Status.INTERNAL, str(e)) from e


def _mounts(mounts: Sequence[Mount]) -> list[messages.Mount]:
    return [
        messages.Mount(type=each.type, source=each.source, target=each.target, options=each.options)
        for each in mounts
    ]


def _info(snapshot: Snapshot) -> messages.Info:
    return messages.Info(
        name=snapshot.key,
        parent=snapshot.parent,
        kind=messages.Info.Kind.Name(snapshot.kind.value),
        created_at=_timestamp(snapshot.created),
        updated_at=_timestamp(snapshot.updated),
        labels=dict(snapshot.labels),
    )


def _timestamp(nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(nanoseconds, 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)
