"""
Tests for L{xferd.jobs.mirror.repositories}.
"""

from __future__ import annotations

from tests.jobs.case import JobsCase
from xferd.interfaces.catalog import LOCAL_HOST, CatalogManifest
from xferd.interfaces.job_json import RepositoryJSON
from xferd.jobs.mirror.keep_rules import KeepRule
from xferd.jobs.mirror.keeper import Keeper
from xferd.jobs.mirror.repositories import list_repositories
from xferd.media_types import OCI_MANIFEST
from xferd.names import Digest, Repository
from xferd.oci import Descriptor

APP, OWN = Repository("ghcr.io", "org/app"), Repository(LOCAL_HOST, "local/app")


class RepositoriesTests(JobsCase):
    """
    The list of repositories.
    """

    def listed(self, *rules: KeepRule, quota: int = 0) -> list[RepositoryJSON]:
        """
        The list under rules.
        """
        keeper = Keeper(self.store, rules, clock=self.clock, wall_clock=self.wall_clock)
        return list_repositories(self.store.catalog, keeper.kept(), rules, quota)

    def put(self, repository: Repository, name: str, *tags: str) -> None:
        """
        List a manifest of 10 bytes that shares a blob of 100.
        """
        manifest = CatalogManifest(
            Descriptor(OCI_MANIFEST, Digest.of(name.encode()), 10),
            (Descriptor("", Digest.of(b"shared"), 100),),
        )
        putting = self.store.catalog.put_manifest(repository, manifest, tags, 0.0)
        self.settle()
        self.successResultOf(putting)

    def test_listed(self) -> None:
        """
        Each has its tags, manifests, and bytes, shared blobs once.
        """
        self.assertEqual(self.listed(), [])
        self.put(APP, "one", "1", "latest")
        self.put(APP, "two")
        self.put(OWN, "own", "1")
        app, own = self.listed()
        self.assertEqual(
            (app["name"], app["own"], app["tags"], app["manifests"], app["size"]),
            ("ghcr.io/org/app", False, 2, 2, 120),
        )
        self.assertEqual((own["name"], own["own"], own["kept"]), ("local/app", True, ["it was pushed here"]))
        self.assertIsNotNone(own["used"])

    def test_policies(self) -> None:
        """
        Content that came by different policies is listed apart, under the upstream's
        name; a rule for the name is for all of it.
        """
        self.put(APP, "one")
        self.put(Repository("account@ghcr.io", "org/app"), "two")
        account, public = self.listed(KeepRule(("ghcr.io/**",), days=3))
        self.assertEqual((account["name"], account["policy"]), ("ghcr.io/org/app", "account"))
        self.assertEqual((public["name"], public["policy"]), ("ghcr.io/org/app", "public"))
        for repository in (account, public):
            self.assertEqual(repository["kept"], ["for 3 days after its last use (rule ghcr.io/**)"])

    def test_why(self) -> None:
        """
        The reason names the rule and its limits, and the quota where that counts.
        """
        self.put(APP, "one", "1")
        self.put(APP, "two", "2")
        for rules, quota, why in (
            ((), 0, ["for good"]),
            ((), 9, ["until the quota needs its space"]),
            ((KeepRule(("ghcr.io/**",), always=True),), 9, ["for good (rule ghcr.io/**)"]),
            (
                (KeepRule(("**",), ("1",), days=1.5, size=7),),
                9,
                [
                    (
                        "for 1.5 days after its last use and while all content of its rule has at most "
                        "7 bytes and until the quota needs its space (rule ** with tags 1)"
                    ),
                    "until the quota needs its space",
                ],
            ),
        ):
            (found,) = self.listed(*rules, quota=quota)
            self.assertEqual(found["kept"], why)
