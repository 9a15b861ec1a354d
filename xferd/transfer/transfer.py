# -*- test-case-name: tests.transfer.test_transfer -*-
"""
A transfer, one shared piece of work, and its watchers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from uuid import uuid4

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd.errors import XferdError, causes
from xferd.interfaces.transfer import IProgressSink, ISource
from xferd.transfer.attempts import Attempts
from xferd.transfer.eventual import Eventual
from xferd.transfer.fair_queue import Turn
from xferd.transfer.file_descriptors import PAUSE, is_shortage
from xferd.transfer.progress import Rate
from xferd.transfer.reason import NO_REASON, Obstacle, Reason
from xferd.transfer.retry import REAL_PROGRESS
from xferd.transfer.slots import Slots

if TYPE_CHECKING:
    from xferd.transfer.manager import TransferManager

T = TypeVar("T")


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
        manager: TransferManager,
        key: Hashable,
        work: Callable[[Transfer], Awaitable[Any]],
        digest: object,
        slots: Slots,
        *,
        small: bool,
        waits: bool,
    ) -> None:
        """
        @param slots: what its attempts wait for.
        @param waits: whether it waits for its predecessor's work to end.
        """
        self._manager = manager
        self._clock = manager.clock
        self._work = work
        self._working: Deferred[Any] | None = None
        self._watchers: dict[Watcher[Any], None] = {}
        self._attempts = Attempts(self, manager.clock, slots, manager.eventual, manager.random)
        self.id = uuid4().hex[:12]
        self.created = manager.wall_clock()
        self.key = key
        self.kind = manager.kind
        self.digest = digest
        self.small = small
        self.state = "waiting" if waits else "queued"
        self._reason = Reason(Obstacle.PREDECESSOR) if waits else NO_REASON
        self.bytes_done = 0
        self.bytes_total: int | None = None
        self.extra: dict[str, Any] = {}
        self.value: Any = None
        self.error: BaseException | None = None
        self._rate = Rate()
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
        return self._attempts.sources.all()

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
        return await self._attempts.run(attempt, lambda: self._manager.retry)

    def has_another(self, source: ISource) -> bool:
        """
        Whether an attempt with another source could begin now.
        """
        return self._attempts.others(source)

    def slot(self) -> AbstractAsyncContextManager[None]:
        """
        Hold a slot for work that is not tried again::

            async with transfer.slot():
                ...
        """
        return self._attempts.slot()

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
        until = self._attempts.until(self.state)
        source = self._attempts.source or next(iter(self.sources), None)
        return {
            "id": self.id,
            "key": " ".join(map(str, self.key)) if isinstance(self.key, tuple) else str(self.key),
            "kind": self.kind,
            "digest": str(self.digest),
            "state": self.state,
            "watchers": len(self._watchers),
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "rate": self._rate.value(now, self.bytes_done) if self.state == "running" else 0.0,
            "attempt": self._attempts.number,
            "streams": self.extra.get("streams", 0) if self.state == "running" else 0,
            "source": "" if source is None else source.label,
            "until": None if until is None else self._manager.wall_clock() + until - now,
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
            case state:
                return self._attempts.reason(state)

    # ------------------------------------------------------ for the watchers

    def watch(self, source: ISource | None, turn: Turn, sink: IProgressSink | None) -> Watcher[Any]:
        """
        Let somebody watch, from now on.
        """
        watcher: Watcher[Any] = Watcher(self, self._manager.eventual, source, turn, sink)
        self._watchers[watcher] = None
        self._attempts.join(turn, source)
        self._tell(watcher)
        self._tell_soon()
        return watcher

    def leave(self, watcher: Watcher[Any]) -> None:
        """
        A watcher goes.  The last one ends the transfer.
        """
        del self._watchers[watcher]
        if self._watchers:
            self._attempts.part(watcher.turn, watcher.source)
            self._tell_soon()
        elif self.over:
            self._manager.forget(self)
        else:
            self.cancel(CancelledError())

    def outcome(self, watcher: Watcher[Any]) -> Any:
        """
        What there is for a watcher when all is L{over}: the result, or a
        L{Failure <twisted.python.failure.Failure>} with the error of the
        watcher's own source, where every source failed, or of the transfer.
        """
        if self.state == "done":
            return self.value
        error = self.error
        if error is self._attempts.exhaustion:
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
        self._attempt_started = self._manager.wall_clock()
        self._tell_soon()

    def moved_up(self) -> None:
        """
        Something else is true of the place in the queue.
        """
        self._tell_soon()

    def attempt_ends(self, source: ISource, error: Exception | None) -> bool:
        """
        Pass on the facts of an attempt.
        """
        self._manager.attempted(
            {
                "transfer": self.id,
                "kind": self.kind,
                "digest": str(self.digest),
                "source": source.label,
                "attempt": self._attempts.number,
                "started": self._attempt_started,
                "finished": self._manager.wall_clock(),
                "bytes_done": self.bytes_done,
                "code": None if error is None else _code(error),
                "error": None if error is None else _text(error),
            }
        )
        before = self._furthest
        if before is None or self.bytes_done <= before:
            return False
        missing = REAL_PROGRESS if self.bytes_total is None else self.bytes_total - before
        if self.bytes_done - before < min(REAL_PROGRESS, missing):
            return False
        self._furthest = self.bytes_done
        return True

    def tries_again(self, error: Exception) -> None:
        """
        Have it counted that an attempt failed and was not the last.
        """
        self._manager.retries[_code(error)] += 1

    def paused(self) -> None:
        """
        Have all transfers with another source look for it.
        """
        self._manager.look_again()

    # ------------------------------------------------------- for the manager

    def look_again(self) -> None:
        """
        A host was paused: see whether there is another one to turn to.
        """
        if len(self.sources) > 1:
            self._attempts.look_again()

    def begin(self) -> None:
        """
        Begin the work.
        """
        self.enter("running")
        self._working = Deferred.fromCoroutine(self._perform())
        self._manager.background.spawn(self._working.addBoth(self._ended), "while ending a transfer")

    def cancel(self, error: BaseException) -> None:
        """
        End the transfer, with or without watchers.

        From now on it is over.  Its work is cancelled from a clean turn: what
        that releases may be the last watcher of another transfer.
        """
        self._attempts.give_up()
        self._finish("cancelled", error)
        if self._working is not None:
            self._manager.dies(self)
            self._manager.eventual.call(self._cancel_work)

    def let_go_of_slot(self) -> None:
        """
        Hold no slot any more, though the cancelled work has not ended.
        """
        self._attempts.release()

    def pulse(self) -> int:
        """
        Tell the watchers how far the work is.

        @return: how many they are.
        """
        self._moved = False
        self._rate.sample(self._clock.seconds(), self.bytes_done)
        self._attempts.sample()
        self._tell_all()
        return len(self._watchers)

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
        self._manager.ended(self)

    def _finish(self, state: str, error: BaseException | None) -> None:
        self.state = state
        self.error = error
        self._manager.pulse.ended(self)
        self._manager.over(self)
        self._tell_all()
        self._manager.eventual.call(self._deliver)
        facts = {"kind": self.kind, "digest": self.digest, "size": self.bytes_done}
        if error is None:
            self._log.info("{kind} of {digest} done: {size} bytes", **facts)
        else:
            self._log.info("{kind} of {digest} {state}: {error}", state=state, error=repr(error), **facts)

    def _deliver(self) -> None:
        for watcher in list(self._watchers):
            watcher.deliver()

    def _tell_soon(self) -> None:
        if not self.over:
            self._moved = True
            self._manager.pulse.moved(self)

    def _tell_all(self) -> None:
        for watcher in self._watchers:
            self._tell(watcher)

    def _tell(self, watcher: Watcher[Any]) -> None:
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


class Watcher(Generic[T]):
    """
    Somebody's interest in a transfer, until L{release}.

    @ivar transfer: the transfer.
    @ivar source: the source that this watcher brought.
    @ivar turn: in whose turn it waits.
    @ivar sink: where its progress goes: the transfer itself under its C{id},
        whose C{snapshot} is the item.
    """

    def __init__(
        self,
        transfer: Transfer,
        eventual: Eventual,
        source: ISource | None,
        turn: Turn,
        sink: IProgressSink | None,
    ) -> None:
        self.transfer = transfer
        self.source = source
        self.turn = turn
        self.sink = sink
        self._eventual = eventual
        self._waiting: list[Deferred[T]] = []
        self._released = False

    def result(self) -> Deferred[T]:
        """
        Wait for the transfer's result.  Every call has a Deferred of its own.

        @return: fires with what the work returned.  Cancelling it ends the
            wait and nothing else.
        @raise XferdError: what the work failed with; where every source
            failed, what this watcher's own source failed with.
        @raise Interrupted: the manager was stopped.
        @raise CancelledError: the watcher was released.
        """
        d: Deferred[T] = Deferred(self._forget)
        self._waiting.append(d)
        if self._released or self.transfer.over:
            self.deliver()
        return d

    def release(self) -> None:
        """
        Want the transfer no longer.  Idempotent.

        The last watcher's release cancels a transfer that is not over, and
        lets go of the result of one that is.
        """
        if not self._released:
            self._released = True
            self.transfer.leave(self)
            if self._waiting:
                self._eventual.call(self.deliver)

    def deliver(self) -> None:
        """
        Fire what waits for the result.
        """
        while self._waiting:
            d = self._waiting.pop(0)
            # A Failure makes this an errback.
            d.callback(Failure(CancelledError()) if self._released else self.transfer.outcome(self))

    def _forget(self, d: Deferred[T]) -> None:
        self._waiting.remove(d)
