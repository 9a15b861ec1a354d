"""
Tests for L{xferd.patterns}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.patterns import is_pattern, matches_any


class PatternTests(SynchronousTestCase):
    """
    Patterns of names.
    """

    def test_matches(self) -> None:
        """
        C{*} stays within a component, C{**} crosses them, and all other characters
        stand for themselves.
        """
        for pattern, name, matches in (
            ("local/app", "local/app", True),
            ("local/app", "local/apps", False),
            ("local/app", "a/local/app", False),
            ("local/*", "local/app", True),
            ("local/*", "local/team/app", False),
            ("local/**", "local/team/app", True),
            ("local/**", "locale/app", False),
            ("local/a.p", "local/app", False),
            ("local/ap?", "local/app", True),
            ("local/ap?", "local/ap/", False),
            ("**", "docker.io/library/alpine", True),
            ("**/app", "local/team/app", True),
        ):
            self.assertEqual(matches_any([pattern], name), matches, (pattern, name))

    @given(st.text(alphabet="ab/.*?", max_size=12), st.text(alphabet="ab/.", max_size=12))
    def test_any(self, pattern: str, name: str) -> None:
        """
        Every pattern can be used, and a name without wildcards matches itself alone.
        """
        matches = matches_any([pattern], name)
        if not set("*?") & set(pattern):
            self.assertEqual(matches, pattern == name)

    def test_characters(self) -> None:
        """
        A pattern has the characters of names, and wildcards.
        """
        for text, right in (
            ("registry.example:5000/a_b/**", True),
            ("", False),
            ("a b", False),
            ("a@b", False),
        ):
            self.assertEqual(is_pattern(text), right, text)
