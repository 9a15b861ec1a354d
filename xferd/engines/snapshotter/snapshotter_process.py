# -*- test-case-name: tests.engines.snapshotter.test_snapshotter_process -*-
"""
The daemon's end of its connection with the snapshotter: a process of its own, which the
daemon starts if none runs.  The daemon names the engines to serve, and provides layers.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from typing import Final, NoReturn

from google.protobuf.empty_pb2 import Empty
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger
from twisted.python.failure import Failure

from xferd._version import __version__
from xferd.engines.grpc.listener import GrpcListener
from xferd.engines.grpc.service import Call, GrpcService, raw_streaming, raw_unary
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.snapshotter.command import (
    command,
    is_running,
    lock_of_snapshotter,
    log_of_snapshotter,
    socket_of_daemon,
)
from xferd.engines.snapshotter.layer_source import LayerSource
from xferd.engines.snapshotter.trail import EngineTrail
from xferd.engines.snapshotter.wire import (
    SERVICE,
    EngineReport,
    Hello,
    Provided,
    Report,
    Served,
    ServedEngine,
    Wanted,
    decode,
    encode,
)
from xferd.errors import EngineFailed, XferdError
from xferd.interfaces.engines import EngineContext
from xferd.interfaces.layer_source import NotProvided
from xferd.store.disk.file_system import make_directory, trying_to

START_TIME: Final = 20.0
"""Seconds that the process has to start, or to find a daemon that has started."""

CHECK: Final = 1.0
"""Seconds between two looks for the process while it is not attached."""


class SnapshotterProcess:
    """
    The process that serves all containerds.

    States: made; started; stopped.  While started, the process is I{attached} or not.
    """

    _log = Logger()

    def __init__(
        self, engines: Mapping[str, ServedEngine], source: LayerSource, context: EngineContext
    ) -> None:
        """
        @param engines: those to serve, by name.
        """
        self._source = source
        self._reactor = context.reactor
        self._tables = context.store.snapshots
        self._trail = EngineTrail(context.reactor)
        self._data_dir = context.data_dir
        self._served = Served(__version__, context.jobs.isolated, engines)
        methods = {
            "Attach": raw_streaming(self._attach),
            "Report": raw_unary(self._receive),
            "Provide": raw_streaming(self._provide),
        }
        self._service = GrpcService(SERVICE, methods)
        self._listener: GrpcListener | None = None
        self._hello: Hello | None = None
        self._reports: Mapping[str, EngineReport] = {}
        self._waiting: list[Deferred[None]] = []
        self._problem = ""
        self._timer: IDelayedCall | None = None
        self._looking: Deferred[None] | None = None
        self._reading: Deferred[None] | None = None
        self._started = self._stopped = self._stale = False

    def start(self) -> Deferred[None]:
        """
        Start the process, if none runs, and have it serve.  Idempotent.

        @return: fires when it reports what it serves.  Cancelling ends the wait.
        @raise XferdError: it does not, and the text is the reason.
        """
        return Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        if not self._started:
            self._started = True
            with trying_to(f"use {self._data_dir}"):
                make_directory(os.path.dirname(lock_of_snapshotter(self._data_dir)), 0o700)
                path = socket_of_daemon(self._data_dir)
            self._listener = GrpcListener(path, [self._service], self._reactor)
            self._listener.start()
            self._look()
        if self._hello is not None and self._reports.keys() >= self._served.engines.keys():
            return
        waiter: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        await waiter.addTimeout(START_TIME, self._reactor, self._late)

    def _late(self, *_: object) -> NoReturn:
        why = self._problem or f"see {log_of_snapshotter(self._data_dir)}"
        raise EngineFailed(f"the snapshotter has not connected to xferd within {START_TIME:.0f} s: {why}")

    def stop(self) -> Deferred[None]:
        """
        Leave the process to itself: it serves the engines, without new layers.
        Idempotent, also without L{start}.
        """
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for each in (self._looking, self._reading):
            if each is not None:
                each.cancel()
        # Its calls end with UNAVAILABLE, and wait for the next daemon.
        if self._listener is not None:
            await self._listener.stop(0)

    @property
    def problem(self) -> str | None:
        """
        Why no engine is served at present, or L{None}.
        """
        if self._hello is not None:
            return None
        return self._problem or "the snapshotter is not running; xferd starts it again"

    def report(self, name: str) -> EngineReport:
        """
        The last state of an engine.
        """
        return self._reports.get(name, EngineReport(None))

    # The service.

    async def _attach(self, request: bytes, _: Call) -> AsyncGenerator[bytes, None]:
        """
        The process is there, as long as this runs.
        """
        hello = decode(Hello, request)
        if self._hello is not None:
            raise GrpcError(Status.FAILED_PRECONDITION, f"process {self._hello.pid} is attached")
        self._hello = hello
        self._problem = ""
        try:
            yield encode(self._served)
            self._log.info("the snapshotter (process {pid}) is attached", pid=hello.pid)
            if is_in_unit_of(hello.pid):
                self._log.warn(
                    "the snapshotter (process {pid}) ends with xferd, and pulls of engines with it: install "
                    "xferd-snapshotter.service",
                    pid=hello.pid,
                )
            # Cancelled when the process or the daemon ends.
            await Deferred(lambda _: None)
        finally:
            self._hello = None
            if not self._stopped:
                self._log.warn("the snapshotter (process {pid}) has gone", pid=hello.pid)
                self._look()

    async def _receive(self, request: bytes, _: Call) -> Empty:
        """
        The process reports what it serves, and that snapshots have changed.
        """
        self._reports = decode(Report, request).engines
        for name, report in self._reports.items():
            self._trail.reported(name, report.removed, report.last_removed)
        self._read()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)
        return Empty()

    async def _provide(self, request: bytes, _: Call) -> AsyncGenerator[bytes, None]:
        """
        The process asks for a layer.
        """
        asked = decode(Wanted, request)
        self._trail.asked(asked.engine, asked.wanted)
        try:
            promise = await self._source.obtain(asked.engine, asked.wanted, asked.below, asked.credentials)
        except NotProvided as e:
            if self._stopped:
                # The next daemon provides it.
                raise GrpcError(Status.UNAVAILABLE, "xferd is stopping") from e
            self._log.info(
                "containerd {name} fetches and unpacks {layer} of {image} itself: {why}",
                name=asked.engine,
                layer=asked.wanted.chain_id,
                image=asked.wanted.named or "an image",
                why=str(e),
            )
            yield encode(Provided(str(e)))
            return
        try:
            yield encode(Provided.of(promise))
            # Cancelled when the snapshot is recorded, or the process ends.
            await Deferred(lambda _: None)
        finally:
            promise.release()

    # The process.

    def _look(self) -> None:
        """
        Start the process if it does not run, and look again until it is attached.
        """
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._stopped or self._hello is not None or self._looking is not None:
            return
        self._looking = Deferred.fromCoroutine(self._start_process())
        _ = self._looking.addBoth(self._looked)

    def _looked(self, _: object) -> None:
        self._looking = None
        if not self._stopped and self._hello is None:
            self._timer = self._reactor.callLater(CHECK, self._look)

    async def _start_process(self) -> None:
        """
        Start the process if it does not run.
        """
        try:
            if is_running(self._data_dir):
                return
            program, *argv = command("--detach", self._data_dir)
            _, errors, code = await getProcessOutputAndValue(
                program, argv, {"PATH": os.defpath}, "/", self._reactor
            )
        except CancelledError:
            raise
        except OSError as e:
            self._problem = f"cannot start the snapshotter: {e.strerror}"
        else:
            if code == 0:
                return
            reason = errors.decode(errors="replace").strip().rpartition("\n")[2]
            self._problem = f"cannot start the snapshotter: {reason}"
        self._log.error("{problem}", problem=self._problem)

    def _read(self) -> None:
        """
        Read the snapshots, for the page.
        """
        # What changes during a reading needs another one.
        self._stale = True
        if self._reading is None and not self._stopped:
            self._stale = False
            self._reading = self._tables.reload()
            _ = self._reading.addErrback(self._unread).addBoth(self._was_read)

    def _unread(self, reason: Failure) -> None:
        # The next report, or the next collection, reads them again.
        reason.trap(CancelledError, XferdError)

    def _was_read(self, _: object) -> None:
        self._reading = None
        if self._stale:
            self._read()


def is_in_unit_of(pid: int, own: str = "self", root: str = "/proc") -> bool:
    """
    Whether systemd ends a process with another one: both are in the control group of one
    service.

    @param own: the other process.
    @param root: where proc(5) is mounted.
    """
    try:
        with open(f"{root}/{own}/cgroup", encoding="utf-8") as file:
            ours = file.read()
        with open(f"{root}/{pid}/cgroup", encoding="utf-8") as file:
            theirs = file.read()
    except OSError:
        return False
    return ours == theirs and ours.strip().endswith(".service")
