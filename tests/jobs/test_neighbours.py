"""
A scenario: all kinds of bad neighbours at once, and a pull that has nothing to
do with them.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.jobs.archives.import_case import ImportCase
from tests.jobs.case import HOST, OTHER
from tests.jobs.neighbours import BESIDE, broken_imports, image_of, of_neighbour, wrong_images
from xferd.credentials import Credentials, Secret
from xferd.errors import TooManyRequests
from xferd.jobs.transfers import SMALL_BLOB
from xferd.testing.fake_registry import FakeRegistry
from xferd.testing.images import SampleImage

ANN = Credentials("ann", Secret("hunter2"))
LINE = 4_000_000
"""Bytes a second of the healthy registry's line, for all connections."""

TRICKLE = 2_000
"""Bytes a second of each connection to the registry that trickles."""

TICK = 0.25


class ScenarioTests(ImportCase):
    """
    A pull of 20 MB takes at most twice as long as alone, whatever earlier jobs
    of other clients do.
    """

    small_blob = SMALL_BLOB

    def setUp(self) -> None:
        """
        See how long the pull takes alone.
        """
        super().setUp()
        self.trickling = self.registries.registry("trickle.example")
        self.jobs_of_others: list[str] = []
        self.alone = self.time("alone")

    # --------------------------------------------------------------- the lines

    def serve(self, registry: FakeRegistry, image: SampleImage, name: str) -> None:
        """
        Put an image into a registry whose blobs come as the test feeds them.
        """
        registry.add(image, name)
        for layer in image.layers:
            registry.stall(layer.blob.digest)

    def tick(self) -> None:
        """
        Let a moment pass, on all lines.
        """
        bodies = self.registry.open_bodies()
        for body in bodies:
            body.feed(int(LINE * TICK) // len(bodies))
        for body in self.trickling.open_bodies():
            body.feed(int(TRICKLE * TICK))
        self.clock.advance(TICK)
        self.settle()

    def time(self, name: str) -> float:
        """
        Pull an image of 20 MB; returns the seconds that it takes.
        """
        self.serve(self.registry, image_of(name), name)
        started = self.clock.seconds()
        job_id = self.pull(name, client="healthy")
        self.settle()
        while self.job(job_id)["state"] == "running" and self.clock.seconds() < started + 60:
            self.tick()
        self.assert_done(job_id)
        return self.clock.seconds() - started

    # --------------------------------------------------------------- neighbours

    def begin_other(
        self, host: str, name: str, client: str, credentials: dict[str, Credentials] | None = None
    ) -> None:
        """
        Begin a pull that will not end.
        """
        self.jobs_of_others.append(str(self.jobs.pull(f"{host}/{name}", None, client, 0, credentials)["id"]))
        self.settle()

    def mute(self) -> None:
        """
        Three registries that do not answer the request for a layer, and one
        that answers nothing at all, with twelve requests.
        """
        for n in range(3):
            registry = self.registries.registry(f"mute{n}.example")
            registry.add(of_neighbour(f"mute {n}"), "app")
            registry.gate.hold("open")
            self.begin_other(registry.host, "app", f"mute {n}")
        self.registries.registry("mute.example").gate.hold("manifest")
        for n in range(12):
            self.begin_other("mute.example", f"app{n}", f"mute manifest {n}")

    def trickle(self) -> None:
        """
        A registry that sends four layers, for four clients, slower than any
        limit forbids.
        """
        for n in range(4):
            self.serve(self.trickling, of_neighbour(f"trickle {n}"), f"app{n}")
            self.begin_other(self.trickling.host, f"app{n}", f"trickle {n}")

    def limited(self) -> None:
        """
        A client of the healthy registry that has met its rate limit.
        """
        registry = self.registries.registry(HOST, "ann")
        self.serve(registry, of_neighbour("ann", 3), "hers")
        error = TooManyRequests("slow down", host=HOST, status=429, retry_after=500)
        registry.gate.fail("open", error, times=1000)
        self.begin_other(HOST, "hers", "ann", {HOST: ANN})

    def stalled(self) -> None:
        """
        Imports that end in the middle of a blob: one of their own, and one
        that the pull wants as well.
        """
        for name, size, part in broken_imports():
            job_id = self.begin(name, size=size)
            self.give(job_id, part)
            self.jobs_of_others.append(job_id)

    def wrong(self) -> None:
        """
        A registry that sends wrong bytes to one pull after the other, one of
        which shares a blob with the measured pull.
        """
        for name, image in wrong_images(6):
            self.other.add(image, name)
            for layer in image.layers:
                self.other.corrupt(layer.blob.digest, b"?" * layer.blob.descriptor.size, times=100)
            self.begin_other(OTHER, name, f"wrong {name}")

    def beside(self, *neighbours: Callable[[], None], seconds: float = 60) -> None:
        """
        Pull beside some neighbours that have begun before.
        """
        for neighbour in neighbours:
            neighbour()
        for _ in range(int(seconds / TICK)):
            self.tick()
        self.assertLessEqual(self.time(BESIDE), 2 * self.alone)
        stuck = [self.job(job_id)["state"] for job_id in self.jobs_of_others]
        self.assertIn("running", stuck)
        for job_id in self.jobs_of_others:
            self.jobs.cancel(job_id)
        self.assert_idle()

    def test_mute_hold_the_slots(self) -> None:
        """
        Registries that do not answer came first.
        """
        self.beside(self.mute, self.trickle, self.limited, self.stalled, self.wrong)

    def test_trickles_hold_the_slots(self) -> None:
        """
        Layers that trickle came first.
        """
        self.beside(self.trickle, self.limited, self.stalled, self.wrong, self.mute)

    def test_mute_first_and_all_new(self) -> None:
        """
        All began a moment ago, and their speed is not known yet.
        """
        self.beside(self.mute, self.trickle, self.limited, self.stalled, self.wrong, seconds=0)

    def test_trickles_first_and_all_new(self) -> None:
        """
        The same, in the other order.
        """
        self.beside(self.trickle, self.limited, self.stalled, self.wrong, self.mute, seconds=0)

    def test_mute_alone(self) -> None:
        """
        Three hosts hold the three slots, and have just begun to.
        """
        self.beside(self.mute, seconds=0)

    def test_trickles_alone(self) -> None:
        """
        Layers that trickle hold the three slots, and have just begun to.
        """
        self.beside(self.trickle, seconds=0)
