# -*- test-case-name: tests.jobs.images.test_whole_images -*-
"""
Images whose layers are all registered: most pulls are of such images, and many clients
pull the same one.
"""

from __future__ import annotations

from typing import Final

from attrs import define
from twisted.internet.interfaces import IReactorTime

from xferd.image_config import ImageConfig
from xferd.interfaces.store import IStore
from xferd.jobs.blobs.download import DownloadManager
from xferd.jobs.blobs.layers import Stack
from xferd.jobs.images.resolve import Resolved
from xferd.names import Digest

MOST: Final = 128
"""The number of images that are remembered."""

FRESH: Final = 1.0
"""Seconds for which other jobs rely on a check."""


@define(eq=False)
class WholeImage:
    """
    An image whose layers were found registered.

    @ivar config: its parsed config.
    @ivar stacks: its layers, the bottom one first.
    @ivar number: the number of the last check; numbers rise.
    @ivar at: the clock's time of that check.
    """

    config: ImageConfig
    stacks: list[Stack]
    number: int
    at: float


class WholeImages:
    """
    The images that jobs have found whole, by the digest of their manifest, for clients
    that share the content of the store.

    A config is parsed once.  The layers are checked again, but one check serves all jobs that
    already hold their lease: the lease protects everything that the check has touched.
    """

    def __init__(self, store: IStore, layers: DownloadManager, clock: IReactorTime) -> None:
        self._store = store
        self._layers = layers
        self._clock = clock
        self._known: dict[Digest, WholeImage] = {}
        self._number = 0

    def now(self) -> int:
        """
        The number of the newest check.
        """
        return self._number

    def find(self, resolved: Resolved, since: int) -> WholeImage | None:
        """
        Find an image, if it is whole.

        @param since: L{now}, when the lease of the job was held.
        """
        whole = self._known.get(resolved.descriptor.digest)
        if whole is None:
            return None
        now = self._clock.seconds()
        if whole.number > since and now - whole.at < FRESH and self._has_top(whole):
            return whole
        here = self._store.blobs.has(resolved.manifest.config.digest)
        if not (here and all(map(self._is_here, whole.stacks))):
            return None
        self._number += 1
        whole.number, whole.at = self._number, now
        return whole

    def _has_top(self, whole: WholeImage) -> bool:
        """
        Whether the top layer is registered still.  A verification removes layers that it cannot
        replace, with those above them, though jobs hold leases.
        """
        return not whole.stacks or self._layers.is_registered(whole.stacks[-1])

    def _is_here(self, stack: Stack) -> bool:
        """
        Whether a layer is registered, and its tree needs not be unpacked again.
        """
        trees = self._store.trees
        # The blob may be pushed later: a lease keeps it, too.
        trees.diff_id_of(stack.blob.digest)
        return (
            trees.has(stack.diff_id)
            and not trees.is_outdated(stack.diff_id)
            and self._layers.is_registered(stack)
        )

    def note(self, resolved: Resolved, config: ImageConfig, stacks: list[Stack]) -> None:
        """
        Note that all layers of an image are registered.
        """
        self._known.pop(resolved.descriptor.digest, None)
        # Without a number: the first job that finds it checks it.
        self._known[resolved.descriptor.digest] = WholeImage(config, stacks, 0, 0.0)
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]
