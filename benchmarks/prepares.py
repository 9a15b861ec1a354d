"""
Containers that containerd would start at the same moment: a client of the snapshotter.

C{python -m benchmarks.prepares SOCKET ENGINE REFERENCE NUMBER BATCHES PID}: asks for the layers of
an image that the store has, and then prepares the snapshots of NUMBER containers at once, in
BATCHES one after the other.  Prints the seconds of CPU time that the process PID needed for them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from benchmarks.memory import cpu_time
from xferd.ctl.address import Address
from xferd.ctl.client import Daemon
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.proto.snapshots_pb2 import (
    ListSnapshotsRequest,
    ListSnapshotsResponse,
    PrepareSnapshotRequest,
    PrepareSnapshotResponse,
)
from xferd.names import Digest

_SERVICE = "/containerd.services.snapshots.v1.Snapshots/"
_REF = "containerd.io/snapshot.ref"


class _Snapshots:
    """
    The snapshots of one engine.
    """

    def __init__(self, client: GrpcClient) -> None:
        self._client = client

    async def prepare(self, key: str, parent: str, labels: Mapping[str, str]) -> bool:
        """
        Prepare a snapshot.

        @return: whether it has to be filled; otherwise the layer is there already.
        """
        request = PrepareSnapshotRequest(snapshotter="xferd", key=key, parent=parent, labels=dict(labels))
        try:
            await self._client.unary(f"{_SERVICE}Prepare", request, PrepareSnapshotResponse)
        except GrpcError as e:
            if e.code is not Status.ALREADY_EXISTS:
                raise
            return False
        return True

    async def name(self, chain: str) -> str:
        """
        The name of the snapshot of a layer.
        """
        calls = self._client.streaming(
            f"{_SERVICE}List", ListSnapshotsRequest(snapshotter="xferd"), ListSnapshotsResponse
        )
        async for answer in calls:
            for info in answer.info:
                if info.labels.get(_REF) == chain:
                    return str(info.name)
        raise SystemExit(f"no snapshot has the chain ID {chain}")


async def _run(socket: str, engine: str, reference: str, number: int, batches: int, pid: int) -> None:
    """
    Be containerd.
    """
    daemon = Daemon([Address("unix", socket)], client="prepares")
    image = daemon.image(reference)
    client = GrpcClient(engine, installed)  # type: ignore[arg-type]  # the installed reactor has all
    snapshots = _Snapshots(client)
    parent, chain = "", ""
    for diff_id in image["config"]["rootfs"]["diff_ids"]:
        chain = str(Digest.of(f"{chain} {diff_id}".encode())) if chain else diff_id
        labels = {
            _REF: chain,
            "containerd.io/snapshot/cri.image-ref": reference,
            "containerd.io/snapshot/cri.manifest-digest": image["digest"],
        }
        if await snapshots.prepare(f"benchmark/1/extract {chain}", parent, labels):
            raise SystemExit(f"{chain} is in the store, and was not served")
        parent = await snapshots.name(chain)
    before = cpu_time(pid)
    for batch in range(batches):
        keys = [f"benchmark/2/container-{batch}-{n}" for n in range(number)]
        wanted = [Deferred.fromCoroutine(snapshots.prepare(key, parent, {})) for key in keys]
        await gatherResults(wanted, consumeErrors=True)
    used = cpu_time(pid) - before
    # In a thread, as the client of the API blocks.
    listed = await deferToThread(daemon.engines)
    made = sum(each["snapshots"] for each in listed)
    if made < number * batches:
        raise SystemExit(f"the daemon has {made} snapshots in place of {number * batches}")
    print(used)
    client.close()


def main(socket: str, engine: str, reference: str, *numbers: str) -> None:
    """
    Run it in the reactor.
    """
    react(lambda _: Deferred.fromCoroutine(_run(socket, engine, reference, *map(int, numbers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
