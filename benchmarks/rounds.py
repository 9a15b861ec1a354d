"""
Rounds: all programs are measured in turn, repeatedly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from attrs import frozen

from benchmarks.figures import Outcome, Row, Series, with_ratios
from benchmarks.images import MB, Image
from benchmarks.memory import Peaks, Watch
from benchmarks.peers import Peer, Xferd
from benchmarks.places import in_memory, on_disk
from benchmarks.processes import Failed, Program
from benchmarks.registry import Registry

OURS = Xferd.name

REPEATS = 4
"""How many short runs there are in place of a long one."""

_UNPACKED = 4
"""The bytes of a store for each byte of an image, at most."""

P = TypeVar("P", bound=Peer)


@frozen
class Setting:
    """
    The settings of all benchmarks.

    @ivar runs: number of measurements.
    @ivar peers: the programs that can be run here.
    @ivar registry: the registry on loopback.
    @ivar tell: prints a line of progress.
    @ivar beside: the directory of another version of xferd, to be measured too.
    @ivar disk: whether stores that may be anywhere are on a disk.
    """

    runs: int
    peers: Sequence[type[Peer]]
    registry: Registry
    tell: Callable[[str], None]
    beside: Path | None = None
    disk: bool = False

    def place(self, image: Image) -> AbstractContextManager[Path]:
        """
        The place of a store for an image, for the time of a block.
        """
        return on_disk(_UNPACKED * image.size) if self.disk else in_memory()

    def in_rounds(
        self,
        who: Sequence[str],
        once: Callable[[str, int], float],
        *,
        unit: str = "s",
        runs: int | None = None,
        warm_up: bool = True,
    ) -> tuple[dict[str, list[float]], list[str]]:
        """
        Measure several programs in turn, so that a disturbance of the machine
        affects all.

        The first round is not counted: it loads programs and files into the
        page cache.  A program that fails is left out from there on.

        @param once: measures one of them once; is given its name and the number
            of the round, 0 for the first.
        @param runs: how many rounds count, if not L{runs}.
        @param warm_up: whether there is a first round that is not counted.
        @return: what was measured of those who did not fail, and the sentences
            that tell of the others.
        """
        values: dict[str, list[float]] = {name: [] for name in who}
        missing = []
        rounds = self.runs if runs is None else runs
        for number in range(0 if warm_up else 1, rounds + 1):
            for name in list(values):
                try:
                    value = once(name, number)
                except Failed as e:
                    missing.append(f"{name}: {e}")
                    del values[name]
                    self.tell(f"  {name}: {e}")
                    continue
                shown = "not counted" if number == 0 else f"{number} of {rounds}"
                self.tell(f"  {name}, {shown}: {value:.3f} {unit}")
                if number:
                    values[name].append(value)
        return values, missing

    def pulled(self, image: Image, stack: ExitStack) -> tuple[dict[str, Peer], list[str]]:
        """
        Let all programs pull an image.

        @param stack: ends their daemons.
        @return: the programs that have it, and a sentence about each of the
            others.
        """
        peers: dict[str, Peer] = {}
        missing = []
        for kind in self.peers:
            try:
                peer = stack.enter_context(started(kind, self.registry))
                peer.pull(image.at(self.registry)).finish()
            except Failed as e:
                missing.append(f"{kind.name}: {e}")
            else:
                peers[kind.name] = peer
        return peers, missing


class Served(Protocol):
    """
    A registry, as far as who pulls from it has to know.
    """

    @property
    def host(self) -> str:
        """
        Its address and port.
        """


@contextmanager
def started(
    kind: type[P],
    registry: Served,
    within: Sequence[str] = (),
    where: Callable[[], AbstractContextManager[Path]] = in_memory,
) -> Iterator[P]:
    """
    A program with a fresh store, ready to pull, for the time of the block.

    @param where: makes the place of the store.
    @raise Failed: it does not start.
    """
    with where() as place:
        peer = kind(place, registry.host, within)
        try:
            peer.start()
            yield peer
        finally:
            peer.stop()


def finish(peer: Peer, client: Program, number: int, peaks: dict[str, Peaks]) -> float:
    """
    Wait until a client has done its work; in the round that is not counted,
    with an eye on the memory.

    @return: seconds that it took.
    @raise Failed: it failed.
    """
    if number:
        return client.finish()
    with Watch((peer.daemon or client).pid, [client.pid]) as watch:
        took = client.finish()
    peaks[peer.name] = watch.peaks
    return took


def moved(
    benchmark: str,
    image: Image,
    values: Mapping[str, Sequence[float]],
    peaks: Mapping[str, Peaks],
    missing: Sequence[str],
) -> Outcome:
    """
    The outcome of moving a whole image: times, rates and memory.
    """
    rows = [
        Row(
            name,
            "s",
            Series(took),
            {
                "MB/s": image.size / MB / Series(took).median,
                "MB daemon": peaks[name].main / MB,
                "MB all": peaks[name].together / MB,
            },
        )
        for name, took in values.items()
    ]
    return Outcome(benchmark, str(image), with_ratios(rows, OURS), missing)
