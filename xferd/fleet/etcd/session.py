# -*- test-case-name: tests.fleet.etcd.test_session -*-
"""
The lease of a node at etcd, kept alive and renewed, and whether etcd is available.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.answers import LeaseGone, bad_answer
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.messages import (
    BadAnswer,
    Message,
    branch,
    count,
    counted,
    either,
    get,
    is_absent,
    key_values,
    member,
    number,
    put,
    responses,
)
from xferd.fleet.etcd.records import NODES, node_key, node_value, read_node
from xferd.interfaces.fleet import CALL_SECONDS, LEASE_SECONDS, Node
from xferd.registry.transport.timeouts import within
from xferd.transfer.retry import RetryPolicy

LOAD_SECONDS: Final = 60.0
"""Seconds between two reports of the load."""

KEPT_IN_A_LEASE: Final = 2
"""How often a lease is kept alive in its time.  A failure is followed by others at once, three in
the time that is left; a thousand nodes make 133 requests a second."""

_STABLE_SECONDS: Final = 10.0
"""Seconds of availability after which earlier failures no longer count."""

_RETRY: Final = RetryPolicy(base=0.5, cap=5.0, jitter=0.5)


class Session:
    """
    The lease of a node.

    States: made; started, when it is available or not; stopped.

    @ivar available: whether etcd answers, and knows this node.
    @ivar problem: why it is not available, or the empty string.
    @ivar lease: the number of the lease, 0 without one.
    @ivar nodes: the number of nodes in the fleet, when the lease began or the load was
        last reported.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        client: EtcdClient,
        node: Node,
        random: Random,
        *,
        lease_seconds: int = LEASE_SECONDS,
    ) -> None:
        """
        @param node: this node.
        @param lease_seconds: the length of the lease.
        """
        self._clock = clock
        self._client = client
        self._node = node
        self._random = random
        self._lease_seconds = lease_seconds
        self._listeners: list[Callable[[bool], None]] = []
        self._timer: IDelayedCall | None = None
        self._round: Deferred[None] | None = None
        self._failures = 0
        self._since = 0.0
        self._started = False
        self._load, self._saved = node.load, node.saved
        self._load_due = 0.0
        self._was_registered = False
        self.available = False
        self.problem = "etcd was not asked yet"
        self.lease = 0
        self.nodes = 1

    def on_available(self, listener: Callable[[bool], None]) -> None:
        """
        Call a function each time that etcd becomes available, with whether the
        lease is a new one.
        """
        self._listeners.append(listener)

    def start(self) -> None:
        """
        Begin to connect.
        """
        self._started = True
        self.check()

    def stop(self) -> Deferred[None]:
        """
        End the lease.  Fires within L{CALL_SECONDS}, and never fails.
        """
        self._started = False
        self._stop_timer()
        if self._round is not None:
            self._round.cancel()
        lease, self.lease = self.lease, 0
        was_available, self.available = self.available, False
        self.problem = "the node has stopped"
        if not lease or not was_available:
            return succeed(None)
        ending = Deferred.fromCoroutine(self._client.call("/v3/lease/revoke", {"ID": str(lease)}))
        # The lease ends by itself, too.
        return within(self._clock, CALL_SECONDS, ending, CoordinationUnavailable).addBoth(lambda _: None)

    def report_load(self, load: int, saved: int) -> None:
        """
        Make the load known, within L{LOAD_SECONDS}.
        """
        self._load, self._saved = load, saved

    def check(self) -> None:
        """
        Keep the lease alive now, as something shows that etcd may be lost.
        """
        self._stop_timer()
        if self._started and self._round is None:
            self._round = Deferred.fromCoroutine(self._keep())
            _ = self._round.addBoth(self._kept)

    def failed(self, error: object) -> None:
        """
        Note that a request has failed: etcd is not available until it answers.
        """
        if not self._started:
            return
        if isinstance(error, LeaseGone):
            self.lease = 0
        if self.available or self.problem != str(error):
            self._log.warn("the fleet is not available: {problem}", problem=str(error))
        if self.available and self._clock.seconds() - self._since > _STABLE_SECONDS:
            self._failures = 0
        self.available, self.problem = False, str(error)
        self._failures += 1
        self._schedule(_RETRY.delay(self._failures, self._random))

    # --------------------------------------------------------------- rounds

    def _schedule(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(seconds, self.check)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _kept(self, result: Failure | None) -> None:
        """
        Note the outcome of a round.
        """
        self._round = None
        if not self._started:
            return
        if isinstance(result, Failure):
            if not result.check(CoordinationUnavailable):
                self._log.failure("while the lease was kept alive", failure=result)
            self.failed(
                result.value
                if isinstance(result.value, CoordinationUnavailable)
                else CoordinationUnavailable("the lease at etcd could not be kept alive; see the log")
            )
        elif self.available:
            self._schedule(self._lease_seconds / KEPT_IN_A_LEASE)
        else:
            # A request has failed meanwhile.
            self._schedule(_RETRY.delay(max(self._failures, 1), self._random))

    async def _keep(self) -> None:
        """
        Keep the lease alive, or begin a new one.
        """
        try:
            if self.lease and not await self._renew():
                self.lease = 0
            is_new = not self.lease
            if is_new:
                self.lease = await self._begin()
            elif not self.available or self._is_load_due():
                # etcd that is full keeps leases alive, and accepts no writing.
                self._note_load()
                message = {"success": [self._put_node(self.lease), count(NODES)]}
                _, counting = responses(await self._client.call("/v3/kv/txn", message), 2)
                self._note_nodes(counting)
        except BadAnswer as e:
            raise bad_answer(e) from None
        if is_new or not self.available:
            self._since = self._clock.seconds()
            self.available, self.problem = True, ""
            self._log.info("the fleet is available: {nodes} nodes", nodes=self.nodes)
            for listener in self._listeners:
                listener(is_new)

    async def _renew(self) -> bool:
        """
        Keep the lease alive.

        @return: whether it had not ended.
        """
        answer = await self._client.call("/v3/lease/keepalive", {"ID": str(self.lease)})
        return number(member(answer, "result"), "TTL") > 0

    async def _begin(self) -> int:
        """
        Begin a lease, and register the node.

        @return: the lease.
        """
        self._note_load()
        answer = await self._client.call("/v3/lease/grant", {"TTL": str(self._lease_seconds)})
        lease = number(answer, "ID")
        if lease == 0:
            raise BadAnswer("a lease has no number")
        key = node_key(self._node.peer.name)
        for is_last in (False, True):
            message = {"success": [either(is_absent(key), self._put_node(lease), get(key)), count(NODES)]}
            registered, counting = responses(await self._client.call("/v3/kv/txn", message), 2)
            self._note_nodes(counting)
            done, other = branch(registered)
            if done:
                self._was_registered = True
                return lease
            for found in key_values(other, key, 1):
                node = read_node(found)
                if (node is not None and node.peer.url != self._node.peer.url) or is_last:
                    await self._revoke(lease)
                    url = "another URL" if node is None else node.peer.url
                    raise CoordinationUnavailable(
                        f"another node of the fleet is named {self._node.peer.name}, too, at {url}: "
                        "set fleet.name to a unique name"
                    )
                if self._was_registered and node is not None and node.since != round(self._node.since):
                    await self._revoke(lease)
                    raise CoordinationUnavailable(
                        "another daemon has the name and the URL of this one in the fleet: "
                        "set fleet.name and fleet.url of each to its own"
                    )
                # It is this node before it was restarted: with its lease ends what it had made known.
                await self._revoke(found.lease)
        raise CoordinationUnavailable(f"etcd does not register the node {self._node.peer.name}")

    async def _revoke(self, lease: int) -> None:
        try:
            await self._client.call("/v3/lease/revoke", {"ID": str(lease)})
        except LeaseGone:
            pass  # It has just ended.

    def _is_load_due(self) -> bool:
        known = self._node.load, self._node.saved
        return known != (self._load, self._saved) and self._load_due <= self._clock.seconds()

    def _note_nodes(self, counting: Message) -> None:
        self.nodes = max(counted(counting), 1)
        self._client.note_nodes(self.nodes)

    def _note_load(self) -> None:
        self._node = evolve(self._node, load=self._load, saved=self._saved)
        self._load_due = self._clock.seconds() + LOAD_SECONDS

    def _put_node(self, lease: int) -> Message:
        return put(node_key(self._node.peer.name), node_value(self._node), lease)
