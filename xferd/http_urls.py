# -*- test-case-name: tests.test_http_urls -*-
"""
The parts of an URL that others wrote.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_BRACKETS = re.compile(r"\[[^\[\]]*\](:[0-9]*)?")


def split_url(url: str) -> SplitResult:
    """
    Split an URL (RFC 3986).  L{urlsplit} ignores what stands before or after an
    IPv6 address in brackets, and other parsers do not: C{http://a.example[::1]/}
    would be two hosts.

    @return: the parts; C{hostname} and C{port} are valid.
    @raise ValueError: the authority is not C{[userinfo@]host[:port]}.  The message can quote the URL.
    """
    parts = urlsplit(url)
    authority = parts.netloc.rpartition("@")[2]
    if "[" in authority and _BRACKETS.fullmatch(authority) is None:
        raise ValueError("there is text beside the brackets of an IPv6 address")
    parts.port  # noqa: B018 - a port that is no number raises
    return parts
