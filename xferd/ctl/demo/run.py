# -*- test-case-name: tests.ctl.demo.test_run -*-
"""
C{xferctl demo}: a registry, a daemon and three clients on this machine alone.
The clients pull one image at the same time, and it is transferred once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import ExitStack
from threading import Barrier, Lock, Thread
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from xferd.ctl.address import Address
from xferd.ctl.client import Daemon
from xferd.ctl.demo.processes import Child, scratch
from xferd.ctl.display.choose import can_draw
from xferd.ctl.display.job_view import JobView
from xferd.ctl.errors import ClientError, NoDaemon
from xferd.ctl.text import clean, portion, size

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from xferd.ctl.display.job_view import RowView
    from xferd.ctl.session import Session

    _Show = Callable[[str, JobView, list[RowView]], None]

CLIENTS = 3
RATE = 3_000_000
"""Bytes per second of each blob: slow enough to watch."""

_START_TRIES = 300
_START_PAUSE = 0.1

_TWISTD = "from twisted.scripts.twistd import run; run()"
"""C{twistd}, without its script."""


class Parts(NamedTuple):
    """
    The interpreter's arguments for the demo's processes.

    @ivar registry: those of a registry; called with a directory for its blobs.
    @ivar daemon: those of a daemon; called with its data directory, and the
        loopback port of its API.
    """

    registry: Callable[[str], Sequence[str]]
    daemon: Callable[[str, int], Sequence[str]]


def registry_arguments(directory: str) -> Sequence[str]:
    """
    Run L{xferd.ctl.demo.registry}.
    """
    return ("-m", "xferd.ctl.demo.registry", directory, str(RATE))


def daemon_arguments(directory: str, port: int) -> Sequence[str]:
    """
    Run C{twistd -n xferd}.
    """
    listen = f"tcp:{port}:interface=127.0.0.1"
    options = ("--data-dir", directory, "--socket", "", "--listen", listen)
    return ("-c", _TWISTD, "--nodaemon", "--pidfile=", "xferd", *options)


REAL = Parts(registry_arguments, daemon_arguments)


def demo(args: Namespace, session: Session, parts: Parts = REAL) -> None:
    """
    Run C{xferctl demo}: start the processes, pull, report the bytes
    transferred, and remove everything.

    @raise ClientError: a step failed, or the bytes transferred are not those
        of the image.
    """
    stack = ExitStack()
    try:
        _demo(_Stage(session, stack), parts, once=args.once)
    finally:
        # A second Ctrl-C waits until everything is removed.
        with session.interrupts.held():
            stack.close()


class _Stage:
    """
    The demo's temporary directory and its processes.

    @ivar directory: the directory.
    """

    def __init__(self, session: Session, stack: ExitStack) -> None:
        self.session = session
        self._stack = stack
        with session.interrupts.held():
            self.directory = stack.enter_context(scratch())
        # The user's own credentials and proxy are not used.
        self._environ = {**session.environ, "DOCKER_CONFIG": self.directory, "NO_PROXY": "127.0.0.1"}

    def print(self, text: str) -> None:
        """
        Print a line.
        """
        print(text, file=self.session.stdout, flush=True)

    def folder(self, name: str) -> str:
        """
        Make a directory.
        """
        path = os.path.join(self.directory, name)
        os.mkdir(path)
        return path

    def start(self, name: str, arguments: Sequence[str], *, talks: bool = False) -> Child:
        """
        Start a process that ends with the demo.
        """
        with self.session.interrupts.held():
            child = Child(arguments, self.directory, name, self._environ, talks=talks)
            self._stack.callback(child.stop)
        return child


def _demo(stage: _Stage, parts: Parts, *, once: bool) -> None:
    stage.print("making an image from this machine's files ...")
    registry = stage.start("registry", parts.registry(stage.folder("registry")), talks=True)
    port = _free_port()
    daemon = stage.start("daemon", parts.daemon(stage.folder("data"), port))
    image = _answer(registry)
    reference, whole = clean(image["reference"]), int(image["bytes"])
    address = Address("http", "127.0.0.1", port)
    _wait_for(Daemon([address], client="demo"), daemon)
    stage.print(f"registry: {reference}, {image['layers']} layers, {size(whole)}")
    stage.print(f"status page: {address}/")
    stage.print(f"{CLIENTS} clients pull it at the same time:")
    views = _pull_at_once(address, reference, stage.session)
    wire = _answer(registry, b"report")
    stage.print(views[0].pinned)
    stage.print(
        f"{CLIENTS} clients, {size(whole)} each; {size(wire['bytes'])} transferred "
        f"in {wire['requests']} requests for blobs"
    )
    if wire["bytes"] != whole:
        raise ClientError(f"the image has {whole} bytes, but {wire['bytes']} were transferred")
    if not once:
        try:
            stage.print(f"open {address}/ ; Ctrl-C ends the demo")
            signal.pause()
        except KeyboardInterrupt:
            stage.print("cleaning up ...")


def _free_port() -> int:
    """
    A free loopback port.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answer(registry: Child, question: bytes | None = None) -> dict[str, Any]:
    """
    Read one line of the registry's output as JSON.

    @param question: a line to write before.
    @raise ClientError: the registry has ended.
    """
    try:
        if question is not None:
            registry.send(question)
        answer: dict[str, Any] = json.loads(registry.receive())
    except (OSError, ValueError) as e:
        raise ClientError(f"the demo's registry failed: {clean(registry.last_line())}") from e
    return answer


