"""
What happens in one simulation of a fleet, chosen by a seed.
"""

from __future__ import annotations

from random import Random
from typing import Final

from attrs import frozen

KINDS: Final = (
    "kill",
    "freeze",
    "cut from coordination",
    "cut from peers",
    "slow uplink",
    "wrong bytes",
    "stop coordination",
    "lose coordination",
    "429",
    "503",
    "cancel",
)
"""The kinds of faults."""

OWNER: Final = "owner"
"""In place of a node: one that fetches a blob when the fault comes, if there is one."""

LINE_SECONDS: Final = 6.0
"""Seconds in which the line sends all images once."""

NODES: Final = 20

SECONDS: Final = (1.5, 3.0, 4.0, 8.0, 20.0, 60.0)
"""How long faults last.  Peers leave a silent one after 5 s, which may be just when it is
back."""


@frozen
class Fault:
    """
    One fault.

    @ivar kind: one of L{KINDS}.
    @ivar at: when it begins, in seconds.
    @ivar node: the index of the node that it concerns, or L{OWNER}.
    @ivar seconds: how long it lasts, where it does.
    """

    kind: str
    at: float
    node: int | str
    seconds: float


@frozen
class Schedule:
    """
    One schedule.

    @ivar begins: when each node's pulls begin, in seconds.
    @ivar late: the nodes that join the fleet only then, by their indices.
    @ivar max_followers: the peers that get a blob from a node at the same time.
    @ivar faults: the faults.
    """

    seed: int
    begins: tuple[float, ...]
    late: frozenset[int]
    max_followers: int
    faults: tuple[Fault, ...]

    @classmethod
    def of(cls, seed: int) -> Schedule:
        """
        The schedule of a seed.
        """
        random = Random(seed)
        at_once = random.random() < 0.5
        begins = tuple(1.0 if at_once else 1 + random.random() * LINE_SECONDS for _ in range(NODES))
        late = frozenset(random.sample(range(NODES), random.choice((0, 0, 1, 5))))
        begins = tuple(
            begin + LINE_SECONDS * random.choice((0.5, 3)) if n in late else begin
            for n, begin in enumerate(begins)
        )
        kinds = [KINDS[seed % len(KINDS)], *random.sample(KINDS, random.choice((0, 0, 1, 2)))]
        followers = random.choice((2, 3, 8))
        faults = tuple(_fault(kind, random) for kind in dict.fromkeys(kinds))
        return cls(seed, begins, late, followers, faults)

    def has(self, *kinds: str) -> bool:
        """
        Whether there is a fault of some kinds.
        """
        return any(fault.kind in kinds for fault in self.faults)

    def __str__(self) -> str:
        faults = (f"{f.kind} {f.node} at {f.at:.2f} for {f.seconds:.1f} s" for f in self.faults)
        return f"seed {self.seed}: {self.max_followers} followers, {len(self.late)} late; {'; '.join(faults)}"


def _fault(kind: str, random: Random) -> Fault:
    """
    Choose a fault of a kind.
    """
    node: int | str = OWNER if random.random() < 0.5 else random.randrange(NODES)
    at = 1 + random.random() * LINE_SECONDS * 0.9
    if kind in ("slow uplink", "wrong bytes") and node == OWNER:
        node = random.randrange(NODES)
    if kind == "slow uplink":
        at = 0.5
    return Fault(kind, at, node, random.choice(SECONDS))
