# -*- test-case-name: tests.web.test_page_login -*-
"""
The login of a browser of another user of this machine, without a token in a
URL.

C{xferctl page} requests a code, which is valid once, for a short time and for
one user.  The URL with the code gives the browser a cookie, which is valid for
connections of that user.  Other users can read the URL in the list of
processes, or be sent the cookie, since cookies go to every port of a name;
neither is of use to them.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.address import IPv4Address, IPv6Address
from werkzeug.exceptions import Forbidden

from xferd.errors import BadInput, NotFound
from xferd.names import is_loopback
from xferd.web.fields import Body, Field
from xferd.web.request import quoted

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime
    from twisted.web.http import Request as HTTPRequest
    from twisted.web.server import Request

    from xferd.web.site import BoundedChannel

NAME: Final = "xferd.localhost"
"""The name that the page has in these addresses, which no other service uses."""

CODE_LIFE: Final = 60.0
"""Seconds for which a code is good."""

COOKIE_LIFE: Final = 12 * 3600.0
"""Seconds for which a cookie is good."""

_MOST_CODES: Final = 16
_MOST_COOKIES: Final = 64

_MAX_UID: Final = 0xFFFFFFFE


def _read_uid(name: str, value: object) -> int:
    # A boolean is an int, too.
    if type(value) is not int or not 0 <= value <= _MAX_UID:
        raise BadInput(f"{name!r} must be the number of a user, not {quoted(value)}")
    return value


PAGE: Final = Body(
    "a page",
    Field(
        "uid",
        _read_uid,
        {"type": "integer", "minimum": 0, "description": "The user ID of the browser's user."},
        required=True,
    ),
)


class PageLogin:
    """
    The codes and cookies of one daemon, valid until it stops.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._codes: dict[str, tuple[float, int]] = {}
        self._cookies: dict[str, tuple[float, int]] = {}

    def code(self, uid: int) -> str:
        """
        Make a code for a user's browser.  Beyond the limit, the oldest one ends.
        """
        return self._make(self._codes, uid, CODE_LIFE, _MOST_CODES)

    def enter(self, code: str, uid: int | None) -> str | None:
        """
        Exchange a code for a cookie.

        @param uid: the user of the connection.
        @return: the cookie, or L{None} if the code is not valid.
        """
        if not self._knows(self._codes, code, uid):
            return None
        _, user = self._codes.pop(code)
        return self._make(self._cookies, user, COOKIE_LIFE, _MOST_COOKIES)

    def admits(self, request: HTTPRequest, host: str) -> bool:
        """
        Whether a request has a cookie that is valid for its connection.

        @param host: its C{Host}.
        """
        cookie = request.getCookie(cookie_name(request))
        if cookie is None or host.partition(":")[0] != NAME:
            return False
        uid = cast("BoundedChannel", request.channel).uid
        return self._knows(self._cookies, cookie.decode("latin-1"), uid)

    def _make(self, known: dict[str, tuple[float, int]], uid: int, life: float, most: int) -> str:
        made = secrets.token_urlsafe(32)
        while len(known) >= most:
            del known[next(iter(known))]
        known[made] = (self._clock.seconds() + life, uid)
        return made

    def _knows(self, known: dict[str, tuple[float, int]], shown: str, uid: int | None) -> bool:
        until, user = known.get(shown, (0.0, None))
        return uid is not None and uid == user and self._clock.seconds() < until

    def offer(self, request: Request, page_port: int) -> dict[str, object]:
        """
        Make a code for one browser of a user of this machine.

        @param page_port: where browsers find the page, unless the request came
            that way; 0 for nowhere.
        @return: the code, the port, and for how many seconds the code is good.
        @raise BadInput: the body does not name a user.
        @raise NotFound: browsers of this machine cannot reach the page.
        """
        uid = read_user(request)
        host = request.getHost()
        over_loopback = isinstance(host, IPv4Address | IPv6Address) and is_loopback(host.host)
        port = host.port if over_loopback and not request.isSecure() else page_port
        if not port:
            raise NotFound("the daemon serves no page to browsers of this machine; 'listen' can add it")
        return {"code": self.code(uid), "port": port, "seconds": CODE_LIFE}

    def admit(self, request: Request) -> None:
        """
        Give a browser a cookie for its code.  A trusted connection needs none.

        @raise Forbidden: the code is unknown, too old, or another user's.
        """
        channel = cast("BoundedChannel", request.channel)
        if request.method != b"GET" or channel.trusted:
            return
        code = (request.args or {}).get(b"code", [b""])[0].decode("latin-1")
        cookie = self.enter(code, channel.uid)
        if cookie is None:
            raise Forbidden(
                "this address was used already, is too old, or is for another user; "
                "'xferctl page' gives another"
            )
        request.addCookie(
            cookie_name(request).decode("ascii"), cookie, path="/", httpOnly=True, sameSite="strict"
        )


def cookie_name(request: HTTPRequest) -> bytes:
    """
    The name of the cookie, with the port: several daemons may share a host name.
    """
    return b"xferd-%d" % getattr(request.getHost(), "port", 0)


def read_user(request: Request) -> int:
    """
    Read the user for whose browser a code is made.

    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not valid.
    """
    return int(PAGE.read(request)["uid"])
