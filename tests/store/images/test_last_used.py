"""
Tests of L{xferd.store.images.last_used}.
"""

from __future__ import annotations

import os

from tests.store.support import StoreTestCase, pull, sample


class LastLeasesTests(StoreTestCase):
    """
    When images were used.
    """

    def setUp(self) -> None:
        """
        Have two images, the second of which is newer.
        """
        super().setUp()
        self.images = [sample(name, name.encode()) for name in ("one", "two")]
        for wanted in self.images:
            self.run_now(pull(self.store, wanted))
            self.reactor.advance(100)

    def first(self) -> str:
        """
        The image that goes first.
        """
        (reference,) = self.successResultOf(self.store.gc.evict(1)).images
        return str(reference.familiar())

    def use(self, number: int) -> None:
        """
        Use an image.
        """
        self.store.images.get(self.images[number].image.reference)

    def recorded(self) -> dict[str, float]:
        """
        The times in the journal.
        """
        found: dict[str, float] = self.successResultOf(self.store.journal.uses())
        return found

    def test_over_a_restart(self) -> None:
        """
        A use counts for the next daemon, too.
        """
        self.use(0)
        self.store = self.reopen()
        self.assertEqual(self.first(), "two:latest")

    def test_grain(self) -> None:
        """
        Uses that follow one another are recorded once a minute, and count all.
        """
        name = "docker.io/library/one:latest"
        self.use(0)
        before = self.recorded()
        self.reactor.advance(30)
        self.use(1)
        self.reactor.advance(1)
        self.use(0)
        self.assertEqual(self.recorded()[name], before[name])
        self.reactor.advance(60)
        self.use(0)
        self.assertGreater(self.recorded()[name], before[name])
        self.assertEqual(self.first(), "two:latest")

    def test_removed(self) -> None:
        """
        The record has no names of removed images.
        """
        self.successResultOf(self.store.images.remove(self.images[0].image.reference))
        self.assertEqual(list(self.recorded()), ["docker.io/library/two:latest"])

    def test_without_the_journal(self) -> None:
        """
        Where the journal is lost, images were used when they got their names.
        """
        self.close(self.store)
        for name in os.listdir(self.path):
            if name.startswith("xferd.db"):
                os.unlink(os.path.join(self.path, name))
        self.store = self.open()
        self.assertEqual(self.first(), "one:latest")
