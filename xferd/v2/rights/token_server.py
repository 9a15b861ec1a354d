# -*- test-case-name: tests.v2.rights.test_logins -*-
"""
xferd's own token server: C{GET} with Basic credentials (Docker's token specification,
"Token Authentication"), and C{POST} with a form ("OAuth2 Token Authentication").
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from werkzeug.exceptions import BadRequest, Unauthorized

from xferd.credentials import Credentials
from xferd.json_encoding import encode, rfc3339
from xferd.v2.rights.logins import ANONYMOUS, Logins
from xferd.v2.rights.tokens import LIFE, Login

if TYPE_CHECKING:
    from twisted.web.server import Request

    from xferd.interfaces.reactor import WallClock

_FIELDS: Final = 20
"""The most fields of a form."""


async def respond_token(
    request: Request,
    logins: Logins,
    wall_clock: WallClock,
    is_accepted: Callable[[Login], Awaitable[bool]] | None,
) -> bytes:
    """
    Respond with a token.

    A client without credentials gets one, too: it may pull what is public.

    @param is_accepted: asks the upstreams that check their clients' own credentials;
        L{None} if there are none.  A token for a repository is proven when it is
        used.
    @raise Unauthorized: the password is wrong.
    """
    login = _posted(request) if request.method == b"POST" else logins.shown(request)
    if login is None or login.is_token:
        raise _refusal(request)
    user = await logins.user(request, login)
    credentials = None if is_accepted is None else logins.foreign(login)
    if login is not ANONYMOUS and not user:
        if is_accepted is None or credentials is None:
            raise _refusal(request)
        if not _has_scope(request) and not await is_accepted(login):
            raise _refusal(request)
    token = logins.token(user, credentials)
    issued = rfc3339(wall_clock())
    body = encode({"token": token, "access_token": token, "expires_in": LIFE, "issued_at": issued})
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"cache-control", b"no-store")
    request.setHeader(b"content-length", b"%d" % len(body))
    return body


def _form(request: Request) -> dict[str, list[str]]:
    """
    The fields of the query or, of C{POST}, of the form.

    @raise BadRequest: it is not a form.
    """
    assert request.content is not None
    try:
        data = request.uri.partition(b"?")[2]
        if request.method == b"POST":
            request.content.seek(0)
            data = request.content.read()
        return parse_qs(data.decode("utf-8"), max_num_fields=_FIELDS)
    except ValueError as e:
        raise BadRequest("the body is not a form") from e


def _has_scope(request: Request) -> bool:
    """
    Whether a token is for a repository, and not for a login alone.
    """
    return any(_form(request).get("scope", ()))


def _posted(request: Request) -> Login | None:
    """
    Read the form of C{POST}.
    """
    fields = _form(request)
    if fields.get("grant_type") != ["password"]:
        return None
    user, password = (fields.get(name, [""])[-1] for name in ("username", "password"))
    return Login(credentials=Credentials.of(user, password)) if user or password else ANONYMOUS


def _refusal(request: Request) -> Unauthorized:
    """
    The error for wrong credentials.
    """
    request.setHeader(b"www-authenticate", b'Basic realm="xferd"')
    return Unauthorized("wrong user or password")
