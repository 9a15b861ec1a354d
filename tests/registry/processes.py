"""
Processes that a test plays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure


class FakeProcess:
    """
    One process, as its transport.

    @ivar argv: its command line.
    @ivar stdin: what it was sent.
    @ivar closed: whether its stdin was closed.
    @ivar signals: the signals that it got.
    @ivar lost: whether its pipes are closed.
    """

    def __init__(self, protocol: ProcessProtocol, argv: Sequence[str]) -> None:
        self.protocol = protocol
        self.argv = list(argv)
        self.stdin = b""
        self.closed = self.lost = self.ended = False
        self.signals: list[str] = []

    def writeToChild(self, childFD: int, data: bytes) -> None:
        """
        Record the input.
        """
        assert childFD == 0
        self.stdin += data

    def closeStdin(self) -> None:
        """
        Note it.
        """
        self.closed = True

    def signalProcess(self, signalID: str) -> None:
        """
        Note it.
        """
        if self.ended:
            raise ProcessExitedAlready
        self.signals.append(signalID)

    def loseConnection(self) -> None:
        """
        Note it.
        """
        self.lost = True

    def write(self, data: bytes, stream: int = 1) -> None:
        """
        Let it write.
        """
        self.protocol.childDataReceived(stream, data)

    def end(self, status: int = 0, signal: int | None = None) -> None:
        """
        Let it end.
        """
        self.ended = True
        reason = ProcessTerminated(status or None, signal) if status or signal else ProcessDone(0)
        self.protocol.processEnded(Failure(reason))


class FakeProcesses(Clock):
    """
    A clock that can start processes.

    @ivar started: all of them, the oldest first.
    @ivar refuses: what starting one raises.
    """

    def __init__(self) -> None:
        super().__init__()
        self.started: list[FakeProcess] = []
        self.refuses: OSError | None = None

    def spawnProcess(
        self,
        processProtocol: ProcessProtocol,
        executable: str,
        args: Sequence[str],
        env: Mapping[str, str] | None = None,
        **_: Any,
    ) -> FakeProcess:
        """
        Start one.
        """
        if self.refuses is not None:
            raise self.refuses
        process = FakeProcess(processProtocol, args)
        self.started.append(process)
        processProtocol.makeConnection(process)
        return process
