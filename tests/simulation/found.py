"""
Schedules that have found bugs of xferd, shrunk.

They have their steps here: what a seed chooses changes with each new kind of step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tests.simulation.schedules import HOST, OTHER, Schedule, Settings, Step

_ONE, _TALL = f"{OTHER}/one", f"{OTHER}/tall"
_MANY, _SINGLE = f"{HOST}/many", f"{HOST}/single"


def _schedule(seed: int, settings: Settings, *steps: Step) -> Schedule:
    """
    Make a schedule.

    @param seed: chooses what a step leaves to chance.
    """
    return Schedule(seed, settings, steps, tuple(range(len(steps))))


FOUND: Final[Mapping[str, Schedule]] = {
    "unpacking cancelled when its bytes became void": _schedule(
        1427,
        Settings(kept=True),
        Step(0.0, "pull", (_ONE, "ann", 0, False, True)),
        Step(2.447, "pull", (_TALL, "bob", 0, True, True)),
        Step(0.234, "break_disk", ("partial.write", 2)),
        Step(0.0, "break_disk", ("trees.commit", 2)),
        Step(0.167, "set_quota", (120_000, 10)),
        Step(0.612, "set_quota", (400_000, 1)),
        Step(0.612, "break_disk", ("blobs.partial", 2)),
        Step(2.696, "pull", (_MANY, "bob", 0, True, True)),
    ),
    "blob pushed while its download waited": _schedule(
        4907,
        Settings(),
        Step(0.0, "pull", (_MANY, "ann", 1, False, False)),
        Step(0.0, "fill", (_SINGLE, "ann", 1, True, True)),
        Step(0.0, "push_here", (_SINGLE, True)),
        Step(0.0, "limit", ("downloads", 1)),
    ),
    "job paused while the journal wrote its end": _schedule(
        12486,
        Settings(kept=True),
        Step(0.0, "pull", (_SINGLE, "ann", 0, False, False)),
        Step(0.818, "pull", (_ONE, "bob", 0, False, False)),
        Step(0.133, "pull", (_SINGLE, "bob", 0, True, True)),
        Step(0.0, "slow_disk", ("journal.job", 1)),
        Step(0.976, "pause_job", (0.9, 200)),
        Step(0.716, "stop", (2.0,)),
    ),
    "job whose priority changed while the journal wrote its end": _schedule(
        31060,
        Settings(kept=True),
        Step(0.0, "pull", (_SINGLE, "bob", 0, True, False)),
        Step(0.88, "slow_disk", ("journal.job", 5)),
        Step(1.414, "push_here", (f"{HOST}/one", False)),
        Step(0.0, "prioritize", (0.35, -1)),
        Step(2.403, "set_quota", (20_000, 1)),
        Step(1.623, "set_quota", (120_000, 10)),
        Step(0.218, "kill", (1.0,)),
    ),
    "blob imported while a part of its download was read": _schedule(
        25376,
        Settings(sharing="isolated", credentials=True, kept=True, attempts=20, streams=3),
        Step(0.0, "pull", (_SINGLE, "bob", 1, False, True)),
        Step(0.0, "pull", (_SINGLE, "ann", 0, True, True)),
        Step(0.0, "import_archive", (f"{HOST}/two", "bob", 0, False, True)),
        Step(2.173, "copy", (_SINGLE, "eve", 1, True, False)),
        Step(0.236, "import_archive", (f"{HOST}/one", "ann", 0, False, False)),
        Step(0.0, "copy", (f"{HOST}/one", "bob", 0, True, True)),
        Step(0.903, "prioritize", (0.5660441314762874, 0)),
        Step(0.0, "cancel", (0.9608612550505227,)),
        Step(2.431, "read", (f"{HOST}/one", "bob", 0.7395614769199329, 0.7892136544989385)),
    ),
    "cancellation reported before it was in the journal": _schedule(
        47893,
        Settings(credentials=True, kept=True),
        Step(0.162, "import_archive", (f"{HOST}/two", "ann", 0, True, True)),
        Step(0.0, "slow_disk", ("journal.job", 5)),
        Step(0.226, "cancel", (0.3,)),
        Step(0.737, "stop_and_kill", (10.0, 2.0, 0.634824840108763)),
    ),
    "blob proved again when it was whole": _schedule(
        60075,
        Settings(),
        Step(0.0, "pull", (_TALL, "ann", 0, False, True)),
        Step(0.3, "cancel", (0.9,)),
        Step(1.893, "mirror", (_MANY, "bob", 0.52, 1.0)),
    ),
}
"""By bug, the smallest schedule that found it."""
