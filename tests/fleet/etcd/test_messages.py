"""
Tests for L{xferd.fleet.etcd.messages}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.fleet.etcd.messages import (
    BadAnswer,
    KeyValue,
    branch,
    counted,
    encoded,
    end_of,
    flag,
    key_values,
    member,
    members,
    number,
    responses,
    revision,
    text,
)

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kvs", "key", "value", "lease", "response_range", "response_txn", "responses"]),
            inner,
        )
    ),
    max_leaves=10,
)


class ReadTests(SynchronousTestCase):
    """
    Reading of responses.
    """

    def refused(self, read: Any, *arguments: Any) -> str:
        """
        Expect that something is refused.
        """
        return str(self.assertRaises(BadAnswer, read, *arguments))

    def test_absent(self) -> None:
        """
        Absent members are zero, false and empty.
        """
        self.assertEqual(0, number({}, "n"))
        self.assertIs(False, flag({}, "n"))
        self.assertEqual("", text({}, "n"))
        self.assertEqual({}, member({}, "n"))
        self.assertEqual([], members({}, "n", 1))
        self.assertEqual([], key_values({}, "/p/", 1))
        self.assertEqual(0, counted({"response_range": {}}))

    def test_numbers(self) -> None:
        """
        Numbers of 64 bits are texts, or numbers.
        """
        self.assertEqual(-5, number({"n": "-5"}, "n"))
        self.assertEqual(9223372036854775807, number({"n": "9223372036854775807"}, "n"))
        self.assertEqual(3, number({"n": 3}, "n"))
        wrong: Any
        for wrong in ("", "x", "1e3", "99999999999999999999999", "٣", 1.5, True, None, [], 1 << 70):
            self.refused(number, {"n": wrong}, "n")

    def test_wrong_types(self) -> None:
        """
        Members of other types are refused, by their names.
        """
        self.assertIn("'n'", self.refused(flag, {"n": "true"}, "n"))
        self.assertIn("'n'", self.refused(text, {"n": 1}, "n"))
        self.assertIn("'n'", self.refused(member, {"n": []}, "n"))
        self.assertIn("'n'", self.refused(members, {"n": [1]}, "n", 1))
        self.assertIn("2 items", self.refused(members, {"n": [{}, {}]}, "n", 1))
        self.refused(branch, {"response_range": {}})
        self.refused(revision, {"response_put": {}})
        self.refused(responses, {"responses": []}, 1)
        self.refused(responses, {"responses": [{}, {}]}, 1)

    def test_keys(self) -> None:
        """
        Keys are read with their values; those outside of the prefix are refused, and
        what is not base64 or not ASCII.
        """
        good = {"key": encoded("/p/a"), "value": encoded(b"\xff"), "lease": "7", "mod_revision": "9"}
        self.assertEqual(
            [KeyValue("/p/a", b"\xff", 7, 9)], key_values({"response_range": {"kvs": [good]}}, "/p/", 1)
        )
        for wrong in (
            good | {"key": encoded("/q/a")},
            good | {"key": encoded(b"/p/\xff")},
            good | {"key": "!!!"},
            good | {"value": "a"},
            good | {"value": "\u00e4"},
            good | {"lease": "x"},
        ):
            self.refused(key_values, {"response_range": {"kvs": [wrong]}}, "/p/", 1)

    @given(ANYTHING)
    def test_hostile(self, value: Any) -> None:
        """
        Whatever a response is, it is read or refused.
        """
        response = {"response_range": value, "response_txn": value, "responses": value}
        for read in (
            lambda: key_values(response, "/p/", 3),
            lambda: counted(response),
            lambda: branch(response),
            lambda: responses(response, 1),
        ):
            try:
                read()
            except BadAnswer:
                pass

    def test_end(self) -> None:
        """
        The end of a prefix is after all that begin with it.
        """
        self.assertEqual("/p0", end_of("/p/"))
