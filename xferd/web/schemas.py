# -*- test-case-name: tests.web.test_openapi -*-
"""
The shapes of what the API takes and gives, as JSON Schema (2020-12).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import fields

from xferd.interfaces.store import Freed
from xferd.jobs.limits import Limits
from xferd.web.job_request import MAX_PLATFORM, MAX_PRIORITY, MAX_REFERENCE, MAX_SIZE, MAX_TAG, MAX_TAGS
from xferd.web.pagination import KINDS, STATES, TRANSFER_KINDS, TRANSFER_STATES

Schema = Mapping[str, Any]

LAYER_STATES: Final = (
    "waiting",
    "downloading",
    "unpacking",
    "registering",
    "uploading",
    "exists",
    "mounted",
    "done",
    "failed",
    "cancelled",
)
"""The words for what happens to a layer or a blob of a job."""


def ref(name: str) -> Schema:
    """
    One of L{SCHEMAS}.
    """
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    """
    Any number of one thing.
    """
    return {"type": "array", "items": items}


def _object(properties: Mapping[str, Schema], **more: Any) -> Schema:
    """
    An object that has all of these.
    """
    return {"type": "object", "required": list(properties), "properties": properties, **more}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _nullable(kind: str, **more: Any) -> Schema:
    return {"type": [kind, "null"], **more}


TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
DIGEST: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]+:[0-9a-f]{64,128}$"}
STATE: Final[Schema] = {"type": "string", "enum": list(STATES)}
KIND: Final[Schema] = {"type": "string", "enum": list(KINDS)}
NUMBERS: Final[Schema] = {"type": "object", "additionalProperties": COUNT}

REFERENCE: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_REFERENCE,
    "description": "The name of an image, as docker has it: alpine, ghcr.io/owner/app:1.2, HOST/NAME@DIGEST.",
    "examples": ["registry.example.com/team/app:1.2"],
}
PLATFORM: Final[Schema] = {
    "type": ["string", "null"],
    "maxLength": MAX_PLATFORM,
    "description": "os/architecture[/variant]",
    "examples": ["linux/arm64"],
}
PRIORITY: Final[Schema] = {
    "type": ["integer", "null"],
    "minimum": -MAX_PRIORITY,
    "maximum": MAX_PRIORITY,
    "description": "Higher goes first; 0, or null, is usual.",
}

_SHORT_ERROR: Final = _object({"code": ref("ErrorCode"), "message": TEXT})

_JOB: Final[Mapping[str, Schema]] = {
    "id": TEXT,
    "kind": KIND,
    "state": STATE,
    "reference": {**TEXT, "description": "What is asked for, in full."},
    "target": _nullable("string", description="Where it goes, of a push and a copy."),
    "platform": _nullable("string"),
    "client": {**TEXT, "description": "Who asks."},
    "created": TIME,
    "started": _nullable("string", format="date-time"),
    "finished": _nullable("string", format="date-time"),
    "bytes_done": COUNT,
    "bytes_total": COUNT,
    "layers_done": COUNT,
    "layers_total": COUNT,
    "archive": _or_null(_object({"received": COUNT, "size": _nullable("integer", minimum=0)})),
    "error": _or_null(_SHORT_ERROR),
    "result": _or_null({**_object({"digest": DIGEST}), "additionalProperties": TEXT}),
    "warnings": array({**TEXT, "description": "What xferd warns of, or a registry: HOST: TEXT."}),
}

_IMAGE: Final[Mapping[str, Schema]] = {
    "reference": TEXT,
    "digest": DIGEST,
    "image_id": DIGEST,
    "resolved": {**DIGEST, "description": "What the name stood for: an index's digest, or the manifest's."},
    "source": {**TEXT, "description": "The repository that is asked for what the store lacks of it."},
    "size": COUNT,
    "created": TIME,
    "pinned": {**FLAG, "description": "Whether it stays when the store needs room."},
    "layers": array(_object({"digest": DIGEST, "size": COUNT, "media_type": TEXT})),
}


def _asked(kind: str, required: list[str], **fields: Schema) -> Schema:
    """
    What a client asks for.
    """
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["kind", *required],
        "properties": {"kind": {"const": kind}, **fields, "priority": PRIORITY},
    }


_LIMITS: Final[Mapping[str, Schema]] = {
    limit.name: {
        "type": "integer",
        "minimum": limit.metadata["bounds"].least,
        "maximum": limit.metadata["bounds"].most,
        "description": limit.metadata["description"],
    }
    for limit in fields(Limits)
}

SCHEMAS: Final[Mapping[str, Schema]] = {
    "Error": _object(
        {
            "error": _object(
                {
                    "code": ref("ErrorCode"),
                    "message": {**TEXT, "description": "One sentence for people."},
                    "detail": {
                        "type": ["object", "null"],
                        "properties": {
                            "retryable": {
                                "type": "boolean",
                                "description": "Whether the same request may succeed later.",
                            },
                            "host": {**TEXT, "description": "The registry that failed."},
                            "status": _nullable("integer", description="Its HTTP status."),
                            "offset": {**COUNT, "description": "Where an archive is to go on."},
                        },
                    },
                }
            )
        }
    ),
    "ErrorCode": {"type": "string", "pattern": "^[A-Z_]+$", "description": "A stable word for programs."},
    "PullAsked": _asked("pull", ["reference"], reference=REFERENCE, platform=PLATFORM),
    "PushAsked": _asked(
        "push",
        ["reference"],
        reference=REFERENCE,
        target={**REFERENCE, "type": ["string", "null"]},
        tags={
            "type": ["array", "null"],
            "maxItems": MAX_TAGS,
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG},
            "description": "More tags to give it there.",
        },
        platform={
            **PLATFORM,
            "description": 'This one of the index that the name stood for, or "all": that index as it is.',
        },
    ),
    "CopyAsked": _asked(
        "copy",
        ["reference", "target"],
        reference=REFERENCE,
        target=REFERENCE,
        platform=PLATFORM,
        referrers={"type": ["boolean", "null"], "description": "Also what refers to it."},
    ),
    "ImportAsked": _asked(
        "import",
        [],
        reference={
            **REFERENCE,
            "type": ["string", "null"],
            "description": "What to call the image, or which one to take; else the archive's own names.",
        },
        platform=PLATFORM,
        size={
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": MAX_SIZE,
            "description": "The archive's bytes.",
        },
    ),
    "JobAsked": {"oneOf": [ref("PullAsked"), ref("PushAsked"), ref("CopyAsked"), ref("ImportAsked")]},
    "Offset": _object({"offset": {**COUNT, "description": "Where the next piece begins."}}),
    "ArchiveEnd": _object({"size": {**COUNT, "maximum": MAX_SIZE, "description": "The archive's bytes."}}),
    "LoginAsked": {
        **_object({"host": {**TEXT, "minLength": 1, "description": "The registry's host."}}),
        "additionalProperties": False,
    },
    "Accepted": _object({"host": TEXT, "accepted": {"const": True}}),
    "Job": _object(_JOB),
    "JobInFull": _object(
        {
            **_JOB,
            "layers": array(ref("Layer")),
            "transfers": {**array(TEXT), "description": "The ids of those that it waited for."},
        }
    ),
    "Attempt": _object(
        {
            "transfer": {**TEXT, "description": "The id of the transfer that it was for."},
            "kind": {"type": "string", "enum": list(TRANSFER_KINDS)},
            "digest": TEXT,
            "source": {**TEXT, "description": "HOST/PATH, where bytes came from or went to."},
            "attempt": {**COUNT, "description": "Which one of that transfer: the first is 1."},
            "started": TIME,
            "finished": TIME,
            "bytes_done": {**COUNT, "description": "How many bytes were there at its end."},
            "code": _or_null(ref("ErrorCode")),
            "error": _nullable("string", description="What went wrong, if something did."),
        }
    ),
    "Layer": _object(
        {
            "job": TEXT,
            "index": COUNT,
            "digest": DIGEST,
            "diff_id": _or_null(DIGEST),
            "size": COUNT,
            "state": {"type": "string", "enum": list(LAYER_STATES)},
            "bytes_done": COUNT,
            "unpacked": {**COUNT, "description": "How much of what came is unpacked."},
            "transfer": _nullable("string", description="The id of the transfer that it waits for."),
            "why": {**TEXT, "description": "What it waits for, or failed of."},
        }
    ),
    "Transfer": _object(
        {
            "id": TEXT,
            "key": TEXT,
            "kind": {"type": "string", "enum": list(TRANSFER_KINDS)},
            "digest": TEXT,
            "state": {"type": "string", "enum": list(TRANSFER_STATES)},
            "watchers": {**COUNT, "description": "How many jobs and layers share it."},
            "bytes_done": COUNT,
            "bytes_total": _nullable("integer", minimum=0),
            "rate": {"type": "number", "minimum": 0, "description": "Bytes a second."},
            "attempt": COUNT,
            "streams": {**COUNT, "description": "The requests by which a download comes now."},
            "source": {**TEXT, "description": "HOST/PATH, where bytes come from or go to."},
            "why": {**TEXT, "description": "What it waits for, what slows it, or what it failed of."},
            "until": _nullable(
                "string",
                format="date-time",
                description="When that wait is over, where it is known; seconds in its words may be old.",
            ),
            "created": TIME,
            "jobs": {**array(TEXT), "description": "The ids of the jobs that share it."},
        }
    ),
    "Image": _object(_IMAGE),
    "ImageInFull": _object(
        {
            **_IMAGE,
            "platform": _nullable("string"),
            "config": {"type": ["object", "null"], "description": "The image's config, as it is."},
            "chain_id": {**_or_null(DIGEST), "description": "What its top layer is registered as."},
            "trees": {**array(TEXT), "description": "Where its layers are unpacked, the bottom one first."},
        }
    ),
    "Renewed": _object(
        {
            "warnings": {
                **array(TEXT),
                "description": "The layers that could not be unpacked again, and are used as they are.",
            }
        }
    ),
    "TagAsked": {
        **_object({"reference": {**REFERENCE, "description": "The image's other name; it has no digest."}}),
        "additionalProperties": False,
    },
    "PinAsked": {**_object({"pinned": FLAG}), "additionalProperties": False},
    "Removed": _object({"reference": TEXT, "freed": ref("Freed")}),
    "CollectionAsked": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "dry_run": {"type": ["boolean", "null"], "description": "Free nothing."},
            "partials": {
                "type": ["boolean", "null"],
                "description": "Also free the partial blobs that no transfer uses.",
            },
        },
    },
    "Collected": _object({"dry_run": FLAG, "freed": ref("Freed")}),
    "Freed": _object({field.name: COUNT for field in fields(Freed)}),
    "Limits": _object(_LIMITS),
    "LimitChanges": {"type": "object", "additionalProperties": False, "properties": _LIMITS},
    "Status": _object(
        {
            "version": TEXT,
            "started": TIME,
            "disk": _object(
                {
                    "path": TEXT,
                    "free": _nullable("integer"),
                    "total": _nullable("integer"),
                    "why": {**TEXT, "description": "That it is full; empty if it is not."},
                },
                description="The store's disk, in bytes.",
            ),
            "images": COUNT,
            "jobs": {**NUMBERS, "description": "How many are in each state."},
            "slots": {
                "type": "object",
                "additionalProperties": _object({"limit": COUNT, "in_use": COUNT, "queued": COUNT}),
            },
            "hosts": {
                "type": "object",
                "additionalProperties": _object({"bytes": COUNT, "sent": COUNT}),
                "description": "Bytes that came from and went to each registry.",
            },
            "sandbox": {
                **_object(
                    {
                        "in_force": array(TEXT),
                        "missing": {
                            "type": "object",
                            "additionalProperties": TEXT,
                            "description": "Why each is not in force.",
                        },
                    }
                ),
                "type": ["object", "null"],
                "description": "What confines the processes of layers; null until it is known.",
            },
            "quota": {**COUNT, "description": "The bytes that the store may take; 0 for any number."},
            "bytes_fetched": COUNT,
            "bytes_sent": COUNT,
            "bytes_delivered": COUNT,
        }
    ),
    "PageAsked": _object({"uid": {"type": "integer", "minimum": 0, "description": "Whose browser it is."}}),
    "PageCode": _object(
        {
            "code": TEXT,
            "port": {"type": "integer", "minimum": 1, "maximum": 65535},
            "seconds": {"type": "number", "description": "How long the code is good."},
        }
    ),
    "Examination": _object(
        {
            "checks": array(
                _object(
                    {
                        "name": {**TEXT, "description": "What was checked."},
                        "problems": array(
                            _object(
                                {
                                    "message": {**TEXT, "description": "What is wrong."},
                                    "remedy": {**TEXT, "description": "What to change."},
                                }
                            )
                        ),
                    }
                )
            )
        }
    ),
    "Well": _object({"status": {"const": "ok"}}),
    "ImageGone": _object({"reference": TEXT, "removed": {"const": True}}),
    "Event": {
        **_object(
            {
                "kind": {"type": "string", "enum": ["job", "layer", "transfer", "image"]},
                "data": {
                    "anyOf": [ref("Job"), ref("Layer"), ref("Transfer"), ref("Image"), ref("ImageGone")]
                },
                "final": {**FLAG, "description": "Whether this is the last word on its subject."},
            }
        ),
        "description": "One line of JSON; server-sent events have kind, data and id as their own fields.",
    },
}
SCHEMAS["Event"]["properties"]["id"] = {**TEXT, "description": "Where to go on: Last-Event-ID."}
