# -*- test-case-name: tests.ctl.test_template -*-
"""
The templates of C{--format}: C{{{.id}} {{.error.code}} {{json .layers}}}, the part of
Go's templates that users of docker and kubectl write most.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from xferd.ctl.columns import Column, lay_out
from xferd.ctl.errors import UsageError
from xferd.ctl.text import clean, json_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FIELD: Final = re.compile(r"\{\{-?\s*(?P<json>json\s+)?(?P<path>\.|(?:\.\w+)+)\s*-?\}\}")
_TABLE: Final = "table "
_ESCAPES: Final = {r"\t": "\t", r"\n": "\n"}


def render(template: str, items: Sequence[Mapping[str, Any]]) -> list[str]:
    """
    Fill a template once for each object.

    C{.} is the whole object, and C{.a.b} the member C{b} of its member C{a}.  Upper and
    lower case and underscores make no difference: C{.ImageID} is C{image_id}.  A member
    that is null is empty.  Text is safe to print; C{json} prints a value as JSON.

    @param template: after C{table}, tabs separate columns, which get headings.
    @return: lines.
    @raise UsageError: the template has another action, or names a member that an
        object lacks.
    """
    template = re.sub(r"\\[tn]", lambda match: _ESCAPES[match[0]], template)
    rest = _FIELD.sub("", template)
    if "{{" in rest or "}}" in rest:
        raise UsageError(
            f"{template!r} is no template of --format; use the names of members, as '{{{{.id}}}}' or "
            "'{{json .error}}'"
        )
    if not template.startswith(_TABLE):
        return [_fill(template, item) for item in items]
    columns = [
        Column(_heading(part), lambda item, part=part: _fill(part, item))  # type: ignore[misc]
        for part in template.removeprefix(_TABLE).split("\t")
    ]
    head, rows = lay_out(columns, items, None)
    return [head, *(line for row in rows for line in row)]


def _heading(part: str) -> str:
    return _FIELD.sub(lambda match: match["path"].rpartition(".")[2].upper().replace("_", " "), part)


def _fill(template: str, item: Mapping[str, Any]) -> str:
    return _FIELD.sub(lambda match: _text(_member(item, match["path"]), bool(match["json"])), template)


def _text(value: object, as_json: bool) -> str:
    if as_json or isinstance(value, dict | list | bool):
        return json_line(value)
    return clean(value)


def _member(item: object, path: str) -> object:
    for name in path.split(".")[1:]:
        if not name or item is None:
            return item
        members = {_plain(key): key for key in item} if isinstance(item, dict) else {}
        if _plain(name) not in members:
            known = ", ".join(map(clean, members.values())) or "no members"
            raise UsageError(f"there is no member {name!r} for --format; there are: {known}")
        assert isinstance(item, dict)
        item = item[members[_plain(name)]]
    return item


def _plain(name: str) -> str:
    return name.replace("_", "").lower()
