"""
Tests for L{xferd.engines.containers_storage.created}.
"""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from xferd.engines.containers_storage.created import UNKNOWN, created_of


class CreatedTests(SynchronousTestCase):
    """
    The time at which an image was created.
    """

    def test_forms(self) -> None:
        """
        Times of any zone and precision are in UTC, with microseconds.
        """
        for given, expected in (
            ("2024-02-03T04:05:06Z", "2024-02-03T04:05:06.000000Z"),
            ("2024-02-03T04:05:06.123456789Z", "2024-02-03T04:05:06.123456Z"),
            ("2024-02-03T04:05:06+02:00", "2024-02-03T02:05:06.000000Z"),
            ("2024-02-03T04:05:06", "2024-02-03T04:05:06.000000Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
        ):
            self.assertEqual(created_of(json.dumps({"created": given}).encode()), expected)

    def test_unknown(self) -> None:
        """
        A text that is not a time, or not one that engines can read, is not passed on.
        """
        for config in (
            b"{}",
            b"no json",
            b"[]",
            b'{"created": null}',
            b'{"created": 7}',
            b'{"created": "yesterday"}',
            b'{"created": "0001-01-01T00:00:00+10:00"}',
            b'{"created": "\\ud800"}',
            b"[" * 100_000,
        ):
            self.assertEqual(created_of(config), UNKNOWN)
