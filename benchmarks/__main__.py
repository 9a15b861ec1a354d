# -*- test-case-name: tests.test_benchmarks -*-
"""
The command line: see C{python -m benchmarks --help}.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import capped, fleet, pulls, pushes, shared, store, thin
from benchmarks.engines import ENGINE
from benchmarks.figures import Outcome
from benchmarks.images import KINDS, Image, put
from benchmarks.many import MANY
from benchmarks.mirror import MIRROR
from benchmarks.peers import PEERS, Peer
from benchmarks.places import in_memory
from benchmarks.processes import Failed
from benchmarks.registry import Registry
from benchmarks.rounds import Setting
from benchmarks.through import through

BENCHMARKS: Mapping[str, str] = {
    "pull": "pull each image into an empty store",
    "again": "pull an image that is there already",
    "push": "push an image into an empty registry",
    "there": "push an image that the registry has already",
    "copy": "copy an image from registry to registry",
    "clients": "pull one image for a hundred clients at once",
    "link": "pull over a link of 40 Mbit/s",
    "capped": "pull one large blob from a registry that caps each stream",
    "thin": "push and pull over a link of 1 Mbit/s, with a registry that drops slow streams",
    "stop": "stop the daemon in the middle of a pull",
    "queue": "queue ten thousand transfers",
    "pieces": "count the bytes of 100 transfers against limits of bandwidth",
    "names": "name an image, beside a thousand names and ten thousand",
    "records": "write into the journal, beside a thousand records and a million",
    "pause": "find the reactor's longest pause during a pull",
    "follow": "pull an image of 40 layers for a hundred clients that follow their jobs",
    "pages": "begin jobs while a hundred status pages follow a pull",
    "blobs": "copy 1,500, 3,000 and 6,000 small blobs",
    "snapshots": "count the snapshots of transfers that event streams cost",
    "here": "pull images that are there already, for 50 clients",
    "transfers": "list 5,000 transfers",
    "hits": "serve a blob from the store to 1 and 64 clients, beside other servers",
    "misses": "serve a blob that arrives over a link of 40 Mbit/s",
    "connections": "find the memory that 200 connections cost",
    "disk": "find the memory and the reactor's pauses that a blob of 10 GB on a disk costs",
    "through": "pull each image by container engines through xferd, and straight from the registry",
    "engine-pull": "pull each image by container engines, in their own way and on xferd",
    "engine-again": "pull an image that xferd has into an engine's empty store",
    "engine-prepares": "prepare the snapshots of 20 containers at once",
    "engine-cost": "pull an image for no engine, with engines in the configuration and without",
    "fleet-pull": "pull on 8 nodes of a fleet at once over a link of 40 Mbit/s, and on one more later",
    "fleet-coordination": "look up, claim and announce blobs at etcd",
}
"""What each is for."""

GROUPS: Mapping[str, Sequence[str]] = {
    "many": (*MANY, "clients"),
    "mirror": (*MIRROR, "through"),
    "engines": tuple(ENGINE),
    "fleet": ("fleet-pull", *fleet.FLEET),
}
"""
Several benchmarks under one name: how cost grows with blobs, jobs and event streams,
xferd as a registry, container engines on its store, and nodes of a fleet.
"""

_OF_IMAGES: Mapping[str, Callable[[Setting, Image], Outcome]] = {
    "pull": pulls.pull,
    "again": pulls.again,
    "push": pushes.push,
    "there": pushes.there,
    "copy": pushes.copy,
    "clients": shared.clients,
    "link": pulls.slow,
    "stop": pulls.stop,
    "pause": shared.pause,
    "fleet-pull": fleet.pull,
    "through": through,
    **ENGINE,
}

_OF_EACH_IMAGE = ("pull", "engine-pull", "through")
"""Those that take each image; the others take the smallest."""


def parse(argv: Sequence[str]) -> Namespace:
    """
    Read the arguments.
    """
    parser = ArgumentParser(
        prog="python -m benchmarks",
        description="Measure xferd beside docker, podman, containerd and skopeo.",
        epilog="benchmarks: "
        + "; ".join(f"{name}: {summary}" for name, summary in BENCHMARKS.items())
        + "; "
        + "; ".join(f"{name}: {', '.join(names)}" for name, names in GROUPS.items()),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; default: all")
    parser.add_argument(
        "--image",
        action="append",
        metavar="KIND|REF",
        help=f"one of {', '.join(KINDS)}, made of this machine's Debian packages, or the reference of an "
        "image in a registry, which skopeo copies; 'pull', 'engine-pull' and 'through' take each, the others "
        "the smallest; default: golang-like and wordpress-like",
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="how often to time; default: 5")
    parser.add_argument(
        "--peers",
        metavar="NAME,...",
        type=lambda text: text.split(","),
        default=[peer.name for peer in PEERS],
        help="whom to run; default: all of %(default)s that are installed",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "xferd-benchmarks",
        help="where to keep the images that were made; default: %(default)s",
    )
    parser.add_argument(
        "--beside",
        type=Path,
        metavar="DIR",
        help="a checkout of another version of xferd, measured beside this one by 'many' and 'pause'",
    )
    parser.add_argument(
        "--disk",
        action="store_true",
        help="have the stores of 'engine-pull' on a disk, below TMPDIR or /var/tmp, in place of memory",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    args.names = [one for name in args.names for one in GROUPS.get(name, [name])]
    for name in args.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}: there are {', '.join(BENCHMARKS)}")
    for name in args.peers:
        if name not in [peer.name for peer in PEERS]:
            parser.error(f"{name!r} is none of {', '.join(peer.name for peer in PEERS)}")
    if args.runs < 1:
        parser.error("--runs must be at least 1")
    args.names = args.names or list(BENCHMARKS)
    args.image = args.image or ["golang-like", "wordpress-like"]
    return args


def main(argv: Sequence[str]) -> int:
    """
    Run the benchmarks that the arguments name.

    @return: the exit status: 1 if a benchmark could not be run at all.
    """
    args = parse(argv)
    machine, missing = describe(), []
    peers: list[type[Peer]] = []
    for peer in PEERS:
        if peer.name in args.peers:
            try:
                machine[peer.name] = peer.check()
                peers.append(peer)
            except Failed as e:
                missing.append(f"{peer.name}: {e}")
    if not args.json:
        print("\n".join(f"{name}: {value}" for name, value in machine.items()), flush=True)
    outcomes: list[Outcome] = []
    try:
        with in_memory() as place:
            registry = Registry(place, place / "storage")
            try:
                for outcome in _run(args, Setting(args.runs, peers, registry, _tell, args.beside, args.disk)):
                    outcomes.append(outcome)
                    if not args.json:
                        print("", *outcome.lines(), sep="\n", flush=True)
            finally:
                registry.stop()
    except Failed as e:
        missing.append(str(e))
    machine["load at the end"] = _load()
    if args.json:
        print(
            json.dumps({"machine": machine, "outcomes": [o.to_json() for o in outcomes], "missing": missing})
        )
    else:
        print("", f"load at the end: {_load()}", *(f"not run: {why}" for why in missing), sep="\n")
    return 1 if any(not outcome.rows for outcome in outcomes) or not outcomes else 0


def describe() -> dict[str, str]:
    """
    What machine this is.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": f"{len(os.sched_getaffinity(0))} cores, {memory / 2**30:.0f} GiB of memory",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load at the start": _load(),
    }


def _run(args: Namespace, setting: Setting) -> Iterator[Outcome]:
    """
    Run the benchmarks.

    @raise Failed: an image cannot be had.
    """
    images = []
    alone: Mapping[str, Callable[[Setting], Outcome]] = {
        "queue": shared.queue,
        "pieces": shared.pieces,
        "names": store.names,
        "records": store.records,
        "capped": capped.pull,
        "thin": thin.thin,
        **MANY,
        **MIRROR,
        **fleet.FLEET,
    }
    if not set(args.names) <= set(alone):
        for name in args.image:
            _tell(f"image {name}")
            images.append(put(name, setting.registry, args.cache))
    for name in args.names:
        if name in alone:
            _tell(name)
            yield alone[name](setting)
            continue
        for image in images if name in _OF_EACH_IMAGE else [min(images, key=lambda image: image.size)]:
            _tell(f"{name}: {image}")
            yield _OF_IMAGES[name](setting, image)


def _load() -> str:
    """
    How busy the machine is.
    """
    return ", ".join(f"{n:.2f}" for n in os.getloadavg())


def _tell(text: str) -> None:
    """
    Print a line of progress.
    """
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
