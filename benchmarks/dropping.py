"""
A proxy that drops slow streams.

C{python -m benchmarks.dropping ADDRESS TARGET RATE}: forwards connections at a free port of the
address, whose number it prints, to C{HOST:PORT}.  A connection that moves fewer bytes a second
than RATE for some seconds, but not nothing, is closed, which it prints, too.
"""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from threading import Thread

_WINDOW = 5.0
"""Seconds over which a rate is measured."""

_IDLE = 4096
"""Bytes in a window that are requests and responses without a body."""


def main(address: str, target: str, rate: str) -> None:
    """
    Serve until killed.
    """
    host, _, port = target.partition(":")
    with socket.create_server((address, 0)) as server:
        print("port", server.getsockname()[1], flush=True)
        while True:
            client = server.accept()[0]
            # Else the kernel takes a slow stream, in either direction, before it is measured.
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                client.setsockopt(socket.SOL_SOCKET, option, 1 << 16)
            upstream = socket.create_connection((host, int(port)))
            Thread(target=_connection, args=(client, upstream, float(rate)), daemon=True).start()


def _connection(client: socket.socket, upstream: socket.socket, rate: float) -> None:
    """
    Forward one connection, and drop it if it is slow.
    """
    moved = [0]
    threads = [
        Thread(target=_forward, args=(client, upstream, moved), daemon=True),
        Thread(target=_forward, args=(upstream, client, moved), daemon=True),
    ]
    for thread in threads:
        thread.start()
    before = 0
    while threads[0].is_alive():
        threads[0].join(_WINDOW)
        size, before = moved[0] - before, moved[0]
        if threads[0].is_alive() and _IDLE < size < rate * _WINDOW:
            print("dropped", flush=True)
            _shut(client, upstream)
    for thread in threads:
        thread.join()
    client.close()
    upstream.close()


def _forward(source: socket.socket, sink: socket.socket, moved: list[int]) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 14):
            moved[0] += len(data)
            sink.sendall(data)
    _shut(source, sink)


def _shut(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main(*sys.argv[1:])
