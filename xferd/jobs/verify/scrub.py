# -*- test-case-name: tests.jobs.verify.test_scrub -*-
"""
The scrub: all content of the store is checked, slowly and again and again, in the
background.

It is no job, as it has no end.  Where it finds damage it begins a verification of the
image, which replaces and names it, and is seen like any other job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from xferd.errors import XferdError
from xferd.interfaces.integrity import IPace
from xferd.interfaces.store import IStore
from xferd.jobs.verify.inventory import Part, TreePart, take_stock
from xferd.jobs.verify.pacing import paced

REST: Final = 3600.0
"""Seconds between two passes, and before the first one."""

BUSY_DIVISOR: Final = 4
"""While transfers run, the rate is divided by this."""


class Scrub:
    """
    The scrub of one store.

    Life cycle: made; started; stopped.
    """

    _log = Logger()

    def __init__(
        self,
        store: IStore,
        rate: int,
        *,
        clock: IReactorTime,
        busy: Callable[[], bool],
        found: Callable[[str | None, Callable[[object], object]], object],
        checked: Counter[str],
        random: Random | None = None,
    ) -> None:
        """
        @param rate: bytes per second; 0 for no scrub.
        @param busy: returns whether transfers move bytes.
        @param found: begins a verification of an image, or of all content, and calls its
            second argument when that has ended.
        @param checked: gets the numbers of what was checked.
        @param random: chooses the order of each pass: a daemon that is often restarted
            gets to all content as well.
        """
        self._store = store
        self._rate = rate
        self._clock = clock
        self._busy = busy
        self._found = found
        self._checked = checked
        self._random = Random() if random is None else random  # noqa: S311 - no secret
        self._work: Deferred[None] | None = None
        # What is being verified: an image, or all content.
        self._verifying: set[str | None] = set()

    def start(self) -> None:
        """
        Begin, unless the rate is 0.
        """
        if self._rate:
            self._work = Deferred.fromCoroutine(self._run())

    def stop(self) -> Deferred[None]:
        """
        End.

        @return: fires when nothing is read any more.
        """
        work, self._work = self._work, None
        if work is None:
            return succeed(None)
        work.cancel()
        return work.addErrback(lambda reason: reason.trap(CancelledError) and None)

    async def _run(self) -> None:
        while True:
            await deferLater(self._clock, REST)
            try:
                await self._pass()
            except CancelledError:
                raise
            except XferdError as e:
                self._log.warn("the scrub is interrupted: {why}", why=e)
            except Exception:
                self._log.failure("while scrubbing")

    async def _pass(self) -> None:
        """
        Check all content once.
        """
        inventory = await take_stock(self._store, self._clock)
        things: list[Part | TreePart] = [*inventory.parts(), *inventory.trees()]
        self._random.shuffle(things)
        pace = self._store.integrity.pace()
        damaged = 0
        with paced(pace, self._clock, self._rate_now):
            for thing in things:
                damaged += await self._check(thing, pace)
        self._log.info(
            "scrubbed {count} blobs and trees: {damaged} damaged", count=len(things), damaged=damaged
        )

    def _rate_now(self) -> float:
        return self._rate / BUSY_DIVISOR if self._busy() else self._rate

    async def _check(self, thing: Part | TreePart, pace: IPace) -> bool:
        """
        Check a blob or a tree.

        @return: whether it is damaged.
        """
        # A lease for each: one for all would keep everything from being collected.
        release = self._store.gc.lease()
        try:
            damage: object | Sequence[object] | None
            if isinstance(thing, TreePart):
                if not self._store.trees.has(thing.diff_id):
                    return False
                damage = await self._store.integrity.check_tree(thing.diff_id, pace)
            else:
                digest = thing.blob.digest
                if not self._store.blobs.has(digest):
                    # It has been removed, or its tree came with another blob.
                    return False
                damage = await self._store.integrity.check_blob(digest, thing.blob.size or None, pace)
        finally:
            release()
        self._checked["trees" if isinstance(thing, TreePart) else "blobs"] += 1
        self._checked["bytes"] += thing.size if isinstance(thing, TreePart) else thing.blob.size
        if damage:
            self._report(thing)
        return bool(damage)

    def _report(self, thing: Part | TreePart) -> None:
        """
        Begin a verification of an image that needs something damaged, or of all content,
        unless one runs that finds it, too.
        """
        images = {image.reference.familiar() for image in self._store.images.all()}
        name = next((name for name in thing.names if name in images), None)
        if self._verifying.isdisjoint({name, None}):
            self._verifying.add(name)
            self._found(name, lambda _: self._verifying.discard(name))
