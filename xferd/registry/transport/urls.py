# -*- test-case-name: tests.registry.transport.test_urls -*-
"""
Where a server sends its client: to whom credentials belong, and what a
C{Location} means.

Pure.  What is wrong with a place is said without quoting its URL, whose query
may be a password.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode, urljoin

from attrs import frozen

from xferd.http_urls import split_url
from xferd.names import is_disguised
from xferd.registry.transport.zones import OutOfZone, Zone

PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))
"""What an URL may hold and L{quote} is to leave alone."""

MAX_LOCATION = 16 * 1024
"""Characters of a C{Location} at most."""

MAX_HOST = 255
"""Characters of a host's name at most (RFC 1035 has 253)."""

_HOST = re.compile(r"[a-z0-9._-]+|[a-f0-9.]*:[a-f0-9:.]*(?:%[a-z0-9._-]+)?")

_PORTS = {"http": 80, "https": 443}


@frozen
class Origin:
    """
    Whom credentials are for (RFC 6454): scheme, host and port.
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """
        The origin of an URL.

        @raise ValueError: it has none that a request can be made to.
        """
        try:
            split = split_url(url)
            scheme, host, port = split.scheme, split.hostname, split.port
        except ValueError:
            # Without its text, which quotes the URL.
            raise ValueError("it is not an URL") from None
        if scheme not in _PORTS or not host or "@" in split.netloc:
            raise ValueError("it is not an http or https URL without credentials")
        if len(host) > MAX_HOST:
            raise ValueError(f"its host has more than {MAX_HOST} characters")
        if _HOST.fullmatch(host) is None:
            # A proxy might decode what is escaped.
            raise ValueError("its host has characters that no host has")
        if is_disguised(host):
            raise ValueError("its host is a number that is not written as an IPv4 address")
        return cls(scheme, host, port or _PORTS[scheme])

    @property
    def zone(self) -> Zone | None:
        """
        The zone that the host shows by itself, if it does.
        """
        return Zone.named(self.host)


def check_target(source: Origin, target: Origin, zone: Zone) -> None:
    """
    Check that a server may lead to another, as far as their names show it.

    @param zone: where the server is.
    @raise OutOfZone: the target is in a zone where the server must not lead.
    @raise ValueError: the source is spoken to by TLS, and the target without.
    """
    if source == target:
        return
    if target.zone is not None and not zone.allows(target.zone):
        raise OutOfZone(target.zone)
    if source.scheme == "https" and target.scheme == "http":
        same = "; a proxy before it may lack 'X-Forwarded-Proto'" if source.host == target.host else ""
        raise ValueError(f"it is without TLS{same}")


def resolve(url: str, location: str, zone: Zone) -> str:
    """
    The URL that a C{Location} means: absolute or relative, on this host or on
    another, with its query as it is.

    @param url: what the answer is to.
    @param zone: where the server is that gave the answer.
    @raise ValueError: it is not a place to go to.
    """
    if not location:
        raise ValueError("it is empty")
    if len(location) > MAX_LOCATION:
        raise ValueError(f"it has more than {MAX_LOCATION} characters")
    try:
        target = urljoin(url, quote(location, safe=PRINTABLE))
    except ValueError:
        raise ValueError("it is not an URL") from None
    target = target.partition("#")[0]
    check_target(Origin.of(url), Origin.of(target), zone)
    return target


def with_argument(url: str, name: str, value: str) -> str:
    """
    An URL with one more argument in its query; what is there stays as it is,
    as it may be signed.
    """
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode({name: value})}"
