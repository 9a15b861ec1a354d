# -*- test-case-name: tests.test_benchmarks -*-
"""
Many status pages in one process: what a browser does, without the browser.

C{python -m benchmarks.pages SOCKET PAGES CAUSES REFERENCE}: the pages follow all events, with the
state of the daemon, while REFERENCE is pulled.  Meanwhile jobs begin, one after the other.  Prints
a JSON list: for each job and page the seconds from the request for the job to its event.
"""

from __future__ import annotations

import json
import sys
from socket import AF_UNIX, socket
from threading import Barrier, Thread
from time import monotonic, sleep

from xferd.ctl.address import Address
from xferd.ctl.client import Daemon

APART = 0.3
"""Seconds from one job to the next."""

PATIENCE = 30.0


class _Page(Thread):
    """
    A page.

    @ivar seen: when it got the first event of each job, by the reference.
    """

    def __init__(self, path: str, ready: Barrier) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._ready = ready
        self.seen: dict[str, float] = {}

    def run(self) -> None:
        """
        Follow everything.
        """
        with socket(AF_UNIX) as connection:
            connection.connect(self._path)
            request = "GET /api/v1/events?events=status HTTP/1.1", "Host: localhost"
            connection.sendall("\r\n".join([*request, "Accept: application/x-ndjson", "", ""]).encode())
            lines = connection.makefile("rb")
            # The state of the daemon comes at once.
            while b'"status"' not in lines.readline():
                pass
            self._ready.wait()
            for line in lines:
                if line.startswith(b'{"kind":"job"'):
                    self.seen.setdefault(json.loads(line)["data"]["reference"], monotonic())


def main(path: str, pages: str, causes: str, reference: str) -> None:
    """
    Be all of them.
    """
    ready = Barrier(int(pages) + 1)
    threads = [_Page(path, ready) for _ in range(int(pages))]
    for thread in threads:
        thread.start()
    ready.wait()
    daemon = Daemon([Address("unix", path)], client="cause")
    daemon.start("pull", reference)
    sleep(1.0)
    begun: dict[str, float] = {}
    for number in range(int(causes)):
        # Nothing is there to be pulled, and the job ends soon.
        name = f"127.0.0.1:1/page/n{number}:1"
        begun[name] = monotonic()
        daemon.start("pull", name)
        sleep(APART)
    until = monotonic() + PATIENCE
    while any(name not in thread.seen for thread in threads for name in begun):
        if monotonic() > until:
            raise SystemExit("some pages got no event of a job")
        sleep(0.05)
    print(json.dumps([thread.seen[name] - at for name, at in begun.items() for thread in threads]))


if __name__ == "__main__":
    main(*sys.argv[1:])
