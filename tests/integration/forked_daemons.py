"""
Daemons that a process forks that has imported xferd.

Half of the CPU time of the integration tests was that of imports of daemons that they
start.  The process is a child of that of the tests, and so are the daemons: their signals,
descriptors and exit statuses are those of programs that are executed.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from select import select
from types import ModuleType
from typing import Any, Final

from twisted.application.service import IServiceMaker
from twisted.internet.process import Process
from twisted.plugin import getPlugins
from twisted.scripts import twistd

_CLONE: Final = 56 if platform.machine() == "x86_64" else 220
"""The number of the system call."""

_CLONE_PARENT: Final = 0x8000
"""The new process is a sibling, not a child."""

_REACTOR: Final = "twisted.internet.reactor"

_ROOT: Final = str(Path(__file__).resolve().parents[2])

_REQUEST: Final = 1 << 17
"""The longest request, in bytes."""


class DaemonForker:
    """
    The process that forks daemons.
    """

    def __init__(self, connection: socket.socket) -> None:
        """
        @param connection: leads to it.
        """
        self._socket = connection
        self._ready = False

    def is_ready(self) -> bool:
        """
        Whether it has imported xferd.
        """
        if not self._ready and select([self._socket], [], [], 0)[0]:
            self._ready = self._socket.recv(1) != b""
            assert self._ready, "the process that forks daemons has ended"
        return self._ready

    def fork(
        self, arguments: Sequence[str], environ: Mapping[str, str], path: str, fds: Mapping[int, int]
    ) -> int:
        """
        Fork a daemon.

        @param arguments: those of twistd.
        @param path: its working directory.
        @param fds: the descriptors of this process that it has, by its own numbers.
        @return: its process ID.
        """
        request = json.dumps([list(arguments), dict(environ), path, list(fds)]).encode()
        socket.send_fds(self._socket, [request], list(fds.values()))
        return int(self._socket.recv(32))


@cache
def forker() -> DaemonForker:
    """
    The process that forks the daemons of this process.  It is executed, or forked if
    L{preload} has been called and no reactor is there yet.
    """
    # It ends when this process does, as the socket is closed then.
    ours, its = _connected()
    if "xferd.service" in sys.modules and _REACTOR not in sys.modules:
        if os.fork() == 0:
            ours.close()
            serve(its.detach())
            os._exit(0)
        its.close()
        return DaemonForker(ours)
    process = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import serve; serve({its.fileno()})"],
        env={**os.environ, "PYTHONPATH": _ROOT, "PYTHONUNBUFFERED": "1"},
        pass_fds=[its.fileno()],
    )
    its.close()
    # Nothing waits for it.
    process.returncode = 0
    return DaemonForker(ours)


class ForkedProcess(Process):
    """
    A daemon that is forked.
    """

    def _fork(
        self,
        path: str,
        uid: None,
        gid: None,
        executable: str,
        args: Sequence[str],
        environment: Any,
        **kwargs: Any,
    ) -> None:
        self.pid: Any = forker().fork(args, environment, path, kwargs["fdmap"])
        self.status = -1


def _connected() -> tuple[socket.socket, socket.socket]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in (ours, its):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _REQUEST)
    return ours, its


def preload(*modules: str) -> None:
    """
    Import what a daemon imports, and further modules, but no reactor: a process that is
    forked needs its own.
    """
    assert _REACTOR not in sys.modules
    # Klein imports one.
    sys.modules[_REACTOR] = ModuleType(_REACTOR)
    for module in ("xferd.tap", "xferd.service", *modules):
        import_module(module)
    list(getPlugins(IServiceMaker))
    del sys.modules[_REACTOR]


def serve(number: int) -> None:
    """
    Fork daemons until the socket is closed.

    @param number: the descriptor of the socket.
    """
    if "xferd.service" not in sys.modules:
        preload()
    # Twisted resets what a shell ignores for its jobs, and Python ignores two signals.
    for each in set(signal.Signals) - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(each) == signal.SIG_IGN:
            signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()
    with socket.socket(fileno=number) as requests:
        requests.send(b".")
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(requests, _REQUEST, 16)
            except ConnectionResetError:
                # It has ended without a daemon.
                return
            if not data:
                return
            pid = _fork_sibling()
            if pid == 0:
                break
            requests.send(str(pid).encode())
            for fd in fds:
                os.close(fd)
    arguments, environ, path, numbers = json.loads(data)
    _place(fds, numbers)
    os.chdir(path)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[1:] = arguments
    twistd.run()
    sys.exit()


def _fork_sibling() -> int:
    """
    As L{os.fork}, but the new process is a child of the parent of this one, which can wait
    for it.  This process has one thread, so that no lock is held.
    """
    python = ctypes.pythonapi
    for function in (python.PyOS_BeforeFork, python.PyOS_AfterFork_Child, python.PyOS_AfterFork_Parent):
        function.restype = None
    python.PyOS_BeforeFork()
    pid = int(ctypes.PyDLL(None).syscall(_CLONE, _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError("there can be no further process")
    return pid


def _place(fds: Sequence[int], numbers: Sequence[int]) -> None:
    """
    Give descriptors other numbers, and close all others.
    """
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 256) for fd in fds]
    os.closerange(3, 256)
    for fd, own in zip(high, numbers, strict=True):
        os.dup2(fd, own)
        os.close(fd)
