"""
Tests for L{xferd.v2.rights.rules}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.v2.rights.rules import Action, RightsRule, Rules


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
