"""
The harness for requests to the daemon: the parser, the guard and the routes.
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from tests.fuzz.harness import Broken, Harness, same
from tests.fuzz.inputs import SIZES, cut, damaged
from tests.web.world import World

_JOB: Final = b'{"kind": "pull", "reference": "alpine"}'
_METHODS: Final = st.sampled_from(
    (b"GET", b"HEAD", b"POST", b"PATCH", b"DELETE", b"PUT", b"OPTIONS", b"X\xff")
)
_PATHS: Final = st.sampled_from(
    (
        b"/",
        b"/api/v1/status",
        b"/api/v1/jobs",
        b"/api/v1/jobs?limit=5&after=x",
        b"/api/v1/jobs/j1",
        b"/api/v1/jobs/j1/archive",
        b"/api/v1/images",
        b"/api/v1/images/docker.io/library/alpine:latest",
        b"/api/v1/images/a\xa5",
        b"/api/v1/images/%ff%00",
        b"/api/v1/limits",
        b"/api/v1/collect",
        b"/api/v1/events",
        b"/metrics",
        b"/static/../app.py",
        b"//evil.example/",
        b"http://localhost/api/v1/status",
        b"*",
        b"",
    )
)
_LOCAL: Final = b"Host: localhost:9337"
_FOREIGN: Final = b"Host: evil.example"
_FIELDS: Final = st.lists(
    st.sampled_from(
        (
            b"Origin: http://localhost:9337",
            b"Origin: http://evil.example",
            b"Sec-Fetch-Site: cross-site",
            b"Content-Type: application/json",
            b"Content-Type: text/plain",
            b"Authorization: Bearer x",
            b"Authorization: \xff",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Content-Length: +5",
            b"Content-Range: bytes 0-4/*",
            b"Expect: 100-continue",
            b"Idempotency-Key: k",
            b"X-Registry-Auth: e30=",
            b"Accept-Encoding: gzip",
            b"Connection: close",
            b" folded",
            b"no colon",
            b"X: " + b"y" * 17000,
        )
    ),
    max_size=4,
)


@st.composite
def requests(draw: st.DrawFn, host: bytes) -> bytes:
    """
    One request or two, one behind the other.
    """
    parts = []
    for _ in range(draw(st.integers(1, 2))):
        body = draw(st.sampled_from((b"", _JOB, b"5\r\nhello\r\n0\r\n\r\n", b"\xff" * 40)))
        lines = [
            b" ".join(
                (draw(_METHODS), draw(_PATHS), draw(st.sampled_from((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9"))))
            ),
            host,
            *draw(_FIELDS),
        ]
        if draw(st.booleans()):
            lines.append(b"Content-Length: %d" % len(body))
        parts.append(b"\r\n".join([*lines, b"", b""]) + body)
    return b"".join(parts)


def _answers(pieces: list[bytes]) -> tuple[World, list[int]]:
    """
    Send bytes over one connection, which then ends.

    @return: the daemon, and the status of each answer.
    """
    failures: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failures.append(str(event.get("log_failure") or event.get("log_format")))

    world = World()
    globalLogPublisher.addObserver(observe)
    try:
        connection = world.connect()
        for piece in pieces:
            if not connection.transport.disconnecting and not connection.cut:
                connection.protocol.dataReceived(piece)
            world.clock.advance(0)
        data = connection.received()
        connection.lose()
        world.clock.advance(0)
        # What has begun to arrive is given up in time.
        world.clock.advance(1000)
    finally:
        globalLogPublisher.removeObserver(observe)
    if failures:
        raise Broken(f"the daemon failed: {failures[0]}")
    counted = world.web._connections.taken
    if counted:
        raise Broken(f"{counted} connections are counted that have ended")
    statuses = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    if any(status == 500 for status in statuses):
        raise Broken("a request is answered with 500")
    return world, statuses


def check_request(given: tuple[bytes, list[int]]) -> None:
    """
    A request is answered, the same however its bytes arrive, and never with a
    fault of the daemon's in its log.
    """
    data, sizes = given
    _, whole = _answers([data])
    _, parts = _answers(cut(data, sizes))
    same(parts, whole, "a request in pieces and as a whole")


REQUESTS: Final = Harness("requests", st.tuples(damaged(requests(_LOCAL)), SIZES), check_request)


def check_foreign(data: bytes) -> None:
    """
    A request for another host never begins, cancels or changes anything, and
    is shown nothing.
    """
    if b"localhost" in data.lower() or b"127." in data or b"[" in data or b"Bearer" in data:
        return
    world, statuses = _answers([data])
    if any(status < 400 and status != 100 for status in statuses):
        raise Broken(f"a request for another host is answered with {statuses}")
    if world.jobs.known or world.jobs.limited != World().jobs.limited:
        raise Broken("a request for another host has changed something")


FOREIGN: Final = Harness("foreign", damaged(requests(_FOREIGN)), check_foreign)
