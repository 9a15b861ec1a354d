# -*- test-case-name: tests.unpack.unpacker -*-
"""
The reactor's side of unpacking: it decides which layers compute, and when.

One worker process forks a process for each layer (L{xferd.unpack.worker}).  A
layer's process reads its blob as far as the unpacker permits, and reports when
it is hungry.  So this module schedules computing: at any time at most
C{workers} layers have bytes to read, in the order of their requests and in
turns of 32 MiB.  A layer whose bytes stall is hungry and delays no other: its
process sleeps.

A layer's process begins when its bytes arrive, or when all of them are here and
it has a turn.  There are at most C{workers} more processes than layers whose
bytes arrive: a process that waits for bytes while none arrive is ended when
another layer needs its place.

Every wait for a process is bounded.  A process that has bytes to read and
reports nothing for a minute is killed.  If that does not end it, the worker is
killed; if that does not end the worker, a new one replaces it.

A layer gets permission for a MiB or more at a time, except at the blob's end:
waking a process for each segment from the network costs more than it gains.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final

from attrs import asdict
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall, IProcessTransport, IReactorProcess, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

import xferd
from xferd.descriptors import limited
from xferd.errors import WorkerLost
from xferd.interfaces.unpack import ILayerTask, IUnpacker, UnpackLimits, UnpackProgress
from xferd.unpack import protocol
from xferd.unpack.layer_task import WAKE_SIZE, LayerTask
from xferd.unpack.sandbox import MEASURES

GRACE: Final = 5.0
"""Seconds that processes have to end after SIGTERM, and after SIGKILL."""

STALL: Final = 60.0
"""Seconds after which a process that has bytes and reports nothing is killed."""

TICK: Final = 1.0
"""Seconds between two checks of the processes."""

_START: Final = (
    "import sys; root = sys.argv[1]; root in sys.path or sys.path.insert(0, root); "
    "from xferd.unpack.worker import main; main()"
)
"""Instead of C{-m}: in isolated mode, Python finds only installed packages."""


class IUnpackReactor(IReactorProcess, IReactorTime):
    """
    The reactor of an L{Unpacker}.
    """


class _WorkerProcess(ProcessProtocol):
    """
    The connection to the worker.

    Twisted calls C{processEnded} after the worker has ended and its pipes are
    closed.  Its layers' processes share its standard error, so they have ended
    too.
    """

    _log = Logger()
    transport: IProcessTransport

    def __init__(
        self,
        received: Callable[[int, str, dict[str, Any]], None],
        lost: Callable[[_WorkerProcess, str], None],
    ) -> None:
        """
        @param received: called with each message.
        @param lost: called with this process and the reason, when it has ended.
        """
        self._received, self._lost = received, lost
        self._lines, self._complaints = protocol.Lines(), protocol.Lines()
        self._deaf = False

    def send(self, line: bytes) -> None:
        """
        Send a line.  A worker that has closed its end is about to be lost.
        """
        if not self._deaf:
            self.transport.writeToChild(0, line)

    def signal(self, name: str) -> None:
        """
        Send a signal, unless the worker has ended.
        """
        try:
            self.transport.signalProcess(name)
        except ProcessExitedAlready:
            pass  # processEnded is about to be called

    def inConnectionLost(self) -> None:
        self._deaf = True

    def outReceived(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._line(line)

    def errReceived(self, data: bytes) -> None:
        for line in self._complaints.feed(data):
            self._log.error("the unpacking worker says: {text}", text=line.decode("utf-8", "replace"))

    def processEnded(self, reason: Failure) -> None:
        self._lost(self, reason.getErrorMessage())

    def _line(self, line: bytes) -> None:
        """
        Handle a message.  One that cannot be handled is a bug; the next one is
        handled all the same.
        """
        try:
            number, rest = protocol.split(line)
            self._received(number, *protocol.decode(rest))
        except Exception:
            self._log.failure("a message of the unpacking worker could not be taken")


@implementer(IUnpacker)
class Unpacker:
    """
    Unpacks layers in processes of their own.

    Life cycle: stopped, L{start}ed, L{stop}ped.  If the worker ends by itself,
    its layers fail with L{WorkerLost}, and the next layer starts another
    worker.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: IUnpackReactor,
        *,
        workers: int,
        limits: UnpackLimits,
        descriptors: int | None = None,
        stall: float = STALL,
    ) -> None:
        """
        @param workers: how many layers may compute at a time.
        @param descriptors: the processes' soft limit of open files; by default
            our own.
        @param stall: seconds for which a process that has bytes may report
            nothing.
        """
        self._descriptors = descriptors
        self._reactor, self._workers = reactor, workers
        self._limits = asdict(limits)
        self._stall = stall
        self.sandbox: dict[str, str] | None = None
        self._layers: dict[int, LayerTask] = {}
        self._requests = 0
        self._process: _WorkerProcess | None = None
        self._stopped: list[Deferred[None]] = []
        self._timers: list[IDelayedCall] = []
        self._stopping = False
        self._ticking: IDelayedCall | None = None
        self._dying = 0.0

    @property
    def workers(self) -> int:
        """
        If raised, layers that wait begin at once; if lowered, running layers
        continue.
        """
        return self._workers

    @workers.setter
    def workers(self, workers: int) -> None:
        self._workers = workers
        self._schedule()

    @property
    def least(self) -> int:
        return WAKE_SIZE

    @property
    def busy(self) -> int:
        return sum(layer.is_running for layer in self._layers.values())

    def start(self) -> None:
        self._stopping = False
        if self._process is None:
            self._spawn()

    def unpack(
        self,
        staged: str,
        compression: str,
        notify: Callable[[UnpackProgress], None],
        algorithm: str = "sha256",
        moving: Callable[[], bool] = lambda: True,
    ) -> ILayerTask:
        number = self._requests
        self._requests += 1
        task = {
            "staged": staged,
            "compression": compression,
            "algorithm": algorithm,
            "limits": self._limits,
        }
        layer = self._layers[number] = LayerTask(number, task, notify, moving, self._send, self._schedule)
        if self._stopping:
            layer.abandon()
        return layer

    def stop(self) -> Deferred[None]:
        """
        Unfinished layers are cancelled.  The worker gets C{SIGTERM}, then
        C{SIGKILL}; if that does not end it, either, the wait ends with an error
        in the log.
        """
        self._stopping = True
        for layer in list(self._layers.values()):
            layer.abandon()
        process = self._process
        # No canceller: stopping cannot be taken back.
        stopped: Deferred[None] = Deferred()
        if process is None:
            stopped.callback(None)
            return stopped
        self._stopped.append(stopped)
        if not self._timers:
            process.signal("TERM")
            self._timers = [
                self._reactor.callLater(GRACE, process.signal, "KILL"),
                self._reactor.callLater(2 * GRACE, self._give_up),
            ]
        return stopped

    def _spawn(self) -> _WorkerProcess:
        """
        Start the worker with an empty environment.
        """
        process = self._process = _WorkerProcess(self._received, self._lost)
        root = os.path.dirname(os.path.dirname(os.path.abspath(xferd.__file__)))
        argv = [sys.executable, "-I", "-X", "utf8", "-c", _START, root]
        if self._descriptors is not None:
            argv = limited(self._descriptors, argv)
        self._reactor.spawnProcess(
            process,
            argv[0],
            argv,
            env={},
            path="/",
            childFDs={0: "w", 1: "r", 2: "r"},
        )
        return process

    def _send(self, line: bytes) -> None:
        (self._process or self._spawn()).send(line)

    def _received(self, number: int, verb: str, body: dict[str, Any]) -> None:
        """
        Pass a message to its layer.
        """
        if number == protocol.WORKER:
            self._confined(body["missing"])
            return
        layer = self._layers.get(number)
        if layer is not None:
            layer.received(verb, body)

    def _confined(self, missing: dict[str, str]) -> None:
        """
        Record and log which measures of the sandbox are in force.
        """
        # Landlock replaces the mount namespace where that is missing.
        measures = [each for each in MEASURES if each != "landlock" or "mounts" in missing]
        sandbox = {each: missing.get(each, "") for each in measures}
        if sandbox == self.sandbox:
            return  # an earlier worker has reported the same
        self.sandbox = sandbox
        if missing:
            lacks = "; ".join(f"{measure} ({why})" for measure, why in sorted(missing.items()))
            self._log.warn("layers are unpacked in a sandbox without {lacks}", lacks=lacks)
        else:
            self._log.info("layers are unpacked in a sandbox that is complete")

    def _lost(self, process: _WorkerProcess, reason: str) -> None:
        """
        Record the end of the worker and of all layers' processes.
        """
        if process is not self._process:
            return  # it was abandoned
        self._process, self._dying = None, 0.0
        if not self._stopping:
            self._log.error("the unpacking worker ended on its own: {reason}", reason=reason)
        for layer in [layer for layer in self._layers.values() if layer.begun]:
            layer.ended(WorkerLost(f"the unpacking worker ended: {reason}"))
        self._finish_stop()
        self._schedule()

    def _give_up(self) -> None:
        """
        Stop waiting for a worker that does not end.
        """
        self._log.error("the unpacking worker does not end; giving it up")
        self._finish_stop()

    def _finish_stop(self) -> None:
        timers, self._timers = self._timers, []
        for timer in timers:
            if timer.active():
                timer.cancel()
        stopped, self._stopped = self._stopped, []
        for waiter in stopped:
            waiter.callback(None)

    def _schedule(self) -> None:
        """
        Give turns to layers, in the order of their requests.
        """
        self._layers = {number: layer for number, layer in self._layers.items() if not layer.is_over}
        if not self._stopping and self._dying == 0:
            free = self._workers - self.busy
            for layer in [layer for layer in self._layers.values() if layer.is_ready()]:
                if free <= 0:
                    break
                if layer.begun or self._can_begin():
                    layer.feed()
                    free -= 1
        if not any(layer.begun for layer in self._layers.values()):
            if self._ticking is not None:
                self._ticking.cancel()
                self._ticking = None
        elif self._ticking is None:
            self._ticking = self._reactor.callLater(TICK, self._tick)

    def _can_begin(self) -> bool:
        """
        Whether another process may begin.  If not, end the idle process that
        has read least.
        """
        layers = self._layers.values()
        most = self._workers + sum(layer.is_wanted and layer.moving() for layer in layers)
        processes = [layer for layer in layers if layer.begun]
        if len(processes) < most:
            return True
        if sum(not layer.killed for layer in processes) >= most:
            idle = [layer for layer in processes if layer.is_idle]
            if idle:
                min(idle, key=lambda layer: layer.progress.consumed).displace()
        return False

    def _tick(self) -> None:
        """
        Kill processes that have bytes to read and report nothing.

        Time is counted in ticks: a pause of the daemon itself does not count
        as silence of a process.
        """
        self._ticking = None
        process = self._process
        if self._dying and process is not None:
            self._dying += TICK
            if self._dying > GRACE:
                self._log.error("the unpacking worker does not end; continuing without it")
                self._lost(process, "it did not answer and could not be killed")
                return
        for layer in list(self._layers.values()):
            if not (layer.is_running or layer.killed) or layer.is_over:
                continue
            layer.silence += TICK
            if layer.killed and layer.silence > GRACE and process is not None and not self._dying:
                self._log.error("the unpacking worker does not answer; it is killed")
                self._dying = TICK
                process.signal("KILL")
            elif not layer.killed and layer.silence > self._stall:
                self._log.warn("a layer in {staged} makes no progress", staged=layer.staged)
                layer.fail_stalled(self._stall)
        self._schedule()
