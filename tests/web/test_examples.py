"""
Tests for L{xferd.web.examples}.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.web.conformance import Undocumented, api, valid
from xferd.web.examples import EXAMPLES, REFUSED, TEXTS, example_of
from xferd.web.openapi import REFUSALS
from xferd.web.responses import CODES
from xferd.web.schemas import array, ref


def _answers() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """
    Each answer of the document: its place, its media type, and its schema with the example.
    """
    for path, methods in api()["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                for media_type, content in answer["content"].items():
                    yield f"{method} {path}: {status}", media_type, content


class ExampleTests(SynchronousTestCase):
    """
    Each answer has an example, which its schema describes.
    """

    def test_valid(self) -> None:
        """
        An example is valid by the schema of its answer, which permits no other members.
        """
        checked = 0
        for place, media_type, content in _answers():
            self.assertIn("example", content, f"{place} has no example: add one to xferd/web/examples.py")
            if media_type in ("application/json", "application/x-ndjson"):
                try:
                    valid(content["schema"], content["example"])
                except Undocumented as e:
                    self.fail(f"the example of {place} in xferd/web/examples.py: {e}")
                checked += 1
        self.assertGreater(checked, 250)

    def test_strict(self) -> None:
        """
        An example with a missing member, or with another one, is found.
        """
        well = EXAMPLES["Well"]
        valid(ref("Well"), well)
        self.assertRaises(Undocumented, valid, ref("Well"), {})
        self.assertRaises(Undocumented, valid, ref("Well"), {**well, "more": 1})

    def test_used(self) -> None:
        """
        Each example belongs to an answer.
        """
        shown = [(media_type, content["example"]) for _, media_type, content in _answers()]
        values = [example for _, example in shown]
        for name, example in EXAMPLES.items():
            self.assertTrue(example in values or [example] in values, name)
        self.assertEqual(set(TEXTS) - {media_type for media_type, _ in shown}, set())
        self.assertEqual(set(REFUSED), set(REFUSALS))

    def test_made(self) -> None:
        """
        The example of an array has one item.
        """
        self.assertEqual(example_of(array(ref("Well"))), [{"status": "ok"}])
        self.assertRaises(KeyError, example_of, ref("Nothing"))


class NameTests(SynchronousTestCase):
    """
    What generators of clients need.
    """

    def test_tags(self) -> None:
        """
        Each operation belongs to one group, which is described; no group is empty.
        """
        known = {tag["name"] for tag in api()["tags"]}
        used = [o["tags"] for methods in api()["paths"].values() for o in methods.values()]
        self.assertTrue(all(len(tags) == 1 for tags in used))
        self.assertEqual({tag for tags in used for tag in tags}, known)

    def test_discriminators(self) -> None:
        """
        The member C{kind} selects the schema of a request for a job, and of an event.
        """
        schemas = api()["components"]["schemas"]
        for name in ("JobRequest", "Event"):
            mapping = schemas[name]["discriminator"]["mapping"]
            self.assertEqual(
                sorted(mapping.values()), sorted(each["$ref"] for each in schemas[name]["oneOf"])
            )
            for kind, reference in mapping.items():
                named = schemas[reference.rpartition("/")[2]]
                self.assertEqual(named["properties"]["kind"], {"type": "string", "const": kind})
                self.assertIn("kind", named["required"])

    def test_named(self) -> None:
        """
        No object with members of its own is described within another one.
        """

        def nested(schema: Any, depth: int) -> Iterator[Any]:
            if isinstance(schema, dict):
                if depth and schema.get("type") == "object" and "properties" in schema:
                    yield schema
                for value in schema.values():
                    yield from nested(value, depth + 1)
            elif isinstance(schema, list):
                for value in schema:
                    yield from nested(value, depth)

        for name, schema in api()["components"]["schemas"].items():
            self.assertEqual(list(nested(schema, 0)), [], name)

    def test_codes(self) -> None:
        """
        The codes of errors are an enumeration without repetitions.
        """
        self.assertEqual(api()["components"]["schemas"]["ErrorCode"]["enum"], list(CODES))
        self.assertEqual(len(set(CODES)), len(CODES))
        self.assertLessEqual({"INTERNAL", "DISK_FULL", "UNAUTHORIZED", "CANCELLED"}, set(CODES))
