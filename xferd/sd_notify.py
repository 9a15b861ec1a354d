# -*- test-case-name: tests.test_sd_notify -*-
"""
A word to whoever started the daemon: systemd's C{Type=notify}.

The protocol is C{sd_notify(3)}: lines in a datagram to the unix socket that
C{$NOTIFY_SOCKET} names.  Where nobody set that, nobody wants to know.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

from twisted.logger import Logger


class ServiceManager:
    """
    The program that started the daemon and waits for it to be ready, if there
    is one.
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
        Say that the daemon is ready.

        @param status: one line for people, which C{systemctl status} shows.
        """
        self._tell("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """
        Say that the daemon is about to end.
        """
        self._tell("STOPPING=1", "STATUS=stopping")

    def _tell(self, *lines: str) -> None:
        """
        Send some lines.  That nobody takes them is no reason not to work, but
        one for a word in the log: the manager will take the daemon for dead.
        """
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                # A manager that is busy is not worth stopping for.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as e:
            self._log.warn(
                "cannot tell the service manager {line}: {error}", line=lines[0], error=e.strerror or e
            )
