# -*- test-case-name: tests.ctl.engine.test_sample_registry -*-
"""
A registry on a loopback port with one small image that no store has, and a record of the
requests that it received.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from xferd.media_types import OCI_CONFIG, OCI_MANIFEST
from xferd.names import Digest

if TYPE_CHECKING:
    from xferd.platforms import Platform

_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"

REPOSITORY: Final = "xferd-check"
TAG: Final = "1"

OWN_AGENT: Final = "xferd/"
"""The beginning of xferd's C{User-Agent}."""


class Asked(NamedTuple):
    """
    A request for content.

    @ivar is_xferd: whether xferd sent it.
    @ivar kind: C{manifest}, C{config} or C{layer}.
    """

    is_xferd: bool
    kind: str


class SampleImage(NamedTuple):
    """
    An image of one layer with one file of random bytes.
    """

    manifest: bytes
    config: bytes
    layer: bytes


def make_image(platform: Platform) -> SampleImage:
    """
    Make an image for a platform.
    """
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        content = os.urandom(64).hex().encode()
        entry = tarfile.TarInfo("xferd-check")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    layer = gzip.compress(tar.getvalue(), mtime=0)
    config = _json(
        {
            "os": platform.os,
            "architecture": platform.architecture,
            **({"variant": platform.variant} if platform.variant else {}),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar.getvalue()))]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(OCI_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    return SampleImage(manifest, config, layer)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        # A client that closes its connection is no error.
        pass


class SampleRegistry:
    """
    Serves one image.

    Life cycle: made, which listens; C{start}ed; C{stop}ped.

    @ivar image: the image.
    @ivar asked: the requests for content so far.
    """

    def __init__(self, image: SampleImage) -> None:
        self.image = image
        self.asked: list[Asked] = []
        self._contents = {
            str(Digest.of(image.manifest)): ("manifest", OCI_MANIFEST, image.manifest),
            str(Digest.of(image.config)): ("config", "application/octet-stream", image.config),
            str(Digest.of(image.layer)): ("layer", "application/octet-stream", image.layer),
        }
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = Thread(target=self._server.serve_forever, name="sample registry", daemon=True)

    @property
    def reference(self) -> str:
        """
        The image's reference.
        """
        return f"127.0.0.1:{self._server.server_port}/{REPOSITORY}:{TAG}"

    def start(self) -> None:
        """
        Serve, in a thread.
        """
        self._thread.start()

    def stop(self) -> None:
        """
        Stop to serve.
        """
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def content(self, path: str) -> tuple[str, str, bytes] | None:
        """
        The kind, the type and the bytes of what a path names; L{None} for another path.
        """
        kind, _, name = path.partition("?")[0].removeprefix(f"/v2/{REPOSITORY}/").partition("/")
        if kind == "manifests" and name == TAG:
            name = str(Digest.of(self.image.manifest))
        found = self._contents.get(name)
        if found is None or (kind == "manifests") != (found[0] == "manifest"):
            return None
        return found


def _handler(registry: SampleRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # containerd tries TLS first, and HTTP after an answer that begins with "HTTP/".
        default_request_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            if self.path.rstrip("/") == "/v2":
                self._send(HTTPStatus.OK, "application/json", b"{}", with_body=with_body)
                return
            found = registry.content(self.path)
            if found is None:
                self._send(HTTPStatus.NOT_FOUND, "application/json", b'{"errors":[]}', with_body=with_body)
                return
            kind, media_type, data = found
            if with_body:
                agent = self.headers.get("User-Agent", "")
                registry.asked.append(Asked(agent.startswith(OWN_AGENT), kind))
            self._send(HTTPStatus.OK, media_type, data, with_body=with_body)

        def _send(self, status: int, media_type: str, data: bytes, *, with_body: bool) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Docker-Content-Digest", str(Digest.of(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            # The command prints what was asked.
            pass

    return Handler


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(Digest.of(data)), "size": len(data)}
