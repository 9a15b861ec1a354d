"""
Tests for L{xferd.store.job_record}.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from xferd.store.job_record import MANY_LAYERS, LongRecord, encode_record


def record(layers: int) -> dict[str, Any]:
    """
    A job with some layers.
    """
    return {
        "id": "1",
        "reference": "r.test/\u00e9:1",
        "layers": [{"index": n, "why": "\u2028"} for n in range(layers)],
        "transfers": [],
    }


class EncodeTests(SynchronousTestCase):
    """
    L{encode_record} makes the same JSON of all records.
    """

    def test_stored(self) -> None:
        """
        SQLite stores short and long records as text.
        """
        with closing(sqlite3.connect(":memory:")) as database:
            for layers in (0, 1, MANY_LAYERS - 1, MANY_LAYERS, 3 * MANY_LAYERS):
                encoded = encode_record(record(layers))
                ((kind, text),) = database.execute("SELECT typeof(:r), :r", {"r": encoded})
                self.assertEqual((kind, json.loads(text)), ("text", record(layers)))
                # As the journal looks for unfinished jobs.
                self.assertIn(json.dumps({"reference": "r.test/\u00e9:1"})[1:-1], text)

    def test_none(self) -> None:
        """
        The first record of a job has no layers.
        """
        self.assertEqual(encode_record({"id": "1"}), '{"id": "1"}')

    def test_later(self) -> None:
        """
        Long records are encoded when they are written, as they were before.
        """
        changing = record(MANY_LAYERS)
        encoded = encode_record(changing)
        changing["id"] = "2"
        changing["layers"].clear()
        assert isinstance(encoded, LongRecord)
        self.assertEqual(json.loads(encoded.__conform__(sqlite3.PrepareProtocol) or ""), record(MANY_LAYERS))
        self.assertIsNone(encoded.__conform__(str))
