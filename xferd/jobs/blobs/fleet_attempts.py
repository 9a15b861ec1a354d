# -*- test-case-name: tests.jobs.blobs.test_fleet_attempts -*-
"""
The attempts of a download in a fleet: first with peers that have the blob or fetch it,
then with the registry.

A peer needs none of the registry's slots, and the registry's pauses do not concern it.
A node claims a blob only when it holds a slot: what waits in its queue can be fetched
by another node.
"""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from xferd.errors import SourceError, TimedOut
from xferd.interfaces.peers import IFleetDownload, IPeerSource
from xferd.interfaces.registry import IBlobSource
from xferd.interfaces.transfer import ISource
from xferd.jobs.blobs.partial_download import PartialDownload
from xferd.transfer.attempts import Withdrawn
from xferd.transfer.transfer import Transfer

LOOK: Final = 10.0
"""Seconds between two looks for a peer, while a download waits for the registry: for a
slot, for the end of a pause or for the next attempt."""

STALL: Final = 5.0
"""Seconds without a byte from the registry, after which a node looks for a peer: its
followers have taken the claim over by then."""

_STEP: Final = 2.5
"""Seconds between two looks at the state of a download and at its bytes."""

_LATE: Final = 1.0
"""Seconds of delay of such a look after which the process is taken to have been frozen:
followers may have taken the claim over."""


class FleetAttempts:
    """
    The attempts of one download.

    Life cycle: made; L{run}, once.
    """

    def __init__(
        self, transfer: Transfer, download: PartialDownload, fleet: IFleetDownload, clock: IReactorTime
    ) -> None:
        self._transfer = transfer
        self._download = download
        self._fleet = fleet
        self._clock = clock
        self._found: IPeerSource | None = None
        self._withdrawn = self._hinted = False
        self._step: IDelayedCall | None = None

    async def run(self) -> None:
        """
        Make attempts until the partial file is a blob.

        @raise Exception: see L{Transfer.attempts}.
        """
        whole = False
        try:
            while not whole:
                whole = await self._with_peers() or await self._with_registry()
        finally:
            self._fleet.end(whole)

    async def _with_peers(self) -> bool:
        """
        Make attempts with peers, while there are some.

        @return: whether the blob is here.
        @raise StoreError: the disk refuses.
        """
        while True:
            peer, self._found = self._found, None
            if peer is None:
                peer = await self._next_peer()
            if peer is None:
                return False
            try:
                await self._transfer.attempt_with(peer, self._from_peer)
            except CancelledError:
                raise
            except SourceError as e:
                if not self._fleet.failed(peer, e):
                    return False
            else:
                return True

    async def _from_peer(self, peer: IPeerSource) -> None:
        """
        Make an attempt with a peer, while it sends bytes.

        @raise TimedOut: it does not.
        """
        attempt = Deferred.fromCoroutine(self._download.attempt(peer))
        late = False
        timer: IDelayedCall

        def look() -> None:
            nonlocal timer, late
            left = self._fleet.patience
            if self._transfer.bytes_done == self._transfer.bytes_total:
                # The disk has to write them.
                left = max(left, _STEP)
            late = left <= 0
            if late:
                attempt.cancel()
            else:
                timer = self._clock.callLater(left, look)

        timer = self._clock.callLater(0, look)
        try:
            await attempt
        except CancelledError:
            if not late:
                raise
            raise TimedOut(f"{peer.label} sends nothing", phase="silence", host=peer.host) from None
        finally:
            if timer.active():
                timer.cancel()

    async def _with_registry(self) -> bool:
        """
        Make attempts with the registry.

        @return: whether the blob is here; otherwise there is a peer now.
        """
        self._withdrawn = self._hinted = False
        self._fleet.withdrawn = self._taken
        attempts = Deferred.fromCoroutine(self._transfer.attempts(self._from_registry))
        looking = Deferred.fromCoroutine(self._look(attempts))
        _ = looking.addErrback(lambda failure: failure.trap(CancelledError) and None)
        try:
            await attempts
        except Withdrawn:
            # Another node has claimed the blob meanwhile.
            return False
        except CancelledError:
            if self._transfer.over or not (self._found or self._withdrawn):
                raise
            return False
        finally:
            self._fleet.withdrawn = lambda _: None
            looking.cancel()
        return True

    def _taken(self, offset: int) -> None:
        """
        Another node has taken the claim over: follow it, unless it has to fetch more
        before it reaches this one than is missing here.
        """
        done, total = self._transfer.bytes_done, self._transfer.bytes_total
        if total is not None and done - offset <= total - done:
            self._hinted = True
            if self._step is not None:
                self._step.reset(0)

    async def _look(self, attempts: Deferred[None]) -> None:
        """
        Look for a peer from time to time, and end the attempts when there is one.
        """
        transfer, now = self._transfer, self._clock.seconds
        before = (transfer.state, transfer.bytes_done)
        since = stepped = now()
        while self._found is None and not self._withdrawn:
            await self._sleep()
            frozen, stepped = self._hinted or now() - stepped >= _STEP + _LATE, now()
            self._hinted = False
            seen = (transfer.state, transfer.bytes_done)
            if seen != before or transfer.bytes_done == transfer.bytes_total:
                before, since = seen, stepped
            if frozen or stepped - since >= (STALL if transfer.state == "running" else LOOK):
                since = stepped
                found = await self._next_peer()
                # The registry's turn, or its bytes, may have come meanwhile.
                if frozen or (transfer.state, transfer.bytes_done) == before:
                    self._found = found
            elif transfer.state == "running" and transfer.bytes_done != transfer.bytes_total:
                self._withdrawn = not await self._keep()
        attempts.cancel()

    async def _sleep(self) -> None:
        """
        Sleep until the next look.
        """
        if not self._hinted:
            sleep: Deferred[None] = Deferred()  # Cancelling it leaves the timer to the end below.
            step = self._step = self._clock.callLater(_STEP, sleep.callback, None)
            try:
                await sleep
            finally:
                self._step = None
                if step.active():
                    step.cancel()

    async def _next_peer(self) -> IPeerSource | None:
        registry = self._registry()
        return None if registry is None else await self._fleet.peer(registry)

    async def _keep(self) -> bool:
        registry = self._registry()
        return registry is None or await self._fleet.keep(registry)

    def _registry(self) -> IBlobSource | None:
        return next((s for s in self._transfer.sources if IBlobSource.providedBy(s)), None)

    async def _from_registry(self, source: ISource) -> None:
        """
        Make an attempt with the registry, unless another node fetches the blob.
        """
        here = self._transfer.bytes_done
        if IBlobSource.providedBy(source) and not await self._fleet.claim(source, here):
            raise Withdrawn
        await self._download.attempt(source)
