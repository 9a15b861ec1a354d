# -*- test-case-name: tests.jobs.images.test_resolve -*-
"""
The search for the image of a platform, through nested indexes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from attrs import define, field, frozen

from xferd.errors import BadDocument, NoSuchPlatform
from xferd.image_config import platform_of
from xferd.media_types import INDEXES
from xferd.names import Digest
from xferd.oci import MAX_INDEX_DEPTH, Descriptor, Document, Manifest, parse_document
from xferd.platforms import Platform
from xferd.selection import candidates, no_such_platform, offered

MAX_LOOKS: Final = 200
"""
The largest number of documents that are read for one image.  An index that names
the platforms of its entries costs one; entries without platforms are tried.
"""

MAX_SECONDS: Final = 600.0
"""Seconds after which no further document is read, if some were."""

_SOME: Final = 10


@frozen
class Resolved:
    """
    The image of a reference, for one platform.

    @ivar digest: the digest that the reference stands for: of an index, or of the
        manifest.
    @ivar descriptor: the manifest's descriptor, with the platform that an
        index names for it.
    @ivar manifest: the manifest.
    @ivar chosen: whether it was chosen from an index, by platform.
    """

    digest: Digest
    descriptor: Descriptor
    manifest: Manifest
    chosen: bool


@define
class Search:
    """
    The search for one image.

    Entries that name a platform are trusted.  Those that do not are read after
    the others: an index for its entries, and an image, unless it is the only one,
    for the platform in its config.

    @ivar name: the name of the image in errors.
    @ivar wanted: the platform.
    @ivar fetch: returns a document that an index names.
    @ivar config: returns the config of a manifest.
    @ivar clock: returns monotonic seconds.
    """

    name: str
    wanted: Platform
    fetch: Callable[[Descriptor], Awaitable[Document]]
    config: Callable[[Descriptor], Awaitable[bytes]]
    clock: Callable[[], float] = lambda: 0.0
    _began: float = field(default=0.0, init=False)
    _there: set[Platform] = field(factory=set, init=False)
    _looks: int = field(default=0, init=False)

    async def run(self, root: Document) -> Resolved:
        """
        Search.

        @param root: an index, or the manifest itself.
        @raise NoSuchPlatform: there is none; the message lists the others.
        @raise BadDocument: a document breaks its specification, or the
            indexes are nested too deep or name too much.
        """
        self._began = self.clock()
        found = await self._look(root, 0)
        if found is None:
            raise no_such_platform(self.name, self.wanted, self._there)
        document, manifest, depth, platform = found
        descriptor = Descriptor(manifest.media_type, document.digest, len(document.data), platform)
        return Resolved(root.digest, descriptor, manifest, chosen=depth > 0)

    async def _look(
        self, document: Document, depth: int, platform: Platform | None = None
    ) -> tuple[Document, Manifest, int, Platform | None] | None:
        """
        Read a document.

        @param platform: the platform that the index above names for it.
        @return: the manifest, its depth, and the platform that an index names for
            it; or L{None} if there is none.
        """
        parsed = parse_document(document)
        if isinstance(parsed, Manifest):
            return document, parsed, depth, platform
        if depth > MAX_INDEX_DEPTH - 1:
            raise BadDocument(f"{self.name} is an index of indexes, more than {MAX_INDEX_DEPTH} deep")
        self._there |= offered(parsed)
        alone = sum(not entry.is_attestation for entry in parsed.manifests) == 1
        for entry in candidates(parsed, self.wanted):
            self._looks += 1
            if self._looks > _SOME and self.clock() - self._began > MAX_SECONDS:
                raise BadDocument(
                    f"{self.name} has entries that name no platform, and reading "
                    f"{self._looks - 1} of them took more than {MAX_SECONDS:g} s; "
                    "name the wanted one by its digest"
                )
            if self._looks > MAX_LOOKS:
                raise BadDocument(
                    f"{self.name} has more than {MAX_LOOKS} entries that name no platform; "
                    "name the wanted one by its digest"
                )
            found = await self._look(await self.fetch(entry), depth + 1, entry.platform or platform)
            if found is None:
                continue
            stated = entry.platform is not None or entry.media_type in INDEXES
            if stated or alone or await self._fits(found[1]):
                return found
        return None

    async def _fits(self, manifest: Manifest) -> bool:
        """
        Whether an image is for the platform, by its config.
        """
        if not manifest.is_image:
            return False
        platform = platform_of(await self.config(manifest.config), manifest.config.digest)
        if platform is not None:
            self._there.add(platform)
        return platform in self.wanted.accepts()


def check_platform(name: str, wanted: Platform, listed: Platform | None, configured: Platform | None) -> None:
    """
    Check that an image is for a platform.  The index takes precedence, as it
    does for docker and containerd: configs of images that were built on another
    machine are often wrong.

    @param name: the name of the image in an error.
    @param listed: the platform that an index names for it, if one does.
    @param configured: the platform that its config names, if it does.
    @raise NoSuchPlatform: it is for another.
    """
    offered = listed or configured
    if offered not in (None, *wanted.accepts()):
        raise NoSuchPlatform(f"{name} is an image for {offered} only, not for {wanted}")
