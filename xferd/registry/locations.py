# -*- test-case-name: tests.registry.test_locations -*-
"""
Where a server sends its client: to whom credentials belong, and what a
C{Location} means.

Pure.  What is wrong with a place is said without quoting its URL, whose query
may be a password.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import quote, urlencode, urljoin, urlsplit

from attrs import frozen

from xferd.names import is_loopback
from xferd.registry.hosts import bracketed

PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F))
"""What an URL may hold and L{quote} is to leave alone."""

MAX_LOCATION = 16 * 1024
"""Characters of a C{Location} at most."""

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
            split = urlsplit(url)
            scheme, host, port = split.scheme, split.hostname, split.port
        except ValueError:
            # Without its text, which quotes the URL.
            raise ValueError("it is not an URL") from None
        if scheme not in _PORTS or not host or "@" in split.netloc:
            raise ValueError("it is not an http or https URL without credentials")
        return cls(scheme, host, port or _PORTS[scheme])

    @property
    def is_own_machine(self) -> bool:
        """
        Whether this is literally a place that only this machine or its
        closest network can reach: loopback, link-local (where clouds keep
        their secrets) or no address at all.
        """
        if is_loopback(bracketed(self.host)):
            return True
        try:
            address = ip_address(self.host)
        except ValueError:
            return False
        return address.is_link_local or address.is_unspecified or address.is_multicast


def check_target(source: Origin, target: Origin) -> None:
    """
    Make sure that a server may send us to another place.

    @raise ValueError: a foreign server sends us to our own machine.
    """
    if target.is_own_machine and not source.is_own_machine:
        raise ValueError("it leads from a foreign host to this machine's own")


def resolve(url: str, location: str) -> str:
    """
    The URL that a C{Location} means: absolute or relative, on this host or on
    another, with its query as it is.

    @param url: what the answer is to.
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
    check_target(Origin.of(url), Origin.of(target))
    return target


def with_argument(url: str, name: str, value: str) -> str:
    """
    An URL with one more argument in its query; what is there stays as it is,
    as it may be signed.
    """
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode({name: value})}"
