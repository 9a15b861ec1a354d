# -*- test-case-name: tests.jobs.images.test_details -*-
"""
The details of one image, as the API shows them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xferd.errors import NoSuchPlatform
from xferd.image_config import parse_config, read_config
from xferd.jobs.events.broker import image_json
from xferd.jobs.images.stored import stored_layers
from xferd.oci import Manifest

if TYPE_CHECKING:
    from xferd.interfaces.store import Image, IStore
    from xferd.platforms import Platform


async def image_details(store: IStore, image: Image, wanted: Platform | None = None) -> dict[str, Any]:
    """
    An image with its config and the directories of its layers.

    Besides the members of L{image_json}: C{platform}, as C{os/architecture[/variant]};
    C{config}, the parsed config; C{chain_id}, the ID of the top layer, or
    L{None}; C{trees}, the directories of the layers' trees on the
    daemon's machine, bottom first.  Platform and config are L{None} where the
    image is an artifact, which has no such config.

    @param wanted: the platform that it must be for; any by default.
    @raise StoreError: the config or a layer is missing or damaged.
    @raise NoSuchPlatform: it is for another platform.
    """
    shown = {**image_json(image, store.gc.used_by(image.chain_id)), "platform": None, "config": None}
    shown |= {
        "chain_id": None if image.chain_id is None else str(image.chain_id),
        "trees": [layer.path for layer in stored_layers(store, image)],
    }
    manifest = Manifest(image.config, image.layers)
    if manifest.is_image:
        data = await store.blobs.read(image.config.digest)
        # As for check_platform: the index takes precedence.
        platform = image.manifest.platform or parse_config(data, manifest).platform
        if wanted is not None and platform not in (None, *wanted.accepts()):
            raise NoSuchPlatform(
                f"the store has {image.reference.familiar()} for {platform}, not for {wanted}; "
                f"'xferctl pull --platform {wanted}' gets it"
            )
        shown |= {"platform": None if platform is None else str(platform)}
        shown["config"] = read_config(data, f"config {image.config.digest}")
    return shown
