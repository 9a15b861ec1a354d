# -*- test-case-name: tests.registry.transport.test_urls -*-
"""
URLs: the origin that credentials belong to, and the target of a C{Location}.

Pure.  No error quotes an URL, whose query may be a password.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, urlencode, urljoin

from attrs import frozen

from xferd.http_urls import split_url
from xferd.names import is_disguised
from xferd.registry.transport.zones import OutOfZone, Zone

PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))
"""The characters of an URL, which L{quote} leaves unchanged."""

MAX_LOCATION = 16 * 1024
"""Characters of a C{Location} at most."""

MAX_HOST = 255
"""Characters of a host's name at most (RFC 1035 has 253)."""

_HOST = re.compile(r"[a-z0-9._-]+|[a-f0-9.]*:[a-f0-9:.]*(?:%[a-z0-9._-]+)?")

_SERVER = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
"""The scheme and the authority of an URL (RFC 3986, section 3.2)."""

_ABSOLUTE = re.compile(r"https?://(?:(?![/?#])[!-~])+/[!-~]*")
"""An absolute URL without characters that have to be escaped, as most registries send it."""

_SIMPLE = re.compile(r"[A-Za-z0-9_.:-]*")
"""A value of an argument of which only colons have to be escaped."""

_PORTS = {"http": 80, "https": 443}


@frozen
class Origin:
    """
    The server that credentials belong to: scheme, host and port (RFC 6454).
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """
        The origin of an URL.

        @raise ValueError: no request can be made to it.
        """
        server = _SERVER.match(url)
        return _origin(url if server is None else server[0])

    @property
    def zone(self) -> Zone | None:
        """
        The zone of the host, if its name alone shows it.
        """
        return Zone.named(self.host)


@lru_cache(maxsize=1000)
def _origin(server: str) -> Origin:
    """
    The origin of an URL without its path.  Thousands of requests go to one
    server.

    @raise ValueError: no request can be made to it.
    """
    try:
        split = split_url(server)
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
    return Origin(scheme, host, port or _PORTS[scheme])


def check_target(source: Origin, target: Origin, zone: Zone) -> None:
    """
    Check that a server may lead to another, as far as their names show it.

    @param zone: the zone of the server.
    @raise OutOfZone: the server must not lead to the target's zone.
    @raise ValueError: the source is reached by TLS, and the target is not.
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
    The absolute URL of a C{Location}, with its query as it is.

    @param url: the URL of the request.
    @param zone: the zone of the server that responded.
    @raise ValueError: it cannot be followed.
    """
    if not location:
        raise ValueError("it is empty")
    if len(location) > MAX_LOCATION:
        raise ValueError(f"it has more than {MAX_LOCATION} characters")
    if _ABSOLUTE.fullmatch(location) is not None and not location.endswith("?"):
        target = location
    else:
        try:
            target = urljoin(url, quote(location, safe=PRINTABLE))
        except ValueError:
            raise ValueError("it is not an URL") from None
    target = target.partition("#")[0]
    check_target(Origin.of(url), Origin.of(target), zone)
    return target


def with_argument(url: str, name: str, value: str) -> str:
    """
    An URL with one more argument in its query.  The rest is unchanged, as it may
    be signed.
    """
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{argument(name, value)}"


def argument(name: str, value: str) -> str:
    """
    An argument of a query.
    """
    if _SIMPLE.fullmatch(value) is not None:
        # Each request of an upload has a digest.
        return f"{name}={value.replace(':', '%3A')}"
    return urlencode({name: value})
