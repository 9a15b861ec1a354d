# -*- test-case-name: tests.web.test_openapi -*-
"""
Checks responses against the OpenAPI document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, FormatChecker

from xferd.web.openapi import document


class Undocumented(AssertionError):
    """
    A response that the document does not describe.
    """


def _strict(schema: Any) -> Any:
    """
    A schema whose objects have no members but the documented ones.
    """
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), Mapping) and "type" in schema:
        made.setdefault("additionalProperties", False)
    return made


@cache
def api() -> dict[str, Any]:
    """
    The document, as a client receives it.
    """
    loaded: dict[str, Any] = json.loads(json.dumps(document("1.2.3"), default=dict))
    return loaded


@cache
def validator(schema: str) -> Draft202012Validator:
    """
    A validator for a schema in JSON.
    """
    whole = {**json.loads(schema), "components": _strict(api()["components"])}
    return Draft202012Validator(_strict(whole), format_checker=FormatChecker())


def valid(schema: Any, value: object) -> None:
    """
    Check a value against a schema.
    """
    for error in validator(json.dumps(schema)).iter_errors(value):
        raise Undocumented(f"{error.json_path}: {error.message}")


def path_of(method: str, path: str) -> str | None:
    """
    The documented path of a request's path, if it has this method.
    """
    path = path.partition("?")[0]
    if not unquote(path).strip("/"):
        # Klein merges slashes, encoded ones as well.
        path = "/"
    paths = [known for known, methods in api()["paths"].items() if method.lower() in methods]
    if path in paths:
        return path
    # The longest first: ".../tags" may also be the end of an image's name.
    for known in sorted(paths, key=len, reverse=True):
        # Only the name of an image contains slashes.
        some = ".+" if known.startswith("/api/v1/images/") else "[^/]+"
        if re.fullmatch(re.sub(r"\{\w+\}", some, known), path):
            return str(known)
    return None


def conforms(method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """
    Check that a response is documented.

    @raise Undocumented: it is not.
    """
    if method == "HEAD" or status == 304:
        return
    known = path_of(method, path)
    if known is None:
        valid({"$ref": "#/components/schemas/Error"}, json.loads(body))
        return
    operation = api()["paths"][known][method.lower()]
    answer = operation["responses"].get(str(status))
    if answer is None:
        raise Undocumented(f"{method} {known} does not say that it may answer with {status}")
    media_type = next(value for name, value in headers.items() if name.lower() == "content-type")
    names = [media_type, media_type.partition(";")[0]]
    content = next((answer["content"][name] for name in names if name in answer["content"]), None)
    if content is None:
        raise Undocumented(f"{method} {known} does not say that it may answer with {media_type}")
    if media_type == "application/json":
        valid(content["schema"], json.loads(body))
    elif media_type == "application/x-ndjson":
        for line in filter(None, body.split(b"\n")):
            valid(content["schema"], json.loads(line))
