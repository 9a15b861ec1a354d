# -*- test-case-name: tests.engines.snapshotter.test_daemon_link -*-
"""
The snapshotter's end of its connection with the daemon.

The daemon may go at any time: it is restarted, or killed.  A call for a layer that is
running then waits for its return, and is sent again: it changes only the store,
in which the daemon finds what it has downloaded.  If the daemon does not return in time,
the engine unpacks the layer itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from xferd._version import __version__
from xferd.credentials import Credentials
from xferd.engines.grpc.client import GrpcClient
from xferd.engines.grpc.client_stream import ClientStream
from xferd.engines.grpc.status import GrpcError, Status
from xferd.engines.snapshotter.wire import (
    ATTACH,
    PROVIDE,
    REPORT,
    Hello,
    Provided,
    Report,
    Served,
    Wanted,
    decode,
    encode,
)
from xferd.interfaces.layer_source import ILayerSource, NotProvided, Promise, WantedLayer
from xferd.interfaces.reactor import IUnixReactor
from xferd.names import Digest

PATIENCE: Final = 20.0
"""
Seconds without the daemon in which calls wait for its return.  systemd restarts a daemon
that was killed after 5, and its start takes some more.
"""

RETRY: Final = 0.25
"""Seconds between two attempts to connect."""

LAG: Final = 1.0
"""Seconds between two reports, at least: engines change many snapshots at once, and the
daemon reads all of them."""


@implementer(ILayerSource)
class DaemonLink:
    """
    Has layers provided by the daemon.

    States: away (from the beginning); attached, once the daemon has said what to serve;
    away again; stopped.

    @ivar away_since: when the daemon went, by the reactor's clock; L{None} while it is
        attached.
    """

    _log = Logger()

    def __init__(
        self,
        path: str,
        reactor: IUnixReactor,
        served: Callable[[Served], Deferred[None]],
        report: Callable[[], Report],
    ) -> None:
        """
        @param path: the daemon's socket.
        @param served: called with what to serve, each time the daemon is there.
        @param report: makes the present report.
        """
        self._reactor = reactor
        self._client = GrpcClient(path, reactor, max_delay=RETRY)
        self._served = served
        self._report = report
        self.away_since: float | None = reactor.seconds()
        self._waiting: list[Deferred[bool]] = []
        self._running: Deferred[None] | None = None
        self._reporting: Deferred[None] | None = None
        self._timers: dict[str, IDelayedCall] = {}
        self._stopped = False

    @property
    def away(self) -> bool:
        return self.away_since is not None

    def start(self) -> None:
        """
        Connect as soon as the daemon is there, and again whenever it returns.
        """
        self._timers["patience"] = self._reactor.callLater(PATIENCE, self._answer, False)
        self._attach()

    def stop(self) -> None:
        """
        Close the connection: no layer is provided any more.
        """
        self._stopped = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        for each in (self._running, self._reporting):
            if each is not None:
                each.cancel()
        self._client.close()
        self._answer(False)

    def changed(self) -> None:
        """
        Report to the daemon, soon.
        """
        timer = self._timers.get("report")
        if not (self.away or self._stopped or (timer is not None and timer.active())):
            self._timers["report"] = self._reactor.callLater(LAG, self._send_report)

    def obtain(
        self,
        engine: str,
        wanted: WantedLayer,
        below: Digest | None,
        credentials: Mapping[str, Credentials],
    ) -> Deferred[Promise]:
        request = encode(Wanted(engine, wanted, below, credentials))
        return Deferred.fromCoroutine(self._obtain(request))

    async def _obtain(self, request: bytes) -> Promise:
        while True:
            if not await self._present():
                raise NotProvided("the daemon is not running")
            try:
                return await self._ask(request)
            except GrpcError as e:
                if e.code is not Status.UNAVAILABLE:
                    raise NotProvided(e.message) from e
                # The connection is lost, or the daemon stops.
                self._lost()

    async def _ask(self, request: bytes) -> Promise:
        """
        Ask for a layer.

        @raise GrpcError: the daemon has no answer.
        """
        call: ClientStream = await self._client.begin(PROVIDE)
        try:
            call.send(request)
            call.finish()
            answer = await call.receive()
            if answer is None:
                raise GrpcError(Status.INTERNAL, "the daemon sent no answer")
            provided = decode(Provided, answer)
            if provided.declined is not None:
                raise NotProvided(provided.declined)
        except BaseException:
            call.cancel()
            raise
        return Promise(provided.number, provided.size, provided.how, call.cancel)

    def _present(self) -> Deferred[bool]:
        """
        Wait for the daemon.

        @return: fires with whether it is there.  Cancelling ends the wait.
        """
        waiter: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiter)
        if not self.away and not self._stopped:
            self._answer(True)
        elif self._stopped or not self._timers["patience"].active():
            self._answer(False)
        return waiter

    def _answer(self, present: bool) -> None:
        """
        End the waits for the daemon.
        """
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(present)

    def _lost(self) -> None:
        """
        The daemon has gone.
        """
        if self.away or self._stopped:
            return
        self.away_since = self._reactor.seconds()
        self._timers["patience"] = self._reactor.callLater(PATIENCE, self._answer, False)
        self._log.info("the daemon has gone; pulls wait {seconds} s for its return", seconds=PATIENCE)
        if self._running is not None:
            self._running.cancel()

    def _attach(self) -> None:
        """
        Try to attach.
        """
        self._running = Deferred.fromCoroutine(self._follow())
        _ = self._running.addBoth(self._ended)

    def _ended(self, _: object) -> None:
        self._running = None
        self._lost()
        if not self._stopped:
            self._timers["attach"] = self._reactor.callLater(RETRY, self._attach)

    async def _follow(self) -> None:
        """
        Follow the daemon as long as it is there.
        """
        hello = encode(Hello(os.getpid(), __version__))
        try:
            async with aclosing(self._client.raw_streaming(ATTACH, hello)) as messages:
                async for message in messages:
                    await self._served(decode(Served, message))
                    self._arrived()
        except (GrpcError, CancelledError):
            # An attempt that fails is not worth a line.
            pass
        except Exception:
            self._log.failure("while following the daemon")

    def _arrived(self) -> None:
        """
        The daemon has said what to serve.
        """
        self.away_since = None
        if self._timers["patience"].active():
            self._timers["patience"].cancel()
        self._log.info("the daemon is there")
        self._send_report()
        self._answer(True)

    def _send_report(self) -> None:
        """
        Report now.
        """
        if self._reporting is not None:
            # After the report that is being sent.
            self.changed()
            return
        sending = Deferred.fromCoroutine(self._client.raw_unary(REPORT, encode(self._report())))
        self._reporting = sending.addBoth(lambda _: None)
        _ = self._reporting.addBoth(self._reported)

    def _reported(self, _: object) -> None:
        self._reporting = None
