"""
Runs the harnesses: C{python -m tests.fuzz --seconds 60 [NAME ...]}.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from secrets import randbits

from twisted.logger import globalLogBeginner

from tests.fuzz.harness import run
from tests.fuzz.harnesses import HARNESSES


def main(arguments: list[str]) -> int:
    """
    Run harnesses and print a line for each.

    @return: 1 where an invariant was broken, else 0.
    """
    parser = ArgumentParser("python -m tests.fuzz", description="Feed damaged input to every reader.")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, for all together (60)")
    parser.add_argument("--seed", type=int, help="make the inputs of an earlier run, whose seed it printed")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(HARNESSES)}; all by default")
    args = parser.parse_args(arguments)
    names = args.names or list(HARNESSES)
    for name in names:
        if name not in HARNESSES:
            parser.error(f"there is no harness {name!r}")
    entropy = randbits(32) if args.seed is None else args.seed
    print(f"seed {entropy}")
    print("harness       inputs  seconds  inputs/s  longest ms  most KiB")
    failed = 0
    for name in names:
        outcome = run(HARNESSES[name], args.seconds / len(names), entropy)
        print(
            f"{name:<12}{outcome.inputs:>8}{outcome.seconds:>9.1f}{outcome.inputs / outcome.seconds:>10.0f}"
            f"{outcome.cpu * 1000:>12.0f}{outcome.memory // 1024:>10}",
            flush=True,
        )
        if outcome.error:
            failed = 1
            print(f"{name} is broken:\n{outcome.error}", flush=True)
    return failed


if __name__ == "__main__":
    # The harnesses look at what is logged; it is not shown.
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)
    sys.exit(main(sys.argv[1:]))
