# -*- test-case-name: tests.unpack.test_worker -*-
"""
The worker process: a fork server that starts a process for each layer.

The reactor starts one worker, which has all modules loaded and only forks.  A
forked process is ready within a millisecond; a new interpreter takes fifty.
A layer that crashes its process affects no other layer, C{chroot} is final in
it, and the reactor supervises a single process.  The worker forwards lines
(L{xferd.unpack.protocol}) between the reactor and the layers' processes.  Each
of these has only its own two pipes, so that a hostile layer cannot send
messages in the name of another.

The reactor decides which layers compute (L{xferd.unpack.unpacker}).  A layer
without bytes blocks in a read on its pipe and costs nothing.

Imports no Twisted.
"""

from __future__ import annotations

import gc
import os
import select
import signal
from typing import Final, NoReturn

from attrs import define

from xferd.unpack import layer_process, protocol, sandbox
from xferd.unpack.rights import own_rights

_READ: Final = 64 * 1024

_STDIN, _STDOUT = 0, 1


@define
class _Child:
    """
    A layer's process.

    @ivar control: the descriptor that it reads commands from.
    @ivar report: the descriptor that it writes reports to.
    @ivar lines: splits its reports.
    """

    number: int
    pid: int
    control: int
    report: int
    lines: protocol.Lines


class Worker:
    """
    Forks layers' processes and forwards lines.
    """

    def __init__(self, commands: int, reports: int) -> None:
        """
        @param commands: a descriptor to read the reactor's lines from.
        @param reports: a descriptor to write lines for the reactor to.
        """
        self._commands, self._reports = commands, reports
        self._poll = select.poll()
        self._poll.register(commands, select.POLLIN)
        self._by_number: dict[int, _Child] = {}
        self._by_report: dict[int, _Child] = {}
        self._lines = protocol.Lines()

    def step(self) -> bool:
        """
        Wait for lines and forward them.

        @return: false once the reactor has closed its end and all layers'
            processes are gone.
        """
        for descriptor, _ in self._poll.poll():
            if descriptor != self._commands:
                self._reported(self._by_report[descriptor])
            elif not self._commanded():
                for child in list(self._by_number.values()):
                    self._reap(child)
                return False
        return True

    def _commanded(self) -> bool:
        """
        Execute commands.

        @return: false at the end of the commands.
        """
        data = os.read(self._commands, _READ)
        for line in self._lines.feed(data):
            number, rest = protocol.split(line)
            verb = rest.partition(b" ")[0]
            child = self._by_number.get(number)
            if verb == b"begin":
                self._begin(number, rest)
            elif child is None:
                continue  # it ended before the command arrived
            elif verb == b"cancel":
                os.kill(child.pid, signal.SIGKILL)
            else:
                try:
                    os.write(child.control, rest + b"\n")
                except BrokenPipeError:
                    pass  # it is ending, and is reaped later
        return bool(data)

    def _begin(self, number: int, line: bytes) -> None:
        control_out, control_in = os.pipe()
        report_out, report_in = os.pipe()
        worker = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.dup2(control_out, _STDIN)
            os.dup2(report_in, _STDOUT)
            _close_others()
            _child(worker, line)
        os.close(control_out)
        os.close(report_in)
        child = _Child(number, pid, control_in, report_out, protocol.Lines())
        self._by_number[number] = self._by_report[report_out] = child
        self._poll.register(report_out, select.POLLIN)

    def _reported(self, child: _Child) -> None:
        data = os.read(child.report, _READ)
        if not data:
            self._reap(child)
            return
        try:
            lines = child.lines.feed(data)
        except ValueError:
            os.kill(child.pid, signal.SIGKILL)
            return
        _write(self._reports, b"".join(protocol.address(child.number, line + b"\n") for line in lines))

    def _reap(self, child: _Child) -> None:
        # It has closed its pipe: it reports nothing further, whether it ends by itself or not.
        os.kill(child.pid, signal.SIGKILL)
        _, status = os.waitpid(child.pid, 0)
        self._poll.unregister(child.report)
        del self._by_number[child.number], self._by_report[child.report]
        os.close(child.control)
        os.close(child.report)
        ended = protocol.encode("ended", status=os.waitstatus_to_exitcode(status))
        try:
            _write(self._reports, protocol.address(child.number, ended))
        except BrokenPipeError:
            pass  # the reactor has ended


def _close_others() -> None:
    """
    Close all but the three standard descriptors.  While another layer's pipe
    stayed open in this process, its end would go unnoticed.
    """
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself


def _child(worker: int, line: bytes) -> NoReturn:
    """
    Run a layer in a forked process.
    """
    status = 1
    try:
        sandbox.end_with_parent(worker)
        _, task = protocol.decode(line)
        # Left open: closing would wait for the thread that blocks in a read.
        lines = open(_STDIN, "rb")  # noqa: SIM115
        layer_process.run(task, lines, lambda said: _write(_STDOUT, said), sandbox.enter)
        status = 0
    finally:
        os._exit(status)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _probe() -> dict[str, str]:
    """
    Find out which measures of the sandbox the kernel refuses, in a process that
    enters it and ends.

    @return: as L{sandbox.Sandbox.missing}.
    """
    report, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            root = os.open(os.path.dirname(os.path.abspath(__file__)), os.O_RDONLY | os.O_DIRECTORY)
            confined = sandbox.enter(root, own_rights(), 1)
            confined.seal()
            _write(into, protocol.encode("sandbox", missing=confined.missing))
        finally:
            os._exit(0)
    os.close(into)
    with open(report, "rb") as f:
        line = f.read()
    _, status = os.waitpid(pid, 0)
    if not line:
        return {"seccomp": f"a process that tried it ended with {os.waitstatus_to_exitcode(status)}"}
    missing: dict[str, str] = protocol.decode(line)[1]["missing"]
    return missing


def main() -> None:
    """
    The worker process.
    """
    # Ctrl-C on a terminal signals all processes; the daemon alone handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    layer_process.warm_up()
    missing = sandbox.leave_network()
    missing |= _probe()
    _write(_STDOUT, protocol.address(protocol.WORKER, protocol.encode("sandbox", missing=missing)))
    # Loaded modules never become garbage; uncollected, their pages stay shared with the children.
    gc.freeze()
    worker = Worker(_STDIN, _STDOUT)
    while worker.step():
        pass


if __name__ == "__main__":
    main()
