# -*- test-case-name: tests.testing.test_faults -*-
"""
Faults of registries, proxies and networks, to plant in a server for tests.
"""

from __future__ import annotations

import json
import re
from typing import cast

from attrs import define, evolve, field, frozen
from twisted.web.server import Request

from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest
from xferd.oci import MAX_DOCUMENT
from xferd.testing.answers import BEFORE_HEADERS, Answer, Problem, problem

_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"


class Fault:
    """
    A fault of one request.
    """

    def on_request(self, request: Request) -> None:
        """
        Change the request before it is processed.

        @raise Problem: the answer to send without processing the request.
        """

    def on_answer(self, answer: Answer) -> Answer:
        """
        Change the answer before it is sent.
        """
        return answer


@frozen
class Instead(Fault):
    """
    Send another answer, without processing the request.
    """

    answer: Answer

    def on_request(self, request: Request) -> None:  # noqa: ARG002
        raise Problem(self.answer)


@frozen
class Drop(Fault):
    """
    Close the connection.

    @ivar after: bytes of the body to send first, or C{BEFORE_HEADERS}.
    @ivar reset: whether by RST instead of FIN.
    """

    after: int = BEFORE_HEADERS
    reset: bool = False

    def on_answer(self, answer: Answer) -> Answer:
        return evolve(answer, drop_after=self.after, reset=self.reset)


@frozen
class Stall(Fault):
    """
    Stop sending until the server's C{resume}, or until the client disconnects.

    @ivar after: bytes of the body to send first, or C{BEFORE_HEADERS}.
    """

    after: int = BEFORE_HEADERS

    def on_answer(self, answer: Answer) -> Answer:
        return evolve(answer, stall_after=self.after)


@frozen
class Slow(Fault):
    """
    Send slowly.

    @ivar rate: bytes a second.
    """

    rate: float

    def on_answer(self, answer: Answer) -> Answer:
        return evolve(answer, rate=self.rate)


@frozen
class Flip(Fault):
    """
    Corrupt one byte.

    @ivar at: its offset in the blob or manifest, in ranges, too.
    """

    at: int = 0

    def on_answer(self, answer: Answer) -> Answer:
        return evolve(answer, flip_at=self.at)


@frozen
class Shorten(Fault):
    """
    Send fewer bytes than the content has, with a matching Content-Length.

    @ivar to: the number of bytes.
    """

    to: int

    def on_answer(self, answer: Answer) -> Answer:
        return evolve(answer, stop=min(answer.start + self.to, answer.start + answer.length))


@frozen
class IgnoreRange(Fault):
    """
    Ignore Range: send the whole content, with status 200.
    """

    def on_request(self, request: Request) -> None:
        request.requestHeaders.removeHeader(b"range")


@frozen
class ShiftRange(Fault):
    """
    Send a Content-Range that differs from the sent bytes.

    @ivar by: the shift of its first and last byte.
    """

    by: int = 1

    def on_answer(self, answer: Answer) -> Answer:
        told = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/(.+)", answer.headers.get("Content-Range", ""))
        if told is None:
            return answer
        first, last = int(told[1]) + self.by, int(told[2]) + self.by
        return _with_header(answer, "Content-Range", f"bytes {first}-{last}/{told[3]}")


@frozen
class SetHeader(Fault):
    """
    Send another value of a header.

    @ivar value: the value, or None to leave the header out.
    """

    name: str
    value: str | None

    def on_answer(self, answer: Answer) -> Answer:
        return _with_header(answer, self.name, self.value)


@frozen
class Redirect(Fault):
    """
    Redirect the client.

    @ivar to: the beginning of a URL, C{http://host:port}, to which the path
        and query are added; the empty string makes a loop.
    @ivar status: 301, 302, 303, 307 or 308.
    """

    to: str = ""
    status: int = 307

    def on_request(self, request: Request) -> None:
        raise Problem(Answer(self.status, {"Location": self.to + request.uri.decode("ascii")}))


class BodyFault(Fault):
    """
    A fault while a request's body arrives, on a socket.
    """


@frozen
class CutBody(BodyFault):
    """
    Break the connection by RST.

    @ivar after: the bytes of the body to accept first.
    @ivar connection: whether to count all bodies of the connection.
    """

    after: int
    connection: bool = False


