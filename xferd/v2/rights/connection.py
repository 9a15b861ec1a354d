# -*- test-case-name: tests.v2.rights.test_connection -*-
"""
The trust that a request has by its connection.

Any web page can make a browser of root or of the daemon's user send requests over a
trusted connection.  Such a request is treated as that of a stranger: C{Host} is
checked against DNS rebinding, C{Origin} and C{Sec-Fetch-Site} against cross-site
request forgery.  The same holds for a request that a reverse proxy of root forwards.
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Final, cast

from twisted.internet.address import UNIXAddress

from xferd.names import is_loopback
from xferd.web.guard import host_name, is_cross_site
from xferd.web.peer_trust import user_of
from xferd.web.request import header

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest

    from xferd.web.site import BoundedChannel

_FORWARDED: Final = (b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip")
"""Headers that proxies add, about the client behind them."""


def is_forwarded(request: HTTPRequest) -> bool:
    """
    Whether a proxy forwards a request of another client.
    """
    return any(request.requestHeaders.hasHeader(name) for name in _FORWARDED)


def local_user(request: HTTPRequest) -> int | None:
    """
    The user of this machine whose process sends a request, or L{None} if that is not
    known: also where a proxy forwards it.  Blocking, for well below a millisecond.
    """
    if is_forwarded(request):
        return None
    channel = cast("BoundedChannel", request.channel)
    return user_of(channel.transport) if channel.uid is None else channel.uid


def is_trusted(request: HTTPRequest, hosts: Set[str]) -> bool:
    """
    Whether a request has all rights by its connection.

    Clients of a registry use any name that leads to it; only the trust depends on
    the name.

    @param hosts: the daemon's own names besides those of loopback, without port, in
        lower case.
    """
    if not cast("BoundedChannel", request.channel).trusted or is_forwarded(request):
        return False
    host = (header(request, b"host") or "").lower()
    if is_cross_site(request, host):
        return False
    if isinstance(request.getHost(), UNIXAddress):
        return True
    if len(request.requestHeaders.getRawHeaders(b"host") or ()) != 1:
        return False
    name = host_name(host)
    return name is not None and (is_loopback(host) or name in hosts)
