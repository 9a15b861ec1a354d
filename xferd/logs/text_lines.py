# -*- test-case-name: tests.logs.test_text_lines -*-
"""
The log as lines of text, as C{twistd} writes them, with a fourth of its work: requests
that change something have one line each.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TextIO

from twisted.logger import FileLogObserver, LogEvent, formatEventAsClassicLogText, formatTime

from xferd.log_escapes import escaped_text


def text_lines(file: TextIO) -> FileLogObserver:
    """
    An observer that writes each event to a file.
    """
    return FileLogObserver(file, _line)


def _line(event: LogEvent) -> str | None:
    """
    The line of an event; L{None} if it has no text.
    """
    text, level = escaped_text(event), event.get("log_level")
    if not text or level is None or "log_system" in event:
        return formatEventAsClassicLogText(event)
    indented = text.replace("\n", "\n\t")
    return f"{_time(int(event['log_time']))} [{event['log_namespace']}#{level.name}] {indented}\n"


@lru_cache(maxsize=1)
def _time(second: int) -> str:
    return formatTime(second)
