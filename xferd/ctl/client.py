# -*- test-case-name: tests.ctl.test_client -*-
"""
The daemon as commands see it: one method for each route of its API,
which makes the module long.
"""

from __future__ import annotations

import json
import pwd
import re
import socket
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

from xferd.ctl.api import API, Download, Event
from xferd.ctl.errors import ArchiveLost, ClientError, NoDaemon, Refused, UsageError
from xferd.ctl.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from xferd.ctl.address import Address
    from xferd.ctl.api import Response
    from xferd.ctl.errors import ClientError

ENDED = frozenset({"done", "failed", "cancelled"})
"""The final states of a job."""

_BRIEFLY = "?events=job"

_LOGIN_TIMEOUT = 120.0
"""Seconds for an answer that waits for a registry and its token server."""

_DOWNLOAD_TIMEOUT = 600.0
"""Seconds without a byte of an archive: the daemon may fetch layers before the first."""

_INTERRUPTED = "INTERRUPTED"
"""The code of a daemon that is starting or stopping."""

_READING = 0.5
"""Seconds to wait before sending a piece of an archive again, while the piece before is being read."""

_PAGE = 500
"""Jobs in one page of a list."""

_PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds to wait before each attempt to reach a daemon whose connection broke; the last one repeats."""

PATIENCE = 60.0
"""Seconds to wait for such a daemon: it may be restarting."""

LOST = f"the daemon does not answer; waiting up to {PATIENCE:.0f} s for its restart"
"""The text of a C{lost} event."""


def client_name(uid: int) -> str:
    """
    The client's name, C{user@host}: at most 64 ASCII characters, the first a
    letter or a digit.
    """
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return re.sub(r"[^A-Za-z0-9@._-]", "-", f"{user}@{socket.gethostname()}").lstrip("@._-")[:64]


class Daemon:
    """
    A daemon behind its HTTP API.

    Every method raises L{NoDaemon} if no daemon can be reached, L{Refused} if
    the daemon answers with an error, and L{NotXferd
    <xferd.ctl.errors.NotXferd>} if the answer is not one of xferd's.

    @ivar client: the client's name, C{user@host}.
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
        @param addresses: the addresses to try; the first one that accepts a
            connection is used for all further requests.
        @param client: the client's name, C{user@host}.
        @param token: the API's bearer token, for a daemon that requires one.
        @param pause: waits for a number of seconds.
        """
        self.client = client
        self._api = API(addresses, client=client, token=token)
        self._pause = pause
        self._streams: dict[str, Response] = {}

    def address(self) -> Address:
        """
        The address to which all further requests go.
        """
        return self._api.address()

    # ------------------------------------------------------------------- jobs

    def start(
        self, kind: str, reference: str | None, headers: Mapping[str, str] | None = None, **more: object
    ) -> dict[str, Any]:
        """
        Create a job.

        @param kind: C{pull}, C{push}, C{copy}, C{import}, C{prefetch} or C{verify}.
        @param headers: the user's credentials, for this job alone.
        @param more: further fields of the request, as the API defines them.
        @return: the job.
        """
        return self._api.request_object("POST", "/jobs", _job_request(kind, reference, more), headers)

    def start_followed(
        self,
        kind: str,
        reference: str | None,
        headers: Mapping[str, str] | None = None,
        *,
        briefly: bool = False,
        **more: object,
    ) -> dict[str, Any]:
        """
        Create a job that L{events} will follow: its stream opens with the same
        request.

        @param briefly: whether the stream has the events of the job alone.
        @return: the job; from the stream of a new daemon only its C{id} and
            C{kind}, as the rest follows.
        """
        path = f"/jobs{_BRIEFLY}" if briefly else "/jobs"
        answer = self._api.request_events(path, _job_request(kind, reference, more), headers)
        if isinstance(answer, dict):
            return answer
        response, job_id = answer
        self._streams[job_id] = response
        return {"id": job_id, "kind": kind}

    def jobs(self) -> list[dict[str, Any]]:
        """
        The jobs that have not ended and the last ones that have, the newest
        first.
        """
        return self._api.get_list("/jobs")

    def all_jobs(self) -> list[dict[str, Any]]:
        """
        Every job in the daemon's journal, the newest first.
        """
        found: list[dict[str, Any]] = []
        path: str | None = f"/jobs?limit={_PAGE}"
        while path is not None:
            items, path = self._api.get_page(path)
            found += items
        return found

    def job(self, job_id: str) -> dict[str, Any]:
        """
        A job, with its layers.
        """
        return self._api.request_object("GET", _job_path(job_id))

    def job_named(self, prefix: str, use: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
        """
        Use the job whose ID begins with some characters.

        @param use: makes a request with them.
        @return: what C{use} returns.
        @raise UsageError: several jobs have such IDs.
        """
        try:
            return use(prefix)
        except Refused as e:
            if e.code == "AMBIGUOUS_ID":
                raise UsageError(str(e)) from e
            raise

    def attempts(self, job_id: str) -> list[dict[str, Any]]:
        """
        The attempts of a job's transfers, the oldest first.
        """
        return self._api.get_list(f"{_job_path(job_id)}/attempts")

    def cancel(self, job_id: str) -> dict[str, Any]:
        """
        Cancel a job.

        @return: the job's present state; a job that had ended is unchanged.
        """
        return self._api.request_object("DELETE", _job_path(job_id))

    def change_job(self, job_id: str, changes: Mapping[str, object]) -> dict[str, Any]:
        """
        Change a job that has not ended.

        @param changes: C{paused}, C{priority}, C{download_rate} or C{upload_rate}.
        @return: the job.
        """
        return self._api.request_object("PATCH", _job_path(job_id), changes)

    def retry(self, job_id: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """
        Retry a job.

        @param headers: the user's credentials, for the new job.
        @return: the new job.
        """
        return self._api.request_object("POST", f"{_job_path(job_id)}/retry", {}, headers)

    def events(
        self, job_id: str, headers: Mapping[str, str] | None = None, *, briefly: bool = False
    ) -> Iterator[Event]:
        """
        Follow a job until it has ended, first with the stream of
        L{start_followed} if that opened one.

        A stream that breaks is opened again; it then starts with the present state
        of everything.  A C{lost} event reports that the daemon cannot be reached: it
        has L{PATIENCE} seconds to come back.  The last event is the job's own, in one of
        the states L{ENDED}.

        @param headers: the user's credentials, which a daemon that was restarted may
            have lost.
        @param briefly: whether the stream has the events of the job alone.
        """
        lost = False
        reconnects = _Reconnects(self._pause)
        while True:
            error: ClientError | None = None
            try:
                opened = self._streams.pop(job_id, None)
                stream = f"{_job_path(job_id)}/events{_BRIEFLY if briefly else ''}"
                if opened is None:
                    events = self._api.stream(stream, headers=headers)
                else:
                    events = self._api.events(opened)
                for event in events:
                    lost = False
                    yield event
                    if event.kind == "job":
                        if event.data.get("state") in ENDED:
                            return
                    else:
                        # Progress shows that the stream works.
                        reconnects.reset()
                job = self.job(job_id)
                if job.get("state") in ENDED:
                    yield Event("job", job, True)
                    return
            except (NoDaemon, Refused) as e:
                error = e
                if not lost and (isinstance(e, NoDaemon) or e.code == _INTERRUPTED):
                    lost = True
                    yield Event("lost", {"why": LOST}, False)
            reconnects.wait(error)

    def watch(self) -> Iterator[Event]:
        """
        Follow all jobs and transfers, without end.

        A stream that breaks is resumed after the last event.  Where it cannot
        be, as after a restart of the daemon, a C{begin} event precedes the present state of
        everything.  A C{lost} event reports that the daemon cannot be reached: it has
        L{PATIENCE} seconds to come back.
        """
        reconnects, seen, lost = _Reconnects(self._pause), "", False
        while True:
            error: ClientError | None = None
            try:
                for event in self._api.stream("/events", seen):
                    lost = False
                    yield event
                    seen = event.id or seen
                    reconnects.reset()
            except (NoDaemon, Refused) as e:
                error = e
                if not lost and (isinstance(e, NoDaemon) or e.code == _INTERRUPTED):
                    lost = True
                    yield Event("lost", {"why": LOST}, False)
            reconnects.wait(error)

    # --------------------------------------------------------------- steering

    def pause_more(self, name: str, keep: bool) -> dict[str, Any]:
        """
        Pause everything, a direction or a registry.

        @param name: C{all}, C{downloads}, C{uploads} or C{hosts/HOST}.
        @param keep: whether the pause persists over a restart of the daemon.
        @return: the pause.
        """
        return self._api.request_object("PUT", f"/pauses/{_quoted(name, safe='/:')}", {"keep": keep})

    def resume_more(self, name: str) -> dict[str, Any]:
        """
        End a pause of everything, of a direction or of a registry.

        @return: the pause.
        """
        return self._api.request_object("DELETE", f"/pauses/{_quoted(name, safe='/:')}")

    def drain(self, keep: bool) -> dict[str, Any]:
        """
        Drain the daemon: it starts no new work.

        @param keep: whether the drain persists over a restart of the daemon.
        @return: the progress of the drain.
        """
        return self._api.request_object("PUT", "/drain", {"keep": keep})

    def end_drain(self) -> dict[str, Any]:
        """
        End the drain: the daemon accepts jobs again.
        """
        return self._api.request_object("DELETE", "/drain")

    def poll(self, seconds: float) -> Iterator[dict[str, Any] | None]:
        """
        Read the daemon's status, with so many seconds in between, without end.

        @return: the status; L{None} once when the daemon cannot be reached: it has
            L{PATIENCE} seconds to come back.
        """
        reconnects, lost = _Reconnects(self._pause), False
        while True:
            try:
                found = self.status()
            except (NoDaemon, Refused) as e:
                if not lost and (isinstance(e, NoDaemon) or e.code == _INTERRUPTED):
                    lost = True
                    yield None
                reconnects.wait(e)
            else:
                reconnects, lost = _Reconnects(self._pause), False
                yield found
                self._pause(seconds)

    # --------------------------------------------------------------- archives

    def send_piece(self, job_id: str, offset: int, data: bytes) -> None:
        """
        Send the next piece of an import's archive, and wait until the daemon
        has read it.  If the answer is lost, the offset in the daemon's next
        answer shows whether the piece arrived.

        @raise ArchiveLost: the daemon was restarted, and has nothing of the archive.
        """
        path = f"{_job_path(job_id)}/content"
        headers = {"Content-Range": f"{offset}-{offset + len(data) - 1}"}
        reconnects = _Reconnects(self._pause)
        while True:
            try:
                if isinstance(self._api.request_json("PATCH", path, data, headers), dict):
                    return
                raise NoDaemon(f"the daemon at {self.address()} ended its answer early")
            except Refused as e:
                reached = e.detail.get("offset")
                if reached == offset + len(data):
                    return
                if e.status == 503:
                    reconnects.wait(e)
                elif e.status == 416 and reached == offset:
                    # The daemon is still reading the piece before.
                    self._pause(_READING)
                else:
                    raise _archive_error(e) from e
            except NoDaemon as e:
                reconnects.wait(e)

    def end_content(self, job_id: str, size: int) -> None:
        """
        Report that an import's archive is complete, and wait until the daemon has
        stored all of it.

        @param size: the archive's bytes.
        @raise ArchiveLost: see L{send_piece}.
        """
        path = f"{_job_path(job_id)}/content"
        reconnects = _Reconnects(self._pause)
        while True:
            try:
                self._api.request_json("PUT", path, {"size": size}, timeout=_DOWNLOAD_TIMEOUT)
                return
            except Refused as e:
                if e.status == 503:
                    reconnects.wait(e)
                elif e.status == 416 and e.detail.get("offset") == size:
                    self._pause(_READING)
                else:
                    raise _archive_error(e) from e
            except NoDaemon as e:
                reconnects.wait(e)

    def archive(self, reference: str, form: str, headers: Mapping[str, str] | None = None) -> Download:
        """
        Open an image of the store as an archive.

        @param form: C{docker} or C{oci}.
        @param headers: the user's credentials, for layers that the store lacks.
        """
        response = self._api.request(
            "GET",
            f"/archives/{_quoted(reference, safe='/:@')}?format={form}",
            None,
            headers,
            accept="application/x-tar, application/json",
            timeout=_DOWNLOAD_TIMEOUT,
        )
        return Download(response, str(self.address()))

    # ------------------------------------------------------------------ store

    def images(self) -> list[dict[str, Any]]:
        """
        Every image of the store.
        """
        return self._api.get_list("/images")

    def image(self, reference: str, platform: str | None = None) -> dict[str, Any]:
        """
        An image of the store.

        @param platform: the platform that it must have; L{None} for any.
        """
        query = "" if platform is None else f"?platform={_quoted(platform, safe='/')}"
        return self._api.request_object("GET", _image_path(reference) + query)

    def renew(self, reference: str) -> list[str]:
        """
        Unpack again those layers of an image that an older daemon unpacked.
        A daemon that lacks this route, or the image, does nothing.

        @return: warnings.
        """
        try:
            value = self._api.request_json(
                "POST", f"{_image_path(reference)}/trees", timeout=_DOWNLOAD_TIMEOUT
            )
        except Refused as e:
            if e.status in (404, 405):
                return []
            raise
        warnings = value.get("warnings") if isinstance(value, dict) else None
        return [str(text) for text in warnings] if isinstance(warnings, list) else []

    def tag(self, reference: str, name: str) -> dict[str, Any]:
        """
        Add a name to an image of the store.

        @return: the image under that name.
        """
        return self._api.request_object("POST", f"{_image_path(reference)}/tags", {"reference": name})

    def pin(self, reference: str, pinned: bool) -> dict[str, Any]:
        """
        Pin or unpin an image.

        @return: the image.
        """
        return self._api.request_object("POST", f"{_image_path(reference)}/pin", {"pinned": pinned})

    def remove(self, reference: str) -> dict[str, Any]:
        """
        Remove an image's name, and the content that only it used.

        @return: the full name, and what was freed.
        """
        return self._api.request_object("DELETE", _image_path(reference))

    def collect(self, dry_run: bool, partials: bool, without: Sequence[str] = ()) -> dict[str, Any]:
        """
        Collect garbage.

        @param partials: whether to remove partial blobs that no transfer uses.
        @param without: for a dry run: images that count as removed.
        @return: what was freed, or would be.
        """
        body: dict[str, object] = {"dry_run": dry_run}
        # Older daemons reject the fields.
        body |= {"partials": True} if partials else {}
        body |= {"without": list(without)} if without else {}
        return self._api.request_object("POST", "/gc", body)

    # ----------------------------------------------------------------- daemon

    def transfers(self) -> list[dict[str, Any]]:
        """
        Every transfer.
        """
        return self._api.get_list("/transfers")

    def transfers_of(self, job_id: str) -> list[dict[str, Any]]:
        """
        The transfers of one job; none from an older daemon, which does not select them.
        """
        try:
            return self._api.get_list(f"/transfers?job={_quoted(job_id)}")
        except Refused:
            return []

    def limits(self) -> dict[str, Any]:
        """
        The limits on concurrency and bandwidth.
        """
        return self._api.request_object("GET", "/limits")

    def change_limits(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """
        Change some limits.

        @return: all limits.
        """
        return self._api.request_object("PATCH", "/limits", dict(changes))

    def hosts(self) -> list[dict[str, Any]]:
        """
        What is known of each registry.
        """
        return self._api.get_list("/hosts")

    def clear_host(self, host: str) -> dict[str, Any]:
        """
        Forget what is known of a registry.

        @return: its name, as the daemon has it.
        """
        return self._api.request_object("DELETE", f"/hosts/{_quoted(host, safe=':')}")

    def try_login(self, host: str, auth: Mapping[str, str]) -> None:
        """
        Have the daemon log in to a registry once.

        @param host: the registry.
        @param auth: C{username} and C{password}.
        @raise Refused: the registry rejects them.
        """
        header = urlsafe_b64encode(json.dumps(auth).encode()).decode("ascii")
        headers = {"X-Registry-Auth": header}
        self._api.request("POST", "/auth", {"host": host}, headers, timeout=_LOGIN_TIMEOUT).close()

    def page(self, uid: int) -> dict[str, Any]:
        """
        Admit one browser of a user to the status page.

        @return: C{code}, for the page's address, and C{port}.
        """
        return self._api.request_object("POST", "/page", {"uid": uid})

    def status(self) -> dict[str, Any]:
        """
        The daemon's status.
        """
        return self._api.request_object("GET", "/status")

    def registry(self) -> dict[str, Any]:
        """
        The registry that the daemon serves, with its upstreams.
        """
        try:
            return self._api.request_object("GET", "/registry")
        except Refused as e:
            if e.status == 404:
                raise ClientError("the daemon is of an older version, which serves no registry") from e
            raise

    def engines(self) -> list[dict[str, Any]]:
        """
        The container engines that the daemon serves.
        """
        try:
            return self._api.get_list("/engines")
        except Refused as e:
            if e.status == 404:
                raise ClientError("the daemon is of an older version, which serves no engines") from e
            raise

    def fleet(self) -> dict[str, Any]:
        """
        The nodes that share downloads with the daemon.
        """
        try:
            return self._api.request_object("GET", "/fleet")
        except Refused as e:
            if e.status == 404:
                raise ClientError("the daemon is of an older version, which has no fleet") from e
            raise

    def prefetch_in_fleet(self, reference: str, platform: str | None, nodes: int) -> list[dict[str, Any]]:
        """
        Have other nodes of the fleet fetch an image.

        @param nodes: their number.
        @return: those that have begun, each with C{node} and C{job}.
        """
        body = {"reference": reference, "nodes": nodes} | ({} if platform is None else {"platform": platform})
        begun = self._api.request_object("POST", "/fleet/prefetch", body).get("nodes")
        return [each for each in begun if isinstance(each, dict)] if isinstance(begun, list) else []

    def fill(
        self, name: str, reference: str, namespace: str | None, headers: Mapping[str, str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """
        Give a containerd the blobs of an image that it lacks.  Leaving ends the work.

        @param namespace: the only namespace to look in; L{None} for all.
        @param headers: the user's credentials, for blobs that the store lacks.
        @return: the progress, C{bytes} and C{size}; at last, with the full name of the
            C{image}, what was written.
        @raise ClientError: the fill failed, or the connection is lost.
        """
        body = {"reference": reference} | ({} if namespace is None else {"namespace": namespace})
        for event in self._api.post_events(f"/engines/{_quoted(name, safe='')}/fill", body, headers):
            error = event.data.get("error")
            if isinstance(error, dict):
                raise ClientError(clean(error.get("message")))
            yield event.data
            if event.final:
                return
        raise NoDaemon(f"the daemon at {self.address()} ended the work early; see the daemon's log")

    def forget_engine(self, name: str) -> dict[str, Any]:
        """
        Remove the snapshots of a containerd that the daemon's settings do not name any more.
        """
        return self._api.request_object("DELETE", f"/engines/{_quoted(name, safe='')}")

    def examination(self) -> list[dict[str, Any]]:
        """
        The daemon's checks of its installation, each with its problems.
        """
        checks = self._api.request_object("GET", "/doctor").get("checks")
        if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
            raise self._api.not_xferd()
        return checks


class _Reconnects:
    """
    The pauses between attempts to reach a daemon whose connection broke.
    """

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause
        self.reset()

    def reset(self) -> None:
        self._count = 0
        self._waited = 0.0

    def wait(self, error: ClientError | None) -> None:
        """
        Wait before the next attempt.

        @param error: why the last one failed; L{None} if its stream ended.
        @raise ClientError: C{error}, if another attempt cannot help.
        """
        if error is not None:
            # 503: the daemon has too many streams, or is stopping.
            final = isinstance(error, Refused) and error.status != 503
            if final or self._waited >= PATIENCE:
                raise error
        pause = _PAUSES[min(self._count, len(_PAUSES) - 1)]
        self._pause(pause)
        self._count += 1
        self._waited += pause


def _archive_error(error: Refused) -> ClientError:
    """
    The error for a piece or the end of an archive that the daemon refused.
    """
    return ArchiveLost(str(error)) if error.status == 416 and error.detail.get("offset") == 0 else error


def _job_request(kind: str, reference: str | None, more: Mapping[str, object]) -> dict[str, object]:
    return {"kind": kind, "reference": reference, **more}


def _quoted(text: str, safe: str = "/") -> str:
    """
    A part of a path; only the characters in C{safe} stand for themselves.
    """
    from urllib.parse import quote  # noqa: PLC0415 - slow to import, and not for lists

    return quote(text, safe=safe)


def _job_path(job_id: str) -> str:
    return f"/jobs/{_quoted(job_id, safe='')}"


def _image_path(reference: str) -> str:
    return f"/images/{_quoted(reference, safe='/:@')}"
