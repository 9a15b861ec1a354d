# -*- test-case-name: tests.web.test_fields -*-
"""
The fields of request bodies: how each is read, and its JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve, field, frozen

from xferd.errors import BadInput
from xferd.interfaces.jobs import ALWAYS, REJOIN
from xferd.web.request import json_object, quoted

if TYPE_CHECKING:
    from twisted.web.server import Request

Schema = Mapping[str, Any]

MAX_REFERENCE: Final = 512
"""The longest reference, in characters: a repository, a tag and a digest fit."""

MAX_REFERENCES: Final = 100
"""The most references in one request, which fit into its body."""
MAX_TAG: Final = 128
MAX_TAGS: Final = 100
MAX_PLATFORM: Final = 64
MAX_PRIORITY: Final = 1000

MAX_SIZE: Final = (1 << 63) - 1
"""The largest archive, in bytes: the largest size of a file."""


@frozen
class Field:
    """
    A field of a request body.

    @ivar reader: checks a value that is not null; is called with the name and
        the value, and raises L{BadInput}.
    @ivar schema: the JSON Schema of a value that is not null.
    @ivar required: whether it may be neither absent nor null.
    @ivar default: the value where it is absent or null.
    """

    name: str
    reader: Callable[[str, Any], Any]
    schema: Schema = field(repr=False)
    required: bool = False
    default: object = None

    def read(self, value: object) -> Any:
        """
        Check a value.

        @raise BadInput: it is not valid.
        """
        if value is None and not self.required:
            return self.default
        return self.reader(self.name, value)

    def to_schema(self) -> Schema:
        """
        The JSON Schema of the field.
        """
        if self.required:
            return self.schema
        if "$ref" in self.schema:
            more = {name: value for name, value in self.schema.items() if name != "$ref"}
            return {"anyOf": [{"$ref": self.schema["$ref"]}, {"type": "null"}], **more}
        kinds = self.schema["type"]
        return {**self.schema, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}

    def described(self, description: str) -> Field:
        """
        The same field with another description.
        """
        return evolve(self, schema={**self.schema, "description": description})


class Body:
    """
    The body of one kind of request: a JSON object with these fields.
    """

    def __init__(self, noun: str, *fields: Field, kind: str = "") -> None:
        """
        @param noun: what it describes, for errors: "a pull".
        @param kind: the value of its field C{kind}; empty if it has none.
        """
        self._noun = noun
        self._fields = {field.name: field for field in fields}
        self._kind = kind

    @property
    def names(self) -> list[str]:
        """
        The names of its fields but C{kind}.
        """
        return list(self._fields)

    def read(self, request: Request) -> dict[str, Any]:
        """
        Read the body of a request.

        @return: the value of each field.
        @raise UnsupportedMediaType: its Content-Type is not JSON.
        @raise BadInput: it is not such an object.
        """
        return self.parse(json_object(request))

    def read_if_sent(self, request: Request) -> dict[str, Any]:
        """
        The same, where a request without a body has no fields.
        """
        assert request.content is not None
        sent = request.content.read(1)
        request.content.seek(0)
        return self.read(request) if sent else self.parse({})

    def parse(self, values: Mapping[str, object]) -> dict[str, Any]:
        """
        Check the values of all fields but C{kind}.

        @return: the value of each field.
        @raise BadInput: one is unknown, missing or not valid.
        """
        for name in values:
            if name not in self._fields:
                known = ", ".join([*(["kind"] if self._kind else []), *self._fields])
                raise BadInput(f"{self._noun} has no field {quoted(name)}; it has {known}")
        return {name: field.read(values.get(name)) for name, field in self._fields.items()}

    def to_schema(self) -> Schema:
        """
        The JSON Schema of the body.
        """
        kind = {"kind": {"type": "string", "const": self._kind}} if self._kind else {}
        required = [*kind, *(name for name, field in self._fields.items() if field.required)]
        return {
            "type": "object",
            "additionalProperties": False,
            **({"required": required} if required else {}),
            "properties": {**kind, **{name: field.to_schema() for name, field in self._fields.items()}},
        }


def rate(name: str, description: str) -> Field:
    """
    A field for a bandwidth: a number, a text or a timetable, which the jobs check.
    """
    kinds = ["integer", "string", "object"]
    return Field(name, lambda _, value: value, {"type": kinds, "description": description})


def flag(name: str, description: str = "", *, required: bool = False) -> Field:
    """
    Make a field that is true or false; by default false.
    """
    schema: Schema = {"type": "boolean", **({"description": description} if description else {})}
    return Field(name, _read_flag, schema, required, default=False)


def _read_reference(name: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_REFERENCE:
        raise BadInput(f"{name!r} must be the name of an image, 1 to {MAX_REFERENCE} characters long")
    return value


def _read_platform(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_PLATFORM:
        raise BadInput(f"{name!r} must be os/architecture[/variant], or null")
    return value


def _read_tags(name: str, value: object) -> tuple[str, ...]:
    if not (
        isinstance(value, list)
        and len(value) <= MAX_TAGS
        and all(isinstance(tag, str) and 0 < len(tag) <= MAX_TAG for tag in value)
    ):
        raise BadInput(
            f"{name!r} must be a list of at most {MAX_TAGS} tags, each 1 to {MAX_TAG} characters long"
        )
    return tuple(value)


def _read_references(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_REFERENCES:
        raise BadInput(f"{name!r} must be a list of at most {MAX_REFERENCES} names of images")
    return tuple(_read_reference(name, each) for each in value)


def _read_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadInput(f"{name!r} must be true or false")
    return value


def _read_size(name: str, value: object) -> int:
    # A boolean is an int, too.
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise BadInput(f"{name!r} must be a number of bytes")
    return value


def _read_priority(name: str, value: object) -> int:
    if type(value) is not int or abs(value) > MAX_PRIORITY:
        raise BadInput(f"{name!r} must be a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}")
    return value


OPTIONAL_REFERENCE: Final = Field(
    "reference",
    _read_reference,
    {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_REFERENCE,
        "description": "An image reference, by docker's rules: "
        "alpine, ghcr.io/owner/app:1.2, HOST/NAME@DIGEST.",
        "examples": ["registry.example.com/team/app:1.2"],
    },
)
WITHOUT: Final = Field(
    "without",
    _read_references,
    {
        "type": "array",
        "maxItems": MAX_REFERENCES,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_REFERENCE},
        "description": "With dry_run: report what would be freed if these images were removed, too.",
    },
    default=(),
)
REFERENCE: Final = evolve(OPTIONAL_REFERENCE, required=True)
PLATFORM: Final = Field(
    "platform",
    _read_platform,
    {
        "type": "string",
        "maxLength": MAX_PLATFORM,
        "description": "os/architecture[/variant]",
        "examples": ["linux/arm64"],
    },
)


def _read_restart(name: str, value: object) -> str:
    if value not in (ALWAYS, REJOIN):
        raise BadInput(f"{name!r} must be {ALWAYS!r} or {REJOIN!r}, not {quoted(value)}")
    return str(value)


RESTART: Final = Field(
    "restart",
    _read_restart,
    {
        "$ref": "#/components/schemas/Restart",
        "description": "Whether the job continues after a restart of the daemon by itself (always), or only "
        "if its client comes back within 60 s (rejoin).  The default is always for a request with an "
        "Idempotency-Key and for a prefetch, and rejoin for others.",
    },
)
PRIORITY: Final = Field(
    "priority",
    _read_priority,
    {
        "type": "integer",
        "minimum": -MAX_PRIORITY,
        "maximum": MAX_PRIORITY,
        "description": "Jobs with a higher priority precede others; 0 is the default.",
    },
    default=0,
)
TAGS: Final = Field(
    "tags",
    _read_tags,
    {
        "type": "array",
        "maxItems": MAX_TAGS,
        "items": {"type": "string", "minLength": 1, "maxLength": MAX_TAG},
        "description": "Additional tags at the destination.",
    },
    default=(),
)
OPTIONAL_SIZE: Final = Field(
    "size",
    _read_size,
    {
        "type": "integer",
        "minimum": 0,
        "maximum": MAX_SIZE,
        "description": "The size of the archive, in bytes.",
    },
)
SIZE: Final = evolve(OPTIONAL_SIZE, required=True)
