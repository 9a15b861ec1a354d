"""
The way out: pushes into an empty registry and into one that has all already,
and copies from registry to registry.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.figures import Outcome, Row, Series, with_ratios
from benchmarks.images import Image
from benchmarks.memory import Peaks
from benchmarks.places import in_memory
from benchmarks.registry import TAG, Registry
from benchmarks.rounds import OURS, REPEATS, Setting, finish, moved, started


def push(setting: Setting, image: Image) -> Outcome:
    """
    Push an image that was pulled into an empty registry: the time of the
    client's whole process.

    The round that is not counted is that in which memory is looked at.
    """
    with ExitStack() as stack:
        peers, missing = setting.pulled(image, stack)
        peaks: dict[str, Peaks] = {}

        def once(name: str, number: int) -> float:
            peer = peers[name]
            with _empty() as registry:
                client = peer.push(image.at(setting.registry), f"{registry.host}/pushed:{TAG}")
                return finish(peer, client, number, peaks)

        values, failed = setting.in_rounds(list(peers), once)
    return moved("push", image, values, peaks, [*missing, *failed])


def there(setting: Setting, image: Image) -> Outcome:
    """
    Push an image that the registry has already: the time of the client's
    whole process.
    """
    with ExitStack() as stack:
        peers, missing = setting.pulled(image, stack)
        registry = stack.enter_context(_empty())

        def once(name: str, _: int) -> float:
            # Each has a repository of its own, which the first round fills.
            client = peers[name].push(image.at(setting.registry), f"{registry.host}/{name}:{TAG}")
            return client.finish() * 1000

        values, failed = setting.in_rounds(list(peers), once, unit="ms", runs=setting.runs * REPEATS)
    rows = [Row(name, "ms", Series(took)) for name, took in values.items()]
    return Outcome("there", str(image), with_ratios(rows, OURS), [*missing, *failed])


def copy(setting: Setting, image: Image) -> Outcome:
    """
    Copy an image into an empty registry, with an empty store: the time of the
    client's whole process.

    The round that is not counted is that in which memory is looked at.
    """
    kinds = {kind.name: kind for kind in setting.peers}
    peaks: dict[str, Peaks] = {}

    def once(name: str, number: int) -> float:
        with started(kinds[name], setting.registry) as peer, _empty() as registry:
            client = peer.copy(image.at(setting.registry), f"{registry.host}/copied:{TAG}")
            return finish(peer, client, number, peaks)

    values, missing = setting.in_rounds(list(kinds), once)
    return moved("copy", image, values, peaks, missing)


@contextmanager
def _empty() -> Iterator[Registry]:
    """
    A registry that has nothing.
    """
    with in_memory() as place:
        registry = Registry(place, place / "storage")
        try:
            yield registry
        finally:
            registry.stop()
