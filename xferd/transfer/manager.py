# -*- test-case-name: tests.transfer.test_manager -*-
"""
The manager of the transfers of one kind: single flight by key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from random import Random
from sys import maxsize
from typing import Any, Final, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from xferd.errors import Interrupted
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.trace_context import carrying
from xferd.transfer.context import Owner, TransferContext
from xferd.transfer.eventual import Background, Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.progress import Pulse
from xferd.transfer.reason import NO_REASON
from xferd.transfer.retry import RetryPolicy
from xferd.transfer.slots import Slots
from xferd.transfer.steering import Steering
from xferd.transfer.transfer import Transfer
from xferd.transfer.watcher import Watcher

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds for which a successor waits for cancelled work that does not end."""


class Observer(Protocol):
    """
    Observes transfers on behalf of the jobs that watch them.  Neither method blocks or
    calls back.
    """

    def changed(self, turn: Turn, transfer: Transfer) -> None:
        """
        A transfer is new for the job of a turn, or has changed.
        """

    def traceparent(self, transfer: Transfer) -> str:  # noqa: ARG002
        """
        The trace that the requests of a transfer carry; empty if they carry none.
        """
        return ""

    def left(self, turn: Turn, transfer: Transfer) -> None:
        """
        The job of a turn has released a transfer.  If it has another watcher, L{changed}
        follows.
        """


