# -*- test-case-name: tests.jobs.events.test_image_uses -*-
"""
Reports images to event streams when the container engines that need them change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from xferd.interfaces.store import Image, IStore
from xferd.names import Reference

INTERVAL: Final = 5.0
"""Seconds between two looks at what needs the images: engines report no changes."""


class ImageUses:
    """
    The uses of the images of one store.

    Life cycle: made; C{start}ed, if the daemon serves engines; C{stop}ped.
    """

    _log = Logger()

    def __init__(self, store: IStore, named: Callable[[Image], object], clock: IReactorTime) -> None:
        """
        @param named: reports an image.
        """
        self._store = store
        self._named = named
        self._known: dict[Reference, Sequence[str]] = {}
        self._loop = LoopingCall(self.check)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Look now and then.
        """
        _ = self._loop.start(INTERVAL).addErrback(
            lambda failure: self._log.failure("while looking at what needs images", failure)
        )

    def stop(self) -> None:
        """
        Stop.  Idempotent.
        """
        if self._loop.running:
            self._loop.stop()

    def check(self) -> None:
        """
        Report the images whose users have changed.
        """
        images = self._store.images.all()
        uses = {image.reference: self._store.gc.used_by(image.chain_id) for image in images}
        known, self._known = self._known, {name: texts for name, texts in uses.items() if texts}
        for image in images:
            if uses[image.reference] != known.get(image.reference, []):
                self._named(image)
