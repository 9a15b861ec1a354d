"""
Large blobs downloaded by several streams, from a registry on real sockets that
limits each of them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, cast

from attrs import evolve
from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from tests.integration.test_daemon import DaemonCase
from xferd.errors import DigestMismatch
from xferd.interfaces.blobs import IPartial
from xferd.interfaces.reactor import IReactor
from xferd.jobs.blobs.ranged_download import RangedDownload, held
from xferd.names import Digest, Reference
from xferd.registry.client import Registries
from xferd.store.store import Store
from xferd.testing.faults import Flip, IgnoreRange
from xferd.testing.images import image_of
from xferd.testing.layers import LayerBuilder
from xferd.testing.registry import Registry
from xferd.transfer.adaptive_streams import RangePolicy, StreamTrials
from xferd.transfer.fair_queue import Turn
from xferd.transfer.slot_request import SlotRequest
from xferd.transfer.slots import Slots

reactor = cast(IReactor, installed)

MEBI = 1024 * 1024
RATE = 2 * MEBI
"""Bytes per second of each stream."""
POLICY = RangePolicy(window=0.3, least=2 * MEBI, lasting=0.5, part=2 * MEBI)


class StreamsTests(TestCase):
    """
    The real registry client, store and streams, with short measuring windows.
    """

    async def setUp(self) -> None:  # type: ignore[override]
        """
        Start all of them.
        """
        self.registry = Registry(reactor, rate=RATE)
        await self.registry.listen(reactor)
        self.addCleanup(self.registry.stop)
        self.store = Store(mkdtemp(prefix="xferd-", dir=self.directory()), reactor, wall_clock=time.time)
        self.store.open()
        self.addCleanup(self.store.stop)
        await self.store.start()
        self.registries = Registries(reactor, wall_clock=time.time)
        self.addCleanup(self.registries.close)
        image = image_of([LayerBuilder("tar").file("data", os.urandom(24 * MEBI)).finish()])
        self.registry.add(image, "team/app", "1")
        self.blob = image.layers[0].blob.descriptor
        self.slots = Slots(4, reactor)
        self.request = SlotRequest([Turn("ci", 0, 1, 0)], self.registry.host)
        _ = self.slots.acquire(self.request)
        self.trials = StreamTrials()
        self.partial: IPartial = await self.store.blobs.partial(self.blob.digest, self.blob.size)
        self.addCleanup(lambda: self.partial.close())

    def directory(self) -> str:
        """
        The data directory.
        """
        path = Path(self.mktemp())
        path.mkdir()
        return str(path)

    async def fill(self, policy: RangePolicy = POLICY) -> None:
        """
        Fill the partial file, and check the blob.
        """
        await self.streams(policy)
        await self.partial.commit()

    def streams(self, policy: RangePolicy = POLICY) -> Deferred[None]:
        """
        Start the download.
        """
        repository = Reference.parse(f"{self.registry.host}/team/app:1").repository
        streams = RangedDownload(
            self.partial,
            self.registries.repository(repository),
            clock=reactor,
            slots=self.slots,
            policy=policy,
            trials=self.trials,
            arrived=lambda _: None,
            changed=lambda _: None,
        )
        return Deferred.fromCoroutine(streams.run())

    def sent(self) -> int:
        """
        The bytes of the blob that the registry has sent.
        """
        return sum(self.sent_by_each())

    def sent_by_each(self) -> list[int]:
        """
        The same, of each response.
        """
        return [exchange.bytes_sent for exchange in self.registry.exchanges("GET", self.blob.digest)]

    async def test_capped(self) -> None:
        """
        If a registry limits each stream, several transfer several times the bytes
        of one in the same time, and each byte is sent once.
        """
        filling = self.streams()
        while not (self.slots.in_use == 4 and self.sent_by_each()[-1]):
            self.assertFalse(filling.called)
            await deferLater(reactor, 0.05)
        before = self.sent_by_each()
        while max(moved := [b - a for a, b in zip_longest(before, self.sent_by_each(), fillvalue=0)]) < MEBI:
            self.assertFalse(filling.called)
            await deferLater(reactor, 0.05)
        self.assertGreater(sum(moved), 2.5 * max(moved))
        await filling
        await self.partial.commit()
        self.assertEqual(self.slots.in_use, 1)
        # A stream that another overtakes is cut, and a little of it is under way.
        self.assertLess(self.sent() / self.blob.size, 1.1)

    async def test_faster(self) -> None:
        """
        The download takes at most half of the time of one stream: no stream transfers more
        than half of the bytes.
        """
        await self.fill()
        self.assertLess(max(self.sent_by_each()), self.blob.size / 2)

    async def test_cancelled_and_resumed(self) -> None:
        """
        A download that was interrupted within several parts resumes at the end
        of each.
        """
        filling = self.streams()
        while self.slots.in_use < 3 and not filling.called:
            await deferLater(reactor, 0.05)
        filling.cancel()
        await self.assertFailure(filling, CancelledError)
        self.assertEqual(self.slots.in_use, 1)
        there = held(self.partial)
        self.partial.close()
        self.partial = await self.store.blobs.partial(self.blob.digest, self.blob.size)
        self.assertEqual(held(self.partial), there)
        await self.fill()
        # Little of what was there is sent again.
        self.assertLess(self.sent() - self.blob.size, there / 2)

    async def test_fast(self) -> None:
        """
        At full speed there is one request.
        """
        self.registry.rate = None
        # On a machine that is loaded, it takes longer than a window of the other tests.
        await self.fill(evolve(POLICY, window=10.0))
        self.assertEqual(self.registry.count("GET", self.blob.digest), 1)

    async def test_range_ignored(self) -> None:
        """
        A registry that ignores Range receives one request for a part, and sends
        the blob by one stream.
        """
        self.registry.rate = 4 * RATE
        self.registry.faults.plant(IgnoreRange(), self.blob.digest, times=None)
        await self.fill()
        first, second = self.registry.exchanges("GET", self.blob.digest)
        self.assertEqual((first.range, first.bytes_sent), (None, self.blob.size))
        self.assertIsNotNone(second.range)
        self.assertLess(second.bytes_sent, MEBI)

    async def test_wrong_byte(self) -> None:
        """
        A wrong byte in a part is detected.
        """
        self.registry.faults.plant(Flip(self.blob.size - 1), self.blob.digest, times=None)
        await self.assertFailure(Deferred.fromCoroutine(self.fill()), DigestMismatch)
        self.assertEqual(held(self.partial), 0)


class DaemonTests(DaemonCase):
    """
    The daemon as a whole.
    """

    async def streaming(self, digest: Digest, streams: int) -> Mapping[str, Any]:
        """
        Wait until a blob is downloaded by a number of streams.
        """

        async def look() -> Any:
            transfers = await self.api("GET", "transfers")
            found = [t for t in transfers if t["kind"] == "download" and t["digest"] == str(digest)]
            return next((t for t in found if t["streams"] >= streams), None)

        return cast("Mapping[str, Any]", await self.until(look))

    async def test_killed(self) -> None:
        """
        After C{kill -9}, the next daemon resumes a layer that was downloaded by
        several streams at the recorded spans, fetches the missing bytes, and
        the image is complete.
        """
        self.registry.rate = 4 * MEBI
        image = image_of([LayerBuilder("tar").file("data", os.urandom(48 * MEBI)).finish()])
        self.registry.add(image, "team/app", "1")
        reference = f"{self.registry.host}/team/app:1"
        blob = image.layers[0].blob.descriptor
        await self.api.pull(reference)
        await self.streaming(blob.digest, 2)
        await deferLater(reactor, 1.5)
        await self.daemon.stop("KILL")
        before = sum(e.bytes_sent for e in self.registry.exchanges("GET", blob.digest))
        self.registry.rate = None
        daemon = await self.start()
        await daemon.ctl("pull", reference)
        (named,) = await self.api("GET", "images")
        self.assertEqual(named["digest"], str(image.digest))
        sent = sum(e.bytes_sent for e in self.registry.exchanges("GET", blob.digest))
        # It did not restart: at most a few mebibytes were not recorded.
        self.assertGreater(before, 14 * MEBI)
        self.assertLess(sent - blob.size, 8 * MEBI)
