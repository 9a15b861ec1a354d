# -*- test-case-name: tests.transfer.test_transfer -*-
"""
A transfer, one shared piece of work, and its watchers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, Final, Protocol, TypeVar
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import XferdError, causes
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.real_progress import is_real_progress
from xferd.transfer.attempts import Attempts
from xferd.transfer.context import TransferContext
from xferd.transfer.fair_queue import Turn
from xferd.transfer.file_descriptors import PAUSE, is_shortage
from xferd.transfer.progress import Rate
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots

T = TypeVar("T")


class Watching(Protocol):
    """
    A watcher, as its transfer needs it.

    @ivar turn: in whose turn it waits.
    @ivar source: the source that it brings.
    @ivar sink: where its progress goes.
    """

    turn: Turn
    source: ISource | None
    sink: IProgressSink | None

    def deliver(self) -> None:
        """
        Fire what waits for the result.
        """


class Owner(Protocol):
    """
    What a transfer reports to.
    """

    def closed(self, transfer: Transfer) -> None:
        """
        A transfer may not be joined any more: it failed, was cancelled, or is
        done and has no watcher.
        """

    def work_ended(self, transfer: Transfer) -> None:
        """
        The work of a transfer has ended.
        """

    def attempted(self, record: Mapping[str, Any], *, again: bool) -> None:
        """
        An attempt has ended.

        @param record: as for C{on_attempt} of
            L{TransferManager <xferd.transfer.manager.TransferManager>}.
        @param again: whether it failed, and another follows.
        """


class Transfer:
    """
    One shared piece of work, with those who watch it.

    Its work function is given this object, and uses L{attempts} or L{slot},
    L{report} and L{wait}.  It runs in nobody's name: it is cancelled when the
    last watcher has gone, and by nothing else.

    Life cycle, by C{state}:

      - C{queued}: it waits for its turn.
      - C{running}: its work goes on.
      - C{backing-off}: an attempt failed; it waits, without a slot, to try again.
      - C{waiting}: it waits, without a slot, for something else than a slot.
      - C{done}, C{failed}: its work has ended.
      - C{cancelled}: nobody wants it; its work has ended or is about to.

    @ivar id: unique, over restarts too.
    @ivar created: the wall clock's time when it was first asked for.
    @ivar key: what the work is; equal keys are equal work.
    @ivar digest: what it is about, for people.
    @ivar state: see above.
    @ivar bytes_done: how many bytes are there.
    @ivar bytes_total: how many there will be, or L{None} if nobody knows.
    @ivar extra: what else the work reported, newest values.
    @ivar small: whether it waits for the slots of small transfers.
    @ivar value: what the work returned, once it is C{done}.
    @ivar error: what it failed with, once it is C{failed} or C{cancelled}.
    """

    _log = Logger()

    def __init__(
        self,
        context: TransferContext,
        owner: Owner,
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
        self._request: SlotRequest | None = None
        self._attempts: Attempts | None = None
        self._rate: Rate | None = None
        self.id = uuid4().hex[:12]
        self.created = context.wall_clock()
        self.key = key
        self.kind = context.kind
        self.digest = digest
        self.small = small
        self.state = "waiting" if waits else "queued"
        self._reason = Reason(Obstacle.PREDECESSOR) if waits else NO_REASON
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self.extra: dict[str, Any] = {}
        self.value: Any = None
        self.error: BaseException | None = None
        self._moved = False
        self._placed = False
        self._furthest: int | None = None
        self._attempt_started = self.created

    # ------------------------------------------------- for the work function

    @property
    def sources(self) -> list[ISource]:
        """
        The sources that the watchers brought, each once, in their order.
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
        Have C{attempt} made with one source after another, in a slot, until
        it succeeds.

          - What is retryable is tried again after a while, without a slot in
            between, or at once with another source.
          - What is the source's own fault goes on with the next source.
          - Wrong bytes mark the source; another one is tried at once or,
            failing that, this one once more.
          - What is L{Postponed <xferd.transfer.attempts.Postponed>}, or could
            not be opened for want of a file descriptor, is no failure: it is
            waited for without a slot, unless another source can go on.
          - Everything else fails at once.

        A transfer has one slot at a time, so this and L{slot} are not for
        use at the same time.

        @raise Exception: what the last attempt failed with.
        """
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
        return await self._attempts.run(attempt, self._context.policy)

    def has_another(self, source: ISource) -> bool:
        """
        Whether an attempt with another source could begin now.
        """
        return self._attempts is not None and self._attempts.others(source)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """
        Hold a slot, without a host, for work that is not tried again::

            async with transfer.slot():
                ...
        """
        if self.over:
            raise CancelledError
        request = self._slot_request()
        acquired = self._slots.acquire(request)
        try:
            if not request.held:
                self.enter("queued")
            await acquired
            self.enter("running")
            yield
        finally:
            request.release()

    def wait(self, why: str) -> AbstractContextManager[None]:
        """
        Be C{waiting} in here.  The work should not hold a slot.

        @param why: for what, for people: "waiting for the parent layer".
        """
        return self.wait_for(Reason(Obstacle.WORK, detail=why))

    def report(self, bytes_done: int | None = None, bytes_total: int | None = None, **extra: Any) -> None:
        """
        Say how far the work is.  This is made to be called for every piece.

        The first report of an attempt says where the attempt begins; what
        lies before that was not moved by it.
        """
        if self.over:
            return  # The last word has been said.
        if bytes_done is not None:
            self.bytes_done = bytes_done
            if not self._placed:
                self._placed = True
                if self._rate is None:
                    self._rate = Rate()
                self._rate.begin(self._clock.seconds(), bytes_done)
                if self._furthest is None:
                    self._furthest = bytes_done
        if bytes_total is not None:
            self.bytes_total = bytes_total
        if extra:
            self.extra.update(extra)
        if not self._moved:
            self._tell_soon()

    # ---------------------------------------------------------- for everybody

    @property
    def over(self) -> bool:
        """
        Whether there is a result, or nobody wants one.
        """
        return self.state in _OVER

    def snapshot(self) -> dict[str, Any]:
        """
        The transfer as it is now, for people and programs.

        C{until} is the wall clock's time at which the wait for L{reason} is
        over, or L{None} if that is not known.
        """
        now = self._clock.seconds()
        until = self._until()
        attempts, running = self._attempts, self.state == "running"
        source = None if attempts is None else attempts.source
        if source is None:
            source = next((w.source for w in self._watchers if w.source is not None), None)
        rate = 0.0 if self._rate is None or not running else self._rate.value(now, self.bytes_done)
        return {
            "id": self.id,
            "key": " ".join(map(str, self.key)) if isinstance(self.key, tuple) else str(self.key),
            "kind": self.kind,
            "digest": str(self.digest),
            "state": self.state,
            "watchers": len(self._watchers),
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "rate": rate,
            "attempt": 0 if attempts is None else attempts.number,
            "streams": self.extra.get("streams", 0) if running else 0,
            "source": "" if source is None else source.label,
            "until": None if until is None else self._context.wall_clock() + until - now,
        }

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
            case "queued" | "running" if self._request is not None:
                return self._request.reason()
        return NO_REASON

    # ------------------------------------------------------ for the watchers

    def join(self, watcher: Watching) -> None:
        """
        Add a watcher.
        """
        self._watchers[watcher] = None
        if self._request is not None:
            self._request.add(watcher.turn)
        if self._attempts is not None and watcher.source is not None:
            self._attempts.add(watcher.source)
        self._tell(watcher)
        self._tell_soon()

    def leave(self, watcher: Watching) -> None:
        """
        Remove a watcher.  Without any the transfer is cancelled, unless it is
        L{over}.
        """
        del self._watchers[watcher]
        if self._watchers:
            if self._request is not None:
                self._request.discard(watcher.turn)
            if self._attempts is not None and watcher.source is not None:
                self._attempts.drop(watcher.source)
            self._tell_soon()
        elif self.over:
            self._owner.closed(self)
        else:
            self.cancel(CancelledError())

    def outcome(self, watcher: Watching) -> Any:
        """
        What there is for a watcher when all is L{over}: the result, or a
        L{Failure <twisted.python.failure.Failure>} with the error of the
        watcher's own source, where every source failed, or of the transfer.
        """
        if self.state == "done":
            return self.value
        error = self.error
        if self._attempts is not None and error is self._attempts.exhaustion:
            error = self._attempts.sources.error_of(watcher.source) or error
        return Failure(error)

    # ----------------------------------------------------- for the attempts

    def enter(self, state: str) -> None:
        """
        Be in another state, and say so.
        """
        if not self.over and (state != self.state or state == "waiting"):
            self.state = state
            self._tell_all()

    @contextmanager
    def wait_for(self, reason: Reason) -> Iterator[None]:
        """
        Be C{waiting} in here.
        """
        before = self.state, self._reason
        self._reason = reason
        self.enter("waiting")
        try:
            yield
        finally:
            state, self._reason = before
            self.enter(state)

    def attempt_begins(self) -> None:
        """
        An attempt begins; the next report says where.
        """
        self._placed = False
        self._attempt_started = self._context.wall_clock()
        self._tell_soon()

    def has_progressed(self) -> bool:
        """
        Whether L{real progress <is_real_progress>} has been made since this was
        last true.
        """
        before = self._furthest
        if before is None or not is_real_progress(before, self.bytes_done, self.bytes_total):
            return False
        self._furthest = self.bytes_done
        return True

    def attempt_ends(self, source: ISource, error: Exception | None, *, again: bool = False) -> None:
        """
        Report an attempt to the owner.
        """
        record = {
            "transfer": self.id,
            "kind": self.kind,
            "digest": str(self.digest),
            "source": source.label,
            "attempt": 0 if self._attempts is None else self._attempts.number,
            "started": self._attempt_started,
            "finished": self._context.wall_clock(),
            "bytes_done": self.bytes_done,
            "code": None if error is None else _code(error),
            "error": None if error is None else _text(error),
        }
        self._owner.attempted(record, again=again)

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
        Tell the watchers how far the work is.

        @return: how many they are.
        """
        self._moved = False
        if self._rate is not None:
            self._rate.sample(self._clock.seconds(), self.bytes_done)
        if self._request is not None:
            self._request.sample()
        self._tell_all()
        return len(self._watchers)

    def _until(self) -> float | None:
        """
        The clock's time at which the wait for L{reason} is over.
        """
        if self.state == "queued" and self._request is not None:
            return self._request.until()
        if self.state == "backing-off" and self._attempts is not None:
            return self._attempts.sources.next_try()
        return None

    def _slot_request(self) -> SlotRequest:
        if self._request is None:
            self._request = SlotRequest(
                (watcher.turn for watcher in self._watchers),
                position=lambda: self.bytes_done,
                reason_changed=self._tell_soon,
            )
        return self._request

    async def _perform(self) -> Any:
        """
        Do the work; again, where a file or a process could not be opened for
        want of a descriptor.
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
        if not isinstance(result, Failure):
            if not self.over:
                self.value = result
                self._finish("done", None)
        else:
            assert result.value is not None
            if not any(isinstance(e, (XferdError, CancelledError)) for e in causes(result.value)):
                self._log.failure(
                    "{kind} of {digest} broke", failure=result, kind=self.kind, digest=self.digest
                )
            if not self.over:
                self._finish("failed", result.value)
        self._owner.work_ended(self)

    def _finish(self, state: str, error: BaseException | None) -> None:
        self.state = state
        self.error = error
        self._context.pulse.ended(self)
        if state != "done":
            self._owner.closed(self)
        self._tell_all()
        for watcher in self._watchers:
            # One call each: what a result sets going may take its time.
            self._context.eventual.call(watcher.deliver)
        facts = {"kind": self.kind, "digest": self.digest, "size": self.bytes_done}
        if error is None:
            self._log.info("{kind} of {digest} done: {size} bytes", **facts)
        else:
            self._log.info("{kind} of {digest} {state}: {error}", state=state, error=repr(error), **facts)

    def _tell_soon(self) -> None:
        if not self.over:
            self._moved = True
            self._context.pulse.moved(self)

    def _tell_all(self) -> None:
        for watcher in self._watchers:
            self._tell(watcher)

    def _tell(self, watcher: Watching) -> None:
        if watcher.sink is not None:
            try:
                watcher.sink.put(self.id, self)
            except Exception:
                # It promised not to.  The other watchers must not suffer.
                self._log.failure("while telling of {kind} {id}", kind=self.kind, id=self.id)


_OVER: Final = frozenset({"done", "failed", "cancelled"})


def _code(error: BaseException) -> str:
    """
    The word for an error that programs know.
    """
    if isinstance(error, CancelledError):
        return "CANCELLED"
    return next((e.code for e in causes(error) if isinstance(e, XferdError)), XferdError.code)


def _text(error: BaseException) -> str:
    """
    The text that goes with it.
    """
    ours = next((e for e in causes(error) if isinstance(e, XferdError)), error)
    return str(ours) or type(ours).__name__
