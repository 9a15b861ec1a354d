# -*- test-case-name: tests.ctl.demo.test_registry -*-
"""
The registry of the demo, a process of its own: C{python -m
xferd.ctl.demo.registry DIRECTORY RATE}.

It serves one image, made of this machine's own programs and documents.  It
says where and what on its first line, as JSON; whatever line it is then given,
it answers with what it has sent since it started; and it ends with its input.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver

from xferd.testing.images import from_directories, own_directories
from xferd.testing.registry import Registry

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from xferd.interfaces.reactor import IReactor
    from xferd.testing.images import SampleImage

REPOSITORY = "demo/this-machine"


class Counter(LineOnlyReceiver):
    """
    Tells what the registry has, and what it has sent.

    @ivar ended: fires when nobody asks any more.
    """

    delimiter = b"\n"

    def __init__(self, registry: Registry, image: SampleImage) -> None:
        self._registry = registry
        self._image = image
        # Nobody cancels this: it is the end of the process.
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """
        Say where and what.
        """
        self._say(
            reference=f"{self._registry.host}/{REPOSITORY}:latest",
            layers=len(self._image.layers),
            bytes=sum(blob.descriptor.size for blob in self._image.blobs),
        )

    def lineReceived(self, line: bytes) -> None:  # noqa: ARG002 - any line is the question
        """
        Say what was sent.
        """
        gets = [e for e in self._registry.log if e.method == "GET" and "/blobs/" in e.path]
        self._say(bytes=self._registry.bytes_sent, requests=len(gets))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # noqa: ARG002
        """
        Nobody asks any more.
        """
        self.ended.callback(None)

    def _say(self, **facts: object) -> None:
        """
        Write a line.
        """
        self.sendLine(json.dumps(facts).encode())


async def serve(reactor: IReactor, directory: str, rate: float) -> None:
    """
    Make the image and serve it.

    @param directory: an empty one, for the blobs.
    @param rate: bytes a second of each answer.
    """
    # Whoever can reach the port can read what it serves.
    public = [path for path in own_directories() if path.startswith(("/usr/", sys.prefix))]
    image = from_directories(public, directory)
    registry = Registry(reactor, rate=rate)
    registry.add(image, REPOSITORY)
    await registry.listen(reactor)
    counter = Counter(registry, image)
    StandardIO(counter, reactor=reactor)
    await counter.ended
    await registry.stop()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(serve(reactor, sys.argv[1], float(sys.argv[2]))))
