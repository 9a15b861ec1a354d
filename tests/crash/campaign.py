"""
Rounds of work with kills, and what has to be true after each kill and in the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from random import Random
from typing import Any

from attrs import define, field

from tests.crash.site import ENDS, PATIENCE, Kill, Site, Wrong
from tests.crash.store_check import StoreCheck
from tests.crash.traffic import STEP, lives, moved_twice
from tests.crash.work import KINDS, Work, remove
from xferd.ctl.client import ENDED
from xferd.testing.registry import Registry

MOST_KILLS = 4
"""Kills of daemons in a round: after five deaths in a row, a job is not begun again."""

STARTS_KILLED = 1 / 6
"""How often a daemon is killed while it starts."""

LONGEST_START = 1.5
"""Seconds within which."""

VICTIMS = ("daemon", "daemon", "daemon", "worker", "layer")


@define
class Figures:
    """
    The figures of one kind of work.

    @ivar kills: by victim.
    @ivar streams: the streams that kills of the daemon broke.
    @ivar staged: the kills that met layers being unpacked.
    @ivar uploads: the kills that met uploads.
    @ivar twice: bytes that daemons got twice.
    @ivar most: the same, after one kill.
    @ivar sent_twice: bytes that daemons pushed twice.
    """

    kills: Counter[str] = field(factory=Counter)
    streams: int = 0
    staged: int = 0
    uploads: int = 0
    twice: int = 0
    most: int = 0
    sent_twice: int = 0


class Campaign:
    """
    A number of kills of daemons in one data directory.
    """

    def __init__(self, site: Site, seed: int, names: Sequence[str], say: Callable[[str], object]) -> None:
        """
        @param names: the kinds of work.
        @param say: gets a line for each round.
        """
        self.figures = {name: Figures() for name in names}
        self._site = site
        self._seed = seed
        self._say = say
        self._check = StoreCheck(site.data)

    async def run(self, kills: int) -> None:
        """
        Run rounds until so many processes were killed.

        @raise Wrong: a check failed; it says in which round, and after which kills.
        """
        for number, name in enumerate(cycle(self.figures)):
            round_ = _Round(self._site, self._check, name, Random(f"{self._seed} {number}"), self)
            await round_.run(number)
            if sum(sum(figures.kills.values()) for figures in self.figures.values()) >= kills:
                await round_.verify()
                break

    def say(self, text: str) -> None:
        """
        Report progress.
        """
        self._say(text)


class _Round:
    """
    One round: begin work, kill, start again, and wait until all is done.
    """

    def __init__(self, site: Site, check: StoreCheck, name: str, rng: Random, campaign: Campaign) -> None:
        self._site = site
        self._check = check
        self._kind = KINDS[name]
        self._rng = rng
        self._campaign = campaign
        self._figures = campaign.figures[name]
        self._kills: list[Kill] = []
        self._done: set[str] = set()
        self._work = Work(name, rng, Registry(site.reactor), Registry(site.reactor))

    async def run(self, number: int) -> None:
        work = self._work
        await work.source.listen(self._site.reactor)
        await work.target.listen(self._site.reactor)
        try:
            await self._site.configure(self._kind.limits)
            await self._kind.begin(self._site, work)
            for _ in range(self._rng.randint(2, MOST_KILLS)):
                if self._ends() < MOST_KILLS:
                    await self._kill()
            await self._end()
        except Wrong as e:
            kills = "; ".join(map(str, self._kills))
            raise Wrong(f"round {number} ({work.name}), {kills}: {e}") from e
        finally:
            for registry in (work.source, work.target):
                await registry.stop()
            for other in work.others:
                await other.stop()

    async def _kill(self) -> None:
        """
        Kill at an instant, look at the disk, and start the next daemon.
        """
        after = self._rng.uniform(0.0, self._kind.span)
        victim = self._rng.choice(VICTIMS)
        if len(self._kills) > self._ends():
            victim = "daemon"  # A layer whose process dies twice is given up.
        began = self._site.reactor.seconds()
        while (left := began + after - self._site.reactor.seconds()) > 0:
            self._note(await self._site.jobs())
            await self._site.sleep(min(left, 0.05))
        kill = await self._count_kill(victim, after)
        if kill.victim == "daemon":
            while self._ends() < MOST_KILLS and self._rng.random() < STARTS_KILLED:
                starting = self._site.begin_start()
                await self._site.sleep(after := self._rng.uniform(0.0, LONGEST_START))
                await self._count_kill("start", after)
                await starting
            await self._site.make().start()
            jobs = await self._site.jobs()
            lost = [job for job in self._done if jobs[job]["state"] != "done"]
            if lost:
                raise Wrong(f"jobs that were done are not: {lost}")

    def _ends(self) -> int:
        """
        The number of daemons that were killed.
        """
        return sum(kill.victim in ENDS for kill in self._kills)

    async def _count_kill(self, victim: str, after: float) -> Kill:
        """
        Kill a process, and look at the disk.
        """
        kill = await self._site.kill(victim, after, self._work.source, self._work.target)
        self._kills.append(kill)
        figures = self._figures
        figures.kills[kill.victim] += 1
        figures.staged += kill.staged > 0
        figures.uploads += kill.uploads > 0
        if kill.victim in ENDS:
            figures.streams += kill.queues.streams
            if problems := self._check.problems():
                raise Wrong(f"before the next start: {problems}")
        return kill

    def _note(self, jobs: Mapping[str, Mapping[str, Any]]) -> None:
        """
        Note the jobs that are reported as done.
        """
        self._done |= {job for job in self._work.jobs if job in jobs and jobs[job]["state"] == "done"}

    async def _end(self) -> None:
        """
        Wait until all jobs have ended, and check everything.
        """
        site, work = self._site, self._work
        await self._until(self._all_ended, "jobs have not ended")
        jobs = await site.jobs()
        for job in work.jobs:
            if jobs[job]["state"] != "done":
                raise Wrong(f"job {job} is {jobs[job]['state']}: {jobs[job]['error']}")
        for client in work.clients:
            output, errors, status = await client
            if status != 0:
                raise Wrong(f"xferctl ended with {status}: {output}{errors}")
        if work.removed:
            await remove(site, work.removed)
        names = self._check.names()
        missing, kept = work.images - names, work.removed & names
        if missing or kept:
            raise Wrong(f"images are missing: {missing}, or were not removed: {kept}")
        await self._until(self._is_tidy, "files are left over")
        if problems := self._check.problems():
            raise Wrong(f"in the end: {problems}")
        if work.name == "verify":
            await self.verify()
        self._count()
        self._count_pushed()

    async def verify(self) -> None:
        """
        Verify all content with the daemon.
        """
        verification = await self._site.begin("verify", None)
        await self._until(self._all_ended, "the verification has not ended")
        job = await self._site.api("GET", f"jobs/{verification}")
        if job["state"] != "done" or job["findings"]:
            raise Wrong(f"the verification is {job['state']}: {job['findings'] or job['error']}")

    def _count(self) -> None:
        """
        Count the bytes that were moved twice after each kill.
        """
        kills = [kill for kill in self._kills if kill.victim in ENDS]
        answers = lives([(kill.log, kill.answered) for kill in kills], self._work.source.log)
        told = []
        for kill, again in zip(kills, moved_twice(answers, self._work.documents), strict=True):
            queues = kill.queues
            twice, most = max(0, again - queues.unsent), queues.streams * STEP + queues.received
            if twice > most:
                raise Wrong(f"{twice} bytes were received twice, not at most {most}, after {kill}; {queues}")
            told.append(
                f"{kill.victim} at {kill.after:.2f} s, {queues.streams} streams, {twice // 1024} KiB twice"
            )
            self._figures.twice += twice
            self._figures.most = max(self._figures.most, twice)
        self._campaign.say(f"{self._work.name}: {'; '.join(told)}")

    def _count_pushed(self) -> None:
        """
        Check what was pushed, and count the bytes of it that were sent twice.
        """
        target, size = self._work.target, 0
        for name, image in self._work.pushed.items():
            document = target.storage.stock(name).find("1")
            if document is None or document.digest != image.digest:
                raise Wrong(f"{name} was not pushed")
            size += sum(blob.descriptor.size for blob in image.blobs)
        for path, digest in self._work.links.items():
            if not path.exists() or path.read_text() != digest:
                raise Wrong(f"{path} was not pushed")
        twice, most = target.bytes_received - size, STEP * sum(kill.uploads for kill in self._kills)
        if not 0 <= twice <= most:
            raise Wrong(f"{twice} bytes were pushed twice, not at most {most}")
        self._figures.sent_twice += twice

    async def _all_ended(self) -> str:
        jobs = await self._site.jobs()
        return ", ".join(
            f"{j['kind']} {j['id']} {j['state']} {j['why']}" for j in jobs.values() if j["state"] not in ENDED
        )

    async def _is_tidy(self) -> str:
        return ", ".join(self._check.left_over())

    async def _until(self, look: Callable[[], Any], what: str) -> None:
        """
        Wait until nothing is left to wait for.
        """
        deadline = self._site.reactor.seconds() + PATIENCE
        while left := await look():
            if self._site.reactor.seconds() > deadline:
                raise Wrong(f"{what} within {PATIENCE:g} s: {left}")
            await self._site.sleep(0.1)