def _wait_for(daemon: Daemon, child: Child) -> None:
    """
    Wait until the daemon answers.

    @raise ClientError: it has ended, or does not answer in time.
    """
    for _ in range(_START_TRIES):
        try:
            daemon.status()
        except NoDaemon:
            if child.ended:
                break
            sleep(_START_PAUSE)
        else:
            return
    raise ClientError(f"the demo's daemon did not start: {clean(child.last_line())}")


class _Client(Thread):
    """
    One client in a thread.

    @ivar view: its job; L{None} if it failed.
    @ivar error: the reason.
    """

    def __init__(self, number: int, address: Address, reference: str, start: Barrier, show: _Show) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._daemon = Daemon([address], client=f"client-{number}")
        self._reference = reference
        self._start_together = start
        self._show = show
        self.view: JobView | None = None
        self.error: ClientError | None = None

    def run(self) -> None:
        """
        Pull the image.
        """
        self._start_together.wait()
        try:
            view = JobView(self._daemon.start_followed("pull", self._reference))
            for event in self._daemon.events(str(view.job.get("id"))):
                self._show(self.name, view, view.update(event))
        except ClientError as e:
            self.error = e
        else:
            self.view = view


def _pull_at_once(address: Address, reference: str, session: Session) -> list[JobView]:
    """
    Pull with all clients at the same moment, and show their progress.

    @raise ClientError: one of them failed, or got another image.
    """
    start = Barrier(CLIENTS)
    with ExitStack() as stack:
        show: _Show = _Lines(session.stdout).show_job
        if can_draw(session.stdout, session.environ):
            from rich.console import Console  # noqa: PLC0415 - slow to import

            from xferd.ctl.display.bars import Picture  # noqa: PLC0415 - imports rich

            show = stack.enter_context(Picture(Console(file=session.stdout, highlight=False))).show_job
        clients = [_Client(n + 1, address, reference, start, show) for n in range(CLIENTS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
    views = []
    for client in clients:
        if client.view is None or client.view.state != "done":
            why = client.error or (client.view.error if client.view is not None else "")
            raise ClientError(f"{client.name} failed: {why}")
        views.append(client.view)
    if len({view.pinned for view in views}) != 1:
        raise ClientError("the clients pulled different images")
    return views


class _Lines:
    """
    Shows the clients in plain lines: one for each layer that a client has
    finished, and one for each layer that they share.
    """

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._lock = Lock()
        self._ended: dict[str, int] = {}
        self._shared: set[int] = set()

    def show_job(self, name: str, view: JobView, rows: list[RowView]) -> None:
        """
        Print the changes.
        """
        ended = sum(layer.ended for layer in view.rows)
        with self._lock:
            for layer in rows:
                if layer.sharing and layer.index not in self._shared:
                    self._shared.add(layer.index)
                    self._print(f"{layer.name}: {layer.state} ({layer.sharing} clients)")
            if ended > self._ended.get(name, 0):
                self._ended[name] = ended
                got = portion(view.done, view.total)
                self._print(f"{name}: {ended} of {len(view.rows)} layers, {got}")

    def _print(self, line: str) -> None:
        print(line, file=self._stdout, flush=True)
