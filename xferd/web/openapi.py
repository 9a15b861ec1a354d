# -*- test-case-name: tests.web.test_openapi -*-
"""
The description of the HTTP API (OpenAPI 3.1), which tests hold against the
routes and against every answer.

The module is long because it lists every route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from xferd.archive.plan import FORMS
from xferd.web.archive_request import MAX_PIECE
from xferd.web.examples import REFUSED, TEXTS, example_of
from xferd.web.fields import Schema
from xferd.web.pagination import MAX_LISTED, MAX_VALUE
from xferd.web.schemas import SCHEMAS, TEXT, array, ref
from xferd.web.steering import PAUSES

JSON: Final = "application/json"
PIECE: Final = "application/octet-stream"

REFUSALS: Final[Mapping[int, str]] = {
    400: "The request is invalid.",
    401: "This client needs the daemon's token.",
    403: "A page of another site made a browser send this, the token is read_only, or a registry denies it.",
    404: "There is no such resource.",
    405: "The path does not support this method.",
    409: "The resource is in use, or the job's state does not permit that.",
    413: "The body is too large.",
    415: "The Content-Type is not supported.",
    416: "The piece is not the next one; detail.offset is the expected offset.",
    421: "The name in Host is not one of the daemon's.",
    422: "The idempotency key belongs to another request, or the image is invalid.",
    429: "The registry's rate limit was exceeded, or too many jobs are queued or running.",
    500: "An internal error, or an error of the store.",
    502: "The registry failed.",
    503: "The daemon is stopping or being drained, or too many event streams are open.",
    504: "The registry took too long.",
    507: "The store's disk is full.",
}
"""Why a request may be refused, by status."""

_ALWAYS: Final = (400, 401, 403, 421, 500)
"""How every request may be refused."""


TAGS: Final[Mapping[str, str]] = {
    "jobs": "The requests of clients: create, list, follow and cancel them.",
    "transfers": "Downloads, uploads and unpackings, which jobs share.",
    "images": "The images of the store.",
    "limits": "Limits on concurrency and bandwidth.",
    "steering": "Pauses of registries, directions and everything, and the drain before maintenance.",
    "hosts": "The record of registries.",
    "registry": "The registry that the daemon serves.",
    "engines": "Container engines that run images from the store.",
    "fleet": "The fleet: several nodes that download each blob once.",
    "daemon": "The daemon itself.",
    "page": "The status page, and the logins of browsers.",
}
"""The groups of operations."""

_TAGS: Final[Mapping[str, str]] = {
    "archives": "images",
    "auth": "hosts",
    "events": "jobs",
    "gc": "images",
    **dict.fromkeys(
        ("doctor", "healthz", "history", "metrics", "openapi.json", "readyz", "status"), "daemon"
    ),
    **dict.fromkeys(("drain", "pauses"), "steering"),
    **dict.fromkeys(("", "enter", "static"), "page"),
}
"""The groups of paths, by their first component, where they have another name."""


def _tag(path: str) -> str:
    """
    The group of a path.
    """
    first = path.removeprefix("/api/v1").split("/")[1]
    return _TAGS.get(first, first)


def document(version: str) -> dict[str, Any]:
    """
    The whole description.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "xferd",
            "version": version,
            "summary": "Moves container images for many clients at once, and every byte once.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": {
            path: {method: {"tags": [_tag(path)], **operation} for method, operation in methods.items()}
            for path, methods in PATHS.items()
        },
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "For clients that their connection does not authorise.",
                }
            },
        },
    }


def _answer(description: str, schema: Schema, *media_types: str, **headers: str) -> dict[str, Any]:
    """
    One answer.
    """
    answer: dict[str, Any] = {
        "description": description,
        "content": {
            media_type: {
                "schema": schema,
                "example": example_of(schema) if media_type == JSON else TEXTS[media_type],
            }
            for media_type in media_types or (JSON,)
        },
    }
    if headers:
        answer["headers"] = {
            name.replace("_", "-"): {"description": text, "schema": TEXT} for name, text in headers.items()
        }
    return answer


