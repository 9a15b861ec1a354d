# -*- test-case-name: tests.web.test_audit -*-
"""
The audit trail: one line of the log for each request that changed something or was
refused, with all that is known of its client.

Requests that only read have none, and neither have the pieces of an archive or an upload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import Logger

from xferd.log_escapes import escape
from xferd.logs.audit_line import LINE, Allowance, Door
from xferd.names import is_loopback
from xferd.web.request import noted, shown

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.http import Request as HTTPRequest

    from xferd.web.client_limits import Client

MAX_JOB: Final = 64
"""The largest number of characters of a job's ID, which a client may have invented."""

MAX_BODY: Final = 500
"""The largest number of characters of a body in a line."""

FLEET_PATHS: Final = b"/v2/_xferd/"
"""The beginning of the paths that nodes of a fleet request from each other."""


def door_of(request: HTTPRequest, *, registry: bool = False) -> Door:
    """
    How a request came.

    @param registry: whether it came to the registry.
    """
    if registry:
        return Door.FLEET if request.path.startswith(FLEET_PATHS) else Door.REGISTRY
    if noted(request).get("browser"):
        return Door.BROWSER
    host = request.getHost()
    if isinstance(host, UNIXAddress):
        return Door.SOCKET
    return Door.LOOPBACK if is_loopback(getattr(host, "host", "")) else Door.TCP


Route = Callable[["HTTPRequest"], tuple[str, Mapping[str, Any]]]
"""Returns the name of a request's operation, or an empty string, and the parts of its path."""


_log = Logger(namespace="xferd.web.audit")


def audit_reload(path: str, error: str = "") -> None:
    """
    Write the line of a C{SIGHUP}.

    @param path: the configuration file.
    @param error: why the settings are unchanged; empty if they were read.
    """
    _log.info(
        LINE,
        event="audit",
        action="reload",
        user="unknown",
        uid=None,
        door=Door.SIGNAL.value,
        method="SIGHUP",
        path=path,
        status=400 if error else 200,
        body="",
        details=f"; {error}" if error else "",
    )


class AuditTrail:
    """
    Writes the lines of one listener.  Those of changes are all written; those of refused
    requests up to a limit, after which the next line has the number of those left out.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, route: Route, *, registry: bool = False) -> None:
        """
        @param registry: whether the listener is one of the registry.
        """
        self._route = route
        self._registry = registry
        self._refused = Allowance(clock.seconds)

    def write(self, request: HTTPRequest, client: Client) -> None:
        """
        Write the line of a request that has ended.

        @param client: the client of its connection.
        """
        if request.code >= 400 and not self._refused.permits():
            return
        fields = self._fields(request, client)
        if left_out := self._refused.left_out():
            fields["left_out"] = left_out
            fields["details"] += f"; {left_out} refused requests before it have no line"
        self._log.info(LINE, **fields)

    def _fields(self, request: HTTPRequest, client: Client) -> dict[str, Any]:
        """
        The fields of a line.  None has a credential: tokens and users are named, and the
        body of a request that was refused, which may have anything, is left out.
        """
        action, parts = self._route(request)
        notes = noted(request)
        peer = request.getClientAddress()
        host = request.getHost()
        body = _body(notes.get("body")) if request.code < 400 else ""
        name = shown(request.getHeader(b"x-xferd-client") or b"")
        who = {
            "account": notes.get("account", ""),
            "token": notes.get("token", ""),
            "node": notes.get("node", ""),
            "client": name,
        }
        job = notes.get("job") or escape(parts.get("job_id", ""))[:MAX_JOB]
        what = {"job": job, "code": notes.get("code", "")}
        details = [f", {label} {value}" for label, value in (*who.items(), *what.items()) if value]
        return {
            "event": "audit",
            "action": action,
            "user": client.name,
            "uid": client.uid,
            "address": peer.host if isinstance(peer, IPv4Address | IPv6Address) else "",
            **who,
            "door": door_of(request, registry=self._registry).value,
            "listener": f"{host.host}:{host.port}" if isinstance(host, IPv4Address | IPv6Address) else "",
            "method": shown(request.method),
            "path": shown(request.path),
            "status": request.code,
            **what,
            "body": body,
            "details": "".join([*details, f"; {body}" if body else ""]),
        }


def _body(body: object) -> str:
    """
    The body of a request, as far as it fits.
    """
    if not body:
        return ""
    text = json.dumps(body, separators=(", ", ": "))
    return text if len(text) <= MAX_BODY else f"{text[: MAX_BODY - 3]}..."
