"""
Tests for L{xferd.jobs.mirror.keeper}.
"""

from __future__ import annotations

from tests.jobs.case import HOST, JobsCase
from xferd.errors import StoreError
from xferd.interfaces.catalog import LOCAL_HOST
from xferd.jobs.manager import Jobs
from xferd.jobs.mirror.entries import catalog_entry
from xferd.jobs.mirror.keep_rules import DAY, KeepRule
from xferd.jobs.mirror.keeper import INTERVAL, Keeper
from xferd.names import Digest, Repository
from xferd.testing.images import SampleImage, sample_image

APP = Repository(HOST, "app")


class KeeperTests(JobsCase):
    """
    Mirrored content under rules.
    """

    def keeper(self, *rules: KeepRule) -> Keeper:
        """
        A keeper of the store, which is stopped at the end.
        """
        keeper = Keeper(self.store, rules, clock=self.clock, wall_clock=lambda: 500 * DAY)
        self.addCleanup(self.stop_keeper, keeper)
        return keeper

    def stop_keeper(self, keeper: Keeper) -> None:
        """
        Stop a keeper.
        """
        stopping = keeper.stop()
        self.settle()
        self.successResultOf(stopping)

    def mirror(self, seed: str, tag: str, repository: Repository = APP) -> SampleImage:
        """
        Put an image into the store and a repository of the catalog.
        """
        image = sample_image(1, seed=seed)
        for digest, data in (
            (image.digest, image.manifest.data),
            *((blob.digest, blob.read()) for blob in image.blobs),
        ):
            self.store.blobs.contents[digest] = data
        putting = self.store.catalog.put_manifest(repository, catalog_entry(image.manifest), [tag], 0.0)
        self.settle()
        self.successResultOf(putting)
        return image

    def has(self, image: SampleImage, repository: Repository = APP) -> tuple[bool, bool]:
        """
        Whether the catalog lists an image, and the store has its layer.
        """
        digest: Digest = image.blobs[-1].digest
        listed = self.store.catalog.manifest(repository, image.digest) is not None
        return listed, digest in self.store.blobs.contents

    def test_removed(self) -> None:
        """
        What a rule removes is freed, at the start and each hour; what was pushed
        stays.
        """
        old, own = self.mirror("old", "old"), self.mirror("own", "old", Repository(LOCAL_HOST, "local/app"))
        keeper = self.keeper(KeepRule(("**",), days=30.0))
        keeper.start()
        self.settle()
        self.assertEqual(self.has(old), (False, False))
        self.assertEqual(self.has(own, Repository(LOCAL_HOST, "local/app")), (True, True))
        later = self.mirror("later", "later")
        self.assertEqual(self.has(later), (True, True))
        self.clock.advance(INTERVAL)
        self.settle()
        self.assertEqual(self.has(later), (False, False))

    def test_no_rules(self) -> None:
        """
        Without limits nothing is looked at.
        """
        old = self.mirror("old", "old")
        self.keeper(KeepRule(("**",), always=True)).start()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.has(old), (True, True))

    def test_disk_refuses(self) -> None:
        """
        An error is logged, and the next hour tries again.
        """
        old = self.mirror("old", "old")
        self.store.gate.fail("gc.collect", StoreError("the disk refuses"))
        self.keeper(KeepRule(("**",), days=1.0)).start()
        self.settle()
        self.assertEqual(self.has(old), (False, True))
        self.mirror("next", "next")
        self.clock.advance(INTERVAL)
        self.settle()
        self.assertEqual(self.has(old), (False, False))

    def test_reloaded(self) -> None:
        """
        New rules apply at once, also if no earlier rule had a limit, and the hour starts again.
        Without limits, the content is not checked again.
        """
        old = self.mirror("old", "old")
        keeper = self.keeper()
        keeper.reload([KeepRule(("other",), days=1.0)])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        keeper.start()
        self.settle()
        self.assertEqual(self.has(old), (True, True))
        self.clock.advance(INTERVAL / 2)
        for _ in range(2):
            keeper.reload([KeepRule(("**",), days=1.0)])
            self.settle()
        self.assertEqual(self.has(old), (False, False))
        self.mirror("next", "next")
        self.clock.advance(INTERVAL - 1)
        self.settle()
        self.assertTrue(self.store.catalog.repositories())
        self.clock.advance(1)
        self.settle()
        self.assertFalse(self.store.catalog.repositories())
        keeper.reload([KeepRule(("**",), always=True)])
        self.settle()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_first_rule(self) -> None:
        """
        A limit that is the first one begins to apply.
        """
        old = self.mirror("old", "old")
        keeper = self.keeper(KeepRule(("**",), always=True))
        keeper.start()
        keeper.reload([KeepRule(("**",), size=1)])
        self.settle()
        self.assertEqual(self.has(old), (False, False))
        self.assertFalse(keeper.spared()(APP, old.digest))

    def test_reloaded_meanwhile(self) -> None:
        """
        Rules that change while something is being removed apply after that, and not in a
        keeper that was stopped.
        """
        one, two = self.mirror("one", "one"), self.mirror("two", "two")
        keeper = self.keeper(KeepRule(("**",), ("one",), days=1.0))
        self.store.gate.hold("gc.collect")
        keeper.start()
        self.settle()
        for tag in ("none", "two"):
            keeper.reload([KeepRule(("**",), (tag,), days=1.0)])
        self.settle()
        self.assertEqual(self.store.gate.waiting("gc.collect"), 1)
        self.assertEqual((self.has(one)[0], self.has(two)[0]), (False, True))
        stopping = keeper.stop()
        keeper.reload([KeepRule(("none",), days=1.0)])
        self.settle()
        self.assertNoResult(stopping)
        self.store.gate.release("gc.collect")
        self.settle()
        self.successResultOf(stopping)
        self.assertEqual(self.has(two), (True, True))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_spared(self) -> None:
        """
        The quota spares what a rule always keeps, and by a tag only what has it.
        """
        one, two = self.mirror("one", "v1"), self.mirror("two", "latest")
        keeps = self.keeper(KeepRule(("**",), ("v*",), always=True)).spared()
        self.assertEqual((keeps(APP, one.digest), keeps(APP, two.digest)), (True, False))
        self.assertFalse(self.keeper().spared()(APP, one.digest))
        described = {
            each.manifest.descriptor.digest: each.rule for each in self.keeper(KeepRule(("x",))).kept()
        }
        self.assertEqual(described, {one.digest: None, two.digest: None})


class QuotaTests(JobsCase):
    """
    The quota and the rules together.
    """

    def make_jobs(self) -> Jobs:
        """
        Jobs with a rule.
        """
        jobs = Jobs(
            self.store,
            self.registries,
            self.unpacker,
            clock=self.clock,
            wall_clock=self.wall_clock,
            quota=1,
            keep=[KeepRule((f"{HOST}/kept",), always=True)],
        )
        self.addCleanup(self.stop, jobs)
        return jobs

    def test_evicted(self) -> None:
        """
        Mirrored content goes for the quota, unless a rule keeps it.
        """
        for name in ("app", "kept"):
            self.add(sample_image(1, seed=name), name)
            source = self.registries.repository(Repository(HOST, name))
            fetching = self.jobs.mirror.manifest(source, "latest", "ci")
            self.settle()
            self.successResultOf(fetching)
        self.jobs.quota = 2
        self.settle()
        found = [repository.path for repository in self.store.catalog.repositories()]
        self.assertEqual(found, ["kept"])
