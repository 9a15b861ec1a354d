# -*- test-case-name: tests.unpack.unpacker -*-
"""
The unpacking of one layer, on the reactor's side.
"""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGKILL, SIGSYS
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from xferd.errors import BadLayer, DiskFull, StoreError, WorkerLost, XferdError
from xferd.interfaces.store import Unpacked
from xferd.interfaces.unpack import Displaced, ILayerTask, UnpackProgress
from xferd.names import Digest
from xferd.owners import Owners
from xferd.unpack import protocol

WAKE_SIZE: Final = 1024 * 1024
"""New bytes of a blob that are worth waking the layer's process for."""

TURN_SIZE: Final = 32 * 1024 * 1024
"""Bytes of a blob that a layer may read in one turn; older layers have their turns first."""

_ERRORS: Final[dict[str, type[XferdError]]] = {e.code: e for e in (BadLayer, StoreError, DiskFull)}


@implementer(ILayerTask)
class LayerTask:
    """
    The unpacking of one layer, from its request until its process has ended.

    States: waiting (no process yet); hungry (its process has read all that it
    may); running; ending (its process is being killed, or has sent its result);
    ended.

    @ivar moving: returns whether more bytes of the blob are arriving.
    @ivar silence: seconds since its process reported anything, while it has
        work; counted by the unpacker.
    @ivar killed: whether its process is being killed.
    """

    def __init__(
        self,
        number: int,
        task: dict[str, Any],
        notify: Callable[[UnpackProgress], None],
        moving: Callable[[], bool],
        send: Callable[[bytes], None],
        schedule: Callable[[], None],
    ) -> None:
        """
        @param number: its number, in the order of requests.
        @param task: the body of C{begin}.
        @param send: sends a line to the worker.
        @param schedule: called when it can use a turn, is hungry or has ended.
        """
        self.number = number
        self.moving = moving
        self.silence = 0.0
        self.killed = False
        self.progress = UnpackProgress()
        self.begun = False
        self.hungry = True
        self._task, self._notify, self._send, self._schedule = task, notify, send, schedule
        self._path: str | None = None
        self._size = self._granted = 0
        self._sealed = self._granted_all = False
        self._abandoned = self._displaced = False
        self._stall = ""
        self._implied: list[bytes] = []
        self._outcome: Unpacked | XferdError | None = None
        self._ended = False
        self._waiter: Deferred[None] | None = None
        self.result: Deferred[Unpacked] = Deferred.fromCoroutine(self._run())

    # ---------------------------------------------------------- IFollower
    def grown(self, path: str, size: int) -> None:
        self._path, self._size = path, size
        self._request_turn()

    def sealed(self, path: str, size: int) -> None:
        self._path, self._size, self._sealed = path, size, True
        self._request_turn()

    def restarted(self) -> None:
        self.abandon()

    def _request_turn(self) -> None:
        if self.is_ready():
            self._schedule()

    # --------------------------------------------- called by the unpacker

    @property
    def staged(self) -> str:
        """
        The directory that becomes the tree.
        """
        return str(self._task["staged"])

    @property
    def is_over(self) -> bool:
        """
        Whether its process has ended, or will never start.
        """
        return self._ended

    @property
    def is_running(self) -> bool:
        """
        Whether its process has bytes to read.
        """
        return self.begun and not self.hungry and not self._ended

    @property
    def is_wanted(self) -> bool:
        """
        Whether its process, if any, is neither ended nor being killed.
        """
        return not self.killed and not self._ended

    @property
    def is_idle(self) -> bool:
        """
        Whether its process waits for bytes while none arrive.
        """
        waits = self.begun and self.hungry and self.is_wanted and not self._sealed
        return waits and self._outcome is None and not self.moving()

    def is_ready(self) -> bool:
        """
        Whether it can use a turn.
        """
        if not self.hungry or not self.is_wanted or self._outcome is not None or self._path is None:
            return False
        if self._sealed:
            return not self._granted_all
        if not self.begun and not self.moving():
            return False
        return self._size - self._granted >= WAKE_SIZE

    @property
    def queued(self) -> bool:
        return self.is_ready()

    def feed(self) -> None:
        """
        Give it a turn: permit its process to read further, and start the
        process first if there is none.
        """
        if not self.begun:
            self.begun = True
            self._send(protocol.address(self.number, protocol.encode("begin", **self._task)))
        self.hungry = False
        self.silence = 0.0
        self._granted = min(self._size, self._granted + TURN_SIZE)
        self._granted_all = self._sealed and self._granted == self._size
        grown = protocol.encode("grown", path=self._path, size=self._granted, sealed=self._granted_all)
        self._send(protocol.address(self.number, grown))

    def received(self, verb: str, body: dict[str, Any]) -> None:
        """
        Handle a message from the process.
        """
        self.silence = 0.0
        if verb == "ended":
            self.ended(WorkerLost(_death(body["status"])))
        elif verb == "hungry":
            self.hungry = True
            # Its last report of progress may be older.
            if body["consumed"] > self.progress.consumed:
                self._progressed(body["consumed"], self.progress.entries)
            self._schedule()
        elif verb == "progress":
            self._progressed(body["consumed"], body["entries"])
        elif verb == "implied":
            self._implied += [path.encode("latin-1") for path in body["paths"]]
        elif verb == "result":
            self._outcome = Unpacked(
                Digest.parse(body["diff_id"]),
                body["tar_size"],
                body["size"],
                body["entries"],
                tuple(self._implied),
                Owners.from_json(body["owners"]),
            )
        else:
            assert verb == "error", verb
            self._outcome = _ERRORS.get(body["code"], WorkerLost)(body["message"])

    def _progressed(self, consumed: int, entries: int) -> None:
        self.progress = UnpackProgress(consumed, entries)
        if not self._abandoned:
            self._notify(self.progress)

    def ended(self, why: WorkerLost) -> None:
        """
        Record that its process has ended.

        @param why: the error, if the process has sent neither result nor error.
        """
        self._ended = True
        if self._outcome is None:
            self._outcome = WorkerLost(self._stall) if self._stall else why
        self._wake()
        self._schedule()

    def abandon(self) -> None:
        """
        End the work; L{result} fails with CancelledError.  Idempotent.
        """
        if self._abandoned or self._ended:
            return
        self._abandoned = True
        if self.begun:
            self._kill()
        else:
            self.ended(WorkerLost("no process has begun"))

    def displace(self) -> None:
        """
        End the process to free its slot for another layer's.
        """
        self._displaced = True
        self._kill()

    def fail_stalled(self, seconds: float) -> None:
        """
        End the process because it made no progress for some seconds.
        """
        self._stall = f"the process that unpacked the layer made no progress for {seconds:g} s"
        self._kill()

    def _kill(self) -> None:
        if not self.killed:
            self.killed = True
            self.silence = 0.0
            self._send(protocol.address(self.number, protocol.encode("cancel")))

    # ------------------------------------------------------------ result

    async def _run(self) -> Unpacked:
        """
        Wait for the end of the process, also when cancelled: until then it may
        write into the staging directory.
        """
        while not self._ended:
            # No canceller: a cancellation ends this wait, and the loop waits again.
            self._waiter = Deferred()
            try:
                await self._waiter
            except CancelledError:
                self.abandon()
        if self._abandoned:
            raise CancelledError
        if isinstance(self._outcome, Unpacked):
            return self._outcome
        if self._displaced:
            # Its own error, if it had one, occurs again at the next try.
            raise Displaced("the process that unpacked the layer was ended in favour of another layer")
        assert self._outcome is not None
        raise self._outcome

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)


def _death(status: int) -> str:
    """
    The reason why a process ended before it had sent a result.
    """
    if status == -SIGKILL:
        return "the process that unpacked the layer was killed; the machine may be short of memory"
    if status == -SIGSYS:
        return "the process that unpacked the layer made a system call that its sandbox forbids"
    if status < 0:
        return f"the process that unpacked the layer died of signal {-status}"
    return f"the process that unpacked the layer ended with status {status}"
