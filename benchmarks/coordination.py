"""
How many requests a fleet makes to etcd.

C{python -m benchmarks.coordination NODES SECONDS}: nodes of a fleet in one process, at a real
etcd, each of which pulls 200 images an hour.  An image has five blobs of 1 MiB and more, of
which three begin at once; four of five images are on other nodes already.  etcd's own
counters are read: a request of the gateway is one of gRPC.
"""

from __future__ import annotations

import re
import sys
from random import Random
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any
from urllib.request import urlopen

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater, react
from twisted.internet.threads import deferToThread

from tests.integration.etcds import Etcd
from xferd.errors import CoordinationUnavailable
from xferd.fleet.etcd.client import EtcdClient
from xferd.fleet.etcd.coordination import EtcdCoordination
from xferd.fleet.etcd.settings import EtcdSettings
from xferd.interfaces.fleet import Node, Peer
from xferd.names import Digest

IMAGES_AN_HOUR = 200
BLOBS = 5
AT_ONCE = 3
POPULAR = 300
"""Images that most nodes pull."""

DOWNLOAD_SECONDS = 1.0
TAG_SECONDS = 60.0


class Pulls:
    """
    The pulls of one node.
    """

    def __init__(self, reactor: Any, node: EtcdCoordination, random: Random, latencies: list[float]) -> None:
        self._reactor = reactor
        self._node = node
        self._random = random
        self._latencies = latencies
        self.images = self.failed = 0

    async def run(self, seconds: float) -> None:
        """
        Pull for some time.
        """
        until = self._reactor.seconds() + seconds
        pulls = []
        while True:
            pause = self._random.expovariate(IMAGES_AN_HOUR / 3600)
            await deferLater(self._reactor, min(pause, max(until - self._reactor.seconds(), 0)))
            if self._reactor.seconds() >= until:
                break
            pulls.append(Deferred.fromCoroutine(self._pull()))
        await gatherResults(pulls)

    async def _pull(self) -> None:
        self.images += 1
        popular = self._random.random() < 0.8
        image = self._random.randrange(POPULAR) if popular else self._random.getrandbits(60)
        try:
            tag = f"registry.example/app-{image}:1"
            if await self._timed(self._node.fresh_tag(tag)) is None:
                self._node.tag_checked(tag, Digest.of(b"%d" % image), TAG_SECONDS)
            blobs = [Digest.of(b"%d %d" % (image, n)) for n in range(BLOBS)]
            lanes = [Deferred.fromCoroutine(self._fetch(blobs[n::AT_ONCE])) for n in range(AT_ONCE)]
            await gatherResults(lanes, consumeErrors=True)
        except Exception as e:
            self.failed += 1
            print(f"failed: {e}", file=sys.stderr)

    async def _fetch(self, blobs: list[Digest]) -> None:
        for digest in blobs:
            found = (await self._timed(self._node.look([digest])))[digest]
            claim = found.claim
            if not found.holders and claim is None:
                claim = await self._timed(self._node.claim(digest, 50 << 20, "registry.example/app"))
            await deferLater(self._reactor, DOWNLOAD_SECONDS * (0.5 + self._random.random()))
            self._node.announce([digest])
            if claim is not None and claim.mine:
                self._node.release(claim)

    async def _timed(self, call: Deferred[Any]) -> Any:
        began = self._reactor.seconds()
        result = await call
        self._latencies.append(self._reactor.seconds() - began)
        return result


def counters(url: str) -> tuple[dict[str, int], float]:
    """
    Read etcd's counters.

    @return: the requests by method, and its seconds of CPU.
    """
    with urlopen(f"{url}/metrics") as response:
        text = response.read().decode()
    pattern = r'^grpc_server_started_total\{grpc_method="(\w+)".*\} (\S+)$'
    requests = {method: int(float(n)) for method, n in re.findall(pattern, text, re.MULTILINE) if float(n)}
    used = re.search(r"^process_cpu_seconds_total (\S+)$", text, re.MULTILINE)
    assert used is not None
    return requests, float(used[1])


async def main(reactor: Any, number: str, seconds: str) -> None:
    """
    Measure.
    """
    with TemporaryDirectory() as directory:
        etcd = Etcd(reactor, f"{directory}/etcd")
        await etcd.start()
        nodes = []
        for n in range(int(number)):
            client = EtcdClient(reactor, EtcdSettings.read((etcd.url,)))
            peer = Peer(f"node-{n}", f"http://10.0.{n // 250}.{n % 250}:5000")
            node = EtcdCoordination(reactor, client, Node(peer, "1.0", 1e9), Random(n))
            nodes.append(node)
            node.start()
            await deferLater(reactor, 0.01)
        await deferLater(reactor, 5.0)
        print("available", sum(node.available for node in nodes), "of", len(nodes))
        latencies: list[float] = []
        pulls = [Pulls(reactor, node, Random(n), latencies) for n, node in enumerate(nodes)]
        before, used = await deferToThread(counters, etcd.url)
        own, began = process_time(), reactor.seconds()
        await gatherResults([Deferred.fromCoroutine(each.run(float(seconds))) for each in pulls])
        await deferLater(reactor, 1.0)
        took = reactor.seconds() - began
        after, used_after = await deferToThread(counters, etcd.url)
        images, failed = sum(each.images for each in pulls), sum(each.failed for each in pulls)
        print(
            f"{images} images, {failed} failed, in {took:.0f} s; available {sum(n.available for n in nodes)}"
        )
        total = alive = 0
        for method, count in sorted(after.items()):
            made = count - before.get(method, 0)
            total += made
            alive += made if method == "LeaseKeepAlive" else 0
            print(f"  {method:15} {made:6} {made / took:8.1f}/s")
        per_image = (total - alive) / max(images, 1)
        print(f"  all             {total:6} {total / took:8.1f}/s; {per_image:.2f} an image")
        latencies.sort()
        if latencies:
            middle, late = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
            print(f"a call: median {middle * 1000:.1f} ms, 99 % {late * 1000:.1f} ms, of {len(latencies)}")
        print(f"etcd {100 * (used_after - used) / took:.1f} % of a CPU", end=", ")
        print(f"all nodes {100 * (process_time() - own) / took:.1f} %")
        for node in nodes:
            try:
                await node.stop()
            except CoordinationUnavailable:
                pass
        await etcd.kill()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, *sys.argv[1:])))
