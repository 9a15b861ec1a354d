# -*- test-case-name: tests.test_benchmarks -*-
"""
Many readers of one URL in one process.

C{python -m benchmarks.readers URL N TIMES}: N readers connect, as clients have that read a
manifest before, and begin at the same moment.  Each reads the URL so many times, one after
the other over one connection, and throws away what comes.  Prints a L{Reading} as a JSON
object.
"""

from __future__ import annotations

import json
import ssl
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Barrier, Thread
from time import monotonic
from typing import NamedTuple
from urllib.parse import urlsplit

_PIECE = 1 << 18

_SILENCE = 300.0
"""Seconds after which a reader no longer waits."""


class Reading(NamedTuple):
    """
    What readers received, and when.

    @ivar first: seconds until all readers had the first byte of a body.
    @ivar last: seconds until all had the last one.
    @ivar size: the bytes of all bodies.
    """

    first: float
    last: float
    size: int


class _Reader(Thread):
    """
    A reader.

    @ivar first: when it had its first byte.
    @ivar last: when it had its last one.
    @ivar size: its bytes.
    @ivar error: why it failed, or the empty string.
    """

    def __init__(self, url: str, times: int, start: Barrier, tls: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._url = urlsplit(url)
        self._tls = tls
        self._times = times
        self._start_together = start
        self.first = self.last = 0.0
        self.size = 0
        self.error = ""

    def run(self) -> None:
        """
        Read it.
        """
        with closing(self._connection()) as connection:
            try:
                connection.connect()
            except OSError as e:
                self.error = f"{type(e).__name__}: {e}"
            self._start_together.wait()
            try:
                for _ in range(self._times):
                    self._read(connection)
            except (OSError, HTTPException) as e:
                self.error = self.error or f"{type(e).__name__}: {e}"
        self.last = monotonic()

    def _connection(self) -> HTTPConnection:
        if self._url.scheme == "http":
            return HTTPConnection(self._url.netloc, timeout=_SILENCE)
        return HTTPSConnection(self._url.netloc, timeout=_SILENCE, context=self._tls)

    def _read(self, connection: HTTPConnection) -> None:
        connection.request("GET", self._url.path)
        response = connection.getresponse()
        if response.status != 200:
            raise HTTPException(f"{self._url.netloc} answered {self._url.path} with {response.status}")
        expected = int(response.headers["Content-Length"])
        got = len(response.read(1))
        self.first = self.first or monotonic()
        buffer = bytearray(_PIECE)
        while size := response.readinto(buffer):
            got += size
        if got != expected:
            raise HTTPException(f"{got} bytes of {expected}")
        self.size += got


def read(url: str, number: int, times: int) -> Reading:
    """
    Be all of them.

    @raise SystemExit: one of them did not get it.
    """
    start = Barrier(number + 1)
    # One for all, as it takes longer than a handshake.  The server's certificate is of the
    # benchmark, too.
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    readers = [_Reader(url, times, start, tls) for _ in range(number)]
    # No reader waits for 5 ms, the default, while another one computes.
    sys.setswitchinterval(0.0005)
    for reader in readers:
        reader.start()
    start.wait()
    began = monotonic()
    for reader in readers:
        reader.join()
    errors = {reader.error for reader in readers if reader.error}
    if errors:
        raise SystemExit("; ".join(sorted(errors)))
    return Reading(
        max(reader.first for reader in readers) - began,
        max(reader.last for reader in readers) - began,
        sum(reader.size for reader in readers),
    )


if __name__ == "__main__":
    print(json.dumps(read(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
