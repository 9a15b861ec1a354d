"""
The harnesses for requests to the registry: paths, queries, headers and bodies of C{/v2/}.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from tempfile import mkdtemp
from typing import Any, Final

from attrs import frozen
from hypothesis import strategies as st
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from tests.fuzz.harness import Broken, Harness, check_message, same
from tests.fuzz.inputs import SIZES, cut, damaged
from tests.jobs.case import HOST
from tests.v2.case import RegistryCase
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest
from xferd.testing.images import sample_image
from xferd.web.peer_trust import Trust

IMAGE: Final = sample_image(1, 3000, seed="public")
"""An image of the upstream, C{app:latest}."""

OWN: Final = sample_image(1, 3000, seed="own")
"""An image of the daemon's own, C{local/app:1}, which only its owner may read."""

_SECRETS: Final = (OWN.manifest.data, OWN.config.read(), OWN.layers[0].blob.read())

_UPLOAD: Final = b"blob"
_DIGEST: Final = str(Digest.of(_UPLOAD)).encode()
_DIGESTS: Final = [
    *(str(each).encode() for image in (IMAGE, OWN) for each in (image.digest, image.config.digest)),
    str(IMAGE.layers[0].blob.digest).encode(),
    str(OWN.layers[0].blob.digest).encode(),
    _DIGEST,
    b"sha256%3A" + b"0" * 64,
    b"sha512:" + b"0" * 128,
    b"sha256:" + b"z" * 64,
    b"sha256:",
    b"md5:" + b"0" * 32,
]
_NAMES: Final = st.sampled_from(
    (
        b"app",
        b"library/app",
        b"up/app",
        HOST.encode() + b"/app",
        b"local/app",
        b"local/new",
        b"localhost/local/app",
        b"other.example/app",
        b"127.0.0.1:1/app",
        b"a..b/../app",
        b"App",
        b"a" * 300,
        b"",
    )
)
_METHODS: Final = st.sampled_from((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_QUERIES: Final = st.lists(
    st.sampled_from(
        (
            b"ns=" + HOST.encode(),
            b"ns=docker.io",
            b"ns=127.0.0.1:22",
            b"ns=",
            b"n=1",
            b"n=-1",
            b"n=" + b"9" * 30,
            b"n=0",
            b"last=a",
            b"last=%00",
            b"digest=" + _DIGEST,
            b"digest=",
            b"mount=" + str(OWN.config.digest).encode(),
            b"from=local/app",
            b"from=" + HOST.encode() + b"/app",
            b"artifactType=a/b",
            b"tag=2",
            b"tag=",
            b"scope=repository:app:pull",
            b"service=x",
            b"&&&=",
            b"%",
        )
    ),
    max_size=3,
)
_FIELDS: Final = st.lists(
    st.sampled_from(
        (
            b"Range: bytes=0-9",
            b"Range: bytes=-5",
            b"Range: bytes=5-1",
            b"Range: bytes=0-1,3-4",
            b"Range: bytes=" + b"9" * 25 + b"-",
            b"Range: pages=1",
            b"Content-Range: 0-3",
            b"Content-Range: 4-7",
            b"Content-Range: 3-0",
            b"Content-Range: bytes 0-3/4",
            b"Content-Type: " + OCI_MANIFEST.encode(),
            b"Content-Type: text/plain; charset=\xff",
            b"Content-Type: ",
            b"Accept: */*",
            b'If-Match: "' + str(IMAGE.digest).encode() + b'"',
            b"If-None-Match: *",
            b"If-None-Match: W/",
            b"Authorization: Basic YTpi",
            b"Authorization: Basic \xff",
            b"Authorization: Bearer x",
            b"Authorization: Bearer",
            b"Expect: 100-continue",
            b"Transfer-Encoding: chunked",
            b"Content-Length: 4",
            b"Content-Length: 99999999999999999999",
            b"X-Xferd-Via: 1234",
            b"Connection: close",
            b"Cookie: a=b",
        )
    ),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """
    One to three requests, one behind the other.
    """
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        name, digest = draw(_NAMES), draw(st.sampled_from(_DIGESTS))
        wanted = draw(st.sampled_from((b"latest", b"1", digest, b"a" * 129, b".x", b"")))
        rest = draw(
            st.sampled_from(
                (
                    b"manifests/" + wanted,
                    b"blobs/" + digest,
                    b"blobs/uploads/",
                    b"blobs/uploads/%032x" % (len(OWN.blobs) + 1),
                    b"tags/list",
                    b"referrers/" + digest,
                    b"",
                )
            )
        )
        path = draw(
            st.sampled_from(
                (
                    b"/v2/" + name + b"/" + rest,
                    b"/v2/" + name + b"/" + rest,
                    b"/up/v2/" + name + b"/" + rest,
                    b"/v2/_catalog",
                    b"/v2/token",
                    b"/v2/",
                    b"/v2",
                    b"/v2/_xferd/blobs/" + digest,
                )
            )
        )
        query = b"&".join(draw(_QUERIES))
        body = draw(st.sampled_from((b"", _UPLOAD, IMAGE.manifest.data, b'{"schemaVersion": 2}', b"[" * 900)))
        lines = [
            draw(_METHODS) + b" " + path + (b"?" + query if query else b"") + b" HTTP/1.1",
            b"Host: localhost:5000",
            *draw(_FIELDS),
        ]
        if draw(st.booleans()):
            lines.append(b"Content-Length: %d" % len(body))
        parts.append(b"\r\n".join([*lines, b"", b""]) + body)
    return b"".join(parts)


class _Daemon(RegistryCase):
    """
    The registry of a daemon, outside a test.
    """

    def runTest(self) -> None:
        """
        It is no test.
        """

    def __enter__(self) -> _Daemon:
        self._ends: list[Callable[[], object]] = []
        self._directory = mkdtemp(prefix="xferd-fuzz-")
        self.setUp()
        self.registry.add(IMAGE, "app", "latest")
        for blob in OWN.blobs:
            url = f"/v2/local/app/blobs/uploads/?digest={blob.digest}"
            self.request(url, "POST", {"Content-Length": str(len(blob.read()))}, blob.read())
        fields = {"Content-Type": OWN.manifest.media_type}
        pushed = self.request("/v2/local/app/manifests/1", "PUT", fields, OWN.manifest.data)
        assert pushed.status == 201, pushed
        return self

    def __exit__(self, *_: object) -> None:
        for end in reversed(self._ends):
            end()
        shutil.rmtree(self._directory)

    def addCleanup(self, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """
        Clean up at the end.
        """
        self._ends.append(lambda: f(*args, **kwargs))

    def mktemp(self) -> str:
        """
        A path in the directory of this daemon.
        """
        return os.path.join(self._directory, str(len(os.listdir(self._directory))))

    def state(self) -> object:
        """
        What a client without rights must not change.
        """
        catalog = self.store.catalog
        return (
            [(str(each), catalog.tags(each)) for each in catalog.repositories() if each.host == "localhost"],
            sorted(self.store.incoming.sessions),
        )


@frozen
class _Answers:
    """
    What a connection received.

    @ivar statuses: the status of each response.
    @ivar changed: whether the daemon's own content is not what it was.
    """

    statuses: list[int]
    data: bytes
    changed: bool


def _answers(pieces: list[bytes], trust: Trust) -> _Answers:
    """
    Send bytes over one connection, which then ends.
    """
    failures: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failures.append(str(event.get("log_failure") or event.get("log_format")))

    with _Daemon() as daemon:
        before, connected = daemon.state(), daemon.v2._connections.taken
        globalLogPublisher.addObserver(observe)
        try:
            connection = daemon.connect(trust)
            for piece in pieces:
                if not connection.transport.disconnecting and not connection.cut:
                    connection.protocol.dataReceived(piece)
                daemon.settle()
            # Time for the retries of an upstream; a connection that is closed has no timeouts left.
            if not connection.transport.disconnecting and not connection.cut:
                daemon.wait(10)
            data = connection.received()
            connection.lose()
            # What has begun to arrive is given up in time.
            daemon.wait(20)
        finally:
            globalLogPublisher.removeObserver(observe)
        if failures:
            raise Broken(f"the daemon failed: {failures[0]}")
        for count, what in (
            (daemon.v2._connections.taken - connected, "connections are counted that have ended"),
            (daemon.v2._documents.taken, "bytes of manifests are counted that no request holds"),
            (
                sum(each.busy for each in daemon.store.incoming.sessions.values()),
                "uploads are in use by requests that have ended",
            ),
        ):
            if count:
                raise Broken(f"{count} {what}")
        changed = daemon.state() != before
    statuses = [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]
    if any(status == 500 for status in statuses):
        raise Broken("a request is answered with 500")
    _check_errors(data)
    return _Answers(statuses, data, changed)


def _check_errors(data: bytes) -> None:
    """
    Check the messages of errors.
    """
    at = data.find(b'{"errors"')
    while at >= 0:
        found, _ = json.JSONDecoder().raw_decode(data[at:].decode("utf-8"))
        for error in found["errors"]:
            check_message(error["message"])
        at = data.find(b'{"errors"', at + 1)


def check_request(given: tuple[bytes, list[int]]) -> None:
    """
    A request is answered, the same however its bytes arrive, and never with a fault of the
    daemon's in its log.
    """
    data, sizes = given
    whole = _answers([data], Trust.ALL)
    parts = _answers(cut(data, sizes), Trust.ALL)
    same(parts.statuses, whole.statuses, "a request in pieces and as a whole")


REGISTRY: Final = Harness("registry", st.tuples(damaged(requests()), SIZES), check_request)


def check_stranger(data: bytes) -> None:
    """
    A client without rights changes nothing, and gets nothing of the daemon's own.
    """
    found = _answers([data], Trust.NONE)
    if found.changed:
        raise Broken(f"a client without rights changed something: {found.statuses}")
    if any(secret in found.data for secret in _SECRETS):
        raise Broken(f"a client without rights got an own image: {found.statuses}")


STRANGER: Final = Harness("stranger", damaged(requests()), check_stranger)
