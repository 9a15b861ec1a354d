# -*- test-case-name: tests.logs.test_journald -*-
"""
The log in the journal of systemd, with fields and levels.

The protocol is "Native Journal Protocol" of systemd: datagrams to a unix socket, each with
the fields of one entry.  An entry that is too large for a datagram is in a sealed file in
memory, whose descriptor is sent.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from xferd.logs.records import Record, record_of

SOCKET: Final = "/run/systemd/journal/socket"
"""Where the journal listens."""

PRIORITIES: Final = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""The levels of the log as priorities of syslog."""

_BUFFER: Final = 8 * 1024 * 1024
"""Bytes of entries that may wait for the journal."""

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def is_stdout(environ: Mapping[str, str]) -> bool:
    """
    Whether stdout or stderr of this process is a stream of the journal, by C{JOURNAL_STREAM}
    (systemd.exec(5)).
    """
    stream = environ.get("JOURNAL_STREAM", "")
    for descriptor in (1, 2):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        if stream == f"{status.st_dev}:{status.st_ino}":
            return True
    return False


def encode(fields: Mapping[str, Any]) -> bytes:
    """
    The fields of one entry, as the journal reads them.

    @param fields: values by name, in upper case; L{None} is left out.
    """
    lines = bytearray()
    for name, value in fields.items():
        if value is None:
            continue
        texts = map(str, value) if isinstance(value, list) else (_text(value),)
        for text in texts:
            data = text.encode("utf-8", "backslashreplace")
            if b"\n" in data:
                lines += name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
            else:
                lines += name.encode() + b"=" + data + b"\n"
    return bytes(lines)


def fields_of(record: Record) -> dict[str, Any]:
    """
    The fields of a record's entry: those of the event begin with C{XFERD_}.
    """
    message = f"{record.message}\n{record.traceback}" if record.traceback else record.message
    return {
        "MESSAGE": message,
        "PRIORITY": PRIORITIES[record.level],
        "SYSLOG_IDENTIFIER": "xferd",
        "XFERD_LOGGER": record.logger,
        **{f"XFERD_{name.upper()}": value for name, value in record.fields.items() if _is_name(name)},
    }


@implementer(ILogObserver)
class Journald:
    """
    Writes events to the journal.  An entry that it does not take at once is dropped, as the
    daemon does not wait for it; the next one reports how many were.
    """

    def __init__(self, address: str = SOCKET) -> None:
        """
        @param address: the path of its socket.
        """
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        # The kernel lowers it to what it permits.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._lost = 0

    def __call__(self, event: LogEvent) -> None:
        """
        Write an event.
        """
        fields = fields_of(record_of(event))
        if self._lost:
            fields["XFERD_LOST"] = self._lost
            fields["MESSAGE"] += f" ({self._lost} lines before this one were lost)"
        try:
            self._send(encode(fields))
        except OSError:
            self._lost += 1
        else:
            self._lost = 0

    def _send(self, entry: bytes) -> None:
        try:
            self._socket.sendto(entry, self._address)
        except OSError as e:
            if e.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(entry)

    def _send_file(self, entry: bytes) -> None:
        """
        Send an entry that is too large for a datagram.
        """
        descriptor = os.memfd_create("journal-entry", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(entry)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b""], [descriptor], 0, self._address)
        finally:
            os.close(descriptor)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_name(name: str) -> bool:
    """
    Whether a name can be a field: letters, digits and underscores, 64 characters at most.
    """
    return name.isascii() and name.replace("_", "").isalnum() and len(name) <= 58
