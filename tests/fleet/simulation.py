"""
A fleet of twenty nodes with faults, on one simulated clock, from a seed.

The nodes are real up to the disk and to the sockets.  C{python -m tests.fleet.simulation
SEED} runs one seed and prints what happens; without a seed, all L{SCHEDULES} run.

Long, since the clients, the faults and the checks of a schedule share its state.
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from functools import cache
from tempfile import mkdtemp
from typing import Any, Final

from attrs import define, field
from twisted.internet.defer import Deferred

from tests.batches import in_batches
from tests.fleet.case import HOST, Node
from tests.fleet.schedules import LINE_SECONDS, NODES, OWNER, Fault, Schedule
from xferd.errors import ConnectionFailed, RegistryUnavailable, TooManyRequests
from xferd.fleet.guide import KEPT_SECONDS
from xferd.fleet.memory import MemoryCluster
from xferd.interfaces.fleet import LEASE_SECONDS
from xferd.names import Digest
from xferd.testing.fakes import FakeRegistries
from xferd.testing.images import SampleImage, sample_image
from xferd.testing.memory_network import MemoryNetwork
from xferd.testing.simulated_time import SimulatedTime
from xferd.transfer.retry import RetryPolicy

SCHEDULES: Final = 500
"""The number of schedules that C{.ci/run} runs."""

SMALLEST: Final = 8 * 1024
"""Bytes of the smallest shared blob: here large ones are small, so that it is fast."""

IMAGES: Final = {"one": (1, 60_000), "two": (1, 90_000)}
"""The layers of each image, and their bytes."""

TICK: Final = 0.75
"""Seconds between two pieces from upstream."""

SILENCE: Final = 30.0
"""Seconds without a byte after which a node gives up a connection to upstream."""

SLOW: Final = 3_000
"""Bytes a second of a slow uplink."""

_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None

APART: Final = {"cut from peers": 0.9, "slow uplink": 2.0, "lose coordination": 1.0}
"""How often upstream sends all once more at most, by the fault.  A node that is cut from
its peers can only get all from upstream, and the others once more what it alone has.  The
same holds for what a node sends too slowly, while no other has it; nodes that get no byte
for 10 s meanwhile, because its answers are as slow, ask upstream alone.
Coordination that has lost its data names nobody until all nodes have announced again:
within that time, all that begin follow one more node."""

LIMIT: Final = 400.0
"""Seconds in which all has to be over."""


@cache
def images() -> dict[str, SampleImage]:
    """
    The images.
    """
    return {
        name: sample_image(layers, size=size, seed=name, compression="tar")
        for name, (layers, size) in IMAGES.items()
    }


@define(eq=False)
class Member:
    """
    One node, and what happens to it.

    @ivar pulls: its jobs, by image.
    @ivar dead: whether it was killed.
    @ivar frozen: since when it is frozen.
    @ivar cancelled: the images whose pull was cancelled.
    """

    index: int
    node: Node
    registries: FakeRegistries
    pulls: dict[str, str] = field(factory=dict)
    dead: bool = False
    frozen: float | None = None
    cancelled: set[str] = field(factory=set)

    @property
    def bodies(self) -> list[Any]:
        """
        The bodies of shared blobs from upstream.
        """
        return [body for body in self.registries.registry(HOST).bodies if (body.total or 0) >= SMALLEST]

    @property
    def fetched(self) -> int:
        """
        The bytes that upstream has sent to it.
        """
        return sum(body.sent for body in self.bodies)


class Simulation:
    """
    One run of a schedule.
    """

    def __init__(self, schedule: Schedule, say: Callable[[str], object] = lambda _: None) -> None:
        """
        @param say: gets a line for each thing that happens.
        """
        self.schedule = schedule
        self.time = SimulatedTime()
        clock: Any = self.time.host("")
        self.cluster = MemoryCluster(clock, latency=0.002)
        self.network = MemoryNetwork(clock)
        self.clock = clock
        self.root = mkdtemp(prefix="xferd-fleet-", dir=_MEMORY)
        self.members: list[Member] = []
        self.cut: set[str] = set()
        self._say = say
        self.blobs = {
            layer.blob.digest: layer.blob.read() for image in images().values() for layer in image.layers
        }
        self.total = sum(map(len, self.blobs.values()))

    def say(self, text: str) -> None:
        """
        Report what happens.
        """
        self._say(f"{self.time.seconds():8.2f} {text}")

    # ---------------------------------------------------------------- the run

    def run(self) -> list[str]:
        """
        Run the schedule.

        @return: what is wrong, one sentence each.
        """
        try:
            for index in range(NODES):
                if index not in self.schedule.late:
                    self.join(index)
                else:
                    self.clock.callLater(self.schedule.begins[index] - 0.5, self.join, index)
                self.clock.callLater(self.schedule.begins[index], self.begin, index)
            for fault in self.schedule.faults:
                self.clock.callLater(fault.at, self.break_, fault)
            self.clock.callLater(TICK, self.feed)
            last = max(self.schedule.begins)
            while self.time.seconds() < LIMIT and not (self.time.seconds() > last and self.is_over()):
                self.time.advance(1.0)
            self.say("over")
            self.time.advance(max(LEASE_SECONDS, KEPT_SECONDS) + 1.0)
            return [*self.check(), *self.stop()]
        finally:
            shutil.rmtree(self.root)

    def join(self, index: int) -> None:
        """
        Start a node.
        """
        name = f"n{index + 1}"
        clock = self.time.host(name)
        registries = FakeRegistries(clock)
        registry = registries.registry(HOST)
        for image_name, image in images().items():
            registry.add(image, image_name)
        for digest in self.blobs:
            registry.stall(digest)
        node = Node(
            index + 1,
            self.cluster,
            self.network,
            registries,
            os.path.join(self.root, name),
            max_followers=self.schedule.max_followers,
            smallest=SMALLEST,
            retry=RetryPolicy(jitter=0.0),
            clock=clock,
        )
        self.members.append(Member(index, node, registries))
        _ = Deferred.fromCoroutine(node.jobs.start())

    def begin(self, index: int) -> None:
        """
        Begin a node's pulls.
        """
        member = self.member(index)
        if member is not None and not member.dead:
            names = list(IMAGES) if index % 4 == 0 else [list(IMAGES)[index % 2]]
            for name in names:
                member.pulls[name] = member.node.pull(name)

    def feed(self) -> None:
        """
        Have upstream send for a moment: its line is shared by all bodies.
        """
        self.clock.callLater(TICK, self.feed)
        bodies = []
        for member in self.members:
            if not member.dead and member.frozen is None:
                bodies += [body for body in member.bodies if not body.ended]
        if bodies:
            size = int(self.total / LINE_SECONDS * TICK / len(bodies)) + 1
            for body in bodies:
                body.feed(size)

    def is_over(self) -> bool:
        """
        Whether all pulls have ended and all faults are over.
        """
        return all(
            member.dead
            or (
                member.frozen is None
                and all(member.node.jobs.get(job)["state"] != "running" for job in member.pulls.values())
            )
            for member in self.members
        )

    def member(self, index: int) -> Member | None:
        """
        The node with an index, if it has joined.
        """
        return next((member for member in self.members if member.index == index), None)

    # ----------------------------------------------------------------- faults

    def break_(self, fault: Fault) -> None:
        """
        Have a fault come.
        """
        member = self.choose(fault.node)
        if member is None or member.dead or member.frozen is not None:
            return
        self.say(f"{fault.kind}: {member.node.name} for {fault.seconds:g} s")
        getattr(self, "fault_" + fault.kind.replace(" ", "_"))(member, fault.seconds)

    def choose(self, node: int | str) -> Member | None:
        """
        The node that a fault concerns.
        """
        if node != OWNER:
            return self.member(int(node))
        owners = {record.value.owner.name for _, record in self.cluster.find("claim")}
        return next((m for m in self.members if m.node.name in owners), self.members[0])

    def fault_kill(self, member: Member, _: float) -> None:
        """
        Kill a node.
        """
        member.dead = True
        for body in member.bodies:
            body.ended = True
        self.time.stop(member.node.name)
        self.network.kill(member.node.address)
        member.node.coordination.freeze()

    def fault_freeze(self, member: Member, seconds: float) -> None:
        """
        Freeze a node, and thaw it.
        """
        member.frozen = self.time.seconds()
        self.time.stop(member.node.name)
        member.node.coordination.freeze()

        def thaw() -> None:
            self.say(f"thaw: {member.node.name}")
            member.frozen = None
            if seconds > SILENCE:
                for body in member.bodies:
                    if not body.ended:
                        body.fail(ConnectionFailed(f"{HOST} was silent", host=HOST))
            self.time.resume(member.node.name)
            member.node.coordination.thaw()

        self.clock.callLater(seconds, thaw)

    def fault_cut_from_coordination(self, member: Member, seconds: float) -> None:
        """
        Cut a node from the coordination alone.
        """
        member.node.coordination.cut()
        self.clock.callLater(seconds, member.node.coordination.heal)

    def fault_cut_from_peers(self, member: Member, seconds: float) -> None:
        """
        Cut a node from all peers alone.
        """
        address = member.node.address
        self.network.split(lambda one, other: address in (one, other))
        self.clock.callLater(seconds, self.network.split, lambda *_: False)

    def fault_slow_uplink(self, member: Member, _: float) -> None:
        """
        A node has a slow uplink from now on.
        """
        self.network.slow(member.node.address, SLOW)

    def fault_wrong_bytes(self, member: Member, _: float) -> None:
        """
        A node sends wrong bytes of all blobs from now on.
        """

        def spoil(data: bytes) -> bytes:
            return data[:-1] + bytes([data[-1] ^ 1]) if len(data) > 4096 else data

        self.network.twist(member.node.address, spoil)

    def fault_stop_coordination(self, _: Member, seconds: float) -> None:
        """
        Stop the coordination, and start it again.
        """
        self.cluster.stop()
        self.clock.callLater(seconds, self.cluster.regain)

    def fault_lose_coordination(self, _: Member, seconds: float) -> None:
        """
        Stop the coordination, and start it again without its data.
        """
        self.cluster.lose()
        self.clock.callLater(seconds, self.cluster.regain)

    def fault_429(self, member: Member, seconds: float) -> None:
        """
        Upstream asks a node to wait.
        """
        error = TooManyRequests("slow down", host=HOST, status=429, retry_after=min(seconds, 20.0))
        member.registries.registry(HOST).gate.fail("open", error, times=2)

    def fault_503(self, member: Member, _: float) -> None:
        """
        Upstream does not answer a node, and breaks what it sends it.
        """
        error = RegistryUnavailable("not now", host=HOST, status=503)
        member.registries.registry(HOST).gate.fail("open", error, times=2)
        for body in member.bodies:
            if not body.ended:
                body.fail(error)

    def fault_cancel(self, member: Member, _: float) -> None:
        """
        A client cancels its pulls.
        """
        for name, job in member.pulls.items():
            if member.node.jobs.get(job)["state"] == "running":
                member.cancelled.add(name)
                member.node.jobs.cancel(job)

    # ----------------------------------------------------------------- checks

    def check(self) -> list[str]:
        """
        Check how the pulls have ended.
        """
        wrong: list[str] = []
        for member in self.members:
            if member.dead:
                continue
            name = member.node.name
            for image, job_id in member.pulls.items():
                job = member.node.jobs.get(job_id)
                if image not in member.cancelled and job["state"] != "done":
                    wrong.append(f"the pull of {image} at {name} is {job['state']}: {job['error']}")
            for digest, data in member.node.store.blobs.contents.items():
                if Digest.of(data, digest.algorithm) != digest:
                    wrong.append(f"{name} keeps wrong bytes of {digest}")
            wrong += [f"{name} leaks {what}" for what in self.leaks(member)]
        claims = [record.value for _, record in self.cluster.find("claim")]
        dead = {member.node.name for member in self.members if member.dead}
        wrong += [f"{c.owner.name} still claims {c.digest}" for c in claims if c.owner.name not in dead]
        return wrong + self.check_upstream()

    def check_upstream(self) -> list[str]:
        """
        Check what upstream has sent: each byte once, and once more where L{APART} says
        so.
        """
        sent = sum(member.fetched for member in self.members) / self.total
        self.say(f"upstream sent {sent:.2f} times the bytes")
        limit = 1.1 + sum(APART.get(fault.kind, 0) for fault in self.schedule.faults) + self.strangers()
        wrong = []
        # Where the node that fetches fails as well, all are in doubt, and after 10 s each
        # goes alone.
        is_lost = self.schedule.has("stop coordination", "lose coordination")
        if sent > limit and not (is_lost and len(self.schedule.faults) > 1):
            wrong.append(f"upstream sent {sent:.2f} times the bytes, not {limit:.1f}")
        if not self.schedule.has("wrong bytes"):
            wrong += [
                f"{member.node.name} fetched {member.fetched} bytes"
                for member in self.members
                if member.fetched > 1.1 * self.total
            ]
        return wrong

    def strangers(self) -> int:
        """
        The nodes that begin while the coordination is away: they have heard of no other
        node, and so each can only ask upstream.
        """
        away = [
            (fault.at, fault.at + fault.seconds + LEASE_SECONDS)
            for fault in self.schedule.faults
            if fault.kind in ("stop coordination", "lose coordination")
        ]
        begins = [self.schedule.begins[index] for index in self.schedule.late]
        return sum(any(first <= begin <= last for first, last in away) for begin in begins)

    def leaks(self, member: Member) -> list[str]:
        """
        What a node that has nothing to do still holds.
        """
        node, found = member.node, []
        for kind, slots in node.jobs.status()["slots"].items():
            if slots["in_use"] or slots["queued"]:
                found.append(f"slots for {kind}: {slots}")
        if node.jobs.transfers():
            found.append(f"transfers: {node.jobs.transfers()}")
        if node.store.blobs.opened:
            found.append(f"partial files: {list(node.store.blobs.opened)}")
        if node.door.followers.counts():
            found.append(f"followers: {node.door.followers.counts()}")
        if node.fleet.depths:
            found.append(f"depths: {node.fleet.depths}")
        if any(not body.ended for body in member.bodies):
            found.append("bodies from upstream")
        return found

    def stop(self) -> list[str]:
        """
        Stop all nodes.

        @return: what is left after it.
        """
        left = []
        for member in self.members:
            self.time.resume(member.node.name)
            member.node.stop()
        self.time.advance(65.0)
        for member in self.members:
            left += [f"{member.node.name} leaves {call}" for call in self.time.pending(member.node.name)]
        return left


def run(seed: int, say: Callable[[str], object] = lambda _: None) -> list[str]:
    """
    Run the schedule of a seed.

    @return: what is wrong, each sentence with the command that repeats it.
    """
    schedule = Schedule.of(seed)
    say(str(schedule))
    wrong = Simulation(schedule, say).run()
    return [f"{each} [python -m tests.fleet.simulation {seed}]" for each in wrong]


def run_all(seeds: Iterable[int]) -> list[str]:
    """
    Run the schedules of some seeds.  They leave about 12 MB of garbage each.

    @return: what is wrong.
    """
    # All garbage is left by whole runs.
    gc.disable()
    try:
        return [each for seed in seeds for each in run(seed)]
    finally:
        gc.enable()


def main(argv: list[str]) -> int:
    """
    Run one seed, or all.

    @return: the exit status: 1 if something is wrong.
    """
    if argv:
        wrong, number = run(int(argv[0]), print), 1
    else:
        images()  # For all processes.
        wrong, number = list(in_batches(run_all, range(SCHEDULES))), SCHEDULES
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{number} schedules: {'FAILED' if wrong else 'PASSED'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