def _refused(status: int) -> dict[str, Any]:
    """
    The response to a refused request.
    """
    content = {JSON: {"schema": ref("Error"), "example": REFUSED[status]}}
    return {"description": REFUSALS[status], "content": content}


def _operation(
    name: str,
    summary: str,
    answers: Mapping[int, Mapping[str, Any]],
    refusals: Sequence[int] = (),
    parameters: Sequence[Mapping[str, Any]] = (),
    body: Schema | None = None,
    *,
    body_required: bool = True,
) -> dict[str, Any]:
    """
    One method of one path.

    @param body_required: whether a request without a body is refused.
    """
    codes = {*_ALWAYS, *refusals}
    if body is not None:
        codes |= {413, 415}
    refused = {str(code): _refused(code) for code in sorted(codes)}
    made: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {**{str(code): answer for code, answer in answers.items()}, **refused},
    }
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = {"required": body_required, "content": {JSON: {"schema": body}}}
    return made


def _parameter(where: str, name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": schema,
    }


def _filter(name: str, description: str, schema: Schema | None = None) -> dict[str, Any]:
    return _parameter(
        "query", name, description, {"type": "string", "maxLength": MAX_VALUE} if schema is None else schema
    )


def _pauses(name: str, summary: str, whom: Mapping[str, Any]) -> dict[str, Any]:
    """
    The methods of a pause.

    @param name: the end of the operations' names.
    """
    return {
        "put": _operation(
            f"pause{name}",
            summary,
            {200: _answer("The pause.", ref("Pause"))},
            (404, 507),
            [whom, _CLIENT],
            ref("PauseRequest"),
            body_required=False,
        ),
        "delete": _operation(
            f"resume{name}",
            "End this pause.",
            {200: _answer("The pause that has ended.", ref("Pause"))},
            (404, 507),
            [whom],
        ),
    }


def _list(name: str, summary: str, item: str, *filters: Mapping[str, Any]) -> dict[str, Any]:
    """
    A list, with its pages.
    """
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LISTED}
    pages = (
        _parameter("query", "limit", "The largest number of items.", limit),
        _parameter("query", "after", "The start of the page, from a Link header.", TEXT),
    )
    link = 'The next page, with rel="next", if there is one.'
    answer = _answer("The items.", array(ref(item)), Link=link)
    return _operation(name, summary, {200: answer}, parameters=[*filters, *pages])


def _events(
    name: str, summary: str, *parameters: Mapping[str, Any], refusals: Sequence[int]
) -> dict[str, Any]:
    """
    A stream of events.
    """
    resumed = "Whether the stream has only the changes since Last-Event-ID."
    described = _answer("A stream of events.", TEXT, *_EVENT_FORMATS, Xferd_Resumed=resumed)
    answer = {**described, "content": _EVENT_FORMATS}
    since = _parameter("header", "Last-Event-ID", "The ID of the last event that the client received.", TEXT)
    return _operation(name, summary, {200: answer}, refusals, [*parameters, since])


def _new_job(description: str) -> dict[str, Any]:
    """
    The answer to a request for a job.
    """
    answer = _answer(description, ref("JobInFull"), Location="The job.")
    answer["content"].update(_EVENT_FORMATS)
    return answer


def _filled() -> dict[str, Any]:
    """
    The answer to a request to fill an engine.
    """
    answer = _answer(
        "The engine has all blobs; or the progress, if the client accepts events.", ref("Filled")
    )
    answer["content"].update(_EVENT_FORMATS)
    return answer


