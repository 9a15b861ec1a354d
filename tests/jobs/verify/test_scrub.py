"""
Tests for L{xferd.jobs.verify.scrub}.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

from tests.jobs.case import HOST
from tests.jobs.verify.test_verify import VerifyCase
from xferd.interfaces.integrity import Damage
from xferd.jobs.verify.pacing import INTERVAL
from xferd.jobs.verify.scrub import BUSY_DIVISOR, REST, Scrub


class ScrubTests(VerifyCase):
    """
    A scrub of a store with one image.
    """

    def setUp(self) -> None:
        """
        Make it.
        """
        super().setUp()
        self.busy = False
        self.found: list[str | None] = []
        self.ends: list[Callable[[object], object]] = []
        self.checked: Counter[str] = Counter()

    def begin(self, reference: str | None, ended: Callable[[object], object]) -> None:
        """
        Begin a verification, which runs until C{ends} are called.
        """
        self.found.append(reference)
        self.ends.append(ended)

    def end_verifications(self) -> None:
        """
        End all of them.
        """
        while self.ends:
            self.ends.pop()(None)

    def scrub(self, rate: int = 1000) -> Scrub:
        """
        Start a scrub.
        """
        scrub = Scrub(
            self.store,
            rate,
            clock=self.clock,
            busy=lambda: self.busy,
            found=self.begin,
            checked=self.checked,
            random=Random(1),
        )
        scrub.start()
        return scrub

    def stop(self, scrub: object) -> None:
        """
        Stop a scrub, or a daemon's jobs.
        """
        if isinstance(scrub, Scrub):
            stopping = scrub.stop()
            self.settle()
            self.successResultOf(stopping)
        else:
            super().stop(scrub)  # type: ignore[arg-type]

    def checks(self) -> int:
        """
        The number of checks so far.
        """
        return self.store.gate.count("integrity.check")

    def next_pass(self) -> None:
        """
        Let a pass run.
        """
        self.clock.advance(REST)
        self.settle()

    def test_passes(self) -> None:
        """
        Each pass checks everything once, at the rate, and holds no lease at its end.
        """
        scrub = self.scrub()
        self.settle()
        self.assertEqual(self.checks(), 0)
        for number in (1, 2):
            self.next_pass()
            self.assertEqual(self.checks(), 6 * number)
        self.assertEqual({pace.rate for pace in self.store.integrity.paces}, {1000})
        self.assertEqual(self.found, [])
        self.assertEqual((self.checked["blobs"], self.checked["trees"]), (8, 4))
        self.stop(scrub)

    def test_off(self) -> None:
        """
        Without a rate nothing is checked.
        """
        scrub = self.scrub(0)
        self.next_pass()
        self.assertEqual(self.checks(), 0)
        self.stop(scrub)

    def test_busy(self) -> None:
        """
        While transfers run, it is slower.
        """
        self.busy = True
        scrub = self.scrub()
        self.next_pass()
        self.assertEqual(self.store.integrity.paces[-1].rate, 1000 / BUSY_DIVISOR)
        self.stop(scrub)

    def test_busy_meanwhile(self) -> None:
        """
        The rate of a check that runs changes with the transfers.
        """
        self.store.gate.hold("integrity.check")
        scrub = self.scrub()
        self.next_pass()
        (pace,) = self.store.integrity.paces
        for self.busy, rate in ((True, 1000 / BUSY_DIVISOR), (False, 1000)):
            self.clock.advance(INTERVAL)
            self.assertEqual(pace.rate, rate)
        self.stop(scrub)

    def test_damage(self) -> None:
        """
        For damage, a verification of the image begins; content that is gone is skipped.
        """
        scrub = self.scrub()
        self.damage(self.layer)
        self.next_pass()
        self.assertEqual(self.found, [f"{HOST}/app:latest"])
        self.end_verifications()
        del self.store.blobs.contents[self.layer]
        self.store.integrity.damage[self.image.diff_ids[0]] = [Damage("f", "is missing")]
        self.next_pass()
        self.assertEqual(self.found, [f"{HOST}/app:latest"] * 2)
        self.stop(scrub)

    def test_much_damage(self) -> None:
        """
        Where much of one image is damaged, one verification of it runs at a time.
        """
        scrub = self.scrub()
        self.damage(self.layer)
        self.store.integrity.damage[self.image.diff_ids[0]] = [Damage("f", "is missing")]
        self.next_pass()
        self.next_pass()
        self.assertEqual(self.found, [f"{HOST}/app:latest"])
        self.end_verifications()
        self.next_pass()
        self.assertEqual(self.found, [f"{HOST}/app:latest"] * 2)
        self.stop(scrub)

    def test_damage_without_image(self) -> None:
        """
        For damage of what no image needs, all content is verified, once: no other
        verification begins meanwhile.
        """
        scrub = self.scrub()
        for image in self.store.images.all():
            removing = self.store.images.remove(image.reference)
            self.settle()
            self.successResultOf(removing)
        for diff_id in self.image.diff_ids:
            self.store.integrity.damage[diff_id] = [Damage("f", "is missing")]
        self.next_pass()
        self.assertEqual(self.found, [None])
        self.stop(scrub)

    def test_stopped(self) -> None:
        """
        It ends at once, while it rests and while it checks.
        """
        self.stop(self.scrub())
        self.store.gate.hold("integrity.check")
        scrub = self.scrub()
        self.next_pass()
        self.stop(scrub)
        self.store.gate.release("integrity.check")
        self.next_pass()
        self.assertEqual(self.checks(), 1)
