# -*- test-case-name: tests.engines.snapshotter.test_main,tests.integration.test_engine_restart -*-
"""
C{xferd-snapshotter}: the process that serves container engines.

It outlives the daemon, which starts it if it does not run: pulls and containers of
engines continue while xferd is restarted or has failed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

from xferd._version import __version__
from xferd.engines.snapshotter.command import is_running, lock_of_snapshotter, log_of_snapshotter
from xferd.errors import ConfigError, XferdError
from xferd.locks import FileLock, Held
from xferd.paths import default_data_dir, user_of_paths
from xferd.store.disk.file_system import make_directory, trying_to

THREADS: Final = 4
"""Threads for the files of snapshots: most of their work waits for the disk."""

LOG_SIZE: Final = 1024 * 1024
"""Bytes of the log, of which an older one is kept, too."""

AGAIN: Final = 75
"""The exit status upon which systemd starts the process again: EX_TEMPFAIL of sysexits(3)."""

STOP_TIME: Final = 10.0
"""Seconds in which the process ends after C{--stop}."""


def console() -> int:
    """
    The command.

    @return: the exit status.
    """
    return main(sys.argv[1:], os.environ)


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """
    Run it.

    @return: the exit status.
    """
    parser = ArgumentParser("xferd-snapshotter", description="Serves containerd with the layers of xferd.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        default=default_data_dir(environ, user_of_paths(os.geteuid())),
        help="the data directory of the daemon (default: %(default)s)",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--detach", action="store_true", help="run in the background")
    how.add_argument("--stop", action="store_true", help="end the process that runs, and wait for its end")
    options = parser.parse_args(arguments)
    data_dir = os.path.abspath(options.data_dir)
    try:
        if options.stop:
            _stop(data_dir)
            return 0
        with trying_to(f"use {data_dir}"):
            make_directory(os.path.dirname(lock_of_snapshotter(data_dir)), 0o700)
        if options.detach and not _detach(data_dir):
            return 0
        lock = FileLock(lock_of_snapshotter(data_dir))
        try:
            lock.acquire()
        except Held as e:
            raise ConfigError(f"another xferd-snapshotter{e.holder} uses {data_dir}") from e
        return _run(data_dir, lasting=not options.detach)
    except (XferdError, OSError) as e:
        sys.stderr.write(f"xferd-snapshotter: {e}\n")
        return 1


def _stop(data_dir: str) -> None:
    """
    End the process that runs, if there is one.

    @raise ConfigError: it cannot be ended.
    """
    path = lock_of_snapshotter(data_dir)
    end = time.monotonic() + STOP_TIME
    while os.path.exists(path) and is_running(data_dir):
        with open(path, encoding="ascii", errors="replace") as file:
            pid, _, host = file.read(300).strip().partition(" ")
        if not pid.isdecimal() or host != os.uname().nodename or time.monotonic() > end:
            raise ConfigError(f"process {pid} on {host} uses {data_dir}, and cannot be ended from here")
        try:
            os.kill(int(pid), signal.SIGTERM)
        except ProcessLookupError:
            pass
        time.sleep(0.1)


def _detach(data_dir: str) -> bool:
    """
    Become a process in the background, with a log.

    @return: whether this is the new process.
    """
    if os.fork():
        os.wait()
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    # Errors before the log is open, and those of the interpreter.
    log = os.open(log_of_snapshotter(data_dir), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(log, 2)
    os.close(log)
    return True


def _run(data_dir: str, lasting: bool) -> int:
    """
    Serve until a signal, or until the process is not needed any more.

    @param lasting: whether it is needed at all times, and logs to stderr.
    @return: the exit status: L{AGAIN} if another process has to take its place.
    @raise XferdError: the database cannot be opened.
    """
    # After the fork: the reactor has descriptors.
    from twisted.internet import reactor as installed  # noqa: PLC0415
    from twisted.internet.defer import Deferred  # noqa: PLC0415
    from twisted.logger import FileLogObserver, Logger, globalLogBeginner, textFileLogObserver  # noqa: PLC0415
    from twisted.python.logfile import LogFile  # noqa: PLC0415
    from twisted.python.threadpool import ThreadPool  # noqa: PLC0415

    from xferd.engines.snapshotter.served_engine import Files  # noqa: PLC0415
    from xferd.engines.snapshotter.snapshot_server import SnapshotServer  # noqa: PLC0415
    from xferd.interfaces.reactor import IReactor  # noqa: PLC0415
    from xferd.monotonic import use_monotonic_time  # noqa: PLC0415
    from xferd.store.disk.reserve import Reserve  # noqa: PLC0415
    from xferd.store.disk.trash import Trash  # noqa: PLC0415
    from xferd.store.paths import Paths  # noqa: PLC0415
    from xferd.store.snapshots import SnapshotDatabase, SnapshotTables  # noqa: PLC0415
    from xferd.store.threads import Threads  # noqa: PLC0415
    from xferd.store.trees.layer_files import LayerFiles  # noqa: PLC0415

    reactor = cast(IReactor, installed)
    use_monotonic_time(installed)  # type: ignore[arg-type]
    path = log_of_snapshotter(data_dir)
    name, directory = os.path.basename(path), os.path.dirname(path)
    logging_file: Any = sys.stderr if lasting else LogFile(name, directory, LOG_SIZE, 0o600, 1)
    observer: FileLogObserver = textFileLogObserver(logging_file)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
    log = Logger("xferd.engines.snapshotter")

    paths, closed = Paths(data_dir), "the snapshotter is stopping"
    reserve = Reserve(paths.reserve)
    threads = Threads(reactor, ThreadPool(0, THREADS, "files"), closed)
    removing = Threads(reactor, ThreadPool(0, 1, "removal"), closed)
    database_thread = Threads(reactor, ThreadPool(0, 1, "snapshots"), closed)
    trash = Trash(paths, removing, reserve)
    database = SnapshotDatabase(paths.snapshots, database_thread, reserve, reactor)

    def changed() -> None:
        server.changed()

    tables = SnapshotTables(database, lambda _: None, changed)
    files = Files(data_dir, threads, tables, LayerFiles(data_dir).find, trash.throw)
    status = 0

    def ended(again: bool) -> None:
        nonlocal status
        status = AGAIN if again else 0
        reactor.stop()

    server = SnapshotServer(files, reactor, time.time, ended, lasting)

    async def start() -> None:
        try:
            await server.start()
        except Exception:
            log.failure("while starting")
            reactor.stop()

    async def stop() -> None:
        log.info("stopping")
        trash.stop()
        for step in (server.stop, database.close, threads.stop, removing.stop, database_thread.stop):
            try:
                await Deferred.fromCoroutine(step()).addTimeout(STOP_TIME / 2, reactor)
            except Exception:
                log.failure("while stopping")

    def begin() -> None:
        log.info("xferd-snapshotter {version} serves {path}", version=__version__, path=data_dir)
        for each in (threads, removing, database_thread):
            each.start()
        _ = Deferred.fromCoroutine(start())

    database.open()
    reactor.callWhenRunning(begin)
    ending: Callable[[], object] = lambda: Deferred.fromCoroutine(stop())  # noqa: E731
    reactor.addSystemEventTrigger("before", "shutdown", ending)
    reactor.run()
    # Neither does a thread that hangs keep the process.
    logging_file.flush()
    os._exit(status)
