"""
Shared by the tests of pulls.
"""

from __future__ import annotations

from xferd.names import Digest
from xferd.testing.images import SampleImage


def blob_of(image: SampleImage, index: int) -> Digest:
    """
    The digest of a layer's blob.
    """
    return image.layers[index].blob.digest
