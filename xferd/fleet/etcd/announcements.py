# -*- test-case-name: tests.fleet.etcd.test_announcements -*-
"""
What a node makes known of its blobs, and takes back: collected, sent together, and
sent again under a new lease.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import CoordinationUnavailable
from xferd.expiring import ExpiringDict
from xferd.fleet.etcd.answers import bad_answer
from xferd.fleet.etcd.batches import MAX_OPERATIONS, Batches
from xferd.fleet.etcd.messages import BadAnswer, Message, count, counted, delete, either, is_bound, put
from xferd.fleet.etcd.records import claim_key, holder_key, holder_value, holders_prefix
from xferd.fleet.etcd.session import Session
from xferd.interfaces.fleet import MAX_HOLDERS, Peer
from xferd.jobs.deferreds import gather
from xferd.names import Digest

COLLECT_SECONDS: Final = 2.0
"""Seconds for which announcements are collected: those of one image are one request or two.
Until then, the claim of a blob leads to its node."""

KNOWN_SECONDS: Final = 60.0
"""Seconds for which the number of a blob's holders, by a look, is believed."""

MAX_JOINING: Final = 30
"""Blobs whose announcements join other operations at most."""

NODES_A_SECOND: Final = 100
"""How many nodes of a fleet announce a part of their blobs again in one second, after
etcd was lost: more would overload it."""

_LONGEST_PAUSE: Final = 10.0
_SHORTEST_PAUSE: Final = 0.1


