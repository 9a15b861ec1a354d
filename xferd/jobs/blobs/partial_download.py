# -*- test-case-name: tests.jobs.blobs.test_partial_download,tests.jobs.blobs.test_stalled_sources -*-
"""
One blob is fetched from any number of sources into its partial file: when the
file is open, which source sent which bytes, and when to use another source.

The file is open while an attempt is made.  A download that is queued or backs
off holds no descriptor; one that has not begun has no file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from typing import Final, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from xferd.errors import ContentMismatch
from xferd.interfaces.blobs import IBlobs, IPartial
from xferd.interfaces.peers import IPeerBody, IPeerSource
from xferd.interfaces.registry import IBlobBody, IBlobSource
from xferd.interfaces.transfer import ISource
from xferd.jobs.blobs.growth import Growth
from xferd.jobs.blobs.partial_lock import PartialLock
from xferd.jobs.blobs.possession import Possession
from xferd.jobs.blobs.ranged_download import held
from xferd.jobs.blobs.stall_watch import StallWatch
from xferd.oci import Descriptor
from xferd.transfer.attempts import Postponed
from xferd.transfer.transfer import Transfer

REST: Final = 30.0
"""Seconds for which a source that stalled is not used while there are others."""

TURN: Final = 1.0
"""Seconds for which another download that waits for the file can acquire it."""

WRONG: Final = "the bytes that were here before were wrong: all are fetched again"
"""Why a download begins again, for people."""

MIXED: Final = "the bytes of several sources were wrong together: all are fetched again from {}"
"""The same, with the source."""

_EARLIER: Final = object()
"""The unknown sender of the bytes that were found in the file."""

Receive = Callable[
    [
        Transfer,
        IPartial,
        IBlobSource,
        Callable[[IBlobBody], None],
        Callable[[int, "Deferred[None] | None"], None],
    ],
    Awaitable[None],
]


class PartialDownload:
    """
    One download of one blob.

    States: I{at rest}; I{active}, while an attempt is made; I{ended}, after
    L{close}.

    @ivar active: whether an attempt is being made.
    """

    _log = Logger()

    def __init__(
        self,
        transfer: Transfer,
        blob: Descriptor,
        growth: Growth,
        *,
        blobs: IBlobs,
        clock: IReactorTime,
        receive: Receive,
        verified: Callable[[], None] = lambda: None,
        lock: PartialLock | None = None,
        possession: Possession | None = None,
    ) -> None:
        """
        @param receive: fetches what a partial file lacks from one source.  It calls
            its fourth argument with each body, before its first byte, and the last
            one for each piece, with its size and with what has to fire before the
            next is read.
        @param verified: called when all bytes are right, before they are a blob.
        @param lock: in isolated mode, the lock of the blob's file.  Then the
            source has to prove that it has the blob, before a byte is used that
            another source sent.
        @param possession: checks that proof; given together with C{lock}.  Without
            C{lock}, only bytes that an earlier download left need a proof.
        """
        self._transfer = transfer
        self._blob = blob
        self._growth = growth
        self._blobs = blobs
        self._clock = clock
        self._receive = receive
        self._verified = verified
        self._lock = lock
        self._possession = possession
        self._partial: IPartial | None = None
        self._senders: set[Hashable] = set()
        self._begun: set[Hashable] = set()
        self._alone = False
        self.active = False

    async def attempt(self, source: ISource) -> None:
        """
        Make one attempt: continue at the file's end, and commit it as a blob.

        @raise Postponed: another download writes the file, or the source
            stalls and there is another source.
        @raise ContentMismatch: the source sent wrong bytes.
        """
        if self._lock is not None:
            self._lock.acquire(self)
        self.active = True
        try:
            with self._growth.arriving():
                await self._go_on(cast("IBlobSource", source))
        finally:
            self.active = False
            if self._partial is not None:
                self._partial.suspend()
            if self._lock is not None:
                self._lock.release()

    async def finish(self) -> bool:
        """
        Commit the file where an earlier download left all of its bytes: that
        needs neither a source nor a slot.  In isolated mode it needs a proof, and
        so an attempt.

        @return: whether the file is a blob now.
        @raise StoreError: the disk refuses.
        """
        if self._lock is not None or self._blobs.partial_size(self._blob.digest) < self._blob.size:
            return False
        partial = await self._open()
        try:
            if partial.offset < self._blob.size:
                return False
            await partial.commit(self._verified)
        except ContentMismatch:
            self._senders.clear()
            self._transfer.begin_again(WRONG)
            return False
        finally:
            partial.suspend()
        self._transfer.report(bytes_done=self._blob.size)
        return True

    def take(self) -> None:
        """
        End with the blob that is in the store, wherever its bytes came from.
        """
        self._growth.origins.add("")
        self._growth.replaced(self._blobs.path(self._blob.digest), self._blob.size)
        self._transfer.report(bytes_done=self._blob.size)

    def put_away(self) -> None:
        """
        Close the file, so that another download can continue it.
        """
        partial, self._partial = self._partial, None
        if partial is not None:
            partial.unfollow(self._growth)
            partial.close()

    def close(self) -> None:
        """
        Close the file, and release its lock.
        """
        self.put_away()
        if self._lock is not None:
            self._lock.end(self)

    # --------------------------------------------------------- one attempt

    async def _go_on(self, source: IBlobSource) -> None:
        """
        Fetch what is missing, and verify the blob.
        """
        if self._blobs.has(self._blob.digest):
            # It came by another way while this waited for a slot or for its next attempt.
            if self._possession is not None:
                path, size = self._blobs.path(self._blob.digest), self._blobs.size(self._blob.digest) or 0
                await self._possession.prove(source, self._blob.digest, path, size)
            self.take()
            return
        partial = await self._open(source)
        self._transfer.report(bytes_done=held(partial))
        while True:
            if self._senders - {source.identity} and (self._alone or self._is_anew(source)):
                self._discard(partial)
            try:
                if partial.size is None or partial.offset < partial.size:
                    await self._watched(partial, source)
            except ContentMismatch:
                # The source itself shows that it has other content.
                if source.identity in self._senders:
                    self._discard(partial)
                source.distrust(partial.digest)
                raise
            try:
                await partial.commit(self._verified)
            except ContentMismatch:
                senders, self._senders = self._senders, set()
                if senders <= {source.identity}:
                    self._transfer.report(bytes_done=0)
                    source.distrust(partial.digest)
                    raise
                self._transfer.begin_again(WRONG if _EARLIER in senders else MIXED.format(source.label))
                self._alone = True
                self._log.warn(
                    "the bytes that several sources sent are not {digest}: all are requested from {source}",
                    digest=self._blob.digest,
                    source=source.label,
                )
            else:
                return

    async def _open(self, source: IBlobSource | None = None) -> IPartial:
        """
        Open the file, and let followers read it while it grows.

        @param source: has to prove that the client has access to its bytes.
        """
        partial = self._partial
        if partial is not None:
            partial.resume()
            if not held(partial):
                self._senders.clear()
            return partial
        partial = self._partial = await self._blobs.partial(self._blob.digest, self._blob.size)
        self._senders, earlier = ({_EARLIER}, "") if held(partial) else (set(), None)
        if source is not None and held(partial) and self._possession is not None:
            # What a peer has proves nothing about a client's rights.
            prover = source.registry if IPeerSource.providedBy(source) else source
            try:
                await self._possession.prove_partial(prover, partial)
            except BaseException:
                # The next attempt opens it again, and has it proved.
                self.put_away()
                raise
            # What it has proved to have may come from it alone.
            self._growth.origins.clear()
            if held(partial):
                earlier = prover.origin
            else:
                self._senders.clear()
                earlier = None
        if self._growth.size > partial.offset or (self._lock is not None and self._growth.size):
            # Another download may have restarted the file meanwhile.
            self._growth.restarted()
        if earlier is not None:
            self._growth.origins.add(earlier)
        partial.follow(self._growth)
        return partial

    def _is_anew(self, source: IBlobSource) -> bool:
        """
        Whether a source passes its bytes only once, and has not begun: bytes that
        an earlier download has left must not spoil them.
        """
        return not source.host and source.identity not in self._begun and _EARLIER in self._senders

    def _discard(self, partial: IPartial) -> None:
        self._senders.clear()
        if held(partial):
            partial.restart()
        self._transfer.report(bytes_done=0)

    async def _watched(self, partial: IPartial, source: IBlobSource) -> None:
        """
        Receive bytes until all are here, the source fails, or it stalls and
        there is another one.
        """

        watch = StallWatch(self._clock, lambda: self._is_replaceable(source))
        senders = self._senders

        def moved(size: int, hold: Deferred[None] | None) -> None:
            # A busy peer may have sent us on to another one.
            senders.add(source.identity)
            watch.moved(size, hold)
            self._growth.flow()

        def opened(body: IBlobBody) -> None:
            self._growth.origins.add(body.origin if IPeerBody.providedBy(body) else source.origin)

        async def receive() -> None:
            await self._receive(self._transfer, partial, source, opened, moved)

        self._begun.add(source.identity)
        receiving = Deferred.fromCoroutine(receive())
        watch.start(receiving.cancel)
        try:
            await receiving
        except CancelledError:
            if not watch.stalled:
                raise
            self._log.info(
                "{source} sends nothing of {digest}: the next source is used",
                source=source.label,
                digest=self._blob.digest,
            )
            rest = REST if self._transfer.has_another(source) else TURN
            raise Postponed(
                f"waiting for {source.label}, which sends nothing", deferLater(self._clock, rest)
            ) from None
        finally:
            watch.stop()

    def _is_replaceable(self, source: IBlobSource) -> bool:
        """
        Whether to stop waiting for a source: another source or download waits.  The
        answers of peers have limits of their own.
        """
        contested = self._lock is not None and self._lock.contested
        return contested or (not IPeerSource.providedBy(source) and self._transfer.has_another(source))
