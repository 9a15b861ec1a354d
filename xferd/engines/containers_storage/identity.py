# -*- test-case-name: tests.engines.containers_storage.test_identity -*-
"""
The names that containers-storage gives to layers, links and files.

Pure.
"""

from __future__ import annotations

from base64 import b32encode, b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Final

from xferd.names import Digest

_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.")


def layer_id(diff_id: Digest, parent: str = "") -> str:
    """
    The ID that engines compute for a layer while they pull: 64 hexadecimal digits.

    It differs from the chain ID, whose text has algorithms and a space.

    @param diff_id: of SHA-256.
    @param parent: the ID of the layer below; empty for a bottom layer.
    """
    return sha256(f"{parent}+{diff_id.hex}".encode()).hexdigest() if parent else diff_id.hex


@lru_cache(maxsize=4096)
def link_of(layer: str) -> str:
    """
    The short name of a layer, 26 characters, which options of mounts contain.

    Containers have it written down, so it follows from the layer's ID: a view that is
    made again has the same ones.
    """
    return b32encode(sha256(layer.encode()).digest()[:16]).decode().rstrip("=")


def big_data_file(key: str) -> str:
    """
    The file name of a piece of an image's big data, such as its manifest.
    """
    if set(key) <= _PLAIN:
        return key
    return "=" + b64encode(key.encode()).decode()
