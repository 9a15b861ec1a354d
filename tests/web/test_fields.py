"""
Tests for L{xferd.web.fields}.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from xferd.errors import BadInput
from xferd.web.fields import MAX_SIZE
from xferd.web.job_request import COLLECTION, KINDS_OF_JOBS, NEW_NAME, PIN
from xferd.web.schemas import SCHEMAS

BODIES = [*(body for _, body in KINDS_OF_JOBS.values()), NEW_NAME, PIN, COLLECTION]
NAMES = sorted({name for body in BODIES for name in body.names})
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2000, 2000)
    | st.sampled_from([-1, MAX_SIZE, MAX_SIZE + 1])
    | st.text(max_size=4)
    | st.sampled_from(["x" * 512, "x" * 513, "linux/arm64"])
    | st.lists(st.text(max_size=2), max_size=3)
)


class BodyTests(SynchronousTestCase):
    """
    Tests for L{Body}.
    """

    @given(st.sampled_from(BODIES), st.dictionaries(st.sampled_from([*NAMES, "other"]), VALUES, max_size=4))
    def test_schema(self, body: Any, values: dict[str, object]) -> None:
        """
        A body is accepted if and only if its schema allows it.
        """
        # It refers to named schemas of the document.
        schema = {**body.to_schema(), "components": {"schemas": SCHEMAS}}
        kind = schema["properties"].get("kind")
        whole = {**values, **({} if kind is None else {"kind": kind["const"]})}
        # JSON Schema accepts 1.0 as an integer; no value here is a float.
        allowed = Draft202012Validator(schema).is_valid(whole)
        try:
            read = body.parse(values)
        except BadInput:
            self.assertFalse(allowed, whole)
        else:
            self.assertTrue(allowed, whole)
            self.assertEqual(list(read), body.names)

    def test_defaults(self) -> None:
        """
        A field that is absent or null has its default.
        """
        push = KINDS_OF_JOBS["push"][1]
        expected = {"reference": "a", "target": None, "tags": (), "platform": None, "priority": 0}
        expected["restart"] = None
        for values in ({}, dict.fromkeys(("target", "tags", "platform", "priority", "restart"))):
            self.assertEqual(push.parse({"reference": "a", **values}), expected)
        self.assertEqual(COLLECTION.parse({}), {"dry_run": False, "partials": False, "without": ()})

    def test_unknown(self) -> None:
        """
        An unknown field is refused with the names of the known ones.
        """
        error = self.assertRaises(BadInput, NEW_NAME.parse, {"reference": "a", "tag": "b"})
        self.assertEqual(str(error), 'a new name has no field "tag"; it has reference')
        error = self.assertRaises(BadInput, KINDS_OF_JOBS["import"][1].parse, {"tag": "b"})
        self.assertIn("an import has no field", str(error))

    def test_required(self) -> None:
        """
        A required field may be neither absent nor null.
        """
        for values in ({}, {"pinned": None}):
            error = self.assertRaises(BadInput, PIN.parse, values)
            self.assertEqual(str(error), "'pinned' must be true or false")
