# -*- test-case-name: tests.test_image_config -*-
"""
The configs of images, which are read less strictly than manifests: as Go's
tools read them.

A config has labels, commands and comments of any origin.  What is no UTF-8,
and halves of surrogate pairs, become U+FFFD; of a name that occurs twice in an
object, the last counts.  Only what decides which files an image has, and where
it runs, must not be ambiguous.

Pure: bytes in, values or L{BadDocument} out.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

from attrs import frozen

from xferd.errors import BadDigest, BadDocument
from xferd.names import Digest
from xferd.oci import Manifest, check_extent, platform_from_json
from xferd.platforms import Platform

_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")

_DECIDING: Final = frozenset({"rootfs", "os", "architecture", "variant"})
_DECIDING_LAYERS: Final = frozenset({"type", "diff_ids"})


@frozen
class ImageConfig:
    """
    What an image's config says of its layers and its platform.

    @ivar diff_ids: the digests of the uncompressed layers, bottom first.
    @ivar platform: what the image runs on, or L{None} if it does not say.
    """

    diff_ids: tuple[Digest, ...]
    platform: Platform | None


class _Object(dict[str, Any]):
    """
    A JSON object.

    @ivar ambiguous: the names that it has twice, with different values.
    """

    # A config may have thousands of objects, and few are ambiguous.
    __slots__ = ("ambiguous",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.ambiguous: frozenset[str] = frozenset()
        for name, value in ((_readable(name), _readable(value)) for name, value in pairs):
            if name in self and self[name] != value:
                self.ambiguous |= {name}
            self[name] = value


def read_config(data: bytes, where: str) -> dict[str, Any]:
    """
    Parse a config.

    @param where: what to call it in an error.
    @return: the object, all of whose texts can be encoded.
    @raise BadDocument: it is no JSON object, or too large.
    """
    return _parse(data, where)


def parse_config(data: bytes, manifest: Manifest) -> ImageConfig:
    """
    Read an image's config and hold it against its manifest.

    @raise BadDocument: it breaks the specification, or names another number
        of layers than the manifest.
    """
    where = f"config {manifest.config.digest}"
    value = _parse(data, where)
    rootfs = value.get("rootfs")
    if not isinstance(rootfs, _Object) or rootfs.get("type") != "layers":
        raise BadDocument(f"{where} has no rootfs of type 'layers'")
    _check(value, _DECIDING, where)
    _check(rootfs, _DECIDING_LAYERS, where)
    listed = rootfs.get("diff_ids")
    if listed is None:
        listed = []
    if not isinstance(listed, list):
        raise BadDocument(f"{where}: rootfs.diff_ids is not a list")
    try:
        diff_ids = tuple(Digest.parse(str(d)) for d in listed)
    except BadDigest as e:
        raise BadDocument(f"{where}: rootfs.diff_ids: {e}") from e
    if len(diff_ids) != len(manifest.layers):
        raise BadDocument(f"{where} names {len(diff_ids)} layers, its manifest {len(manifest.layers)}")
    return ImageConfig(diff_ids, platform_from_json(value))


def platform_of(data: bytes, digest: Digest) -> Platform | None:
    """
    The platform that an image's config names, if it names one.

    @raise BadDocument: it is no JSON object, or ambiguous.
    """
    where = f"config {digest}"
    value = _parse(data, where)
    _check(value, _DECIDING, where)
    return platform_from_json(value)


def _parse(data: bytes, where: str) -> _Object:
    """
    L{read_config}, with what is ambiguous.
    """

    def refuse(word: str) -> NoReturn:
        raise BadDocument(f"{where} is not JSON: {word} is not a number")

    check_extent(data, where)
    try:
        text = data.decode("utf-8", "replace")
        value = json.loads(text, object_pairs_hook=_Object, parse_constant=refuse)
    except (ValueError, RecursionError) as e:
        raise BadDocument(f"{where} is not JSON: {e}") from e
    if not isinstance(value, _Object):
        raise BadDocument(f"{where} is not a JSON object")
    return value


def _check(value: _Object, deciding: frozenset[str], where: str) -> None:
    """
    Refuse an object that has a deciding name twice.
    """
    for name in sorted(value.ambiguous & deciding):
        raise BadDocument(f"{where} can be read in two ways: it has {name!r} twice in one object")


def _readable(value: Any) -> Any:
    """
    A text, or a list with texts, without halves of surrogate pairs.
    """
    if isinstance(value, str) and _SURROGATES.search(value):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return value
