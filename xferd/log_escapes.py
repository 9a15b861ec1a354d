# -*- test-case-name: tests.test_log_escapes -*-
"""
Log lines without control characters.

Errors quote registries, archives and clients, and are logged.  An escape sequence
in such text would act on the terminal that shows the log, and a line break would
look like another line of the log.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import ILogObserver, LogEvent, eventAsText, formatEvent
from zope.interface import provider

MAX_MESSAGE: Final = 8 * 1024
"""The most characters of an event's message, and of its traceback, in the log."""

_LINES = str.maketrans("", "", "\n\t")


@provider(ILogObserver)
def escape_event(event: LogEvent) -> None:
    """
    Replace the text of an event that is long or has unprintable characters.

    It must be the first observer of a publisher: it changes the event, so that
    every later observer writes the escaped text.  The line breaks of a traceback
    remain, as Twisted indents its lines; those of a message do not.
    """
    if _has_safe_fields(event):
        return
    message = formatEvent(event)
    trace = ""
    if event.get("log_failure") is not None:
        trace = eventAsText(event, includeTimestamp=False, includeSystem=False)[len(message) :]
        if event.get("isError"):
            # A legacy event has the traceback in its message.
            message, trace = "", message
    if _is_safe(message) and len(trace) <= MAX_MESSAGE and _is_safe(trace.translate(_LINES)):
        return
    text = _cut(escape(message)) + _cut("\n".join(escape(line) for line in trace.split("\n")))
    for key in ("log_failure", "failure", "format", "log_flattened"):
        event.pop(key, None)
    event["log_format"] = "{log_text}"
    event["log_text"] = text
    if event.get("message"):
        event["message"] = (text,)


def escape(text: str) -> str:
    """
    Escape unprintable characters, as C{\\x1b}: control characters, line breaks,
    surrogates, bidirectional overrides.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _has_safe_fields(event: LogEvent) -> bool:
    """
    Whether the fields of an event show that its text is safe, without formatting
    it: strings that are, and numbers.  Most events have no other fields.
    """
    form = event.get("log_format")
    if not isinstance(form, str) or "{log_" in form or "log_failure" in event or "log_flattened" in event:
        return False
    longest = 20
    for name, value in event.items():
        if isinstance(value, str):
            if not value.isprintable():
                return False
            longest = max(longest, len(value))
        elif not name.startswith("log_") and not isinstance(value, int | float):
            return False
    return len(form) + form.count("{") * longest <= MAX_MESSAGE


def _is_safe(text: str) -> bool:
    return len(text) <= MAX_MESSAGE and text.isprintable()


def _cut(text: str) -> str:
    """
    Truncate a text in the middle, to L{MAX_MESSAGE} characters.
    """
    if len(text) <= MAX_MESSAGE:
        return text
    kept = (MAX_MESSAGE - 5) // 2
    return f"{text[:kept]} ... {text[-kept:]}"
