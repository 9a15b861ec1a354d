# -*- test-case-name: tests.testing.test_main -*-
"""
C{python -m xferd.testing}: a registry on the loopback interface, until it is
interrupted.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import react

from xferd.interfaces.reactor import IReactor
from xferd.testing.images import sample_image
from xferd.testing.registry import Registry


def parse(arguments: Sequence[str]) -> Namespace:
    """
    Read the command line.
    """
    parser = ArgumentParser(prog="python -m xferd.testing", description="A registry for tests.")
    parser.add_argument("--port", type=int, default=0, help="where to listen; any free port by default")
    parser.add_argument("--dir", type=Path, help="keep everything in this directory, not in memory")
    parser.add_argument("--rate", type=float, help="send each blob at so many bytes a second")
    parser.add_argument("--sample", action="store_true", help="have an image sample:latest")
    parser.add_argument("--layers", type=int, default=3, help="how many layers it has; default: %(default)s")
    parser.add_argument(
        "--size", type=int, default=1024 * 1024, help="bytes of each of them; default: %(default)s"
    )
    return parser.parse_args(arguments)


async def serve(reactor: IReactor, arguments: Sequence[str]) -> None:
    """
    Run a registry and print its address.
    """
    options = parse(arguments)
    registry = Registry(reactor, directory=options.dir, rate=options.rate)
    if options.sample:
        registry.add(sample_image(options.layers, options.size), "sample")
    await registry.listen(reactor, options.port)
    print(registry.url, flush=True)
    await Deferred()  # Until the reactor stops: nothing else ends it.


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor, sys.argv[1:])))
