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
from xferd.web.request import header

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest

    from xferd.web.site import BoundedChannel

_FORWARDED: Final = (b"forwarded", b"via", b"x-forwarded-for", b"x-real-ip")
"""Headers that proxies add, about the client behind them."""


def is_trusted(request: HTTPRequest, hosts: Set[str]) -> bool:
    """
    Whether a request has all rights by its connection.

    Clients of a registry use any name that leads to it; only the trust depends on
    the name.

    @param hosts: the daemon's own names besides those of loopback, without port, in
        lower case.
    """
    if not cast("BoundedChannel", request.channel).trusted:
        return False
    if any(request.requestHeaders.hasHeader(name) for name in _FORWARDED):
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
