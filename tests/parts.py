"""
Runs parts of the tests side by side, for C{.ci/step tests}.

C{python -m tests.parts LOGS NUMBER PART...} runs some parts, as many at once as the number
says: one of L{COMMANDS}, or a module of C{tests/integration}.  It prints the time, the CPU time and
the result of each, and what a part that failed has printed, for which it also makes a file in the
directory LOGS.

Modules of C{tests/integration} are forked from this process, which has imported what all of
them import: that takes more than a second of CPU time, for most more than their tests take.
"""

from __future__ import annotations

import faulthandler
import fcntl
import gc
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen
from twisted.scripts import trial as trial_script

from tests.integration.forked_daemons import forker, preload

LIMIT: Final = 30 * 60
"""The seconds that a part may take."""

REPEATED: Final = re.compile(
    r"tests\.(fuzz|simulation|fleet\.test_simulation|store\.(power_cut|test_crash)|jobs\.test_neighbours"
    r"|test_docs|test_modules)\b"
)
"""These run much of xferd many times, and what they cover, others cover, too, or they read texts:
coverage would add a minute and nothing else."""

PYTHON: Final = (sys.executable, "-m")


def units(repeated: bool) -> list[str]:
    """
    The modules of the unit tests, without or with coverage.
    """
    paths = sorted(Path("tests").rglob("test_*.py"))
    names = [".".join(path.with_suffix("").parts) for path in paths]
    return [
        name
        for name in names
        if not name.startswith("tests.integration.") and bool(REPEATED.match(name)) is repeated
    ]


def trial(part: str) -> tuple[str, ...]:
    """
    Trial, with a directory of its own.
    """
    return ("twisted.trial", "--temp-directory", f"_trial_temp.{part}")


COMMANDS: Final[dict[str, Callable[[str], Sequence[str]]]] = {
    "unit-repeated": lambda part: [*PYTHON, *trial(part), *units(True)],
    "unit-1": lambda part: [*PYTHON, "coverage", "run", "-m", *trial(part), *units(False)[::2]],
    "unit-2": lambda part: [*PYTHON, "coverage", "run", "-m", *trial(part), *units(False)[1::2]],
    # Of a fleet.
    "simulation": lambda _: [*PYTHON, "tests.fleet.simulation"],
    "daemon-simulation": lambda _: [*PYTHON, "tests.simulation"],
    # A fixed seed: a change is judged by its own faults.
    "crash": lambda _: [*PYTHON, "tests.crash", "--kills", "30", "--seed", "20261130"],
    "soak": lambda _: [*PYTHON, "tests.soak", "--minutes", "0.7", "--seed", "20261130"],
}
"""The parts that are programs."""


@frozen
class Run:
    """
    A part that runs.
    """

    part: str
    log: Path
    began: float

    def report(self, status: int, cpu: float) -> None:
        """
        Print how it has ended, and note a failure.
        """
        text = self.log.read_text(errors="replace").rstrip()
        took = f"{self.part}, {time.monotonic() - self.began:.0f} s, {cpu:.0f} s of CPU"
        if status:
            self.log.with_suffix(".failed").touch()
            print(text, f"{took}: FAILED", sep="\n", flush=True)
            return
        skipped = re.findall(r"^\[SKIPPED\]\n.*?(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        last = text.rpartition("\n")[2]
        print(f"{took}: {last}", *skipped, sep="\n", flush=True)


def start(part: str, logs: Path) -> tuple[int, Run]:
    """
    Start a part.

    @return: its process ID, and the part.
    """
    run = Run(part, logs / f"{part}.log", time.monotonic())
    pid = os.fork()
    if pid:
        return pid, run
    with open(os.devnull) as empty, open(run.log, "w") as log:
        os.dup2(empty.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if part in COMMANDS:
        # SIGINT at the limit prints a traceback, and the reporter names each test before it
        # runs: both show where a part hangs.
        limited = ["timeout", "--foreground", "--signal=INT", "--kill-after=60", str(LIMIT)]
        os.execvp(limited[0], [*limited, *COMMANDS[part](part)])
    # While this process has no reactor.
    forker()
    if lock := part.startswith(("test_v2_", "test_single_post")) and os.environ.get("XFERD_TOOLS_LOCK"):
        # .ci/run installs tools meanwhile.
        with open(lock, "a") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    faulthandler.dump_traceback_later(LIMIT, exit=True)
    sys.argv = [*trial(part), f"tests.integration.{part}"]
    trial_script.run()
    sys.exit("trial has not exited")


def main(logs: Path, number: int, parts: Sequence[str]) -> None:
    """
    Run parts.
    """
    preload("hypothesis", "tests.integration.programs", "twisted.trial.unittest", "xferd.testing.registry")
    gc.freeze()
    waiting, running = list(dict.fromkeys(parts)), dict[int, Run]()
    while waiting or running:
        while waiting and len(running) < number:
            pid, run = start(waiting.pop(0), logs)
            running[pid] = run
        pid, status, usage = os.wait4(-1, 0)
        running.pop(pid).report(status, usage.ru_utime + usage.ru_stime)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [each.removesuffix(".py") for each in sys.argv[3:]])