_EVENT_FORMATS: Final[Mapping[str, Any]] = {
    "text/event-stream": {"schema": TEXT, "example": TEXTS["text/event-stream"]},
    "application/x-ndjson": {"schema": ref("Event"), "example": example_of(ref("Event"))},
}
_ONLY_JOB: Final = _parameter(
    "query",
    "events",
    "Report the events of the job alone, and none of its layers and transfers.",
    {"type": "string", "enum": ["job"]},
)
_STATUS: Final = _parameter(
    "query",
    "events",
    "status: also report the state of the daemon, as events of the kind status.",
    {"type": "string", "enum": ["status"]},
)
_JOB_ID: Final = _parameter(
    "path",
    "job_id",
    "The job's ID, or its first characters if no other ID begins with them.",
    {"type": "string", "minLength": 1},
)
_PAUSE: Final = _parameter(
    "path", "name", "The pause: all, downloads or uploads.", {"type": "string", "enum": [*PAUSES]}
)
_HOST: Final = _parameter("path", "host", "The host's name.", {"type": "string", "minLength": 1})
_NAME: Final = _parameter(
    "path", "name", "The image's name; slashes need no escape.", {"type": "string", "minLength": 1}
)
_ENGINE: Final = _parameter(
    "path", "name", "The engine's name in the settings.", {"type": "string", "minLength": 1}
)
_KEY: Final = _parameter(
    "header",
    "Idempotency-Key",
    "A key of the client's choice: the same request with the same key begins no second job.",
    {"type": "string", "pattern": "^[!-~]{1,128}$"},
)
_CLIENT: Final = _parameter(
    "header",
    "X-Xferd-Client",
    "The client's name, for fairness and for display.",
    {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,63}$"},
)
_AUTH: Final = _parameter(
    "header", "X-Registry-Auth", "Credentials for a registry, as docker's clients send them.", TEXT
)
_TRACE: Final = _parameter(
    "header", "traceparent", "The trace that the job belongs to (W3C Trace Context).", TEXT
)
_CONFIG: Final = _parameter("header", "X-Registry-Config", "The same for several registries, by host.", TEXT)
_RANGE: Final = {
    **_parameter(
        "header",
        "Content-Range",
        "FIRST-LAST, the offsets of the piece's first and last byte.",
        {"type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}$"},
    ),
    "required": True,
}
_FORM: Final = _filter(
    "format",
    "docker, which docker and podman load, or an OCI layout alone.",
    {"type": "string", "enum": list(FORMS)},
)
_FILE: Final = _parameter("path", "name", "The file's name.", {"type": "string", "minLength": 1})

_PAGE_TYPES: Final = (
    "text/html; charset=utf-8",
    "text/css; charset=utf-8",
    "text/javascript; charset=utf-8",
    "image/svg+xml",
)

