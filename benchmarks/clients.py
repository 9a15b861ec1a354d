"""
Many clients of one daemon in one process, for what a hundred processes of
Python cost would be measured otherwise.

C{python -m benchmarks.clients SOCKET REFERENCE N}: N clients ask for a pull at
the same moment, each follows its job over connections of its own, as C{xferctl}
does.  Prints the seconds from the first question to the last job's end.
"""

from __future__ import annotations

import sys
from threading import Barrier, Thread
from time import monotonic

from xferd.ctl.address import Address
from xferd.ctl.client import Daemon
from xferd.ctl.errors import ClientError


class _Client(Thread):
    """
    A client.

    @ivar state: how its job ended, or why it did not.
    @ivar ended: when.
    """

    def __init__(self, number: int, socket: str, reference: str, start: Barrier) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._daemon = Daemon([Address("unix", socket)], client=f"client-{number}")
        self._reference = reference
        self._start_together = start
        self.state = ""
        self.ended = 0.0

    def run(self) -> None:
        """
        Pull.
        """
        self._start_together.wait()
        try:
            job = self._daemon.start("pull", self._reference)
            for event in self._daemon.events(str(job["id"])):
                if event.kind == "job":
                    self.state = str(event.data.get("state"))
        except ClientError as e:
            self.state = str(e)
        self.ended = monotonic()


def main(socket: str, reference: str, number: str) -> None:
    """
    Be all of them.
    """
    start = Barrier(int(number) + 1)
    clients = [_Client(n, socket, reference, start) for n in range(int(number))]
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
