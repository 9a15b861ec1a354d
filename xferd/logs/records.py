# -*- test-case-name: tests.logs.test_records -*-
"""
Events of the log as records with fields.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from attrs import frozen
from twisted.logger import LogEvent, LogLevel, eventAsText, formatEvent
from twisted.python.failure import Failure

from xferd.log_escapes import escaped_text

MAX_TEXT: Final = 8 * 1024
"""The most characters of a field that is no number."""

_LEGACY: Final = frozenset({"system", "time", "isError", "message", "format", "failure", "why", "printed"})
"""Keys of events that L{twisted.python.log} makes."""

_PLAIN = str | int | float | bool | None


@frozen
class Record:
    """
    An event.

    @ivar time: seconds since the epoch.
    @ivar level: C{debug}, C{info}, C{warn}, C{error} or C{critical}.
    @ivar logger: the name of the class or module that wrote it.
    @ivar message: the text, in one line.
    @ivar traceback: the traceback, or empty.
    @ivar fields: the other values of the event, for JSON.
    """

    time: float
    level: str
    logger: str
    message: str
    traceback: str
    fields: dict[str, Any]


def record_of(event: LogEvent) -> Record:
    """
    The record of an event.
    """
    text = escaped_text(event)
    message, traceback = formatEvent(event) if text is None else text, ""
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        traceback = text[len(message) :].strip("\n") if text.startswith(message) else text
    level = event.get("log_level")
    return Record(
        time=event.get("log_time", 0.0),
        level=level.name if level is not None else LogLevel.info.name,
        logger=event.get("log_namespace", ""),
        message=message,
        traceback=traceback,
        fields={
            name: _plain(value)
            for name, value in event.items()
            if not name.startswith("log_") and name not in _LEGACY
        },
    )


def to_json(record: Record) -> dict[str, Any]:
    """
    A record as an object: its fields, and C{time}, C{level}, C{logger}, C{message} and, if
    there is one, C{traceback}.
    """
    moment = datetime.fromtimestamp(record.time, UTC).isoformat(timespec="milliseconds")
    return {
        **record.fields,
        "time": moment.replace("+00:00", "Z"),
        "level": record.level,
        "logger": record.logger,
        "message": record.message,
        **({"traceback": record.traceback} if record.traceback else {}),
    }


def _plain(value: object) -> Any:
    if isinstance(value, int | float | bool | None):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, _PLAIN) for each in value):
        return list(value)
    return str(value)[:MAX_TEXT]
