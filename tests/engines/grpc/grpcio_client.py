"""
A client of gRPC's own making, run as a program: C{python grpcio_client.py SOCKET}.  It
prints what it was answered, as JSON.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

SIZE = 3_000_000


def attempt(call: Any, *arguments: Any, **more: Any) -> Any:
    """
    The answer of a call, or its code and its text.
    """
    try:
        found = call(*arguments, **more)
        return len(found) if isinstance(found, bytes) else [len(message) for message in found]
    except grpc.RpcError as e:
        return [e.code().value[0], e.details()]


def main(path: str) -> None:
    """
    Make each kind of call.
    """
    with grpc.insecure_channel(f"unix:{path}") as channel:
        stat = channel.unary_unary("/a.Snapshots/Stat")
        raw = channel.unary_unary("/a.Snapshots/Anything")
        found = {
            "stat": attempt(stat, b"\x12\x03abc"),
            "missing": attempt(stat, b"\x12\x07missing"),
            "unknown": attempt(channel.unary_unary("/a.Other/Stat"), b""),
            "large": attempt(raw, bytes(SIZE)),
            "too large": attempt(raw, bytes(2 * SIZE))[0],
            "list": attempt(channel.unary_stream("/a.Snapshots/List"), b""),
            "deadline": attempt(channel.unary_unary("/a.Snapshots/Wait"), b"", timeout=0.1)[0],
            "compressed": attempt(raw, b"a" * 2000, compression=grpc.Compression.Gzip)[0],
        }
        waiting = channel.unary_unary("/a.Snapshots/Wait").future(b"")
        with ThreadPoolExecutor(8) as pool:
            found["many"] = set(pool.map(lambda _: attempt(stat, b"\x12\x03abc"), range(200))) == {5}
        waiting.cancel()
        found["after"] = attempt(stat, b"\x12\x03abc")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
