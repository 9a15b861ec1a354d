"""
Pulls, one at a time: of a whole image, of an image that is in the store, over a
slow link, and one that is interrupted.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from datetime import datetime
from time import sleep

from benchmarks.figures import Outcome, Row, Series, with_ratios
from benchmarks.images import Image
from benchmarks.link import link
from benchmarks.memory import Peaks
from benchmarks.peers import ROOT, Xferd
from benchmarks.places import in_memory
from benchmarks.processes import Failed, Program
from benchmarks.registry import Registry
from benchmarks.rounds import OURS, REPEATS, Setting, finish, moved, started

_MBIT = 40


def pull(setting: Setting, image: Image) -> Outcome:
    """
    Pull an image into an empty store: the time of the client's whole process.

    The round that is not counted is that in which memory is looked at.
    """
    kinds = {kind.name: kind for kind in setting.peers}
    peaks: dict[str, Peaks] = {}

    def once(name: str, number: int) -> float:
        with started(kinds[name], setting.registry) as peer:
            return finish(peer, peer.pull(image.at(setting.registry)), number, peaks)

    values, missing = setting.in_rounds(list(kinds), once)
    return moved("pull", image, values, peaks, missing)


def again(setting: Setting, image: Image) -> Outcome:
    """
    Pull an image that is in the store: the time of the client's whole process,
    and of the job in the daemon.
    """
    inside: list[float] = []
    with ExitStack() as stack:
        peers, missing = setting.pulled(image, stack)

        def once(name: str, number: int) -> float:
            peer = peers[name]
            took = peer.pull(image.at(setting.registry)).finish()
            if isinstance(peer, Xferd) and number:
                job = peer.api.jobs()[0]
                created, finished = (datetime.fromisoformat(job[key]) for key in ("created", "finished"))
                inside.append((finished - created).total_seconds() * 1000)
            return took * 1000

        values, failed = setting.in_rounds(list(peers), once, unit="ms", runs=setting.runs * REPEATS)
    rows = with_ratios([Row(name, "ms", Series(took)) for name, took in values.items()], OURS)
    if inside:
        rows.insert(1, Row(f"{OURS}, in the daemon", "ms", Series(inside)))
    return Outcome("again", str(image), rows, [*missing, *failed])


def slow(setting: Setting, image: Image) -> Outcome:
    """
    Pull over a slow link, beside the time of the bytes alone.  There is one round,
    and all of it counts: the link takes nearly all the time, and is steady.
    """
    subject = f"{_MBIT} Mbit/s, {image}"
    rows, missing = [], []
    with ExitStack() as stack:
        try:
            line = stack.enter_context(link(_MBIT))
            place = stack.enter_context(in_memory())
            registry = Registry(place, setting.registry.storage, line.address, line.far)
        except Failed as e:
            return Outcome("link", subject, [], [str(e)])
        stack.callback(registry.stop)
        paths = [f"/v2/{image.repository}/blobs/{digest}" for digest in image.blobs]
        fetch = [*line.near, sys.executable, "-m", "benchmarks.fetch", registry.host, *paths]
        alone = Program(fetch, place / "fetch.log", {"PYTHONPATH": ROOT}).finish()
        setting.tell(f"  the bytes alone: {alone:.3f} s")
        rows.append(Row("the bytes alone", "s", Series([alone]), {"it / bytes": 1.0}))
        for kind in setting.peers:
            try:
                with started(kind, registry, line.near) as peer:
                    took = peer.pull(image.at(registry)).finish()
            except Failed as e:
                missing.append(f"{kind.name}: {e}")
                continue
            setting.tell(f"  {kind.name}: {took:.3f} s")
            rows.append(Row(kind.name, "s", Series([took]), {"it / bytes": took / alone}))
    return Outcome("link", subject, rows, missing)


def stop(setting: Setting, image: Image) -> Outcome:
    """
    Stop a daemon in the middle of a pull: the time from C{SIGTERM} to its end.
    """
    kinds = {kind.name: kind for kind in setting.peers}
    half: dict[str, float] = {}

    def once(name: str, number: int) -> float:
        with started(kinds[name], setting.registry) as peer:
            if peer.daemon is None:
                raise Failed("has no daemon")
            client = peer.pull(image.at(setting.registry))
            if number == 0:
                half[name] = client.finish() / 2
                return peer.stop()
            try:
                sleep(half[name])
                if not client.running:
                    raise Failed("the pull was over before it was stopped")
                return peer.stop()
            finally:
                client.stop()

    values, missing = setting.in_rounds(list(kinds), once)
    rows = [Row(name, "s", Series(took)) for name, took in values.items()]
    return Outcome("stop", str(image), with_ratios(rows, OURS), missing)
