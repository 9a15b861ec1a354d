# -*- test-case-name: tests.test_json_encoding -*-
"""
JSON as the API sends it: one line of ASCII, without spaces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from json import JSONEncoder
from typing import Any


@lru_cache(maxsize=1024)
def rfc3339(seconds: float) -> str:
    """
    A point in time as the API writes it, UTC with milliseconds.
    """
    milliseconds = round(seconds * 1_000_000) // 1000
    return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


@lru_cache(maxsize=16)
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def from_rfc3339(stamp: str) -> float:
    """
    The inverse of L{rfc3339}: seconds since the epoch.

    @raise ValueError: the text is not such a time.
    """
    return datetime.fromisoformat(stamp).timestamp()


def encode(value: object) -> bytes:
    """
    Encode a value.

    @raise TypeError: a part of it has no form in JSON.
    """
    return _encode(value).encode("ascii")


def encode_list(values: Iterable[object]) -> bytes:
    """
    Encode a list.  The encodings of L{Encoded} objects are used as they are.
    """
    return b"[%s]" % b",".join(v.encoding if isinstance(v, Encoded) else encode(v) for v in values)


class Encoded(dict[str, Any]):
    """
    An object that is encoded once, however often it is sent.  It must not change.
    """

    @cached_property
    def encoding(self) -> bytes:
        """
        The object as JSON.
        """
        return encode(self)


def _plain(value: object) -> object:
    """
    Convert a Mapping that is not a C{dict} for L{json}.
    """
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


# json.dumps would make an encoder for each call.
_encode = JSONEncoder(separators=(",", ":"), default=_plain).encode
