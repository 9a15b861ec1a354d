"""
Registries with endless responses: the memory and time that a pull from one
costs the daemon.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

from twisted.internet.interfaces import IListeningPort

from tests.integration.test_daemon import DaemonCase, reactor
from tests.registry.wire import Listener, Peer, endless, trickle
from xferd.media_types import OCI_INDEX, OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT

MOST_MEMORY = 32 * 1024
"""KiB of memory that a pull may add to the daemon's."""

MOST_SECONDS = 10.0
"""
Seconds in which each of these pulls has to fail; docs/peer-limits.rst has the
times for slow servers as well.
"""

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNK = b"10000\r\n" + b"{" * 0x10000 + b"\r\n"


def _whole(media_type: str, data: bytes, status: bytes = _OK, head: bytes = b"") -> bytes:
    """
    A response with a body.
    """
    fields = f"Content-Type: {media_type}\r\nContent-Length: {len(data)}\r\n\r\n"
    return status + head + fields.encode() + data


class HostileCase(DaemonCase):
    """
    Tests with a daemon and registries on raw sockets.
    """

    settings = "[retry]\nattempts = 2\nbase = 0.1\ncap = 0.2\n"

    async def start(self, *options: str):  # type: ignore[no-untyped-def]
        """
        Start a daemon with two attempts.
        """
        settings = self.place / "xferd.toml"
        settings.write_text(self.settings)
        return await super().start(f"--config={settings}", *options)

    def serve(self, answer: Callable[[Peer, str], None]) -> str:
        """
        Serve a registry, which answers all requests but those for C{/v2/} with
        a function.

        @return: its host.
        """

        def first(peer: Peer, path: str) -> None:
            if path == "/v2/":
                peer.send(_OK + b"Content-Length: 0\r\n\r\n")
            else:
                answer(peer, path)

        self.listener = Listener(first)
        port: IListeningPort = reactor.listenTCP(0, self.listener, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"127.0.0.1:{port.getHost().port}"  # type: ignore[attr-defined]

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.daemon.pid}/status").read_text()
        return int(status.partition(f"{name}:")[2].split()[0])

    async def cost(self, reference: str) -> tuple[str, int, float]:
        """
        Pull from a registry, which fails.

        @return: the error, the KiB by which the daemon's memory grew at most,
            and the seconds that the pull took.
        """
        began = reactor.seconds()
        before = self._memory("VmRSS")
        Path(f"/proc/{self.daemon.pid}/clear_refs").write_text("5")
        job = await self.state(await self.api.pull(reference), "failed")
        seconds = reactor.seconds() - began
        return str(job["error"]["message"]), self._memory("VmHWM") - before, seconds

    def image(self, blob: Callable[[Peer, str], None]) -> Callable[[Peer, str], None]:
        """
        Serve an image of one layer of 9 bytes.

        @param blob: answers the request for the layer.
        """
        layer = {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": str(Digest.of(b"?")),
            "size": 9,
        }
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
            }
        ).encode()
        manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": str(Digest.of(config)),
                    "size": len(config),
                },
                "layers": [layer],
            }
        ).encode()

        def answer(peer: Peer, path: str) -> None:
            if "/manifests/" in path:
                peer.send(_whole(OCI_MANIFEST, manifest))
            elif path.endswith(str(Digest.of(config))):
                peer.send(_whole("application/json", config))
            else:
                blob(peer, path)

        return answer