PATHS: Final[Mapping[str, Mapping[str, Any]]] = {
    "/api/v1/jobs": {
        "post": _operation(
            "create_job",
            "Begin a job.",
            {
                200: _new_job("The job of the earlier request with this key, or its events."),
                202: _new_job("The job; or its events, if the client accepts them."),
            },
            (404, 422, 429, 503),
            [_KEY, _CLIENT, _AUTH, _CONFIG, _TRACE, _ONLY_JOB],
            ref("JobRequest"),
        ),
        "get": _list(
            "list_jobs",
            "List jobs, the newest first.",
            "Job",
            _filter("state", "Only those in this state.", ref("JobState")),
            _filter("kind", "Only those of this kind.", ref("JobKind")),
            _filter("client", "Only this client's."),
            _filter("reference", "Only those of or to this image."),
            _filter("host", "Only those from or to this registry."),
            _filter("text", "Only those with this text in their ID, image, client or error."),
        ),
    },
    "/api/v1/jobs/{job_id}": {
        "get": _operation(
            "show_job",
            "Show a job with its layers, or its blobs.",
            {200: _answer("The job.", ref("JobInFull"))},
            (404, 409, 503),
            [_JOB_ID],
        ),
        "delete": _operation(
            "cancel_job",
            "Cancel a job; a job that has ended does not change.",
            {200: _answer("The job.", ref("JobInFull"))},
            (404, 409, 503),
            [_JOB_ID],
        ),
        "patch": _operation(
            "change_job",
            "Pause or resume a job that has not ended, or change its priority or its bandwidth limits.",
            {200: _answer("The job.", ref("JobInFull"))},
            (404, 409, 503),
            [_JOB_ID, _CLIENT],
            ref("JobChange"),
        ),
    },
    "/api/v1/jobs/{job_id}/retry": {
        "post": _operation(
            "retry_job",
            "Retry a job that failed or was cancelled, as a new job.",
            {202: _answer("The new job.", ref("JobInFull"), Location="The new job.")},
            (404, 409, 429, 503),
            [_JOB_ID, _CLIENT, _AUTH, _CONFIG],
        )
    },
    "/api/v1/pauses": {
        "get": _operation(
            "list_pauses",
            "List the pauses of registries, of directions and of everything, the oldest first.",
            {200: _answer("The pauses.", array(ref("Pause")))},
        )
    },
    "/api/v1/pauses/{name}": _pauses("", "Pause everything (all), downloads or uploads.", _PAUSE),
    "/api/v1/pauses/hosts/{host}": _pauses(
        "_host", "Pause a registry, manifests and configs included.", _HOST
    ),
    "/api/v1/drain": {
        "put": _operation(
            "drain",
            "Drain the daemon: start no new work; running jobs continue.",
            {200: _answer("The progress of the drain.", ref("Drain"))},
            (507,),
            [_CLIENT],
            ref("DrainRequest"),
            body_required=False,
        ),
        "delete": _operation(
            "end_drain",
            "End the drain: accept jobs again.",
            {200: _answer("The drain has ended.", ref("Drain"))},
            (507,),
        ),
    },
    "/api/v1/jobs/{job_id}/content": {
        "patch": {
            **_operation(
                "take_piece",
                "Send the next piece of an import's archive; the response is sent once it was read.",
                {202: _answer("The piece was read.", ref("Offset"))},
                (404, 409, 413, 415, 416, 422, 503),
                [_JOB_ID, _RANGE],
            ),
            "requestBody": {
                "required": True,
                "content": {PIECE: {"schema": {"type": "string", "minLength": 1, "maxLength": MAX_PIECE}}},
            },
        },
        "put": _operation(
            "end_content",
            "Complete an import's archive.",
            {200: _answer("The archive is complete.", ref("Offset"))},
            (404, 409, 416, 422, 503),
            [_JOB_ID],
            ref("ArchiveEnd"),
        ),
    },
    "/api/v1/archives/{name}": {
        "get": _operation(
            "send_archive",
            "Get an image of the store as an archive.",
            {200: _answer("The archive.", TEXT, "application/x-tar")},
            (404, 422, 429, 502, 503, 504, 507),
            [_NAME, _FORM, _CLIENT, _AUTH, _CONFIG],
        )
    },
    "/api/v1/jobs/{job_id}/attempts": {
        "get": _operation(
            "show_attempts",
            "Show the attempts of a job, the oldest first; the newest thousand at most.",
            {200: _answer("The attempts.", array(ref("Attempt")))},
            (404, 409, 503),
            [_JOB_ID],
        )
    },
    "/api/v1/auth": {
        "post": _operation(
            "check_login",
            "Try credentials with a registry; they are not stored.",
            {200: _answer("The registry accepts them.", ref("Accepted"))},
            (429, 502, 503, 504),
            [_AUTH, _CONFIG],
            ref("LoginRequest"),
        )
    },
    "/api/v1/jobs/{job_id}/events": {
        "get": _events(
            "follow_job", "Follow a job until it ends.", _JOB_ID, _ONLY_JOB, refusals=(404, 409, 503)
        )
    },
    "/api/v1/events": {
        "get": _events(
            "follow_all", "Follow all jobs, layers, transfers and images.", _STATUS, refusals=(503,)
        )
    },
    "/api/v1/transfers": {
        "get": _list(
            "list_transfers",
            "List transfers, the oldest first.",
            "Transfer",
            _filter("state", "Only those in this state.", ref("TransferState")),
            _filter("kind", "Only those of this kind.", ref("TransferKind")),
            _filter("host", "Only those from or to this registry."),
            _filter("job", "Only those of this job, by its whole ID."),
        )
    },
    "/api/v1/limits": {
        "get": _operation(
            "show_limits",
            "Show the limits on concurrency and bandwidth (bytes per second); 0 means no limit.",
            {200: _answer("The limits.", ref("Limits"))},
        ),
        "patch": _operation(
            "change_limits",
            "Set some limits, while jobs run.  A rate is a number, a text such as 20MB/s, or a timetable.",
            {200: _answer("All limits, with the changes.", ref("Limits"))},
            body=ref("LimitChanges"),
        ),
    },
    "/api/v1/hosts": {
        "get": _operation(
            "list_hosts",
            "List what is remembered of registries and mirrors, by name.",
            {200: _answer("The hosts.", array(ref("Host")))},
        )
    },
    "/api/v1/hosts/{host}": {
        "delete": _operation(
            "clear_host",
            "Forget a host: its pauses, quotas, failures and features.  Transfers that wait for it continue.",
            {200: _answer("The host was cleared.", ref("HostCleared"))},
            (404, 507),
            [_HOST],
        )
    },
    "/api/v1/images": {
        "get": _list(
            "list_images",
            "List the images of the store, by name.",
            "Image",
            _filter("name", "Only this image, or, without a tag, those of this repository."),
        )
    },
    "/api/v1/images/{name}": {
        "get": _operation(
            "show_image",
            "Show an image of the store.",
            {200: _answer("The image.", ref("ImageInFull"))},
            (404, 422),
            [_NAME, _filter("platform", "The required platform: os/architecture[/variant].")],
        ),
        "delete": _operation(
            "remove_image",
            "Remove an image's name, and free what became unused.",
            {200: _answer("The freed content.", ref("Removed"))},
            (404, 503, 507),
            [_NAME],
        ),
    },
    "/api/v1/images/{name}/trees": {
        "post": _operation(
            "renew_trees",
            "Unpack again the layers of an image that an older version of xferd unpacked.",
            {200: _answer("The layers are unpacked.", ref("Renewed"))},
            (404, 503, 507),
            [_NAME],
        )
    },
    "/api/v1/images/{name}/tags": {
        "post": _operation(
            "tag_image",
            "Set another name for an image of the store.",
            {201: _answer("The image under that name.", ref("Image"))},
            (404, 503, 507),
            [_NAME],
            ref("TagRequest"),
        )
    },
    "/api/v1/images/{name}/pin": {
        "post": _operation(
            "pin_image",
            "Pin an image, which exempts it from removal by the quota, or unpin it.",
            {200: _answer("The image.", ref("Image"))},
            (404, 503, 507),
            [_NAME],
            ref("PinRequest"),
        )
    },
    "/api/v1/gc": {
        "post": _operation(
            "collect",
            "Free unused content of the store, or report what would be freed.",
            {200: _answer("The content that was freed, or would be.", ref("Collected"))},
            (503, 507),
            body=ref("CollectionRequest"),
        )
    },
    "/api/v1/status": {
        "get": _operation(
            "show_status",
            "Show the state of the daemon as a whole.",
            {200: _answer("The daemon's state.", ref("Status"))},
        )
    },
    "/api/v1/history": {
        "get": _operation(
            "show_history",
            "Show the bytes received, sent and saved in the last hour.",
            {200: _answer("The bytes, in samples.", ref("History"))},
        )
    },
    "/api/v1/page": {
        "post": _operation(
            "let_in",
            "Create a code for http://xferd.localhost:PORT/enter?code=CODE, which authorises one browser.",
            {201: _answer("The code.", ref("PageCode"))},
            (404,),
            body=ref("PageRequest"),
        )
    },
    "/api/v1/doctor": {
        "get": _operation(
            "examine",
            "Check the installation: files, listeners, certificates, clock, disk and limits.",
            {200: _answer("The checks, each with its problems.", ref("Examination"))},
        )
    },
    "/api/v1/registry": {
        "get": _operation(
            "show_registry",
            "Show the registry at /v2/, with its upstreams.",
            {200: _answer("The registry.", ref("Registry"))},
        )
    },
    "/api/v1/registry/repositories": {
        "get": _list(
            "list_repositories",
            "List the repositories of the registry, by name, with the reason why their content is kept.",
            "Repository",
            _filter("host", "Only those of this upstream."),
        )
    },
    "/api/v1/engines": {
        "get": _operation(
            "list_engines",
            "List the container engines that run images from the store, with the images that they use.",
            {200: _answer("The engines.", array(ref("Engine")))},
        )
    },
    "/api/v1/engines/{name}": {
        "delete": _operation(
            "forget_engine",
            "Remove the snapshots of a containerd that the settings do not name any more.",
            {200: _answer("The engine was forgotten.", ref("EngineForgotten"))},
            (404, 409, 507),
            [_ENGINE],
        )
    },
    "/api/v1/engines/{name}/fill": {
        "post": _operation(
            "fill_engine",
            "Give a containerd the blobs of an image that it lacks, so that it can export and push it.",
            {200: _filled()},
            (404, 502, 503, 507),
            [_ENGINE, _CLIENT, _AUTH, _CONFIG],
            ref("FillRequest"),
        )
    },
    "/api/v1/fleet": {
        "get": _operation(
            "show_fleet",
            "Show the nodes that share downloads with this one, and the bytes that this saves.",
            {200: _answer("The fleet.", ref("Fleet"))},
        )
    },
    "/api/v1/fleet/prefetch": {
        "post": _operation(
            "prefetch_in_fleet",
            "Have other nodes of the fleet fetch an image for the clients of their registries.",
            {202: _answer("The nodes that have begun.", ref("FleetPrefetch"))},
            (503,),
            [],
            ref("FleetPrefetchRequest"),
        )
    },
    "/api/v1/openapi.json": {
        "get": _operation(
            "show_openapi",
            "Show this description.",
            {200: _answer("The OpenAPI document.", {"type": "object"})},
        )
    },
    "/metrics": {
        "get": _operation(
            "show_metrics",
            "Show metrics in Prometheus' text format.",
            {200: _answer("The metrics.", TEXT, "text/plain; version=0.0.4; charset=utf-8")},
        )
    },
    "/healthz": {
        "get": _operation(
            "live", "Show that the daemon responds.", {200: _answer("The daemon responds.", ref("Well"))}
        )
    },
    "/readyz": {
        "get": _operation(
            "ready",
            "Show whether the daemon accepts jobs.",
            {200: _answer("The daemon accepts jobs.", ref("Well"))},
            (503,),
        )
    },
    "/enter": {
        "get": _operation(
            "enter",
            "Set a browser's cookie for a code, and redirect it to the page.",
            {
                303: _answer(
                    "A redirect to the page.", TEXT, "text/plain; charset=utf-8", Location="The page."
                )
            },
            parameters=[_parameter("query", "code", "The code from 'let_in'.", TEXT)],
        )
    },
    "/": {"get": _operation("page", "The status page.", {200: _answer("The page.", TEXT, _PAGE_TYPES[0])})},
    "/static/{name}": {
        "get": _operation(
            "file",
            "A file of the status page.",
            {200: _answer("The file.", TEXT, *_PAGE_TYPES)},
            (404,),
            [_FILE],
        )
    },
}
"""Every path with its methods, named as the routes are."""