class TransferManager(Owner[Transfer]):
    """
    The transfers of one kind: at most one runs for each key.

    Cancelled work that does not end within L{PATIENCE} seconds is left behind:
    its slot is released, and its successor begins.  The work functions make
    sure that both can run at once: a partial file has one writer
    (L{IBlobs.partial<xferd.interfaces.blobs.IBlobs.partial>}), and each try of an
    unpacking has its own staging directory.

    @ivar slots: what the transfers wait for.
    @ivar retry: the policy of L{Transfer.attempts}; may be replaced at any time.
    @ivar retries: how many failed attempts were followed by another one, by
        the code of the error.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        *,
        wall_clock: WallClock,
        slots: Slots | None,
        small: Slots | None = None,
        small_size: int = 0,
        retry: RetryPolicy,
        kind: str,
        on_attempt: Callable[[Mapping[str, Any], Iterable[Turn]], None] | None = None,
        observer: Observer | None = None,
        use: Callable[[], Callable[[], None]] | None = None,
        random: Random | None = None,
        eventual: Eventual | None = None,
        steering: Steering | None = None,
    ) -> None:
        """
        @param wall_clock: makes the stamps of transfers and attempts.
        @param slots: what the transfers wait for; L{None} for no limit.
        @param small: what transfers of less than C{small_size} bytes wait for
            instead.
        @param retry: when a failed attempt is followed by another.
        @param kind: the name of these transfers: C{download}.
        @param on_attempt: called with the record of each attempt, when it has
            ended, and the turns of those that watch the transfer.  The record is
            C{transfer, kind, digest, source, attempt, started, finished,
            bytes_done, bytes_moved, code, error}; C{bytes_done} are there at its end,
            and it has moved C{bytes_moved}; the last two are L{None} if it succeeded,
            and the times are the wall clock's.
        @param observer: observes the transfers.
        @param use: called when a transfer is made; what it returns is called
            when the transfer can no longer be joined and its work has ended.
        @param random: the source of jitter.
        @param eventual: makes the calls to watchers, where others share it.
        @param steering: the pauses; its owner calls L{steer} and L{reorder}.
        """
        self.clock = clock
        self._steering = Steering() if steering is None else steering
        self.slots = Slots(maxsize, clock) if slots is None else slots
        self._small = small
        self._small_size = small_size
        self.retry = retry
        self._context = TransferContext(
            kind=kind,
            clock=clock,
            wall_clock=wall_clock,
            eventual=Eventual(clock) if eventual is None else eventual,
            background=Background(),
            pulse=Pulse(clock),
            random=Random() if random is None else random,  # noqa: S311
            policy=lambda: self.retry,
            steering=self._steering,
        )
        self.retries: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self._on_attempt = on_attempt
        self._observer = observer
        self._use = use
        self._uses: dict[Transfer, Callable[[], None]] = {}
        self._stopping = False
        self._current: dict[Hashable, Transfer] = {}
        self._at_work: dict[Hashable, Transfer] = {}
        self._dying: dict[Transfer, IDelayedCall] = {}
        self._left_behind: set[Transfer] = set()

    def request(
        self,
        key: Hashable,
        work: Callable[[Transfer], Awaitable[T]],
        *,
        digest: object,
        size: int | None = None,
        source: ISource | None = None,
        turn: Turn,
        sink: IProgressSink | None = None,
    ) -> Watcher[T]:
        """
        Watch the transfer of this key; if there is none, it is made.

        A transfer that failed or was cancelled is not joined.  The work of its
        successor begins when the old work has ended, or L{PATIENCE} seconds
        after it was cancelled.

        @param work: called once, from a clean turn; not called if there is a
            transfer.
        @param digest: the digest of the blob or the layer, for people.
        @param size: how many bytes it moves, if that is known.
        @param source: a source of the bytes.
        @param turn: the turn in which it waits for a slot.
        @param sink: receives its progress; the present state at once.
        @return: a watcher, which the caller releases.
        @raise Interrupted: the manager is stopped.
        """
        if self._stopping:
            raise Interrupted("xferd is stopping and starts no new transfers")
        turn = self._steering.turn(turn)
        transfer = self._current.get(key)
        if transfer is not None:
            return self._watch(transfer, source, turn, sink)
        dying = key in self._at_work
        slots = self.slots_of(size)
        transfer = Transfer(
            self._context,
            self,
            key,
            work,
            digest,
            slots,
            small=slots is self._small,
            waits=dying,
        )
        self._current[key] = transfer
        if self._use is not None:
            self._uses[transfer] = self._use()
        if not dying:
            self._context.eventual.call(self._begin, transfer)
        return self._watch(transfer, source, turn, sink)

    def is_small(self, size: int | None) -> bool:
        """
        Whether a transfer of so many bytes waits for the slots of small ones.
        """
        return self._small is not None and size is not None and size < self._small_size

    def slots_of(self, size: int | None) -> Slots:
        """
        The slots that a transfer of so many bytes waits for.
        """
        return self._small if self._small is not None and self.is_small(size) else self.slots

    def has(self, key: Hashable) -> bool:
        """
        Whether a request for this key would join a transfer.
        """
        return key in self._current

    def transfers(self) -> list[Transfer]:
        """
        The transfers that may be joined, and those that are being cancelled.
        """
        dying = [t for t in self._at_work.values() if self._current.get(t.key) is not t]
        return [*self._current.values(), *dying, *self._left_behind]

    def retry_now(self, host: str) -> None:
        """
        Make the next attempts at a host now, without their delays.
        """
        for transfer in self._at_work.values():
            transfer.retry_now(host)

    def is_paused(self, turns: Iterable[Turn], source: ISource) -> bool:
        """
        Whether a pause would keep a transfer for some watchers, from one source, waiting.
        """
        reasons = self._steering.reason(self._context.kind, turns), self._steering.host_reason(source.host)
        return any(reason is not NO_REASON for reason in reasons)

    def steer(self) -> None:
        """
        End and begin attempts after a pause has begun or ended.
        """
        for transfer in list(self._at_work.values()):
            transfer.steer()

    def reorder(self, job: int) -> None:
        """
        Let the transfers of a job wait with its new turns.
        """
        for transfer in list(self._current.values()):
            transfer.reorder(job)

    def stop(self) -> Deferred[None]:
        """
        Cancel all transfers, and begin no more.  Watchers get L{Interrupted}.

        @return: fires when all work has ended and all results are delivered.
            Cancelling it ends only the wait.
        """
        self._stopping = True
        for transfer in list(self._current.values()):
            if not transfer.over:
                transfer.cancel(Interrupted("xferd stopped before this was done"))
        context = self._context
        return context.background.ended().addCallback(lambda _: context.eventual.caught_up())

    # ---------------------------------------------------- for the transfers

    def closed(self, transfer: Transfer) -> None:
        if self._current.get(transfer.key) is transfer:
            del self._current[transfer.key]
        self._end_use(transfer)
        if transfer in self._dying:
            return
        if transfer.state == "cancelled" and self._at_work.get(transfer.key) is transfer:
            self._dying[transfer] = self.clock.callLater(PATIENCE, self._leave_behind, transfer)

    def changed(self, transfer: Transfer, turn: Turn) -> None:
        if self._observer is not None:
            self._observer.changed(turn, transfer)

    def left(self, transfer: Transfer, turn: Turn) -> None:
        if self._observer is not None:
            self._observer.left(turn, transfer)

    def work_ended(self, transfer: Transfer) -> None:
        timer = self._dying.pop(transfer, None)
        if timer is not None:
            timer.cancel()
        if transfer in self._left_behind:
            self._left_behind.discard(transfer)
            self._end_use(transfer)
        else:
            self._begin_successor(transfer)

    def attempted(self, record: Mapping[str, Any], turns: Iterable[Turn], *, again: bool) -> None:
        code = record["code"]
        if code not in (None, "CANCELLED"):
            self.failures[record["source"].partition("/")[0], code] += 1
        if again:
            self.retries[code] += 1
        if self._on_attempt is not None:
            try:
                self._on_attempt(record, turns)
            except Exception:
                self._log.failure("while recording an attempt of {transfer}", transfer=record["transfer"])

    def _leave_behind(self, transfer: Transfer) -> None:
        """
        Let the successor begin, though the cancelled work has not ended.
        """
        del self._dying[transfer]
        self._log.error(
            "the cancelled {kind} of {digest} does not end; its successor begins",
            kind=self._context.kind,
            digest=transfer.digest,
        )
        self._left_behind.add(transfer)
        transfer.release_slot()
        self._begin_successor(transfer)

    def _begin_successor(self, transfer: Transfer) -> None:
        """
        Let the successor of a transfer begin, as its work has ended or is left
        behind.
        """
        del self._at_work[transfer.key]
        self._end_use(transfer)
        successor = self._current.get(transfer.key)
        if successor is not None and successor is not transfer:
            self._context.eventual.call(self._begin, successor)

    def _watch(
        self, transfer: Transfer, source: ISource | None, turn: Turn, sink: IProgressSink | None
    ) -> Watcher[Any]:
        watcher: Watcher[Any] = Watcher(transfer, self._context.eventual, source, turn, sink)
        transfer.join(watcher)
        return watcher

    def _end_use(self, transfer: Transfer) -> None:
        """
        End the use of a transfer that can neither be joined nor is at work.
        """
        in_use = (self._current.get(transfer.key), self._at_work.get(transfer.key), *self._left_behind)
        if transfer not in in_use:
            end = self._uses.pop(transfer, None)
            if end is not None:
                end()

    def _begin(self, transfer: Transfer) -> None:
        if not transfer.over:
            self._at_work[transfer.key] = transfer
            with carrying("" if self._observer is None else self._observer.traceparent(transfer)):
                transfer.begin()
