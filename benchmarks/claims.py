"""
The coordination of one node by etcd: C{python -m benchmarks.claims URL COUNT}.

Looks COUNT blobs up, one after the other, claims each, announces it and releases the
claim.  Prints, as JSON, the milliseconds of waiting for each blob, of CPU time for each
blob, and the requests to etcd for each blob.
"""

from __future__ import annotations

import json
import sys
from random import Random
from time import process_time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.coordination import EtcdCoordination
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.interfaces.fleet import MIN_SHARED, Node, Peer
from xferd.names import Digest


async def measure(clock: Any, url: str, number: int) -> None:
    """
    Use an etcd.
    """
    client = EtcdClient(clock, EtcdSettings.read((url,)))
    node = Node(Peer("benchmark", "http://127.0.0.1:5000"), "", 0.0)
    coordination = EtcdCoordination(clock, client, node, Random(1))
    coordination.start()
    while not coordination.available:
        await deferLater(clock, 0.05)
    waited, cpu, requests = 0.0, process_time(), client.requests
    for each in range(number):
        digest = Digest.of(b"%d" % each)
        began = clock.seconds()
        await coordination.look([digest])
        claim = await coordination.claim(digest, MIN_SHARED, "registry.example/app")
        waited += clock.seconds() - began
        coordination.announce([digest])
        coordination.release(claim)
    cpu, requests = process_time() - cpu, client.requests - requests
    await coordination.stop()
    print(json.dumps([waited / number * 1000, cpu / number * 1000, requests / number]))


def main(reactor: Any, url: str, number: str) -> Deferred[None]:
    """
    See the module.
    """
    return Deferred.fromCoroutine(measure(reactor, url, int(number)))


if __name__ == "__main__":
    react(main, sys.argv[1:])