@frozen
class RefuseBody(BodyFault):
    """
    Answer before the body is complete, and stop reading it.

    @ivar answer: the answer.
    @ivar most: the accepted bytes of a body.  A larger Content-Length is refused at
        once, a body without one when it exceeds them.
    """

    answer: Answer
    most: int = -1

    def at_once(self, length: int | None) -> bool:
        """
        Whether a body of this length is refused before it arrives.
        """
        return length is not None and length > self.most


def too_large(most: int) -> RefuseBody:
    """
    Status 413 for bodies of more than C{most} bytes, in a proxy's form.
    """
    answer = Answer(413, {"Content-Type": "text/html"}, b"<h1>413 Request Entity Too Large</h1>")
    return RefuseBody(answer, most)


def too_many_requests(retry_after: str | None = None) -> Instead:
    """
    Status 429.

    @param retry_after: seconds, an HTTP date, or another text.
    """
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Instead(problem(429, "TOOMANYREQUESTS", "slow down", headers).answer)


def unavailable(status: int = 503, retry_after: str | None = None) -> Instead:
    """
    Status 5xx in a proxy's form, without the registry's JSON.
    """
    headers = {"Content-Type": "text/html"} | ({} if retry_after is None else {"Retry-After": retry_after})
    return Instead(Answer(status, headers, b"<h1>no</h1>"))


def unauthorized(challenge: str = 'Basic realm="test"') -> Instead:
    """
    Status 401 for all credentials.
    """
    headers = {"WWW-Authenticate": challenge}
    return Instead(problem(401, "UNAUTHORIZED", "authentication required", headers).answer)


def not_found(code: str = "BLOB_UNKNOWN") -> Instead:
    """
    Status 404.
    """
    return Instead(problem(404, code, "there is no such thing").answer)


def wrong_digest_header() -> SetHeader:
    """
    A Docker-Content-Digest that differs from the content's.
    """
    return SetHeader("Docker-Content-Digest", str(Digest.of(b"something else")))


def schema1_manifest() -> Instead:
    """
    A Docker schema 1 manifest.
    """
    body = json.dumps(
        {
            "schemaVersion": 1,
            "name": "library/old",
            "tag": "latest",
            "architecture": "amd64",
            "fsLayers": [{"blobSum": str(Digest.of(b""))}],
            "history": [{"v1Compatibility": "{}"}],
            "signatures": [],
        }
    ).encode()
    return Instead(Answer(200, {"Content-Type": _SCHEMA1}, body))


def huge_manifest(size: int = MAX_DOCUMENT + 1) -> Instead:
    """
    A manifest of C{size} bytes, mostly blanks.
    """
    return Instead(Answer(200, {"Content-Type": OCI_MANIFEST}, b'{"schemaVersion": 2}'.ljust(size)))


@define(eq=False)
class _Planted:
    """
    A fault, and the requests that it applies to.
    """

    fault: Fault
    path: str
    method: str | None
    times: int | None


@define
class Faults:
    """
    The planted faults.

    A request meets the first planted fault that applies to it, and one for its
    body; a sequence of faults is planted in its order.
    """

    _planted: list[_Planted] = field(factory=list)

    def plant(
        self, fault: Fault, where: str | Digest = "", *, method: str | None = None, times: int | None = 1
    ) -> None:
        """
        Plant a fault for the next requests.

        @param where: a part of the path, or a digest in it; all requests by
            default.
        @param method: only those of this method.
        @param times: the number of requests, or L{None} for all.
        """
        self._planted.append(_Planted(fault, str(where), method, times))

    def clear(self) -> None:
        """
        Remove all faults.
        """
        self._planted.clear()

    def take(self, method: str, path: str) -> Fault:
        """
        The fault of a request, L{Fault} itself if there is none.
        """
        return self._next(method, path, False) or Fault()

    def take_body(self, method: str, path: str) -> BodyFault | None:
        """
        The fault of a request's body, if any.
        """
        return cast("BodyFault | None", self._next(method, path, True))

    def _next(self, method: str, path: str, body: bool) -> Fault | None:
        """
        The first fault that applies to a request.
        """
        for planted in self._planted:
            fits = planted.path in path and planted.method in (None, method) and planted.times != 0
            if fits and isinstance(planted.fault, BodyFault) is body:
                if planted.times is not None:
                    planted.times -= 1
                return planted.fault
        return None


def _with_header(answer: Answer, name: str, value: str | None) -> Answer:
    """
    An answer with one header changed.
    """
    headers = {n: v for n, v in answer.headers.items() if n.lower() != name.lower()}
    return evolve(answer, headers=headers if value is None else {**headers, name: value})
