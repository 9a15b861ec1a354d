# -*- test-case-name: tests.fleet.test_prefetch -*-
"""
Prefetches on several nodes of the fleet: each fetches with its own means what its
registry's clients without credentials may pull.
"""

from __future__ import annotations

from random import Random
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from xferd.errors import XferdError
from xferd.fleet.peer_client import PeerClient
from xferd.interfaces.fleet import ICoordination, Node
from xferd.interfaces.fleet_status import PeerPrefetchJSON
from xferd.jobs.deferreds import gather

_SPARE: Final = 8
"""The nodes that are asked in the place of others that do not answer, at most."""

AT_ONCE: Final = 8
"""The nodes that are asked at the same time."""


class Prefetches:
    """
    Has other nodes prefetch images.
    """

    _log = Logger()

    def __init__(
        self, coordination: ICoordination, client: PeerClient, own: str, random: Random | None = None
    ) -> None:
        """
        @param own: the name of this node.
        @param random: chooses among nodes that have equally much to do.
        """
        self._coordination = coordination
        self._client = client
        self._own = own
        self._random = Random() if random is None else random  # noqa: S311

    async def begin(self, reference: str, platform: str | None, nodes: int) -> list[PeerPrefetchJSON]:
        """
        Have nodes begin, those with the fewest transfers first, L{AT_ONCE} at the same time.

        @param nodes: their number.
        @return: those that have begun; fewer if there are not so many.
        @raise CoordinationUnavailable: the nodes cannot be listed.
        """
        found = [node for node in await self._coordination.nodes() if node.peer.name != self._own]
        self._random.shuffle(found)
        found.sort(key=lambda node: node.load)
        candidates = iter(found[: nodes + _SPARE])
        begun: list[PeerPrefetchJSON] = []
        wanted = nodes

        async def ask() -> None:
            """
            Ask one candidate after the other, while a node is wanted.
            """
            nonlocal wanted
            while wanted:
                node = next(candidates, None)
                if node is None:
                    return
                wanted -= 1
                job = await self._ask(node, reference, platform)
                if job:
                    begun.append({"node": node.peer.name, "job": job})
                else:
                    wanted += 1

        await gather([Deferred.fromCoroutine(ask()) for _ in range(min(nodes, AT_ONCE))])
        return begun

    async def _ask(self, node: Node, reference: str, platform: str | None) -> str:
        """
        Ask one node.

        @return: the ID of its job; the empty string if it does not begin.
        """
        try:
            return await self._client.prefetch(node.peer, reference, platform)
        except CancelledError:
            raise
        except XferdError as e:
            self._log.warn(
                "{node} does not prefetch {reference}: {why}",
                node=node.peer.name,
                reference=reference,
                why=str(e),
            )
            return ""
