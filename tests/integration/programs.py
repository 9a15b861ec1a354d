"""
Programs that run until they are stopped: the daemon, and dockerd.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.python.failure import Failure

from tests.integration.forked_daemons import ForkedProcess, forker
from tests.integration.peers import PeerFailed, require, run
from xferd.engines.snapshotter.command import command, lock_of_snapshotter

ROOT = str(Path(__file__).resolve().parents[2])
"""The directory of the packages C{xferd} and C{tests}."""

TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
XFERCTL = [sys.executable, "-c", "from xferd.ctl.main import console; raise SystemExit(console())"]


def environment() -> dict[str, str]:
    """
    The environment of xferd's own programs: that of the test, and these
    packages.
    """
    # The tests do not use the credentials of the user who runs them, unless they name them.
    own = os.environ.get("DOCKER_CONFIG", os.devnull)
    return {
        **os.environ,
        "PYTHONPATH": ROOT,
        "XFERD_HOST": "",
        "PYTHONUNBUFFERED": "1",
        "DOCKER_CONFIG": own,
    }


class Program(ProcessProtocol):
    """
    A program that runs in the background.

    Life cycle: made; started, once it has printed the text that shows that it
    is ready; ended.

    @ivar environment: its environment.
    @ivar descriptors: its file descriptors, as for C{spawnProcess}.
    @ivar output: its output so far, stdout and stderr together.
    @ivar ended: fires when it has ended.
    """

    def __init__(self, reactor: IReactorProcess, argv: Sequence[str], ready: str, directory: str) -> None:
        """
        @param ready: the text that it prints when it is ready.
        @param directory: where to run it.
        """
        self.output = ""
        self.ended: Deferred[None] = Deferred()  # Nothing cancels the end of a process.
        self._reactor = reactor
        self._argv = list(argv)
        self._ready = ready
        self._directory = directory
        self.environment = environment()
        self.descriptors: dict[int, str | int] = {0: "w", 1: "r", 2: "r"}
        self._process: IProcessTransport | None = None
        self._starting: Deferred[None] = Deferred(lambda _: self.signal("KILL"))

    async def start(self) -> None:
        """
        Start it, and wait until it is ready.

        @raise PeerFailed: it ended before; with its output.
        """
        self._process = await self._spawn()
        await self._starting

    async def _spawn(self) -> IProcessTransport:
        program = require(self._argv[0])
        return self._reactor.spawnProcess(
            self,
            program,
            [program, *self._argv[1:]],
            self.environment,
            self._directory,
            childFDs=self.descriptors,
        )

    def signal(self, name: str) -> None:
        """
        Send a signal, unless it has ended.
        """
        try:
            if self._process is not None:
                self._process.signalProcess(name)
        except ProcessExitedAlready:
            pass

    async def stop(self, signal: str = "TERM") -> None:
        """
        End it, and wait for its end.
        """
        self.signal(signal)
        if self._process is not None:
            self._process = None
            await self.ended

    @property
    def pid(self) -> int:
        """
        Its process ID, while it runs.
        """
        assert self._process is not None
        assert self._process.pid is not None
        return int(self._process.pid)

    def outReceived(self, data: bytes) -> None:
        """
        Look for the text that shows that it is ready.
        """
        self.output += data.decode(errors="replace")
        if self._ready in self.output and not self._starting.called:
            self._starting.callback(None)

    def errReceived(self, data: bytes) -> None:
        """
        Look for it on stderr as well.
        """
        self.outReceived(data)

    def processEnded(self, reason: Failure) -> None:
        """
        Record the end of the process.
        """
        reason.trap(ProcessDone, ProcessTerminated)
        # What waits for the start may start it again.
        self.ended.callback(None)
        if not self._starting.called:
            self._starting.errback(PeerFailed(f"{self._argv[0]} ended: {self.output}"))


class Xferd(Program):
    """
    C{twistd -n xferd}, on a unix socket in a directory of its own.

    @ivar data: the data directory.
    @ivar url: C{unix:<path>}, for xferctl.
    """

    def __init__(
        self, reactor: IReactorProcess, directory: str, *options: str, before: Sequence[str] = ()
    ) -> None:
        """
        @param directory: is created; its content stays for the next daemon.
        @param options: further options of C{twistd xferd}.
        @param before: a program that runs the rest of its command line.
        """
        place = Path(directory).absolute()
        place.mkdir(parents=True, exist_ok=True)
        self.data = str(place / "data")
        self.socket = str(place / "s")
        self.url = f"unix:{self.socket}"
        argv = [*TWISTD, "-n", "--pidfile=", "xferd", "--data-dir", self.data, "--socket", self.socket]
        if "--listen" not in options:
            options = ("--listen", "tcp:0:interface=127.0.0.1", *options)
        super().__init__(reactor, [*before, *argv, *options], " is ready;", str(place))

    async def _spawn(self) -> IProcessTransport:
        # What changes the interpreter itself needs one of its own.
        if self._argv[: len(TWISTD)] != TWISTD or "LD_PRELOAD" in self.environment:
            return await super()._spawn()
        found = forker()
        while not found.is_ready():
            await deferLater(self._reactor, 0.02)  # type: ignore[arg-type]
        return ForkedProcess(
            *(self._reactor, None, self._argv[len(TWISTD) :], self.environment, self._directory, self),
            childFDs=self.descriptors,
        )

    async def reload(self) -> None:
        """
        Let the daemon read its settings again.
        """
        before = self.output.count("reloaded the settings")
        self.signal("HUP")
        while self.output.count("reloaded the settings") == before:
            await self.ctl("status")

    async def end_snapshotter(self) -> None:
        """
        End the process that serves engines, which outlives the daemon.
        """
        program, *argv = command("--stop", self.data)
        await run(self._reactor, [program, *argv])

    def snapshotter(self) -> int:
        """
        The process ID of that process; 0 while it is being started.
        """
        process, _, _ = Path(lock_of_snapshotter(self.data)).read_text().partition(" ")
        return int(process or 0)

    @property
    def page(self) -> str:
        """
        The address of its status page, once it listens.
        """
        match = re.search(r"WebSite starting on ([0-9]+)", self.output)
        assert match is not None, self.output
        return f"http://127.0.0.1:{match[1]}/"

    async def ctl(self, *arguments: str, variables: Mapping[str, str] | None = None) -> str:
        """
        Run xferctl.

        @param variables: further ones of its environment.
        @return: its output.
        @raise PeerFailed: it failed.
        """
        output, errors, code = await self.try_ctl(*arguments, variables=variables)
        if code != 0:
            raise PeerFailed(f"xferctl {' '.join(arguments)} ended with {code}: {errors}")
        return output

    async def try_ctl(
        self, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> tuple[str, str, int]:
        """
        Run xferctl.

        @param variables: further ones of its environment.
        @return: its stdout, its stderr, and its exit status.
        """
        program, *options = XFERCTL
        output, errors, code = await getProcessOutputAndValue(
            program,
            [*options, "--host", self.url, *arguments],
            {**environment(), **(variables or {})},
            None,
            self._reactor,
        )
        return output.decode(), errors.decode(), code

    async def show(self, *arguments: str) -> list[Mapping[str, Any]]:
        """
        Run xferctl with C{--json}.

        @return: the decoded output.
        """
        return [json.loads(line) for line in (await self.ctl(*arguments, "--json")).splitlines()]


class Dockerd(Program):
    """
    dockerd, with a data directory and a socket of its own.

    @ivar command: the command line of docker for this daemon.
    @ivar host: the address of its socket.
    """

    def __init__(
        self,
        reactor: IReactorProcess,
        directory: str,
        *options: str,
        program: str = "dockerd",
        driver: Sequence[str] = ("--storage-driver=overlay2",),
        before: Sequence[str] = (),
    ) -> None:
        """
        @param directory: is created.
        @param options: further options of dockerd.
        @param program: its name, or its path if it is not Debian's.
        @param driver: the options that choose the storage driver.
        @param before: a program that runs the rest of its command line, in a mount
            namespace of its own.
        """
        place = Path(directory).absolute()
        place.mkdir(parents=True)
        self.host = f"unix://{place}/s"
        # Without a configuration of its own, the client would run any installed credential helper, which
        # may need a desktop.
        config = place / "config"
        config.mkdir()
        (config / "config.json").write_text('{"auths": {"registry.invalid": {}}}')
        self.command = ["docker", "--config", str(config), "--host", self.host]
        argv = [
            *before,
            program,
            "--iptables=false",
            "--bridge=none",
            *driver,
            f"--data-root={place}/data",
            f"--exec-root={place}/exec",
            f"--pidfile={place}/pid",
            f"--host={self.host}",
            "--insecure-registry=127.0.0.0/8",
            *options,
        ]
        super().__init__(reactor, argv, "API listen on", str(place))
        # What is mounted in a namespace ends with it.
        self._namespaces = place / "exec" / ("none" if before else "netns")

    async def stop(self, signal: str = "TERM") -> None:
        """
        End it, and remove the mounts that it leaves.
        """
        await super().stop(signal)
        for namespace in self._namespaces.glob("*"):
            await run(self._reactor, ["umount", str(namespace)])

    async def run(self, *arguments: str) -> str:
        """
        Run docker.
        """
        return await run(self._reactor, [*self.command, *arguments])

    async def build(self, context: str, reference: str) -> None:
        """
        Build an image without a network.
        """
        command = [*self.command, "build", "--quiet", "--network=none", "--tag", reference]
        await run(self._reactor, ["env", "DOCKER_BUILDKIT=0", *command, context])

    async def layers(self, reference: str) -> list[str]:
        """
        The directories of the image's unpacked layers, the bottom one first.
        """
        (image,) = json.loads(await self.run("image", "inspect", reference))
        driver = image["GraphDriver"]["Data"]
        return [*reversed(driver["LowerDir"].split(":")), driver["UpperDir"]]
