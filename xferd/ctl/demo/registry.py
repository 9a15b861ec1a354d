# -*- test-case-name: tests.ctl.demo.test_registry -*-
"""
The demo's registry, a process of its own: C{python -m xferd.ctl.demo.registry
DIRECTORY RATE}.

It serves one image, made from this machine's programs and documents.  Its
first line of output describes the image as JSON.  It answers each line of
input with the bytes that it has sent, and ends when its input ends.
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
    Reports the registry's image, and the bytes that it has sent.

    @ivar ended: fires when the input ends.
    """

    delimiter = b"\n"

    def __init__(self, registry: Registry, image: SampleImage) -> None:
        self._registry = registry
        self._image = image
        # Never cancelled: it ends the process.
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        """
        Report the image.
        """
        self._send(
            reference=f"{self._registry.host}/{REPOSITORY}:latest",
            layers=len(self._image.layers),
            bytes=sum(blob.descriptor.size for blob in self._image.blobs),
        )

    def lineReceived(self, line: bytes) -> None:  # noqa: ARG002 - any line asks for the report
        """
        Report the bytes sent.
        """
        gets = [e for e in self._registry.log if e.method == "GET" and "/blobs/" in e.path]
        self._send(bytes=self._registry.bytes_sent, requests=len(gets))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # noqa: ARG002
        """
        Fire L{ended}.
        """
        self.ended.callback(None)

    def _send(self, **facts: object) -> None:
        self.sendLine(json.dumps(facts).encode())


async def serve(reactor: IReactor, directory: str, rate: float) -> None:
    """
    Make the image and serve it.

    @param directory: an empty directory for the blobs.
    @param rate: bytes per second of each answer.
    """
    # Every user of this machine can read what the port serves.
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
