# -*- test-case-name: tests.jobs.images.test_details,tests.jobs.images.test_outdated_trees -*-
"""
Images in the store, and their layers.
"""

from __future__ import annotations

from xferd.errors import NotFound, StoreError
from xferd.interfaces.store import Image, IStore, Layer
from xferd.names import Reference


def stored_image(store: IStore, reference: Reference) -> Image:
    """
    The image that the store has under a name.

    @raise NotFound: it has none.
    """
    image = store.images.get(reference)
    if image is None:
        raise no_image(reference)
    return image


def stored_layers(store: IStore, image: Image) -> list[Layer]:
    """
    An image's layers, bottom first.

    @raise StoreError: a layer is missing.
    """
    layers: list[Layer] = []
    chain_id = image.chain_id
    while chain_id is not None:
        layer = store.layers.get(chain_id)
        if layer is None:
            raise StoreError(
                f"the store has lost layer {chain_id} of {image.reference.familiar()}; pull the image again"
            )
        layers.append(layer)
        chain_id = layer.parent
    return layers[::-1]


def no_image_yet(reference: Reference, job_id: str) -> NotFound:
    """
    The error for a name that a job has not made yet.
    """
    return NotFound(
        f"the store has no image {reference.familiar()} yet; "
        f"'xferctl cancel {job_id}' ends the job that fetches it"
    )


def no_image(reference: Reference) -> NotFound:
    """
    The error for a name that the store does not have.
    """
    return NotFound(
        f"the store has no image {reference.familiar()}; 'xferctl images' lists those that it has"
    )
