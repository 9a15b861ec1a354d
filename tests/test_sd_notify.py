"""
Tests for L{xferd.sd_notify}.
"""

from __future__ import annotations

import os
import shutil
import socket
from tempfile import mkdtemp
from typing import cast
from uuid import uuid4

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from xferd.sd_notify import ServiceManager


class ServiceManagerTests(SynchronousTestCase):
    """
    Notifications of a service manager, and none without one.
    """

    def setUp(self) -> None:
        """
        Make a directory for sockets with a short path, and observe the log.
        """
        self.place = mkdtemp(prefix="xferd-")
        self.addCleanup(shutil.rmtree, self.place)
        self.logged: list[LogEvent] = []
        observer = cast(ILogObserver, self.logged.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def manager(self, address: str) -> socket.socket:
        """
        Listen at an address, as a service manager.
        """
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(listener.close)
        listener.bind(address)
        listener.setblocking(False)
        return listener

    def test_ready(self) -> None:
        """
        The manager receives the notice that the daemon is ready, with a status line.
        """
        path = os.path.join(self.place, "notify")
        listener = self.manager(path)
        ServiceManager({"NOTIFY_SOCKET": path}).ready("all is well")
        self.assertEqual(listener.recv(1000), b"READY=1\nSTATUS=all is well")

    def test_stopping(self) -> None:
        """
        The manager receives the notice that the daemon is stopping, in a datagram of its
        own.
        """
        path = os.path.join(self.place, "notify")
        listener = self.manager(path)
        manager = ServiceManager({"NOTIFY_SOCKET": path})
        manager.ready("here")
        manager.stopping()
        listener.recv(1000)
        self.assertEqual(listener.recv(1000), b"STOPPING=1\nSTATUS=stopping")

    def test_abstract(self) -> None:
        """
        The socket may be in the abstract namespace.
        """
        name = f"xferd-{uuid4().hex}"
        listener = self.manager(f"\0{name}")
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready("here")
        self.assertTrue(listener.recv(1000).startswith(b"READY=1\n"))

    def test_nobody_asked(self) -> None:
        """
        Without C{$NOTIFY_SOCKET}, nothing is sent.
        """
        for environ in ({}, {"NOTIFY_SOCKET": ""}):
            ServiceManager(environ).ready("here")
        self.assertEqual(self.logged, [])

    def test_nobody_there(self) -> None:
        """
        A missing manager is logged, and is no error.
        """
        ServiceManager({"NOTIFY_SOCKET": os.path.join(self.place, "gone")}).ready("here")
        (event,) = self.logged
        self.assertEqual((event["line"], event["error"]), ("READY=1", "No such file or directory"))

    def test_nobody_reads(self) -> None:
        """
        A manager that does not read does not block the daemon.
        """
        path = os.path.join(self.place, "notify")
        self.manager(path)
        manager = ServiceManager({"NOTIFY_SOCKET": path})
        # Some ten datagrams fit, more or less by system.
        for _ in range(10_000):
            manager.stopping()
            if self.logged:
                break
        self.assertEqual(self.logged[0]["error"], "Resource temporarily unavailable")
