"""
Tests for L{xferd.jobs.events.image_uses}.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from tests.store.support import LayerUser, StoreTestCase, pull, sample
from xferd.interfaces.store import Image
from xferd.jobs.events.image_uses import INTERVAL, ImageUses
from xferd.names import Digest, Reference


class ImageUsesTests(StoreTestCase):
    """
    Two images, and an engine.
    """

    def setUp(self) -> None:
        """
        Pull the images, and look at them.
        """
        super().setUp()
        self.one, self.two = sample("one", b"base", b"1"), sample("two", b"base", b"2")
        for each in (self.one, self.two):
            self.run_now(pull(self.store, each))
        self.user = LayerUser()
        self.store.gc.add_user(self.user)
        self.reported: list[str] = []
        self.uses = ImageUses(self.store, self.report, self.reactor)
        self.uses.start()
        self.addCleanup(self.uses.stop)

    def report(self, image: Image) -> None:
        """
        Write it down.
        """
        self.reported.append(image.reference.familiar())

    def after(self) -> list[str]:
        """
        What is reported at the next look.
        """
        self.reported.clear()
        self.reactor.advance(INTERVAL)
        return list(self.reported)

    def test_changes(self) -> None:
        """
        An image is reported when an engine begins to need it, needs it for something
        else, and needs it no longer; not in between.
        """
        assert self.one.image.chain_id is not None
        self.assertEqual((self.reported, self.after()), ([], []))
        for texts in (["container 1"], ["container 1", "container 2"], []):
            self.user.needs[self.one.image.chain_id] = texts
            self.assertEqual(self.after(), ["one:latest"])
            self.assertEqual(self.after(), [])
        self.user.needs.clear()
        self.assertEqual(self.after(), ["one:latest"])

    def test_names(self) -> None:
        """
        A new name of an image in use is reported once more than it was by the change of
        its name; a removed one is not.
        """
        assert self.one.image.chain_id is not None
        self.user.needs[self.one.image.chain_id] = ["container 1"]
        self.after()
        other = evolve(self.one.image, reference=Reference.parse("mine"))
        self.successResultOf(self.store.images.put(other))
        self.assertEqual(self.after(), ["mine:latest"])
        self.successResultOf(self.store.images.remove(other.reference))
        self.assertEqual(self.after(), [])

    def test_mistake(self) -> None:
        """
        If an engine cannot say what it needs, that is in the log.
        """

        class Mistake(Exception):
            """
            An error of the engine's code.
            """

        class Broken(LayerUser):
            """
            An engine that has one.
            """

            def used(self) -> dict[Digest, Sequence[str]]:
                """
                Fail.
                """
                raise Mistake

        self.store.gc.add_user(Broken())
        self.assertEqual(self.after(), [])
        self.assertEqual(len(self.flushLoggedErrors(Mistake)), 1)

    def test_stop(self) -> None:
        """
        After the stop, which is idempotent, nothing is looked at.
        """
        for _ in range(2):
            self.uses.stop()
        assert self.one.image.chain_id is not None
        self.user.needs[self.one.image.chain_id] = ["container 1"]
        self.assertEqual(self.after(), [])
        self.assertEqual(self.reactor.getDelayedCalls(), [])
