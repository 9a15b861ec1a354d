# -*- test-case-name: tests.ctl.test_client -*-
"""
Requests to the daemon's HTTP API and their answers, as blocking code: a command
line client must start fast.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from xferd.ctl import http
from xferd.ctl.errors import NoDaemon, NotXferd, Refused
from xferd.ctl.http import BadResponse
from xferd.ctl.text import clean

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from xferd.ctl.address import Address
    from xferd.ctl.errors import ClientError

ANSWER_TIMEOUT = 30.0
"""Seconds without a byte after which a request fails."""

_SILENCE = 60.0
"""Seconds without an event or heartbeat after which a stream counts as broken."""

_JSON = "application/json"
_EVENTS = "application/x-ndjson"
_MAX_ANSWER = 256 * 1024 * 1024
_MAX_LINE = 16 * 1024 * 1024
_PIECE = 1024 * 1024


class Event(NamedTuple):
    """
    One event of a stream.

    @ivar kind: C{job}, C{layer}, C{transfer} or C{image}; C{begin} before the
        events of a stream that starts with the present state of everything; C{lost}
        when the daemon cannot be reached.
    @ivar data: the object's state, as the API defines it.
    @ivar final: whether this is the object's last event.
    @ivar id: the position in the stream, for resuming; may be empty.
    """

    kind: str
    data: dict[str, Any]
    final: bool
    id: str = ""


class Response:
    """
    The answer to one request, with its body still to be read.

    @ivar headers: its headers; their names are in lower case.
    """

    def __init__(self, connection: socket.socket, response: http.Response) -> None:
        self._connection = connection
        self._response = response
        self.headers = response.headers

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, limit: int = _MAX_ANSWER) -> bytes:
        """
        Read at most C{limit} bytes; none at the end.
        """
        return self._response.read(limit)

    def line(self) -> bytes:
        """
        Read one line with its newline; without one at the end, or if the line
        exceeds 16 MiB.
        """
        return self._response.readline(_MAX_LINE)

    def close(self) -> None:
        """
        Close the connection.
        """
        self._response.close()
        self._connection.close()


class Download:
    """
    An archive that the daemon sends.

    Life cycle: entered; iterated over once; left.

    @ivar size: its bytes.
    """

    def __init__(self, response: Response, source: str) -> None:
        """
        @param source: the daemon's address, for errors.
        @raise NotXferd: the response has no valid C{Content-Length}.
        """
        self._response = response
        self._source = source
        length = response.headers.get("content-length", "")
        if not re.fullmatch(r"[0-9]{1,19}", length):
            response.close()
            raise NotXferd(f"the server at {source} does not speak xferd's API")
        self.size = int(length)

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        """
        Yield all bytes, in pieces of at most 1 MiB.

        @raise NoDaemon: the archive ends early.
        """
        left = self.size
        try:
            while left and (piece := self._response.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
        except (OSError, BadResponse) as e:
            raise NoDaemon(f"the daemon at {self._source} ended the archive early: {reason(e)}") from e
        if left:
            raise NoDaemon(f"the daemon at {self._source} ended the archive early; see the daemon's log")


class API:
    """
    The HTTP API of one daemon.  Each request has its own connection.

    Every method raises L{NoDaemon} if no daemon can be reached, L{Refused} if
    the daemon answers with an error, and L{NotXferd} if the answer is not one
    of xferd's.
    """

    def __init__(self, addresses: list[Address], *, client: str, token: str | None = None) -> None:
        """
        @param addresses: the addresses to try; the first one that accepts a
            connection is used for all further requests.
        @param client: the client's name, C{user@host}.
        @param token: the API's bearer token, for a daemon that requires one.
        """
        self._addresses = addresses
        self._headers = {"X-Xferd-Client": client, "Connection": "close", "Accept-Encoding": "identity"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def address(self) -> Address:
        """
        The address to which all further requests go.
        """
        if len(self._addresses) > 1:
            self._connect(ANSWER_TIMEOUT).close()
        return self._addresses[0]

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        accept: str = _JSON,
        timeout: float = ANSWER_TIMEOUT,
    ) -> Response:
        """
        Send a request and wait for the head of its answer.

        @param path: the path below C{/api/v1}, with its query.
        @param body: bytes to send as they are, or a value to send as JSON.
        @param headers: additional headers.
        @param timeout: seconds of silence after which the request, or later
            a read of its body, fails.
        @return: an answer with status 2xx, for the caller to close.
        """
        connection = self._connect(timeout)
        address = self._addresses[0]
        headers = {"Host": address.authority, **self._headers, **(headers or {}), "Accept": accept}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/octet-stream" if isinstance(body, bytes) else _JSON
        try:
            response = http.send(connection, method, f"{address.prefix}/api/v1{path}", headers, data)
            if 200 <= response.status < 300:
                return Response(connection, response)
            answer = response.read(_MAX_ANSWER)
            response.close()
        except (OSError, BadResponse, ValueError) as e:
            connection.close()
            raise NoDaemon(f"the daemon at {address} does not answer: {reason(e)}") from e
        except BaseException:
            connection.close()
            raise
        connection.close()
        raise self._refusal(response.status, answer)

    def request_json(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float = ANSWER_TIMEOUT,
    ) -> object:
        """
        Send a request whose answer is JSON.

        @return: the answer's value; L{None} if it is not JSON.
        """
        return self._value(method, path, body, headers, timeout)[0]

    def request_object(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """
        Send a request whose answer is a JSON object.
        """
        value = self.request_json(method, path, body, headers)
        if isinstance(value, dict):
            return value
        raise self.not_xferd()

    def get_list(self, path: str) -> list[dict[str, Any]]:
        """
        Get a list of JSON objects.
        """
        return self.get_page(path)[0]

    def get_page(self, path: str) -> tuple[list[dict[str, Any]], str | None]:
        """
        Get one page of a list of JSON objects.

        @return: the objects, and the path of the next page or L{None}.
        """
        value, headers = self._value("GET", path)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.not_xferd()
        link = re.fullmatch(r'<[^>?]*(\?[^>]*)>; rel="next"', headers.get("link") or "")
        return value, None if link is None else path.partition("?")[0] + link[1]

    def stream(
        self, path: str, after: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Iterator[Event]:
        """
        Yield the events of one connection, until it breaks.

        @param after: the id of the last event seen; L{None} to report no
            C{begin} event.
        @param headers: additional headers.
        """
        headers = {**(headers or {}), **({"Last-Event-ID": after} if after else {})}
        with self.request("GET", path, None, headers, accept=_EVENTS, timeout=_SILENCE) as response:
            if after is not None and response.headers.get("xferd-resumed") != "true":
                yield Event("begin", {}, False)
            yield from self.events(response)

    def post_events(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> Iterator[Event]:
        """
        Send a POST request, and yield the events of its work.
        """
        accept = f"{_EVENTS}, {_JSON}"
        response = self.request("POST", path, body, headers, accept=accept, timeout=_SILENCE)
        if response.headers.get("content-type") == _EVENTS:
            yield from self.events(response)
        else:
            # It had ended before the response began.
            value = self._read_json(response)
            if not isinstance(value, dict):
                raise self.not_xferd()
            yield Event("", value, True)

    def events(self, response: Response) -> Iterator[Event]:
        """
        Yield the events of a response until its connection breaks, and close it.
        """
        with response:
            while True:
                try:
                    line = response.line()
                except (OSError, BadResponse, ValueError):
                    return
                if not line.endswith(b"\n"):
                    return
                if line.strip():
                    yield self._event(line)

    def request_events(
        self, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> tuple[Response, str] | dict[str, Any]:
        """
        Send a POST request whose answer is the events of the object that it
        makes; a daemon that is older or busy answers with the object.

        @return: the response, for L{events}, and the object's id; or the object.
        """
        accept = f"{_EVENTS}, {_JSON}"
        response = self.request("POST", path, body, headers, accept=accept, timeout=_SILENCE)
        object_id = (response.headers.get("location") or "").rpartition("/")[2]
        if object_id and response.headers.get("content-type") == _EVENTS:
            return response, object_id
        value = self._read_json(response)
        if isinstance(value, dict):
            return value
        raise self.not_xferd()

    def not_xferd(self, detail: str = "") -> ClientError:
        """
        The error for a server that is not xferd, or another version of it.
        """
        return NotXferd(f"the server at {self._addresses[0]} does not speak xferd's API{detail}")

    def _event(self, line: bytes) -> Event:
        try:
            value = json.loads(line)
            kind, data = value["kind"], value["data"]
            if isinstance(kind, str) and isinstance(data, dict):
                position = value.get("id")
                return Event(
                    kind, data, value.get("final") is True, position if isinstance(position, str) else ""
                )
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise self.not_xferd()

    def _value(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = ANSWER_TIMEOUT,
    ) -> tuple[object, Mapping[str, str]]:
        response = self.request(method, path, body, headers, timeout=timeout)
        return self._read_json(response), response.headers

    def _read_json(self, response: Response) -> object:
        with response:
            try:
                return _json(response.read())
            except (OSError, BadResponse) as e:
                raise NoDaemon(
                    f"the daemon at {self._addresses[0]} ended its answer early: {reason(e)}"
                ) from e

    def _connect(self, timeout: float) -> socket.socket:
        failures = []
        for address in self._addresses:
            try:
                connection = address.connect(timeout)
            except (OSError, ValueError) as e:
                failures.append(f"{address} ({reason(e)})")
            else:
                self._addresses = [address]
                return connection
        raise NoDaemon(
            f"the daemon does not answer at {' or '.join(failures)}; "
            "start one with 'xferd run', or name its address with --host"
        )

    def _refusal(self, status: int, answer: bytes) -> ClientError:
        value = _json(answer)
        error = value.get("error") if isinstance(value, dict) else None
        if not isinstance(error, dict):
            return self.not_xferd(f" (HTTP status {status})")
        detail = error.get("detail")
        return Refused(
            status,
            clean(error.get("code")),
            clean(error.get("message")) or f"HTTP {status}",
            detail if isinstance(detail, dict) else None,
        )


def reason(error: Exception) -> str:
    """
    An error in a few words, safe for a terminal.
    """
    if isinstance(error, OSError) and error.strerror:
        return clean(error.strerror).lower()
    return clean(error) or "no reason given"


def _json(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
