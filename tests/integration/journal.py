"""
The journal of systemd in a mount namespace of its own, with a command whose stderr it reads.

C{unshare -m python -m tests.integration.journal COMMAND...} prints each of xferd's entries as JSON, until it
is terminated.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

JOURNALD: Final = "/lib/systemd/systemd-journald"
_RUN: Final = Path("/run/systemd")
_LOGS: Final = "/run/log"
_SETTINGS: Final = "[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nRateLimitIntervalSec=0\n"


def main(*command: str) -> None:
    """
    Start the journal and the command, print entries, and end both.
    """
    for path in (str(_RUN), _LOGS):
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    (_RUN / "journald.conf.d").mkdir()
    (_RUN / "journald.conf.d" / "test.conf").write_text(_SETTINGS)
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(f"{_RUN}/ready")
    journald = subprocess.Popen([JOURNALD], env={**os.environ, "NOTIFY_SOCKET": f"{_RUN}/ready"})
    while b"READY=1" not in ready.recv(4096):
        pass
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stream.connect(f"{_RUN}/journal/stdout")
    # The header: identifier, unit, priority, level prefix, and where lines go besides.
    stream.sendall(b"xferd\n\n6\n1\n0\n0\n0\n")
    found = os.fstat(stream.fileno())
    daemon = subprocess.Popen(
        command,
        stderr=stream.fileno(),
        stdout=subprocess.DEVNULL,
        env={**os.environ, "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"},
    )
    reader = subprocess.Popen(
        ["journalctl", "-D", f"{_LOGS}/journal", "-f", "-n", "all", "-o", "json", "SYSLOG_IDENTIFIER=xferd"]
    )
    signal.signal(signal.SIGTERM, lambda *_: daemon.terminate())
    daemon.wait()
    for each in (journald, reader):
        each.terminate()
        each.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
