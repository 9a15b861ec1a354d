"""
Start of a daemon after an earlier one was killed.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from pathlib import Path
from signal import SIGKILL
from tempfile import mkdtemp
from typing import cast
from unittest import SkipTest

from twisted.internet import reactor as installed
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase

from tests.integration.programs import Xferd
from xferd.descriptors import MOST
from xferd.interfaces.reactor import IReactor

reactor = cast(IReactor, installed)

PATIENCE = 60.0
"""Seconds after which a test that waits fails."""

NEVER_REAPS = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(1000)"

NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
"""Runs a program as process 1, as a container does."""


class RestartTests(TestCase):
    """
    A daemon after C{kill -9}.
    """

    def setUp(self) -> None:
        """
        Create a directory for the daemons.
        """
        self.place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)

    async def start(self, *before: str) -> Xferd:
        """
        Start a daemon there.
        """
        daemon = Xferd(reactor, self.place, before=before)
        # unshare does not forward SIGTERM.
        signal = "KILL" if before[:1] == ("unshare",) else "TERM"
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop(signal)))
        await daemon.start()
        return daemon

    async def answers(self, daemon: Xferd) -> None:
        """
        The daemon serves its socket.
        """
        self.assertEqual(await daemon.show("images"), [])

    async def test_killed(self) -> None:
        """
        The socket of a daemon that was killed is replaced, and its locks are free.
        """
        first = await self.start()
        await first.stop("KILL")
        self.assertTrue(os.path.exists(first.socket))
        await self.answers(await self.start())

    async def test_zombie(self) -> None:
        """
        The same holds while its parent has not reaped it.
        """
        parent = await self.start(sys.executable, "-c", NEVER_REAPS)
        pid = int(Path(parent.data, "lock").read_text().split()[0])
        os.kill(pid, SIGKILL)
        deadline = reactor.seconds() + PATIENCE
        while "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text():
            self.assertLess(reactor.seconds(), deadline)
            await deferLater(reactor, 0.02)
        await self.answers(await self.start())

    async def test_process_id_used_again(self) -> None:
        """
        The same holds if another process has its ID now, also for Twisted's own
        lock.
        """
        first = await self.start()
        await first.stop("KILL")
        Path(first.data, "lock").write_text("1\n")
        lock = Path(f"{first.socket}.lock")
        lock.unlink()
        lock.symlink_to("1")
        await self.answers(await self.start())

    async def test_same_process_id(self) -> None:
        """
        The same holds if each daemon has the same ID, in a container.
        """
        _, errors, code = await getProcessOutputAndValue(NAMESPACE[0], [*NAMESPACE[1:], "true"], os.environ)
        if code != 0:
            raise SkipTest(f"no process namespace can be made here: {errors.decode().strip()}")
        first = await self.start(*NAMESPACE)
        self.assertEqual(Path(first.data, "lock").read_text().split()[0], "1")
        await first.stop("KILL")
        second = await self.start(*NAMESPACE)
        self.assertEqual(Path(first.data, "lock").read_text().split()[0], "1")
        await self.answers(second)

    async def test_stopped(self) -> None:
        """
        A daemon that is stopped removes its socket.
        """
        first = await self.start()
        await first.stop()
        self.assertFalse(os.path.exists(first.socket))
        await self.answers(await self.start())


class DescriptorsTests(TestCase):
    """
    The limits on open files of the daemon and of its processes.
    """

    async def test_limits(self) -> None:
        """
        The daemon raises its own limit, and its processes keep the original
        one.
        """
        place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, place)
        daemon = Xferd(reactor, place, before=["sh", "-c", 'ulimit -S -n 512; exec "$@"', "sh"])
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        await daemon.start()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST if hard == resource.RLIM_INFINITY else min(MOST, hard)
        self.assertEqual(resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)[0], wanted)
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        self.assertGreater(len(children), 0)
        for child in map(int, children):
            # It may still be the shell for a moment.
            deadline = reactor.seconds() + PATIENCE
            while resource.prlimit(child, resource.RLIMIT_NOFILE)[0] != 512:
                self.assertLess(reactor.seconds(), deadline)
                await deferLater(reactor, 0.02)
