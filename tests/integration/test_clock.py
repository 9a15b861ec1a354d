"""
Changes of the machine's time of day while transfers run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from glob import glob
from pathlib import Path
from typing import Any
from unittest import SkipTest

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.integration.programs import Xferd
from tests.integration.test_daemon import API, DaemonCase, reactor
from xferd.testing.images import SampleImage

RATE = 200_000
SIZE = 600_000
LEAST = SIZE / RATE
"""Seconds that the transfer of a layer takes."""


def find_library() -> str:
    """
    The path of libfaketime.

    @raise SkipTest: it is not installed.
    """
    found = glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if found:
        return found[0]
    reason = "libfaketime is not installed; see .ci/run for the packages that the integration tests need"
    if os.environ.get("XFERD_REQUIRE_PEERS") == "1":
        raise AssertionError(reason)
    raise SkipTest(reason)


class ClockTests(DaemonCase):
    """
    A daemon with limited bandwidth, whose wall clock the test sets. Its
    monotonic clock is the machine's.
    """

    async def start(self, *options: str) -> Xferd:
        """
        Start a daemon whose time of day has an offset, which it reads from a
        file.
        """
        self.offset = self.place / "offset"
        self.set_clock(timedelta())
        self.daemon = daemon = Xferd(reactor, str(self.place / "x"), *options)
        daemon.environment |= {
            "LD_PRELOAD": find_library(),
            "FAKETIME_TIMESTAMP_FILE": str(self.offset),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # libfaketime leaves the time stamps of files as they are.
            "NO_FAKE_STAT": "1",
        }
        await daemon.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(daemon.stop()))
        self.api = API(daemon)
        await self.api("PATCH", "limits", {"download_rate": RATE})
        return daemon

    def set_clock(self, offset: timedelta) -> None:
        """
        Set the daemon's time of day.

        @param offset: seconds after the machine's time.
        """
        new = Path(f"{self.offset}.new")
        new.write_text(f"{int(offset.total_seconds()):+d}")
        new.replace(self.offset)

    async def pull_across(self, offset: timedelta) -> tuple[SampleImage, Mapping[str, Any]]:
        """
        Pull an image, and set the time of day while its layer is transferred.
        """
        image, reference = self.add(1, SIZE, compression="tar")
        began = reactor.seconds()
        job_id = await self.api.pull(reference)
        await self.fetched(job_id, SIZE // 4)
        self.set_clock(offset)
        job = await self.state(job_id, "done", "failed")
        took = reactor.seconds() - began
        self.assertEqual((job["state"], job["error"]), ("done", None))
        self.assertGreater(took, LEAST * 0.7)
        finished = datetime.fromisoformat(job["finished"])
        off = finished - datetime.fromisoformat(job["started"]) - offset
        self.assertLess(abs(off.total_seconds() - took), 2)
        return image, job

    async def test_set_back(self) -> None:
        """
        A clock that is set back by an hour stops no transfer.
        """
        image, _ = await self.pull_across(-timedelta(hours=1))
        self.assertEqual(self.registry.count("GET", image.layers[0].blob.digest), 1)

    async def test_set_forward(self) -> None:
        """
        A clock that is set forward by a day breaks no connection, lifts no
        limit, ends no delay, and leaves the next transfer unchanged.
        """
        image, _ = await self.pull_across(timedelta(days=1))
        self.assertEqual(self.registry.count("GET", image.layers[0].blob.digest), 1)
        await deferLater(reactor, 0.1)
        self.assertEqual((await self.api("GET", "status"))["slots"]["download"]["in_use"], 0)
