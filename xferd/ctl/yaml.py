# -*- test-case-name: tests.ctl.test_yaml -*-
"""
The values of JSON as YAML 1.2.

Text is plain where every parser reads it as text, also those of YAML 1.1, and else in
double quotes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN: Final = re.compile(r"[A-Za-z/_](?:[A-Za-z0-9/_.@+-]|:(?=[A-Za-z0-9/_]))*")
_WORDS: Final = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Words that are not text, in any case."""


def yaml_lines(value: object) -> Iterator[str]:
    """
    A value as lines of YAML, in block style.
    """
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{_scalar(str(key))}:", inner, "  ")
    elif isinstance(value, list) and value:
        for inner in value:
            first, *rest = yaml_lines(inner)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _entry(key: str, value: object, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield key
        yield from (f"{indent}{line}" for line in yaml_lines(value))
    else:
        yield f"{key} {_scalar(value)}"


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    text = json.dumps(value, ensure_ascii=False)
    # JSON's escapes are YAML's, but it leaves other characters that do not print as they are.
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
