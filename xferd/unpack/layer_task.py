# -*- test-case-name: tests.unpack.test_unpacker -*-
"""
One layer that is being unpacked, as the reactor sees it.
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
from xferd.unpack import protocol

WAKE_SIZE: Final = 1024 * 1024
"""Bytes of blob for which a layer's process is woken."""

TURN_SIZE: Final = 32 * 1024 * 1024
"""Bytes of blob that a layer may read before an older one goes first again."""

_ERRORS: Final[dict[str, type[XferdError]]] = {e.code: e for e in (BadLayer, StoreError, DiskFull)}


@implementer(ILayerTask)
class LayerTask:
    """
    One layer, from the first byte told of until its process is gone.

    States: waiting (no process yet); hungry (its process has read all that it
    was told of); running; ending (its process is being killed, or has said its
    last word); ended.

    @ivar moving: reports whether more bytes of the blob are arriving.
    @ivar silence: seconds since its process reported something, or since it
        had to; counted by the unpacker.
    @ivar killed: whether its process is being killed.
    """

    def __init__(
        self,
        number: int,
        task: dict[str, Any],
        notify: Callable[[UnpackProgress], None],
        moving: Callable[[], bool],
        say: Callable[[bytes], None],
        schedule: Callable[[], None],
    ) -> None:
        """
        @param number: its place among all layers.
        @param task: the body of C{begin}.
        @param say: sends a line to the worker.
        @param schedule: called when it has news, is hungry or is gone.
        """
        self.number = number
        self.moving = moving
        self.silence = 0.0
        self.killed = False
        self.progress = UnpackProgress()
        self.begun = False
        self.hungry = True
        self._task, self._notify, self._say, self._schedule = task, notify, say, schedule
        self._path: str | None = None
        self._size = self._told = 0
        self._sealed = self._told_seal = False
        self._abandoned = self._yielded = False
        self._stall = ""
        self._implied: list[bytes] = []
        self._outcome: Unpacked | XferdError | None = None
        self._ended = False
        self._waiter: Deferred[None] | None = None
        self.result: Deferred[Unpacked] = Deferred.fromCoroutine(self._live())

    # ------------------------------------------------------ from the blob

    def grown(self, path: str, size: int) -> None:
        self._path, self._size = path, size
        self._news()

    def sealed(self, path: str, size: int) -> None:
        self._path, self._size, self._sealed = path, size, True
        self._news()

    def restarted(self) -> None:
        self.abandon()

    def _news(self) -> None:
        """
        Ask for a turn if there is need of one.
        """
        if self.is_ready():
            self._schedule()

    # ------------------------------------------------------ for the unpacker

    @property
    def staged(self) -> str:
        """
        The directory that becomes the tree.
        """
        return str(self._task["staged"])

    @property
    def is_over(self) -> bool:
        """
        Whether nothing more will be heard of it.
        """
        return self._ended

    @property
    def is_running(self) -> bool:
        """
        Whether its process has something to read.
        """
        return self.begun and not self.hungry and not self._ended

    @property
    def is_wanted(self) -> bool:
        """
        Whether it goes on: its process, if it has one, is not being killed.
        """
        return not self.killed and not self._ended

    @property
    def is_idle(self) -> bool:
        """
        Whether its process waits for bytes of which none arrive.
        """
        waits = self.begun and self.hungry and self.is_wanted and not self._sealed
        return waits and self._outcome is None and not self.moving()

    def is_ready(self) -> bool:
        """
        Whether a turn would be of use.
        """
        if not self.hungry or not self.is_wanted or self._outcome is not None or self._path is None:
            return False
        if self._sealed:
            return not self._told_seal
        if not self.begun and not self.moving():
            return False
        return self._size - self._told >= WAKE_SIZE

    def feed(self) -> None:
        """
        Take a turn: say how far to read, and begin if it has not.
        """
        if not self.begun:
            self.begun = True
            self._say(protocol.address(self.number, protocol.encode("begin", **self._task)))
        self.hungry = False
        self.silence = 0.0
        self._told = min(self._size, self._told + TURN_SIZE)
        self._told_seal = self._sealed and self._told == self._size
        told = protocol.encode("grown", path=self._path, size=self._told, sealed=self._told_seal)
        self._say(protocol.address(self.number, told))

    def heard(self, verb: str, body: dict[str, Any]) -> None:
        """
        Take a word of the process.
        """
        self.silence = 0.0
        if verb == "ended":
            self.ended(WorkerLost(_death(body["status"])))
        elif verb == "hungry":
            self.hungry = True
            self._schedule()
        elif verb == "progress":
            self.progress = UnpackProgress(body["consumed"], body["entries"])
            if not self._abandoned:
                self._notify(self.progress)
        elif verb == "implied":
            self._implied += [path.encode("latin-1") for path in body["paths"]]
        elif verb == "result":
            self._outcome = Unpacked(
                Digest.parse(body["diff_id"]),
                body["tar_size"],
                body["size"],
                body["entries"],
                tuple(self._implied),
            )
        else:
            assert verb == "error", verb
            self._outcome = _ERRORS.get(body["code"], WorkerLost)(body["message"])

    def ended(self, why: WorkerLost) -> None:
        """
        Note that its process is gone.

        @param why: the error, if the process has not said its last word.
        """
        self._ended = True
        if self._outcome is None:
            self._outcome = WorkerLost(self._stall) if self._stall else why
        self._wake()
        self._schedule()

    def abandon(self) -> None:
        """
        End the work.  Idempotent.
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
        End the process, because others can use its place.
        """
        self._yielded = True
        self._kill()

    def fail_stalled(self, seconds: float) -> None:
        """
        End the process, because it made no progress for so long.
        """
        self._stall = f"the process that unpacked the layer made no progress for {seconds:g} s"
        self._kill()

    def _kill(self) -> None:
        if not self.killed:
            self.killed = True
            self.silence = 0.0
            self._say(protocol.address(self.number, protocol.encode("cancel")))

    # ------------------------------------------------------ its life

    async def _live(self) -> Unpacked:
        """
        Wait for the end of the process, come what may: until then it may
        write into the staging directory.
        """
        while not self._ended:
            # No canceller: cancelling ends the wait, and the loop waits on.
            self._waiter = Deferred()
            try:
                await self._waiter
            except CancelledError:
                self.abandon()
        if self._abandoned:
            raise CancelledError
        if isinstance(self._outcome, Unpacked):
            return self._outcome
        if self._yielded:
            # Its own error, if it had one, comes again.
            raise Displaced("the process that unpacked the layer made room for another layer")
        assert self._outcome is not None
        raise self._outcome

    def _wake(self) -> None:
        """
        Let L{_live} look again.
        """
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)


def _death(status: int) -> str:
    """
    What befell a process that ended without its last word.
    """
    if status == -SIGKILL:
        return "the process that unpacked the layer was killed; the machine may be short of memory"
    if status == -SIGSYS:
        return "the process that unpacked the layer made a system call that its sandbox forbids"
    if status < 0:
        return f"the process that unpacked the layer died of signal {-status}"
    return f"the process that unpacked the layer ended with status {status}"
