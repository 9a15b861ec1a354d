# -*- test-case-name: tests.fleet.test_copies -*-
"""
The copies of blobs on other nodes: what they have can go first where space is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Set

from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer

from xferd.errors import CoordinationUnavailable
from xferd.interfaces.collection import ICopies
from xferd.interfaces.fleet import ICoordination
from xferd.names import Digest


@implementer(ICopies)
class FleetCopies:
    """
    The copies of a fleet.
    """

    def __init__(self, coordination: ICoordination, least: int) -> None:
        """
        @param least: the number of other nodes from which on a blob is removed first; 0
            ignores other nodes.
        """
        self._coordination = coordination
        self._least = least

    def elsewhere(self, digests: Collection[Digest]) -> Deferred[Set[Digest]]:
        if not self._least or not digests or not self._coordination.available:
            return succeed(frozenset())
        return Deferred.fromCoroutine(self._elsewhere(digests))

    def removed(self, digests: Collection[Digest]) -> None:
        self._coordination.withdraw(digests)

    async def _elsewhere(self, digests: Collection[Digest]) -> Set[Digest]:
        try:
            found = await self._coordination.look(digests)
        except CancelledError:
            raise
        except CoordinationUnavailable:
            return frozenset()
        return frozenset(digest for digest, each in found.items() if len(each.holders) >= self._least)
