"""
What the tests of the unpacker share: a worker process that the test controls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tests.unpack.tars import LIMITS
from xferd.interfaces.unpack import UnpackProgress
from xferd.names import Digest
from xferd.owners import Owners
from xferd.unpack import protocol
from xferd.unpack.layer_task import LayerTask
from xferd.unpack.unpacker import IUnpackReactor, Unpacker

DIFF_ID = Digest.of(b"tar")
OWNERS = Owners((0, 1000), (0,))


class FakeProcess:
    """
    A worker that the test controls.
    """

    def __init__(self, owner: Any) -> None:
        self.protocol = owner
        self.commands: list[tuple[int, str, dict[str, Any]]] = []
        self.signals: list[str] = []
        self.exited = False
        self._lines = protocol.Lines()

    def writeToChild(self, descriptor: int, data: bytes) -> None:
        """
        Take commands.
        """
        assert descriptor == 0
        for line in self._lines.feed(data):
            number, rest = protocol.split(line)
            self.commands.append((number, *protocol.decode(rest)))

    def signalProcess(self, name: str) -> None:
        """
        Remember a signal.
        """
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(name)

    def take(self) -> list[tuple[int, str, dict[str, Any]]]:
        """
        The commands since the last time.
        """
        commands, self.commands = self.commands, []
        return commands

    def says(self, number: int, verb: str, **body: Any) -> None:
        """
        Send a message about a layer.
        """
        self.protocol.outReceived(protocol.address(number, protocol.encode(verb, **body)))

    def ends(self, reason: Exception | None = None) -> None:
        """
        Be gone.
        """
        self.exited = True
        self.protocol.inConnectionLost()
        self.protocol.processEnded(Failure(reason or ProcessDone(0)))


@implementer(IUnpackReactor)
class FakeReactor(Clock):
    """
    A clock that starts such workers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.spawned: list[tuple[Any, ...]] = []

    def spawnProcess(  # type: ignore[override]
        self, protocol: IProcessProtocol, executable: Any, args: Any, env: Any, path: Any, childFDs: Any
    ) -> FakeProcess:
        """
        Start one.
        """
        process = FakeProcess(protocol)
        protocol.transport = process  # type: ignore[attr-defined]
        self.processes.append(process)
        self.spawned.append((executable, args, env, path, childFDs))
        return process


class UnpackerCase(SynchronousTestCase):
    """
    An unpacker on a fake worker.
    """

    def setUp(self) -> None:
        """
        Start one with two workers.
        """
        self.reactor = FakeReactor()
        self.unpacker = Unpacker(self.reactor, workers=2, limits=LIMITS)
        self.unpacker.start()
        [self.process] = self.reactor.processes
        self.seen: list[UnpackProgress] = []

    def unpack(self, size: int | None = None, moving: Callable[[], bool] = lambda: True) -> LayerTask:
        """
        Request a layer, with a number of bytes that are sealed.
        """
        layer = self.unpacker.unpack("/staged", "gzip", self.seen.append, moving=moving)
        assert isinstance(layer, LayerTask)
        if size is not None:
            layer.sealed("/blob", size)
        return layer

    def result(self, number: int) -> None:
        """
        The worker has unpacked a layer.
        """
        facts = {"tar_size": 9, "size": 5, "entries": 2, "owners": OWNERS.to_json()}
        self.process.says(number, "result", diff_id=str(DIFF_ID), **facts)

    def told(self) -> list[tuple[int, int, bool]]:
        """
        The layers that were permitted to read, and how far, since the last
        call.
        """
        return [
            (number, body["size"], body["sealed"])
            for number, verb, body in self.process.take()
            if verb == "grown"
        ]
