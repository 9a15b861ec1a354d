"""
The daemon under systemd: it reports that it is ready and that it stops, and
uses the socket that it inherits. The tests play the part of systemd, as
described in C{sd_notify(3)} and C{sd_listen_fds(3)}.
"""

from __future__ import annotations

import shutil
import socket
import stat
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.http_client import Client
from tests.integration.peers import PeerFailed, run
from tests.integration.programs import Xferd
from xferd.interfaces.reactor import IReactor
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry

reactor = cast(IReactor, installed)

PATIENCE = 60.0
"""Seconds after which a test that waits fails."""


class SystemdTests(TestCase):
    """
    The behaviour on which C{docs/xferd.service} and C{docs/xferd.socket} rely.
    """

    def setUp(self) -> None:
        """
        Create a directory for sockets.
        """
        self.place = Path(mkdtemp(prefix="xferd-"))
        self.addCleanup(shutil.rmtree, self.place)

    async def start(self, daemon: Xferd) -> None:
        """
        Start a daemon for the duration of the test.
        """
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        await daemon.start()

    def listen(self, name: str, kind: socket.SocketKind) -> socket.socket:
        """
        Bind a unix socket.
        """
        listener = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(listener.close)
        listener.bind(str(self.place / name))
        listener.setblocking(False)
        return listener

    async def heard(self, manager: socket.socket) -> list[str]:
        """
        Wait for a datagram.

        @return: its lines.
        """
        deadline = reactor.seconds() + PATIENCE
        while True:
            try:
                return manager.recv(4096).decode().split("\n")
            except BlockingIOError:
                self.assertLess(reactor.seconds(), deadline, "nothing was heard in time")
                await deferLater(reactor, 0.02)

    async def test_notify(self) -> None:
        """
        The daemon reports that it is ready once it accepts jobs, and that it is
        stopping.
        """
        manager = self.listen("notify", socket.SOCK_DGRAM)
        daemon = Xferd(reactor, str(self.place / "x"))
        daemon.environment["NOTIFY_SOCKET"] = str(self.place / "notify")
        await self.start(daemon)
        self.assertIn("READY=1", await self.heard(manager))
        await daemon.stop()
        self.assertIn("STOPPING=1", await self.heard(manager))

    async def test_does_not_start(self) -> None:
        """
        A daemon that cannot start does not report that it is ready.
        """
        manager = self.listen("notify", socket.SOCK_DGRAM)
        await self.start(Xferd(reactor, str(self.place / "x")))
        second = Xferd(reactor, str(self.place / "x"), "--socket", str(self.place / "other"))
        second.environment["NOTIFY_SOCKET"] = str(self.place / "notify")
        with self.assertRaises(PeerFailed) as caught:
            await second.start()
        self.assertIn("another xferd", str(caught.exception))
        self.assertRaises(BlockingIOError, manager.recv, 4096)

    async def activated(self, path: Path, *options: str) -> Xferd:
        """
        Start a daemon that inherits a listening socket, the same one each time.

        @param path: of the socket.
        """
        if not path.exists():
            self.listener = self.listen(path.name, socket.SOCK_STREAM)
            self.listener.listen()
            path.chmod(0o640)
        daemon = Xferd(
            reactor,
            str(self.place / "x"),
            *options,
            # Only the process itself knows its ID.
            before=["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"],
        )
        daemon.environment |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "xferd.socket"}
        daemon.descriptors[3] = self.listener.fileno()
        await self.start(daemon)
        daemon.url = f"unix:{path}"
        return daemon

    async def test_socket_activation(self) -> None:
        """
        The daemon serves the socket that it inherits, for every user who may
        connect to it.  Its mode stays: Twisted would let all users connect.
        """
        options = ("--socket", "", "--listen", "systemd:UNIX:name=xferd.socket")
        daemon = await self.activated(self.place / "given", *options)
        self.assertEqual(await daemon.show("images"), [])
        self.assertEqual(stat.S_IMODE((self.place / "given").stat().st_mode), 0o640)

    async def test_own_socket(self) -> None:
        """
        It does so without options if the socket has the path of its own one, and leaves the
        mode and the file as they are.
        """
        path = self.place / "given"
        daemon = await self.activated(path, "--socket", str(path))
        self.assertEqual(await daemon.show("images"), [])
        self.assertFalse((self.place / "given.lock").exists())
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)
        await daemon.stop()
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)

    async def test_next_daemon(self) -> None:
        """
        A connection to the socket waits for the next daemon.
        """
        path = self.place / "given"
        await (await self.activated(path, "--socket", str(path))).stop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.connect(str(path))
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            await self.activated(path, "--socket", str(path))
            client.settimeout(PATIENCE)
            self.assertRegex(client.recv(100), rb"^HTTP/1\.[01] 200 ")

    async def test_other_socket(self) -> None:
        """
        A socket with another path is left to the endpoints that name it.
        """
        daemon = await self.activated(self.place / "given")
        daemon.url = f"unix:{daemon.socket}"
        self.assertEqual(await daemon.show("images"), [])

    async def test_registry(self) -> None:
        """
        The registry serves sockets that it inherits: clients of a TCP one have no rights
        by their connection, those of a unix one have all.
        """
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        local = self.listen("registry", socket.SOCK_STREAM)
        local.listen()
        upstream = Registry(reactor)
        await upstream.listen(reactor)
        self.addCleanup(upstream.stop)
        image = sample_image(1)
        upstream.add(image, "app", "1")
        config = self.place / "xferd.toml"
        config.write_text(
            '[registry]\nlisten = ["systemd:INET:name=tcp.socket", "systemd:UNIX:name=unix.socket"]\n'
            f'default = "{upstream.host}"\n[registry.upstreams."{upstream.host}"]\n'
        )
        daemon = Xferd(
            reactor,
            str(self.place / "x"),
            *("--config", str(config)),
            # Only the process itself knows its ID.
            before=["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh"],
        )
        daemon.environment |= {"LISTEN_FDS": "2", "LISTEN_FDNAMES": "tcp.socket:unix.socket"}
        daemon.descriptors |= {3: listener.fileno(), 4: local.fileno()}
        await self.start(daemon)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(reactor, url)
        answer = await client.get("/v2/app/manifests/1")
        self.assertEqual((answer.status, answer.body), (200, image.manifest.data))
        self.assertEqual((await client.get("/v2/local/app/blobs/uploads/", "POST")).status, 403)
        curl = [
            "curl",
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--unix-socket",
            str(self.place / "registry"),
        ]
        for path, method, status in (
            ("/v2/app/manifests/1", "GET", "200"),
            ("/v2/local/app/blobs/uploads/", "POST", "202"),
        ):
            self.assertEqual(await run(reactor, [*curl, "-X", method, f"http://localhost{path}"]), status)
