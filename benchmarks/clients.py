"""
Many clients of one daemon in one process, because a hundred Python processes
would be measured otherwise.

C{python -m benchmarks.clients SOCKET N REFERENCE...}: N clients begin at the
same moment.  Each pulls the images one after the other and follows its jobs
over connections of its own, as C{xferctl} does.  Prints the seconds from the
first request to the end of the last job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from threading import Barrier, Thread
from time import monotonic

from xferd.ctl.address import Address
from xferd.ctl.client import Daemon
from xferd.ctl.errors import ClientError


class _Client(Thread):
    """
    A client.

    @ivar state: how its last job ended, or why it did not.
    @ivar ended: when.
    """

    def __init__(self, number: int, socket: str, references: Sequence[str], start: Barrier) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._daemon = Daemon([Address("unix", socket)], client=f"client-{number}")
        self._references = references
        self._start_together = start
        self.state = ""
        self.ended = 0.0

    def run(self) -> None:
        """
        Pull one image after the other.
        """
        self._start_together.wait()
        try:
            for reference in self._references:
                job = self._daemon.start_followed("pull", reference)
                for event in self._daemon.events(str(job["id"])):
                    if event.kind == "job":
                        self.state = str(event.data.get("state"))
                if self.state != "done":
                    break
        except ClientError as e:
            self.state = str(e)
        self.ended = monotonic()


def main(socket: str, number: str, *references: str) -> None:
    """
    Be all of them.
    """
    start = Barrier(int(number) + 1)
    clients = [_Client(n, socket, references, start) for n in range(int(number))]
    for client in clients:
        client.start()
    start.wait()
    began = monotonic()
    for client in clients:
        client.join()
    failed = {client.state for client in clients} - {"done"}
    if failed:
        raise SystemExit(f"not all were done: {', '.join(sorted(failed))}")
    print(max(client.ended for client in clients) - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
