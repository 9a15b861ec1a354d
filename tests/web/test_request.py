"""
Tests for L{xferd.web.request} and L{xferd.web.job_request}: the bodies of
requests, and their errors.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.web.world import World
from xferd.web.fields import MAX_PRIORITY, MAX_REFERENCE

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def pull(**fields: Any) -> dict[str, Any]:
    """
    The body of a pull.
    """
    return {"kind": "pull", "reference": "alpine", **fields}


def push(**fields: Any) -> dict[str, Any]:
    """
    The body of a push.
    """
    return {"kind": "push", "reference": "alpine", **fields}


def copy(**fields: Any) -> dict[str, Any]:
    """
    The body of a copy.
    """
    return {"kind": "copy", "reference": "alpine", "target": "quay.io/me/alpine", **fields}


class BodyTests(SynchronousTestCase):
    """
    The body of C{POST /api/v1/jobs}.
    """

    def setUp(self) -> None:
        """
        Make the server.
        """
        self.world = World()

    def assert_refused(self, value: object, words: str) -> None:
        """
        Check that a body is refused with a sentence that contains some words.
        """
        answer = self.world.post(value)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_INPUT"), value)
        self.assertIn(words, answer.json()["error"]["message"])
        self.assertEqual(self.world.jobs.known, {})

    def test_refused(self) -> None:
        """
        The error names each invalid field.
        """
        for value, words in [
            ([], "not a JSON object"),
            ("pull", "not a JSON object"),
            ({}, "'kind' must be 'pull', 'push', 'copy', 'import', 'prefetch' or 'verify', not null"),
            (
                pull(kind="move"),
                "'kind' must be 'pull', 'push', 'copy', 'import', 'prefetch' or 'verify', not \"move\"",
            ),
            (pull(kind=["x" * 100]), "…"),
            ({"kind": "pull"}, "'reference'"),
            (pull(reference=""), "'reference'"),
            (pull(reference=7), "'reference'"),
            (pull(reference="a" * (MAX_REFERENCE + 1)), "'reference'"),
            (pull(platform=7), "'platform'"),
            (pull(platform="a" * 65), "'platform'"),
            (pull(priority="1"), "'priority'"),
            (pull(priority=1.5), "'priority'"),
            (pull(priority=True), "'priority'"),
            (pull(priority=MAX_PRIORITY + 1), "'priority'"),
            (pull(tag="x"), 'a pull has no field "tag"; it has kind, reference, platform, priority'),
            (push(target=""), "'target'"),
            (push(target=["a"]), "'target'"),
            (push(priority="high"), "'priority'"),
            (push(platform=7), "'platform'"),
            (push(tags="1"), "'tags'"),
            (push(tags=[1]), "'tags'"),
            (push(tags=["1", ""]), "'tags'"),
            (push(tags=["x" * 129]), "'tags'"),
            (push(tags=["x"] * 101), "'tags'"),
            (copy(target=None), "'target'"),
            (copy(target="a" * (MAX_REFERENCE + 1)), "'target'"),
            (copy(platform=7), "'platform'"),
            (copy(referrers="yes"), "'referrers' must be true or false"),
            (copy(referrers=1), "'referrers'"),
        ]:
            self.assert_refused(value, words)

    def test_misplaced(self) -> None:
        """
        A field of another kind of job is refused with the fields of this kind,
        instead of being ignored.
        """
        for value, words in [
            (pull(target="a"), 'a pull has no field "target"'),
            (pull(referrers=None), 'a pull has no field "referrers"'),
            (
                push(tag="1"),
                'a push has no field "tag"; it has kind, reference, target, tags, platform, priority',
            ),
            (push(referrers=True), 'a push has no field "referrers"'),
            (copy(source="a"), 'a copy has no field "source"'),
        ]:
            self.assert_refused(value, words)

    def test_no_json(self) -> None:
        """
        Bytes that are not JSON, JSON that is nested too deeply, and JSON that
        UTF-8 cannot encode, are refused.
        """
        half = b'{"kind": "pull", "reference": "alpine", "platform": "\\ud800"}'
        for body in (b"", b"{", b"\xff\xfe", b"[" * 16000, b'{"kind": "pull"} x', half):
            answer = self.world.ask("POST", "/api/v1/jobs", body)
            self.assertEqual((answer.status, answer.json()["error"]["code"]), (400, "BAD_INPUT"), body[:20])
            self.assertEqual(answer.json()["error"]["message"], "the body is not JSON", body[:20])

    def test_null(self) -> None:
        """
        Null selects the default.
        """
        answer = self.world.post(pull(platform=None, priority=None))
        self.assertEqual(answer.status, 202)
        self.assertEqual(self.world.jobs.pulled, [("alpine", None, "127.0.0.1", 0)])
        self.world.post(push(target=None, tags=None, platform=None, priority=None))
        self.assertEqual(self.world.jobs.pushed, [("alpine", None, (), None, "127.0.0.1", 0)])
        self.world.post(copy(platform=None, referrers=None, priority=None))
        self.assertEqual(
            self.world.jobs.copied, [("alpine", "quay.io/me/alpine", None, False, "127.0.0.1", 0)]
        )

    def test_media_type(self) -> None:
        """
        Parameters and capitals of the media type do not matter.
        """
        answer = self.world.ask(
            "POST",
            "/api/v1/jobs",
            json.dumps(pull()).encode(),
            {"Content-Type": "Application/JSON; charset=utf-8"},
        )
        self.assertEqual(answer.status, 202)

    @settings(max_examples=100, deadline=None)
    @given(JSON)
    def test_anything(self, value: object) -> None:
        """
        Every JSON value is accepted, or refused in one line.
        """
        answer = self.world.post(value)
        self.assertEqual(answer.status, 400)
        self.assertEqual(len(answer.json()["error"]["message"].splitlines()), 1)


class ClientTests(SynchronousTestCase):
    """
    The name of a client.
    """

    def test_names(self) -> None:
        """
        A name is short and plain; anything else is refused.
        """
        for name, status in [
            ("ci", 202),
            ("user@host:1234/a+b", 202),
            ("a" * 64, 202),
            ("a" * 65, 400),
            ("", 400),
            ("-x", 400),
            ("a b", 400),
            ("<b>", 400),
            ("é", 400),
        ]:
            answer = World().ask(
                "POST", "/api/v1/jobs", json.dumps(pull()).encode(), {"X-Xferd-Client": name}
            )
            self.assertEqual(answer.status, status, name)
