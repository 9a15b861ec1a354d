# -*- test-case-name: tests.test_selection -*-
"""
The entries of an index that fit a platform.
"""

from __future__ import annotations

from xferd.errors import NoSuchPlatform, shown
from xferd.media_types import INDEXES
from xferd.oci import Descriptor, Index
from xferd.platforms import Platform


def candidates(index: Index, wanted: Platform) -> list[Descriptor]:
    """
    The entries of an index that may be an image for a platform, or contain one,
    the best first: by variant, then by position (OCI image-spec, "Image Index"),
    and last the entries without a platform.

    Attestations and unknown media types are excluded.
    """
    entries = [e for e in index.manifests if e.is_known and not e.is_attestation]
    named = [e for platform in wanted.accepts() for e in entries if e.platform == platform]
    return [*named, *(e for e in entries if e.platform is None)]


def choose(index: Index, wanted: Platform) -> Descriptor:
    """
    The entry of an index for a platform, as far as the index names platforms.

    @raise NoSuchPlatform: there is none; the message lists the platforms.
    """
    found = candidates(index, wanted)
    sure = [e for e in found if e.platform is not None or e.media_type in INDEXES or len(found) == 1]
    if not sure:
        raise no_such_platform("the image", wanted, offered(index))
    return sure[0]


def offered(index: Index) -> set[Platform]:
    """
    The platforms of an index, without those of attestations.
    """
    return {e.platform for e in index.manifests if e.platform is not None and not e.is_attestation}


def no_such_platform(name: str, wanted: Platform, there: set[Platform]) -> NoSuchPlatform:
    """
    The error of an image without a platform.

    @param there: the platforms of the image.
    """
    listed = sorted(shown(str(platform)) for platform in there)
    more = f" and {len(listed) - 20} more" if len(listed) > 20 else ""
    return NoSuchPlatform(
        f"{name} is not offered for {wanted}; it is offered for: {', '.join(listed[:20]) or 'none'}{more}"
    )
