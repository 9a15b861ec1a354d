"""
Debian's etcd, alone or as a cluster of several members, and a line to it that can be cut.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tests.integration.peers import run
from tests.integration.places import free_port
from tests.integration.programs import Program
from xferd.testing.certificates import Authority

USER = "xferd"
PASSWORD = "correct horse"


class Etcd:
    """
    One member of etcd.

    Life cycle: made, started, killed, started again with its data.

    @ivar url: its client URL.
    @ivar port: its client port on the loopback.
    """

    def __init__(
        self,
        reactor: Any,
        directory: str,
        name: str = "etcd-0",
        authority: Authority | None = None,
        client_certificates: bool = False,
        address: str = "127.0.0.1",
        before: Sequence[str] = (),
    ) -> None:
        """
        @param directory: its own; is created.
        @param authority: signs its certificate; without, it uses plain HTTP.
        @param client_certificates: whether it requires certificates of its clients.
        @param address: where it listens for clients.
        @param before: a program that runs the rest of its command line.
        """
        self._reactor = reactor
        self._directory = Path(directory).absolute()
        self._directory.mkdir(parents=True)
        self._program: Program | None = None
        self.name = name
        self._before = before
        self.port = free_port()
        scheme = "http" if authority is None else "https"
        self.url = f"{scheme}://{address}:{self.port}"
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.extra: list[str] = []
        if authority is not None:
            certificate, key = authority.issue("127.0.0.1")
            self.ca = str(self._directory / "ca.crt")
            self.certificate, self.key = str(self._directory / "crt"), str(self._directory / "key")
            Path(self.ca).write_bytes(authority.pem)
            Path(self.certificate).write_bytes(certificate)
            Path(self.key).write_bytes(key)
            self.extra += [f"--cert-file={self.certificate}", f"--key-file={self.key}"]
            if client_certificates:
                self.extra += [f"--trusted-ca-file={self.ca}", "--client-cert-auth"]

    async def start(self, members: Sequence[Etcd] = ()) -> None:
        """
        Start it, and wait until it serves.

        @param members: all members of its cluster; by default it is alone.
        """
        cluster = ",".join(f"{each.name}={each.peer_url}" for each in members or [self])
        argv = [*self._before, "etcd", "--name", self.name, "--data-dir", str(self._directory / "data")]
        argv += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        argv += ["--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url]
        argv += ["--initial-cluster", cluster, "--bcrypt-cost=4", *self.extra]
        self._program = Program(self._reactor, argv, "ready to serve client", str(self._directory))
        await self._program.start()

    async def kill(self) -> None:
        """
        Kill it as by C{kill -9}, and wait for its end.
        """
        program, self._program = self._program, None
        if program is not None:
            program.signal("KILL")
            await program.ended

    def forget(self) -> None:
        """
        Remove its data.
        """
        shutil.rmtree(self._directory / "data")

    def freeze(self) -> None:
        """
        Stop it as by a debugger, with all of its threads.
        """
        assert self._program is not None
        os.kill(self._program.pid, signal.SIGSTOP)
        threads = Path(f"/proc/{self._program.pid}/task")
        while any("State:\tT" not in (each / "status").read_text() for each in threads.iterdir()):
            pass

    def thaw(self) -> None:
        """
        End L{freeze}.
        """
        assert self._program is not None
        os.kill(self._program.pid, signal.SIGCONT)

    async def ctl(self, *arguments: str) -> str:
        """
        Run C{etcdctl} on it.
        """
        options = [f"--endpoints={self.url}"]
        if self.url.startswith("https"):
            options += [f"--cacert={self.ca}", f"--cert={self.certificate}", f"--key={self.key}"]
        return await run(self._reactor, ["env", "ETCDCTL_API=3", "etcdctl", *options, *arguments])

    async def require_login(self) -> None:
        """
        Require a login from now on, and let L{USER} use the keys of xferd.
        """
        # Once a login is required, root's is.
        for command in (
            ["user", "add", "root:root"],
            ["user", "grant-role", "root", "root"],
            ["role", "add", "fleet"],
            ["role", "grant-permission", "fleet", "--prefix=true", "readwrite", "/xferd/"],
            ["user", "add", f"{USER}:{PASSWORD}"],
            ["user", "grant-role", USER, "fleet"],
            ["auth", "enable"],
        ):
            await self.ctl(*command)


async def start_cluster(reactor: Any, directory: str, size: int) -> list[Etcd]:
    """
    Start several members that are one etcd.
    """
    members = [Etcd(reactor, f"{directory}/{n}", f"etcd-{n}") for n in range(size)]
    await gatherResults([Deferred.fromCoroutine(each.start(members)) for each in members])
    return members


async def leader_of(members: Sequence[Etcd]) -> Etcd:
    """
    The member that leads the others.
    """
    for each in members:
        *_, is_leader, _, _, _, _, _ = (await each.ctl("endpoint", "status")).split(", ")
        if is_leader.strip() == "true":
            return each
    raise AssertionError("no member leads")


class _End(Protocol):
    """
    One end of a connection through a L{Line}.
    """

    def __init__(self, line: Line, other: _End | None = None) -> None:
        self.line = line
        self.other = other
        self.waiting = bytearray()

    def connectionMade(self) -> None:
        """
        Connect the other end.
        """
        self.line.ends.add(self)
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        if self.line.is_cut:
            transport.pauseProducing()
        if self.other is None:
            self.other = _End(self.line, self)
            target = TCP4ClientEndpoint(self.line.reactor, "127.0.0.1", self.line.port)
            _ = connectProtocol(target, self.other).addErrback(lambda _: transport.abortConnection())
        elif self.other.waiting:
            transport.write(bytes(self.other.waiting))

    def dataReceived(self, data: bytes) -> None:
        """
        Pass data on.
        """
        assert self.other is not None
        if self.line.is_cut:
            return
        if self.other.transport is None:
            self.waiting += data
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Close the other end.
        """
        self.line.ends.discard(self)
        if self.other is not None and self.other.transport is not None and not self.line.is_cut:
            self.other.transport.loseConnection()


class Line(Factory):
    """
    A line to a port of the loopback that can be cut: then connections are accepted, stay
    open and move no byte.

    @ivar own: the port at which it listens.
    """

    noisy = False

    def __init__(self, reactor: Any, port: int) -> None:
        """
        @param port: where it leads.
        """
        self.reactor = reactor
        self.port = port
        self.is_cut = False
        self.ends: set[_End] = set()
        self._listening = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.own = self._listening.getHost().port

    def buildProtocol(self, _: object) -> _End:
        """
        Accept a connection.
        """
        return _End(self)

    def cut(self) -> None:
        """
        Move no byte any more.
        """
        self.is_cut = True

    def heal(self) -> None:
        """
        Serve new connections again; the old ones break.
        """
        self.is_cut = False
        self._abort()

    async def close(self) -> None:
        """
        Stop.
        """
        await self._listening.stopListening()
        self._abort()

    def _abort(self) -> None:
        for end in list(self.ends):
            transport: Any = end.transport
            transport.abortConnection()
