# -*- test-case-name: tests.test_interfaces, tests.fleet.test_memory -*-
"""
What the nodes of a fleet know of one another: which has a blob, which fetches it,
which tags were checked, and what upstream hosts permit: pauses and quotas.

Nothing of it is needed for a pull: without it each node continues alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from attrs import Attribute as AttrsAttribute
from attrs import field, frozen
from attrs.validators import ge
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from xferd.interfaces.hosts import Quota
from xferd.names import Digest

MIN_SHARED: Final = 1 << 20
"""Bytes of the smallest blob that the nodes of a fleet share.  Smaller ones cost
more to look up than to fetch."""

MAX_HOLDERS: Final = 16
"""The most nodes that announce one blob: more would not help."""

CALL_SECONDS: Final = 2.0
"""Seconds after which a call fails, and the node continues alone."""

LEASE_SECONDS: Final = 15
"""Seconds after which all that a node has announced vanishes, unless the node
keeps it alive."""

MAX_URL: Final = 2048
"""The most characters of the URL of a node."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def is_node_name(text: str) -> bool:
    """
    Whether a text is the name of a node: 1 to 253 letters, digits, C{.}, C{_} and
    C{-}, of which the first and the last are letters or digits.
    """
    return _NAME.fullmatch(text) is not None


def _check_name(_: object, attribute: AttrsAttribute[str], value: str) -> None:
    """
    Refuse a text that is not the name of a node.

    @raise ValueError: it is malformed.
    """
    if not is_node_name(value):
        raise ValueError(f"{attribute.name!r} is not the name of a node")


@frozen
class Peer:
    """
    A node, and where other nodes reach it.

    @ivar name: its name in the fleet.
    @ivar url: its URL, as it announced it.  Whether it may be used has to be
        checked before each use.
    """

    name: str = field(validator=_check_name)
    url: str


@frozen
class Claim:
    """
    That a node fetches a blob from upstream.

    @ivar digest: the blob.
    @ivar owner: the node.
    @ivar source: the registry and repository that it fetches from, for people.
    @ivar size: the blob's size in bytes.
    @ivar revision: distinguishes this claim from earlier and later ones of the
        same blob: later ones have higher revisions.
    @ivar mine: whether this node is the owner.
    """

    digest: Digest
    owner: Peer
    source: str
    size: int = field(validator=ge(0))
    revision: int
    mine: bool


@frozen
class Found:
    """
    The result of a look-up of one blob.

    @ivar holders: the nodes that have the whole blob, without this one; at most
        L{MAX_HOLDERS}.
    @ivar claim: the claim of the node that fetches it, or L{None}.
    """

    holders: tuple[Peer, ...] = ()
    claim: Claim | None = None


@frozen
class Node:
    """
    A node of the fleet.

    @ivar peer: its name and URL.
    @ivar version: its version of xferd.
    @ivar since: when it started, in seconds since the epoch, by its own clock.
    @ivar load: the number of its running transfers, at most a minute ago.
    @ivar saved: the bytes that it got from peers since its start, at most a minute ago.
    """

    peer: Peer
    version: str
    since: float
    load: int = field(default=0, validator=ge(0))
    saved: int = field(default=0, validator=ge(0))


@frozen
class FleetPause:
    """
    That an upstream host asked for a pause, or how many requests it permits.

    @ivar host: the host.
    @ivar account: the account that the pause belongs to, in a form without
        secrets; equal on all nodes that share the account.
    @ivar seconds: how long it still lasts, or how long the quota is believed.
    @ivar reason: why, for people.
    @ivar node: the name of the node that reports it.
    @ivar quota: the requests that are left, as the host named them; L{None} for a pause.
    @ivar age: seconds since it was reported.
    """

    host: str
    account: str
    seconds: float = field(validator=ge(0.0))
    reason: str
    node: str
    quota: Quota | None = None
    age: float = field(default=0.0, validator=ge(0.0))


