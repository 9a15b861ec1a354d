# -*- test-case-name: tests.web.test_openapi -*-
"""
The JSON Schemas (2020-12) of requests and responses.

The module is long because it lists every field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import AttrsInstance, fields

from xferd.interfaces.collection import Freed
from xferd.interfaces.engines import CONTAINERD, CONTAINERS_STORAGE, FAILED, SERVING, STOPPED
from xferd.interfaces.fleet_status import ALONE, OFF, PEER, SHARING, STORE, UPSTREAM
from xferd.interfaces.hosts import Availability
from xferd.interfaces.job_json import REASONS
from xferd.interfaces.jobs import ALWAYS, REJOIN
from xferd.jobs.limits import ClientLimits, HostLimits, Limits
from xferd.jobs.timing import PHASES, Cause
from xferd.transfer.steering import DIRECTIONS, EVERYTHING
from xferd.web.archive_request import ARCHIVE_END
from xferd.web.fields import Schema
from xferd.web.job_request import COLLECTION, FILL, FLEET_PREFETCH, KINDS_OF_JOBS, NEW_NAME, PIN
from xferd.web.page_login import PAGE
from xferd.web.pagination import KINDS, STATES, TRANSFER_KINDS, TRANSFER_STATES
from xferd.web.registry_auth import LOGIN
from xferd.web.responses import CODES
from xferd.web.steering import DRAIN, JOB_CHANGE, PAUSE

LAYER_STATES: Final = (
    "waiting",
    "downloading",
    "unpacking",
    "registering",
    "uploading",
    "checking",
    "exists",
    "mounted",
    "done",
    "failed",
    "cancelled",
)
"""The words for what happens to a layer or a blob of a job."""


def ref(name: str) -> Schema:
    """
    A reference to one of L{SCHEMAS}.
    """
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """
    An array of items of one schema.
    """
    return {"type": "array", "items": items}


def _object(
    properties: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, **more: Any
) -> Schema:
    """
    An object with all of these properties.

    @param optional: further ones, which it may have.
    """
    every = {**properties, **(optional or {})}
    return {"type": "object", "required": list(properties), "properties": every, **more}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _one_of(kinds: Mapping[str, str]) -> Schema:
    """
    One of several objects, which their member C{kind} distinguishes.

    @param kinds: the name of the schema for each value of it.
    """
    mapping = {kind: f"#/components/schemas/{name}" for kind, name in kinds.items()}
    return {
        "oneOf": [ref(name) for name in kinds.values()],
        "discriminator": {"propertyName": "kind", "mapping": mapping},
    }


def _nullable(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
DIGEST: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]+:[0-9a-f]{64,128}$"}
NUMBERS: Final[Schema] = {"type": "object", "additionalProperties": COUNT}
SECONDS: Final[Schema] = {"type": "number", "minimum": 0}

_JOB: Final[Mapping[str, Schema]] = {
    "id": TEXT,
    "kind": ref("JobKind"),
    "state": ref("JobState"),
    "reference": {**TEXT, "description": "The requested reference, in full."},
    "target": _nullable("string", description="The destination of a push or a copy."),
    "platform": _nullable("string"),
    "client": {**TEXT, "description": "The client's name."},
    "created": TIME,
    "started": _nullable("string", format="date-time"),
    "finished": _nullable("string", format="date-time"),
    "bytes_done": COUNT,
    "bytes_total": COUNT,
    "layers_done": COUNT,
    "layers_total": COUNT,
    "archive": _or_null(ref("ArchiveProgress")),
    "error": _or_null(ref("JobError")),
    "result": _or_null(ref("JobResult")),
    "warnings": array({**TEXT, "description": "A warning of xferd, or of a registry as HOST: TEXT."}),
    "findings": {**array(ref("Finding")), "description": "The damage that a verification found."},
    "restart": {
        **_or_null(ref("Restart")),
        "description": "Whether the job continues after a restart of the daemon: by itself, or only if its "
        "client comes back within 60 s; null if it ends with the daemon.",
    },
    "priority": {
        "type": "integer",
        "description": "The place in the queue for slots: jobs of a higher priority precede others.",
    },
    "paused": {**FLAG, "description": "Whether a person has paused it."},
    "retry_of": _nullable("string", description="The ID of the job of which it is a retry."),
    "download_rate": {
        **COUNT,
        "description": "Its download limit in bytes per second at present; 0 means no limit.",
    },
    "upload_rate": {
        **COUNT,
        "description": "Its upload limit in bytes per second at present; 0 means no limit.",
    },
    "why": {**TEXT, "description": "Why the job waits as a whole; empty if it does not."},
    "reason": _or_null(ref("Reason")),
    "until": _nullable("string", format="date-time", description="When the wait ends, where known."),
    "timing": {**_or_null(ref("Timing")), "description": "Where its time went; null until it has ended."},
}

_IMAGE: Final[Mapping[str, Schema]] = {
    "reference": TEXT,
    "digest": DIGEST,
    "image_id": DIGEST,
    "resolved": {
        **DIGEST,
        "description": "The digest that the name referred to: an index's, or the manifest's.",
    },
    "source": {**TEXT, "description": "The repository from which missing content is fetched."},
    "size": COUNT,
    "created": TIME,
    "pulled": _nullable("string", format="date-time"),
    "pinned": {**FLAG, "description": "Whether the image is exempt from removal by the quota."},
    "used_by": {
        **array(TEXT),
        "description": "What container engines on this host need the image for, as ENGINE: TEXT.",
    },
    "layers": array(ref("ImageLayer")),
}


def _limits(kind: type[AttrsInstance]) -> dict[str, Schema]:
    """
    The limits that are numbers of one class of limits.
    """
    return {
        limit.name: {
            "type": "integer",
            "minimum": limit.metadata["bounds"].least,
            "maximum": limit.metadata["bounds"].most,
            "description": limit.metadata["description"],
        }
        for limit in fields(kind)
        if limit.metadata
    }


_BINDING: Final[Schema] = {
    "type": "object",
    "additionalProperties": array(TEXT),
    "description": "The bandwidth limits that delay transfers at present, by direction: global, host HOST, "
    "client NAME or job ID.",
}
_TIMETABLES: Final[Schema] = {
    "type": "object",
    "additionalProperties": NUMBERS,
    "description": "The rates that depend on the time of day: bytes a second for each span, as 08:00-18:00, "
    "in local time, and for else.  The limit itself is the present rate.",
}


def _limit_changes(kind: type[AttrsInstance]) -> dict[str, Schema]:
    """
    The changes of limits of one class: a rate may also be a text or a timetable.
    """
    more: tuple[Schema, ...] = ({"type": "string"}, {"type": "object", "additionalProperties": True})
    return {
        name: {"anyOf": [schema, *(more if name.endswith("_rate") else ()), {"type": "null"}]}
        for name, schema in _limits(kind).items()
    }


def _entry_changes(kind: type[AttrsInstance], noun: str) -> Schema:
    entry = {"type": ["object", "null"], "additionalProperties": False, "properties": _limit_changes(kind)}
    return {
        "type": "object",
        "additionalProperties": entry,
        "description": f"The limits of single {noun}, by name; null removes an entry.",
    }


_HOST_STATE: Final[Mapping[str, Schema]] = {
    "state": ref("HostState"),
    "why": {**TEXT, "description": "The reason for that state; empty if it is ok."},
    "until": _nullable("string", format="date-time", description="The end of that state, where known."),
}

_JOBS_ASKED: Final = {f"{kind.capitalize()}Request": body for kind, (_, body) in KINDS_OF_JOBS.items()}

_EVENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "job": ("Job",),
    "layer": ("Layer",),
    "transfer": ("Transfer",),
    "image": ("Image", "ImageGone"),
    "fill": ("FillProgress", "Filled", "Error"),
    "status": ("Status",),
}
"""The schemas of the data of each kind of event."""

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Error": _object({"error": ref("ErrorBody")}),
    "ErrorBody": _object(
        {
            "code": ref("ErrorCode"),
            "message": {**TEXT, "description": "One sentence for people."},
            "detail": _or_null(ref("ErrorDetail")),
        }
    ),
    "ErrorDetail": {
        "type": "object",
        "properties": {
            "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
            "host": {**TEXT, "description": "The registry that failed."},
            "status": _nullable("integer", description="Its HTTP status."),
            "offset": {**COUNT, "description": "The expected offset of an archive's next piece."},
        },
    },
    "ErrorCode": {
        "type": "string",
        "enum": list(CODES),
        "description": "A stable code for programs.  Later versions may add some.",
    },
    **{name: body.to_schema() for name, body in _JOBS_ASKED.items()},
    "JobRequest": _one_of({kind: f"{kind.capitalize()}Request" for kind in KINDS_OF_JOBS}),
    "JobKind": {"type": "string", "enum": list(KINDS)},
    "JobState": {"type": "string", "enum": list(STATES)},
    "JobError": _object({"code": ref("ErrorCode"), "message": TEXT}),
    "JobResult": {"type": "object", "properties": {"digest": DIGEST}, "additionalProperties": TEXT},
    "ArchiveProgress": _object({"received": COUNT, "size": _nullable("integer", minimum=0)}),
    "PhaseSeconds": {"type": "object", "properties": dict.fromkeys(PHASES, SECONDS)},
    "Restart": {"type": "string", "enum": [ALWAYS, REJOIN]},
    "Phase": {"type": "string", "enum": list(PHASES)},
    "Cause": {"type": "string", "enum": [cause.value for cause in Cause]},
    "TransferKind": {"type": "string", "enum": list(TRANSFER_KINDS)},
    "TransferState": {"type": "string", "enum": list(TRANSFER_STATES)},
    "LayerState": {"type": "string", "enum": list(LAYER_STATES)},
    "HostState": {"type": "string", "enum": [each.value for each in Availability]},
    "ImageLayer": _object({"digest": DIGEST, "size": COUNT, "media_type": TEXT}),
    "Offset": _object({"offset": {**COUNT, "description": "The offset of the next piece."}}),
    "ArchiveEnd": ARCHIVE_END.to_schema(),
    "LoginRequest": LOGIN.to_schema(),
    "Accepted": _object({"host": TEXT, "accepted": {"const": True}}),
    "Job": _object(_JOB),
    "JobInFull": _object(
        {
            **_JOB,
            "layers": array(ref("Layer")),
            "transfers": {**array(TEXT), "description": "The IDs of the transfers that it watched."},
        }
    ),
    "Timing": _object(
        {
            "seconds": {**SECONDS, "description": "The job's duration, from its creation."},
            "phases": {
                **ref("PhaseSeconds"),
                "description": "The seconds of each phase, which add up to that; without those of none.",
            },
            "bytes_received": {
                **COUNT,
                "description": "The bytes that were received while it waited for them.",
            },
            "bytes_sent": {**COUNT, "description": "The bytes that were sent while it waited for that."},
            "bytes_saved": {**COUNT, "description": "The bytes of its blobs that did not have to move."},
            "rate": {**SECONDS, "description": "Bytes per second, on average while some moved."},
            "bound": {
                **_or_null(ref("Bound")),
                "description": "What took most of its time; null for a job of less than a second.",
            },
        }
    ),
    "Bound": _object(
        {
            "by": ref("Cause"),
            "whom": {**TEXT, "description": "The registry, or empty."},
            "phase": ref("Phase"),
            "seconds": SECONDS,
            "share": {**SECONDS, "maximum": 1, "description": "That part of the job's duration."},
            "text": {**TEXT, "description": "All of it in one sentence for people."},
        }
    ),
    "Attempt": _object(
        {
            "transfer": {**TEXT, "description": "The ID of its transfer."},
            "kind": ref("TransferKind"),
            "digest": TEXT,
            "source": {**TEXT, "description": "HOST/PATH: the repository that sent or received the bytes."},
            "attempt": {**COUNT, "description": "The number of the attempt within its transfer, from 1."},
            "started": TIME,
            "finished": TIME,
            "bytes_done": {**COUNT, "description": "The completed bytes of the transfer at its end."},
            "bytes_moved": _nullable(
                "integer",
                minimum=0,
                description="The bytes that it has moved itself; null if an older version recorded it.",
            ),
            "code": _or_null(ref("ErrorCode")),
            "error": _nullable("string", description="The error, if it failed."),
        }
    ),
    "Finding": _object(
        {
            "kind": {"type": "string", "enum": ["blob", "tree"]},
            "digest": {**DIGEST, "description": "Of the blob; the diff ID of a tree."},
            "path": {**TEXT, "description": "The file in the data directory, or the entry in the tree."},
            "problem": {**TEXT, "description": "What is wrong with it, as it follows the path."},
            "state": {"type": "string", "enum": ["damaged", "healed", "quarantined", "missing"]},
            "needed_by": {**array(TEXT), "description": "The images and repositories that need it."},
            "kept": _nullable("string", description="The path of damaged content that was not replaced."),
            "why": {**TEXT, "description": "Why it was not replaced; empty if it was."},
        }
    ),
    "Reason": _object(
        {
            "what": {
                "type": "string",
                "enum": list(REASONS),
                "description": "What is waited for, or what slows it.",
            },
            "whom": {**TEXT, "description": "The host or program that has to act, or empty."},
            "since": _nullable("string", format="date-time", description="When the wait began."),
            "until": _nullable("string", format="date-time", description="When it ends, where known."),
            "place": _nullable("integer", minimum=1, description="The place in a queue, up to 100."),
        },
        description='The words of "why" as data; null if nothing is waited for, and for an error.',
    ),
    "Layer": _object(
        {
            "job": TEXT,
            "index": COUNT,
            "digest": DIGEST,
            "diff_id": _or_null(DIGEST),
            "size": COUNT,
            "state": ref("LayerState"),
            "bytes_done": COUNT,
            "unpacked": {**COUNT, "description": "The bytes that were unpacked."},
            "transfer": _nullable("string", description="The ID of the transfer that it waits for."),
            "why": {**TEXT, "description": "The reason why it waits, or the error."},
            "reason": _or_null(ref("Reason")),
        }
    ),
    "Transfer": _object(
        {
            "id": TEXT,
            "key": TEXT,
            "kind": ref("TransferKind"),
            "digest": TEXT,
            "state": ref("TransferState"),
            "watchers": {**COUNT, "description": "The number of its watchers."},
            "bytes_done": COUNT,
            "bytes_total": _nullable("integer", minimum=0),
            "rate": {"type": "number", "minimum": 0, "description": "Bytes per second."},
            "attempt": COUNT,
            "streams": {**COUNT, "description": "The parallel requests of a download."},
            "source": {**TEXT, "description": "HOST/PATH: the repository that sends or receives the bytes."},
            "why": {**TEXT, "description": "The reason why it waits or is slow, or the error."},
            "reason": _or_null(ref("Reason")),
            "until": _nullable(
                "string",
                format="date-time",
                description='The end of that wait, where known; seconds in "why" may be outdated.',
            ),
            "created": TIME,
            "jobs": {**array(TEXT), "description": "The IDs of the jobs that watch it."},
        }
    ),
    "Image": _object(_IMAGE),
    "ImageInFull": _object(
        {
            **_IMAGE,
            "platform": _nullable("string"),
            "config": {"type": ["object", "null"], "description": "The image's config, unchanged."},
            "chain_id": {**_or_null(DIGEST), "description": "The chain ID of the top layer."},
            "trees": {**array(TEXT), "description": "The directories of its layers, the bottom one first."},
        }
    ),
    "Renewed": _object(
        {
            "warnings": {
                **array(TEXT),
                "description": "The layers whose older trees remain in use, because unpacking failed.",
            }
        }
    ),
    "FleetPrefetchRequest": FLEET_PREFETCH.to_schema(),
    "FleetPrefetch": _object(
        {
            "nodes": {
                **array(ref("FleetJob")),
                "description": "The nodes that have begun; fewer if the fleet has fewer.",
            }
        }
    ),
    "FleetJob": _object({"node": TEXT, "job": {**TEXT, "description": "The ID of its job there."}}),
    "FillRequest": FILL.to_schema(),
    "FillProgress": _object(
        {
            "bytes": {
                **COUNT,
                "description": "The bytes that the engine has by now of those that were missing.",
            },
            "size": {**COUNT, "description": "The total of these bytes."},
        }
    ),
    "Filled": _object(
        {
            "image": {**TEXT, "description": "The full name of the image."},
            "namespaces": {**array(TEXT), "description": "The namespaces of the engine that have it."},
            "blobs": {**COUNT, "description": "The blobs that it needs in all of these."},
            "written": {**COUNT, "description": "The number of blobs that were missing."},
            "bytes": {**COUNT, "description": "The bytes that were sent."},
        }
    ),
    "EngineForgotten": _object(
        {"name": TEXT, "snapshots": {**COUNT, "description": "The number of its snapshots."}}
    ),
    "TagRequest": NEW_NAME.to_schema(),
    "PinRequest": PIN.to_schema(),
    "Removed": _object(
        {
            "reference": TEXT,
            "freed": ref("Freed"),
            "used_by": {**array(TEXT), "description": "What needs the image's layers, so that they stay."},
        }
    ),
    "CollectionRequest": COLLECTION.to_schema(),
    "Collected": _object(
        {"dry_run": FLAG, "freed": ref("Freed"), "kept": array(ref("KeptFor")), "held": ref("Held")}
    ),
    "Held": _object(
        {
            "images": {**COUNT, "description": "The number of images."},
            "repositories": {**COUNT, "description": "The number of repositories of the registry."},
            "jobs": {**COUNT, "description": "The number of jobs that have not ended."},
            "blobs": {**COUNT, "description": "The bytes of blobs."},
            "arriving": {**COUNT, "description": "The bytes of partial blobs."},
            "trees": {**COUNT, "description": "The bytes of trees."},
        }
    ),
    "KeptFor": _object(
        {
            "user": {**TEXT, "description": "A container engine on this host, or its view of the store."},
            "layers": {**COUNT, "description": "The layers that it needs, with all their parents."},
            "bytes": {**COUNT, "description": "The bytes in their trees."},
            "by": {
                **array(TEXT),
                "description": "The containers, images and snapshots that need them, the first ones of many.",
            },
        }
    ),
    "Freed": _object({field.name: COUNT for field in fields(Freed)}),
    "Host": _object(
        {
            "host": {**TEXT, "description": "The name of a registry or a mirror."},
            **_HOST_STATE,
            "failures": {**COUNT, "description": "Failures in a row."},
            "error": {**TEXT, "description": "The newest of them; otherwise empty."},
            "rate": _nullable("number", description="Bytes per second of one transfer, on average."),
            "capabilities": {"type": "object", "description": "Features that were found by use."},
            "used": {**TIME, "description": "The time of its last use."},
            "accounts": array(ref("Account")),
        }
    ),
    "Account": _object(
        {
            "account": {
                **TEXT,
                "description": "daemon, anonymous, or the beginning of a hash of credentials.",
            },
            **_HOST_STATE,
            "quota": _or_null(ref("Quota")),
            "used": {**TIME, "description": "The time of the last response to it."},
        }
    ),
    "Quota": _object(
        {
            "remaining": {**COUNT, "description": "Requests that are left."},
            "limit": _nullable("integer", minimum=1),
            "window": _nullable("number", description="Seconds."),
            "reset": _nullable("string", format="date-time"),
        }
    ),
    "HostCleared": _object({"host": TEXT, "cleared": {"const": True}}),
    "JobChange": JOB_CHANGE.to_schema(),
    "PauseRequest": PAUSE.to_schema(),
    "Pause": _object(
        {
            "what": {"type": "string", "enum": [EVERYTHING, *DIRECTIONS, "host"]},
            "host": {**TEXT, "description": "The registry that is paused; empty for other pauses."},
            "by": {**TEXT, "description": "The person who paused it."},
            "since": TIME,
            "keep": {**FLAG, "description": "Whether it persists over a restart of the daemon."},
        }
    ),
    "DrainRequest": DRAIN.to_schema(),
    "Drain": _object(
        {
            "draining": {**FLAG, "description": "Whether the daemon is drained: it starts no new work."},
            "by": {**TEXT, "description": "The person who drained it; empty if it is not drained."},
            "since": _nullable("string", format="date-time"),
            "keep": {**FLAG, "description": "Whether it persists over a restart of the daemon."},
            "jobs": {**COUNT, "description": "The number of jobs that have not ended."},
            "paused": {**COUNT, "description": "The number of paused jobs among them."},
        }
    ),
    "Limits": _object(
        {
            **_limits(Limits),
            "timetables": _TIMETABLES,
            "hosts": {"type": "object", "additionalProperties": ref("HostLimits")},
            "clients": {"type": "object", "additionalProperties": ref("ClientLimits")},
            "kept": {
                "type": "object",
                "additionalProperties": True,
                "description": "The changes that persist over a restart of the daemon.",
            },
            "binding": _BINDING,
        }
    ),
    "HostLimits": _object({**_limits(HostLimits), "timetables": _TIMETABLES}),
    "ClientLimits": _object({**_limits(ClientLimits), "timetables": _TIMETABLES}),
    "LimitChanges": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **_limit_changes(Limits),
            "hosts": _entry_changes(HostLimits, "registries"),
            "clients": _entry_changes(ClientLimits, "clients"),
            "keep": {
                **FLAG,
                "description": "Whether the changes persist over restarts of the daemon and override its "
                "configuration; otherwise they hold until it stops or reads its configuration again.",
            },
        },
    },
    "History": _object(
        {
            "interval": {"type": "number", "description": "Seconds of each sample."},
            "until": {**TIME, "description": "The end of the newest sample."},
            "received": array(COUNT),
            "sent": array(COUNT),
            "saved": array(COUNT),
            "clients": {**NUMBERS, "description": "Bytes that moved for each client in the last minute."},
        },
        description="The bytes of each interval, the newest one last.",
    ),
    "Status": _object(
        {
            "version": TEXT,
            "started": TIME,
            "disk": ref("Disk"),
            "images": COUNT,
            "jobs": {**NUMBERS, "description": "The number of jobs in each state."},
            "slots": {
                "type": "object",
                "additionalProperties": ref("Slots"),
            },
            "hosts": {
                "type": "object",
                "additionalProperties": ref("HostBytes"),
                "description": "Bytes received from and sent to each registry.",
            },
            "sandbox": {
                **_or_null(ref("Sandbox")),
                "description": "The measures that confine the processes of layers; null until known.",
            },
            "pauses": {
                **array(ref("Pause")),
                "description": "The pauses of registries, of directions and of everything, the oldest first.",
            },
            "drain": ref("Drain"),
            "binding": _BINDING,
            "quota": {**COUNT, "description": "The size limit of the store, in bytes; 0 means no limit."},
            "bytes_fetched": COUNT,
            "bytes_sent": COUNT,
            "bytes_delivered": COUNT,
        }
    ),
    "Disk": _object(
        {
            "path": TEXT,
            "free": _nullable("integer"),
            "total": _nullable("integer"),
            "why": {**TEXT, "description": "Reports a full disk; otherwise empty."},
        },
        description="The store's disk, in bytes.",
    ),
    "Slots": _object({"limit": COUNT, "in_use": COUNT, "queued": COUNT}),
    "HostBytes": _object({"bytes": COUNT, "sent": COUNT}),
    "Sandbox": _object(
        {
            "in_force": array(TEXT),
            "missing": {
                "type": "object",
                "additionalProperties": TEXT,
                "description": "The reason why each is not in force.",
            },
        }
    ),
    "PageRequest": PAGE.to_schema(),
    "PageCode": _object(
        {
            "code": TEXT,
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "seconds": {"type": "number", "description": "The lifetime of the code."},
        }
    ),
    "Examination": _object({"checks": array(ref("Check"))}),
    "Check": _object(
        {
            "name": {**TEXT, "description": "The subject of the check."},
            "problems": array(ref("Problem")),
        }
    ),
    "Problem": _object(
        {
            "message": {**TEXT, "description": "The problem."},
            "remedy": {**TEXT, "description": "The remedy."},
        }
    ),
    "Repository": _object(
        {
            "name": {**TEXT, "description": "Its name at /v2/, with the upstream's host."},
            "own": {**FLAG, "description": "Whether it is xferd's own, which takes pushes."},
            "policy": {**TEXT, "description": "The upstream's policy by which its content came; or empty."},
            "tags": COUNT,
            "manifests": COUNT,
            "size": {**COUNT, "description": "Bytes of its manifests and blobs, each blob once."},
            "used": {**_or_null(TIME), "description": "When it was last requested."},
            "kept": {**array(TEXT), "description": "How long its content is kept, and by which rule."},
        }
    ),
    "Registry": _object(
        {
            "listen": {
                **array(TEXT),
                "description": "Its endpoints; empty if the daemon serves no registry.",
            },
            "urls": {**array(TEXT), "description": "The URLs at which clients reach it, the best one first."},
            "default": {**TEXT, "description": "The upstream of names without a registry, or empty."},
            "any_public": {
                **FLAG,
                "description": "Whether every registry with a public address is mirrored.",
            },
            "upstreams": array(ref("Upstream")),
            "local": {**array(TEXT), "description": "The prefixes of the names that can be pushed to."},
        }
    ),
    "Upstream": _object(
        {
            "host": TEXT,
            "alias": {**TEXT, "description": "A path component for the host, or empty."},
            "hits": {**COUNT, "description": "Manifests and blobs that were in the store."},
            "misses": {**COUNT, "description": "Manifests and blobs that were fetched."},
            "stale": {**COUNT, "description": "Manifests that it did not confirm."},
            "sent": {**COUNT, "description": "Bytes of blobs that clients got."},
            "fetched": {**COUNT, "description": "Bytes of blobs that it sent for them."},
            "saved": {**COUNT, "description": "Bytes that it did not have to send."},
        }
    ),
    "Engine": _object(
        {
            "name": {**TEXT, "description": "Its name in the settings, or empty for the view."},
            "kind": {"type": "string", "enum": [CONTAINERD, CONTAINERS_STORAGE]},
            "state": {"type": "string", "enum": [SERVING, FAILED, STOPPED]},
            "problem": _nullable("string", description="The reason why it is not served, or is slow."),
            "path": {**TEXT, "description": "Its unix socket, or the directory of the view."},
            "snapshots": {**COUNT, "description": "Snapshots of containerd, containers included."},
            "layers": {**COUNT, "description": "Layers of the store that it uses."},
            "size": {**COUNT, "description": "Bytes of the trees of these layers."},
            "images": array(ref("EngineImage")),
        },
        optional={
            "left_out": {
                **array(ref("ImageLeftOut")),
                "description": "The images of the store that the view does not show.",
            },
            "cri": {**FLAG, "description": "Whether containerd's socket has CRI's ImageService, too."},
        },
    ),
    "EngineImage": _object(
        {
            "image": {**TEXT, "description": "Its reference, or empty if it is not known."},
            "layers": COUNT,
            "containers": {**COUNT, "description": "Containers, and images that were built on it."},
            "by": {**TEXT, "description": "The root directory of the engine, or empty."},
        }
    ),
    "ImageLeftOut": _object({"image": TEXT, "reason": TEXT}),
    "Fleet": _object(
        {
            "state": {"type": "string", "enum": [OFF, SHARING, ALONE]},
            "problem": _nullable("string", description="The reason why this node works alone."),
            "name": {**TEXT, "description": "The name of this node, or empty."},
            "url": {**TEXT, "description": "Its URL for its peers, or empty."},
            "nodes": array(ref("FleetNode")),
            "claims": {
                **array(ref("Claim")),
                "description": "The blobs that one node fetches for all.",
            },
            "bytes": {
                **ref("FleetBytes"),
                "description": "Bytes of this node since its start, by source, and those sent to peers.",
            },
            "takeovers": {**COUNT, "description": "Downloads taken over from nodes that did not deliver."},
            "left_out": {**array(TEXT), "description": "The peers that sent wrong bytes in the last hour."},
            "troubles": {
                **array(ref("PeerTrouble")),
                "description": "The peers that did not deliver in the last ten minutes.",
            },
        }
    ),
    "FleetBytes": _object({UPSTREAM: COUNT, PEER: COUNT, STORE: COUNT, "sent": COUNT}),
    "FleetNode": _object(
        {
            "name": TEXT,
            "url": TEXT,
            "version": {**TEXT, "description": "Its version of xferd."},
            "since": {**TIME, "description": "When it started, by its own clock."},
            "load": {**COUNT, "description": "Its running transfers, some minutes ago."},
            "saved": {**COUNT, "description": "Bytes from peers, some minutes ago."},
        }
    ),
    "Claim": _object({"digest": TEXT, "size": COUNT, "node": TEXT, "source": TEXT}),
    "PeerTrouble": _object({"node": TEXT, "why": TEXT}),
    "Well": _object({"status": {"const": "ok"}}),
    "ImageGone": _object({"reference": TEXT, "removed": {"const": True}}),
    "Event": {
        **_one_of({kind: f"{kind.capitalize()}Event" for kind in _EVENTS}),
        "description": "One line of JSON; server-sent events have kind, data and id as their own fields.",
    },
    **{
        f"{kind.capitalize()}Event": _object(
            {
                "kind": {"type": "string", "const": kind},
                "data": ref(data[0]) if len(data) == 1 else {"anyOf": [ref(name) for name in data]},
                "final": {**FLAG, "description": "Whether this is the last event of its subject."},
            },
            optional={"id": {**TEXT, "description": "The position in the stream, for Last-Event-ID."}},
        )
        for kind, data in _EVENTS.items()
    },
}
