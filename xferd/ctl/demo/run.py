# -*- test-case-name: tests.ctl.demo.test_run -*-
"""
C{xferctl demo}: a registry, a daemon and three clients on this machine alone,
to see that what three clients ask for at once crosses the wire once.
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
from xferd.ctl.display.job_view import JobView
from xferd.ctl.display.progress import draws_bars
from xferd.ctl.errors import ClientError, NoDaemon
from xferd.ctl.text import clean, portion, size

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence

    from xferd.ctl.display.job_view import RowView
    from xferd.ctl.session import Session

    _Show = Callable[[list[RowView], str, JobView], None]

CLIENTS = 3
RATE = 3_000_000
"""Bytes a second of each blob: slow enough to watch."""

_START_TRIES = 300
_START_PAUSE = 0.1

_TWISTD = "from twisted.scripts.twistd import run; run()"
"""C{twistd}, wherever its script lies."""


class Parts(NamedTuple):
    """
    What the demo runs besides itself, as arguments for the interpreter.

    @ivar registry: a registry; it is given a directory for its blobs.
    @ivar daemon: a daemon; it is given a directory for all that it keeps, and
        the port of loopback to serve its API on.
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
    Do what C{xferctl demo} was told: start everything, pull, tell what crossed
    the wire, and leave nothing behind.

    @raise ClientError: something of it did not work, or more or fewer bytes
        crossed the wire than the image has.
    """
    stack = ExitStack()
    try:
        _demo(_Stage(session, stack), parts, once=args.once)
    finally:
        # A second Ctrl-C waits until all is clean.
        with session.interrupts.held():
            stack.close()


class _Stage:
    """
    Where the demo takes place.

    @ivar directory: the scratch directory.
    """

    def __init__(self, session: Session, stack: ExitStack) -> None:
        self.session = session
        self._stack = stack
        with session.interrupts.held():
            self.directory = stack.enter_context(scratch())
        # Nothing of the user's own is read or asked.
        self._environ = {**session.environ, "DOCKER_CONFIG": self.directory, "NO_PROXY": "127.0.0.1"}

    def tell(self, text: str) -> None:
        """
        Tell the user something.
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
        Start a process, which ends with the demo.
        """
        with self.session.interrupts.held():
            child = Child(arguments, self.directory, name, self._environ, talks=talks)
            self._stack.callback(child.stop)
        return child


def _demo(stage: _Stage, parts: Parts, *, once: bool) -> None:
    """
    The demo itself.
    """
    stage.tell("making an image out of this machine's own files ...")
    registry = stage.start("registry", parts.registry(stage.folder("registry")), talks=True)
    port = _free_port()
    daemon = stage.start("daemon", parts.daemon(stage.folder("data"), port))
    image = _answer(registry)
    reference, whole = clean(image["reference"]), int(image["bytes"])
    address = Address("http", "127.0.0.1", port)
    _wait_for(Daemon([address], client="demo"), daemon)
    stage.tell(f"registry: {reference}, {image['layers']} layers, {size(whole)}")
    stage.tell(f"status page: {address}/")
    stage.tell(f"{CLIENTS} clients pull it at once:")
    views = _pull_at_once(address, reference, stage.session)
    wire = _answer(registry, b"how much?")
    stage.tell(views[0].pinned)
    stage.tell(
        f"{CLIENTS} clients, {size(whole)} each, {size(wire['bytes'])} crossed the wire "
        f"in {wire['requests']} requests for blobs"
    )
    if wire["bytes"] != whole:
        raise ClientError(f"the image has {whole} bytes, and {wire['bytes']} crossed the wire")
    if not once:
        try:
            stage.tell(f"look at {address}/ ; Ctrl-C ends the demo")
            signal.pause()
        except KeyboardInterrupt:
            stage.tell("cleaning up ...")


def _free_port() -> int:
    """
    A port of loopback that nobody uses at present.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answer(registry: Child, question: bytes | None = None) -> dict[str, Any]:
    """
    Hear what the registry says, by itself or to a question.

    @raise ClientError: it has gone.
    """
    try:
        if question is not None:
            registry.say(question)
        answer: dict[str, Any] = json.loads(registry.hear())
    except (OSError, ValueError) as e:
        raise ClientError(f"the demo's registry failed: {clean(registry.last_words())}") from e
    return answer


def _wait_for(daemon: Daemon, child: Child) -> None:
    """
    Wait until the daemon answers.

    @raise ClientError: it has gone, or needs too long.
    """
    for _ in range(_START_TRIES):
        try:
            daemon.status()
        except NoDaemon:
            if child.gone:
                break
            sleep(_START_PAUSE)
        else:
            return
    raise ClientError(f"the demo's daemon did not start: {clean(child.last_words())}")


class _Client(Thread):
    """
    One client in a thread.

    @ivar view: what it pulled; L{None} if it could not.
    @ivar error: why not.
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
        Pull.
        """
        self._start_together.wait()
        try:
            view = JobView(self._daemon.start("pull", self._reference))
            for event in self._daemon.events(str(view.job.get("id"))):
                self._show(view.take(event), self.name, view)
        except ClientError as e:
            self.error = e
        else:
            self.view = view


def _pull_at_once(address: Address, reference: str, session: Session) -> list[JobView]:
    """
    Pull from several clients at the same moment, and show it.

    @raise ClientError: one of them could not, or got something else.
    """
    start = Barrier(CLIENTS)
    with ExitStack() as stack:
        show: _Show = _Lines(session.stdout).show
        if draws_bars(session.stdout, session.environ):
            from rich.console import Console  # noqa: PLC0415 - slow to import

            from xferd.ctl.display.bars import Picture  # noqa: PLC0415 - imports rich

            show = stack.enter_context(Picture(Console(file=session.stdout, highlight=False))).show
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
        raise ClientError("the clients were given different images")
    return views


class _Lines:
    """
    Shows the clients in plain lines: one for each layer that one of them has,
    and one for each layer that they share.
    """

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self._lock = Lock()
        self._ended: dict[str, int] = {}
        self._shared: set[int] = set()

    def show(self, layers: list[RowView], name: str, view: JobView) -> None:
        """
        Print what is new.
        """
        ended = sum(layer.ended for layer in view.rows)
        with self._lock:
            for layer in layers:
                if layer.sharing and layer.index not in self._shared:
                    self._shared.add(layer.index)
                    self._print(f"{layer.name}: {layer.state} ({layer.sharing} clients)")
            if ended > self._ended.get(name, 0):
                self._ended[name] = ended
                got = portion(view.done, view.total)
                self._print(f"{name}: {ended} of {len(view.rows)} layers, {got}")

    def _print(self, line: str) -> None:
        """
        Print a line.
        """
        print(line, file=self._stdout, flush=True)
