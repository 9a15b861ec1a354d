# -*- test-case-name: tests.test_log_escapes -*-
"""
Log lines without control characters.

Registries, archives and clients have their words in errors, and errors are
logged.  An escape sequence in such a word would act on the terminal that shows
the log, and a line break would look like a line of xferd's own.
"""

from __future__ import annotations

from typing import Final

from twisted.logger import ILogObserver, LogEvent, eventAsText, formatEvent
from zope.interface import provider

MAX_MESSAGE: Final = 8 * 1024
"""Characters of one event's message, and of its traceback, that are logged."""

_LINES = str.maketrans("", "", "\n\t")


@provider(ILogObserver)
def escape_event(event: LogEvent) -> None:
    """
    Replace the text of an event where it is long or has characters that are
    not printable.

    Has to be the first observer of a publisher: the event itself is changed,
    so that every later observer writes the escaped text.  The lines of a
    traceback stay lines, which Twisted indents; those of a message do not.
    """
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
    A text with everything that is not printable as C{\\x1b}: control
    characters, line breaks, surrogates, bidirectional overrides.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _is_safe(text: str) -> bool:
    return len(text) <= MAX_MESSAGE and text.isprintable()


def _cut(text: str) -> str:
    """
    A text of at most L{MAX_MESSAGE} characters, without its middle if it is longer.
    """
    if len(text) <= MAX_MESSAGE:
        return text
    kept = (MAX_MESSAGE - 5) // 2
    return f"{text[:kept]} ... {text[-kept:]}"
