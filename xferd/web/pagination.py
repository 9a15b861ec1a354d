# -*- test-case-name: tests.web.test_pagination -*-
"""
Filters and pages of lists.

A list has a fixed order, and every item has a mark in it that never changes.
A page holds the items after a mark, so no item is repeated or skipped when
others come or go between two pages.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

from attrs import frozen

from xferd.errors import BadInput
from xferd.names import Reference
from xferd.web.request import quoted

if TYPE_CHECKING:
    from twisted.web.server import Request

    from xferd.interfaces.store import Image

T = TypeVar("T")

MAX_LISTED: Final = 10_000
MAX_VALUE: Final = 512

STATES: Final = ("queued", "running", "done", "failed", "cancelled")
"""The states of a job."""

KINDS: Final = ("pull", "push", "copy", "import", "prefetch", "verify")
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
class Pagination:
    """
    The filters and the order of a list.

    @ivar name: the plural noun of its items.
    @ivar filters: by the name of each filter, the reader of its value, and the
        test that items have to pass.
    @ivar mark: the place of an item, as text that sorts as the list does.
    @ivar descending: whether the largest mark comes first.
    @ivar in_order: whether the items come in that order already.
    """

    name: str
    filters: Mapping[str, tuple[_Read, Test[Any]]]
    mark: Callable[[Any], str]
    descending: bool = False
    in_order: bool = False

    def page(self, request: Request, items: Iterable[T]) -> Sequence[T]:
        """
        Select the items of a query.

        @raise BadInput: a name or a value in the query is unknown.
        """
        return self.read(request).page(request, items)

    def read(self, request: Request) -> Query:
        """
        Read a query.

        @raise BadInput: a name or a value in it is unknown.
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
        tests: list[Callable[[Any], bool]] = []
        for name, value in asked.items():
            if name not in self.filters:
                known = ", ".join(repr(known) for known in (*self.filters, "limit"))
                raise BadInput(
                    f"unknown parameter {quoted(name)}; the parameters of {self.name} are {known} and 'after'"
                )
            if len(value) > MAX_VALUE:
                raise BadInput(f"{name!r} has more than {MAX_VALUE} characters")
            read, test = self.filters[name]
            tests.append(partial(_passes, test, read(name, value)))
        return Query(self, given, int(limit), after, tests)


@frozen
class Query:
    """
    A query for a list.

    @ivar given: the query's names and values.
    @ivar limit: the most items of one page.
    @ivar after: the mark after which the page begins; L{None} for the first page.
    @ivar tests: the tests that all items of the page pass.
    """

    list_of: Pagination
    given: Mapping[str, str]
    limit: int
    after: str | None
    tests: Sequence[Callable[[Any], bool]]

    @property
    def paged(self) -> bool:
        """
        Whether it asks for pages.
        """
        return "limit" in self.given or self.after is not None

    def page(self, request: Request, items: Iterable[T]) -> Sequence[T]:
        """
        Select the page out of all items.
        """
        return self.first(request, self.matching(items))

    def matching(self, items: Iterable[T]) -> list[T]:
        """
        The items of this page and of all that follow, in their order.
        """
        mark, after = self.list_of.mark, self.after
        tests = self.tests
        found = [item for item in items if all(test(item) for test in tests)] if tests else list(items)
        if not self.list_of.in_order:
            found.sort(key=mark, reverse=self.list_of.descending)
        if after is None:
            return found
        if self.list_of.descending:
            return [item for item in found if mark(item) < after]
        return found[bisect_right(found, after, key=mark) :]

    def first(self, request: Request, found: Sequence[T]) -> Sequence[T]:
        """
        Cut the page off its items and those that follow.  If more follow, a C{Link}
        header leads to the next page (RFC 8288).
        """
        page = found[: self.limit]
        if len(page) < len(found):
            query = urlencode({**self.given, "after": self.list_of.mark(page[-1])})
            path = request.path.decode("ascii", "replace")
            request.setHeader(b"link", f'<{path}?{query}>; rel="next"'.encode("ascii"))
        return page


def _passes(test: Test[T], wanted: object, item: T) -> bool:
    return test(item, wanted)


def _one_of(*known: str) -> _Read:
    """
    Make a reader of one of these values.
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
    Read the name of an image; without tag and digest it selects all images of a
    repository.
    """
    reference = Reference.parse(value)
    exact = reference.digest is not None or value.endswith(f":{reference.tag}")
    return reference, exact


def _is_named(image: Image, wanted: tuple[Reference, bool]) -> bool:
    reference, exact = wanted
    return image.reference == reference if exact else image.reference.repository == reference.repository


def _is(field: str) -> Test[Mapping[str, Any]]:
    return lambda item, wanted: bool(item[field] == wanted)


def _lower(_: str, value: str) -> str:
    return value.lower()


def _hosts(job: Mapping[str, Any]) -> set[str]:
    """
    The registries from and to which a job moves.
    """
    return {name.partition("/")[0] for name in (job["reference"], job["target"]) if name}


def _texts(job: Mapping[str, Any]) -> tuple[str, ...]:
    """
    The texts by which people look for a job.
    """
    error = job["error"] or {}
    texts = job["id"], job["reference"], job["target"], job["client"], error.get("code"), error.get("message")
    return tuple(filter(None, texts))


def _age(item: Mapping[str, Any]) -> str:
    """
    The mark of an item with a time and an id.
    """
    return f"{item['created']}~{item['id']}"


JOBS: Final = Pagination(
    "jobs",
    {
        "state": (_one_of(*STATES), _is("state")),
        "kind": (_one_of(*KINDS), _is("kind")),
        "client": (_text, _is("client")),
        "reference": (
            _reference,
            lambda job, wanted: wanted in (job["reference"], job["target"]),
        ),
        "host": (_text, lambda job, wanted: wanted in _hosts(job)),
        "text": (_lower, lambda job, wanted: any(wanted in text.lower() for text in _texts(job))),
    },
    _age,
    descending=True,
)
"""Jobs, the newest first."""

TRANSFERS: Final = Pagination(
    "transfers",
    {
        "state": (_one_of(*TRANSFER_STATES), _is("state")),
        "kind": (_one_of(*TRANSFER_KINDS), _is("kind")),
        "host": (_text, lambda transfer, wanted: transfer["source"].partition("/")[0] == wanted),
        "job": (_text, lambda transfer, wanted: wanted in transfer["jobs"]),
    },
    _age,
)
"""Transfers, the oldest first."""

IMAGES: Final = Pagination(
    "images", {"name": (_image_name, _is_named)}, lambda image: str(image.reference), in_order=True
)
"""Images, by name."""

REPOSITORIES: Final = Pagination(
    "repositories",
    {"host": (_text, lambda repository, wanted: repository["name"].partition("/")[0] == wanted)},
    lambda repository: f"{'1' if repository['own'] else '0'}{repository['name']} {repository['policy']}",
)
"""Repositories of the registry, by name: mirrored ones, then xferd's own."""
