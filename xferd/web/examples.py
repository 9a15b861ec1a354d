# -*- test-case-name: tests.web.test_examples -*-
"""
The examples in the OpenAPI document, one for each schema of an answer.  Tests hold them
against the schemas.

They are the answers of a daemon that has pulled one image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from xferd.web.fields import Schema

_DIGEST: Final = "sha256:97eaaa4ae18064c9690882ebe611de630ea5406061f4656b781c495d411a3d9a"
_IMAGE_ID: Final = "sha256:cb2c8712981373290e1e3b2acb5838d326e526c97beb688cf14ced4be3421394"
_BLOB: Final = "sha256:2bafbce19adeffc8abda90c3904c17ee9067fef101d05fcfc9f40b89ffa6118d"
_DIFF_ID: Final = "sha256:c25642a0fb0e0d883cd0aa753c90596aa1e49d1b779ab5647dd112ba81337169"
_NAME: Final = "registry.example.com/team/app"
_BEGUN: Final = "2026-01-02T03:04:05.109Z"
_ENDED: Final = "2026-01-02T03:04:07.680Z"
_SIZE: Final = 48_201_103

_JOB: Final[Mapping[str, Any]] = {
    "id": "124bcf5aba73",
    "kind": "pull",
    "state": "done",
    "reference": f"{_NAME}:1",
    "target": None,
    "platform": "linux/amd64",
    "client": "local",
    "created": _BEGUN,
    "started": "2026-01-02T03:04:05.110Z",
    "finished": _ENDED,
    "bytes_done": _SIZE,
    "bytes_total": _SIZE,
    "layers_done": 1,
    "layers_total": 1,
    "archive": None,
    "error": None,
    "result": {"digest": _DIGEST, "image_id": _IMAGE_ID},
    "warnings": [],
    "findings": [],
    "restart": "rejoin",
    "priority": 0,
    "paused": False,
    "retry_of": None,
    "download_rate": 0,
    "upload_rate": 0,
    "why": "",
    "reason": None,
    "until": None,
    "timing": {
        "seconds": 2.571,
        "phases": {
            "resolving": 0.168,
            "waiting": 0.018,
            "moving": 2.148,
            "unpacking": 0.2,
            "registering": 0.037,
        },
        "bytes_received": _SIZE,
        "bytes_sent": 0,
        "bytes_saved": 0,
        "rate": 22_439_991.2,
        "bound": {
            "by": "line",
            "whom": "registry.example.com",
            "phase": "moving",
            "seconds": 2.148,
            "share": 0.835,
            "text": "moving 84 % of 3 s: the line; registry.example.com sent 22.4 MB/s",
        },
    },
}
_LAYER: Final[Mapping[str, Any]] = {
    "job": "124bcf5aba73",
    "index": 0,
    "digest": _BLOB,
    "diff_id": _DIFF_ID,
    "size": _SIZE,
    "state": "done",
    "bytes_done": _SIZE,
    "unpacked": _SIZE,
    "transfer": "39c4d2d4f0f3",
    "why": "",
    "reason": None,
}
_IMAGE: Final[Mapping[str, Any]] = {
    "reference": f"{_NAME}:1",
    "digest": _DIGEST,
    "image_id": _IMAGE_ID,
    "resolved": _DIGEST,
    "source": _NAME,
    "size": 48_202_241,
    "created": _ENDED,
    "pulled": _ENDED,
    "pinned": False,
    "used_by": [],
    "layers": [{"digest": _BLOB, "size": _SIZE, "media_type": "application/vnd.oci.image.layer.v1.tar+gzip"}],
}
_LIMITS: Final = {
    "downloads": 3,
    "downloads_per_host": 0,
    "ranges": 4,
    "uploads": 5,
    "workers": 2,
    "download_rate": 20_000_000,
    "upload_rate": 0,
    "timetables": {"download_rate": {"08:00-18:00": 20_000_000, "else": 0}},
    "hosts": {
        "registry.example.com": {
            "downloads": 2,
            "uploads": 0,
            "download_rate": 5_000_000,
            "upload_rate": 0,
            "timetables": {},
        }
    },
    "clients": {"ci": {"weight": 3, "download_rate": 0, "upload_rate": 0, "timetables": {}}},
    "kept": {"clients": {"ci": {"weight": 3}}},
    "binding": {"download": ["host registry.example.com"], "upload": []},
}
_PAUSE: Final = {
    "what": "host",
    "host": "registry.example.com",
    "by": "user alice (laptop)",
    "since": _BEGUN,
    "keep": False,
}
_DRAIN: Final = {
    "draining": True,
    "by": "user alice (laptop)",
    "since": _BEGUN,
    "keep": False,
    "jobs": 2,
    "paused": 0,
}
_FREED: Final = {"blobs": 1, "trees": 1, "layers": 1, "partials": 0, "bytes": 145_203_322}

EXAMPLES: Final[Mapping[str, Any]] = {
    "Job": _JOB,
    "JobInFull": {**_JOB, "layers": [_LAYER], "transfers": ["39c4d2d4f0f3"]},
    "Event": {"kind": "job", "data": _JOB, "final": True, "id": "5f2a90c1-17"},
    "Offset": {"offset": 16_777_216},
    "Attempt": {
        "transfer": "39c4d2d4f0f3",
        "kind": "download",
        "digest": _BLOB,
        "source": _NAME,
        "attempt": 1,
        "started": "2026-01-02T03:04:05.296Z",
        "finished": "2026-01-02T03:04:05.919Z",
        "bytes_done": 9_201_103,
        "bytes_moved": 9_201_103,
        "code": "CONNECTION_FAILED",
        "error": "the connection to registry.example.com was lost",
    },
    "Accepted": {"host": "registry.example.com", "accepted": True},
    "Transfer": {
        "id": "39c4d2d4f0f3",
        "key": f"blob {_BLOB}",
        "kind": "download",
        "digest": _BLOB,
        "state": "queued",
        "watchers": 1,
        "bytes_done": 0,
        "bytes_total": _SIZE,
        "rate": 0.0,
        "attempt": 0,
        "streams": 0,
        "source": _NAME,
        "why": "waits for a slot, place 2",
        "reason": {"what": "queue", "whom": "", "since": _BEGUN, "until": None, "place": 2},
        "until": None,
        "created": _BEGUN,
        "jobs": ["124bcf5aba73"],
    },
    "Pause": _PAUSE,
    "Drain": _DRAIN,
    "Limits": _LIMITS,
    "Host": {
        "host": "registry.example.com",
        "state": "paused",
        "why": "it asked to wait",
        "until": "2026-01-02T03:05:00.000Z",
        "failures": 0,
        "error": "",
        "rate": 2_016_116.6,
        "capabilities": {},
        "used": _ENDED,
        "accounts": [
            {
                "account": "daemon",
                "state": "ok",
                "why": "",
                "until": None,
                "quota": {
                    "remaining": 76,
                    "limit": 100,
                    "window": 21_600.0,
                    "reset": "2026-01-02T09:00:00.000Z",
                },
                "used": _ENDED,
            }
        ],
    },
    "HostCleared": {"host": "registry.example.com", "cleared": True},
    "Image": _IMAGE,
    "ImageInFull": {
        **_IMAGE,
        "platform": "linux/amd64",
        "config": {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": [_DIFF_ID]},
        },
        "chain_id": _DIFF_ID,
        "trees": [f"/var/lib/xferd/trees/sha256/{_DIFF_ID.partition(':')[2]}/diff"],
    },
    "Removed": {"reference": f"{_NAME}:1", "freed": _FREED, "used_by": []},
    "Renewed": {"warnings": []},
    "Collected": {
        "dry_run": False,
        "freed": _FREED,
        "kept": [
            {
                "user": "containerd main",
                "layers": 3,
                "bytes": 145_203_322,
                "by": ["container web (registry.example.com/team/app:1)"],
            }
        ],
        "held": {
            "images": 4,
            "repositories": 1,
            "jobs": 0,
            "blobs": 412_003_118,
            "arriving": 0,
            "trees": 1_240_118_272,
        },
    },
    "History": {
        "interval": 10.0,
        "until": _ENDED,
        "received": [0, _SIZE],
        "sent": [0, 0],
        "saved": [0, 0],
        "clients": {"local": _SIZE},
    },
    "Status": {
        "version": "0.1.0",
        "started": "2026-01-02T03:00:00.728Z",
        "disk": {
            "path": "/var/lib/xferd",
            "free": 62_205_526_016,
            "total": 270_553_174_016,
            "why": "",
        },
        "images": 1,
        "jobs": {"done": 1},
        "slots": {
            "download": {"limit": 3, "in_use": 0, "queued": 0},
            "small_download": {"limit": 4, "in_use": 0, "queued": 0},
            "upload": {"limit": 5, "in_use": 0, "queued": 0},
            "small_upload": {"limit": 4, "in_use": 0, "queued": 0},
        },
        "hosts": {"registry.example.com": {"bytes": _SIZE, "sent": 0}},
        "sandbox": {
            "in_force": ["limits", "oom_score", "network", "ipc", "mounts", "capabilities"],
            "missing": {"seccomp": "the kernel does not support it"},
        },
        "pauses": [_PAUSE],
        "drain": _DRAIN,
        "binding": {"download": [], "upload": []},
        "quota": 0,
        "bytes_fetched": _SIZE,
        "bytes_sent": 0,
        "bytes_delivered": _SIZE,
    },
    "PageCode": {"code": "Zx3vV0kq9a", "port": 9337, "seconds": 60},
    "Examination": {
        "checks": [
            {"name": "data directory", "problems": []},
            {
                "name": "credentials",
                "problems": [
                    {
                        "message": "cannot read /root/.docker/config.json: Permission denied",
                        "remedy": "give user xferd read access to /root/.docker/config.json",
                    }
                ],
            },
        ]
    },
    "Registry": {
        "listen": ["tcp:5000:interface=127.0.0.1"],
        "urls": ["http://127.0.0.1:5000"],
        "default": "docker.io",
        "any_public": False,
        "upstreams": [
            {
                "host": "docker.io",
                "alias": "",
                "hits": 12,
                "misses": 3,
                "stale": 0,
                "sent": 192_804_412,
                "fetched": _SIZE,
                "saved": 144_603_309,
            }
        ],
        "local": ["local/"],
    },
    "Repository": {
        "name": "docker.io/library/alpine",
        "own": False,
        "policy": "readers",
        "tags": 2,
        "manifests": 4,
        "size": 7_202_241,
        "used": _ENDED,
        "kept": ["until the quota needs its space"],
    },
    "Engine": {
        "name": "main",
        "kind": "containerd",
        "state": "serving",
        "problem": None,
        "path": "/run/xferd/engines/main.sock",
        "snapshots": 4,
        "layers": 3,
        "size": 145_203_322,
        "images": [{"image": f"{_NAME}:1", "layers": 3, "containers": 1, "by": ""}],
    },
    "EngineForgotten": {"name": "old", "snapshots": 4},
    "Filled": {
        "image": f"{_NAME}:1",
        "namespaces": ["k8s.io"],
        "blobs": 3,
        "written": 1,
        "bytes": _SIZE,
    },
    "Fleet": {
        "state": "sharing",
        "problem": None,
        "name": "node-1",
        "url": "http://10.0.0.7:5000",
        "nodes": [
            {
                "name": "node-2",
                "url": "http://10.0.0.8:5000",
                "version": "0.1.0",
                "since": "2026-01-01T12:00:00.000Z",
                "load": 2,
                "saved": 8_201_103_322,
            }
        ],
        "claims": [{"digest": _BLOB, "size": _SIZE, "node": "node-2", "source": "registry.example.com"}],
        "bytes": {"upstream": _SIZE, "peer": 0, "store": 0, "sent": 0},
        "takeovers": 0,
        "left_out": [],
        "troubles": [{"node": "node-3", "why": "it does not answer"}],
    },
    "FleetPrefetch": {"nodes": [{"node": "node-2", "job": "a39dccbc7cc7"}]},
    "Well": {"status": "ok"},
}
"""An example of each schema of an answer."""

TEXTS: Final[Mapping[str, str]] = {
    "text/event-stream": 'event: job\nid: 5f2a90c1-17\ndata: {"id": "124bcf5aba73", "state": "done"}\n\n',
    "application/x-ndjson": '{"kind": "job", "data": {"id": "124bcf5aba73"}, "final": true}\n',
    "application/x-tar": "(the bytes of the archive)",
    "text/plain; version=0.0.4; charset=utf-8": 'xferd_jobs{kind="pull",state="running"} 1\n',
    "text/plain; charset=utf-8": "the page is at /\n",
    "text/html; charset=utf-8": "<!doctype html>\n",
    "text/css; charset=utf-8": "body { margin: 0 }\n",
    "text/javascript; charset=utf-8": '"use strict";\n',
    "image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg"/>\n',
}
"""An example of each answer that is no JSON, by media type."""


def _refusal(code: str, message: str, **detail: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "detail": detail or None}}


REFUSED: Final[Mapping[int, Mapping[str, Any]]] = {
    400: _refusal("BAD_INPUT", 'a pull has no field "refrence"; it has reference', retryable=False),
    401: _refusal("UNAUTHORIZED", "this needs the daemon's token: Authorization: Bearer TOKEN"),
    403: _refusal("FORBIDDEN", "this token is read_only and permits no changes"),
    404: _refusal("NOT_FOUND", "the store has no image nothing:latest", retryable=False),
    405: _refusal("METHOD_NOT_ALLOWED", "/api/v1/status does not support PUT; it supports GET, HEAD"),
    409: _refusal("IN_USE", "containers of containerd node run; stop them first", retryable=False),
    413: _refusal("REQUEST_ENTITY_TOO_LARGE", "a body of more than 16384 bytes is refused"),
    415: _refusal("UNSUPPORTED_MEDIA_TYPE", "send the body as application/json"),
    416: _refusal(
        "OFFSET_INVALID", "the next piece begins at 16777216, not at 0", retryable=False, offset=16_777_216
    ),
    421: _refusal(
        "MISDIRECTED_REQUEST",
        "the Host header is not a name of this daemon; the setting 'hosts_allowed' can add it",
    ),
    422: _refusal("IDEMPOTENCY_KEY_REUSED", "the key belongs to another request", retryable=False),
    429: _refusal(
        "TOO_MANY_JOBS", "5000 jobs of ci have not ended: try again when some have", retryable=True
    ),
    500: _refusal("INTERNAL", "internal error; see the daemon's log"),
    502: _refusal(
        "CONNECTION_FAILED",
        "registry.example.com refused the connection",
        retryable=True,
        host="registry.example.com",
        status=None,
    ),
    503: _refusal("INTERRUPTED", "the daemon is stopping and takes no more jobs", retryable=False),
    504: _refusal(
        "TIMED_OUT",
        "registry.example.com sent no response within 60 s",
        retryable=True,
        host="registry.example.com",
        status=None,
    ),
    507: _refusal("DISK_FULL", "the disk of /var/lib/xferd is full", retryable=False),
}
"""An example of each refusal, by status."""


def example_of(schema: Schema) -> Any:
    """
    An example of an answer.

    @param schema: a reference to a schema, an array of some, or an object.
    @raise KeyError: L{EXAMPLES} has none.
    """
    if schema.get("type") == "array":
        return [example_of(schema["items"])]
    if "$ref" in schema:
        return EXAMPLES[schema["$ref"].rpartition("/")[2]]
    return {"openapi": "3.1.0", "info": {"title": "xferd", "version": "0.1.0"}}
