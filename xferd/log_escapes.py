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

_CALL: Final = "()"
"""In a format, calls a field: Twisted's own addition to Python's formats."""

_OTHERS: Final = frozenset({"log_failure", "log_flattened", "log_text", "isError", "message", "format"})
"""The names of fields of events whose text is made otherwise."""

_LINES = str.maketrans("", "", "\n\t")

_ESCAPED: Final = "{log_text}"
"""The format of events whose text was made here."""


@provider(ILogObserver)
def escape_event(event: LogEvent) -> None:
    """
    Replace the text of an event that is long or has unprintable characters.

    It must be the first observer of a publisher: it changes the event, so that
    every later observer writes the escaped text.  The line breaks of a traceback
    remain, as Twisted indents its lines; those of a message do not.

    A text that Python can format is made here, once: Twisted takes fifteen times as long.
    """
    plain = _plain_text(event)
    if plain is not None and _is_safe(plain):
        event["log_format"], event["log_text"] = _ESCAPED, plain
        return
    message = formatEvent(event) if plain is None else plain
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
    event["log_format"], event["log_text"] = _ESCAPED, text
    if event.get("message"):
        event["message"] = (text,)


def escaped_text(event: LogEvent) -> str | None:
    """
    The text of an event, with its traceback, if L{escape_event} has made it.
    """
    text = event.get("log_text")
    made = event.get("log_format") == _ESCAPED and "log_failure" not in event
    return text if made and isinstance(text, str) else None


def escape(text: str) -> str:
    """
    Escape unprintable characters, as C{\\x1b}: control characters, line breaks,
    surrogates, bidirectional overrides.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _plain_text(event: LogEvent) -> str | None:
    """
    The text of an event whose format is one of Python's; L{None} for other events.
    """
    form = event.get("log_format")
    if not isinstance(form, str) or _CALL in form or not _OTHERS.isdisjoint(event):
        return None
    try:
        return form.format_map(event)
    except Exception:
        # Twisted describes an event that cannot be formatted.
        return None


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
