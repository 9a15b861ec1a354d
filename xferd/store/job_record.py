# -*- test-case-name: tests.store.test_job_record -*-
"""
Records of jobs as JSON, for the journal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from sqlite3 import PrepareProtocol
from typing import Any, Final

from attrs import frozen

MANY_LAYERS: Final = 200
"""Layers of a job from which on its record is not encoded in the reactor."""


@frozen
class LongRecord:
    """
    The record of a job with many layers, which is encoded by the thread that writes it.

    @ivar layers: its layers; neither they nor C{rest} change any more.
    @ivar rest: its other members.
    """

    layers: Sequence[Any]
    rest: Mapping[str, Any]

    def __conform__(self, protocol: object) -> str | None:
        """
        The record as JSON, as SQLite requests it (Python's C{sqlite3}, "How to write
        adaptable objects").  The lock of the interpreter is held for one layer at a
        time.
        """
        if protocol is not PrepareProtocol:
            return None
        return f'{json.dumps(self.rest)[:-1]}, "layers": [{", ".join(map(json.dumps, self.layers))}]}}'


def encode_record(record: Mapping[str, Any]) -> str | LongRecord:
    """
    Encode a record, which may change later; its layers may not.

    @return: a value for SQLite.
    """
    rest = dict(record)
    if len(rest.get("layers", ())) < MANY_LAYERS:
        return json.dumps(rest)
    return LongRecord(tuple(rest.pop("layers")), rest)
