# -*- test-case-name: tests.web.test_lists -*-
"""
Lists: what a query asks for of one, and its pages.

A list is in a fixed order, and every item has a mark in it that never
changes.  A page is what comes behind a mark, so nothing is shown twice or left
out because something else came or went between two pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

from attrs import frozen

from xferd.errors import BadInput
from xferd.names import Reference
from xferd.web.asked import quoted

if TYPE_CHECKING:
    from twisted.web.server import Request

    from xferd.interfaces import Image

T = TypeVar("T")

MAX_LISTED: Final = 10_000
MAX_VALUE: Final = 512

STATES: Final = ("queued", "running", "done", "failed", "cancelled")
"""The states of a job."""

KINDS: Final = ("pull", "push", "copy", "import")
"""The kinds of jobs."""

TRANSFER_STATES: Final = (
    "queued",
    "running",
    "backing-off",
    "waiting",
    "done",
    "failed",
    "cancelled",
)
TRANSFER_KINDS: Final = ("document", "download", "upload", "unpacking", "registration")

_Read = Callable[[str, str], Any]
Test = Callable[[T, Any], bool]


@frozen
class ListOf:
    """
    What may be asked of a list.

    @ivar name: what it is a list of.
    @ivar filters: by the name of each filter, how its value is read and which
        items then stay.
    @ivar mark: the place of an item, as text that sorts as the list does.
    @ivar descending: whether the largest mark comes first.
    """

    name: str
    filters: Mapping[str, tuple[_Read, Test[Any]]]
    mark: Callable[[Any], str]
    descending: bool = False

    def page(self, request: Request, items: Iterable[T]) -> Sequence[T]:
        """
        The items that a query asks for.  Where there are more, a C{Link}
        header says where (RFC 8288).

        @raise BadInput: a name or a value in the query is unknown.
        """
        asked = {
            name.decode("utf-8", "replace"): values[-1].decode("utf-8", "replace")
            for name, values in (request.args or {}).items()
        }
        given = dict(asked)
        limit = asked.pop("limit", str(MAX_LISTED))
        if re.fullmatch(r"[0-9]{1,5}", limit) is None or not 1 <= int(limit) <= MAX_LISTED:
            raise BadInput(f"'limit' must be a number from 1 to {MAX_LISTED}, not {quoted(limit)}")
        after = asked.pop("after", None)
        for name, value in asked.items():
            if name not in self.filters:
                known = ", ".join(repr(known) for known in (*self.filters, "limit"))
                raise BadInput(
                    f"{self.name} cannot be filtered by {quoted(name)}; by {known} and 'after' they can"
                )
            if len(value) > MAX_VALUE:
                raise BadInput(f"{name!r} is too long: {MAX_VALUE} characters are the most")
            read, test = self.filters[name]
            wanted = read(name, value)
            items = [item for item in items if test(item, wanted)]
        found = sorted(items, key=self.mark, reverse=self.descending)
        if after is not None:
            found = [
                item
                for item in found
                if (self.mark(item) < after if self.descending else self.mark(item) > after)
            ]
        page = found[: int(limit)]
        if len(page) < len(found):
            query = urlencode({**given, "after": self.mark(page[-1])})
            path = request.path.decode("ascii", "replace")
            request.setHeader(b"link", f'<{path}?{query}>; rel="next"'.encode("ascii"))
        return page


def _one_of(*known: str) -> _Read:
    """
    Read one of some words.
    """

    def read(name: str, value: str) -> str:
        if value not in known:
            raise BadInput(f"{name!r} must be one of {', '.join(known)}, not {quoted(value)}")
        return value

    return read


def _text(_: str, value: str) -> str:
    return value


def _reference(_: str, value: str) -> str:
    return str(Reference.parse(value))


def _image_name(_: str, value: str) -> tuple[Reference, bool]:
    """
    Read the name of an image, or of all images of a repository: then there is
    neither tag nor digest.
    """
    reference = Reference.parse(value)
    exact = reference.digest is not None or value.endswith(f":{reference.tag}")
    return reference, exact


def _is_named(image: Image, wanted: tuple[Reference, bool]) -> bool:
    reference, exact = wanted
    return image.reference == reference if exact else image.reference.repository == reference.repository


def _is(field: str) -> Test[Mapping[str, Any]]:
    return lambda item, wanted: bool(item[field] == wanted)


def _age(item: Mapping[str, Any]) -> str:
    """
    The mark of what has an id and a time.
    """
    return f"{item['created']}~{item['id']}"


JOBS: Final = ListOf(
    "jobs",
    {
        "state": (_one_of(*STATES), _is("state")),
        "kind": (_one_of(*KINDS), _is("kind")),
        "client": (_text, _is("client")),
        "reference": (
            _reference,
            lambda job, wanted: wanted in (job["reference"], job["target"]),
        ),
    },
    _age,
    descending=True,
)
"""Jobs, the newest first."""

TRANSFERS: Final = ListOf(
    "transfers",
    {
        "state": (_one_of(*TRANSFER_STATES), _is("state")),
        "kind": (_one_of(*TRANSFER_KINDS), _is("kind")),
        "host": (_text, lambda transfer, wanted: transfer["source"].partition("/")[0] == wanted),
    },
    _age,
)
"""Transfers, the oldest first."""

IMAGES: Final = ListOf("images", {"name": (_image_name, _is_named)}, lambda image: str(image.reference))
"""Images, by name."""