class ICoordination(Interface):
    """
    What one node knows of its fleet, and makes known.

    Life cycle: made, started, stopped.  While started it is available or not.
    It becomes unavailable when the coordinating service is lost, and available
    again when it returns: then the announcements and claims of the node are
    made again.

    All that a node makes known is bound to a lease of L{LEASE_SECONDS}: it
    vanishes when the node does.

    Deferreds fire within L{CALL_SECONDS}, and while it is not available at once.
    """

    available: bool = Attribute("Whether the coordinating service answers.")
    problem: str = Attribute("One sentence that names the reason why it is not available; else empty.")

    def start() -> None:
        """
        Begin to connect.  Returns at once.
        """

    def stop() -> Deferred[None]:
        """
        End the lease, and with it all that the node has made known.

        @return: fires within L{CALL_SECONDS}; never fails.
        """

    def look(digests: Collection[Digest]) -> Deferred[Mapping[Digest, Found]]:
        """
        Look up who has some blobs, and who fetches them.  Looks that are made
        within some milliseconds are one request.

        @return: fires with a result for each of the digests.
        @raise CoordinationUnavailable: there is no answer.
        """

    def announce(digests: Iterable[Digest]) -> None:
        """
        Make known that this node has whole blobs, of at least L{MIN_SHARED} bytes
        each.  Where L{MAX_HOLDERS} others have announced one, nothing is made
        known of it.

        Returns at once and never fails: blobs are announced within some seconds,
        or when the service is available again.
        """

    def withdraw(digests: Iterable[Digest]) -> None:
        """
        Make known that this node has blobs no longer.  As L{announce}, it returns
        at once.
        """

    def claim(digest: Digest, size: int, source: str) -> Deferred[Claim]:
        """
        Claim a blob: announce that this node fetches it from upstream.  Of several
        nodes that claim a blob at one time, one gets it.

        @param size: its size in bytes.
        @param source: where it comes from, for people.
        @return: fires with the claim that holds: this node's own, or the one that
            another node has.
        @raise CoordinationUnavailable: there is no answer.  The blob may be claimed
            nevertheless; that claim is then released.
        """

    def take_over(claim: Claim) -> Deferred[Claim]:
        """
        Claim a blob in the place of an owner that does not deliver.  Of several
        nodes that do so at one time, one gets it.

        @param claim: the claim of that owner.
        @return: fires as for L{claim}.
        @raise CoordinationUnavailable: as for L{claim}.
        """

    def release(claim: Claim) -> None:
        """
        Give a claim back, because the blob is whole, or will not be fetched.  Where
        it is another node's by now, nothing happens.  As L{announce}, it returns at
        once; what was announced before becomes known no later than this.
        """

    def fresh_tag(key: str) -> Deferred[Digest | None]:
        """
        Look up whether a node has checked a tag lately.

        @param key: the tag with its registry and repository, and who may know of
            it; the same text on all nodes.
        @return: fires with the digest that the registry named, or with L{None}.
        @raise CoordinationUnavailable: there is no answer.
        """

    def tag_checked(key: str, digest: Digest, ttl: float) -> None:
        """
        Make known that this node has just checked a tag.  As L{announce}, it
        returns at once, but where the service is not available, it does nothing.

        @param ttl: seconds for which the answer holds.
        """

    def pause(host: str, account: str, seconds: float, reason: str, quota: Quota | None = None) -> None:
        """
        Make known that an upstream host asked for a pause, or how many requests are left;
        see L{FleetPause}.  It replaces what was known of the account there.  As
        L{tag_checked}, it is lost where the service is not available.
        """

    def follow_pauses(callback: Callable[[FleetPause], None]) -> Callable[[], None]:
        """
        Report each pause and each quota that another node makes known, and those that
        are known already, once for each time that the service becomes available.

        @return: ends that.
        """

    def report_load(load: int, saved: int = 0) -> None:
        """
        Make known the number of running transfers, and the bytes that came from peers,
        within a minute.
        """

    def nodes() -> Deferred[Sequence[Node]]:
        """
        List the nodes of the fleet, this one among them, by their names.

        @raise CoordinationUnavailable: there is no answer.
        """

    def claims() -> Deferred[Sequence[Claim]]:
        """
        List who fetches what, at most 1,000 claims.

        @raise CoordinationUnavailable: there is no answer.
        """
