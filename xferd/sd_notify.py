# -*- test-case-name: tests.test_sd_notify -*-
"""
Notification of the service manager, for systemd's C{Type=notify}.

The protocol is C{sd_notify(3)}: lines in a datagram to the unix socket in
C{$NOTIFY_SOCKET}.  Without that variable, nothing is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from twisted.logger import Logger


class ServiceManager:
    """
    The service manager that started the daemon, if there is one.
    """

    _log = Logger()

    def __init__(self, environ: Mapping[str, str]) -> None:
        """
        @param environ: the environment; C{NOTIFY_SOCKET} is read: a path, or a
            name in the abstract namespace with C{@} in front.
        """
        place = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{place[1:]}" if place.startswith("@") else place

    def ready(self, status: str) -> None:
        """
        Report that the daemon is ready.

        @param status: one line, which C{systemctl status} shows.
        """
        self._send("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """
        Report that the daemon is stopping.
        """
        self._send("STOPPING=1", "STATUS=stopping")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A busy manager must not block the daemon.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as e:
            # The daemon works; the manager may take it for dead and restart it.
            self._log.warn(
                "cannot notify the service manager of {line}: {error}", line=lines[0], error=e.strerror or e
            )
