"""
Tests for L{xferd.realms}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.names import Repository
from xferd.realms import POLICIES, listed, unlisted


class RealmTests(SynchronousTestCase):
    """
    Names in the catalog.
    """

    def test_names(self) -> None:
        """
        Each policy has names of its own, from which the repository is found again; what
        is public has the repository's name.
        """
        repository = Repository("r.example:5000", "team/app")
        names = {policy: listed(repository, policy) for policy in POLICIES}
        self.assertEqual(len(set(names.values())), len(POLICIES))
        self.assertEqual(names["public"], repository)
        for policy, name in names.items():
            self.assertEqual(unlisted(name), (repository, policy))
