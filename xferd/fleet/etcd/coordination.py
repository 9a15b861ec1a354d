# -*- test-case-name: tests.fleet.etcd.test_coordination -*-
"""
The coordination of a fleet by etcd.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Final, TypeVar

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.announcements import COLLECT_SECONDS, Announcements
from xferd.fleet.etcd.answers import LeaseGone, bad_answer
from xferd.fleet.etcd.batches import Batches
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.messages import (
    BadAnswer,
    Message,
    branch,
    either,
    get,
    get_all,
    is_absent,
    is_unchanged,
    key_values,
    put,
    responses,
    revision,
)
from xferd.fleet.etcd.pauses import Pauses
from xferd.fleet.etcd.records import (
    CLAIMS,
    MAX_PAUSE,
    NODES,
    claim_key,
    claim_value,
    holders_prefix,
    read_claim,
    read_holder,
    read_node,
)
from xferd.fleet.etcd.session import Session
from xferd.fleet.etcd.tags import Tags
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
from xferd.jobs.deferreds import gather
from xferd.names import Digest
from xferd.registry.transport.timeouts import within
from xferd.transfer.eventual import Background

T = TypeVar("T")

MAX_NODES: Final = 5000
"""Nodes that are listed at most."""

MAX_CLAIMS: Final = 1000
"""Claims that are listed at most."""


@implementer(ICoordination)
class EtcdCoordination:
    """
    One node of a fleet that coordinates by etcd.

    @ivar client: makes the requests.
    """

    def __init__(
        self,
        clock: IReactorTime,
        client: EtcdClient,
        node: Node,
        random: Random,
        *,
        lease_seconds: int = LEASE_SECONDS,
        collect_seconds: float = COLLECT_SECONDS,
    ) -> None:
        """
        @param node: this node.
        @param random: chooses among the holders of a blob, and spreads requests.
        @param lease_seconds: the length of the node's lease.
        @param collect_seconds: how long announcements are collected.
        """
        self.client = client
        self._clock = clock
        self._peer = node.peer
        self._random = random
        self._session = Session(clock, client, node, random, lease_seconds=lease_seconds)
        self._batches = Batches(clock, client.call)
        self._announcements = Announcements(
            clock, self._batches, self._session, node.peer, random, collect_seconds=collect_seconds
        )
        self._pauses = Pauses(clock, client, self._session, node.peer.name)
        self._tags = Tags(clock, client, self._batches)
        self._claims: dict[Digest, Claim] = {}
        self._background = Background()
        self._session.on_available(self._available)

    @property
    def available(self) -> bool:
        return self._session.available

    @property
    def problem(self) -> str:
        return self._session.problem

    def start(self) -> None:
        self._session.start()

    def stop(self) -> Deferred[None]:
        self._announcements.stop()
        self._pauses.stop()
        self._batches.stop()
        _ = self._background.stop()
        return self._session.stop().addCallback(lambda _: self.client.close())

    def look(self, digests: Collection[Digest]) -> Deferred[Mapping[Digest, Found]]:
        return self._call(lambda: self._look(list(digests)))

    def announce(self, digests: Iterable[Digest]) -> None:
        self._announcements.announce(digests)

    def withdraw(self, digests: Iterable[Digest]) -> None:
        self._announcements.withdraw(digests)

    def claim(self, digest: Digest, size: int, source: str) -> Deferred[Claim]:
        return self._call(lambda: self._claim(digest, size, source, 0))

    def take_over(self, claim: Claim) -> Deferred[Claim]:
        return self._call(lambda: self._claim(claim.digest, claim.size, claim.source, claim.revision))

    def release(self, claim: Claim) -> None:
        if self._claims.pop(claim.digest, None) is not None:
            self._announcements.release(claim.digest)

    def fresh_tag(self, key: str) -> Deferred[Digest | None]:
        return self._call(lambda: self._tags.fresh(key))

    def tag_checked(self, key: str, digest: Digest, ttl: float) -> None:
        if self.available:
            self._spawn(self._tags.checked(key, digest, ttl))

    def pause(self, host: str, account: str, seconds: float, reason: str, quota: Quota | None = None) -> None:
        self._pauses.pause(FleetPause(host, account, min(seconds, MAX_PAUSE), reason, self._peer.name, quota))

    def follow_pauses(self, callback: Callable[[FleetPause], None]) -> Callable[[], None]:
        return self._pauses.follow(callback)

    def report_load(self, load: int, saved: int = 0) -> None:
        self._session.report_load(load, saved)

    def nodes(self) -> Deferred[Sequence[Node]]:
        return self._call(self._nodes)

    def claims(self) -> Deferred[Sequence[Claim]]:
        return self._call(self._list_claims)

    # ---------------------------------------------------------------- calls

    def _call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
        """
        Make a call within L{CALL_SECONDS}.
        """
        if not self.available:
            return fail(CoordinationUnavailable(self.problem))
        calling = within(
            self._clock,
            CALL_SECONDS,
            Deferred.fromCoroutine(work()),
            lambda: CoordinationUnavailable(f"etcd did not answer within {CALL_SECONDS:g} s"),
        )
        return calling.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        """
        Note that a call has failed.
        """
        if isinstance(failure.value, CoordinationUnavailable):
            self._session.failed(failure.value)
        return failure

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        """
        Run work in the background.
        """

        def failed(failure: Failure) -> None:
            if failure.check(LeaseGone):
                return  # That of a tag; the node's own is watched by the session.
            failure.trap(CoordinationUnavailable)
            self._session.failed(failure.value)

        self._background.spawn(Deferred.fromCoroutine(work).addErrback(failed), "while etcd was informed")

    # ---------------------------------------------------------------- blobs

    async def _look(self, digests: Sequence[Digest]) -> Mapping[Digest, Found]:
        """
        Look up some blobs.
        """
        holders = [self._batches.add(get_all(holders_prefix(each), MAX_HOLDERS + 1)) for each in digests]
        claims = [self._batches.add(get(claim_key(each))) for each in digests]
        found = await gather([*holders, *claims])
        try:
            return {
                digest: Found(self._holders(digest, found[n]), self._claimed(digest, found[n + len(digests)]))
                for n, digest in enumerate(digests)
            }
        except BadAnswer as e:
            raise bad_answer(e) from None

    def _holders(self, digest: Digest, response: Message) -> tuple[Peer, ...]:
        """
        The other nodes that have a blob, in a random order.
        """
        found = key_values(response, holders_prefix(digest), MAX_HOLDERS + 1)
        peers = [read_holder(each, digest) for each in found]
        others = [peer for peer in peers if peer is not None and peer.name != self._peer.name]
        self._announcements.note_holders(digest, len(others))
        self._random.shuffle(others)
        return tuple(others[:MAX_HOLDERS])

    def _claimed(self, digest: Digest, response: Message) -> Claim | None:
        """
        The claim in a response.
        """
        key = claim_key(digest)
        found = key_values(response, key, 1)
        return read_claim(found[0], self._session.lease) if found and found[0].key == key else None

    async def _claim(
        self, digest: Digest, size: int, source: str, seen: int, *, is_again: bool = False
    ) -> Claim:
        """
        Claim a blob.

        @param seen: the revision of the claim that this one takes over; 0 for none.
        @param is_again: whether the node has the claim already; it may be released
            meanwhile.
        """
        self._announcements.keep_claim(digest)
        lease, key = self._session.lease, claim_key(digest)
        if not lease:
            raise CoordinationUnavailable("the node has no lease at etcd")
        setting = put(key, claim_value(self._peer, size, source), lease)
        operation = either(is_absent(key), setting, get(key))
        if seen:
            operation = either(is_unchanged(key, seen), setting, operation)
        try:
            response = await self._batches.add(operation, writes=key)
            done, inner = branch(response)
            if seen and not done:
                done, inner = branch(inner)
            claim: Claim | None = (
                Claim(digest, self._peer, source, size, revision(inner), True)
                if done
                else self._claimed(digest, inner)
            )
        except BadAnswer as e:
            raise bad_answer(e) from None
        except (CancelledError, CoordinationUnavailable):
            # etcd may have it nevertheless.
            if digest not in self._claims:
                self._announcements.release(digest)
            raise
        if claim is None:
            raise CoordinationUnavailable(f"etcd has a claim of {digest.short} that cannot be read")
        if claim.mine and (digest in self._claims or not is_again):
            self._claims[digest] = claim
        else:
            self._claims.pop(digest, None)
        return claim

    def _available(self, is_new: bool) -> None:
        """
        Under a new lease, claim again what this node fetches.
        """
        if is_new:
            for digest, claim in list(self._claims.items()):
                self._spawn(self._claim(digest, claim.size, claim.source, 0, is_again=True))

    # ---------------------------------------------------------------- lists

    async def _nodes(self) -> Sequence[Node]:
        found = [read_node(each) for each in await self._list(NODES, MAX_NODES)]
        return sorted((node for node in found if node is not None), key=lambda node: node.peer.name)

    async def _list_claims(self) -> Sequence[Claim]:
        found = [read_claim(each, self._session.lease) for each in await self._list(CLAIMS, MAX_CLAIMS)]
        return [claim for claim in found if claim is not None]

    async def _list(self, prefix: str, most: int) -> Sequence[Any]:
        """
        The keys that begin with a prefix.
        """
        answer = await self.client.call("/v3/kv/txn", {"success": [get_all(prefix, most)]})
        try:
            (found,) = responses(answer, 1)
            return key_values(found, prefix, most)
        except BadAnswer as e:
            raise bad_answer(e) from None
