# -*- test-case-name: tests.jobs.blobs.test_fleet_attempts -*-
"""
The attempts of a download in a fleet: first with peers that have the blob or fetch it,
then with the registry.

A peer needs none of the registry's slots, and the registry's pauses do not concern it.
A node claims a blob only when it holds a slot: what waits in its queue can be fetched
by another node.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError

from xferd.errors import SourceError
from xferd.interfaces.peers import IFleetDownload
from xferd.interfaces.registry import IBlobSource
from xferd.interfaces.transfer import ISource
from xferd.jobs.blobs.partial_download import PartialDownload
from xferd.transfer.attempts import Withdrawn
from xferd.transfer.transfer import Transfer


class FleetAttempts:
    """
    The attempts of one download.

    Life cycle: made; L{run}, once.
    """

    def __init__(self, transfer: Transfer, download: PartialDownload, fleet: IFleetDownload) -> None:
        self._transfer = transfer
        self._download = download
        self._fleet = fleet

    async def run(self) -> None:
        """
        Make attempts until the partial file is a blob.

        @raise Exception: see L{Transfer.attempts}.
        """
        whole = False
        try:
            while not whole:
                whole = await self._from_peers()
                if not whole:
                    try:
                        await self._transfer.attempts(self._from_registry)
                    except Withdrawn:
                        # Another node has claimed the blob meanwhile.
                        continue
                    whole = True
        finally:
            self._fleet.end(whole)

    async def _from_peers(self) -> bool:
        """
        Make attempts with peers, while there are some.

        @return: whether the blob is here.
        @raise StoreError: the disk refuses.
        """
        while True:
            registry = next((s for s in self._transfer.sources if IBlobSource.providedBy(s)), None)
            peer = None if registry is None else await self._fleet.peer(registry)
            if peer is None:
                return False
            try:
                await self._transfer.attempt_with(peer, self._download.attempt)
            except CancelledError:
                raise
            except SourceError as e:
                if not self._fleet.failed(peer, e):
                    return False
            else:
                return True

    async def _from_registry(self, source: ISource) -> None:
        """
        Make an attempt with the registry, unless another node fetches the blob.
        """
        if IBlobSource.providedBy(source) and not await self._fleet.claim(source):
            raise Withdrawn
        await self._download.attempt(source)
