# -*- test-case-name: tests.engines.snapshotter.test_snapshotter_process -*-
"""
The snapshotter: it serves engines, whether the daemon is there or not.

It makes all snapshots by itself.  The daemon says which engines to serve, and provides
layers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from xferd._version import __version__
from xferd.engines.grpc.status import GrpcError
from xferd.engines.snapshotter.command import settings_of_snapshotter, socket_of_daemon
from xferd.engines.snapshotter.daemon_link import DaemonLink
from xferd.engines.snapshotter.served_engine import EngineServer, Files
from xferd.engines.snapshotter.wire import EngineReport, Report, Served, decode, encode
from xferd.errors import XferdError
from xferd.interfaces.reactor import IUnixReactor, WallClock
from xferd.store.disk.file_system import trying_to, write_file
from xferd.store.paths import Paths
from xferd.store.threads import delay_cancellation

IDLE: Final = 60.0
"""Seconds without the daemon, and without a client, after which a snapshotter that the
daemon has started ends."""


RENEWAL: Final = 0.5
"""Seconds between two looks for a moment without calls, to make place for another version."""


class SnapshotServer:
    """
    Serves engines.

    States: made; started; stopped.
    """

    _log = Logger()

    def __init__(
        self,
        files: Files,
        reactor: IUnixReactor,
        wall_clock: WallClock,
        ended: Callable[[bool], object],
        lasting: bool,
    ) -> None:
        """
        @param ended: called when the process is not needed any more; with true if another
            one has to take its place.
        @param lasting: whether it is needed at all times.
        """
        self._files = files
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._ended = ended
        self._lasting = lasting
        self._path = settings_of_snapshotter(files.data_dir)
        self._servers: dict[str, EngineServer] = {}
        self._problems: dict[str, str] = {}
        self._applying = DeferredLock()
        self._timer: IDelayedCall | None = None
        self._renewal: IDelayedCall | None = None
        self.link = DaemonLink(socket_of_daemon(files.data_dir), reactor, self.serve, self.report)

    async def start(self) -> None:
        """
        Serve what was served the last time, and follow the daemon.
        """
        served = await self._files.threads.run(self._read)
        if served is not None:
            await self._apply(served)
        self.link.start()
        self._timer = self._reactor.callLater(IDLE, self._check_use)

    async def stop(self) -> None:
        """
        Serve nothing any more.
        """
        for timer in (self._timer, self._renewal):
            if timer is not None and timer.active():
                timer.cancel()
        self.link.stop()
        async with self._applying:
            for name in list(self._servers):
                await self._stop(name)

    def serve(self, served: Served) -> Deferred[None]:
        """
        Serve these engines, and no others.  What an engine cannot be served for is in the
        report.  Cancelling waits for the end.
        """
        return delay_cancellation(Deferred.fromCoroutine(self._serve(served)))

    async def _serve(self, served: Served) -> None:
        try:
            await self._files.threads.run(self._write, served)
        except XferdError as e:
            self._log.warn("what is served is not kept for the next start: {why}", why=str(e))
        await self._apply(served)
        if not served.engines and not self._lasting:
            self._ended(False)
        if served.version != __version__ and self._renewal is None:
            self._log.info("xferd {version} is there; its snapshotter takes over", version=served.version)
            self._renew()

    def _renew(self) -> None:
        """
        End as soon as no call is running, to make place for a process of the daemon's
        version.
        """
        if any(each.busy for each in self._servers.values()):
            self._renewal = self._reactor.callLater(RENEWAL, self._renew)
        else:
            self._ended(True)

    def report(self) -> Report:
        """
        The state of all engines.
        """
        problems = self._problems
        return Report(
            {name: EngineReport(why) for name, why in problems.items()}
            | {name: each.report(problems.get(name)) for name, each in self._servers.items()}
        )

    def changed(self) -> None:
        """
        The snapshots have changed.
        """
        self.link.changed()

    async def _apply(self, served: Served) -> None:
        async with self._applying:
            for name, server in list(self._servers.items()):
                if server.settings != served.engines.get(name) or server.isolated != served.isolated:
                    await self._stop(name)
            self._problems = {}
            for name, settings in served.engines.items():
                if name in self._servers:
                    continue
                server = EngineServer(
                    name,
                    settings,
                    self._files,
                    self.link,
                    self._reactor,
                    self._wall_clock,
                    served.isolated,
                )
                try:
                    await server.start()
                except XferdError as e:
                    self._problems[name] = str(e)
                except Exception:
                    self._problems[name] = "internal error; see the snapshotter's log"
                    self._log.failure("while starting to serve {name}", name=name)
                else:
                    self._servers[name] = server
                    self._log.info("serving containerd {name} at {path}", name=name, path=settings.socket)

    async def _stop(self, name: str) -> None:
        server = self._servers.pop(name)
        await server.stop()
        self._log.info("containerd {name} is not served any more", name=name)

    def _check_use(self) -> None:
        """
        End the process if neither a daemon nor an engine uses it.
        """
        since = self.link.away_since
        unused = since is not None and self._reactor.seconds() - since >= IDLE
        connections = sum(each.connections for each in self._servers.values())
        if unused and not connections and not self._lasting:
            self._log.info("no daemon and no engine for {seconds} s", seconds=IDLE)
            self._ended(False)
            return
        self._timer = self._reactor.callLater(IDLE, self._check_use)

    def _read(self) -> Served | None:
        """
        Read what was served the last time.  Blocking.
        """
        try:
            with open(self._path, "rb") as file:
                return decode(Served, file.read())
        except FileNotFoundError:
            return None
        except (OSError, GrpcError) as e:
            self._log.warn("cannot read {path}: {why}", path=self._path, why=str(e))
            return None

    def _write(self, served: Served) -> None:
        """
        Keep what is served for a start without the daemon.  Blocking.
        """
        with trying_to(f"write {self._path}"):
            if not served.engines:
                if os.path.lexists(self._path):
                    os.unlink(self._path)
                return
            content = json.dumps(json.loads(encode(served)), indent=1).encode()
            write_file(self._path, content, Paths(self._files.data_dir).staging)
