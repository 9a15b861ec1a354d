# -*- test-case-name: tests.jobs.images.test_platform_change -*-
"""
The warning of a job that gives a name to an image for another platform than
before: the store has one platform for each name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xferd.errors import XferdError
from xferd.image_config import parse_config
from xferd.oci import Manifest

if TYPE_CHECKING:
    from xferd.interfaces.store import Image, IStore
    from xferd.platforms import Platform


async def platform_change_warning(store: IStore, image: Image) -> str | None:
    """
    The warning for an image that is about to get its name.

    @return: L{None} unless the name stands for an image for another platform.
    """
    before = store.images.peek(image.reference)
    if before is None or before.manifest.digest == image.manifest.digest:
        return None
    old, new = await _platform(store, before), await _platform(store, image)
    if old is None or new is None or old == new:
        return None
    name = image.reference.familiar()
    return (
        f"{name} stands for {new} from now on, and stood for {old}: the store has one platform for each "
        f"name, and 'xferctl gc' frees the other unless another name, a job or a mount uses it; "
        f"'xferctl pull --platform {old} {name}' takes the name back, 'xferctl tag' gives a second one"
    )


async def _platform(store: IStore, image: Image) -> Platform | None:
    """
    The platform of an image, if it is known: the index takes precedence.
    """
    manifest = Manifest(image.config, image.layers)
    if image.manifest.platform is not None or not manifest.is_image:
        return image.manifest.platform
    try:
        return parse_config(await store.blobs.read(image.config.digest), manifest).platform
    except XferdError:
        # A damaged image must not prevent that another gets its name.
        return None
