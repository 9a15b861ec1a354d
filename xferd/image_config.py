# -*- test-case-name: tests.test_image_config -*-
"""
The configs of images, parsed less strictly than manifests, as Go's tools parse
them.

A config has labels, commands and comments of any origin.  Invalid UTF-8 and
lone surrogates become U+FFFD; of a duplicate name in an object, the last counts.
Only the fields that decide an image's files and its platform must be
unambiguous.

Pure: bytes in, values or L{BadDocument} out.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Final, NoReturn

from attrs import frozen

from xferd.errors import BadDigest, BadDocument
from xferd.names import Digest
from xferd.oci import SMALL_DOCUMENT, Manifest, check_extent, platform_from_json
from xferd.platforms import Platform

_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")

_DECIDING: Final = frozenset({"rootfs", "os", "architecture", "variant"})
_DECIDING_LAYERS: Final = frozenset({"type", "diff_ids"})


@frozen
class ImageConfig:
    """
    The layers and the platform of an image's config.

    @ivar diff_ids: the digests of the uncompressed layers, the bottom one first.
    @ivar platform: the platform, or L{None} if the config has none.
    """

    diff_ids: tuple[Digest, ...]
    platform: Platform | None


class _Object(dict[str, Any]):
    """
    A JSON object.

    @ivar ambiguous: the duplicate names with different values.
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

    @param where: the name of the config in an error.
    @return: the object, whose texts can all be encoded.
    @raise BadDocument: it is not a JSON object, or too large.
    """
    return _parse(data, where)


def parse_config(data: bytes, manifest: Manifest) -> ImageConfig:
    """
    Parse an image's config, and compare it with its manifest.

    @raise BadDocument: it violates the specification, or its number of layers
        differs from the manifest's.
    """
    parse = _parse_small if len(data) <= SMALL_DOCUMENT else _parse_config
    return parse(data, f"config {manifest.config.digest}", len(manifest.layers))


def _parse_config(data: bytes, where: str, layers: int) -> ImageConfig:
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
    if len(diff_ids) != layers:
        raise BadDocument(f"{where} names {len(diff_ids)} layers, its manifest {layers}")
    return ImageConfig(diff_ids, platform_from_json(value))


_parse_small = lru_cache(maxsize=128)(_parse_config)


def platform_of(data: bytes, digest: Digest) -> Platform | None:
    """
    The platform of an image's config, or L{None} if it has none.

    @raise BadDocument: it is not a JSON object, or ambiguous.
    """
    where = f"config {digest}"
    value = _parse(data, where)
    _check(value, _DECIDING, where)
    return platform_from_json(value)


def _parse(data: bytes, where: str) -> _Object:
    """
    Parse a config, and keep its ambiguous names.
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
    Refuse an object with a duplicate of a deciding name.
    """
    for name in sorted(value.ambiguous & deciding):
        raise BadDocument(f"{where} can be read in two ways: it has {name!r} twice in one object")


def _readable(value: Any) -> Any:
    """
    A text, or a list with texts, without lone surrogates.
    """
    if isinstance(value, str) and _SURROGATES.search(value):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_readable(item) for item in value]
    return value
