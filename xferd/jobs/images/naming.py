# -*- test-case-name: tests.jobs.images.test_naming -*-
"""
The names that jobs give to images: of several jobs that give one name, the one
that resolved it last wins.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from xferd.interfaces.store import Image, IStore
from xferd.jobs.deferreds import uninterrupted
from xferd.names import Reference


class Naming:
    """
    Gives images their names, in the order in which jobs resolved them.

    A tag may move while jobs run, and a slow pull must not return a name to an
    older image.  A pull resolves a name when its registry answers, an import and
    a tag when they give it.
    """

    def __init__(self, store: IStore, named: Callable[[Image], None]) -> None:
        """
        @param named: called with each image that got its name.
        """
        self._store = store
        self._named = named
        self._numbers = count(1)
        self._open: dict[int, None] = {}
        # The resolution by which each name was given, while an older one is open.
        self._given: dict[Reference, int] = {}
        self._giving: dict[Reference, int] = {}

    def resolved(self) -> int:
        """
        Report that a name was resolved now.

        @return: the number of the resolution, which is open until L{close}d.
        """
        number = next(self._numbers)
        self._open[number] = None
        return number

    def close(self, number: int) -> None:
        """
        End a resolution, which gives no more names.  Idempotent.
        """
        self._open.pop(number, None)
        oldest = next(iter(self._open), None)
        if oldest is None:
            self._given.clear()
        elif len(self._given) > 2 * len(self._open) + 100:
            self._given = {name: given for name, given in self._given.items() if given > oldest}

    async def give(self, image: Image, number: int) -> bool:
        """
        Give an image its name, unless a later resolution has given the name to an
        image that still has it, or is giving it.  Cancelling has no effect.

        @param number: the number of the resolution.
        @return: whether the image has the name.
        @raise StoreError: the disk refuses.
        """
        name = image.reference
        if self._giving.get(name, 0) > number:
            return False
        if self._given.get(name, 0) > number and self._store.images.peek(name) is not None:
            return False
        self._giving[name] = number
        try:
            named = await uninterrupted(self._store.images.put(image))
            self._given[name] = max(number, self._given.get(name, 0))
        finally:
            if self._giving.get(name) == number:
                del self._giving[name]
        self._named(named)
        return True
