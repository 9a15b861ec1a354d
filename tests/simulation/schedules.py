"""
What happens in one simulation of the daemon, chosen by a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from attrs import evolve, frozen

CLIENTS: Final = ("ann", "bob", "eve")

HOST: Final = "registry.example"
OTHER: Final = "other.example"
TARGET: Final = "target.example"
"""The registry that gets pushes and copies."""

IMAGES: Final[Mapping[str, tuple[str, tuple[int, ...]]]] = {
    f"{HOST}/one": (HOST, (0, 1, 2)),
    f"{HOST}/two": (HOST, (0, 1, 3)),
    f"{HOST}/many": (HOST, (0, 2, 4, 5, 6, 7, 8)),
    f"{HOST}/single": (HOST, (9,)),
    f"{OTHER}/one": (OTHER, (0, 1, 2)),
    f"{OTHER}/tall": (OTHER, (3, 5, 10, 11, 12, 13)),
}
"""For each image its registry, and the numbers of its layers."""

ERRORS: Final = ("connection", "unavailable", "too many", "timeout")
"""The errors of registries."""

LIMITS: Final[Mapping[str, tuple[Any, ...]]] = {
    "downloads": (1, 2, 3, 6),
    "downloads_per_host": (0, 1, 2),
    "uploads": (1, 2, 5),
    "workers": (1, 2),
    "download_rate": (0, 20_000),
    "upload_rate": (0, 20_000),
    "hosts": (
        {HOST: {"downloads": 1}, OTHER: {"downloads": 3, "download_rate": 10_000}},
        {HOST: {"download_rate": 10_000}, TARGET: {"uploads": 1, "upload_rate": 10_000}},
        {HOST: None, OTHER: None, TARGET: None},
    ),
    "clients": (
        {"ann": {"weight": 3}, "bob": {"weight": 2, "upload_rate": 10_000}},
        {"bob": {"weight": 1, "download_rate": 10_000}, "eve": {"download_rate": 5_000}},
        {"ann": None, "bob": None, "eve": None},
    ),
}

HELD: Final = (
    "partial.commit",
    "trees.commit",
    "layers.register",
    "images.put",
    "journal.job",
    "journal.begun",
    "blobs.put",
)
"""Calls that a slow disk holds."""

BROKEN: Final = (
    "partial.commit",
    "partial.write",
    "blobs.partial",
    "blobs.put",
    "trees.stage",
    "trees.commit",
    "layers.register",
    "images.put",
)
"""Calls that a broken disk refuses."""


PAUSES: Final = ("all", "downloads", "uploads", *(f"hosts/{host}" for host in (HOST, OTHER, TARGET)))
"""What people pause."""


@frozen
class Step:
    """
    One step.

    @ivar pause: the seconds before it.
    @ivar kind: the name of a method of L{Simulation<tests.simulation.world.Simulation>}.
    @ivar values: its arguments.
    """

    pause: float
    kind: str
    values: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"+{self.pause:g} s {self.kind}({', '.join(map(str, self.values))})"


@frozen
class Settings:
    """
    How the daemon is set up in one schedule.

    @ivar sharing: C{shared} or C{isolated}.
    @ivar credentials: whether each client has credentials of its own.
    @ivar kept: whether the daemon keeps them for the next one.
    @ivar attempts: the attempts of a transfer, in all.
    @ivar streams: the streams for one blob, at most.
    """

    sharing: str = "shared"
    credentials: bool = False
    kept: bool = False
    attempts: int = 20
    streams: int = 1

    @classmethod
    def choose(cls, random: Random) -> Settings:
        """
        Choose settings, the usual ones mostly.
        """
        credentials = random.random() < 0.3
        return cls(
            sharing="isolated" if credentials and random.random() < 0.5 else "shared",
            credentials=credentials,
            kept=random.random() < 0.5,
            attempts=random.choice((3, 20, 20, 20)),
            streams=random.choice((1, 1, 1, 3)),
        )


@frozen
class Schedule:
    """
    One schedule.

    @ivar settings: how the daemon is set up.
    @ivar steps: what happens, in its order.
    @ivar kept: the numbers of these steps in the whole schedule.
    """

    seed: int
    settings: Settings
    steps: tuple[Step, ...]
    kept: tuple[int, ...]

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """
        The schedule of a seed.
        """
        random = Random(seed)
        # Each schedule has some kinds of steps only, so that many meet.
        settings = Settings.choose(random)
        kinds = random.sample(list(_STEPS), random.randint(3, 8))
        busy = random.random() < 0.3
        steps = [_step("pull", random, busy=True) for _ in range(random.randint(1, 4))]
        for _ in range(random.randint(6, 30)):
            kind = random.choice(("pull", "pull", "cancel", *kinds, *kinds))
            steps.append(_step(kind, random, busy=busy))
        return cls(seed, settings, tuple(steps), tuple(range(len(steps))))

    def without(self, first: int, number: int) -> Schedule:
        """
        The schedule without some steps.
        """
        end = first + number
        steps, kept = self.steps, self.kept
        return evolve(self, steps=steps[:first] + steps[end:], kept=kept[:first] + kept[end:])

    def only(self, numbers: Sequence[int]) -> Schedule:
        """
        The schedule with some steps only.
        """
        return evolve(self, steps=tuple(self.steps[number] for number in numbers), kept=tuple(numbers))

    def has(self, *kinds: str) -> bool:
        """
        Whether there is a step of some kinds.
        """
        return any(step.kind in kinds for step in self.steps)


def _step(kind: str, random: Random, *, busy: bool) -> Step:
    pause = (
        0.0
        if busy and random.random() < 0.7
        else round(random.choice((0.0, 0.25, 1, 3)) * random.random(), 3)
    )
    return Step(pause, kind, _STEPS[kind](random) if kind in _STEPS else _ALWAYS[kind](random))


def _client(random: Random) -> tuple[Any, ...]:
    """
    A client, its priority, whether its job outlives the daemon by itself, and whether it
    comes back.
    """
    priority = random.choice((0, 0, 0, 0, 1))
    return random.choice(CLIENTS), priority, random.random() < 0.6, random.random() < 0.8


_ALWAYS: Final[Mapping[str, Callable[[Random], tuple[Any, ...]]]] = {
    "pull": lambda r: (random_image(r), *_client(r)),
    "cancel": lambda r: (r.random(),),
}


def random_image(random: Random) -> str:
    """
    One of the images.
    """
    return random.choice(list(IMAGES))


_STEPS: Final[Mapping[str, Callable[[Random], tuple[Any, ...]]]] = {
    "push": lambda r: (random_image(r), *_client(r)),
    "fill": lambda r: (random_image(r), *_client(r)),
    "read": lambda r: (random_image(r), r.choice(CLIENTS), r.random(), r.choice((1.0, r.random()))),
    "copy": lambda r: (random_image(r), *_client(r)),
    "prefetch": lambda r: (random_image(r), *_client(r)),
    "import_archive": lambda r: (random_image(r), *_client(r)),
    "push_here": lambda r: (random_image(r), r.random() < 0.8),
    "export": lambda r: (random_image(r), r.choice(CLIENTS), r.choice(("oci", "docker"))),
    "mirror": lambda r: (random_image(r), r.choice(CLIENTS), r.random(), r.choice((1.0, r.random()))),
    "verify": lambda r: (r.choice(("", random_image(r))), *_client(r)),
    "damage": lambda r: (r.random(),),
    "limit": lambda r: (name := r.choice(list(LIMITS)), r.choice(LIMITS[name])),
    "reload": lambda _: (),
    "refuse": lambda r: (
        r.choice((HOST, OTHER, TARGET)),
        r.choice(("open", "manifest", "document", "push", "put_manifest")),
        r.choice(ERRORS),
        r.randint(1, 3),
    ),
    "break_connections": lambda r: (r.choice((HOST, OTHER, TARGET)), r.choice(ERRORS)),
    "mute": lambda r: (r.choice((HOST, OTHER)), r.choice((2, 10))),
    "spoil": lambda r: (r.choice((HOST, OTHER)), r.randint(0, 13)),
    "slow_disk": lambda r: (r.choice(HELD), r.choice((1, 5))),
    "fill_disk": lambda r: (r.choice((2, 10, 40)),),
    "jump": lambda r: (r.choice((-86_400, -5, 5, 3_600, 86_400)),),
    "kill": lambda r: (r.choice((0.0, 1.0, r.random())),),
    "stop": lambda r: (r.choice((2.0, 10.0)),),
    "stop_and_kill": lambda r: (r.choice((2.0, 10.0)), r.choice((0.0, 0.5, 2.0)), r.random()),
    "remove": lambda r: (random_image(r),),
    "collect": lambda r: (r.random() < 0.5,),
    "set_quota": lambda r: (r.choice((20_000, 120_000, 400_000)), r.choice((1, 10))),
    "break_disk": lambda r: (r.choice(BROKEN), r.randint(1, 2)),
    "lose_worker": lambda r: (r.randint(1, 3),),
    "move_tag": lambda r: (random_image(r), r.choice(list(IMAGES))),
    "reconnect": lambda r: (r.random(),),
    "pause_job": lambda r: (r.random(), r.choice((0.0, 2, 10, 200))),
    "pause": lambda r: (r.choice(PAUSES), r.random() < 0.3, r.choice((0.0, 2, 10, 200))),
    "prioritize": lambda r: (r.random(), r.choice((-1, 0, 1, 5))),
}
"""For each kind of step, what chooses its arguments."""

KINDS: Final = (*_ALWAYS, *_STEPS)
"""The kinds of steps."""
