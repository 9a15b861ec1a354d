"""
Tests for L{xferd.engines.snapshotter.calls}.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from twisted.internet.defer import Deferred

from tests.engines.snapshotter.test_service import LABELS, SnapshotterCase
from xferd.engines.grpc.service import Call
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto import snapshots_pb2 as messages
from xferd.engines.snapshotter.calls import PAGE, SERVICE, snapshots_service
from xferd.engines.snapshotter.labels import REF
from xferd.errors import DiskFull, Interrupted, StoreError, XferdError

T = TypeVar("T")

CALL = Call("", {}, 0)


class CallTests(SnapshotterCase):
    """
    The calls as messages.
    """

    def setUp(self) -> None:
        """
        Make the service.
        """
        super().setUp()
        self.service = snapshots_service(self.snapshotter)

    def begin(self, name: str, request: Any) -> Deferred[Any]:
        """
        Begin a call with one answer.
        """
        method = self.service.methods[name]
        assert method.unary is not None
        work: Callable[[Any, Call], Awaitable[Any]] = method.unary

        async def call() -> Any:
            return await work(method.read(request.SerializeToString()), CALL)

        return Deferred.fromCoroutine(call())

    def call(self, name: str, request: Any) -> Any:
        """
        The answer of a call.
        """
        return self.do(self.begin(name, request))

    def status(self, name: str, request: Any) -> Status:
        """
        The code of a call's error.
        """
        work = self.begin(name, request)
        self.settle()
        error = self.failureResultOf(work, GrpcError).value
        assert isinstance(error, GrpcError)
        return error.code

    def listed(self, *filters: str) -> list[list[str]]:
        """
        The names in each message of a list.
        """
        method = self.service.methods["List"]
        assert method.streaming is not None
        work: Callable[[Any, Call], AsyncGenerator[Any, None]] = method.streaming

        async def call() -> list[list[str]]:
            request = messages.ListSnapshotsRequest(snapshotter="xferd", filters=filters)
            return [[info.name for info in part.info] async for part in work(request, CALL)]

        return self.do(Deferred.fromCoroutine(call()))

    def test_name(self) -> None:
        """
        The service is containerd's, with all its methods.
        """
        self.assertEqual(self.service.name, SERVICE)
        wanted = messages.DESCRIPTOR.services_by_name["Snapshots"]
        self.assertEqual(set(self.service.methods), {method.name for method in wanted.methods})

    def test_life(self) -> None:
        """
        All calls, with their answers.
        """
        prepared = self.call("Prepare", messages.PrepareSnapshotRequest(key="a", labels=LABELS))
        (mount,) = prepared.mounts
        self.assertEqual((mount.type, list(mount.options)), ("bind", ["rw", "rbind"]))
        self.assertEqual(mount.source, f"{self.root}/snapshots/1/fs")
        self.assertEqual(self.call("Mounts", messages.MountsRequest(key="a")).mounts, prepared.mounts)
        info = self.call("Stat", messages.StatSnapshotRequest(key="a")).info
        self.assertEqual((info.name, info.kind, dict(info.labels)), ("a", messages.Info.ACTIVE, LABELS))
        self.assertEqual(info.created_at.ToNanoseconds(), int(self.wall_clock() * 1e9))
        self.assertEqual(info.updated_at, info.created_at)
        committed = messages.CommitSnapshotRequest(name="c", key="a", labels={"b": "c"})
        self.assertEqual(self.call("Commit", committed), Empty())
        viewed = self.call("View", messages.ViewSnapshotRequest(key="v", parent="c"))
        self.assertEqual(list(viewed.mounts[0].options), ["ro", "rbind"])
        request = messages.UpdateSnapshotRequest(
            info=messages.Info(name="c", labels={"x": "1", "y": "2"}),
            update_mask=FieldMask(paths=["labels.x"]),
        )
        changed = self.call("Update", request).info
        self.assertEqual(
            (dict(changed.labels), changed.kind), ({"b": "c", "x": "1"}, messages.Info.COMMITTED)
        )
        usage = self.call("Usage", messages.UsageRequest(key="c"))
        self.assertEqual(usage.inodes, 1)
        self.assertEqual(self.listed(), [["c", "v"]])
        self.assertEqual(self.listed("kind==view"), [["v"]])
        self.assertEqual(self.call("Cleanup", messages.CleanupRequest()), Empty())
        for key in ("v", "c"):
            self.assertEqual(self.call("Remove", messages.RemoveSnapshotRequest(key=key)), Empty())
        self.assertEqual(self.listed(), [])

    def test_long_list(self) -> None:
        """
        A long list comes in several messages.
        """
        for number in range(PAGE + 1):
            self.prepare(str(number))
        self.assertEqual([len(part) for part in self.listed()], [PAGE, 1])

    def test_large_list(self) -> None:
        """
        Images with many labels do not make a message that a client refuses.
        """
        labels = {f"containerd.io/snapshot/{n}": "x" * 4000 for n in range(200)}
        for number in range(4):
            self.prepare(str(number), **labels)
        self.prepare("small")
        self.assertEqual(self.listed(), [["0"], ["1"], ["2"], ["3", "small"]])

    def test_codes(self) -> None:
        """
        The codes by which containerd tells errors apart.
        """
        self.base()
        labels = {REF: str(self.image.chain_ids[0])}
        stored = self.jobs.pull_layers(str(self.reference), "ci", lambda _: None)
        self.settle()
        self.assert_done(stored["id"])
        prepare, remove = messages.PrepareSnapshotRequest, messages.RemoveSnapshotRequest
        for name, request, code in (
            ("Prepare", prepare(key="a1"), Status.ALREADY_EXISTS),
            ("Prepare", prepare(key="new", labels=labels), Status.ALREADY_EXISTS),
            ("Prepare", prepare(key="new", parent="x"), Status.NOT_FOUND),
            ("Prepare", prepare(key="new", parent="a1"), Status.INVALID_ARGUMENT),
            ("Stat", messages.StatSnapshotRequest(key="x"), Status.NOT_FOUND),
            ("Mounts", messages.MountsRequest(key="x"), Status.NOT_FOUND),
            ("Mounts", messages.MountsRequest(key="c1"), Status.FAILED_PRECONDITION),
            ("Commit", messages.CommitSnapshotRequest(name="c1", key="a1"), Status.ALREADY_EXISTS),
            ("Commit", messages.CommitSnapshotRequest(name="n", key="v1"), Status.FAILED_PRECONDITION),
            ("Remove", remove(key="c1"), Status.FAILED_PRECONDITION),
            ("Remove", remove(key="x"), Status.NOT_FOUND),
            ("Usage", messages.UsageRequest(key="x"), Status.NOT_FOUND),
        ):
            self.assertEqual(self.status(name, request), code, (name, request))

    def test_troubles(self) -> None:
        """
        The codes of the daemon's own errors.
        """
        for error, code in (
            (DiskFull("full"), Status.RESOURCE_EXHAUSTED),
            (Interrupted("stopping"), Status.UNAVAILABLE),
            (StoreError("broken"), Status.INTERNAL),
            (XferdError("broken"), Status.INTERNAL),
        ):
            self.store.gate.fail("snapshots.write", error)
            self.assertEqual(self.status("Prepare", messages.PrepareSnapshotRequest(key="a")), code)
