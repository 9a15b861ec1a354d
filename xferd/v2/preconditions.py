# -*- test-case-name: tests.v2.test_preconditions -*-
"""
C{If-Match}, C{If-None-Match} and C{If-Range} of requests for manifests and blobs (RFC 9110,
section 13).

The entity tag of both is the digest.  The client of docker's distribution sends it in
C{If-None-Match} when it pulls a tag again, also without the quotes; proxies in front of the
registry send it for blobs, too.  A client that maintains an index or a list of referrers
sends C{If-Match} with a push, so that it replaces no manifest that it has not seen.  xferd's
own pushes do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from xferd.errors import PreconditionFailed
from xferd.web.request import header

if TYPE_CHECKING:
    from twisted.web.http import Request

    from xferd.names import Digest


@frozen
class Preconditions:
    """
    The conditions of one request.

    @ivar match: the field C{If-Match}.
    @ivar none_match: the field C{If-None-Match}.
    @ivar in_range: the field C{If-Range}.
    """

    match: str | None
    none_match: str | None
    in_range: str | None = None

    @classmethod
    def of(cls, request: Request) -> Preconditions:
        """
        Those of a request.
        """
        names = (b"if-match", b"if-none-match", b"if-range")
        return cls(*(header(request, name) for name in names))

    def allows_range(self, digest: Digest) -> bool:
        """
        Whether a range of a blob is of use to the client, which has other parts of it.
        """
        return self.in_range is None or _names(self.in_range, digest, weak=False)

    def holds(self, digest: Digest) -> bool:
        """
        Whether the client has the manifest or the blob already that would be sent.
        """
        return self.none_match is not None and _names(self.none_match, digest)

    def check(self, present: Digest | None, what: str) -> None:
        """
        Check what a request would send, replace or remove.

        @param present: the digest of what is there, or L{None}.
        @param what: its name.
        @raise PreconditionFailed: it is another one than the client expects.
        """
        if self.match is not None and (present is None or not _names(self.match, present, weak=False)):
            there = "is not there" if present is None else f"is {present} now"
            raise PreconditionFailed(f"{what} {there}, which the request's If-Match does not name")

    def check_change(self, present: Digest | None, what: str) -> None:
        """
        The same for a request that changes something: C{If-None-Match} forbids to
        replace or remove what it names.

        @raise PreconditionFailed: as L{check}.
        """
        self.check(present, what)
        if present is not None and self.holds(present):
            raise PreconditionFailed(f"{what} is {present}, which the request's If-None-Match excludes")


def _names(field: str, digest: Digest, *, weak: bool = True) -> bool:
    """
    Whether a list of entity tags has that of a manifest.

    @param weak: whether a weak one suffices.
    """
    tags = [tag.strip() for tag in field.split(",")]
    return any((tag.removeprefix("W/") if weak else tag) in ("*", str(digest), f'"{digest}"') for tag in tags)
