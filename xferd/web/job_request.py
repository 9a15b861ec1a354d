# -*- test-case-name: tests.web.test_request -*-
"""
The requests for jobs and for changes of the store's images: the fields of
each, and a class for each kind of job that begins it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from attrs import evolve, frozen

from xferd.errors import BadInput
from xferd.web.fields import (
    OPTIONAL_REFERENCE,
    OPTIONAL_SIZE,
    PLATFORM,
    PRIORITY,
    REFERENCE,
    RESTART,
    TAGS,
    WITHOUT,
    Body,
    Field,
    flag,
)
from xferd.web.request import json_object, quoted

if TYPE_CHECKING:
    from twisted.web.server import Request

    from xferd.credentials import Credentials
    from xferd.interfaces.job_json import JobDetailsJSON
    from xferd.interfaces.jobs import IJobs
    from xferd.web.registry_auth import RegistryAuth


class JobRequest(Protocol):
    """
    A job that a client asks for.
    """

    @property
    def restart(self) -> str | None:
        """
        See L{IJobs.persist}; L{None} for the default.
        """

    def credentials(self, auth: RegistryAuth) -> Mapping[str, Credentials]:
        """
        Select the client's own credentials for it, by registry host.
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
    restart: str | None

    def credentials(self, auth: RegistryAuth) -> Mapping[str, Credentials]:
        """
        Select the client's own credentials for it.
        """
        return auth.towards(self.reference)

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:
        """
        Begin it.
        """
        credentials = self.credentials(auth)
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
    restart: str | None

    def credentials(self, auth: RegistryAuth) -> Mapping[str, Credentials]:
        """
        Select the client's own credentials for it.
        """
        return auth.towards(self.reference if self.target is None else self.target)

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:
        """
        Begin it.
        """
        return jobs.push(
            self.reference,
            self.target,
            self.tags,
            self.platform,
            client,
            self.priority,
            self.credentials(auth),
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
    restart: str | None

    def credentials(self, auth: RegistryAuth) -> Mapping[str, Credentials]:
        """
        Select the client's own credentials for it.
        """
        return auth.towards(self.reference, self.target)

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
            self.credentials(auth),
        )


class _WithoutCredentials:
    """
    A request that needs no credentials of its client.
    """

    def credentials(self, auth: RegistryAuth) -> Mapping[str, Credentials]:  # noqa: ARG002
        """
        Select none.
        """
        return {}


@frozen
class ImportRequest(_WithoutCredentials):
    """
    An import, whose archive comes in requests of its own.
    """

    reference: str | None
    platform: str | None
    size: int | None
    priority: int
    restart: str | None

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:  # noqa: ARG002
        """
        Begin it.  No registry has a part in it.
        """
        return jobs.import_archive(self.reference, self.platform, self.size, client, self.priority)


@frozen
class PrefetchRequest(_WithoutCredentials):
    """
    A prefetch.
    """

    reference: str
    platform: str | None
    priority: int
    restart: str | None

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:  # noqa: ARG002
        """
        Begin it, without the client's own credentials: others are to read what it
        fetches.
        """
        return jobs.prefetch(self.reference, self.platform, client, self.priority)


@frozen
class VerifyRequest:
    """
    A verification.
    """

    reference: str | None
    priority: int
    restart: str | None

    def credentials(self, auth: RegistryAuth) -> Mapping[str, Credentials]:
        """
        Select the client's own credentials for it.
        """
        return auth.towards(*(() if self.reference is None else (self.reference,)))

    def begin(self, jobs: IJobs, client: str, auth: RegistryAuth) -> JobDetailsJSON:
        """
        Begin it.
        """
        return jobs.verify(self.reference, client, self.priority, self.credentials(auth))


