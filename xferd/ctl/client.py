# -*- test-case-name: tests.ctl.test_client -*-
"""
The daemon as a client sees it: its HTTP API over TCP or a unix socket.

It is plain blocking code on C{http.client}, because a command line client
must start at once.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import struct
import time
from base64 import urlsafe_b64encode
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from xferd.ctl.listener_owner import check_owner
from xferd.ctl.text import clean
from xferd.paths import ROOT_SOCKET, default_socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

DEFAULT_URL = "http://127.0.0.1:9337"
"""Where a daemon listens by default, besides its socket."""

ENDED = frozenset({"done", "failed", "cancelled"})
"""The states that a job stays in."""

_ANSWER_TIMEOUT = 30.0

_LOGIN_TIMEOUT = 120.0
"""Seconds for an answer behind which there is a registry, and perhaps its token server."""

_SILENCE = 60.0
"""Seconds without an event, heartbeats included, after which the stream is taken to be dead."""

_DOWNLOAD = 600.0
"""Seconds without a byte of an archive: layers may have to be fetched before the first."""

_BUSY = 0.5
"""Seconds to wait before a piece of an archive is offered again."""

_PIECE = 1024 * 1024

_PAGE = 500
"""How many jobs are asked for at a time."""

_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 4.0)
"""Seconds to wait before each try to reach a daemon that was there a moment ago."""

_MAX_ANSWER = 256 * 1024 * 1024
_MAX_LINE = 16 * 1024 * 1024


class ClientError(Exception):
    """
    Why a command failed, as its user reads it.
    """


class BadHost(ClientError):
    """
    What should say where the daemon is does not.
    """


class NoDaemon(ClientError):
    """
    Nobody listens, or what listens cannot be talked to.
    """


class NotXferd(ClientError):
    """
    Somebody else listens there.
    """


class Refused(ClientError):
    """
    The daemon said no.

    @ivar status: the HTTP status.
    @ivar code: the daemon's word for programs, C{NAME_INVALID}.
    @ivar detail: what else it says of it.
    """

    def __init__(self, status: int, code: str, message: str, detail: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{message} ({code})" if code else message)
        self.status = status
        self.code = code
        self.detail = {} if detail is None else detail


class Address(NamedTuple):
    """
    One place where a daemon may listen.

    @ivar scheme: C{unix}, C{http} or C{https}.
    @ivar name: the socket's path, or the host.
    @ivar port: the port, or L{None}.
    @ivar prefix: what stands before C{/api} in every path.
    @ivar named: whether the user chose it; otherwise what listens there must
        be this user's or root's.
    """

    scheme: str
    name: str
    port: int | None = None
    prefix: str = ""
    named: bool = True

    @classmethod
    def parse(cls, text: str) -> Address:
        """
        Read C{http://HOST:PORT}, C{https://HOST} or C{unix:PATH}.

        @raise BadHost: it is none of them.
        """
        if text.startswith("unix:"):
            path = text[len("unix:") :]
            if path and "\0" not in path:
                return cls("unix", path)
        elif text.isprintable():
            try:
                parts = urlsplit(text)
                if parts.scheme in ("http", "https") and parts.hostname and parts.username is None:
                    return cls(parts.scheme, parts.hostname, parts.port, parts.path.rstrip("/"))
            except ValueError:
                # A port that is no number, brackets that do not match.
                pass
        raise BadHost(f"{text!r} is not where a daemon can be: give http://HOST:PORT or unix:PATH")

    def connect(self, timeout: float) -> HTTPConnection:
        """
        Connect.

        @raise OSError: nothing listens, or an address that the user did not
            name is another user's.
        """
        connection: HTTPConnection
        if self.scheme == "unix":
            connection = UnixHTTPConnection(self.name, timeout)
        elif self.scheme == "https":
            connection = HTTPSConnection(self.name, self.port, timeout=timeout)
        else:
            connection = HTTPConnection(self.name, self.port, timeout=timeout)
        connection.connect()
        if not self.named:
            try:
                check_owner(connection.sock)
            except BaseException:
                connection.close()
                raise
        return connection

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix:{self.name}"
        host = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.scheme}://{host}{'' if self.port is None else f':{self.port}'}{self.prefix}"


class UnixHTTPConnection(HTTPConnection):
    """
    HTTP over a unix socket.
    """

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """
        Connect to the socket's path.

        With Python's own time limit, a daemon whom many call at the same
        moment would be taken for none: the kernel does not queue who does not
        wait.  So the kernel is told how long to wait.
        """
        assert self.timeout is not None
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            limit = struct.pack("ll", int(self.timeout), int(self.timeout % 1 * 1e6))
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            self.sock.connect(self._path)
            self.sock.settimeout(self.timeout)
        except BaseException:
            self.sock.close()
            raise


class Event(NamedTuple):
    """
    One line of a job's events.

    @ivar kind: C{job}, C{layer}, C{transfer} or C{image}.
    @ivar data: the newest state of that thing.
    @ivar final: whether it is the last word on it.
    @ivar id: where to go on after it, or the empty string.
    """

    kind: str
    data: dict[str, Any]
    final: bool
    id: str = ""


class Download:
    """
    An archive on its way from the daemon.

    Life cycle: entered; iterated over once; left.

    @ivar size: its bytes.
    """

    def __init__(self, connection: HTTPConnection, response: HTTPResponse, source: str) -> None:
        """
        @raise NotXferd: it does not say how much it is.
        """
        self._connection = connection
        self._response = response
        self._source = source
        length = response.headers.get("content-length", "")
        if not re.fullmatch(r"[0-9]{1,19}", length):
            self.close()
            raise NotXferd(f"what answers at {source} does not speak xferd's API")
        self.size = int(length)

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """
        The bytes in pieces, all of them.

        @raise NoDaemon: it breaks off.
        """
        left = self.size
        try:
            while left and (piece := self._response.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
        except (OSError, HTTPException) as e:
            raise NoDaemon(f"the daemon at {self._source} broke off the archive: {_reason(e)}") from e
        if left:
            raise NoDaemon(f"the daemon at {self._source} broke off the archive; its log says why")

    def close(self) -> None:
        """
        Let go of the connection.
        """
        self._response.close()
        self._connection.close()


def addresses(host: str | None, environ: Mapping[str, str], uid: int) -> list[Address]:
    """
    Where to look for the daemon, the likeliest place first.

    @param host: what the user said, or L{None} or C{""}: then it is this
        user's socket if there is one, root's if it may be used, and the
        default port; what listens there must belong to this user or to root.
    @raise BadHost: what the user said is no address.
    """
    if host:
        return [Address.parse(host)]
    sockets = dict.fromkeys((default_socket(environ, uid), ROOT_SOCKET))
    found = [Address("unix", path) for path in sockets if os.access(path, os.W_OK)]
    return [address._replace(named=False) for address in (*found, Address.parse(DEFAULT_URL))]


def client_name(uid: int) -> str:
    """
    What the daemon calls us: C{user@host}, at most 64 plain characters, the
    first a letter or a digit.
    """
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return re.sub(r"[^A-Za-z0-9@._-]", "-", f"{user}@{socket.gethostname()}").lstrip("@._-")[:64]


class Daemon:
    """
    A daemon, asked over its HTTP API; each request has its own connection.

    Every method raises L{NoDaemon} where there is none, and L{Refused} where
    it says no.
    """

    def __init__(
        self,
        addresses: list[Address],
        *,
        client: str,
        token: str | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        @param addresses: where it may be; the first that answers is kept.
        @param client: the name to give to the daemon.
        @param token: the API's bearer token, where it wants one.
        @param pause: waits for some seconds.
        """
        self._addresses = addresses
        self._pause = pause
        self._headers = {"X-Xferd-Client": client, "Connection": "close"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"

    def address(self) -> Address:
        """
        Where the daemon listens: where all further requests go.
        """
        if len(self._addresses) > 1:
            self._connect(_ANSWER_TIMEOUT).close()
        return self._addresses[0]

    def start(
        self, kind: str, reference: str | None, headers: Mapping[str, str] | None = None, **more: object
    ) -> dict[str, Any]:
        """
        Ask for a job.

        @param kind: C{pull}, C{push}, C{copy} or C{import}.
        @param headers: credentials of the user's own, for this job alone.
        @param more: what else there is to say of it, as the API has it.
        @return: the job.
        """
        return self._object("POST", "/jobs", {"kind": kind, "reference": reference, **more}, headers)

    def try_login(self, host: str, auth: Mapping[str, str]) -> None:
        """
        Have the daemon see whether a registry accepts credentials.

        @param host: the registry.
        @param auth: C{username} and C{password}.
        """
        header = urlsafe_b64encode(json.dumps(auth).encode()).decode("ascii")
        connection, response = self._ask(
            "POST", "/auth", {"host": host}, "application/json", _LOGIN_TIMEOUT, {"X-Registry-Auth": header}
        )
        response.close()
        connection.close()

    def job(self, job_id: str) -> dict[str, Any]:
        """
        A job, with its layers.
        """
        return self._object("GET", f"/jobs/{quote(job_id, safe='')}")

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """
        The attempts behind a job, the oldest first.
        """
        return self._list(f"/jobs/{quote(job_id, safe='')}/attempts")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """
        Cancel a job.

        @return: the job as it is now; one that had ended before is unchanged.
        """
        return self._object("DELETE", f"/jobs/{quote(job_id, safe='')}")

    def send_piece(self, job_id: str, offset: int, data: bytes) -> None:
        """
        Send the next piece of an import's archive, and wait until it was
        read; one whose answer is lost was sent all the same.
        """
        path = f"/jobs/{quote(job_id, safe='')}/content"
        headers = {"Content-Range": f"{offset}-{offset + len(data) - 1}"}
        breaks = 0
        while True:
            try:
                if isinstance(self._value("PATCH", path, data, headers), dict):
                    return
                raise NoDaemon(f"the daemon at {self._addresses[0]} broke off its answer")
            except Refused as e:
                reached = e.detail.get("offset")
                if reached == offset + len(data):
                    return
                if e.status != 416 or reached != offset:
                    raise
                # The piece before is being read still.
                self._pause(_BUSY)
            except NoDaemon:
                if breaks >= len(_PAUSES):
                    raise
                self._pause(_PAUSES[breaks])
                breaks += 1

    def end_content(self, job_id: str, size: int) -> None:
        """
        Say that an import's archive is whole.
        """
        while True:
            try:
                self._value("PUT", f"/jobs/{quote(job_id, safe='')}/content", {"size": size})
                return
            except Refused as e:
                if e.status != 416 or e.detail.get("offset") != size:
                    raise
                self._pause(_BUSY)

    def archive(self, reference: str, form: str, headers: Mapping[str, str] | None = None) -> Download:
        """
        Open an image of the store as an archive.

        @param form: C{docker} or C{oci}.
        @param headers: credentials of the user's own, for layers that the
            store lacks.
        """
        path = f"/archives/{quote(reference, safe='/:@')}?format={form}"
        accept = "application/x-tar, application/json"
        connection, response = self._ask("GET", path, None, accept, _DOWNLOAD, headers)
        return Download(connection, response, str(self._addresses[0]))

    def image(self, reference: str, platform: str | None = None) -> dict[str, Any]:
        """
        An image of the store.

        @param platform: what it must be for, if that matters.
        """
        query = "" if platform is None else f"?platform={quote(platform, safe='/')}"
        return self._object("GET", f"/images/{quote(reference, safe='/:@')}{query}")

    def renew(self, reference: str) -> list[str]:
        """
        Have the layers of an image unpacked again that an older daemon has
        unpacked.  A daemon that is older than this, or has no such image, does
        nothing.

        @return: warnings.
        """
        path = f"/images/{quote(reference, safe='/:@')}/trees"
        try:
            value = self._answer("POST", path, None, timeout=_DOWNLOAD)[0]
        except Refused as e:
            if e.status in (404, 405):
                return []
            raise
        warnings = value.get("warnings") if isinstance(value, dict) else None
        return [str(text) for text in warnings] if isinstance(warnings, list) else []

    def tag(self, reference: str, name: str) -> dict[str, Any]:
        """
        Give an image of the store another name.

        @return: the image under that name.
        """
        path = f"/images/{quote(reference, safe='/:@')}/tags"
        return self._object("POST", path, {"reference": name})

    def pin(self, reference: str, pinned: bool) -> dict[str, Any]:
        """
        Pin an image, or unpin it.

        @return: the image.
        """
        return self._object("POST", f"/images/{quote(reference, safe='/:@')}/pin", {"pinned": pinned})

    def remove(self, reference: str) -> dict[str, Any]:
        """
        Take an image's name away.

        @return: its name in full, and what was freed.
        """
        return self._object("DELETE", f"/images/{quote(reference, safe='/:@')}")

    def collect(self, dry_run: bool, partials: bool) -> dict[str, Any]:
        """
        Free what nothing needs.

        @param partials: also the partial blobs that no transfer uses.
        @return: what was freed, or would be.
        """
        asked = {"dry_run": dry_run}
        # A daemon that is older does not know the word.
        return self._object("POST", "/gc", {**asked, "partials": True} if partials else asked)

    def jobs(self) -> list[dict[str, Any]]:
        """
        The jobs that have not ended and those that ended last, the newest
        first.
        """
        return self._list("/jobs")

    def all_jobs(self) -> list[dict[str, Any]]:
        """
        Every job that the daemon's journal has, the newest first.
        """
        found: list[dict[str, Any]] = []
        path: str | None = f"/jobs?limit={_PAGE}"
        while path is not None:
            items, path = self._page(path)
            found += items
        return found

    def transfers(self) -> list[dict[str, Any]]:
        """
        Every transfer.
        """
        return self._list("/transfers")

    def images(self) -> list[dict[str, Any]]:
        """
        Every image of the store.
        """
        return self._list("/images")

    def limits(self) -> dict[str, Any]:
        """
        How much happens at once, and how fast.
        """
        return self._object("GET", "/limits")

    def change_limits(self, changes: Mapping[str, int]) -> dict[str, Any]:
        """
        Set some limits.

        @return: all of them as they are then.
        """
        return self._object("PATCH", "/limits", dict(changes))

    def page(self, uid: int) -> dict[str, Any]:
        """
        Have the daemon let one browser of a user's in.

        @return: the code for its address, and the port.
        """
        return self._object("POST", "/page", {"uid": uid})

    def status(self) -> dict[str, Any]:
        """
        How the daemon is.
        """
        return self._object("GET", "/status")

    def examination(self) -> list[dict[str, Any]]:
        """
        What the daemon finds in its installation: checks with their problems.

        @raise NotXferd: it answers something else.
        """
        checks = self._object("GET", "/doctor").get("checks")
        if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
            raise self._stranger()
        return checks

    def events(self, job_id: str) -> Iterator[Event]:
        """
        Follow a job until it has ended.

        A stream that breaks is opened again while the daemon lives; it then
        begins with the present state of everything.  The last event is the
        job's own, in one of the states L{ENDED}.
        """
        breaks = 0
        while True:
            try:
                for event in self._stream(f"/jobs/{quote(job_id, safe='')}/events"):
                    yield event
                    if event.kind == "job":
                        if event.data.get("state") in ENDED:
                            return
                    else:
                        # What moves shows that the stream works.
                        breaks = 0
                job = self.job(job_id)
                if job.get("state") in ENDED:
                    yield Event("job", job, True)
                    return
            except (NoDaemon, Refused) as e:
                # 503: it has listeners enough, or is about to stop.
                if breaks >= len(_PAUSES) or (isinstance(e, Refused) and e.status != 503):
                    raise
            self._pause(_PAUSES[min(breaks, len(_PAUSES) - 1)])
            breaks += 1

    def watch(self) -> Iterator[Event]:
        """
        Follow everything, without end.

        A stream that breaks is gone on with.  Where it begins anew, with the
        present state of everything, there is an event of the kind C{begin}
        before that.
        """
        breaks, seen = 0, ""
        while True:
            try:
                for event in self._stream("/events", seen):
                    yield event
                    seen = event.id or seen
                    breaks = 0
            except (NoDaemon, Refused) as e:
                if breaks >= len(_PAUSES) or (isinstance(e, Refused) and e.status != 503):
                    raise
            self._pause(_PAUSES[min(breaks, len(_PAUSES) - 1)])
            breaks += 1

    def _stream(self, path: str, seen: str | None = None) -> Iterator[Event]:
        """
        One connection's events; ends without a word when it breaks.

        @param seen: where to go on, or L{None} if that does not matter.
        """
        more = {"Last-Event-ID": seen} if seen else {}
        connection, response = self._ask("GET", path, None, "application/x-ndjson", _SILENCE, more)
        if seen is not None and response.getheader("Xferd-Resumed") != "true":
            yield Event("begin", {}, False)
        try:
            while True:
                try:
                    line = response.readline(_MAX_LINE)
                except (OSError, HTTPException, ValueError):
                    return
                if not line.endswith(b"\n"):
                    return
                if line.strip():
                    yield self._event(line)
        finally:
            response.close()
            connection.close()

    def _event(self, line: bytes) -> Event:
        """
        Read one line of a stream.
        """
        try:
            value = json.loads(line)
            kind, data = value["kind"], value["data"]
            if isinstance(kind, str) and isinstance(data, dict):
                where = value.get("id")
                return Event(kind, data, value.get("final") is True, where if isinstance(where, str) else "")
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise self._stranger()

    def _list(self, path: str) -> list[dict[str, Any]]:
        """
        Make a request whose answer is a list of objects.
        """
        return self._page(path)[0]

    def _page(self, path: str) -> tuple[list[dict[str, Any]], str | None]:
        """
        Make a request whose answer is a list of objects, or a page of one.

        @return: the objects, and where the next page is, if there is one.
        """
        value, response = self._answer("GET", path, None)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._stranger()
        link = re.fullmatch(r'<[^>?]*(\?[^>]*)>; rel="next"', response.getheader("Link") or "")
        return value, None if link is None else path.partition("?")[0] + link[1]

    def _object(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """
        Make a request whose answer is an object.
        """
        value = self._value(method, path, body, headers)
        if isinstance(value, dict):
            return value
        raise self._stranger()

    def _value(
        self, method: str, path: str, body: object, headers: Mapping[str, str] | None = None
    ) -> object:
        """
        Make a request whose answer is JSON.
        """
        return self._answer(method, path, body, headers)[0]

    def _answer(
        self,
        method: str,
        path: str,
        body: object,
        headers: Mapping[str, str] | None = None,
        timeout: float = _ANSWER_TIMEOUT,
    ) -> tuple[object, HTTPResponse]:
        """
        Make a request whose answer is JSON.

        @param timeout: seconds for which the daemon may be silent.
        @return: its value, and the response that it came with.
        """
        connection, response = self._ask(method, path, body, "application/json", timeout, headers)
        try:
            return _json(response.read(_MAX_ANSWER)), response
        except (OSError, HTTPException) as e:
            raise NoDaemon(f"the daemon at {self._addresses[0]} broke off its answer: {_reason(e)}") from e
        finally:
            response.close()
            connection.close()

    def _ask(
        self,
        method: str,
        path: str,
        body: object,
        accept: str,
        timeout: float,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[HTTPConnection, HTTPResponse]:
        """
        Send a request and wait for the head of the answer.

        @param body: bytes as they are, or what JSON is to be made of.
        @param timeout: seconds of silence, then and later, that are too many.
        @param headers: more of them.
        """
        connection = self._connect(timeout)
        address = self._addresses[0]
        headers = {**self._headers, **(headers or {}), "Accept": accept}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            plain = isinstance(body, bytes)
            headers["Content-Type"] = "application/octet-stream" if plain else "application/json"
        try:
            connection.request(method, f"{address.prefix}/api/v1{path}", data, headers)
            response = connection.getresponse()
            if 200 <= response.status < 300:
                return connection, response
            answer = response.read(_MAX_ANSWER)
        except (OSError, HTTPException, ValueError) as e:
            connection.close()
            raise NoDaemon(f"the daemon at {address} does not answer: {_reason(e)}") from e
        except BaseException:
            connection.close()
            raise
        connection.close()
        raise self._refusal(response.status, answer)

    def _connect(self, timeout: float) -> HTTPConnection:
        """
        Connect to the first address where somebody listens, and stay there.
        """
        failures = []
        for address in self._addresses:
            try:
                connection = address.connect(timeout)
            except (OSError, ValueError) as e:
                failures.append(f"{address} ({_reason(e)})")
            else:
                self._addresses = [address]
                return connection
        raise NoDaemon(
            f"no daemon listens at {' or '.join(failures)}; "
            "start one with 'twistd -n --pidfile= xferd', or say with --host where it is"
        )

    def _refusal(self, status: int, answer: bytes) -> ClientError:
        """
        What an answer means that is no success.
        """
        value = _json(answer)
        error = value.get("error") if isinstance(value, dict) else None
        if not isinstance(error, dict):
            return self._stranger(f" (HTTP status {status})")
        detail = error.get("detail")
        return Refused(
            status,
            clean(error.get("code")),
            clean(error.get("message")) or f"HTTP {status}",
            detail if isinstance(detail, dict) else None,
        )

    def _stranger(self, detail: str = "") -> ClientError:
        """
        Somebody answered who is no xferd, or one of another age.
        """
        return NotXferd(f"what answers at {self._addresses[0]} does not speak xferd's API{detail}")


def _json(data: bytes) -> object:
    """
    A body's value, or L{None} if it is not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _reason(error: Exception) -> str:
    """
    An error in a few words.
    """
    if isinstance(error, OSError) and error.strerror:
        return clean(error.strerror).lower()
    return clean(error) or type(error).__name__
