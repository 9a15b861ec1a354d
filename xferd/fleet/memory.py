# -*- test-case-name: tests.fleet.test_memory -*-
"""
The coordination of nodes in memory, for tests and simulations: several nodes
share one cluster, on one clock.

The module is long because it stands for a whole etcd.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from math import inf
from random import Random
from typing import Any, TypeVar

from attrs import define, evolve
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from xferd.errors import CoordinationUnavailable
from xferd.interfaces.fleet import (
    CALL_SECONDS,
    LEASE_SECONDS,
    MAX_HOLDERS,
    Claim,
    FleetPause,
    Found,
    ICoordination,
    Node,
    Peer,
)
from xferd.interfaces.hosts import Quota
from xferd.names import Digest

T = TypeVar("T")

RETRY_SECONDS = 1.0
"""Seconds between two attempts to reach the cluster."""

_MAX_CLAIMS = 1000


@define(eq=False)
class _Lease:
    """
    A lease.

    @ivar expires: when its records vanish, by the clock.
    """

    expires: float


@define
class _Record:
    """
    What is known under one key.
    """

    value: Any
    lease: _Lease
    revision: int


class MemoryCluster:
    """
    What the nodes have made known: records by key, each bound to a lease.

    Keys are tuples: C{("node", name)}, C{("blob", digest, name)}, C{("claim",
    digest)}, C{("tag", key)} and C{("pause", host, account)}.

    @ivar requests: the requests that nodes have made.
    """

    def __init__(self, clock: IReactorTime, *, latency: float = 0.0) -> None:
        """
        @param latency: seconds from a call to its effect, and again to its result.
        """
        self.clock = clock
        self.latency = latency
        self.requests = 0
        self._records: dict[Hashable, _Record] = {}
        self._revision = 0
        self._members: list[MemoryCoordination] = []
        self._lost = False

    def join(self, name: str, url: str, *, version: str = "", seed: int = 0) -> MemoryCoordination:
        """
        Make a node of this cluster.

        @param seed: chooses among the holders of a blob.
        """
        member = MemoryCoordination(self, Peer(name, url), version, Random(seed))  # noqa: S311
        self._members.append(member)
        if self._lost:
            member.cut()
        return member

    def lose(self) -> None:
        """
        Stop: forget everything, and be out of reach of every node.
        """
        for record in self._records.values():
            record.lease.expires = self.clock.seconds()
        self._cut_all()

    def stop(self) -> None:
        """
        Be out of reach of every node, and keep everything, as etcd does on its disk.
        """
        now = self.clock.seconds()
        for record in self._records.values():
            if record.lease.expires > now:
                record.lease.expires = inf
        self._cut_all()

    def regain(self) -> None:
        """
        Be in reach of every node again.  Leases begin again, as those of etcd.
        """
        for record in self._records.values():
            if record.lease.expires == inf:
                record.lease.expires = self.clock.seconds() + LEASE_SECONDS
        self._lost = False
        for member in self._members:
            member.heal()

    def _cut_all(self) -> None:
        self._lost = True
        for member in self._members:
            member.cut()

    # ------------------------------------------------------- for the members

    def grant(self, seconds: float) -> _Lease:
        """
        Begin a lease.
        """
        return _Lease(self.clock.seconds() + seconds)

    def renew(self, lease: _Lease) -> bool:
        """
        Prolong the lease of a node.

        @return: whether it had not expired.
        """
        now = self.clock.seconds()
        if lease.expires <= now:
            return False
        lease.expires = now + LEASE_SECONDS
        return True

    def get(self, key: Hashable) -> _Record | None:
        """
        The record of a key, unless its lease has expired.
        """
        record = self._records.get(key)
        if record is not None and record.lease.expires <= self.clock.seconds():
            del self._records[key]
            return None
        return record

    def put(self, key: Hashable, value: Any, lease: _Lease) -> int:
        """
        Set the record of a key.

        @return: its revision.
        """
        self._revision += 1
        self._records[key] = _Record(value, lease, self._revision)
        return self._revision

    def remove(self, key: Hashable) -> None:
        """
        Remove the record of a key, if there is one.
        """
        self._records.pop(key, None)

    def find(self, *prefix: Hashable) -> list[tuple[Any, _Record]]:
        """
        The records whose keys begin so, the oldest first.
        """
        keys = [k for k in self._records if isinstance(k, tuple) and k[: len(prefix)] == prefix]
        return [(key, record) for key in keys if (record := self.get(key)) is not None]

    def tell(self, pause: FleetPause) -> None:
        """
        Pass a pause to all nodes.
        """
        for member in self._members:
            member.hear(pause)


@implementer(ICoordination)
class MemoryCoordination:
    """
    One node's side of a L{MemoryCluster}.

    States: made, started, stopped.  Independently of them it may be cut from the
    cluster, and frozen, as a process that is stopped by a signal.
    """

    def __init__(self, cluster: MemoryCluster, peer: Peer, version: str, random: Random) -> None:
        self._cluster = cluster
        self._clock = cluster.clock
        self._peer = peer
        self._version = version
        self._random = random
        self._lease: _Lease | None = None
        self._timer: IDelayedCall | None = None
        self._noticing: IDelayedCall | None = None
        self._is_cut = False
        self._frozen = False
        self._started = False
        self._since = 0.0
        self._load = 0
        self._saved = 0
        self._held: dict[Digest, None] = {}
        self._claims: dict[Digest, Claim] = {}
        self._missed: list[Callable[[_Lease], object]] = []
        self._waiting: list[Callable[[], None]] = []
        self._callbacks: list[Callable[[FleetPause], None]] = []
        self.available = False
        self.problem = "the cluster was not asked yet"

    # ------------------------------------------------------------- faults

    def cut(self) -> None:
        """
        Cut the node from the cluster.  It notices within L{CALL_SECONDS}.
        """
        self._is_cut = True
        if self._noticing is None:
            self._noticing = self._clock.callLater(CALL_SECONDS, self._notice)

    def heal(self) -> None:
        """
        End L{cut}.  The node notices within L{RETRY_SECONDS}.
        """
        self._is_cut = False

    def freeze(self) -> None:
        """
        Stop the node as by a signal: it keeps no lease alive.
        """
        self._frozen = True

    def thaw(self) -> None:
        """
        End L{freeze}.
        """
        self._frozen = False
        if self._started:
            self._tick()
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    # ------------------------------------------------------ ICoordination

    def start(self) -> None:
        self._started = True
        self._since = self._clock.seconds()
        self._tick()

    def stop(self) -> Deferred[None]:
        self._started = False
        for timer in (self._timer, self._noticing):
            if timer is not None and timer.active():
                timer.cancel()
        self._noticing = None
        if self._lease is not None and not self._is_cut:
            self._lease.expires = self._clock.seconds()
        self._lease = None
        self.available, self.problem = False, "the node has stopped"
        return succeed(None)

    def look(self, digests: Collection[Digest]) -> Deferred[Mapping[Digest, Found]]:
        return self._call(lambda _: {digest: self._find(digest) for digest in digests})

    def announce(self, digests: Iterable[Digest]) -> None:
        digests = list(digests)
        self._held.update(dict.fromkeys(digests))
        self._write(lambda lease: self._put_holders(digests, lease))

    def withdraw(self, digests: Iterable[Digest]) -> None:
        digests = list(digests)
        for digest in digests:
            self._held.pop(digest, None)
        self._write(lambda _: self._remove_holders(digests))

    def claim(self, digest: Digest, size: int, source: str) -> Deferred[Claim]:
        return self._claiming(digest, lambda lease: self._put_claim(digest, size, source, 0, lease))

    def take_over(self, claim: Claim) -> Deferred[Claim]:
        return self._claiming(
            claim.digest,
            lambda lease: self._put_claim(claim.digest, claim.size, claim.source, claim.revision, lease),
        )

    def release(self, claim: Claim) -> None:
        mine = self._claims.pop(claim.digest, None)
        if mine is not None:
            self._write(lambda _: self._remove_claim(mine))

    def fresh_tag(self, key: str) -> Deferred[Digest | None]:
        def find(_: _Lease) -> Digest | None:
            record = self._cluster.get(("tag", key))
            return None if record is None else record.value

        return self._call(find)

    def tag_checked(self, key: str, digest: Digest, ttl: float) -> None:
        self._write(
            lambda _: self._cluster.put(("tag", key), digest, self._cluster.grant(ttl)), lasting=False
        )

    def pause(self, host: str, account: str, seconds: float, reason: str, quota: Quota | None = None) -> None:
        pause = FleetPause(host, account, seconds, reason, self._peer.name, quota)

        def put(_: _Lease) -> None:
            self._cluster.put(("pause", host, account), pause, self._cluster.grant(seconds))
            self._cluster.tell(pause)

        self._write(put, lasting=False)

    def follow_pauses(self, callback: Callable[[FleetPause], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        if self.available:
            self._repeat_pauses([callback])
        return lambda: self._callbacks.remove(callback)

    def report_load(self, load: int, saved: int = 0) -> None:
        self._load, self._saved = load, saved

    def nodes(self) -> Deferred[Sequence[Node]]:
        def find(_: _Lease) -> Sequence[Node]:
            found = [record.value for _, record in self._cluster.find("node")]
            return sorted(found, key=lambda node: node.peer.name)

        return self._call(find)

    def claims(self) -> Deferred[Sequence[Claim]]:
        return self._call(
            lambda _: [self._as_claim(record) for _, record in self._cluster.find("claim")[:_MAX_CLAIMS]]
        )

    # ------------------------------------------------------ for the cluster

    def hear(self, pause: FleetPause) -> None:
        """
        Receive another node's pause.
        """
        if pause.node != self._peer.name and self.available and not self._is_cut:
            for callback in list(self._callbacks):
                callback(pause)

    # ------------------------------------------------------------- the lease

    def _tick(self) -> None:
        """
        Keep the lease alive, or get one.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        lost = self._noticing is not None
        if not self._frozen and not self._is_cut:
            self._noticed()
            if self._lease is None or not self._cluster.renew(self._lease):
                self._lease = self._cluster.grant(LEASE_SECONDS)
                self._announce_all(self._lease)
                lost = True
            self._cluster.put(
                ("node", self._peer.name),
                Node(self._peer, self._version, self._since, self._load, self._saved),
                self._lease,
            )
            self.available, self.problem = True, ""
            missed, self._missed = self._missed, []
            for effect in missed:
                effect(self._lease)
            if lost:
                self._repeat_pauses(self._callbacks)
        elif not self._frozen and self._noticing is None:
            self._noticing = self._clock.callLater(CALL_SECONDS, self._notice)
        seconds = LEASE_SECONDS / 3 if self.available else RETRY_SECONDS
        self._timer = self._clock.callLater(seconds, self._tick)

    def _notice(self) -> None:
        """
        Notice that the cluster is out of reach.
        """
        self.available = False
        self.problem = "the cluster does not answer"
        if self._started:
            self._tick()

    def _noticed(self) -> None:
        if self._noticing is not None and self._noticing.active():
            self._noticing.cancel()
        self._noticing = None

    def _announce_all(self, lease: _Lease) -> None:
        """
        Announce again what this node has and what it fetches.
        """
        self._put_holders(self._held, lease)
        for digest, mine in list(self._claims.items()):
            if not self._put_claim(digest, mine.size, mine.source, mine.revision, lease).mine:
                self._claims.pop(digest, None)

    # ------------------------------------------------------------- records

    def _find(self, digest: Digest) -> Found:
        peers = [record.value for _, record in self._cluster.find("blob", digest)]
        others = [peer for peer in peers if peer.name != self._peer.name]
        self._random.shuffle(others)
        record = self._cluster.get(("claim", digest))
        return Found(tuple(others), None if record is None else self._as_claim(record))

    def _put_holder(self, digest: Digest, lease: _Lease) -> None:
        others = [key for key, _ in self._cluster.find("blob", digest) if key[2] != self._peer.name]
        if len(others) < MAX_HOLDERS:
            self._cluster.put(("blob", digest, self._peer.name), self._peer, lease)

    def _put_holders(self, digests: Iterable[Digest], lease: _Lease) -> None:
        for digest in digests:
            self._put_holder(digest, lease)

    def _remove_holders(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            self._cluster.remove(("blob", digest, self._peer.name))

    def _put_claim(self, digest: Digest, size: int, source: str, revision: int, lease: _Lease) -> Claim:
        """
        Claim a blob, if it is free or its claim has this revision.
        """
        key = ("claim", digest)
        record = self._cluster.get(key)
        if record is not None and record.revision != revision:
            found = self._as_claim(record)
            # This node's claim may be under a lease that it has lost.
            if not found.mine or record.lease is lease:
                return found
        mine = Claim(digest, self._peer, source, size, 0, True)
        mine = evolve(mine, revision=self._cluster.put(key, mine, lease))
        self._claims[digest] = mine
        return mine

    def _remove_claim(self, mine: Claim) -> None:
        key = ("claim", mine.digest)
        record = self._cluster.get(key)
        if record is not None and record.revision == mine.revision:
            self._cluster.remove(key)

    def _as_claim(self, record: _Record) -> Claim:
        claim: Claim = record.value
        return evolve(claim, revision=record.revision, mine=claim.owner.name == self._peer.name)

    def _repeat_pauses(self, callbacks: Iterable[Callable[[FleetPause], None]]) -> None:
        for _, record in self._cluster.find("pause"):
            pause: FleetPause = record.value
            left = record.lease.expires - self._clock.seconds()
            pause = evolve(pause, seconds=left, age=max(pause.seconds - left, 0.0))
            for callback in list(callbacks):
                if pause.node != self._peer.name:
                    callback(pause)

    # --------------------------------------------------------------- calls

    def _write(self, effect: Callable[[_Lease], object], *, lasting: bool = True) -> None:
        """
        Make a change, at once or when the cluster is in reach again.

        @param lasting: whether it still matters then.
        """
        if self._lease is not None and self.available and not self._is_cut and not self._frozen:
            self._cluster.requests += 1
            effect(self._lease)
        elif lasting:
            self._missed.append(effect)

    def _claiming(self, digest: Digest, effect: Callable[[_Lease], Claim]) -> Deferred[Claim]:
        """
        Claim a blob; where the result is not awaited any more, release it.
        """
        had = digest in self._claims
        return self._call(effect, lambda claim: None if had or not claim.mine else self.release(claim))

    def _call(
        self, effect: Callable[[_Lease], T], undo: Callable[[T], object] = lambda _: None
    ) -> Deferred[T]:
        """
        Make a call, which fails where the cluster is out of reach.

        @param undo: called with the result if the call was cancelled meanwhile.
        """
        if not self.available:
            return fail(CoordinationUnavailable(self.problem))
        result: Deferred[T] = Deferred()  # needs no canceller: a late result of it is dropped
        self._cluster.requests += 1
        self._after(self._cluster.latency, lambda: self._make(effect, undo, result))
        return result

    def _make(self, effect: Callable[[_Lease], T], undo: Callable[[T], object], result: Deferred[T]) -> None:
        """
        Let a call take effect, and deliver its result.
        """
        if self._frozen:
            self._waiting.append(lambda: self._make(effect, undo, result))
        elif self._is_cut or self._lease is None:
            late = CoordinationUnavailable(f"the cluster did not answer within {CALL_SECONDS:g} s")
            self._clock.callLater(CALL_SECONDS - self._cluster.latency, result.errback, late)
        else:
            value = effect(self._lease)

            def answer() -> None:
                if result.called:
                    undo(value)
                else:
                    result.callback(value)

            self._after(self._cluster.latency, answer)

    def _after(self, seconds: float, call: Callable[[], object]) -> None:
        """
        Make a call after some seconds, or at once.
        """
        if seconds > 0:
            self._clock.callLater(seconds, call)
        else:
            call()
