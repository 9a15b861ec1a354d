# -*- test-case-name: tests.web.test_request -*-
"""
Reading and checking of requests: bodies, queries and names.  All of a request
is hostile until it is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.address import IPv4Address, IPv6Address
from werkzeug.exceptions import UnsupportedMediaType

from xferd.errors import BadInput
from xferd.log_escapes import escape
from xferd.platforms import Platform

if TYPE_CHECKING:
    from twisted.web.http import Request as HTTPRequest
    from twisted.web.server import Request

MAX_SHOWN: Final = 200

# json.dumps would make an encoder for each call.
_as_text = json.JSONEncoder(ensure_ascii=False).encode
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,63}")


def header(request: HTTPRequest, name: bytes) -> str | None:
    """
    The last value of a header, in latin-1.
    """
    value: bytes | None = request.getHeader(name)
    return None if value is None else value.decode("latin-1")


def shown(part: bytes) -> str:
    """
    The method or path of a request, for a log line or a response: at most
    L{MAX_SHOWN} characters of ASCII, whatever the client sent.
    """
    text = escape(part[:MAX_SHOWN].decode("ascii", "backslashreplace"))
    return text if len(part) <= MAX_SHOWN and len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def note(request: HTTPRequest, name: str, value: object) -> None:
    """
    Record a value of a request for its line in the audit trail (L{xferd.web.audit}).
    """
    request.__dict__.setdefault("notes", {})[name] = value


def noted(request: HTTPRequest) -> Mapping[str, Any]:
    """
    The values that L{note} recorded.
    """
    found: Mapping[str, Any] = request.__dict__.get("notes", {})
    return found


def json_object(request: Request) -> dict[str, Any]:
    """
    Read the JSON object in the body of a request.

    Only C{application/json} is accepted: other types would allow cross-site form
    posts without a CORS preflight.

    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: it is not a JSON object.
    """
    media_type = (header(request, b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("send the body as application/json")
    assert request.content is not None
    try:
        value = json.loads(request.content.read())
        # A surrogate without its other half cannot be written as UTF-8.
        _as_text(value).encode("utf-8")
    except (ValueError, RecursionError) as e:
        raise BadInput("the body is not JSON") from e
    if not isinstance(value, dict):
        raise BadInput("the body is not a JSON object")
    note(request, "body", dict(value))
    return value


def fingerprint_of(request: Request) -> bytes:
    """
    The digest of a request's body, the same for equal JSON values.  The body has
    been read before.
    """
    assert request.content is not None
    request.content.seek(0)
    value = json.loads(request.content.read())
    return sha256(json.dumps(value, sort_keys=True).encode("ascii")).digest()


def read_limit_changes(request: Request) -> tuple[dict[str, Any], bool]:
    """
    Read the body of C{PATCH /api/v1/limits}; the jobs check the names and values.

    @return: the changes, and whether they are kept.
    @raise UnsupportedMediaType: its Content-Type is not JSON.
    @raise BadInput: C{keep} is not a truth value.
    """
    changes = json_object(request)
    keep = changes.pop("keep", False)
    if not isinstance(keep, bool):
        raise BadInput(f"'keep' must be true or false, not {quoted(keep)}")
    return changes, keep


def quoted(value: object) -> str:
    """
    A value of a request, cut for an error message.
    """
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "…"


def read_platform(request: Request) -> Platform | None:
    """
    Read the query of a request for an image: its platform.

    @raise BadInput: the query has other parameters.
    @raise BadPlatform: it is not a platform.
    """
    asked = {name.decode("utf-8", "replace"): values[-1] for name, values in (request.args or {}).items()}
    platform = asked.pop("platform", None)
    if asked:
        raise BadInput(
            f"unknown parameter {quoted(next(iter(asked)))}; the only parameter of an image is 'platform'"
        )
    return None if platform is None else Platform.parse(platform.decode("utf-8", "replace"))


def client_name(request: Request) -> str:
    """
    The client's name: C{X-Xferd-Client}, else the address, else C{local}.

    It is used for fairness and shown on the page; no right depends on it.

    @raise BadInput: the header is not a valid name.
    """
    name = header(request, b"x-xferd-client")
    if name is not None:
        if _CLIENT.fullmatch(name) is None:
            raise BadInput(
                "X-Xferd-Client must be 1 to 64 letters, digits and '._:@/+-', "
                "and begin with a letter or a digit"
            )
        return name
    address = request.getClientAddress()
    if isinstance(address, (IPv4Address, IPv6Address)):
        return address.host
    return "local"