KINDS_OF_JOBS: Final[Mapping[str, tuple[Callable[..., JobRequest], Body]]] = {
    "pull": (PullRequest, Body("a pull", REFERENCE, PLATFORM, PRIORITY, RESTART, kind="pull")),
    "push": (
        PushRequest,
        Body(
            "a push",
            REFERENCE,
            evolve(OPTIONAL_REFERENCE, name="target"),
            TAGS,
            PLATFORM.described(
                'One platform of the index that the name referred to, or "all": the whole index.'
            ),
            PRIORITY,
            RESTART,
            kind="push",
        ),
    ),
    "copy": (
        CopyRequest,
        Body(
            "a copy",
            REFERENCE,
            evolve(REFERENCE, name="target"),
            PLATFORM,
            flag("referrers", "Whether to copy its referrers, too."),
            PRIORITY,
            RESTART,
            kind="copy",
        ),
    ),
    "import": (
        ImportRequest,
        Body(
            "an import",
            OPTIONAL_REFERENCE.described(
                "The name of the image, or the image to read; by default the archive's own names."
            ),
            PLATFORM,
            OPTIONAL_SIZE,
            PRIORITY,
            RESTART,
            kind="import",
        ),
    ),
    "prefetch": (
        PrefetchRequest,
        Body(
            "a prefetch",
            REFERENCE,
            PLATFORM.described(
                'One platform, or "all": the index with all its platforms; by default this machine\'s.'
            ),
            PRIORITY,
            RESTART,
            kind="prefetch",
        ),
    ),
    "verify": (
        VerifyRequest,
        Body(
            "a verification",
            OPTIONAL_REFERENCE.described("The image to check; by default all content of the store."),
            PRIORITY,
            RESTART,
            kind="verify",
        ),
    ),
}
"""The class and the body of each kind of job."""

NEW_NAME: Final = Body("a new name", REFERENCE.described("The other name, without a digest."))
MAX_NAMESPACE: Final = 76
"""The longest name of a namespace that containerd accepts, in characters."""


def _read_namespace(name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAMESPACE or not value.isprintable():
        raise BadInput(f"{name!r} must be the name of a namespace, 1 to {MAX_NAMESPACE} characters long")
    return value


PIN: Final = Body("a pin", flag("pinned", required=True))
COLLECTION: Final = Body(
    "a collection",
    flag("dry_run", "Report what would be freed, and free nothing."),
    flag("partials", "Also free the partial blobs that no transfer uses."),
    WITHOUT,
)


FILL: Final = Body(
    "a fill",
    REFERENCE,
    Field(
        "namespace",
        _read_namespace,
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_NAMESPACE,
            "description": "The only namespace of the engine to look in; all by default.",
        },
    ),
)


MOST_NODES: Final = 1000
"""The nodes that can be asked to prefetch an image with one request."""


def _read_nodes(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_NODES:
        raise BadInput(f"{name!r} must be a whole number from 1 to {MOST_NODES}, not {quoted(value)}")
    return value


FLEET_PREFETCH: Final = Body(
    "a prefetch by other nodes",
    REFERENCE,
    PLATFORM,
    Field(
        "nodes",
        _read_nodes,
        {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST_NODES,
            "description": "How many other nodes fetch it.",
        },
        required=True,
    ),
)


def read_job_request(request: Request) -> JobRequest:
    """
    Read the body of a request for a new job.

    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not valid.
    """
    values = json_object(request)
    kind = values.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS_OF_JOBS:
        *others, last = (repr(known) for known in KINDS_OF_JOBS)
        raise BadInput(f"'kind' must be {', '.join(others)} or {last}, not {quoted(kind)}")
    make, body = KINDS_OF_JOBS[kind]
    return make(**body.parse(values))


def read_new_name(request: Request) -> str:
    """
    Read the body of a request for another name of an image.

    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not valid.
    """
    return str(NEW_NAME.read(request)["reference"])


def read_pin(request: Request) -> bool:
    """
    Read the body of a request to pin an image, or to unpin it.

    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not valid.
    """
    return bool(PIN.read(request)["pinned"])


def read_collection(request: Request) -> tuple[bool, bool, Sequence[str]]:
    """
    Read the body of a request for a collection.

    @return: C{dry_run}, C{partials} and C{without}, as for L{IImageAdmin.collect
        <xferd.interfaces.jobs.IImageAdmin.collect>}.
    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not valid.
    """
    values = COLLECTION.read(request)
    if values["without"] and not values["dry_run"]:
        raise BadInput("'without' belongs to a dry run; DELETE /api/v1/images/NAME removes an image")
    return values["dry_run"], values["partials"], values["without"]
