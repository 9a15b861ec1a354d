"""
Tests for L{xferd.realms}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from xferd.names import Repository
from xferd.realms import POLICIES, PUBLIC, host_of, listed, origin, unlisted


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

    def test_origins(self) -> None:
        """
        The origin of bytes that need credentials names their repository; a public one
        names none.
        """
        repository = Repository("r.example:5000", "team/app")
        self.assertEqual(origin(repository, anonymous=True), PUBLIC)
        private = origin(repository, anonymous=False)
        self.assertNotIn(private, [str(listed(repository, policy)) for policy in POLICIES])
        hosts = [host_of(each) for each in (private, str(listed(repository, "pass")), PUBLIC, "")]
        self.assertEqual(hosts, ["r.example:5000", "r.example:5000", "", ""])
