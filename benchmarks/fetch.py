"""
The bytes alone: C{python -m benchmarks.fetch HOST PATH...} gets each path, one
after the other over one connection, and discards the bytes.
"""

from __future__ import annotations

import sys
from contextlib import closing
from http.client import HTTPConnection

_PIECE = 1 << 18


def main(host: str, *paths: str) -> None:
    """
    Fetch them.
    """
    with closing(HTTPConnection(host)) as connection:
        for path in paths:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != 200:
                raise SystemExit(f"{host} answered {path} with {response.status}")
            while response.read(_PIECE):
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
