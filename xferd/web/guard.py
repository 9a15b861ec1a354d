# -*- test-case-name: tests.web.test_guard -*-
"""
Access control for the API, before a route is looked up.

A client has rights by its connection (L{xferd.web.peer_trust}) or by a bearer
token.  Any web page can make a browser send requests over a trusted
connection; therefore C{Host} is checked against DNS rebinding and C{Origin}
against cross-site request forgery.  Browsers send no bearer token unasked.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.address import UNIXAddress
from twisted.logger import Logger
from twisted.web.resource import Resource
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, Unauthorized

from xferd.access_tokens import AccessTokens, Right
from xferd.names import is_loopback
from xferd.web.request import header, note, shown
from xferd.web.responses import respond_http_error, respond_internal_error

if TYPE_CHECKING:
    from collections.abc import Set

    from twisted.web.http import Request as HTTPRequest
    from twisted.web.resource import IResource
    from twisted.web.server import Request

    from xferd.web.page_login import PageLogin
    from xferd.web.site import BoundedChannel

SAFE_METHODS: Final = frozenset({b"GET", b"HEAD"})

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")
_OPEN = re.compile(rb"/|/enter|/healthz|/readyz|/static/.*")
"""Paths that reveal nothing and need no token: a page that can ask for one."""

_METRICS = b"/metrics"

ACCESSES: Final = ("connection", "token", "browser", "open", "refused")
"""What admits a request: its connection, a token, a browser's login, or the path, which needs no right."""

_ARCHIVES = b"/api/v1/archives/"
"""Paths of which a GET makes the daemon work."""


class MisdirectedRequest(HTTPException):
    """
    421 Misdirected Request, which some versions of werkzeug lack.
    """

    code = 421


class Guard(Resource):
    """
    The resource in front of all others.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        guarded: IResource,
        *,
        tokens: AccessTokens,
        hosts: Set[str],
        page_login: PageLogin,
        public_metrics: bool = False,
        accesses: Counter[str] | None = None,
    ) -> None:
        """
        @param tokens: the tokens of clients whose connection is not trusted.
        @param hosts: the daemon's own names besides those of loopback, without
            port.
        @param page_login: the cookies of browsers.
        @param public_metrics: whether the metrics need no right.
        @param accesses: counts the requests, by one of L{ACCESSES}.
        """
        super().__init__()
        self._accesses = Counter[str]() if accesses is None else accesses
        self._guarded = guarded
        self._tokens = tokens
        self._page_login = page_login
        self._public_metrics = public_metrics
        self._hosts = frozenset(host.lower() for host in hosts)

    def render(self, request: Request) -> int | bytes:
        """
        Refuse the request, or pass it to the routes.
        """
        try:
            access = self._check(request)
            self._accesses[access] += 1
            note(request, "browser", access == "browser")
        except HTTPException as refusal:
            self._accesses["refused"] += 1
            self._log.debug(
                "refused {method} {path} from {peer}: {reason}",
                method=shown(request.method),
                path=shown(request.path),
                peer=request.getClientAddress(),
                reason=refusal.description,
            )
            return respond_http_error(request, refusal)
        try:
            answered: int | bytes = self._guarded.render(request)
        except Exception:
            self._log.failure("while answering {path}", path=shown(request.path))
            return respond_internal_error(request)
        return answered

    def admits(self, request: HTTPRequest) -> bool:
        """
        Whether a request, of which only the headers are here, has any right.
        """
        return _is_trusted(request) or self._shown(request) is Right.ACT

    def _check(self, request: Request) -> str:
        """
        @return: what admits the request, one of L{ACCESSES}.
        @raise HTTPException: the request is refused.
        """
        check_path(request)
        right, access = self._shown(request), "token"
        if right is Right.NONE:
            host = self._host(request)
            if _needed(request) is Right.ACT:
                _check_origin(request, host)
            if _is_trusted(request):
                right, access = Right.ACT, "connection"
            elif self._page_login.admits(request, host):
                right, access = Right.ACT, "browser"
        if self._is_open(request):
            return "open" if right is Right.NONE else access
        if right is Right.NONE:
            request.setHeader(b"www-authenticate", b'Bearer realm="xferd"')
            raise Unauthorized("this needs the daemon's token: Authorization: Bearer TOKEN")
        if right < _needed(request):
            raise Forbidden("this token is read_only and permits no changes")
        return access

    def _is_open(self, request: Request) -> bool:
        """
        Whether the response needs no right.
        """
        if request.method not in SAFE_METHODS:
            return False
        open_metrics = self._public_metrics and request.path == _METRICS
        return open_metrics or _OPEN.fullmatch(request.path) is not None

    def _shown(self, request: HTTPRequest) -> Right:
        """
        The right of the request's token.
        """
        scheme, _, shown = (request.getHeader(b"authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return Right.NONE
        right, name = self._tokens.find(shown.strip())
        note(request, "token", name)
        return right

    def _host(self, request: Request) -> str:
        """
        The C{Host} of the request, after the check that it is the daemon's own.

        Over a unix socket any name is accepted: no DNS name leads there.
        """
        host = (header(request, b"host") or "").lower()
        if isinstance(request.getHost(), UNIXAddress):
            return host
        if len(request.requestHeaders.getRawHeaders(b"host") or ()) != 1:
            raise BadRequest("a request has one Host header")
        name = host_name(host)
        if name is None or not (is_loopback(host) or name in self._hosts):
            raise MisdirectedRequest(
                "the Host header is not a name of this daemon; the setting 'hosts_allowed' can add it"
            )
        return host


def _is_trusted(request: HTTPRequest) -> bool:
    """
    Whether the client may act because of its connection.
    """
    return cast("BoundedChannel", request.channel).trusted


def _needed(request: Request) -> Right:
    """
    The right that a request needs.  An archive takes work, and may need a registry.
    """
    looks = request.method in SAFE_METHODS and not request.path.startswith(_ARCHIVES)
    return Right.LOOK if looks else Right.ACT


def check_path(request: Request) -> None:
    """
    Refuse a path that the router cannot decode.

    @raise BadRequest: the path is not text.
    """
    try:
        b"/".join(request.postpath or ()).decode("utf-8")
    except UnicodeDecodeError as e:
        raise BadRequest("the path is not UTF-8") from e


def _check_origin(request: Request, host: str) -> None:
    """
    Refuse a request that another site's page makes a browser send.

    Clients other than browsers send neither header.

    @raise Forbidden: the request comes from another site.
    """
    if is_cross_site(request, host):
        raise Forbidden("this request comes from a page of another site")


def is_cross_site(request: HTTPRequest, host: str) -> bool:
    """
    Whether another site's page made a browser send a request.

    @param host: the request's C{Host}, in lower case.
    """
    origin = header(request, b"origin")
    site = header(request, b"sec-fetch-site")
    foreign = origin is not None and origin.lower().partition("://")[2] != host
    return foreign or site not in (None, "same-origin", "none")


def host_name(host: str) -> str | None:
    """
    The name in a C{Host} header, without port; L{None} if it is malformed.
    """
    match = _HOST.fullmatch(host)
    return None if match is None else match[1]
