# -*- test-case-name: tests.logs.test_json_lines -*-
"""
The log as lines of JSON.
"""

from __future__ import annotations

import json
from typing import TextIO

from twisted.logger import ILogObserver, LogEvent
from zope.interface import implementer

from xferd.logs.records import record_of, to_json


@implementer(ILogObserver)
class JsonLines:
    """
    Writes each event as one line of JSON, in ASCII.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, event: LogEvent) -> None:
        """
        Write an event.
        """
        self._file.write(json.dumps(to_json(record_of(event)), default=str) + "\n")
        self._file.flush()
