# -*- test-case-name: tests.ctl -*-
"""
A fake daemon: an HTTP server in a thread, with answers that a test sets.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

DIGEST = "sha256:" + "0123456789abcdef" * 4

TIMING: dict[str, Any] = {
    "seconds": 242.0,
    "phases": {"resolving": 0.6, "waiting": 42.0, "moving": 189.0, "registering": 0.001},
    "bytes_received": 397_000_000,
    "bytes_sent": 0,
    "bytes_saved": 88_000_000,
    "rate": 2_100_000.0,
    "bound": {"by": "line", "text": "moving 78 % of 4 min 2 s: the line; ghcr.io sent 2.1 MB/s\x1b"},
}
"""
Where the time of a job went, as the API defines it.
"""


def job(state: str = "running", **more: Any) -> dict[str, Any]:
    """
    A job as the API defines it.
    """
    return {
        "id": "j1",
        "kind": "pull",
        "state": state,
        "reference": "docker.io/library/alpine:latest",
        "target": None,
        "platform": "linux/amd64",
        "client": "me@here",
        "created": "2026-01-02T03:04:05Z",
        "started": "2026-01-02T03:04:05Z",
        "finished": None,
        "bytes_done": 0,
        "bytes_total": 30_000_000,
        "layers_done": 0,
        "layers_total": 3,
        "error": None,
        "result": {"digest": DIGEST, "image_id": DIGEST} if state == "done" else None,
        **more,
    }


def layer(index: int, state: str = "waiting", **more: Any) -> dict[str, Any]:
    """
    A layer of that job.
    """
    return {
        "job": "j1",
        "index": index,
        "digest": f"sha256:{index:064x}"[:7] + f"{index + 10:02x}" * 32,
        "diff_id": DIGEST,
        "size": 10_000_000,
        "state": state,
        "bytes_done": 0,
        "unpacked": 0,
        "transfer": f"t{index}",
        "why": None,
        **more,
    }


def transfer(index: int, **more: Any) -> dict[str, Any]:
    """
    The transfer of that layer.
    """
    return {
        "id": f"t{index}",
        "key": "k",
        "kind": "download",
        "digest": layer(index)["digest"],
        "state": "running",
        "watchers": 1,
        "bytes_done": 4_000_000,
        "bytes_total": 10_000_000,
        "rate": 2_000_000.0,
        "attempt": 1,
        "source": "docker.io/library/alpine",
        "why": None,
        "jobs": ["j1"],
        **more,
    }


def event(kind: str, data: dict[str, Any], final: bool = False) -> bytes:
    """
    One line of a job's events.
    """
    return json.dumps({"kind": kind, "data": data, "final": final}).encode() + b"\n"


def one_pull() -> list[bytes]:
    """
    The events of a successful pull of three layers: one existed before, one is shared with
    another client.
    """
    return [
        event("job", job()),
        event("layer", layer(0, "exists", transfer=None)),
        event("layer", layer(1)),
        event("layer", layer(2)),
        b"\n",
        event("layer", layer(1, "downloading", bytes_done=4_000_000)),
        event("transfer", transfer(1, watchers=3)),
        event("layer", layer(2, "downloading", bytes_done=1_000_000)),
        event("transfer", transfer(2)),
        event("layer", layer(1, "downloading", bytes_done=9_000_000)),
        event("layer", layer(1, "unpacking", bytes_done=10_000_000, unpacked=5_000_000)),
        event("transfer", transfer(1, watchers=0), True),
        event("layer", layer(1, "registering", bytes_done=10_000_000)),
        event("layer", layer(1, "done", bytes_done=10_000_000), True),
        event("layer", layer(2, "done", bytes_done=10_000_000), True),
        event("image", {"reference": "docker.io/library/alpine:latest"}, True),
        event("job", job("done", bytes_done=30_000_000, layers_done=3), True),
    ]


TARGET = "registry.example.com:5000/me/alpine:3"


def push_job(state: str = "running", **more: Any) -> dict[str, Any]:
    """
    A push of that image to another name.
    """
    return job(state, **{"kind": "push", "target": TARGET, "platform": None, "layers_total": 4, **more})


def blob(index: int, state: str = "waiting", **more: Any) -> dict[str, Any]:
    """
    A blob of that push.
    """
    return layer(index, state, **{"diff_id": None, **more})


def one_push() -> list[bytes]:
    """
    The events of a successful push of four blobs: one exists, one is mounted, one is shared
    with another client.
    """
    return [
        event("job", push_job(bytes_total=40_000_000)),
        event("layer", blob(0, "exists")),
        event("layer", blob(1, why="slot 6 of 5")),
        event("layer", blob(2)),
        event("layer", blob(3)),
        event("layer", blob(1, "mounted", bytes_done=10_000_000)),
        event("layer", blob(2, "uploading")),
        event("transfer", transfer(2, kind="upload")),
        event("layer", blob(3, "uploading", bytes_done=1_000_000)),
        event("transfer", transfer(3, kind="upload", watchers=2)),
        event("layer", blob(2, "uploading", bytes_done=6_000_000)),
        event("transfer", transfer(2, kind="upload", attempt=2, why="connection reset")),
        event("layer", blob(2, "done", bytes_done=10_000_000), True),
        event("layer", blob(3, "done", bytes_done=10_000_000), True),
        event("job", push_job("done", bytes_done=40_000_000, bytes_total=40_000_000, layers_done=4), True),
    ]


class Answer:
    """
    The answer to one request.
    """

    def __init__(
        self,
        value: object = None,
        status: int = 200,
        *,
        body: bytes | None = None,
        lines: Sequence[bytes | Callable[[], None]] | None = None,
        whole: bool = True,
        missing: int = 0,
        headers: Mapping[str, str] | None = None,
        events: Answer | None = None,
    ) -> None:
        """
        @param value: the body, for JSON.
        @param body: the body as bytes.
        @param lines: a stream's pieces; callables are called in between.
        @param whole: whether a stream ends properly.
        @param missing: the bytes of the body that are announced and not sent.
        @param headers: additional headers.
        @param events: the answer in its place for a client that accepts events.
        """
        self.status = status
        self.body = json.dumps(value).encode() if body is None else body
        self.lines = lines
        self.whole = whole
        self.missing = missing
        self.headers = headers or {}
        self.events = events


def refusal(status: int, code: str, message: str, **detail: object) -> Answer:
    """
    An error as the API defines it.
    """
    return Answer({"error": {"code": code, "message": message, "detail": detail or None}}, status)


class _Handler(BaseHTTPRequestHandler):
    """
    Sends the fake's answer to a request.
    """

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """
        Say nothing.
        """

    def address_string(self) -> str:
        """
        A unix socket's peer has no address.
        """
        return ""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        fake = self.server.fake
        plain = self.headers.get("content-type") == "application/octet-stream"
        asked = body if plain else json.loads(body) if body else None
        fake.requests.append((self.command, self.path, asked))
        fake.headers.append(dict(self.headers))
        answers = fake.answers.get(
            (self.command, self.path.removesuffix("?events=job")),
            [refusal(404, "NOT_FOUND", "there is no such thing")],
        )
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer.events is not None and "x-ndjson" in self.headers.get("accept", ""):
            answer = answer.events
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.lines is None:
            self.send_header("content-length", str(len(answer.body) + answer.missing))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = answer.missing > 0
            if fake.hold:
                self.wfile.flush()
                fake.hang()
            return
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for line in answer.lines:
            if isinstance(line, bytes):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            else:
                line()
        if answer.whole:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _serve


class _Server(ThreadingHTTPServer):
    """
    A server with a reference to its fake.
    """

    daemon_threads = True
    fake: FakeDaemon

    def handle_error(self, request: object, client_address: object) -> None:
        """
        A client that disconnects is no error.
        """


class _UnixServer(_Server):
    """
    The same on a unix socket.
    """

    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        """
        Bind, and do not ask for the name of the host.
        """
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", 0


class FakeDaemon:
    """
    A server that answers each request with the next of the answers that a test has set for it;
    the last one is repeated.

    @ivar answers: method and path to answers.
    @ivar requests: method, path and body of each request.
    @ivar headers: the headers of each request.
    @ivar hold: whether to keep the connection of an incomplete answer.
    """

    def __init__(self, path: str | None = None, port: int = 0) -> None:
        """
        @param path: the path of a unix socket; L{None} for TCP.
        @param port: the TCP port; 0 for any free one.
        """
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.released = Event()
        self.hold = False
        if path is None:
            self._server: _Server = _Server(("127.0.0.1", port), _Handler)
            self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        else:
            self._server = _UnixServer(path, _Handler)  # type: ignore[arg-type]
            self.url = f"unix:{path}"
        self._server.fake = self
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def start(self) -> None:
        """
        Start to answer; earlier connections have waited.
        """
        self._thread.start()

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """
        Set the answers to requests for C{/api/v1} and C{path}.
        """
        self.answers[(method, f"/api/v1{path}")] = list(answers)

    def takes(self, *lines: bytes | Callable[[], None]) -> None:
        """
        Accept a job as C{j1} with these events, and its cancellation.
        """
        headers = {"Content-Type": "application/x-ndjson", "Location": "/api/v1/jobs/j1"}
        events = Answer(None, 202, lines=lines, headers=headers)
        self.on("POST", "/jobs", Answer(job("queued"), 202, events=events))
        self.on("GET", "/jobs/j1/events", Answer(lines=lines))
        self.on("DELETE", "/jobs/j1", Answer(job("cancelled")))

    def hang(self) -> None:
        """
        In a stream: wait until the server is stopped.
        """
        self.released.wait(30)

    def stop(self) -> None:
        """
        Stop listening.
        """
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class DaemonTestCase(SynchronousTestCase):
    """
    A test with a fake daemon.
    """

    def setUp(self) -> None:
        """
        Start it.
        """
        self.fake = FakeDaemon()
        self.fake.start()
        self.addCleanup(self.fake.stop)