class EndlessTests(HostileCase):
    """
    Registries that send endlessly, at full speed.
    """

    async def test_endless(self) -> None:
        """
        Endless heads, bodies, redirects, challenges and indexes cost at most 32
        MB and the documented times; a later pull from another registry
        succeeds.
        """
        _, good = self.add(1)
        await self.daemon.ctl("pull", good)
        bomb = b'{"schemaVersion":2,"manifests":[' + b"{}," * (MAX_DOCUMENT // 3 - 20) + b"{}]}"
        text = '{"schemaVersion":2,"a":"\U0001f600'.encode() + b"x" * (MAX_DOCUMENT - 100) + b'"}'
        challenge = b'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/' + b"a" * 900 + b'"\r\n'
        for name, answer, expected in (
            ("lines", endless(_OK, b"X-A: 0123456789\r\n" * 4096), "more than 256 lines"),
            ("long lines", endless(_OK, (b"X-A: " + b"0" * 8000 + b"\r\n") * 8), "more than 262144 bytes"),
            ("one line", endless(_OK + b"X-A: ", b"0" * 65536), "a line of more than 16384 bytes"),
            ("interim", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 2000), "more than 10 interim"),
            ("body", endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n", _CHUNK), "larger than"),
            ("body until the end", endless(_OK + b"\r\n", b"{" * 65536), "larger than"),
            (
                "refusal",
                endless(b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n", _CHUNK),
                "does not exist",
            ),
            (
                "trailer",
                endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 8192),
                "chunked",
            ),
            ("redirects", _redirect, "redirects more than 10 times"),
            (
                "challenges",
                endless(b"HTTP/1.1 401 No\r\n" + challenge * 250 + b"\r\n", b"x" * 65536),
                "no answer from",
            ),
            ("tokens", _tokens, "sent more than a token"),
            ("values", lambda peer, _: peer.send(_whole(OCI_INDEX, bomb)), "values"),
            ("text", lambda peer, _: peer.send(_whole(OCI_INDEX, text)), "4 bytes"),
            ("indexes", _nested(), "index"),
        ):
            host = self.serve(cast("Callable[[Peer, str], None]", answer))
            message, memory, seconds = await self.cost(f"{host}/team/app:1")
            self.assertIn(expected, message, f"{name}: {message}, {memory} KiB, {seconds} s")
            self.assertLess(memory, MOST_MEMORY, f"{name}: {message}")
            self.assertLess(seconds, MOST_SECONDS, f"{name}: {message}")
            # One idle connection may be left: that of GET /v2/.
            await self.until(lambda: self.listener.open <= 1)
        _, good = self.add(2)
        await self.daemon.ctl("pull", good)

    async def test_endless_blob(self) -> None:
        """
        A layer without an end is refused at its size.
        """
        blob = endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n", _CHUNK)
        message, memory, seconds = await self.cost(f"{self.serve(self.image(blob))}/team/app:1")
        self.assertIn("9", message)
        self.assertLess(memory, MOST_MEMORY)
        self.assertLess(seconds, MOST_SECONDS)


class SlowTests(HostileCase):
    """
    Registries that send endlessly, a few bytes at a time.
    """

    settings = (
        "[retry]\nattempts = 1\n[timeouts]\nconnect = 0.5\ntls = 0.5\nheaders = 1.0\nsilence = 1.0\n"
        "token = 1.0\ndocument = 2.0\nexcerpt = 0.5\nwindow = 2.0\n"
    )

    async def test_slow(self) -> None:
        """
        A head, a document, a token and a layer that are sent byte by byte time
        out after the time in the settings.
        """
        body = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
        json_body = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

        def tokens(peer: Peer, path: str) -> None:
            if path.startswith("/token"):
                trickle(json_body, b"1\r\n \r\n", 0.2)(peer, path)
            else:
                _tokens(peer, path)

        for name, answer, seconds in (
            ("head", trickle(_OK, b"X", 0.2), 2.0),
            ("interim", trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.25), 2.0),
            ("document", trickle(body, b"1\r\n{\r\n", 0.2), 2.0),
            (
                "refusal",
                trickle(b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.2),
                0.5,
            ),
            ("token", tokens, 1.0),
            ("layer", self.image(trickle(body, b"1\r\nx\r\n", 0.7)), 2.0),
        ):
            host = self.serve(answer)
            message, memory, took = await self.cost(f"{host}/team/app:1")
            self.assertLess(memory, MOST_MEMORY, f"{name}: {message}")
            # And the time that this machine needs for the rest.
            self.assertLess(took, seconds + 2.0, f"{name}: {message}")


def _tokens(peer: Peer, path: str) -> None:
    """
    Challenge with a token server whose tokens do not end.
    """
    if path.startswith("/token"):
        endless(_OK + b"Transfer-Encoding: chunked\r\n\r\n", _CHUNK)(peer, path)
        return
    assert peer.transport is not None
    realm = f"http://127.0.0.1:{peer.transport.getHost().port}/token"  # type: ignore[attr-defined]
    head = f'HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm="{realm}"\r\nContent-Length: 0\r\n\r\n'
    peer.send(head.encode())


def _redirect(peer: Peer, path: str) -> None:
    """
    Redirect to another URL each time, with a large body.
    """
    head = f"HTTP/1.1 307 On\r\nLocation: {path[:200]}x\r\nContent-Length: 10000000\r\n\r\n"
    peer.send(head.encode() + b"x" * 100_000)


def _nested() -> Callable[[Peer, str], None]:
    """
    Serve an index in an index, a hundred levels deep, each with as many entries
    as fit.
    """
    documents: dict[str, bytes] = {}
    data = b'{"schemaVersion":2}'
    media_type = OCI_MANIFEST
    for _ in range(100):
        digest = str(Digest.of(data))
        documents[digest] = data
        entry = {"mediaType": media_type, "digest": digest, "size": len(data)}
        more = {"mediaType": "application/x", "digest": digest, "size": 1}
        data = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry, *[more] * 100]}
        ).encode()
        media_type = OCI_INDEX

    def answer(peer: Peer, path: str) -> None:
        found = documents.get(path.rpartition("/")[2], data)
        peer.send(_whole(OCI_INDEX, found))

    return answer
