"""
A daemon under mixed work with faults and cancellations, for as long as asked:
C{python -m tests.soak --minutes 60}.

Work and rests alternate.  In a rest all jobs end, all images are removed and all garbage is collected:
what the daemon still holds then is sampled, and must not grow.
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import ArgumentParser
from collections import Counter
from pathlib import Path
from random import Random
from secrets import randbits
from statistics import median
from tempfile import mkdtemp
from typing import Any, Final
from urllib.parse import quote

from attrs import asdict, define, field, frozen
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from tests.crash.site import PATIENCE, Site, Wrong
from xferd.ctl.client import ENDED
from xferd.testing.faults import Drop, Flip, Shorten, Slow, Stall, too_many_requests, unavailable
from xferd.testing.images import image_of, sample_layer
from xferd.testing.registry import Registry
from xferd.testing.storage import Storage

WORK_SECONDS: Final = 4.0
CLIENTS: Final = 6
IMAGES: Final = 24
KIB: Final = 1024

FAULTS: Final = (
    Drop(),
    Drop(after=50 * KIB),
    Drop(after=100 * KIB, reset=True),
    Flip(30 * KIB),
    Shorten(20 * KIB),
    Stall(60 * KIB),
    Slow(200.0 * KIB),
    too_many_requests("1"),
    unavailable(),
)

WARM_UP: Final = 3
"""Samples that are not compared: the daemon has not done everything once."""

LEAST: Final = WARM_UP + 6
"""The fewest samples of a run, however slow the machine is."""


@frozen
class Sample:
    """
    What a daemon without work holds.

    @ivar memory: KiB of its memory and of its worker's.
    @ivar descriptors: open descriptors.
    @ivar threads: threads.
    @ivar processes: it, its workers and their children.
    @ivar files: files in C{ingest/} and C{staging/}, and blobs, trees and layers.
    @ivar journal: KiB of the journal and its log.
    @ivar jobs: the jobs that have begun so far.
    """

    memory: int
    descriptors: int
    threads: int
    processes: int
    files: int
    journal: int
    jobs: int


SLACK: Final = {"memory": 6 * KIB, "descriptors": 4, "threads": 6, "processes": 0, "files": 0}
"""By how much the median of the last third of samples may exceed that of the first."""

JOURNAL_KIB_PER_JOB: Final = 4
"""The journal keeps the last 10,000 jobs and the last 100,000 attempts."""

JOURNAL_LEAST: Final = 8 * KIB
"""KiB that the journal and its log may have in any case."""


@define
class Soak:
    """
    One soak.

    @ivar samples: one of each rest.
    @ivar ended: kind and state of the ended jobs, by ID.
    """

    site: Site
    rng: Random
    source: Registry
    target: Registry
    samples: list[Sample] = field(factory=list)
    ended: dict[str, str] = field(factory=dict)
    begun: int = 0
    references: list[str] = field(factory=list)

    def fill(self) -> None:
        """
        Give the source its images; many have a layer in common.
        """
        layers = [sample_layer(200 * KIB, f"soak {n}") for n in range(IMAGES)]
        for n, layer in enumerate(layers):
            self.source.add(image_of([layers[n % 3], layer]), f"app{n}", "1")
            self.references.append(f"{self.source.host}/app{n}:1")

    async def run(self, minutes: float) -> None:
        """
        Work and rest in turn.

        @raise Wrong: a job did not end, or the daemon holds more and more.
        """
        self.fill()
        until = self.site.reactor.seconds() + minutes * 60
        while self.site.reactor.seconds() < until or len(self.samples) < LEAST:
            stop = self.site.reactor.seconds() + WORK_SECONDS
            clients = [Deferred.fromCoroutine(self.client(stop)) for _ in range(CLIENTS)]
            await gatherResults(clients, consumeErrors=True)
            await self.rest()
            self.target.storage = Storage()
            for registry in (self.source, self.target):
                registry.log.clear()
        print(self.judge())

    async def client(self, stop: float) -> None:
        """
        Begin jobs, cancel some, wait for others, plant faults.
        """
        while self.site.reactor.seconds() < stop:
            if self.rng.random() < 0.5:
                registry = self.rng.choice((self.source, self.target))
                registry.faults.plant(self.rng.choice(FAULTS), "/v2/")
            await self.begin()
            await self.site.sleep(self.rng.uniform(0.0, 0.2))

    async def begin(self) -> None:
        """
        Begin one thing.
        """
        name = self.rng.choice(self.references)
        target = f"{self.target.host}/app{self.rng.randrange(IMAGES)}:1"
        what = self.rng.choice(("pull", "pull", "push", "copy", "verify", "remove", "gc", "events"))
        if what == "push":
            present = [image["reference"] for image in await self.ask("GET", "images")]
            what, name = ("push", self.rng.choice(present)) if present else ("pull", name)
        if what == "remove":
            await self.ask("DELETE", f"images/{quote(name)}")
        elif what == "gc":
            await self.ask("POST", "gc", {})
        elif what == "events":
            # xferctl follows a job, and leaves with it.
            await self.site.daemon.try_ctl("pull", name)
        else:
            more = {"target": target} if what in ("push", "copy") else {}
            job = await self.ask("POST", "jobs", {"kind": what, "reference": name, **more})
            if "id" in job:
                await self.follow(str(job["id"]))
        self.begun += 1

    async def follow(self, job: str) -> None:
        """
        Cancel a job, or wait for its end.
        """
        patience = self.rng.choice((0.0, 0.1, 0.5, 3.0))
        await self.site.sleep(self.rng.uniform(0.0, patience))
        if patience < 1:
            await self.ask("DELETE", f"jobs/{job}")

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """
        Send a request that may be refused.
        """
        try:
            return await self.site.api(method, path, body)
        except Wrong:
            return {}

    async def rest(self) -> None:
        """
        Wait until all jobs have ended, remove everything, and take a sample.
        """
        for registry in (self.source, self.target):
            registry.faults.clear()
            registry.resume()
        deadline = self.site.reactor.seconds() + PATIENCE
        while left := [j["id"] for j in (await self.site.jobs()).values() if j["state"] not in ENDED]:
            if self.site.reactor.seconds() > deadline:
                raise Wrong(f"jobs have not ended: {left}")
            for registry in (self.source, self.target):
                registry.resume()
            await self.site.sleep(0.1)
        self.ended.update({job: f"{j['kind']} {j['state']}" for job, j in (await self.site.jobs()).items()})
        for image in await self.site.api("GET", "images"):
            await self.site.api("DELETE", f"images/{quote(image['reference'])}")
        await self.site.api("POST", "gc", {"partials": True})
        await self.site.sleep(1.0)
        self.samples.append(self.sample())
        print(" ".join(f"{name} {value}" for name, value in asdict(self.samples[-1]).items()), flush=True)

    def sample(self) -> Sample:
        """
        Look at the daemon.
        """
        pid, data = self.site.daemon.pid, self.site.data
        processes = [pid, *descendants(pid)]
        kept = ("ingest", "staging", "content/blobs/sha256", "trees/sha256", "layers/sha256")
        return Sample(
            sum(map(memory, processes)),
            len(os.listdir(f"/proc/{pid}/fd")),
            len(os.listdir(f"/proc/{pid}/task")),
            len(processes),
            sum(len(list((data / name).glob("*"))) for name in kept),
            sum(path.stat().st_size for path in data.glob("xferd.db*")) // KIB,
            self.begun,
        )

    def judge(self) -> str:
        """
        Compare the first samples with the last.

        @return: the medians of both.
        @raise Wrong: something has grown.
        """
        compared = self.samples[WARM_UP:]
        third, medians = len(compared) // 3, list[str]()
        for name, slack in SLACK.items():
            first, last = (
                median(getattr(sample, name) for sample in part)
                for part in (compared[:third], compared[-third:])
            )
            medians.append(f"{name} {first:g} and {last:g}")
            if last > first + slack:
                raise Wrong(f"{name} grew from {first:g} to {last:g}")
        for sample in self.samples:
            most = JOURNAL_LEAST + JOURNAL_KIB_PER_JOB * sample.jobs
            if sample.journal > most:
                raise Wrong(
                    f"the journal has {sample.journal} KiB after {sample.jobs} jobs, not at most {most}"
                )
        return f"in the first and in the last third: {', '.join(medians)}"


def descendants(pid: int) -> list[int]:
    """
    The children of a process, and theirs.
    """
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [each for child in map(int, text.split()) for each in (child, *descendants(child))]


def memory(pid: int) -> int:
    """
    KiB of a process: its own pages, and its share of those of files.  Pages of the process
    that forked the daemon count as the daemon's: it gets one after the other for itself.
    """
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = dict(line.split(":", 1) for line in text.splitlines()[1:])
    return sum(int(found[name].split()[0]) for name in ("Anonymous", "Pss_File"))


async def soak(reactor: Any, minutes: float, seed: int) -> int:
    """
    Run a soak.

    @return: 1 where something grew, else 0.
    """
    site = Site(reactor, Path(mkdtemp(prefix="xferd-soak-")))
    registries = Registry(reactor), Registry(reactor)
    for registry in registries:
        await registry.listen(reactor)
    print(f"seed {seed}", flush=True)
    run = Soak(site, Random(seed), *registries)
    failed = 0
    try:
        await site.configure({})
        await run.run(minutes)
    except Wrong as e:
        print(f"with seed {seed}: {e}")
        failed = 1
    finally:
        await site.daemon.stop()
        for registry in registries:
            await registry.stop()
        shutil.rmtree(site.place)
    print(", ".join(f"{count} {what}" for what, count in sorted(Counter(run.ended.values()).items())))
    return failed


def main() -> None:
    """
    Read the command line.
    """
    parser = ArgumentParser("python -m tests.soak", description="Look for what grows in a daemon at work.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long at least (60)")
    parser.add_argument("--seed", type=int, help="the seed of an earlier run")
    args = parser.parse_args()
    seed = randbits(32) if args.seed is None else args.seed

    async def run(reactor: Any) -> None:
        sys.exit(await soak(reactor, args.minutes, seed))

    react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
