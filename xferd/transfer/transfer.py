# -*- test-case-name: tests.transfer.test_transfer -*-
"""
Transfers: one piece of work for all jobs that want its result.

The module is long because it is one state machine: each method is a transition, or
what the work may do in a state.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from secrets import token_hex
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import XferdError, causes
from xferd.interfaces.transfer import ISource
from xferd.real_progress import is_real_progress
from xferd.transfer.activity import Activity
from xferd.transfer.attempt_record import outcome
from xferd.transfer.attempting import Attempting
from xferd.transfer.attempts import Attempts
from xferd.transfer.context import Owner, TransferContext, Watching
from xferd.transfer.fair_queue import Turn
from xferd.transfer.file_descriptors import PAUSE, is_shortage
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots

T = TypeVar("T")
S = TypeVar("S", bound=ISource)


class Transfer(Attempting):
    """
    One piece of work, shared by its watchers.

    Its work function receives this object, and uses L{attempts} or L{slot},
    L{report} and L{wait}.  The work belongs to no watcher: it is cancelled when
    the last one leaves.

    States, by C{state}::

        waiting --the predecessor's work ends--> running
        queued --begin--> running
        running --a slot is needed--> queued --it is granted--> running
        running --wait--> waiting --> running
        running --an attempt fails--> backing-off --> queued, running
        running --the work ends--> done, failed
        any of these --the last watcher leaves, or the manager stops--> cancelled

      - C{queued}: it waits for its first turn, or for a slot.
      - C{running}: its work runs.
      - C{backing-off}: an attempt failed; it waits, without a slot, for the next.
      - C{waiting}: it waits, without a slot, for something other than a slot.
      - C{done}, C{failed}: its work has ended.
      - C{cancelled}: its result is no longer wanted; its work has ended, or is
        being cancelled.

    @ivar id: unique, also across restarts.
    @ivar created: the wall clock's time when it was first requested.
    @ivar key: identifies the work; equal keys are equal work.
    @ivar digest: the digest of its blob or layer, for people.
    @ivar state: see above.
    @ivar bytes_done: the bytes that are there.
    @ivar bytes_total: the bytes that there will be, or L{None} if unknown.
    @ivar bytes_moved: the bytes that all attempts have moved, those that moved twice
        included.
    @ivar extra: the newest values of all else that the work reported.
    @ivar small: whether it waits for the slots of small transfers.
    @ivar value: what the work returned, once it is C{done}.
    @ivar error: what it failed with, once it is C{failed} or C{cancelled}.
    """

    _log = Logger()

    def __init__(
        self,
        context: TransferContext,
        owner: Owner[Transfer],
        key: Hashable,
        work: Callable[[Transfer], Awaitable[Any]],
        digest: object,
        slots: Slots,
        *,
        small: bool,
        waits: bool,
    ) -> None:
        """
        @param slots: what L{attempts} and L{slot} acquire.
        @param waits: whether it waits for its predecessor's work to end.
        """
        self._context = context
        self._owner = owner
        self._clock = context.clock
        self._slots = slots
        self._work = work
        self._working: Deferred[Any] | None = None
        self._watchers: dict[Watching, None] = {}
        self._sinks = 0
        self._turns: tuple[Turn, ...] | None = None
        self._request: SlotRequest | None = None
        self._attempts: Attempts | None = None
        self._activity: Activity | None = None
        self._attempt = 0
        self._label = ""
        self.id = token_hex(6)
        self.created = context.wall_clock()
        self.key = key
        self.kind = context.kind
        self.digest = digest
        self.small = small
        self.state = "waiting" if waits else "queued"
        self._reason = Reason(Obstacle.PREDECESSOR) if waits else NO_REASON
        self._discarded = NO_REASON
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self.bytes_moved = 0
        self.extra: dict[str, Any] = {}
        self.value: Any = None
        self.error: BaseException | None = None
        self._moved = False
        self._placed = False
        self._furthest: int | None = None
        self._attempt_started = self.created
        self._attempt_base = 0
        self._since = self._clock.seconds()
        self._stamp = self._since, self.created
        self._shown: tuple[Obstacle, str] = (Obstacle.NONE, "")

    # ------------------------------------------------- for the work function

    @property
    def activity(self) -> Activity:
        """
        How fast its bytes move while it runs, and why they do not.
        """
        if self._activity is None:
            self._activity = Activity(self.kind, self._clock, self._since)
        return self._activity

    @property
    def sources(self) -> list[ISource]:
        """
        The sources of the watchers, each once, in the order of their arrival.
        """
        if self._attempts is not None:
            return self._attempts.sources.all()
        found: dict[Hashable, ISource] = {}
        for watcher in self._watchers:
            if watcher.source is not None:
                found.setdefault(watcher.source.identity, watcher.source)
        return list(found.values())

    async def attempts(self, attempt: Callable[[ISource], Awaitable[T]]) -> T:
        """
        Call C{attempt} with one source after another, in a slot, until it
        succeeds.

          - A retryable error is followed by another attempt: after a delay,
            without a slot, or at once with another source.
          - An error of the source alone is followed by an attempt with the
            next source.
          - Wrong bytes mark the source; another source is tried at once or,
            without one, this source once more.
          - L{Postponed <xferd.transfer.attempts.Postponed>}, or a missing file
            descriptor, is no failure: it is waited for without a slot, unless
            another source can continue.
          - Every other error fails at once.

        A transfer has one slot at a time: do not use this and L{slot} at the
        same time.

        @raise Exception: the error of the last attempt.
        """
        return await self._made_attempts().run(attempt, self._context.policy)

    async def attempt_with(self, source: S, attempt: Callable[[S], Awaitable[T]]) -> T:
        """
        Make one attempt with a source of no watcher, without a slot.

        @raise Exception: the attempt's error.
        """
        return await self._made_attempts().one(attempt, source)

    def has_another(self, source: ISource) -> bool:
        """
        Whether an attempt with another source could begin now.
        """
        return self._attempts is not None and self._attempts.others(source)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """
        Hold a slot, for no host, for work that makes no attempts::

            async with transfer.slot():
                ...
        """
        if self.over:
            raise CancelledError
        request = self._slot_request()
        request.move("")
        acquired = self._slots.acquire(request)
        try:
            if not request.held:
                self.enter("queued")
            await acquired
            self.enter("running")
            yield
        finally:
            request.release()

    def wait(self, obstacle: Obstacle, why: str = "") -> AbstractContextManager[None]:
        """
        A context in which the state is C{waiting}.  The work should hold no
        slot.

        @param why: the C{detail} of the reason.
        """
        return self.wait_for(Reason(obstacle, detail=why))

    def wait_for_disk(self, why: str) -> AbstractContextManager[None]:
        """
        The same, as the disk is full.
        """
        return self.wait(Obstacle.DISK, why)

    def requesting(self, what: str, whom: str, ago: float) -> AbstractContextManager[None]:
        return self.activity.requesting(what, whom, ago)

    def report(
        self,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
        *,
        moved: int = 0,
        **extra: Any,
    ) -> None:
        """
        Report how far the work is.  It is cheap, to be called for every piece.

        The first report of an attempt is the offset where the attempt begins:
        the bytes before it were not moved by it.

        @param moved: the bytes that the attempt has moved since the last report.
        """
        if self.over:
            return
        self.bytes_moved += moved
        if bytes_done is not None:
            self.bytes_done = bytes_done
            if not self._placed:
                self._placed = True
                self.activity.place(bytes_done)
                if self._furthest is None:
                    self._furthest = bytes_done
        if bytes_total is not None:
            self.bytes_total = bytes_total
        if extra:
            self.extra.update(extra)
        if not self._moved:
            self._changed()

    def begin_again(self, why: str) -> None:
        """
        Report that the bytes that were here are discarded.

        @param why: the reason, for people.  The transfer has it for as long as it waits for
            nothing else.
        """
        self._discarded = Reason(Obstacle.DISCARDED, detail=why)
        self.report(bytes_done=0)

    # --------------------------------------------------------------- for all

    @property
    def over(self) -> bool:
        """
        Whether it is done, failed or cancelled.
        """
        return self.state in ("done", "failed", "cancelled")

    @property
    def shown_state(self) -> str:
        """
        The state as lists and metrics show it: C{waiting} also while its work runs and has
        nothing to do.
        """
        return "waiting" if self.state == "running" and self.reason().idles else self.state

    @property
    def source(self) -> ISource | None:
        """
        The source of the newest attempt; before the first one, that of the oldest
        watcher that adds one.
        """
        source = None if self._attempts is None else self._attempts.source
        if source is None:
            source = next((w.source for w in self._watchers if w.source is not None), None)
        return source

    @property
    def turns(self) -> tuple[Turn, ...]:
        """
        The turns of its watchers: another tuple when they have changed.
        """
        if self._turns is None:
            self._turns = tuple(watcher.turn for watcher in self._watchers)
        return self._turns

    @property
    def slot_limit(self) -> int:
        """
        The number of the slots that it waits for, or holds one of.
        """
        return self._slots.limit

    def snapshot(self) -> dict[str, Any]:
        """
        The transfer as it is now, for people and programs.

        C{until} is the wall clock's time at which the wait for L{reason} is
        over, or L{None} if that is not known.
        """
        until = self.reason().until
        attempts, running, source = self._attempts, self.state == "running", self.source
        label = self._label or ("" if source is None else source.label)
        return {
            "id": self.id,
            "key": " ".join(map(str, self.key)) if isinstance(self.key, tuple) else str(self.key),
            "kind": self.kind,
            "digest": str(self.digest),
            "state": self.shown_state,
            "watchers": len(self._watchers),
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "rate": self.activity.rate(self.bytes_done) if running else 0.0,
            "attempt": self._attempt if attempts is None else attempts.number,
            "streams": self.extra.get("streams", 0) if running else 0,
            "source": label,
            "until": None if until is None else self.moment(until),
        }

    @property
    def since(self) -> float:
        """
        The wall clock's time at which the wait for L{reason} began.
        """
        began = self.activity.since(self.reason()) if self.state == "running" else None
        if began is None:
            began = self._since
        if self._stamp[0] != began:
            self._stamp = began, self.moment(began)
        return self._stamp[1]

    def moment(self, seconds: float) -> float:
        """
        The wall clock's time at a time of the clock.
        """
        return self._context.wall_clock() + seconds - self._clock.seconds()

    def reason(self) -> Reason:
        """
        What the transfer waits for, what slows it, or what it failed with.
        """
        match self.state:
            case "waiting":
                return self._reason
            case "failed":
                return Reason(Obstacle.FAILURE, detail=str(self.error))
            case "cancelled":
                return NO_REASON if self._working is None else Reason(Obstacle.CANCELLATION)
            case "backing-off" if self._attempts is not None:
                return self._attempts.back_off()
            case "queued" | "running":
                found = self._slowed() if self.state == "running" else self._slot_reason()
                return self._discarded if found.obstacle is Obstacle.NONE else found
        return NO_REASON

    def trouble(self, source: ISource) -> Exception | None:
        """
        The newest error of a source, also while the transfer continues.
        """
        return None if self._attempts is None else self._attempts.sources.error_of(source)

    # ------------------------------------------------------ for the watchers

    def join(self, watcher: Watching) -> None:
        """
        Add a watcher.
        """
        self._watchers[watcher] = None
        self._turns = None
        if self._request is not None:
            self._request.add(watcher.turn)
        if self._attempts is not None and watcher.source is not None:
            self._attempts.add(watcher.source)
        if self._context.steering:
            self.steer()
        self._notify(watcher)
        if watcher.sink is not None or self._sinks:
            # Without sinks, the number of watchers is shown nowhere.
            self._changed()
        self._sinks += watcher.sink is not None

    def leave(self, watcher: Watching) -> None:
        """
        Remove a watcher.  Without any the transfer is cancelled, unless it is
        L{over}.
        """
        del self._watchers[watcher]
        self._sinks -= watcher.sink is not None
        self._turns = None
        self._owner.left(self, watcher.turn)
        if self._watchers:
            if self._request is not None:
                self._request.discard(watcher.turn)
            if self._attempts is not None and watcher.source is not None:
                self._attempts.drop(watcher.source)
            if self._context.steering:
                self.steer()
            if self._sinks:
                self._changed()
        elif self.over:
            self._owner.closed(self)
        else:
            self.cancel(CancelledError())

    def outcome(self, watcher: Watching) -> Any:
        """
        What a watcher gets when the transfer is L{over}: its value, or a
        L{Failure <twisted.python.failure.Failure>}.  Where every source failed,
        that is the error of the watcher's own source.
        """
        if self.state == "done":
            return self.value
        error = self.error
        if self._attempts is not None and error is self._attempts.exhaustion:
            error = self._attempts.sources.error_of(watcher.source) or error
        return Failure(error)

    # ----------------------------------------------------- for the attempts

    def enter(self, state: str) -> None:
        if not self.over and (state != self.state or state == "waiting"):
            self.state = state
            self._since = self._clock.seconds()
            if state == "running":
                if self._activity is not None:
                    self._activity.begin()
                self._context.pulse.watch(self)
            self._notify_all()

    @contextmanager
    def wait_for(self, reason: Reason) -> Iterator[None]:
        before = self.state, self._reason
        self._reason = reason
        self.enter("waiting")
        try:
            yield
        finally:
            state, self._reason = before
            self.enter(state)

    def attempt_begins(self) -> None:
        self._placed = False
        self.activity.begin()
        self._attempt_started = self._context.wall_clock()
        self._attempt_base = self.bytes_moved
        self._changed()

    def has_progressed(self) -> bool:
        before = self._furthest
        if before is None or not is_real_progress(before, self.bytes_done, self.bytes_total):
            return False
        self._furthest = self.bytes_done
        return True

    def pause(self) -> Reason:
        steering = self._context.steering
        return steering.reason(self.kind, (w.turn for w in self._watchers)) if steering else NO_REASON

    def pause_of(self, source: ISource) -> Reason:
        if not (self._context.steering and source.host):
            return NO_REASON
        reason = self.pause()
        return self._context.steering.host_reason(source.host) if reason is NO_REASON else reason

    def wants(self, source: ISource) -> bool:
        steering, identity = self._context.steering, source.identity
        return not steering or any(
            steering.wants(watcher.turn)
            for watcher in self._watchers
            if watcher.source is not None and watcher.source.identity == identity
        )

    def steer(self) -> None:
        """
        A pause has begun or ended: end or begin an attempt accordingly.
        """
        if self._attempts is not None and not self.over:
            self._attempts.steer()

    def reorder(self, job: int) -> None:
        """
        The priority of a job has changed: wait with its new turns.
        """
        for watcher in self._watchers:
            before, turn = watcher.turn, self._context.steering.turn(watcher.turn)
            if before.job == job and turn != before:
                watcher.turn, self._turns = turn, None
                if self._request is not None:
                    # In this order: a request has one turn at least.
                    self._request.add(turn)
                    self._request.discard(before)

    def retry_now(self, host: str) -> None:
        """
        Make the next attempt at a host now, without its delay.
        """
        if self._attempts is not None:
            self._attempts.retry_now(host)

    def attempt_ends(self, source: ISource, error: Exception | None, *, again: bool = False) -> None:
        record = {
            "transfer": self.id,
            "kind": self.kind,
            "digest": str(self.digest),
            "source": source.label,
            "attempt": 0 if self._attempts is None else self._attempts.number,
            "started": self._attempt_started,
            "finished": self._context.wall_clock(),
            "bytes_done": self.bytes_done,
            "bytes_moved": self.bytes_moved - self._attempt_base,
            **outcome(error),
        }
        self._owner.attempted(record, self.turns, again=again)

    # ------------------------------------------------------- for the manager

    def begin(self) -> None:
        """
        Begin the work.
        """
        self.enter("running")
        self._working = Deferred.fromCoroutine(self._perform())
        self._context.background.spawn(self._working.addBoth(self._ended), "while ending a transfer")
        if self.over:
            # The work released the last watcher before it first waited.
            self._cancel_work()

    def cancel(self, error: BaseException) -> None:
        """
        End the transfer, with or without watchers.

        From now on it is over, and has left the queue.  Its work is cancelled
        from a clean turn: what that releases may be the last watcher of
        another transfer.
        """
        self._finish("cancelled", error)
        if self._request is not None and self._request.waiting:
            self._request.release()
        if self._working is not None:
            self._context.eventual.call(self._cancel_work)

    def release_slot(self) -> None:
        """
        Release the slot, though the cancelled work has not ended.
        """
        if self._request is not None:
            self._request.release()

    def pulse(self) -> int:
        """
        Notify all watchers of the progress.

        @return: the number of watchers.
        """
        self._moved = False
        self.activity.sample(self.bytes_done)
        if self._request is not None:
            self._request.sample()
        self._shown = self._standing()
        self._notify_all()
        return len(self._watchers)

    def look(self) -> bool:
        """
        Notify all watchers soon, if the transfer runs and has ceased to move.

        @return: whether it runs.
        """
        if self.state != "running":
            return False
        self.activity.look(self.bytes_done)
        if self._standing() != self._shown or self.activity.rate(self.bytes_done):
            self._changed()
        return True

    def _standing(self) -> tuple[Obstacle, str]:
        """
        The reason without what changes as time passes.
        """
        reason = self.reason()
        return reason.obstacle, reason.whom

    def _slot_reason(self) -> Reason:
        """
        Why it has no slot, or what slows it in its slot.
        """
        return NO_REASON if self._request is None else self._request.reason()

    def _slowed(self) -> Reason:
        """
        What slows the transfer while it runs.
        """
        source = self.source
        host = "" if source is None else source.host
        return self.activity.reason(self._slot_reason(), self.bytes_done, self.bytes_total, host)

    def _made_attempts(self) -> Attempts:
        if self._attempts is None:
            context = self._context
            self._attempts = Attempts(
                self,
                self._slots,
                self._slot_request(),
                clock=context.clock,
                eventual=context.eventual,
                random=context.random,
            )
            for watcher in self._watchers:
                if watcher.source is not None:
                    self._attempts.add(watcher.source)
        return self._attempts

    def _slot_request(self) -> SlotRequest:
        if self._request is None:
            self._request = SlotRequest(
                self.turns,
                position=lambda: self.bytes_done,
                reason_changed=self._changed,
                limited=lambda: self.activity.limit() is not NO_REASON,
            )
        return self._request

    async def _perform(self) -> Any:
        """
        Call the work function; again, if a file or a process could not be opened
        because no descriptor was left.
        """
        while True:
            try:
                return await self._work(self)
            except Exception as e:
                if not is_shortage(e):
                    raise
                self._log.warn(
                    "{kind} of {digest} waits: {why}", kind=self.kind, digest=self.digest, why=str(e)
                )
            with self.wait_for(Reason(Obstacle.FILE_DESCRIPTORS)):
                await deferLater(self._clock, PAUSE)

    def _cancel_work(self) -> None:
        if self._working is not None:
            self._working.cancel()

    def _ended(self, result: Any) -> None:
        self._working = None
        error = result.value if isinstance(result, Failure) else None
        if error is not None and not any(isinstance(e, (XferdError, CancelledError)) for e in causes(error)):
            self._log.failure(
                "{kind} of {digest} failed with an unexpected error",
                failure=result,
                kind=self.kind,
                digest=self.digest,
            )
        if not self.over:
            if error is None:
                self.value = result
            self._finish("done" if error is None else "failed", error)
        if self.state == "done":
            self._drop_work()
        self._owner.work_ended(self)

    def _drop_work(self) -> None:
        """
        Drop what only the work needed: rows of jobs refer to thousands of
        transfers that are done, and each garbage collection visits what these hold.
        """
        if self._attempts is not None:
            self._attempt = self._attempts.number
            if self._attempts.source is not None:
                self._label = self._attempts.source.label
        self._work = _no_work
        self._attempts = self._request = self._activity = None

    def _finish(self, state: str, error: BaseException | None) -> None:
        self.state = state
        self.error = error
        self._context.pulse.ended(self)
        if state != "done":
            self._owner.closed(self)
        self._notify_all()
        for watcher in self._watchers:
            # One call each: what a result sets going may take its time.
            self._context.eventual.call(watcher.deliver)
        facts = {"kind": self.kind, "digest": str(self.digest), "size": self.bytes_done}
        if error is None:
            self._log.info("{kind} of {digest} done: {size} bytes", **facts)
        else:
            # A cancellation has no text.
            why = f": {error}" if str(error) else ""
            self._log.info("{kind} of {digest} {state}{why}", state=state, why=why, **facts)

    def _changed(self) -> None:
        if not self.over:
            self._moved = True
            self._context.pulse.moved(self)

    def _notify_all(self) -> None:
        for watcher in self._watchers:
            self._notify(watcher)

    def _notify(self, watcher: Watching) -> None:
        self._owner.changed(self, watcher.turn)
        if watcher.sink is not None:
            try:
                watcher.sink.put(self.id, self)
            except Exception:
                # IProgressSink.put does not raise; the other watchers must be notified.
                self._log.failure("while notifying a watcher of {kind} {id}", kind=self.kind, id=self.id)


async def _no_work(transfer: Transfer) -> None:
    raise AssertionError(f"the work of {transfer.id} is done")
