"""
Tests for L{xferd.v2.rights.rules}.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from xferd.v2.rights.rules import Action, RightsRule, Rules, matches_any


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


class RulesTests(SynchronousTestCase):
    """
    Rights of users.
    """

    def test_users(self) -> None:
        """
        A rule is for the users that it names; C{*} stands for all users, and
        C{anonymous} for all clients.
        """
        for named, user, allowed in (
            (("ann",), "ann", True),
            (("ann",), "bob", False),
            (("ann",), "", False),
            (("*",), "bob", True),
            (("*",), "", False),
            (("anonymous",), "", True),
            (("anonymous",), "bob", True),
        ):
            rules = Rules([RightsRule(named, ("local/**",), ("pull",))])
            self.assertEqual(rules.allow(user, "local/app", Action.PULL), allowed, (named, user))

    def test_actions(self) -> None:
        """
        Each action is a right of its own, and rules add up.
        """
        rules = Rules(
            [RightsRule(("ann",), ("local/**",), ("pull",)), RightsRule(("ann",), ("local/a",), ("push",))]
        )
        found = {(n, a) for n in ("local/a", "local/b") for a in Action if rules.allow("ann", n, a)}
        self.assertEqual(
            found, {("local/a", Action.PULL), ("local/a", Action.PUSH), ("local/b", Action.PULL)}
        )
        self.assertFalse(Rules([]).allow("ann", "local/a", Action.PULL))
