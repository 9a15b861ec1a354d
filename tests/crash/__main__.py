"""
Kills daemons: C{python -m tests.crash --kills 300}.
"""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from secrets import randbits
from tempfile import mkdtemp
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from tests.crash.campaign import Campaign, Figures
from tests.crash.site import Site, Wrong
from tests.crash.work import KINDS


async def crash(reactor: Any, kills: int, seed: int, names: Sequence[str], verbose: bool) -> int:
    """
    Run a campaign, and print its figures.

    @return: 1 where a check failed, else 0.
    """
    site = Site(reactor, Path(mkdtemp(prefix="xferd-crash-")))
    campaign = Campaign(site, seed, names, lambda text: verbose and print(text, flush=True))
    print(f"seed {seed}", flush=True)
    failed = 0
    try:
        await campaign.run(kills)
    except Wrong as e:
        print(f"with seed {seed}: {e}", flush=True)
        print("\n".join(site.daemon.output.splitlines()[-40:]))
        failed = 1
    finally:
        await site.daemon.stop()
        shutil.rmtree(site.place)
    print("work      daemon start worker layer  streams unpacking uploads  KiB twice  most  KiB pushed twice")
    for name, each in campaign.figures.items():
        kills_of = "".join(f"{each.kills[victim]:>7}" for victim in ("daemon", "start", "worker", "layer"))
        print(
            f"{name:<9}{kills_of}{each.streams:>9}{each.staged:>10}{each.uploads:>8}"
            f"{each.twice / 1024:>11.0f}{each.most / 1024:>6.0f}{each.sent_twice / 1024:>18.0f}"
        )
    print(summary(list(campaign.figures.values())))
    return failed


def summary(figures: Sequence[Figures]) -> str:
    """
    A line about all kinds of work together.
    """
    kills = sum(sum(each.kills.values()) for each in figures)
    streams, twice = sum(each.streams for each in figures), sum(each.twice for each in figures)
    most, pushed = max(each.most for each in figures), sum(each.sent_twice for each in figures)
    return (
        f"{kills} kills broke {streams} streams; received twice: {twice // 1024} KiB, "
        f"at most {most // 1024} KiB after one kill; pushed twice: {pushed // 1024} KiB"
    )


def main() -> None:
    """
    Read the command line.
    """
    parser = ArgumentParser("python -m tests.crash", description="Kill daemons in mid-work.")
    parser.add_argument("--kills", type=int, default=300, help="how many (300)")
    parser.add_argument("--seed", type=int, help="draw the instants of an earlier run, whose seed it printed")
    parser.add_argument("--verbose", action="store_true", help="print a line for each round")
    parser.add_argument("names", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all by default")
    args = parser.parse_args()
    for name in args.names:
        if name not in KINDS:
            parser.error(f"there is no kind of work {name!r}")
    seed = randbits(32) if args.seed is None else args.seed

    async def run(reactor: Any) -> None:
        sys.exit(await crash(reactor, args.kills, seed, args.names or list(KINDS), args.verbose))

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
