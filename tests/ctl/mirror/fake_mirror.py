# -*- test-case-name: tests.ctl.mirror -*-
"""
A mirror with one index, as a function from requests to answers, and as a server.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from xferd.ctl.mirror.requests import Answer, Request
from xferd.names import Digest
from xferd.platforms import Platform
from xferd.testing.images import index_of, sample_image

AMD64 = Platform("linux", "amd64")


class FakeMirror:
    """
    A mirror that has one image, under any name and any tag.

    @ivar image: the image for amd64.
    @ivar index: the index that each tag stands for.
    @ivar requests: the requests, as method and path.
    @ivar accepts: the Accept lines of each request.
    @ivar spoil: changes an answer.
    @ivar token: the token that each request needs, or the empty string.
    """

    def __init__(self) -> None:
        images = {
            platform: sample_image(2, 4000, platform=platform)
            for platform in (Platform("linux", "arm64"), AMD64)
        }
        self.image = images[AMD64]
        self.index = index_of(images)
        self.requests: list[tuple[str, str]] = []
        self.accepts: list[list[str]] = []
        self.spoil: Callable[[Request, Answer], Answer] = lambda _, answer: answer
        self.token = ""

    def answer(self, request: Request) -> Answer:
        """
        Answer a request.
        """
        self.requests.append((request.method, request.path))
        self.accepts.append([value for name, value in request.headers if name.lower() == "accept"])
        answer = self.spoil(request, self._answer(request))
        if request.digest is not None and answer.status == 200:
            answer = answer._replace(digest=Digest.of(answer.body, request.digest.algorithm))
        return answer

    def _answer(self, request: Request) -> Answer:
        path = request.path.partition("?")[0]
        if path.endswith("/v2/"):
            return _sent(200, b"{}", "application/json")
        kind, wanted = path.split("/")[-2:]
        if kind == "manifests":
            for document in (self.index.document, *(i.manifest for i in self.index.images.values())):
                if wanted == str(document.digest) or ":" not in wanted:
                    return _sent(200, document.data, document.media_type, document.digest)
        for image in self.index.images.values():
            for blob in image.blobs:
                if wanted == str(blob.digest):
                    return self._blob(request, blob.read())
        return _sent(
            404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"there is nothing"}]}', "application/json"
        )

    def _blob(self, request: Request, data: bytes) -> Answer:
        ranges = [value for name, value in request.headers if name.lower() == "range"]
        if not ranges:
            return _sent(200, data, "application/octet-stream")
        match = re.fullmatch(r"bytes=([0-9]+)-", ranges[0])
        assert match is not None
        start = int(match[1])
        answer = _sent(206, data[start:], "application/octet-stream")
        content_range = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return answer._replace(headers={**answer.headers, "content-range": content_range})


def _sent(status: int, body: bytes, kind: str, digest: Digest | None = None) -> Answer:
    headers = {"content-type": kind, "content-length": str(len(body))}
    if digest is not None:
        headers["docker-content-digest"] = str(digest)
    return Answer(status, headers, body, len(body))


class MirrorServer:
    """
    A fake mirror on a loopback port.

    @ivar authority: its host and port.
    """

    def __init__(self, mirror: FakeMirror) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            """
            Sends the mirror's answers.
            """

            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """
                Log nothing.
                """

            def do_GET(self) -> None:
                """
                Answer.
                """
                answer = self._answer()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_HEAD = do_GET

            def _answer(self) -> Answer:
                if self.path.startswith("/token?"):
                    server.scopes.append(self.path.partition("?")[2])
                    return _sent(200, b'{"token": "%s"}' % mirror.token.encode(), "application/json")
                if mirror.token and self.headers.get("authorization") != f"Bearer {mirror.token}":
                    answer = _sent(401, b"{}", "application/json")
                    realm = f"http://{server.authority}/token"
                    challenge = f'Bearer realm="{realm}",service="here",scope="repository:a/b:pull"'
                    return answer._replace(headers={**answer.headers, "www-authenticate": challenge})
                return mirror.answer(Request(self.command, self.path, tuple(self.headers.items())))

        self.scopes: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.authority = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._server.daemon_threads = True

    def start(self) -> None:
        """
        Start to answer.
        """
        self._thread.start()

    def stop(self) -> None:
        """
        Stop listening.
        """
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
