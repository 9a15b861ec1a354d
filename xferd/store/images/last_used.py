# -*- test-case-name: tests.store.images.test_last_used -*-
"""
The time at which each image was last used.

The times are in the journal: they change often, and matter only when the store
needs space.  If the journal is lost, an image counts as last used when it got
its name.
"""

from __future__ import annotations

from itertools import count
from typing import Final

from twisted.logger import Logger

from xferd.errors import StoreError
from xferd.interfaces.reactor import WallClock
from xferd.interfaces.store import Image
from xferd.json_encoding import from_rfc3339
from xferd.names import Reference
from xferd.store.journal import Journal

_GRAIN: Final = 60.0
"""Seconds after which a further use of the same image is recorded."""


class LastUsed:
    """
    The last uses of the images of one store.
    """

    _log = Logger()

    def __init__(self, journal: Journal, wall_clock: WallClock) -> None:
        self._journal = journal
        self._wall_clock = wall_clock
        # With a number, as two uses may have the same time.
        self._used: dict[str, tuple[float, int]] = {}
        self._numbers = count(1)
        self._recorded: dict[str, float] = {}

    async def load(self) -> None:
        """
        Read the times that earlier daemons recorded.  If the journal cannot be
        read, no times are known.
        """
        try:
            self._recorded = await self._journal.uses()
        except StoreError as e:
            self._log.warn("the last uses of the images are not known: {error}", error=e)
        self._used = {name: (when, 0) for name, when in self._recorded.items()}

    def note(self, reference: Reference) -> None:
        """
        Record that an image is used now.
        """
        name, now = str(reference), self._wall_clock()
        self._used[name] = now, next(self._numbers)
        if not self._recorded.get(name, 0.0) <= now < self._recorded.get(name, 0.0) + _GRAIN:
            self._recorded[name] = now
            self._record(name, now)

    def forget(self, reference: Reference) -> None:
        """
        Forget a name that was removed.
        """
        name = str(reference)
        self._used.pop(name, None)
        if self._recorded.pop(name, None) is not None:
            self._record(name, None)

    def time_of(self, reference: Reference) -> float:
        """
        The time at which a name was last used, in seconds since the epoch; 0 if it
        is not known.
        """
        return self.of_name(reference)[0]

    def of_name(self, reference: Reference) -> tuple[float, int]:
        """
        The time at which a name was last used, as for L{of}; zeros if it is not
        known.
        """
        return self._used.get(str(reference), (0.0, 0))

    def of(self, image: Image) -> tuple[float, int]:
        """
        The time at which an image was last used, in seconds since the epoch, and
        a number that orders uses at the same time.
        """
        used = self._used.get(str(image.reference))
        if used is not None:
            return used
        try:
            return from_rfc3339(image.created), 0
        except ValueError:
            return 0.0, 0

    def _record(self, name: str, when: float | None) -> None:
        def failed(reason: object) -> None:
            self._log.warn("cannot record the last use of {name}: {reason}", name=name, reason=reason)

        _ = self._journal.record_use(name, when).addErrback(failed)