class Announcements:
    """
    The blobs that a node has, and the claims that it releases.

    What changes is noted at once and sent within L{COLLECT_SECONDS}, announcements not
    later than the release of their claims.  What could not be sent is sent when etcd is
    available again.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        batches: Batches,
        session: Session,
        peer: Peer,
        random: Random,
        *,
        collect_seconds: float = COLLECT_SECONDS,
    ) -> None:
        """
        @param peer: this node.
        @param collect_seconds: how long announcements are collected.
        """
        self._clock = clock
        self._batches = batches
        self._session = session
        self._peer = peer
        self._random = random
        self._collect_seconds = collect_seconds
        self._held: dict[Digest, None] = {}
        # Under the present lease: those that etcd knows, and those that it may know.
        self._announced: set[Digest] = set()
        self._sent_once: set[Digest] = set()
        self._changed: dict[Digest, None] = {}
        self._again: dict[Digest, None] = {}
        self._released: dict[Digest, None] = {}
        self._counts: ExpiringDict[Digest, int] = ExpiringDict(clock.seconds, keep=KNOWN_SECONDS)
        self._timer: IDelayedCall | None = None
        self._pacer: IDelayedCall | None = None
        self._sending: Deferred[None] | None = None
        session.on_available(self._available)
        batches.before_send(self._join)

    def announce(self, digests: Iterable[Digest]) -> None:
        """
        Note that the node has some blobs.
        """
        for digest in digests:
            if digest not in self._held:
                self._held[digest] = None
                self._changed[digest] = None
            elif digest not in self._announced:
                # There were enough holders.
                self._changed[digest] = None
        self._schedule()

    def withdraw(self, digests: Iterable[Digest]) -> None:
        """
        Note that the node has some blobs no longer.
        """
        for digest in digests:
            self._held.pop(digest, None)
            self._again.pop(digest, None)
            self._changed[digest] = None
        self._schedule()

    def release(self, digest: Digest) -> None:
        """
        Note that the node does not fetch a blob any more.
        """
        self._released[digest] = None
        self._schedule()

    def keep_claim(self, digest: Digest) -> None:
        """
        Note that the node fetches a blob after all.
        """
        self._released.pop(digest, None)

    def note_holders(self, digest: Digest, number: int) -> None:
        """
        Note how many others have a blob, by a look.
        """
        self._counts[digest] = number

    def stop(self) -> None:
        """
        Send nothing more.
        """
        for timer in (self._timer, self._pacer):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._pacer = None
        if self._sending is not None:
            self._sending.cancel()

    # --------------------------------------------------------- a new lease

    def _available(self, is_new: bool) -> None:
        """
        Send what waits; under a new lease, all blobs again, little by little.
        """
        if is_new:
            self._announced.clear()
            self._sent_once.clear()
            self._released.clear()
            self._changed = {digest: None for digest in self._changed if digest in self._held}
            self._again = {digest: None for digest in self._held if digest not in self._changed}
            self._pace(first=True)
        self._schedule()

    def _pace(self, *, first: bool = False) -> None:
        """
        Announce a part of the blobs again, and the next one later.
        """
        if self._pacer is not None and self._pacer.active():
            self._pacer.cancel()
        self._pacer = None
        if not first and self._session.available:
            for digest in list(self._again)[:MAX_OPERATIONS]:
                del self._again[digest]
                self._changed[digest] = None
            self._schedule()
        if self._again:
            pause = min(max(self._session.nodes / NODES_A_SECOND, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            # Nodes that have lost etcd together do not return together.
            self._pacer = self._clock.callLater(pause * (0.5 + self._random.random()), self._pace)

    # ------------------------------------------------------------- sending

    def _schedule(self) -> None:
        is_wanted = bool(self._changed or self._released) and self._session.available
        if is_wanted and self._timer is None and self._sending is None:
            self._timer = self._clock.callLater(self._collect_seconds, self._start)

    def _join(self) -> None:
        """
        Send what waits with other operations, if nothing has to be counted first.
        """
        if self._timer is None or not self._session.available or len(self._changed) > MAX_JOINING:
            return
        if all(d in self._counts or d in self._announced or d not in self._held for d in self._changed):
            self._timer.cancel()
            self._start()

    def _start(self) -> None:
        self._timer = None
        self._sending = Deferred.fromCoroutine(self._send())
        _ = self._sending.addBoth(self._sent)

    def _sent(self, result: Failure | None) -> None:
        self._sending = None
        if isinstance(result, Failure) and not result.check(CancelledError):
            self._log.failure("while blobs were announced", failure=result)
        self._schedule()

    async def _send(self) -> None:
        """
        Send what was noted.
        """
        while self._session.available and (self._changed or self._released):
            part = list(self._changed)[:MAX_OPERATIONS]
            for digest in part:
                del self._changed[digest]
            # A claim ends when all that was noted before is known.
            released = {} if self._changed else self._released
            if released:
                self._released = {}
            lease = self._session.lease
            try:
                counts = await self._count([digest for digest in part if digest in self._held])
                changes = {digest: self._changes(digest, counts, lease) for digest in part}
                sent = [
                    self._batches.add(each, writes=key) for found in changes.values() for key, each in found
                ]
                for digest in released:
                    key = claim_key(digest)
                    sent.append(self._batches.add(either(is_bound(key, lease), delete(key)), writes=key))
                await gather(sent)
            except CoordinationUnavailable as e:
                if lease == self._session.lease:
                    self._changed = dict.fromkeys(part) | self._changed
                    self._released = released | self._released
                self._session.failed(e)
            else:
                self._note_sent([digest for digest, found in changes.items() if found], lease)

    def _note_sent(self, digests: Iterable[Digest], lease: int) -> None:
        """
        Note what etcd knows now.
        """
        if lease != self._session.lease:
            return
        for digest in digests:
            if digest in self._held:
                self._announced.add(digest)
            elif digest not in self._changed:
                self._sent_once.discard(digest)

    async def _count(self, digests: Iterable[Digest]) -> dict[Digest, int]:
        """
        Count the nodes that have announced some blobs.
        """
        counts: dict[Digest, int] = {}
        unknown = []
        for digest in digests:
            known = self._counts.pop(digest)
            if known is None:
                unknown.append(digest)
            else:
                counts[digest] = known
        found = await gather([self._batches.add(count(holders_prefix(digest))) for digest in unknown])
        try:
            return counts | {digest: counted(each) for digest, each in zip(unknown, found, strict=True)}
        except BadAnswer as e:
            raise bad_answer(e) from None

    def _changes(self, digest: Digest, counts: dict[Digest, int], lease: int) -> list[tuple[str, Message]]:
        """
        The operations that make etcd know of a blob what is so.
        """
        key = holder_key(digest, self._peer.name)
        if digest not in self._held:
            self._announced.discard(digest)
            return [(key, delete(key))] if digest in self._sent_once else []
        if digest in self._announced or counts.get(digest, 0) >= MAX_HOLDERS:
            return []
        self._sent_once.add(digest)
        return [(key, put(key, holder_value(self._peer), lease))]
