"""
Tests for L{xferd.json_encoding}.
"""

from __future__ import annotations

import json
from types import MappingProxyType

from twisted.trial.unittest import SynchronousTestCase

from xferd.json_encoding import Encoded, encode, encode_list, from_rfc3339, rfc3339


class EncodeTests(SynchronousTestCase):
    """
    Values as JSON.
    """

    def test_mapping(self) -> None:
        """
        Any Mapping is an object, and a tuple a list.
        """
        value: object = MappingProxyType({"a": (1, MappingProxyType({}))})
        self.assertEqual(json.loads(encode(value)), {"a": [1, {}]})

    def test_other(self) -> None:
        """
        A value without a form in JSON is a bug, and not converted to text.
        """
        self.assertRaises(TypeError, encode, {"a": object()})

    def test_lone_surrogate(self) -> None:
        """
        Text that UTF-8 cannot represent is escaped, as all that is not ASCII.
        """
        self.assertEqual(encode("\ud800\u2028"), rb'"\ud800\u2028"')


class TimeTests(SynchronousTestCase):
    """
    Points in time.
    """

    def test_both_ways(self) -> None:
        """
        A time is written in UTC with milliseconds, and read with any offset; other text is
        refused.
        """
        for seconds, stamp in (
            (1767323047.68, "2026-01-02T03:04:07.680Z"),
            (1767323047.0, "2026-01-02T03:04:07.000Z"),
            (1767323047.9996, "2026-01-02T03:04:07.999Z"),
            (1767323048.001, "2026-01-02T03:04:08.001Z"),
            (-0.5, "1969-12-31T23:59:59.500Z"),
        ):
            self.assertEqual(rfc3339(seconds), stamp)
        self.assertEqual(from_rfc3339("2026-01-02T03:04:07.680Z"), 1767323047.68)
        self.assertEqual(from_rfc3339("2026-01-02T05:04:07.680+02:00"), 1767323047.68)
        self.assertRaises(ValueError, from_rfc3339, "yesterday")


class ListTests(SynchronousTestCase):
    """
    Lists of objects.
    """

    def test_values(self) -> None:
        """
        The encoding is that of a list of values.
        """
        for values in ([], [1], [{"a": 1}, Encoded(b="x"), None]):
            self.assertEqual(encode_list(values), encode(values))

    def test_once(self) -> None:
        """
        An object that keeps its encoding is encoded once.
        """
        kept = Encoded(a=1)
        self.assertIs(kept.encoding, kept.encoding)
        kept["a"] = 2
        self.assertEqual(encode_list([kept, dict(kept)]), b'[{"a":1},{"a":2}]')
        self.assertEqual(Encoded(a=1).encoding, b'{"a":1}')
