"""
Valid and damaged inputs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from hypothesis import strategies as st

EDGES: Final = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b" ",
    b'"',
    b"\\",
    b"%",
    b"../",
    b"\xed\xa0\x80",
    b"\x1b[31m",
    b"-1",
    b"0",
    b"9" * 20,
    b"1" * 5000,
    b"A" * 20000,
    b"[" * 2000,
    b"\0" * 512,
)
"""Bytes that readers are known to stumble over."""

SURROGATE: Final = "\\ud800"


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """
    A right input with up to six changes: a piece replaced, put in, taken out,
    doubled or moved, a bit flipped, or the end cut off.
    """
    data = draw(whole)
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.sampled_from((1, 2, 8, 64, 512))))
        piece = draw(st.sampled_from(EDGES) | st.binary(max_size=12))
        match draw(st.integers(0, 6)):
            case 0:
                data = data[:at] + piece + data[at + len(piece) :]
            case 1:
                data = data[:at] + piece + data[at:]
            case 2:
                data = data[:at] + data[end:]
            case 3:
                data = data[:end] + data[at:]
            case 4:
                data = data[at:end] + data[:at] + data[end:]
            case 5 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case _:
                data = data[:at]
    return data


def texts(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[str]:
    """
    The same as text; each byte is a character, as in headers.
    """
    return damaged(whole).map(lambda data: data.decode("latin-1"))


def cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """
    Bytes in pieces of these sizes, over and over.
    """
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        pieces.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces


SIZES: Final = st.lists(st.sampled_from((1, 2, 3, 7, 100, 511, 512, 513, 4096, 65536)), max_size=4)
"""Sizes of pieces, for L{cut}."""

JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
"""Any JSON value, halves of surrogate pairs included."""


@st.composite
def documents(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> bytes:
    """
    A JSON document, up to four of whose values or names are others.
    """
    value = draw(whole)
    for _ in range(draw(st.integers(0, 4))):
        value = _changed(draw, value)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _changed(draw: st.DrawFn, value: Any) -> Any:
    """
    A copy in which one value, at whatever depth, is another.
    """
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        match draw(st.integers(0, 5)):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, draw(st.sampled_from((key.upper(), key.title(), key + " "))): value[key]}
        return {**value, key: _changed(draw, value[key])}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _changed(draw, value[at]), *value[at + 1 :]]
    return draw(JSON)
