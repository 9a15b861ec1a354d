# -*- test-case-name: tests.v2.test_listing -*-
"""
Reading of requests to the registry, also before they are complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from twisted.web.http import parse_qs

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest


def query(request: HTTPRequest, name: str) -> str | None:
    """
    The last value of a parameter of a request whose headers are here, or L{None}.
    """
    values = query_all(request, name)
    return values[-1] if values else None


def query_all(request: HTTPRequest, name: str) -> list[str]:
    """
    All values of a parameter.
    """
    text = request.uri.partition(b"?")[2]
    found = parse_qs(text, keep_blank_values=True).get(name.encode("ascii"), [])
    return [value.decode("utf-8", "replace") for value in found]


def path_of(request: HTTPRequest) -> str:
    """
    The path of a request whose headers are here, decoded.
    """
    return unquote(request.uri.partition(b"?")[0].decode("latin-1"), errors="replace")
