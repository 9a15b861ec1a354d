# -*- test-case-name: tests.web.test_request -*-
"""
The body of C{POST /api/v1/jobs}: one class for each kind of job, which says
what may be asked and whom to ask; and what else is asked by a reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from attrs import frozen

from xferd.errors import BadInput
from xferd.web.request import json_object, quoted

if TYPE_CHECKING:
    from twisted.web.server import Request

    from xferd.interfaces.job_json import JobDetailsJSON
    from xferd.interfaces.jobs import IJobs
    from xferd.web.registry_auth import RegistryAuth

MAX_REFERENCE: Final = 512
"""The longest reference, in characters: a repository, a tag and a digest fit."""

MAX_TAG: Final = 128
MAX_TAGS: Final = 100
MAX_PLATFORM: Final = 64
MAX_PRIORITY: Final = 1000

MAX_SIZE: Final = (1 << 63) - 1
"""The largest archive, in bytes: what a file can have."""


class JobRequest(Protocol):
    """
    A job that a client asks for.
    """

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:
        """
        Begin it.

        @param auth: the client's own credentials.
        @return: the job as JSON has it.
        """


@frozen
class PullRequest:
    """
    A pull.
    """

    reference: str
    platform: str | None
    priority: int

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:
        """
        Begin it.
        """
        credentials = auth.towards(self.reference)
        return jobs.pull(self.reference, self.platform, client, self.priority, credentials)


@frozen
class PushRequest:
    """
    A push.
    """

    reference: str
    target: str | None
    tags: tuple[str, ...]
    platform: str | None
    priority: int

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:
        """
        Begin it.
        """
        credentials = auth.towards(self.reference if self.target is None else self.target)
        return jobs.push(
            self.reference, self.target, self.tags, self.platform, client, self.priority, credentials
        )


@frozen
class CopyRequest:
    """
    A copy.
    """

    reference: str
    target: str
    platform: str | None
    referrers: bool
    priority: int

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:
        """
        Begin it.
        """
        return jobs.copy(
            self.reference,
            self.target,
            self.platform,
            self.referrers,
            client,
            self.priority,
            auth.towards(self.reference, self.target),
        )


@frozen
class ImportRequest:
    """
    An import, whose archive comes in requests of its own.
    """

    reference: str | None
    platform: str | None
    size: int | None
    priority: int

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:  # noqa: ARG002
        """
        Begin it.  No registry has a part in it.
        """
        return jobs.import_archive(self.reference, self.platform, self.size, client, self.priority)


def read_job_request(request: Request) -> JobRequest:
    """
    Read the body of a request for a new job.  What is left out is the same as
    null: what is usual.

    @raise UnsupportedMediaType: it is not JSON by its own word.
    @raise BadInput: it is not what it should be.
    """
    fields = json_object(request)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        *others, last = (repr(known) for known in _KINDS)
        raise BadInput(f"'kind' must be {', '.join(others)} or {last}, not {quoted(kind)}")
    make, readers = _KINDS[kind]
    for name in fields:
        if name not in readers:
            raise BadInput(f"a {kind} has no field {quoted(name)}; it has kind, {', '.join(readers)}")
    return make(**{name: read(name, fields.get(name)) for name, read in readers.items()})


def read_new_name(request: Request) -> str:
    """
    Read the body of a request for another name of an image.

    @raise UnsupportedMediaType: it is not JSON by its own word.
    @raise BadInput: it is not what it should be.
    """
    fields = json_object(request)
    reference = _reference("reference", fields.pop("reference", None))
    for name in fields:
        raise BadInput(f"a new name has no field {quoted(name)}; it has reference")
    return reference


def read_pin(request: Request) -> bool:
    """
    Read the body of a request to pin an image, or to unpin it.

    @raise UnsupportedMediaType: it is not JSON by its own word.
    @raise BadInput: it is not what it should be.
    """
    fields = json_object(request)
    pinned = fields.pop("pinned", None)
    for name in fields:
        raise BadInput(f"a pin has no field {quoted(name)}; it has pinned")
    if not isinstance(pinned, bool):
        raise BadInput("'pinned' must be true or false")
    return pinned


def read_collection(request: Request) -> tuple[bool, bool]:
    """
    Read the body of a request for a collection.

    @return: C{dry_run} and C{partials}, as for L{IImageAdmin.collect
        <xferd.interfaces.jobs.IImageAdmin.collect>}.
    @raise UnsupportedMediaType: it is not JSON by its own word.
    @raise BadInput: it is not what it should be.
    """
    fields = json_object(request)
    dry_run, partials = (_flag(name, fields.pop(name, None)) for name in ("dry_run", "partials"))
    for name in fields:
        raise BadInput(f"a collection has no field {quoted(name)}; it has dry_run and partials")
    return dry_run, partials


def _reference(name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_REFERENCE:
        raise BadInput(f"{name!r} must be the name of an image, 1 to {MAX_REFERENCE} characters long")
    return value


def _reference_or_none(name: str, value: object) -> str | None:
    return None if value is None else _reference(name, value)


def _platform(name: str, value: object) -> str | None:
    if not (value is None or (isinstance(value, str) and len(value) <= MAX_PLATFORM)):
        raise BadInput(f"{name!r} must be os/architecture[/variant], or null")
    return value


def _tags(name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not (
        isinstance(value, list)
        and len(value) <= MAX_TAGS
        and all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG for tag in value)
    ):
        raise BadInput(
            f"{name!r} must be a list of at most {MAX_TAGS} tags, each 1 to {MAX_TAG} characters long"
        )
    return tuple(value)


def _flag(name: str, value: object) -> bool:
    if not (value is None or isinstance(value, bool)):
        raise BadInput(f"{name!r} must be true or false")
    return value is True


def _size_or_none(name: str, value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise BadInput(f"{name!r} must be a number of bytes, or null")
    return value


def _priority(name: str, value: object) -> int:
    if value is None:
        return 0
    # A boolean is an int, too.
    if type(value) is not int or abs(value) > MAX_PRIORITY:
        raise BadInput(f"{name!r} must be a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}")
    return value


_KINDS: Final[
    Mapping[str, tuple[Callable[..., JobRequest], Mapping[str, Callable[[str, object], object]]]]
] = {
    "pull": (PullRequest, {"reference": _reference, "platform": _platform, "priority": _priority}),
    "push": (
        PushRequest,
        {
            "reference": _reference,
            "target": _reference_or_none,
            "tags": _tags,
            "platform": _platform,
            "priority": _priority,
        },
    ),
    "copy": (
        CopyRequest,
        {
            "reference": _reference,
            "target": _reference,
            "platform": _platform,
            "referrers": _flag,
            "priority": _priority,
        },
    ),
    "import": (
        ImportRequest,
        {
            "reference": _reference_or_none,
            "platform": _platform,
            "size": _size_or_none,
            "priority": _priority,
        },
    ),
}
"""For each kind its class, and how to read each of its fields."""
