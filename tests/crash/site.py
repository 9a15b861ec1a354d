"""
A daemon that is killed and started again, and the registries that it works with.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.crash.traffic import Queues, queues, transports
from tests.integration.peers import PeerFailed
from tests.integration.programs import Xferd
from tests.integration.test_daemon import API
from xferd.interfaces.reactor import IReactor
from xferd.testing.answers import Exchange
from xferd.testing.registry import Registry

PATIENCE: Final = 120.0
"""Seconds in which all jobs have to end."""

LIMITS: Final = {"downloads": 3, "ranges": 1, "download_rate": 0, "upload_rate": 0}
"""The limits that no kind of work changes."""


ENDS: Final = ("daemon", "start")
"""The victims after which a daemon has to be started."""


class Wrong(AssertionError):
    """
    A check failed.
    """


@frozen
class Kill:
    """
    One kill, and what it met.

    @ivar after: seconds from the beginning of the work, or of the start of a daemon.
    @ivar victim: C{daemon}, C{start} (a daemon that starts), C{worker} or C{layer}.
    @ivar uploads: the upload sessions that were open.
    @ivar staged: the entries of C{staging/}.
    @ivar queues: the sockets with the registry that sends.
    @ivar log: the exchanges of this registry as they were.
    @ivar answered: the number of its exchanges when the connections of a killed daemon were gone.
    """

    after: float
    victim: str
    uploads: int
    staged: int
    queues: Queues
    log: Sequence[Exchange]
    answered: int = 0

    def __str__(self) -> str:
        return (
            f"{self.victim} killed after {self.after:.3f} s, with {self.queues.streams} streams, "
            f"{self.uploads} uploads, {self.staged} entries in staging"
        )


@frozen
class Site:
    """
    The place of one campaign.

    @ivar place: a directory of its own.
    """

    reactor: IReactor
    place: Path
    _daemons: list[Xferd] = field(factory=list)

    @property
    def daemon(self) -> Xferd:
        """
        The last daemon that was started.
        """
        return self._daemons[-1]

    @property
    def data(self) -> Path:
        """
        The data directory.
        """
        return self.place / "x" / "data"

    def make(self) -> Xferd:
        """
        Make a daemon.
        """
        self._daemons[:] = [Xferd(self.reactor, str(self.place / "x"), "--config", str(self.place / "toml"))]
        return self.daemon

    async def configure(self, limits: Mapping[str, int]) -> None:
        """
        Set the limits of this daemon and of the next ones.
        """
        limits = {**LIMITS, **limits}
        text = "".join(f"{name} = {limit}\n" for name, limit in limits.items())
        (self.place / "toml").write_text(f"grace = 0\n[retry]\nbase = 0.1\ncap = 0.5\n[limits]\n{text}")
        if self._daemons:
            await self.api("PATCH", "limits", limits)
        else:
            await self.make().start()

    async def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """
        Send a request to the daemon.
        """
        found = await API(self.daemon)(method, path, body)
        if isinstance(found, dict) and (error := found.get("error")) and "id" not in found:
            raise Wrong(f"{method} {path}: {error}")
        return found

    async def begin(self, kind: str, reference: str | None, **more: Any) -> str:
        """
        Begin a job that continues by itself.

        @return: its ID.
        """
        job = await self.api(
            "POST", "jobs", {"kind": kind, "reference": reference, "restart": "always", **more}
        )
        return str(job["id"])

    async def jobs(self) -> dict[str, Mapping[str, Any]]:
        """
        The last jobs, by ID.
        """
        return {job["id"]: job for job in await self.api("GET", "jobs?limit=100")}

    def sleep(self, seconds: float) -> Deferred[None]:
        """
        Wait.
        """
        return deferLater(self.reactor, seconds)

    async def kill(self, victim: str, after: float, source: Registry, target: Registry) -> Kill:
        """
        Kill the daemon, its worker or one of its layer processes; the daemon, if there is none.

        @param victim: as in L{Kill}.
        """
        pid = self.daemon.pid
        chosen = pid if (found := victim_of(pid, victim)) is None else found
        # Nothing moves between the look and the kill but bytes within the kernel.
        os.kill(pid, signal.SIGSTOP)
        kill = Kill(
            after,
            victim if found is not None else "daemon",
            target.sessions,
            len(os.listdir(self.data / "staging")),
            queues(source),
            # Until it hears of the kill, the registry counts further bytes as sent.
            [copy(exchange) for exchange in source.log],
        )
        try:
            os.kill(chosen, signal.SIGKILL)
        except ProcessLookupError:
            # The process of a layer has just ended by itself.
            chosen, kill = pid, evolve(kill, victim="daemon")
            os.kill(chosen, signal.SIGKILL)
        if chosen == pid:
            await self.daemon.stop("KILL")
            deadline = self.reactor.seconds() + PATIENCE
            while transports(source):
                if self.reactor.seconds() > deadline:
                    raise Wrong("the connections of a killed daemon stay")
                await self.sleep(0.01)
        else:
            os.kill(pid, signal.SIGCONT)
        return evolve(kill, answered=len(source.log))

    def begin_start(self) -> Deferred[None]:
        """
        Begin to start the next daemon, which is killed before or soon after it is ready.

        @return: fires when it is ready or has ended.
        """
        starting = Deferred.fromCoroutine(self.make().start())
        return starting.addErrback(lambda reason: reason.trap(PeerFailed) and None)


def children(pid: int) -> list[int]:
    """
    The children of a process; none if it has ended.
    """
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def victim_of(pid: int, victim: str) -> int | None:
    """
    The process to kill.

    @return: L{None} if there is none of this kind.
    """
    if victim in ENDS:
        return pid
    workers = [c for c in children(pid) if b"xferd.unpack.worker" in Path(f"/proc/{c}/cmdline").read_bytes()]
    found = workers if victim == "worker" else [c for worker in workers for c in children(worker)]
    return found[0] if found else None
