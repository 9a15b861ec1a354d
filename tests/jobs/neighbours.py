"""
The images and archives of bad neighbours, for the scenarios on fakes and on a
real daemon.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from tests.jobs.archives.samples import layout, tar
from xferd.testing.images import SampleImage, sample_image

LARGE = 2_000_000
"""Bytes of a neighbour's layer: no small one."""

BESIDE = "beside"
"""The image that is pulled beside the neighbours."""


@cache
def image_of(name: str) -> SampleImage:
    """
    An image of 20 MB.
    """
    return sample_image(4, 5_000_000, seed=name)


@cache
def of_neighbour(seed: str, layers: int = 1) -> SampleImage:
    """
    An image of a neighbour.
    """
    return sample_image(layers, LARGE, seed=seed)


def wrong_images(many: int) -> Iterator[tuple[str, SampleImage]]:
    """
    Images of which a registry sends wrong bytes, with their names; the first
    has the layers that the pull wants.
    """
    for n in range(many):
        yield f"app{n}", of_neighbour(f"wrong {n}") if n else image_of(BESIDE)


@cache
def broken_imports() -> tuple[tuple[str, int, bytes], ...]:
    """
    Archives of which only the first part arrives: one of its own image, and
    one of the image that the pull wants.

    @return: the name, the size of the archive, and the part.
    """
    images = {"own": of_neighbour("own"), BESIDE: image_of(BESIDE)}
    archives = {f"{name}:1": tar(layout({f"{name}:1": image})) for name, image in images.items()}
    return tuple((name, len(archive), archive[: LARGE // 2]) for name, archive in archives.items())
