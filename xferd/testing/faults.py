# -*- test-case-name: tests.testing.test_faults -*-
"""
Faults to plant in a server for tests: what registries, proxies and networks do
on bad days.
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
    What goes wrong with one request.
    """

    def on_request(self, request: Request) -> None:
        """
        Change the request before it is looked at.

        @raise Problem: give this answer, and do nothing of what was asked.
        """

    def on_answer(self, answer: Answer) -> Answer:
        """
        Change the answer before it is sent.
        """
        return answer


@frozen
class Instead(Fault):
    """
    Give another answer, and do nothing of what was asked.
    """

    answer: Answer

    def on_request(self, request: Request) -> None:  # noqa: ARG002
        """
        Give the answer.
        """
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
        """
        Plan the end.
        """
        return evolve(answer, drop_after=self.after, reset=self.reset)


@frozen
class Stall(Fault):
    """
    Fall silent, until the server's C{resume} or until the client goes.

    @ivar after: bytes of the body to send first, or C{BEFORE_HEADERS}.
    """

    after: int = BEFORE_HEADERS

    def on_answer(self, answer: Answer) -> Answer:
        """
        Plan the silence.
        """
        return evolve(answer, stall_after=self.after)


@frozen
class Slow(Fault):
    """
    Send slowly.

    @ivar rate: bytes a second.
    """

    rate: float

    def on_answer(self, answer: Answer) -> Answer:
        """
        Set the rate.
        """
        return evolve(answer, rate=self.rate)


@frozen
class Flip(Fault):
    """
    Send one byte wrong.

    @ivar at: its place in the blob or manifest, whatever range is sent.
    """

    at: int = 0

    def on_answer(self, answer: Answer) -> Answer:
        """
        Name the byte.
        """
        return evolve(answer, flip_at=self.at)


@frozen
class Shorten(Fault):
    """
    Send fewer bytes than the content has, with headers that say so too.

    @ivar to: how many bytes.
    """

    to: int

    def on_answer(self, answer: Answer) -> Answer:
        """
        Promise less.
        """
        return evolve(answer, stop=min(answer.start + self.to, answer.start + answer.length))


@frozen
class IgnoreRange(Fault):
    """
    Send everything, with status 200, whatever range is asked for.
    """

    def on_request(self, request: Request) -> None:
        """
        Forget the range.
        """
        request.requestHeaders.removeHeader(b"range")


@frozen
class ShiftRange(Fault):
    """
    Say in Content-Range that other bytes come than those that do.

    @ivar by: how far to shift first and last.
    """

    by: int = 1

    def on_answer(self, answer: Answer) -> Answer:
        """
        Rewrite the header of a 206.
        """
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
        """
        Replace it.
        """
        return _with_header(answer, self.name, self.value)


@frozen
class Redirect(Fault):
    """
    Send the client elsewhere.

    @ivar to: the beginning of a URL, C{http://host:port}, to which the path
        and query are added; empty sends it in a circle.
    @ivar status: 301, 302, 303, 307 or 308.
    """

    to: str = ""
    status: int = 307

    def on_request(self, request: Request) -> None:
        """
        Name the other place.
        """
        raise Problem(Answer(self.status, {"Location": self.to + request.uri.decode("ascii")}))


class BodyFault(Fault):
    """
    What goes wrong with a request while its body arrives, on a socket.
    """


@frozen
class CutBody(BodyFault):
    """
    Break the connection by RST.

    @ivar after: how many bytes of the body to take first.
    @ivar connection: whether to count all bodies that came on the connection.
    """

    after: int
    connection: bool = False


@frozen
class RefuseBody(BodyFault):
    """
    Answer before the body is whole, and read no more of it.

    @ivar answer: the answer.
    @ivar most: how many bytes of a body are none too many.  A body that is
        announced to be larger is refused at once, others when they are.
    """

    answer: Answer
    most: int = -1

    def at_once(self, length: int | None) -> bool:
        """
        Whether a body of so many bytes is refused before any has come.
        """
        return length is not None and length > self.most


def too_large(most: int) -> RefuseBody:
    """
    Status 413 for bodies of more than C{most} bytes, as a proxy gives it.
    """
    answer = Answer(413, {"Content-Type": "text/html"}, b"<h1>413 Request Entity Too Large</h1>")
    return RefuseBody(answer, most)


def too_many_requests(retry_after: str | None = None) -> Instead:
    """
    Status 429.

    @param retry_after: seconds, an HTTP date, or anything else.
    """
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Instead(problem(429, "TOOMANYREQUESTS", "slow down", headers).answer)


def unavailable(status: int = 503, retry_after: str | None = None) -> Instead:
    """
    Status 5xx, as a proxy gives it: without the registry's JSON.
    """
    headers = {"Content-Type": "text/html"} | ({} if retry_after is None else {"Retry-After": retry_after})
    return Instead(Answer(status, headers, b"<h1>no</h1>"))


def unauthorized(challenge: str = 'Basic realm="test"') -> Instead:
    """
    Status 401, whatever credentials came.
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
    A Docker-Content-Digest that is not the content's.
    """
    return SetHeader("Docker-Content-Digest", str(Digest.of(b"something else")))


def schema1_manifest() -> Instead:
    """
    A manifest as Docker made them before 2017.
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
    A manifest of so many bytes, most of them blanks.
    """
    return Instead(Answer(200, {"Content-Type": OCI_MANIFEST}, b'{"schemaVersion": 2}'.ljust(size)))


@define(eq=False)
class _Planted:
    """
    A fault and the requests it is for.
    """

    fault: Fault
    path: str
    method: str | None
    times: int | None


@define
class Faults:
    """
    The faults that are still to happen.

    One request gets one fault, the first planted that is meant for it, and
    one for its body; so a sequence of faults is planted in its order.
    """

    _planted: list[_Planted] = field(factory=list)

    def plant(
        self, fault: Fault, where: str | Digest = "", *, method: str | None = None, times: int | None = 1
    ) -> None:
        """
        Let the next requests go wrong.

        @param where: a part of the path, or a digest in it; all requests by
            default.
        @param method: only those of this method.
        @param times: how many of them, or None for all.
        """
        self._planted.append(_Planted(fault, str(where), method, times))

    def clear(self) -> None:
        """
        Plant nothing any more.
        """
        self._planted.clear()

    def take(self, method: str, path: str) -> Fault:
        """
        The fault for a request; most have one in which nothing goes wrong.
        """
        return self._next(method, path, False) or Fault()

    def take_body(self, method: str, path: str) -> BodyFault | None:
        """
        The fault for a request's body, if there is one.
        """
        return cast("BodyFault | None", self._next(method, path, True))

    def _next(self, method: str, path: str, body: bool) -> Fault | None:
        """
        The first fault that is meant for a request.
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
    An answer with one header other than before.
    """
    headers = {n: v for n, v in answer.headers.items() if n.lower() != name.lower()}
    return evolve(answer, headers=headers if value is None else {**headers, name: value})
